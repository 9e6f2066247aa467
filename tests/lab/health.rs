//! What is a failure of nginx and what is not, and who finds out when.

use crate::alone;
use crate::lab::Lab;
use crate::nginx::Options;
use crate::node::Node;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const THREE: &[&str] = &["member", "member", "member"];
const VIP: &str = "10.0.0.100/24";
const SECOND: Duration = Duration::from_secs(1);
/// Of the lab's small disk.
pub const ROOM: &str = "min_free = '64KiB'\nmin_free_inodes = 2\n";

fn member(lab: &Lab, asked: usize, of: usize) -> Value {
    lab.nodes[asked - 1].ask("members").unwrap_or_default()["members"][of - 1].clone()
}

fn text(lab: &Lab, host: usize, words: &[&str]) -> String {
    String::from_utf8(lab.nodes[host - 1].run(words).stdout).unwrap()
}

/// Everybody learns why.
fn until_said(lab: &Lab, of: usize, health: &str, reason: &str) {
    lab.until(&format!("lb{of} is {health}: {reason}"), |lab| {
        (1..=lab.nodes.len()).all(|host| {
            let member = member(lab, host, of);
            member["health"] == health && member["reason"].as_str().is_some_and(|said| said.contains(reason))
        })
    });
}

fn with_disk(node: &mut Node) {
    node.nginx.set(Options { disk: true, ..Options::default() });
    node.check = ROOM.to_owned();
}

#[test]
fn a_dead_nginx_that_can_be_brought_back_keeps_the_vip_once() {
    alone(|| {
        let mut lab = Lab::form_of(THREE, VIP, |node| {
            let script = node.nginx.root().join("start");
            fs::write(&script, format!("#!/bin/sh\nexec {}\n", node.nginx.start_line())).unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
            node.check = format!("restart = ['{}']\nrestart_timeout = '3s'\n", script.display());
        });
        let kill = |lab: &mut Lab| lab.node(1).kill_nginx();
        let seen = lab.observe("nginx killed, restarted", SECOND * 2, kill);
        assert_eq!(seen.never_two().ends_with(1).holding.order, [1]);
        lab.node(1).nginx.adopt();
        lab.observe("nginx killed again at once", SECOND * 2, kill).never_two().ends_with(2);
        until_said(&lab, 1, "failed", "has exited");
    });
}

#[test]
fn a_full_log_disk_gives_the_vip_away_until_there_is_room() {
    alone(|| {
        let mut lab = Lab::form_of(THREE, VIP, with_disk);
        let fill = |lab: &mut Lab| lab.node(1).nginx.disk().fill();
        lab.observe("log disk full", SECOND * 3, fill).never_two().ends_with(2);
        until_said(&lab, 1, "failed", "is full");
        let explained = text(&lab, 2, &["explain", "10.0.0.100"]);
        assert!(explained.contains("nginx          out    failed"), "{explained}");
        lab.node(1).nginx.disk().free();
        lab.until_owned_by(1);
    });
}

#[test]
fn a_read_only_and_a_vanished_log_disk_give_the_vip_away() {
    alone(|| {
        let mut lab = Lab::form_of(THREE, VIP, with_disk);
        let away = |lab: &mut Lab| lab.node(1).nginx.disk().unmount_lazily();
        lab.observe("log disk gone", SECOND * 3, away).never_two().ends_with(2);
        until_said(&lab, 1, "failed", "is not mounted any more");
        lab.node(1).nginx.disk().mount();
        lab.until_owned_by(1);
        let fail = |lab: &mut Lab| lab.node(1).nginx.disk().fail();
        lab.observe("log disk read-only", SECOND * 3, fail).never_two().ends_with(2);
        until_said(&lab, 1, "failed", "is read-only");
    });
}

/// What a disk does that has gone: whoever touches it waits in the kernel and cannot be killed.
#[test]
fn a_log_disk_that_hangs_stops_nginx_and_nothing_else() {
    alone(|| {
        let mut lab = Lab::form_of(THREE, VIP, with_disk);
        let hang = |lab: &mut Lab| lab.node(1).nginx.disk().freeze();
        let seen = lab.observe("log disk hangs", SECOND * 5, hang);
        seen.never_two();
        assert_eq!(seen.holding.holders, [2], "{seen:?}");
        until_said(&lab, 1, "failed", "nginx");
        assert_eq!(member(&lab, 2, 1)["state"], "alive", "its adverts go on");
        lab.node(1).nginx.disk().thaw();
        lab.until_owned_by(1);
    });
}

