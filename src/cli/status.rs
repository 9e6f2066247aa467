//! `haclusterd status`: who holds each VIP and why, and what an operator should mend. The exit code says it in one
//! number, for monitoring.

use super::human::{self, marked, short};
use super::print::{self, Output};
use super::table::{self, Cell, Tone, paint, printable};
use super::{PATIENCE, no_daemon};
use crate::io::control;
use haclusterd_proto::control::{Cluster, Event, Health, MemberState, Mode, Snapshot, Vip, VipState};
use serde::Serialize;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;

const HEADER: [&str; 8] = ["VIP", "OWNER", "STATE", "ADDRESSES", "IF", "SINCE", "LEASE", "NEXT"];
const WIDE_HEADER: [&str; 2] = ["TERM", "ID"];
/// The last of them tell what happened; `-o wide` and `-o json` give all that the daemon keeps.
const EVENTS: usize = 5;

pub const OK: u8 = 0;
pub const DEGRADED: u8 = 1;
pub const UNOWNED: u8 = 2;
pub const NO_DAEMON: u8 = 3;

/// Shows who owns each VIP, and whether the cluster is well.
///
/// Exit code: 0 every VIP has one owner and all is well; 1 degraded: a member or a voter is missing, an nginx is not
/// well, or there is a warning; 2 a VIP is unowned, moving or in conflict; 3 no daemon answers.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Show it again every so many seconds, until interrupted.
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1")]
    watch: Option<NonZeroU32>,
}

pub fn run(args: &Args, socket: &Path) -> u8 {
    if let Some(pause) = args.watch {
        print::watch(super::seconds(pause), || match control::snapshot(socket, PATIENCE) {
            Ok(snapshot) => show(&snapshot, args.output),
            Err(error) => format!("{error}\n"),
        });
    }
    let snapshot = match control::snapshot(socket, PATIENCE) {
        Ok(snapshot) => snapshot,
        Err(error) => return no_daemon(&error),
    };
    print::say(&show(&snapshot, args.output));
    exit_code(&snapshot)
}

fn show(snapshot: &Snapshot, output: Output) -> String {
    match output {
        Output::Json => json(snapshot),
        output => render(snapshot, output == Output::Wide, print::colour()),
    }
}

pub fn exit_code(snapshot: &Snapshot) -> u8 {
    if snapshot.vips.iter().any(|vip| vip.state != VipState::Active) {
        UNOWNED
    } else if degraded(snapshot) {
        DEGRADED
    } else {
        OK
    }
}

/// The VIPs are owned now, and the next failure may find nobody to take over.
fn degraded(snapshot: &Snapshot) -> bool {
    let cluster = &snapshot.cluster;
    let missing = |state| matches!(state, MemberState::Suspect | MemberState::Failed);
    let ill = |health| matches!(health, Health::Warn | Health::Failed | Health::Saturated);
    cluster.mode == Mode::Joining
        || cluster.voters_in_contact < cluster.voters.len()
        || snapshot.members.iter().any(|member| missing(member.state))
        || snapshot.members.iter().any(|member| member.state == MemberState::Alive && ill(member.health))
        || !snapshot.warnings.is_empty()
}

/// See `docs/json.md`.
pub fn json(snapshot: &Snapshot) -> String {
    #[derive(Serialize)]
    struct Status<'a> {
        schema: u32,
        version: &'a str,
        node: &'a str,
        cluster: &'a Cluster,
        vips: &'a [Vip],
        warnings: &'a [String],
        events: &'a [Event],
        counters: &'a BTreeMap<String, u64>,
    }
    let Snapshot { schema, version, node, cluster, vips, warnings, events, counters, .. } = snapshot;
    print::json(&Status { schema: *schema, version, node, cluster, vips, warnings, events, counters })
}

pub fn render(snapshot: &Snapshot, wide: bool, colour: bool) -> String {
    let mut out = summary(snapshot, wide, colour) + &vips(snapshot, wide, colour);
    for warning in &snapshot.warnings {
        out += &format!("{} {}\n", paint("warning:", Tone::Warn, colour), printable(warning));
    }
    let shown = if wide { snapshot.events.len() } else { EVENTS };
    let events = snapshot.events.iter().take(shown);
    let events: Vec<_> = events
        .map(|event| vec![format!("  {}", human::duration(event.age_ms)).into(), (&event.text).into()])
        .collect();
    if !events.is_empty() {
        out += "events:\n";
        out += &table::render(&events, colour);
    }
    out
}

