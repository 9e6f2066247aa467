//! The cases. Each says who may hold the VIP at every moment.
//!
//! Where the daemon is killed or stopped, the kernel removes its address when its lifetime ends, which is counted in
//! whole seconds: until then two hosts may have it.

use crate::alone;
use crate::lab::{BEFORE, Lab, Seen};
use crate::net::STRANGER;
use rustix::process::Signal;
use std::time::Duration;

const THREE: &[&str] = &["member", "member", "member"];
const TWO: &[&str] = &["member", "member"];
const VIP: &str = "10.0.0.100/24";
/// What a lifetime in whole seconds may add to a lease of 500 ms.
const KERNEL_LATE: Duration = Duration::from_millis(2200);
/// Two checks a second apart fail, each after a second.
const HANG: Duration = Duration::from_secs(5);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn two_until_the_kernel_lets_go(seen: &Seen) {
    assert!(seen.holding.overlap < KERNEL_LATE, "{seen:?}");
}

#[test]
fn three_nodes_form_a_quorum_of_three_voters() {
    alone(|| {
        let lab = Lab::form(THREE, VIP);
        for node in &lab.nodes {
            let answer = node.ask("members").unwrap();
            let members = answer["members"].as_array().unwrap();
            let names: Vec<&str> = members.iter().filter_map(|member| member["name"].as_str()).collect();
            assert_eq!(names, ["lb1", "lb2", "lb3"], "{answer}");
            for member in members {
                assert_eq!((&member["state"], &member["voter"]), (&"alive".into(), &true.into()), "{answer}");
                assert_eq!(member["me"], member["name"] == node.name(), "{answer}");
            }
            assert_eq!(node.ask("status").unwrap()["cluster"]["quorum"], 2);
            let status = node.run(&["status"]);
            assert_eq!(status.status.code(), Some(0), "{}", String::from_utf8_lossy(&status.stdout));
        }
    });
}

#[test]
fn nginx_killed_moves_the_vip_at_once() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        lab.observe("nginx killed", seconds(2), |lab| lab.node(1).kill_nginx()).never_two().ends_with(2);
        lab.node(1).start_nginx();
        lab.until_owned_by(1);
    });
}

#[test]
fn an_nginx_that_hangs_moves_the_vip() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        let hang = |lab: &mut Lab| lab.node(1).signal_nginx(Signal::STOP);
        let seen = lab.observe("nginx hangs", HANG, hang);
        seen.never_two();
        assert_eq!(seen.holding.holders, [2], "{seen:?}");
        assert!(seen.gap() < HANG, "{seen:?}");
        lab.node(1).signal_nginx(Signal::CONT);
        lab.until_owned_by(1);
    });
}

#[test]
fn a_killed_daemon_is_replaced_and_may_come_back() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        let seen = lab.observe("daemon killed", seconds(3), |lab| lab.node(1).kill());
        two_until_the_kernel_lets_go(seen.ends_with(2));
        lab.observe("daemon started again", seconds(4), |lab| lab.node(1).start()).never_two().ends_with(1);
    });
}

#[test]
fn a_stopped_daemon_is_replaced_and_lets_go_when_it_goes_on() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        let stop = |lab: &mut Lab| lab.node(1).signal(Signal::STOP);
        two_until_the_kernel_lets_go(lab.observe("daemon stopped", seconds(3), stop).ends_with(2));
        let go_on = |lab: &mut Lab| lab.node(1).signal(Signal::CONT);
        lab.observe("daemon goes on", seconds(3), go_on).never_two().ends_with(1);
    });
}

#[test]
fn a_host_that_is_cut_off_lets_go_before_another_takes_over() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        lab.observe("host silently cut off", seconds(3), |lab| lab.net.cut(1)).never_two().ends_with(2);
        lab.observe("host back on the network", seconds(4), |lab| lab.net.mend()).never_two().ends_with(1);
    });
}

#[test]
fn an_owner_that_lost_its_majority_lets_go() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        let seen = lab.observe("both other daemons killed", seconds(2), |lab| {
            lab.node(2).kill();
            lab.node(3).kill();
        });
        assert_eq!(
            (seen.never_two().holding.holders.as_slice(), &seen.holding.order[..]),
            (&[][..], &[1][..])
        );
        assert_eq!(lab.node(1).run(&["status"]).status.code(), Some(2));
        lab.node(3).start();
        lab.until_owned_by(1);
    });
}

