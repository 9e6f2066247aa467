//! `haclusterd explain VIP`: who could own it, and what each one's priority is made of.

use super::human::marked;
use super::print::{self, Output};
use super::table::{self, Cell, Tone};
use super::{PATIENCE, fail, no_daemon};
use crate::io::control;
use haclusterd_proto::Role;
use haclusterd_proto::control::{Health, Member, MemberState, Snapshot, Vip};
use serde::Serialize;
use std::path::Path;

const HEADER: [&str; 5] = ["NODE", "TERM", "VALUE", "STATE", "REASON"];

/// Adds up, for each member, the base priority and what its checks make of it.
///
/// Exit code: 0; 1 there is no such VIP; 3 no daemon answers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// By its name or one of its addresses; may be left out if there is but one.
    vip: Option<String>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub fn run(args: &Args, socket: &Path) -> u8 {
    let snapshot = match control::snapshot(socket, PATIENCE) {
        Ok(snapshot) => snapshot,
        Err(error) => return no_daemon(&error),
    };
    let vip = match find(&snapshot, args.vip.as_deref()) {
        Ok(vip) => vip,
        Err(reason) => return fail(&reason),
    };
    print::say(&match args.output {
        Output::Json => json(vip, &snapshot.members),
        _ => render(vip, &snapshot.members, print::colour()),
    });
    0
}

pub(super) fn find<'a>(snapshot: &'a Snapshot, wanted: Option<&str>) -> Result<&'a Vip, String> {
    let names = || snapshot.vips.iter().map(|vip| vip.name.as_str()).collect::<Vec<_>>().join(", ");
    let Some(wanted) = wanted else {
        return match snapshot.vips.as_slice() {
            [vip] => Ok(vip),
            _ => Err(format!("say which VIP; this node knows: {}", names())),
        };
    };
    let is = |vip: &&Vip| {
        let address = |text: &String| text.split('/').next() == Some(wanted) || text == wanted;
        vip.name == wanted || vip.addresses.iter().any(address)
    };
    let found = snapshot.vips.iter().find(is);
    found.ok_or_else(|| format!("there is no VIP {wanted}; this node knows: {}", names()))
}

/// See `docs/json.md`.
fn json(vip: &Vip, members: &[Member]) -> String {
    #[derive(Serialize)]
    struct Explained<'a> {
        vip: &'a Vip,
        members: Vec<&'a Member>,
    }
    print::json(&Explained { vip, members: members.iter().filter(|member| counts(member)).collect() })
}

/// Could it own anything, were all well?
fn counts(member: &Member) -> bool {
    member.role == Role::Member && matches!(member.state, MemberState::Alive | MemberState::Suspect)
}

fn render(vip: &Vip, members: &[Member], colour: bool) -> String {
    let owner = vip.owner.as_deref().map_or("nobody owns it".into(), |owner| format!("{owner} owns it"));
    let mut text = format!("{}: {owner}: {}\n", vip.name, table::printable(&vip.why));
    if let Some(next) = &vip.next {
        text += &format!("next: {next}{}\n", change(vip, next, members));
    }
    let mut rows = vec![HEADER.iter().map(Cell::from).collect()];
    members.iter().filter(|member| counts(member)).for_each(|member| rows.extend(sum(member)));
    text + &table::render(&rows, colour)
}

/// What would give it to the next one.
fn change(vip: &Vip, next: &str, members: &[Member]) -> String {
    let Some(owner) = vip.owner.as_deref() else { return String::new() };
    let of = |name: &str| members.iter().find(|member| member.name == name);
    let below = match (of(owner).and_then(|m| m.priority), of(next).and_then(|m| m.priority)) {
        _ if vip.moved_to.is_some() => String::new(),
        (Some(mine), Some(theirs)) if mine >= theirs => format!(", or its priority falls below {theirs}"),
        _ => String::new(),
    };
    format!(", when {owner} fails or stands by{below}")
}

fn sum(member: &Member) -> Vec<Vec<Cell>> {
    let base = member.base_priority;
    let mut rows = vec![row(&marked(&member.name, member.me), "base priority", &base.to_string(), None, "")];
    for check in &member.checks {
        let value = check.adds.map_or("out".to_owned(), |adds| format!("{adds:+}"));
        rows.push(row("", &check.name, &value, Some(check.health), &check.reason));
    }
    let total = member.priority.map_or("out".to_owned(), |priority| priority.to_string());
    rows.push(row("", "= priority", &total, None, &remark(member)));
    rows
}

