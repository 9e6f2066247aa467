//! The same faults of nginx and its host on different systems, one table: `make lab-nginx`.
//!
//!     nginx killed           | keepalived, kill -0  | gap  7110  8450  7779 ms | lb2 after  7112  8451  7781 ms | moves, lb2 answers
//!
//! *gap* is the longest time without an answer, in each of the rounds; *lb2 after* the time from the fault until the second
//! host answers; after it, where the VIP and the clients are then, or at the limit.

use crate::alone_and_aloud;
use crate::health;
use crate::lab::{self, Lab, note_line};
use crate::net::Net;
use crate::nginx::{Nginx, Options};
use crate::rival::{Check, Rival, VIP};
use rustix::process::Signal;
use serde_json::json;
use std::thread::sleep;
use std::time::{Duration, Instant};

const HOSTS: [usize; 3] = [1, 2, 3];
const ROUNDS: u32 = 3;
/// Within this the second host answers, or never.
const LIMIT: Duration = Duration::from_secs(15);
/// A check comes every so often: the rounds begin at different times between two.
const CHECKS: Duration = Duration::from_secs(2);

/// Three hosts with nginx; the first is to have the VIP as long as it can.
trait System {
    fn net(&self) -> Net;
    fn nginx(&mut self, host: usize) -> &mut Nginx;
    fn kill_daemon(&mut self, host: usize);
}

type Form = fn(Options) -> Box<dyn System>;

const SYSTEMS: [(&str, Form); 3] = [
    ("haclusterd", |options| Box::new(ours(options))),
    ("keepalived, kill -0", |options| Box::new(Rival::start(Check::Process, options))),
    ("keepalived, curl", |options| Box::new(Rival::start(Check::Http, options))),
];

impl System for Rival {
    fn net(&self) -> Net {
        self.net
    }

    fn nginx(&mut self, host: usize) -> &mut Nginx {
        &mut self.host(host).nginx
    }

    fn kill_daemon(&mut self, host: usize) {
        self.host(host).kill_keepalived();
    }
}

/// With what `haclusterd init` writes, but for the room that so small a disk has.
fn ours(options: Options) -> Lab {
    Lab::form_of(&["member"; 3], "10.0.0.100/24", |node| {
        node.nginx.set(options);
        if options.disk {
            node.check = health::ROOM.to_owned();
        }
    })
}

impl System for Lab {
    fn net(&self) -> Net {
        self.net
    }

    fn nginx(&mut self, host: usize) -> &mut Nginx {
        &mut self.node(host).nginx
    }

    fn kill_daemon(&mut self, host: usize) {
        self.node(host).kill();
    }
}

struct Fault {
    name: &'static str,
    options: Options,
    strike: fn(&mut dyn System),
}

fn faults() -> [Fault; 5] {
    let usual = Options::default();
    [
        Fault { name: "nginx killed", options: usual, strike: |system| system.nginx(1).kill() },
        Fault {
            name: "workers hang",
            options: usual,
            strike: |system| system.nginx(1).signal_workers(Signal::STOP),
        },
        Fault {
            name: "disk of the logs full",
            options: Options { disk: true, ..usual },
            strike: |system| system.nginx(1).disk().fill(),
        },
        Fault { name: "host powered off", options: usual, strike: power_off },
        Fault {
            name: "connections used up",
            options: Options { connections: 32, ..usual },
            strike: |system| system.nginx(1).saturate(),
        },
    ]
}

/// Nobody hears its last words.
fn power_off(system: &mut dyn System) {
    system.net().cut(1);
    system.kill_daemon(1);
    system.nginx(1).kill();
}

/// What became of a fault.
struct Outcome {
    gap: Duration,
    /// From the fault until the second host answers. `None`: never.
    moved: Option<Duration>,
    end: String,
}

#[test]
#[ignore = "takes minutes and needs keepalived: make lab-nginx"]
fn nginx_faults_beside_keepalived() {
    alone_and_aloud(|| {
        println!();
        for fault in faults() {
            for (name, form) in SYSTEMS {
                let outcomes: Vec<Outcome> = (0..ROUNDS).map(|round| run(&fault, form, round)).collect();
                report(fault.name, name, &outcomes);
            }
        }
    });
}

fn run(fault: &Fault, form: Form, round: u32) -> Outcome {
    let mut system = form(fault.options);
    let net = system.net();
    assert!(answers_soon(net, "lb1"), "the first host never got the VIP");
    sleep(CHECKS + CHECKS * round / ROUNDS);
    let (mut end, mut struck) = (None, Instant::now());
    let seen = lab::behold(net, &HOSTS, &[VIP], || {
        struck = Instant::now();
        (fault.strike)(system.as_mut());
        answers_soon(net, "lb2");
        // The client hears of it too.
        sleep(Duration::from_millis(100));
        end = lab::who_answers(net, VIP);
    });
    let end = end.as_deref().unwrap_or("nobody");
    let stays = if seen.holding.order == [1] { "stays" } else { "moves" };
    let client = &seen.clients[0];
    let other = client.answered.iter().position(|host| host == "lb2");
    let moved = other.map(|at| client.since[at].saturating_duration_since(struck));
    Outcome { gap: seen.gap(), moved, end: format!("{stays}, {end} answers") }
}

/// Does the host answer for the VIP, before the limit?
fn answers_soon(net: Net, host: &str) -> bool {
    let until = Instant::now() + LIMIT;
    while Instant::now() < until {
        if lab::who_answers(net, VIP).is_some_and(|who| who == host) {
            return true;
        }
        sleep(Duration::from_millis(50));
    }
    false
}

fn report(case: &str, system: &str, outcomes: &[Outcome]) {
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let gaps: Vec<u64> = outcomes.iter().map(|outcome| ms(outcome.gap)).collect();
    let moved: Vec<Option<u64>> = outcomes.iter().map(|outcome| outcome.moved.map(ms)).collect();
    let figures = |all: Vec<Option<u64>>| {
        let one = |ms: Option<u64>| format!("{:>5}", ms.map_or("-".to_owned(), |ms| ms.to_string()));
        all.into_iter().map(one).collect::<Vec<_>>().join(" ")
    };
    let mut ends: Vec<&str> = outcomes.iter().map(|outcome| outcome.end.as_str()).collect();
    ends.dedup();
    println!(
        "{case:<22} | {system:<20} | gap {} ms | lb2 after {} ms | {}",
        figures(gaps.iter().copied().map(Some).collect()),
        figures(moved.clone()),
        ends.join("; ")
    );
    note_line(&json!({ "case": case, "system": system, "gaps_ms": gaps, "moved_ms": moved, "ends": ends }));
}