#[test]
fn a_link_that_goes_down_moves_the_vip() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        let down = |lab: &mut Lab| lab.net.set_carrier(1, false);
        lab.observe("link down", seconds(3), down).never_two().ends_with(2);
        lab.net.set_carrier(1, true);
        lab.until_owned_by(1);
    });
}

#[test]
fn an_interface_that_goes_away_moves_the_vip() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        let down = |lab: &mut Lab| drop(lab.net.ip(1, "link set eth0 down"));
        lab.observe("interface set down", seconds(3), down).never_two().ends_with(2);
    });
}

#[test]
fn a_planned_stop_hands_over() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        let stop = |lab: &mut Lab| {
            lab.node(1).signal(Signal::TERM);
            lab.node(1).reap();
        };
        let seen = lab.observe("planned stop", seconds(2), stop);
        seen.never_two().ends_with(2);
        assert!(seen.failed() <= 1, "{seen:?}");
        lab.observe("started again", seconds(4), |lab| lab.node(1).start()).never_two().ends_with(1);
        let restart = |lab: &mut Lab| {
            stop(lab);
            lab.node(1).start();
        };
        lab.observe("stop and start of the owner", seconds(4), restart).never_two().ends_with(1);
    });
}

/// Within the lease, a new run goes on with what the one before held: no client notices.
#[test]
fn a_restart_moves_nothing() {
    alone(|| {
        let mut lab = Lab::form(THREE, "10.0.0.100/24,fd00::100/64");
        for (what, signal) in
            [("restart for an upgrade", Signal::USR2), ("killed and started at once", Signal::KILL)]
        {
            let restart = |lab: &mut Lab| {
                lab.node(1).signal(signal);
                lab.node(1).reap();
                lab.node(1).start();
            };
            let seen = lab.observe(what, seconds(3), restart);
            seen.never_two().ends_with(1);
            assert_eq!((seen.failed(), &seen.holding.order[..]), (0, &[1][..]), "{seen:?}");
            assert!(lab.node(1).log().contains("no VIP moves"), "{}", lab.node(1).log());
        }
    });
}

/// Each change of the ruleset keeps the kernel's lock on it for a while; adverts must not wait for that.
#[test]
fn a_ruleset_that_changes_all_the_time_moves_nothing() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        let flush = |lab: &mut Lab| {
            for _ in 0..60 {
                lab.net.nft(1, "add table inet others; flush ruleset");
            }
        };
        let seen = lab.observe("ruleset flushed sixty times", seconds(1), flush);
        seen.never_two().ends_with(1);
        assert_eq!(seen.holding.order, [1], "{seen:?}");
    });
}

#[test]
fn a_flushed_ruleset_is_repaired_and_a_clean_stop_leaves_nothing() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        lab.net.nft(1, "add table inet others");
        lab.observe("ruleset flushed", seconds(1), |lab| drop(lab.net.nft(1, "flush ruleset")))
            .never_two()
            .ends_with(1);
        lab.until("the fence stands again", |lab| {
            lab.net.nft(1, "list ruleset").contains("table netdev haclusterd")
        });
        assert_eq!(lab.node(1).ask("status").unwrap()["counters"]["fence_repairs"], 1);
        lab.net.nft(1, "add table inet others");
        lab.node(1).signal(Signal::TERM);
        lab.node(1).reap();
        assert_eq!(lab.net.nft(1, "list ruleset").trim(), "table inet others {\n}");
    });
}

#[test]
fn an_address_removed_by_hand_comes_back() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        let seen = lab.observe("address deleted by hand", seconds(2), |lab| {
            lab.net.ip(1, &format!("address del {VIP} dev eth0"));
        });
        seen.never_two().ends_with(1);
        assert_eq!(seen.holding.order, [1, 1], "{seen:?}");
    });
}

