//! `haclusterd voter` and `haclusterd remove`: who votes, and who is no member any more. On the node that has the
//! cluster's CA key; the daemon there makes the change, one voter at a time.

use super::print;
use super::{PATIENCE, fail, no_daemon, orders};
use crate::io::control;
use clap::Subcommand;
use haclusterd_proto::control::{Cluster, Request, VoterRequest};
use std::path::Path;
use std::time::{Duration, Instant};

/// A change waits for the last one to settle, then for the disks of a majority. With the longest leases it may take
/// longer; it goes on all the same.
const WAIT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show who votes.
    ///
    /// Exit code: 0; 3 no daemon.
    List,
    /// Let a member vote. From then on an operator chooses the voters, until `voter auto`.
    ///
    /// Exit code: 0 it votes; 1 refused, or not done in time, and says why; 3 no daemon.
    Add {
        name: String,
        /// It holds no address any more; `voter add` without this lets it hold them again.
        #[arg(long)]
        witness: bool,
    },
    /// Take a member's vote. It stays a member and may hold addresses.
    ///
    /// Exit code: 0 it votes no more; 1 refused, or not done in time, and says why; 3 no daemon.
    Remove { name: String },
    /// Let the cluster choose its voters by itself again, up to `cluster.voters_max`.
    ///
    /// Exit code: 0; 1 refused, and says why; 3 no daemon.
    Auto,
    /// DANGEROUS: go on after the majority of the voters is lost for good.
    ///
    /// Only the named nodes vote from then on. If one of the others still runs somewhere, a VIP may get a second owner:
    /// power them off first, and keep them off until they are re-installed or can reach this cluster again.
    ///
    /// Exit code: 0 they vote; 1 refused, or not done in time, and says why; 3 no daemon.
    Recover {
        /// A node that runs and is to vote. May be given several times.
        #[arg(long, required = true, value_name = "NAME")]
        keep: Vec<String>,
        /// You have seen with your own eyes that every other voter is off.
        #[arg(long)]
        the_others_are_off: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Remove {
    name: String,
    /// Although it is alive. What it holds is taken over when its lease has ended.
    #[arg(long)]
    force: bool,
}

pub(super) fn run(verb: &Verb, socket: &Path) -> u8 {
    let request = match verb {
        Verb::List => return list(socket),
        Verb::Add { name, witness } => VoterRequest::Add { name: name.clone(), witness: *witness },
        Verb::Remove { name } => VoterRequest::Remove { name: name.clone() },
        Verb::Auto => VoterRequest::Automatic,
        Verb::Recover { keep, the_others_are_off: true } => VoterRequest::Recover { keep: keep.clone() },
        Verb::Recover { keep, .. } => {
            return fail(&format!(
                "nothing was changed. After this only {} vote, and if any other voter still runs, a VIP may get two \
                 owners. Power the others off, look that they are, and say so with --the-others-are-off",
                keep.join(", ")
            ));
        }
    };
    change(socket, request)
}

pub(super) fn remove(args: &Remove, socket: &Path) -> u8 {
    change(socket, VoterRequest::Expel { name: args.name.clone(), force: args.force })
}

fn list(socket: &Path) -> u8 {
    match control::snapshot(socket, PATIENCE) {
        Ok(snapshot) => {
            print::say(&describe(&snapshot.cluster));
            0
        }
        Err(error) => no_daemon(&error),
    }
}

fn describe(cluster: &Cluster) -> String {
    let name = |voter: &String| match cluster.witnesses.contains(voter) {
        true => format!("{voter} (witness)"),
        false => voter.clone(),
    };
    let voters: Vec<String> = cluster.voters.iter().map(name).collect();
    let who = if cluster.voters_chosen { "chosen by an operator" } else { "chosen by the cluster" };
    let mut text = format!(
        "voters {}, {who} (version {}); {} in contact, {} needed\n{}\n",
        voters.join(", "),
        cluster.voters_version,
        cluster.voters_in_contact,
        cluster.quorum,
        cluster.protection
    );
    if let Some(change) = &cluster.voters_change {
        text += &format!("under way: {change}\n");
    }
    text
}

/// Asks, and waits until it is so.
fn change(socket: &Path, request: VoterRequest) -> u8 {
    orders::done(socket, &Request::Voters(request), PATIENCE)
        .map_or_else(|code| code, |text| wait(socket, &text))
}

fn wait(socket: &Path, text: &str) -> u8 {
    let until = Instant::now() + WAIT;
    while Instant::now() < until {
        match control::snapshot(socket, PATIENCE) {
            Ok(snapshot) if snapshot.cluster.voters_change.is_none() => {
                print::say(&format!("{text}\n{}", describe(&snapshot.cluster)));
                return 0;
            }
            Ok(_) => std::thread::sleep(LOOK_AGAIN),
            Err(error) => return no_daemon(&error),
        }
    }
    fail(&format!(
        "not done within {} s, and still under way: {text}. `haclusterd status` shows it",
        WAIT.as_secs()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn witnesses_and_changes_are_shown() {
        let mut cluster = super::super::sample::three_nodes().cluster;
        cluster.witnesses = vec!["lb3".into()];
        cluster.voters_change = Some("lb4 votes".into());
        assert_eq!(
            describe(&cluster),
            "voters lb1, lb2, lb3 (witness), chosen by the cluster (version 3); 3 in contact, 2 needed\n\
             at most one owner, by the lease of a majority\nunder way: lb4 votes\n"
        );
    }
}
