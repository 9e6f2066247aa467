//! The whole program on hosts of its own: real nginx, real kernel addresses, a real client. Needs root, iproute2,
//! nftables and nginx.
//!
//! Each case says who may hold the address at every moment. Where the daemon is killed or stopped, the kernel removes
//! its address when its lifetime ends, which is counted in whole seconds: until then two hosts may have it.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod client;
mod lab;
mod net;
mod node;
mod watch;

use client::Report;
use lab::{Lab, VIP};
use net::STRANGER;
use rustix::process::Signal;
use std::time::Duration;
use watch::Holding;

const THREE: &[&str] = &["member", "member", "member"];
const TWO: &[&str] = &["member", "member"];
const ONE_VIP: &[&str] = &["10.0.0.100/24"];
/// What a lifetime in whole seconds may add to a lease of 500 ms.
const KERNEL_LATE: Duration = Duration::from_millis(2200);
/// No figure, only a sign that something is wrong.
const SANE: Duration = Duration::from_secs(3);

fn moved(seen: &(Report, Holding), to: usize) {
    let (report, holding) = seen;
    assert_eq!(holding.holders, [to], "{holding:?}");
    assert!(report.gap < SANE, "{report:?}");
    assert_eq!(report.answered.last(), Some(&format!("lb{to}")), "{report:?}");
}

fn never_two(seen: &(Report, Holding)) {
    assert_eq!(seen.1.overlap, Duration::ZERO, "{:?}", seen.1);
}

#[test]
fn nginx_killed_moves_the_vip_at_once() {
    let mut lab = Lab::form(THREE, ONE_VIP);
    let seen = lab.observe("nginx killed", Duration::from_secs(2), |lab| lab.node(1).kill_nginx());
    moved(&seen, 2);
    never_two(&seen);
    lab.node(1).start_nginx();
    lab.until_owned_by(1);
}

#[test]
fn a_killed_daemon_is_replaced_and_may_come_back() {
    let mut lab = Lab::form(THREE, ONE_VIP);
    let seen = lab.observe("daemon killed", Duration::from_secs(3), |lab| lab.node(1).kill());
    moved(&seen, 2);
    assert!(seen.1.overlap < KERNEL_LATE, "{:?}", seen.1);
    let seen = lab.observe("daemon started again", Duration::from_secs(4), |lab| lab.node(1).start());
    moved(&seen, 1);
    never_two(&seen);
}

#[test]
fn a_stopped_daemon_is_replaced_and_lets_go_when_it_goes_on() {
    let mut lab = Lab::form(THREE, ONE_VIP);
    let seen = lab
        .observe("daemon stopped (SIGSTOP)", Duration::from_secs(3), |lab| lab.node(1).signal(Signal::STOP));
    moved(&seen, 2);
    assert!(seen.1.overlap < KERNEL_LATE, "{:?}", seen.1);
    let seen = lab
        .observe("daemon goes on (SIGCONT)", Duration::from_secs(3), |lab| lab.node(1).signal(Signal::CONT));
    moved(&seen, 1);
    never_two(&seen);
}

#[test]
fn a_host_that_is_cut_off_lets_go_before_another_takes_over() {
    let mut lab = Lab::form(THREE, ONE_VIP);
    let seen = lab.observe("host silently cut off", Duration::from_secs(3), |lab| lab.net.cut(1));
    moved(&seen, 2);
    never_two(&seen);
    let seen = lab.observe("host back on the network", Duration::from_secs(4), |lab| lab.net.mend());
    moved(&seen, 1);
    never_two(&seen);
}

#[test]
fn a_link_that_goes_down_moves_the_vip() {
    let mut lab = Lab::form(THREE, ONE_VIP);
    let seen = lab.observe("link down", Duration::from_secs(3), |lab| lab.net.set_carrier(1, false));
    moved(&seen, 2);
    never_two(&seen);
    lab.net.set_carrier(1, true);
    lab.until_owned_by(1);
}

#[test]
fn a_planned_stop_hands_over() {
    let mut lab = Lab::form(THREE, ONE_VIP);
    let seen = lab.observe("planned stop (SIGTERM)", Duration::from_secs(2), |lab| {
        lab.node(1).signal(Signal::TERM);
        lab.node(1).reap();
    });
    moved(&seen, 2);
    never_two(&seen);
    assert!(seen.0.failed <= 1, "{:?}", seen.0);
    let seen = lab.observe("started again", Duration::from_secs(4), |lab| lab.node(1).start());
    moved(&seen, 1);
    never_two(&seen);
}

#[test]
fn an_address_removed_by_hand_comes_back() {
    let mut lab = Lab::form(THREE, ONE_VIP);
    let seen = lab.observe("address deleted by hand", Duration::from_secs(2), |lab| {
        lab.net.ip(1, &format!("address del {VIP}/24 dev eth0"));
    });
    moved(&seen, 1);
    never_two(&seen);
    assert_eq!(seen.1.order, [1]);
}

#[test]
fn an_interface_that_goes_away_moves_the_vip() {
    let mut lab = Lab::form(THREE, ONE_VIP);
    let seen = lab.observe("interface set down", Duration::from_secs(3), |lab| {
        drop(lab.net.ip(1, "link set eth0 down"))
    });
    moved(&seen, 2);
    never_two(&seen);
}