#[test]
fn two_nodes_survive_the_loss_of_one() {
    alone(|| {
        let mut lab = Lab::form(TWO, VIP);
        let nginx = |lab: &mut Lab| lab.node(1).kill_nginx();
        lab.observe("two nodes: nginx killed", seconds(2), nginx).never_two().ends_with(2);
        lab.node(1).start_nginx();
        lab.until_owned_by(1);
        let down = |lab: &mut Lab| lab.net.set_carrier(1, false);
        lab.observe("two nodes: link down", seconds(3), down).never_two().ends_with(2);
    });
}

#[test]
fn two_nodes_keep_a_frozen_holder_until_its_kernel_lets_go() {
    alone(|| {
        let mut lab = Lab::form(TWO, VIP);
        let stop = |lab: &mut Lab| lab.node(1).signal(Signal::STOP);
        lab.observe("two nodes: daemon stopped", seconds(5), stop).never_two().ends_with(2);
    });
}

/// No vote can settle this: each side of a split network may have an owner, until it is whole again.
#[test]
fn two_nodes_that_were_apart_are_one_again() {
    alone(|| {
        let mut lab = Lab::form(TWO, VIP);
        let cut = |lab: &mut Lab| lab.net.cut(1);
        let apart = lab.observe("two nodes: cut apart", seconds(3), cut);
        assert_eq!(apart.clients[0].answered, ["lb1", "lb2"], "{apart:?}");
        let mend = |lab: &mut Lab| lab.net.mend();
        let whole = lab.observe("two nodes: whole again", seconds(4), mend);
        whole.ends_with(1);
        assert!(whole.holding.overlap < BEFORE + Duration::from_millis(300), "soon: {whole:?}");
    });
}

#[test]
fn a_witness_votes_and_never_holds() {
    alone(|| {
        let mut lab = Lab::form(&["member", "member", "witness"], VIP);
        lab.observe("witness: host cut off", seconds(3), |lab| lab.net.cut(1)).never_two().ends_with(2);
        let nginx = |lab: &mut Lab| lab.node(2).kill_nginx();
        let seen = lab.observe("witness: the last nginx killed", seconds(1), nginx);
        assert_eq!(seen.holding.holders, [2], "the owner stays: {seen:?}");
    });
}

#[test]
fn a_vip_that_a_stranger_answers_for_is_not_taken() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        for host in 1..=3 {
            lab.node(host).signal(Signal::TERM);
            lab.node(host).reap();
        }
        lab.net.ip(STRANGER, &format!("address add {VIP} dev eth0"));
        (1..=3).for_each(|host| lab.node(host).start());
        lab.until("the conflict is reported", |lab| (1..=3).all(|host| lab.vip(host)["state"] == "conflict"));
        assert!((1..=3).all(|host| lab.vip(host)["mine"] == false));
        assert!((1..=3).all(|host| !lab.net.has(host, lab.vip[0])));
        assert_eq!(lab.nodes[0].run(&["status"]).status.code(), Some(2));
        lab.net.ip(STRANGER, &format!("address del {VIP} dev eth0"));
        lab.until_owned_by(1);
    });
}

#[test]
fn a_copied_state_directory_is_told_apart_and_gives_nobody_a_second_owner() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        lab.observe("one key on two hosts", seconds(3), |lab| lab.start_clone(2)).never_two().ends_with(1);
        let reports = ["one key", "uses this node's key"];
        lab.until("the clone is reported", |lab| {
            lab.nodes.iter().any(|node| reports.iter().any(|report| node.log().contains(report)))
        });
    });
}

#[test]
fn both_families_move_together() {
    alone(|| {
        let mut lab = Lab::form(THREE, "10.0.0.100/24,fd00::100/64");
        let nginx = |lab: &mut Lab| lab.node(1).kill_nginx();
        lab.observe("IPv4 and IPv6: nginx killed", seconds(2), nginx).never_two().ends_with(2);
        for address in &lab.vip {
            assert!(lab.net.has(2, *address) && !lab.net.has(1, *address), "{address}");
        }
        lab.observe("IPv4 and IPv6: host cut off", seconds(3), |lab| lab.net.cut(2)).never_two().ends_with(3);
    });
}

