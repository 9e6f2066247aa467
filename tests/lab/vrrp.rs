//! A virtual router of ours on one link with real ones: another takes over from us, and we from it.

mod adverts;
mod bench;
mod cpu;
mod elections;
mod group;
mod pair;
mod places;
mod way;

use crate::alone;
use pair::{OURS, Pair, Start, THEIRS, frr, keepalived};
use rustix::process::Signal;
use std::thread::sleep;
use std::time::Duration;
use way::{SECOND, V2, V3, V3_IPV6, Way};

const IGNORE: &str = "/proc/sys/net/ipv4/conf/eth0/arp_ignore";

const WAYS: [Way; 8] = [
    V2,
    Way { name: "v2 PASS", password: Some("secret"), ..V2 },
    Way { name: "v2 AH", password: Some("secret"), ah: true, ..V2 },
    V3,
    Way { late: SECOND, ..V3_IPV6 },
    Way { name: "v3 unicast", unicast: true, ..V3 },
    VIRTUAL_MAC,
    Way { name: "v3 IPv6 virtual MAC", late: SECOND, mac: Some("00:00:5e:00:02:33"), ..V3_IPV6 },
];
const VIRTUAL_MAC: Way = Way { name: "v3 virtual MAC", mac: Some("00:00:5e:00:01:33"), ..V3 };
/// FRR knows neither passwords nor unicast.
const FRR_WAYS: [Way; 4] = [V2, V3, V3_IPV6, VIRTUAL_MAC];