#[test]
fn two_nodes_survive_the_loss_of_one() {
    let mut lab = Lab::form(TWO, ONE_VIP);
    let seen = lab.observe("two nodes: nginx killed", Duration::from_secs(2), |lab| lab.node(1).kill_nginx());
    moved(&seen, 2);
    never_two(&seen);
    lab.node(1).start_nginx();
    lab.until_owned_by(1);
    let seen =
        lab.observe("two nodes: link down", Duration::from_secs(3), |lab| lab.net.set_carrier(1, false));
    moved(&seen, 2);
    never_two(&seen);
}

#[test]
fn two_nodes_keep_a_frozen_holder_until_its_kernel_lets_go() {
    let mut lab = Lab::form(TWO, ONE_VIP);
    let seen = lab
        .observe("two nodes: daemon stopped", Duration::from_secs(5), |lab| lab.node(1).signal(Signal::STOP));
    assert_eq!(seen.1.holders, [2], "{:?}", seen.1);
    never_two(&seen);
}

#[test]
fn a_witness_votes_and_never_holds() {
    let mut lab = Lab::form(&["member", "member", "witness"], ONE_VIP);
    let seen = lab.observe("witness: host cut off", Duration::from_secs(3), |lab| lab.net.cut(1));
    moved(&seen, 2);
    never_two(&seen);
    let seen =
        lab.observe("witness: the last nginx killed", Duration::from_secs(1), |lab| lab.node(2).kill_nginx());
    assert_eq!(seen.1.holders, [2], "the owner stays: {:?}", seen.1);
}

#[test]
fn a_vip_that_a_stranger_answers_for_is_not_taken() {
    let lab = Lab::begin(&["member"], &["10.0.0.200/24"]);
    lab.until("the VIP is owned", |lab| lab.vip(1)["mine"] == true);
    drop(lab);
    let mut lab = Lab::begin(THREE, &["10.0.0.100/24"]);
    lab.until_owned_by(1);
    for host in 1..=3 {
        lab.node(host).signal(Signal::TERM);
        lab.node(host).reap();
    }
    lab.net.ip(STRANGER, &format!("address add {VIP}/24 dev eth0"));
    (1..=3).for_each(|host| lab.node(host).start());
    lab.until("the conflict is reported", |lab| (1..=3).all(|host| lab.vip(host)["state"] == "conflict"));
    assert!((1..=3).all(|host| lab.vip(host)["mine"] == false));
    assert_eq!(lab.nodes[0].run(&["status"]).status.code(), Some(2));
    lab.net.ip(STRANGER, &format!("address del {VIP}/24 dev eth0"));
    lab.until_owned_by(1);
}

#[test]
fn a_copied_state_directory_is_told_apart_and_gives_nobody_a_second_owner() {
    let mut lab = Lab::form(THREE, ONE_VIP);
    let seen = lab.observe("one key on two hosts", Duration::from_secs(3), |lab| lab.start_clone(2));
    moved(&seen, 1);
    never_two(&seen);
    lab.until("the clone is reported", |lab| {
        lab.nodes
            .iter()
            .any(|node| node.log().contains("one key") || node.log().contains("uses this node's key"))
    });
}

#[test]
fn both_families_move_together() {
    let mut lab = Lab::form(THREE, &["10.0.0.100/24,fd00::100/64"]);
    let seen =
        lab.observe("IPv4 and IPv6: nginx killed", Duration::from_secs(2), |lab| lab.node(1).kill_nginx());
    moved(&seen, 2);
    never_two(&seen);
    let addresses = lab.net.ip(2, "-o address show dev eth0");
    let text = String::from_utf8_lossy(&addresses.stdout).into_owned();
    assert!(text.contains("10.0.0.100/24") && text.contains("fd00::100/64"), "{text}");
    let old = String::from_utf8_lossy(&lab.net.ip(1, "-o address show dev eth0").stdout).into_owned();
    assert!(!old.contains("10.0.0.100") && !old.contains("fd00::100"), "{old}");
}

#[test]
fn a_bad_file_changes_nothing_and_a_good_one_all() {
    let mut lab = Lab::form(THREE, ONE_VIP);
    let good = lab.node(1).config();
    lab.node(1).set_config(&good.replace("priority = 150", "priority = 900"));
    lab.node(1).signal(Signal::HUP);
    lab.until("the mistake is named", |lab| {
        let log = lab.nodes[0].log();
        log.contains("node.priority: 900 is no priority") && log.contains("stays as it was")
    });
    assert_eq!(lab.vip(1)["mine"], true);
    let seen = lab.observe("priority lowered by reload", Duration::from_secs(2), |lab| {
        lab.node(1).set_config(&good.replace("priority = 150", "priority = 50"));
        lab.node(1).signal(Signal::HUP);
    });
    moved(&seen, 2);
    never_two(&seen);
    assert!(seen.0.failed <= 1, "{:?}", seen.0);
}

#[test]
fn leave_hands_over_and_gives_the_vote_up() {
    let mut lab = Lab::form(&["member", "member", "member", "member"], ONE_VIP);
    let voter = |lab: &Lab, host: usize| {
        lab.nodes[0].ask("status").unwrap_or_default()["cluster"]["voters"]
            .as_array()
            .is_some_and(|all| all.iter().any(|name| name == &format!("lb{host}")))
    };
    let leaver = (2..=4).find(|host| voter(&lab, *host)).unwrap();
    lab.nodes[leaver - 1].must(&["leave"]);
    lab.node(leaver).reap();
    lab.until("another votes instead", |lab| {
        let status = lab.nodes[0].ask("status").unwrap_or_default();
        status["cluster"]["voters"].as_array().is_some_and(|all| all.len() == 3) && !voter(lab, leaver)
    });
    assert_eq!(lab.nodes[0].run(&["leave"]).status.code(), Some(1), "the issuer stays");
}