/// What the sum does not say.
fn remark(member: &Member) -> String {
    let sum = member
        .checks
        .iter()
        .try_fold(i32::from(member.base_priority), |sum, check| Some(sum + i32::from(check.adds?)));
    let clamped = sum.is_some_and(|sum| sum != sum.clamp(1, 254));
    let failed =
        member.priority.is_some() && member.checks.iter().any(|check| check.health == Health::Failed);
    let mut remarks = Vec::new();
    if member.priority.is_none() && sum.is_some() {
        remarks.push(member.reason.as_str());
    }
    if clamped {
        remarks.push("cut to 1 to 254");
    }
    if failed {
        remarks.push("with a failed check it comes after every healthy member (strict_health)");
    }
    if member.held_down_ms.is_some() {
        remarks.push("held down: it comes after the others for a while");
    }
    remarks.join("; ")
}

fn row(node: &str, term: &str, value: &str, health: Option<Health>, reason: &str) -> Vec<Cell> {
    let state = match health {
        Some(Health::Failed) => Cell::new("failed", Tone::Bad),
        Some(Health::Ok) => Cell::new("ok", Tone::Good),
        Some(health) => Cell::new(health.as_str(), Tone::Warn),
        None => Cell::blank(),
    };
    let cell = |text: &str| if text.is_empty() { Cell::blank() } else { text.into() };
    vec![cell(node), term.into(), value.into(), state, cell(reason)]
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use haclusterd_proto::member::CheckState;

    fn state(name: &str, health: Health, adds: Option<i16>, reason: &str) -> CheckState {
        CheckState { name: name.into(), health, adds, reason: reason.into() }
    }

    #[test]
    fn each_term_is_shown_and_what_the_sum_does_not_say() {
        let mut snapshot = sample::three_nodes();
        let [lb1, lb2, lb3] = snapshot.members.as_mut_slice() else { panic!() };
        lb1.checks = vec![
            state("nginx", Health::Saturated, Some(0), "nginx: 512 worker_connections are not enough"),
            state("gateway", Health::Failed, Some(-20), "gateway: no answer within 1s"),
        ];
        lb1.priority = Some(130);
        lb2.checks = vec![state("nginx", Health::Failed, None, "nginx: process 7 has exited")];
        lb2.priority = None;
        lb3.checks = vec![state("bonus", Health::Ok, Some(200), "")];
        lb3.priority = Some(254);
        let text = render(&snapshot.vips[0], &snapshot.members, false);
        assert_eq!(
            text,
            "\
web: lb1 owns it: priority 150 > 100
next: lb2, when lb1 fails or stands by
NODE   TERM           VALUE  STATE      REASON
lb1 *  base priority  150
       nginx          +0     saturated  nginx: 512 worker_connections are not enough
       gateway        -20    failed     gateway: no answer within 1s
       = priority     130               with a failed check it comes after every healthy member (strict_health)
lb2    base priority  100
       nginx          out    failed     nginx: process 7 has exited
       = priority     out
lb3    base priority  100
       bonus          +200   ok
       = priority     254               cut to 1 to 254
"
        );
    }

    #[test]
    fn what_would_change_the_owner_is_said() {
        let mut snapshot = sample::three_nodes();
        let first_lines = |snapshot: &Snapshot| {
            let text = render(&snapshot.vips[0], &snapshot.members, false);
            text.lines().nth(1).unwrap_or_default().to_owned()
        };
        let by_priority = "next: lb2, when lb1 fails or stands by, or its priority falls below 100";
        assert_eq!(first_lines(&snapshot), by_priority);
        snapshot.vips[0].moved_to = Some("lb1".into());
        assert_eq!(first_lines(&snapshot), "next: lb2, when lb1 fails or stands by");
    }

    #[test]
    fn a_vip_is_found_by_its_name_and_by_its_addresses() {
        let snapshot = sample::three_nodes();
        for name in [Some("web"), Some("10.0.0.100"), Some("fd00::100/64"), None] {
            assert_eq!(find(&snapshot, name).unwrap().name, "web");
        }
        assert_eq!(find(&snapshot, Some("x")).unwrap_err(), "there is no VIP x; this node knows: web");
    }
}
