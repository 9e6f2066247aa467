//! What an operator tells a node to do: stand by, move a VIP, read its configuration again.

use super::{PATIENCE, explain, fail, no_daemon, print};
use crate::io::control;
use haclusterd_proto::control::{Order, Request, Response, Snapshot};
use std::path::Path;
use std::time::{Duration, Instant};

/// A handover takes milliseconds; what has not come by now does not.
const WAIT: Duration = Duration::from_secs(30);
const SAY_AGAIN: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Instead of a node: none in particular.
const AUTO: &str = "auto";

/// Hand every VIP of this node over, and take none until `unstandby`, also after a restart. It still votes.
///
/// Exit code: 0; 1 refused, or not done in time, and says why; 3 no daemon.
#[derive(Debug, clap::Args)]
pub(super) struct Standby {
    /// Return when the others have taken all that this node had.
    #[arg(long)]
    wait: bool,
    /// Although nobody else could take a VIP that this node has: it is down then.
    #[arg(long)]
    force: bool,
}

/// Move a VIP to a node, whatever the priorities say. Not to one that could not serve it; and if it fails later, others
/// take over.
///
/// Exit code: 0 it is there; 1 refused, or not done in time, and says why; 3 no daemon.
#[derive(Debug, clap::Args)]
pub(super) struct Move {
    /// By its name or one of its addresses.
    vip: String,
    /// A member's name, or `auto`: by priorities again.
    node: String,
    /// Then the priorities count again, for example 1h. Without it: when that node's daemon ends, or with another move.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    lasts: Option<Duration>,
}

pub(super) fn standby(args: &Standby, socket: &Path) -> u8 {
    let request = Request::Order(Order::Standby { on: true, force: args.force });
    let text = match done(socket, &request, PATIENCE) {
        Ok(text) => text,
        Err(code) => return code,
    };
    let is_empty = |snapshot: &Snapshot| {
        let me = snapshot.members.iter().find(|member| member.me);
        me.is_some_and(|me| me.vips.is_empty())
            && snapshot.vips.iter().all(|vip| !vip.mine && (args.force || vip.owner.is_some()))
    };
    if args.wait { until(socket, &text, is_empty, || ()) } else { said(&text) }
}

pub(super) fn unstandby(socket: &Path) -> u8 {
    done(socket, &Request::Order(Order::Standby { on: false, force: false }), PATIENCE)
        .map_or_else(|code| code, |text| said(&text))
}

pub(super) fn reload(socket: &Path) -> u8 {
    done(socket, &Request::Reload, PATIENCE).map_or_else(|code| code, |text| said(&text))
}

pub(super) fn move_vip(args: &Move, socket: &Path) -> u8 {
    let snapshot = match control::snapshot(socket, PATIENCE) {
        Ok(snapshot) => snapshot,
        Err(error) => return no_daemon(&error),
    };
    let vip = match explain::find(&snapshot, Some(&args.vip)) {
        Ok(vip) => vip.name.clone(),
        Err(reason) => return fail(&reason),
    };
    let to = (args.node != AUTO).then(|| args.node.clone());
    let for_s = args.lasts.map(|span| u32::try_from(span.as_secs()).unwrap_or(u32::MAX).max(1));
    let request = Request::Order(Order::Move { vip: vip.clone(), to: to.clone(), for_s });
    let is_there = |snapshot: &Snapshot| snapshot.vips.iter().any(|one| one.name == vip && one.owner == to);
    match done(socket, &request, PATIENCE) {
        Err(code) => code,
        Ok(text) if to.is_none() => said(&text),
        // Where packets are lost, the word may be.
        Ok(text) => until(socket, &text, is_there, || drop(control::ask(socket, &request, PATIENCE))),
    }
}

/// What was done; else the exit code.
pub(super) fn done(socket: &Path, request: &Request, patience: Duration) -> Result<String, u8> {
    match control::ask(socket, request, patience) {
        Ok(Response::Done(text)) => Ok(text),
        Ok(Response::Error(reason)) => Err(fail(&reason)),
        Ok(_) => Err(fail(&"the daemon is of another version: restart it after an update")),
        Err(error) => Err(no_daemon(&error)),
    }
}

pub(super) fn said(text: &str) -> u8 {
    print::say(&format!("{text}\n"));
    0
}

/// `again`: what is said once a second while it is not so.
fn until(socket: &Path, text: &str, is_so: impl Fn(&Snapshot) -> bool, again: impl Fn()) -> u8 {
    let limit = Instant::now() + WAIT;
    let mut said_at = Instant::now();
    loop {
        if said_at.elapsed() >= SAY_AGAIN {
            said_at = Instant::now();
            again();
        }
        match control::snapshot(socket, PATIENCE) {
            Ok(snapshot) if is_so(&snapshot) => return said(text),
            Ok(_) if Instant::now() < limit => std::thread::sleep(LOOK_AGAIN),
            Ok(_) => {
                let why =
                    format!("{text}; but not within {} s. `haclusterd status` shows what is", WAIT.as_secs());
                return fail(&why);
            }
            Err(error) => return no_daemon(&error),
        }
    }
}
