//! A virtual router of ours on one link with real ones: another takes over from us, and we from it.

mod adverts;
mod bench;
mod cpu;
mod elections;
mod group;
mod pair;
mod way;

use crate::alone;
use pair::{OURS, Pair, Start, THEIRS, frr, keepalived};
use rustix::process::Signal;
use std::thread::sleep;
use std::time::Duration;
use way::{SECOND, V2, V3, V3_IPV6, Way};

const WAYS: [Way; 7] = [
    V2,
    Way { name: "v2 PASS", password: Some("secret"), ..V2 },
    Way { name: "v2 AH", password: Some("secret"), ah: true, ..V2 },
    V3,
    Way { late: SECOND, ..V3_IPV6 },
    Way { name: "v3 unicast", unicast: true, ..V3 },
    Way { name: "v2 unicast", unicast: true, ..V2 },
];
/// FRR knows neither passwords nor unicast.
const FRR_WAYS: [Way; 3] = [V2, V3, V3_IPV6];

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
        pair.until_logged("10.0.0.12 uses VRID 51 for other addresses");
    });
}
