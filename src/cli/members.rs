//! `haclusterd members`: every member this node knows, failed ones included, a line each.

use super::PATIENCE;
use super::human::{self, marked, short};
use super::print::{self, Output};
use super::table::{self, Cell, Tone};
use crate::io::control::{self, ControlError};
use haclusterd_proto::Role;
use haclusterd_proto::control::{Health, Member, MemberState, Snapshot};
use serde::Serialize;
use std::num::NonZeroU32;
use std::path::Path;

const HEADER: [&str; 10] =
    ["NODE", "ADDRESS", "STATE", "NGINX", "PRIO", "VIPS", "SEEN", "RTT", "CERT", "VERSION"];
const WIDE_HEADER: [&str; 6] = ["ID", "ROLE", "VOTER", "INCARNATION", "CONFIG", "REASON"];

pub const OK: u8 = 0;
pub const UNREACHABLE: u8 = 1;
pub const NO_MATCH: u8 = 2;

/// Lists the members, and how each is.
///
/// Exit code: 0; 1 the daemon cannot be reached; 2 no member is in the state asked for.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Show it again every so many seconds, until interrupted.
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1")]
    watch: Option<NonZeroU32>,
    /// Only members in this state: alive, suspect, failed, left or joining.
    #[arg(long)]
    state: Option<MemberState>,
}

pub fn run(args: &Args, socket: &Path) -> u8 {
    if let Some(pause) = args.watch {
        print::watch(super::seconds(pause), || match look(args, socket) {
            Ok(snapshot) => show(&snapshot, args.output),
            Err(error) => format!("{error}\n"),
        });
    }
    let snapshot = match look(args, socket) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            print::complain(&error.to_string());
            return UNREACHABLE;
        }
    };
    print::say(&show(&snapshot, args.output));
    if snapshot.members.is_empty() {
        print::complain("no such member");
    }
    exit_code(&snapshot)
}

fn look(args: &Args, socket: &Path) -> Result<Snapshot, ControlError> {
    let mut snapshot = control::snapshot(socket, PATIENCE)?;
    snapshot.members.retain(|member| args.state.is_none_or(|state| member.state == state));
    Ok(snapshot)
}

fn show(snapshot: &Snapshot, output: Output) -> String {
    match output {
        Output::Json => json(snapshot),
        output => render(snapshot, output == Output::Wide, print::colour()),
    }
}

pub fn exit_code(snapshot: &Snapshot) -> u8 {
    if snapshot.members.is_empty() { NO_MATCH } else { OK }
}

/// See `docs/json.md`.
pub fn json(snapshot: &Snapshot) -> String {
    #[derive(Serialize)]
    struct Members<'a> {
        schema: u32,
        version: &'a str,
        node: &'a str,
        members: &'a [Member],
    }
    let Snapshot { schema, version, node, members, .. } = snapshot;
    print::json(&Members { schema: *schema, version, node, members })
}

pub fn render(snapshot: &Snapshot, wide: bool, colour: bool) -> String {
    let more = if wide { WIDE_HEADER.as_slice() } else { &[] };
    let mut rows = vec![HEADER.iter().chain(more).map(Cell::from).collect()];
    rows.extend(snapshot.members.iter().map(|member| row(member, wide)));
    table::render(&rows, colour)
}

fn row(member: &Member, wide: bool) -> Vec<Cell> {
    let mut row = vec![
        marked(&member.name, member.me).into(),
        member.address.to_string().into(),
        match member.standby && present(member) {
            true => Cell::new("standby", Tone::Warn),
            false => Cell::new(member.state.as_str(), state_tone(member.state)),
        },
        nginx(member),
        priority(member).into(),
        member.vips.len().to_string().into(),
        member.seen_ms.filter(|_| !member.me).map(human::duration).unwrap_or_default().into(),
        member
            .rtt_us
            .filter(|_| present(member) && !member.me)
            .map(human::round_trip)
            .unwrap_or_default()
            .into(),
        certificate(member),
        (&member.version).into(),
    ];
    if wide {
        row.extend([
            short(&member.id).into(),
            member.role.as_str().into(),
            if member.voter { "yes" } else { "no" }.into(),
            short(&member.incarnation).into(),
            if member.config_differs { Cell::new("differs", Tone::Warn) } else { "same".into() },
            (&member.reason).into(),
        ]);
    }
    row
}

/// What a member said of its nginx and its priority is true only as long as it is there.
fn present(member: &Member) -> bool {
    matches!(member.state, MemberState::Alive | MemberState::Suspect)
}

fn state_tone(state: MemberState) -> Tone {
    match state {
        MemberState::Alive => Tone::Good,
        MemberState::Suspect | MemberState::Joining => Tone::Warn,
        MemberState::Failed => Tone::Bad,
        MemberState::Left => Tone::Plain,
    }
}

fn nginx(member: &Member) -> Cell {
    let (word, tone) = match member.health {
        _ if member.role == Role::Witness => ("witness", Tone::Plain),
        _ if !present(member) => ("-", Tone::Plain),
        Health::Ok => ("ok", Tone::Good),
        Health::Warn => ("warn", Tone::Warn),
        Health::Failed => ("failed", Tone::Bad),
        Health::Unknown => ("unknown", Tone::Warn),
        Health::Unchecked => ("-", Tone::Plain),
        Health::Saturated => ("saturated", Tone::Warn),
    };
    Cell::new(word, tone)
}