#[test]
fn a_bad_file_changes_nothing_and_a_good_one_all() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        let good = lab.node(1).config();
        let reload = |lab: &mut Lab, priority: &str| {
            lab.node(1).set_config(&good.replace("priority = 150", priority));
            lab.node(1).signal(Signal::HUP);
        };
        reload(&mut lab, "priority = 900");
        lab.until("the mistake is named", |lab| {
            let log = lab.nodes[0].log();
            log.contains("node.priority: 900 is no priority") && log.contains("stays as it was")
        });
        assert_eq!(lab.vip(1)["mine"], true);
        let lower = |lab: &mut Lab| reload(lab, "priority = 50");
        let seen = lab.observe("priority lowered by reload", seconds(2), lower);
        seen.never_two().ends_with(2);
        assert!(seen.failed() <= 1, "{seen:?}");
    });
}

#[test]
fn leave_hands_over_and_gives_the_vote_up() {
    alone(|| {
        let mut lab = Lab::form(&["member", "member", "member", "member"], VIP);
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
    });
}

#[test]
fn a_member_without_a_vote_is_heard_when_it_leaves_and_may_join_again() {
    alone(|| {
        let mut lab = Lab::form(&["member", "member", "member", "member"], VIP);
        let members = |lab: &Lab| lab.nodes[0].ask("members").unwrap_or_default()["members"].clone();
        let state = |lab: &Lab, name: &str| {
            let all = members(lab).as_array().cloned().unwrap_or_default();
            all.iter().find(|m| m["name"] == name).map(|m| m["state"].clone())
        };
        let all = members(&lab);
        let leaver = (2..=4).find(|host| all[*host - 1]["voter"] == false).expect("one of four has no vote");
        let name = lab.nodes[leaver - 1].name();
        lab.nodes[leaver - 1].must(&["leave"]);
        lab.node(leaver).reap();
        lab.until("its leaving is known", |lab| state(lab, &name) == Some("left".into()));
        let (first, others) = lab.nodes.split_at_mut(1);
        others[leaver - 2].forget_config();
        others[leaver - 2].join(&first[0], 70, "member");
        others[leaver - 2].start();
        lab.until("it is back", |lab| {
            let all = members(lab).as_array().cloned().unwrap_or_default();
            all.iter().any(|m| m["name"] == name.as_str() && m["state"] == "alive")
        });
    });
}

/// The node takes the VIP, gives it up, is cut off, reloads and restarts; the run that takes over is killed. The replay
/// must decide both runs as the daemon did.
#[test]
fn a_daemons_journal_replays_to_the_same_decisions() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        lab.node(2).signal(Signal::TERM);
        lab.node(2).reap();
        lab.node(2).start_recorded();
        lab.until("lb2 is back", |lab| {
            let status = lab.nodes[1].ask("status").unwrap_or_default();
            status["cluster"]["voters_in_contact"] == 3 && status["vips"][0]["owner"] == "lb1"
        });
        lab.node(1).kill_nginx();
        lab.until_owned_by(2);
        lab.net.cut(2);
        lab.until("lb2 has let go", |lab| lab.vip(2)["mine"] == false);
        lab.net.mend();
        lab.node(1).start_nginx();
        lab.until_owned_by(1);
        let raised = lab.node(2).config().replace("priority = 100", "priority = 200");
        lab.node(2).set_config(&raised);
        lab.node(2).signal(Signal::HUP);
        lab.until_owned_by(2);
        lab.node(2).signal(Signal::USR2);
        lab.node(2).reap();
        lab.node(2).start_recorded();
        lab.until_owned_by(2);
        lab.node(2).kill();
        let journal = lab.node(2).journal();
        let first = lab.node(2).must(&["replay", &format!("{journal}.1")]);
        let courses = ["nobody -> lb2 (term", "let go", "new configuration", "told to restart", "exit"];
        for told in courses.into_iter().chain(["decided as the daemon did"]) {
            assert!(first.contains(told), "{told}:\n{first}");
        }
        let heir = lab.node(2).must(&["replay", &journal]);
        for told in ["takes over from its earlier run", "decided as the daemon did"] {
            assert!(heir.contains(told), "{told}:\n{heir}");
        }
    });
}