fn summary(snapshot: &Snapshot, wide: bool, colour: bool) -> String {
    let cluster = &snapshot.cluster;
    let total = snapshot.members.iter().filter(|member| member.state != MemberState::Left).count();
    let alive = cluster.members_alive;
    let members = format!("members {alive}/{total} alive");
    let members = paint(&members, if alive < total { Tone::Warn } else { Tone::Plain }, colour);
    let id = if wide { cluster.id.clone() } else { short(&cluster.id) };
    let protection = printable(&cluster.protection);
    format!("cluster {id}  {members}  {}  mode {}: {protection}\n", voters(cluster, colour), cluster.mode)
}

fn voters(cluster: &Cluster, colour: bool) -> String {
    let (contact, voters, need) = (cluster.voters_in_contact, cluster.voters.len(), cluster.quorum);
    if cluster.mode == Mode::Joining {
        return "voters not known yet".into();
    }
    let tone = match () {
        () if contact < need => Tone::Bad,
        () if contact < voters => Tone::Warn,
        () => Tone::Plain,
    };
    paint(&format!("voters {contact}/{voters} in contact (need {need})"), tone, colour)
}

fn vips(snapshot: &Snapshot, wide: bool, colour: bool) -> String {
    if snapshot.vips.is_empty() {
        return "no VIP is configured on this node\n".into();
    }
    let more = if wide { WIDE_HEADER.as_slice() } else { &[] };
    let mut rows = vec![HEADER.iter().chain(more).chain(&["WHY"]).map(Cell::from).collect()];
    rows.extend(snapshot.vips.iter().map(|vip| row(vip, wide)));
    table::render(&rows, colour)
}

fn row(vip: &Vip, wide: bool) -> Vec<Cell> {
    let tone = match vip.state {
        VipState::Active => Tone::Good,
        VipState::Moving => Tone::Warn,
        VipState::Unowned | VipState::Conflict => Tone::Bad,
    };
    let time = |ms: Option<u64>| Cell::from(ms.map(human::duration).unwrap_or_default());
    let mut row = vec![
        if vip.name.is_empty() { addresses(vip, false) } else { vip.name.clone() }.into(),
        vip.owner.as_deref().map(|owner| marked(owner, vip.mine)).unwrap_or_default().into(),
        Cell::new(vip.state.as_str(), tone),
        addresses(vip, wide).into(),
        (&vip.interface).into(),
        time(vip.since_ms),
        time(vip.lease_ms),
        vip.next.clone().unwrap_or_default().into(),
    ];
    if wide {
        row.extend([vip.term.to_string().into(), (&vip.id).into()]);
    }
    row.push((&vip.why).into());
    row
}