/// `100`; `90/100` where a check lowers it (or raises it); `out/100` where the member is no candidate now.
fn priority(member: &Member) -> String {
    let base = member.base_priority;
    match member.priority {
        _ if member.role == Role::Witness => "-".into(),
        None if present(member) => format!("out/{base}"),
        Some(now) if present(member) && now != base => format!("{now}/{base}"),
        _ => base.to_string(),
    }
}

fn certificate(member: &Member) -> Cell {
    let tone = if member.certificate_s <= 0 { Tone::Bad } else { Tone::Plain };
    Cell::new(human::certificate(member.certificate_s), tone)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn three_healthy_nodes() {
        let snapshot = sample::three_nodes();
        assert_eq!(
            render(&snapshot, false, false),
            "\
NODE   ADDRESS         STATE  NGINX  PRIO  VIPS  SEEN  RTT    CERT  VERSION
lb1 *  10.0.0.11:7946  alive  ok     150   1     -     -      24d   0.1.0
lb2    10.0.0.12:7946  alive  ok     100   0     0.1s  0.4ms  29d   0.1.0
lb3    10.0.0.13:7946  alive  ok     100   0     0.1s  0.4ms  29d   0.1.0
"
        );
        assert_eq!(exit_code(&snapshot), OK);
    }

    #[test]
    fn one_failed_node_stays_listed() {
        assert_eq!(
            render(&sample::lb3_failed(), false, false),
            "\
NODE   ADDRESS         STATE   NGINX  PRIO  VIPS  SEEN  RTT    CERT  VERSION
lb1 *  10.0.0.11:7946  alive   ok     150   1     -     -      24d   0.1.0
lb2    10.0.0.12:7946  alive   ok     100   0     0.1s  0.4ms  29d   0.1.0
lb3    10.0.0.13:7946  failed  -      100   0     41s   -      29d   0.1.0
"
        );
    }

    #[test]
    fn wide_tells_each_kind_of_member_apart_and_keeps_a_reason_on_its_line() {
        assert_eq!(render(&sample::all_sorts(), true, false), "\
NODE   ADDRESS         STATE    NGINX    PRIO     VIPS  SEEN  RTT    CERT     VERSION  ID        ROLE     VOTER  INCARNATION  CONFIG   REASON
lb1 *  10.0.0.11:7946  alive    ok       100      1     -     -      29d      0.1.0    01010101  member   yes    a1a1a1a1     same     -
lb2    10.0.0.12:7946  alive    failed   90/100   0     0.1s  0.4ms  29d      0.1.0    02020202  member   yes    a2a2a2a2     same     slow: no answer within 1s
lb3    10.0.0.13:7946  alive    failed   out/100  0     0.1s  0.4ms  29d      0.1.0    03030303  member   yes    a3a3a3a3     same     no answer within 1s
lb4    10.0.0.14:7946  alive    unknown  100      0     0.1s  0.4ms  29d      0.1.0    04040404  member   no     a4a4a4a4     differs  -
lb5    10.0.0.15:7946  suspect  -        100      0     0.1s  0.4ms  29d      0.1.0    05050505  member   no     a5a5a5a5     same     -
wit1   10.0.0.16:7946  alive    witness  -        0     0.1s  0.4ms  29d      0.1.0    06060606  witness  no     a6a6a6a6     same     -
lb7    10.0.0.17:7946  left     -        100      0     0.1s  -      expired  0.1.0    07070707  member   no     a7a7a7a7     same     -
lb8    10.0.0.18:7946  joining  -        100      0     -     -      29d      -        08080808  member   no     a8a8a8a8     same     -
");
    }

    #[test]
    fn very_long_names_widen_their_column() {
        let mut snapshot = sample::two_nodes();
        snapshot.members[1].name = "n".repeat(63);
        assert_eq!(render(&snapshot, false, false), "\
NODE                                                             ADDRESS         STATE  NGINX  PRIO  VIPS  SEEN  RTT    CERT  VERSION
lb1 *                                                            10.0.0.11:7946  alive  ok     150   1     -     -      24d   0.1.0
nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn  10.0.0.12:7946  alive  ok     100   0     0.1s  0.4ms  29d   0.1.0
");
    }

    #[test]
    fn states_and_health_have_colours_on_request() {
        let lines = render(&sample::lb3_failed(), false, true);
        assert!(lines.contains("\x1b[31mfailed\x1b[0m  -"), "{lines}");
        assert!(lines.contains("\x1b[32malive\x1b[0m   \x1b[32mok\x1b[0m"), "{lines}");
    }

    #[test]
    fn nobody_matches() {
        let mut snapshot = sample::three_nodes();
        snapshot.members.clear();
        assert_eq!(render(&snapshot, false, false).lines().count(), 1);
        assert_eq!(exit_code(&snapshot), NO_MATCH);
    }
}
