//! Who is the master where haclusterd and keepalived vote with their priorities.

use super::group::{Group, Program};
use super::way::{SECOND, V3, Way};
use crate::alone;
use crate::lab::Seen;
use std::fs;
use std::time::Duration;

const WAY: Way = V3;
/// What the kernel and a busy machine add.
const BUSY: Duration = Duration::from_millis(400);

fn ours(priority: u8, more: &str) -> Program {
    Program::ours(WAY, priority, more)
}

fn theirs(priority: u8, more: &str) -> Program {
    Program::theirs(WAY, priority, more)
}

/// RFC 9568 6.4.3: the worse of two masters ends with the first advert of the better, and if that is lost, with the next.
fn moved_once(seen: &Seen, from: usize, to: usize) {
    assert_eq!(seen.holding.order, [from, to], "{seen:?}");
    assert!(seen.holding.overlap < WAY.advert, "{seen:?}");
}

#[test]
fn of_three_the_second_takes_over_and_the_best_takes_back() {
    alone(|| {
        for place in 0..3 {
            let mut programs = [200, 150, 100].map(|priority| theirs(priority, ""));
            programs[place] = ours([200, 150, 100][place], "");
            let mut group = Group::form(WAY, &programs);
            let case = |what: &str| format!("three, ours is no. {}: {what}", place + 1);
            let seen = group.observe(&case("dies"), |group| {
                group.power_off(1);
                group.until_on(2);
            });
            moved_once(&seen, 1, 2);
            assert!(seen.holding.nobody < WAY.takeover(150), "{seen:?}");
            let seen = group.observe(&case("returns"), |group| {
                group.power_on(1);
                group.until_on(1);
            });
            moved_once(&seen, 2, 1);
        }
    });
}

/// A master whose adverts get worse is preempted when its last good one is three intervals old.
#[test]
fn a_priority_that_changes_moves_the_address() {
    const SICK: &str = "/run/sick";
    const CHECK: &str = "[[check]]\nkind = 'script'\nname = 'sick'\ncommand = ['/usr/bin/test', '!', '-e', '/run/sick']\n\
                         interval = '50ms'\nweight = -60\n";
    struct Change {
        name: &'static str,
        programs: [Program; 2],
        change: fn(&mut Group),
    }
    let changes = [
        Change {
            name: "ours is raised by a reload",
            programs: [theirs(150, ""), ours(100, "")],
            change: |group| group.reload(2, "priority = 100\naddr", "priority = 200\naddr"),
        },
        Change {
            name: "ours is lowered by a reload",
            programs: [ours(150, ""), theirs(100, "")],
            change: |group| group.reload(1, "priority = 150\naddr", "priority = 50\naddr"),
        },
        Change {
            name: "ours is lowered by a check",
            programs: [ours(150, CHECK), theirs(100, "")],
            change: |_| fs::write(SICK, "").unwrap(),
        },
        Change {
            name: "theirs is raised by a reload",
            programs: [ours(150, ""), theirs(100, "")],
            change: |group| group.reload(2, "priority 100", "priority 200"),
        },
        Change {
            name: "theirs is lowered by a reload",
            programs: [theirs(150, ""), ours(100, "")],
            change: |group| group.reload(1, "priority 150", "priority 50"),
        },
    ];
    alone(|| {
        for Change { name, programs, change } in changes {
            let mut group = Group::form(WAY, &programs);
            let seen = group.observe(name, |group| {
                change(group);
                let took = group.until_on(2);
                assert!(took < WAY.takeover(100) + BUSY, "{name}: {took:?}");
            });
            moved_once(&seen, 1, 2);
        }
    });
}

/// The better comes when the worse is master already.
#[test]
fn who_comes_back_preempts_or_not() {
    struct Return {
        name: &'static str,
        program: Program,
        /// `None`: not before the other ends.
        after: Option<Duration>,
    }
    let at_once = Some(Duration::ZERO);
    let returns = [
        Return { name: "ours", program: ours(150, ""), after: at_once },
        Return { name: "ours, preempt = false", program: ours(150, "preempt = false\n"), after: None },
        Return {
            name: "ours, preempt_delay",
            program: ours(150, "preempt_delay = '1s'\n"),
            after: Some(SECOND),
        },
        Return { name: "theirs", program: theirs(150, ""), after: at_once },
        Return { name: "theirs, nopreempt", program: theirs(150, "nopreempt"), after: None },
        Return {
            name: "theirs, preempt_delay",
            program: theirs(150, "preempt_delay 1"),
            after: Some(SECOND),
        },
    ];
    alone(|| {
        for Return { name, program, after } in returns {
            let other = match program {
                Program::Haclusterd(_) => theirs(100, ""),
                Program::Keepalived(_) => ours(100, ""),
            };
            let mut group = Group::new(WAY, &[other, program]);
            group.start(1);
            group.until_on(1);
            let seen = group.observe(name, |group| {
                group.start(2);
                if let Some(after) = after {
                    let took = group.until_on(2);
                    assert!((after..after + SECOND * 3).contains(&took), "{name}: {took:?}");
                } else {
                    std::thread::sleep(SECOND * 2);
                    group.until_on(1);
                    group.stop(1);
                    group.until_on(2);
                }
            });
            moved_once(&seen, 1, 2);
        }
    });
}