/// The first and how many more, or all.
fn addresses(vip: &Vip, all: bool) -> String {
    match vip.addresses.as_slice() {
        [first, rest @ ..] if !all && !rest.is_empty() => format!("{first} +{}", rest.len()),
        addresses => addresses.join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn three_healthy_nodes() {
        let snapshot = sample::three_nodes();
        assert_eq!(render(&snapshot, false, false), "\
cluster 3f9a01bc  members 3/3 alive  voters 3/3 in contact (need 2)  mode quorum: at most one owner, by the lease of a majority
VIP  OWNER  STATE   ADDRESSES         IF    SINCE  LEASE  NEXT  WHY
web  lb1 *  active  10.0.0.100/24 +1  eth0  4d2h   0.4s   lb2   priority 150 > 100
");
        assert_eq!(exit_code(&snapshot), OK);
    }

    #[test]
    fn one_failed_node_is_degraded() {
        let snapshot = sample::lb3_failed();
        assert_eq!(render(&snapshot, false, false), "\
cluster 3f9a01bc  members 2/3 alive  voters 2/3 in contact (need 2)  mode quorum: at most one owner, by the lease of a majority
VIP  OWNER  STATE   ADDRESSES         IF    SINCE  LEASE  NEXT  WHY
web  lb1 *  active  10.0.0.100/24 +1  eth0  4d2h   0.4s   lb2   priority 150 > 100
events:
  41s  lb3 failed
  1d   lb1 took web: priority 150 > 100
");
        assert_eq!(exit_code(&snapshot), DEGRADED);
    }

    #[test]
    fn two_nodes_are_well_and_say_what_protects_them() {
        let snapshot = sample::two_nodes();
        assert_eq!(render(&snapshot, false, false), "\
cluster 3f9a01bc  members 2/2 alive  voters 2/2 in contact (need 2)  mode two-node: best effort, guarded by ARP
VIP  OWNER  STATE   ADDRESSES         IF    SINCE  LEASE  NEXT  WHY
web  lb1 *  active  10.0.0.100/24 +1  eth0  4d2h   -      lb2   priority 150 > 100
");
        assert_eq!(exit_code(&snapshot), OK);
    }

    #[test]
    fn a_conflict_names_the_stranger() {
        let snapshot = sample::conflict();
        assert_eq!(render(&snapshot, false, false), "\
cluster 3f9a01bc  members 3/3 alive  voters 3/3 in contact (need 2)  mode quorum: at most one owner, by the lease of a majority
VIP               OWNER  STATE     ADDRESSES         IF    SINCE  LEASE  NEXT  WHY
10.0.0.100/24 +1  -      conflict  10.0.0.100/24 +1  eth0  -      -      -     02:00:00:00:00:99 answers for 10.0.0.100
warning: 10.0.0.100 is in use by 02:00:00:00:00:99, no member: free it there
");
        assert_eq!(exit_code(&snapshot), UNOWNED);
    }

    #[test]
    fn no_vip_and_no_voters_yet() {
        let mut snapshot = sample::three_nodes();
        snapshot.vips.clear();
        assert_eq!(exit_code(&snapshot), OK);
        (snapshot.cluster.mode, snapshot.cluster.protection) = (Mode::Joining, "none yet".into());
        assert_eq!(
            render(&snapshot, false, false),
            "\
cluster 3f9a01bc  members 3/3 alive  voters not known yet  mode joining: none yet
no VIP is configured on this node
"
        );
        assert_eq!(exit_code(&snapshot), DEGRADED);
    }

    #[test]
    fn wide_shows_every_address_and_event() {
        let mut snapshot = sample::three_nodes();
        snapshot.events = (1..8).map(|age| sample::event(age * 5000, "something happened")).collect();
        assert_eq!(render(&snapshot, true, false), "\
cluster 3f9a01bc5d6e7f8091a2b3c4d5e6f708  members 3/3 alive  voters 3/3 in contact (need 2)  mode quorum: at most one owner, by the lease of a majority
VIP  OWNER  STATE   ADDRESSES                   IF    SINCE  LEASE  NEXT  TERM  ID                WHY
web  lb1 *  active  10.0.0.100/24,fd00::100/64  eth0  4d2h   0.4s   lb2   7     00c0ffee00c0ffee  priority 150 > 100
events:
  5.0s  something happened
  10s   something happened
  15s   something happened
  20s   something happened
  25s   something happened
  30s   something happened
  35s   something happened
");
        assert_eq!(render(&snapshot, false, false).matches("happened").count(), EVENTS);
    }

    #[test]
    fn very_long_names_widen_their_column() {
        let mut snapshot = sample::conflict();
        snapshot.warnings.clear();
        snapshot.vips[0].name = "v".repeat(70);
        assert_eq!(render(&snapshot, false, false), "\
cluster 3f9a01bc  members 3/3 alive  voters 3/3 in contact (need 2)  mode quorum: at most one owner, by the lease of a majority
VIP                                                                     OWNER  STATE     ADDRESSES         IF    SINCE  LEASE  NEXT  WHY
vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv  -      conflict  10.0.0.100/24 +1  eth0  -      -      -     02:00:00:00:00:99 answers for 10.0.0.100
");
    }

    #[test]
    fn colours_come_on_request() {
        let lines = render(&sample::conflict(), false, true);
        assert!(
            lines.contains("\x1b[31mconflict\x1b[0m") && lines.contains("\x1b[33mwarning:\x1b[0m"),
            "{lines}"
        );
    }

    #[test]
    fn each_thing_that_is_not_well_degrades() {
        let cases: [fn(&mut Snapshot); 5] = [
            |snapshot| snapshot.members[1].state = MemberState::Suspect,
            |snapshot| snapshot.members[1].health = Health::Failed,
            |snapshot| snapshot.members[1].health = Health::Warn,
            |snapshot| snapshot.cluster.voters_in_contact = 2,
            |snapshot| snapshot.warnings.push("mend this".into()),
        ];
        for (number, spoil) in cases.into_iter().enumerate() {
            let mut snapshot = sample::three_nodes();
            spoil(&mut snapshot);
            assert_eq!(exit_code(&snapshot), DEGRADED, "case {number}");
            snapshot.vips[0].state = VipState::Moving;
            assert_eq!(exit_code(&snapshot), UNOWNED, "case {number}");
        }
        let mut snapshot = sample::three_nodes();
        snapshot.members[2].state = MemberState::Left;
        assert_eq!(exit_code(&snapshot), OK);
    }
}