fn shown(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn each_way(ways: &[Way], case: impl Fn(Way)) {
    let only = std::env::var("VRRP_WAY").ok();
    let wanted = |way: &&Way| only.as_ref().is_none_or(|only| way.name == only);
    ways.iter().filter(wanted).for_each(|way| case(*way));
}

#[test]
fn keepalived_takes_over_from_us_and_we_take_back() {
    alone(|| each_way(&WAYS, |way| they_take_over(keepalived, way)));
}

#[test]
fn we_take_over_from_keepalived_and_it_takes_back() {
    alone(|| each_way(&WAYS, |way| we_take_over(keepalived, way)));
}

#[test]
fn frr_takes_over_from_us_and_we_take_back() {
    alone(|| each_way(&FRR_WAYS, |way| they_take_over(frr, way)));
}

#[test]
fn we_take_over_from_frr_and_it_takes_back() {
    alone(|| each_way(&FRR_WAYS, |way| we_take_over(frr, way)));
}

fn they_take_over(start: Start, way: Way) {
    let mut pair = Pair::form(start, way, 150, 100);
    pair.until_on(OURS);
    let stop = |pair: &mut Pair| {
        pair.ours.signal(Signal::TERM);
        pair.ours.reap();
    };
    let seen = pair.observe("ours stops", way.advert * 2, stop);
    assert_eq!(seen.never_two().holding.holders, [THEIRS], "{}: {seen:?}", way.name);
    assert!(seen.gap() < way.advert + Duration::from_millis(400) + way.late, "only the skew: {seen:?}");
    pair.ours.start();
    pair.until_on(OURS);
    let cut = |pair: &mut Pair| pair.ours.kill();
    let seen = pair.observe("ours is killed", way.takeover(100) + SECOND, cut);
    assert_eq!(seen.holding.holders, [THEIRS], "{}: {seen:?}", way.name);
    assert!(seen.gap() < way.takeover(100) + way.late, "{}: {seen:?}", way.name);
}

fn we_take_over(start: Start, way: Way) {
    let mut pair = Pair::form(start, way, 100, 150);
    pair.until_on(THEIRS);
    let stop = |pair: &mut Pair| pair.theirs.stop();
    let seen = pair.observe("theirs stops", way.advert * 2 + way.late, stop);
    assert_eq!(seen.holding.holders, [OURS], "{}: {seen:?}", way.name);
    assert!(seen.holding.overlap <= way.late, "{}: {seen:?}", way.name);
    pair.theirs.start_again();
    pair.until_on(THEIRS);
    let status = pair.ours.ask("status").unwrap();
    assert_eq!(status["vips"][0]["state"], "active", "{status}");
    let seen = pair.observe("theirs is cut off", way.takeover(100) + SECOND, |pair| pair.net.cut(THEIRS));
    assert!(seen.holding.holders.contains(&OURS), "{}: {seen:?}", way.name);
    assert!(seen.gap() < way.takeover(100) + way.late, "{}: {seen:?}", way.name);
}

#[test]
fn a_restart_keeps_the_master_and_keepalived_notices_nothing() {
    alone(|| {
        let mut pair = Pair::form(keepalived, V2, 150, 100);
        pair.until_on(OURS);
        for (case, end) in [("restart", Signal::USR2), ("killed, started again", Signal::KILL)] {
            let seen = pair.observe(case, SECOND * 5, |pair| {
                pair.ours.signal(end);
                pair.ours.reap();
                pair.ours.start();
            });
            assert_eq!((seen.holding.order.as_slice(), seen.failed()), (&[OURS][..], 0), "{seen:?}");
        }
    });
}

/// Its interface is there while it is the master, also after a crash, and the parent gets back what it was.
#[test]
fn a_virtual_mac_leaves_nothing_behind() {
    alone(|| {
        let mut pair = Pair::form(keepalived, VIRTUAL_MAC, 150, 100);
        let net = pair.net;
        let there = || String::from_utf8_lossy(&net.ip(OURS, "-o link").stdout).contains("vrrp.51");
        let ignores = || net.command(OURS, "cat").arg(IGNORE).output().unwrap().stdout == b"1\n";
        pair.until_on(OURS);
        assert!(there() && ignores());
        let seen = pair.observe("ours restarts", SECOND * 2, |pair| {
            pair.ours.signal(Signal::USR2);
            pair.ours.reap();
            assert!(there());
            pair.ours.start();
        });
        assert_eq!((seen.holding.order.as_slice(), seen.failed()), (&[OURS][..], 0), "{seen:?}");
        pair.ours.kill();
        pair.until_on(THEIRS);
        assert!(there(), "nobody is there to remove it");
        let config = pair.ours.config().replace("priority = 150", "priority = 90");
        pair.ours.set_config(&config);
        pair.ours.start();
        pair.until_logged("the interface vrrp.51 was left behind by an earlier run and is removed");
        assert!(!there() && !ignores());
        pair.reload(&config.replace("priority = 90", "priority = 150"));
        pair.until_on(OURS);
        pair.ours.signal(Signal::TERM);
        pair.ours.reap();
        assert!(!there() && !ignores(), "the end takes it along");
        pair.ours.start();
        pair.until_on(OURS);
        net.ip(OURS, "link delete vrrp.51");
        pair.until_on(OURS);
        assert!(there(), "it is made again");
    });
}

#[test]
fn without_preemption_who_comes_back_waits() {
    alone(|| {
        let pair = Pair::form(keepalived, V3, 100, 150);
        pair.until_on(THEIRS);
        let better = "priority = 200\npreempt = false\naddr";
        pair.reload(&pair.ours.config().replace("priority = 100\naddr", better));
        sleep(SECOND * 2);
        pair.until_on(THEIRS);
    });
}

/// Before our time is up: a keepalived that drops our adverts puts its own off with each of them, and may be silent for
/// ever.
#[test]
fn a_wrong_password_and_other_addresses_are_named() {
    alone(|| {
        let pair = Pair::form(keepalived, Way { password: Some("other"), ..V2 }, 100, 150);
        pair.until_on(THEIRS);
        let wrong = pair.ours.config().replace("'other'", "'wrong'").replace("10.0.0.100", "10.0.0.101");
        pair.reload(&wrong);
        pair.until_logged("the advert of 10.0.0.12 for VRID 51 has another password");
        let counted = pair.ours.ask("status").unwrap()["counters"]["vrrp_bad_password"].as_u64();
        assert!(counted > Some(0));
        pair.reload(&wrong.replace("'wrong'", "'other'"));
        let other = "the advert of 10.0.0.12 for VRID 51 is for other addresses (10.0.0.100), so another group uses this VRID";
        pair.until_logged(other);
        let status = pair.ours.run(&["status"]);
        assert!(status.status.code() == Some(1) && shown(&status).contains(other), "{}", shown(&status));
        let doctor = pair.ours.run(&["doctor", "--vrid", "--seconds", "3"]);
        let text = shown(&doctor);
        assert_eq!(doctor.status.code(), Some(2), "{text}");
        for part in ["51    IPv4    2        10.0.0.12  150       1s        PASS", other, "VRID 2 is free"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    });
}
