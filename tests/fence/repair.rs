//! Other people's hands in the ruleset.

use super::{FLOOD, LEASE, LONG, V4, all_answered, clients, gates, host, none_answered, run, vips, wired};
use haclusterd::io::clock;
use haclusterd::io::fence::{Fence, FenceError};
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread::sleep;

const OTHER: &str = "inet other";

fn nft(command: &str) {
    run(&format!("nft {command}"));
}

/// Without what changes by itself.
fn ours() -> String {
    let table = run("nft list table netdev haclusterd");
    table.lines().filter(|line| !line.contains("elements =")).collect()
}

#[test]
fn whatever_was_done_to_the_table_is_undone_by_the_next_renewal() {
    wired("repair::whatever_was_done_to_the_table_is_undone_by_the_next_renewal", || async {
        let v0 = host();
        let mut fence = Fence::start(&[]).unwrap();
        let mut open = || fence.open(&gates(v0, clock::now() + LONG)).unwrap();
        assert!(!open().repaired);
        let whole = ours();
        for damage in [
            "flush ruleset".to_owned(),
            "delete table netdev haclusterd".to_owned(),
            format!("flush chain netdev haclusterd ingress-{v0}"),
            format!("flush chain netdev haclusterd egress-{v0}"),
            format!("insert rule netdev haclusterd egress-{v0} accept"),
            "add table netdev haclusterd { flags dormant; }".to_owned(),
            format!("chain netdev haclusterd egress-{v0} {{ policy drop; }}"),
        ] {
            nft(&damage);
            let opened = open();
            assert!(opened.repaired && opened.closed.is_empty(), "{damage}");
            assert_eq!(ours(), whole, "{damage}");
            assert!(!open().repaired, "{damage}");
        }
        nft(&format!("flush chain netdev haclusterd ingress-{v0}"));
        nft(&format!("delete chain netdev haclusterd ingress-{v0}"));
        assert!(open().repaired);
        assert_eq!(ours(), whole);
        fence.close(&vips()).unwrap();
        none_answered();
    });
}

#[test]
fn what_cannot_be_repaired_is_an_error_until_it_can() {
    wired("repair::what_cannot_be_repaired_is_an_error_until_it_can", || async {
        let v0 = host();
        let mut fence = Fence::start(&[]).unwrap();
        let mut open = || fence.open(&gates(v0, clock::now() + LONG));
        let _ = open().unwrap();
        nft("delete table netdev haclusterd");
        let mut owner = Command::new("nft").arg("-i").stdin(Stdio::piped()).spawn().unwrap();
        let mut words = owner.stdin.take().unwrap();
        words.write_all(b"add table netdev haclusterd { flags owner; }\n").unwrap();
        while !run("nft list ruleset").contains("haclusterd") {
            sleep(LEASE / 30);
        }
        for _ in 0..2 {
            let error = open().unwrap_err();
            assert!(matches!(error, FenceError::Refused { .. }), "{error}");
        }
        drop(words);
        owner.wait().unwrap();
        assert!(open().unwrap().repaired);
        assert!(!open().unwrap().repaired);
    });
}

#[test]
fn closing_repairs_too() {
    wired("repair::closing_repairs_too", || async {
        let v0 = host();
        let mut fence = Fence::start(&[]).unwrap();
        let _ = fence.open(&gates(v0, clock::now() + LONG)).unwrap();
        nft("flush ruleset");
        fence.close(&vips()).unwrap();
        none_answered();
        nft("flush ruleset");
        fence.forget(&vips()).unwrap();
        let opened = fence.open(&[]).unwrap();
        assert!(opened.repaired, "it was noticed");
    });
}

#[test]
fn a_flushed_set_is_filled_by_the_next_renewal() {
    wired("repair::a_flushed_set_is_filled_by_the_next_renewal", || async {
        let v0 = host();
        let mut fence = Fence::start(&[]).unwrap();
        let mut open = || fence.open(&gates(v0, clock::now() + LONG)).unwrap();
        let _ = open();
        for set in ["guard4", "lease4", "guard6", "lease6"] {
            nft(&format!("flush set netdev haclusterd {set}"));
        }
        assert!(!open().repaired);
        assert_eq!(run("nft list table netdev haclusterd").matches("elements").count(), 4);
        nft(&format!("add element netdev haclusterd lease4 {{ 10.9.0.7, {V4} }}"));
        assert!(!open().repaired);
        let mut keep = || fence.keep(clock::now() + LONG).unwrap();
        keep();
        nft("flush set netdev haclusterd kept4");
        assert!(!keep());
        assert!(run("nft list set netdev haclusterd kept4").contains(V4));
    });
}

#[test]
fn tables_of_others_stay_as_they_are() {
    wired("repair::tables_of_others_stay_as_they_are", || async {
        let v0 = host();
        nft("add table inet other");
        nft("add chain inet other input { type filter hook input priority 0 ; }");
        nft("add rule inet other input ip saddr 192.0.2.1 drop");
        let before = run(&format!("nft -a list table {OTHER}"));
        let unchanged = |when: &str| assert_eq!(run(&format!("nft -a list table {OTHER}")), before, "{when}");

        let mut fence = Fence::start(&[]).unwrap();
        unchanged("start");
        let _ = fence.open(&gates(v0, clock::now() + LONG)).unwrap();
        unchanged("open");
        let flood = clients(FLOOD);
        for number in 0..20 {
            nft(&format!("add table inet other{number}"));
            let opened = fence.open(&gates(v0, clock::now() + LONG)).unwrap();
            assert!(!opened.repaired, "it is none of ours that changed");
        }
        sleep(LEASE / 3);
        all_answered(flood);
        nft("delete table netdev haclusterd");
        assert!(fence.open(&gates(v0, clock::now() + LEASE)).unwrap().repaired);
        unchanged("repair");
        fence.remove().unwrap();
        unchanged("remove");
        assert!(!run("nft list ruleset").contains("haclusterd"));
    });
}

#[test]
fn what_is_removed_leaves_nothing_and_what_is_dropped_leaves_all() {
    wired("repair::what_is_removed_leaves_nothing_and_what_is_dropped_leaves_all", || async {
        let v0 = host();
        let mut fence = Fence::start(&[]).unwrap();
        let _ = fence.open(&gates(v0, clock::now() + LEASE)).unwrap();
        drop(fence);
        assert!(run("nft list ruleset").contains(&format!("egress-{v0}")));
        sleep(LEASE);
        none_answered();

        Fence::start(&[]).unwrap().remove().unwrap();
        assert_eq!(run("nft list ruleset"), "");
        let free = clients(FLOOD);
        sleep(LEASE / 3);
        all_answered(free);
    });
}