#[test]
fn nginx_at_its_limit_keeps_the_vip_and_a_worker_that_hangs_does_not() {
    alone(|| {
        let mut lab = Lab::form_of(THREE, VIP, |node| {
            node.nginx.set(Options { connections: 32, ..Options::default() });
        });
        let saturate = |lab: &mut Lab| lab.node(1).nginx.saturate();
        let seen = lab.observe("connections used up", SECOND * 4, saturate);
        assert_eq!(seen.never_two().holding.order, [1], "{seen:?}");
        until_said(&lab, 1, "saturated", "of 32 worker_connections in use");
        let members = text(&lab, 2, &["members"]);
        assert!(members.contains("saturated"), "{members}");
        let status = lab.nodes[0].ask("status").unwrap();
        assert!(status["counters"]["checks_saturated"].as_u64() > Some(0), "{status}");
        let events = status["events"].to_string();
        assert!(events.contains("saturated, not failed: nginx"), "{events}");

        lab.node(1).nginx.signal_workers(Signal::STOP);
        lab.until_owned_by(2);
        until_said(&lab, 1, "failed", "no answer within 1s");
        lab.node(1).nginx.signal_workers(Signal::CONT);
        lab.node(1).nginx.relieve();
        lab.until_owned_by(1);
        until_said(&lab, 1, "ok", "");
    });
}

#[test]
fn a_reload_and_a_binary_upgrade_of_nginx_are_not_noticed() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        for (case, renew) in [
            ("nginx reloaded", (|lab: &mut Lab| lab.node(1).nginx.reload()) as fn(&mut Lab)),
            ("nginx upgraded", |lab| lab.node(1).nginx.upgrade()),
        ] {
            let seen = lab.observe(case, SECOND * 2, renew);
            assert_eq!(
                (seen.never_two().ends_with(1).holding.order.as_slice(), seen.failed()),
                (&[1][..], 0),
                "{seen:?}"
            );
        }
        assert_eq!(member(&lab, 2, 1)["health"], "ok");
    });
}

#[test]
fn a_host_that_loses_its_power_is_replaced() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        let off = |lab: &mut Lab| {
            lab.net.cut(1);
            lab.node(1).kill();
            lab.node(1).kill_nginx();
        };
        lab.observe("host powered off", SECOND * 3, off).ends_with(2);
    });
}

/// Its own nginx is well; a script of its never ends, takes 60 off its 150, and cannot be waited for.
#[test]
fn a_script_that_sleeps_for_ever_counts_as_failed_and_delays_nothing() {
    alone(|| {
        let mut lab = Lab::form_of(THREE, VIP, |node| {
            let sleeps = "['/bin/sh', '-c', 'trap \"\" TERM; while :; do sleep 9; done']";
            let command = if node.host == 1 { sleeps } else { "['/bin/true']" };
            node.check = format!(
                "[[check]]\nkind = 'script'\ninitial = 'up'\nfall = 6\ninterval = '500ms'\nweight = -20\ncommand = {command}\n"
            );
        });
        // 130 is more than 100, and yet it comes after the healthy.
        lab.until_owned_by(2);
        until_said(&lab, 1, "failed", "script: an earlier run has not ended yet");
        let explained = text(&lab, 3, &["explain"]);
        assert!(explained.contains("script         -20    failed"), "{explained}");
        assert!(explained.contains("it comes after every healthy member"), "{explained}");
        let seen = lab.observe("a script sleeps for ever", SECOND * 3, |_| ());
        assert_eq!(
            (seen.never_two().ends_with(2).holding.order.as_slice(), seen.failed()),
            (&[2][..], 0),
            "{seen:?}"
        );
    });
}

#[test]
fn every_check_can_be_tried_by_hand() {
    alone(|| {
        let mut lab = Lab::form_of(&["member"], VIP, |node| {
            node.check = "[[check]]\nkind = 'gateway'\naddress = '10.0.0.10'\n\
                          [[check]]\nkind = 'interface'\ninterface = 'eth0'\n"
                .to_owned();
        });
        let tried = lab.nodes[0].run(&["check", "--run"]);
        let said = String::from_utf8(tried.stdout).unwrap();
        assert_eq!(tried.status.code(), Some(0), "{said}");
        for check in ["nginx process", "nginx http", "nginx logs", "gateway", "interface"] {
            assert!(said.lines().any(|line| line.starts_with(check) && line.contains(" ok ")), "{said}");
        }
        lab.node(1).kill_nginx();
        assert_eq!(lab.nodes[0].run(&["check", "--run"]).status.code(), Some(2));
    });
}
