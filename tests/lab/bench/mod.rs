//! The same faults on haclusterd and on keepalived, in one run: `make bench`.
//!
//! `BENCH_ROUNDS` (20) of each fault; `BENCH_SYSTEM` and `BENCH_FAULT`: only those whose names contain it.
//!
//! Each system has three hosts of its own in a process of its own. Faults come at different times between two adverts,
//! always to the host that has the VIP. A client asks the VIP each millisecond over a new connection; the switch asks
//! all hosts each 5 ms, past all cuts, who has it.

mod course;
mod fault;
mod growth;
mod load;
mod scale;
mod system;
mod table;

use crate::client::{self, Asked};
use crate::nemesis::wire::{self, Sight, Wire};
use crate::net::CLIENT;
use crate::rival::VIP;
use crate::{PROCESSES, netns};
use fault::{FAULTS, Fault};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};
use system::{HOSTS, KINDS, Kind, System};

const NAME: &str = "bench::failover";
/// The process's part: which system, and how many rounds.
const PART: &str = "BENCH_PART";
const ROUNDS: u32 = 20;
const MARK: &str = "RUN ";
/// A thousand requests a second.
const PACE: Duration = Duration::from_millis(1);
/// What a client sees before a fault, and after another host has the VIP.
const AROUND: Duration = Duration::from_millis(80);
/// An answer that takes longer was waited for.
const DELAYED: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(20);
/// So many systems whose figures are seconds run at once, each some of the rounds: together they keep no processor busy.
const AT_ONCE: u32 = 5;

/// What came of a fault.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Run {
    system: String,
    fault: String,
    gap_us: u64,
    failed: usize,
    delayed: usize,
    /// For how long two hosts answered for the VIP.
    two_us: u64,
    /// They still do when the host is made whole again.
    for_good: bool,
}

#[test]
#[ignore = "takes minutes and needs keepalived: make bench"]
fn failover() {
    if netns::is_inside() {
        let part = std::env::var(PART).unwrap();
        let [kind, rounds] = part.split(' ').map(|text| text.parse().unwrap()).collect::<Vec<u32>>()[..]
        else {
            panic!("{PART}={part}");
        };
        return part_of(&KINDS[kind as usize], rounds);
    }
    let rounds = std::env::var("BENCH_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut runs = Vec::new();
    for (kind, index) in KINDS.iter().zip(0..).filter(|(kind, _)| is_wanted("BENCH_SYSTEM", kind.name)) {
        let processes = if kind.advert < Duration::from_secs(1) { 1 } else { AT_ONCE.min(rounds) };
        let parts: Vec<Child> = (0..processes).map(|_| begin(index, rounds / processes)).collect();
        parts.into_iter().for_each(|part| runs.extend(end(part)));
        println!("{}: done", kind.name);
    }
    table::write(&runs, rounds);
}

fn is_wanted(variable: &str, name: &str) -> bool {
    std::env::var(variable).map_or(true, |part| name.contains(&part))
}

fn begin(kind: u32, rounds: u32) -> Child {
    let mut command = netns::again(NAME, &PROCESSES);
    command.env(PART, format!("{kind} {rounds}")).stdout(Stdio::piped());
    command.spawn().expect("unshare (util-linux) runs")
}

fn end(mut part: Child) -> Vec<Run> {
    let mut runs = Vec::new();
    for line in BufReader::new(part.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        match line.strip_prefix(MARK) {
            Some(run) => runs.push(serde_json::from_str(run).unwrap()),
            None => println!("{line}"),
        }
    }
    assert!(part.wait().unwrap().success(), "see above");
    runs
}

/// All faults on one system.
fn part_of(kind: &Kind, rounds: u32) {
    println!();
    for two_paths in [false, true] {
        let faults: Vec<&Fault> = FAULTS
            .iter()
            .filter(|fault| fault.two_paths == two_paths && is_wanted("BENCH_FAULT", fault.name))
            .collect();
        if faults.is_empty() {
            continue;
        }
        let mut system = kind.form(two_paths);
        let IpAddr::V4(vip) = VIP else { unreachable!() };
        let wire = Wire::new(system.net(), HOSTS, vip);
        let mut seen = Vec::new();
        for fault in faults {
            for round in 0..rounds {
                let owner = settled(system.as_ref(), &wire);
                sleep(kind.advert * round / rounds);
                seen.push((fault, strike(kind, fault, system.as_mut(), &wire, owner)));
            }
        }
        let (questions, sights, lost) = wire.end();
        assert_eq!(lost, 0, "frames were not seen");
        for (fault, course) in seen {
            let run = course.judge(kind, fault, &questions, &sights);
            println!("{MARK}{}", serde_json::to_string(&run).unwrap());
        }
    }
}

/// One host has the VIP, and all are there; which has it.
fn settled(system: &dyn System, wire: &Wire) -> usize {
    let limit = Instant::now() + LIMIT;
    loop {
        sleep(AROUND);
        if let [owner] = wire.owners_since(Instant::now() - AROUND)[..]
            && system.is_whole()
        {
            return owner;
        }
        assert!(Instant::now() < limit, "the VIP has not one owner within {LIMIT:?}");
    }
}

/// What was seen, from the fault until the host is made whole.
struct Course {
    asked: Vec<Asked>,
    struck: Instant,
    ended: Instant,
}

fn strike(kind: &Kind, fault: &Fault, system: &mut dyn System, wire: &Wire, owner: usize) -> Course {
    let stop: Arc<AtomicBool> = Arc::default();
    let (own, web) = (stop.clone(), SocketAddr::new(VIP, 80));
    let client = system.net().inside(CLIENT, move || client::ask_until(&own, web, PACE));
    sleep(AROUND);
    let struck = Instant::now();
    (fault.strike)(system, owner);
    let limit = struck + kind.patience;
    while Instant::now() < limit && wire.owners_since(struck).iter().all(|host| *host == owner) {
        sleep(PACE);
    }
    sleep(AROUND);
    stop.store(true, Ordering::Relaxed);
    let ended = Instant::now();
    (fault.back)(system, owner);
    Course { asked: client.join().unwrap(), struck, ended }
}

impl Course {
    fn judge(&self, kind: &Kind, fault: &Fault, questions: &[Instant], sights: &[Sight]) -> Run {
        let report = client::report(&self.asked);
        let slow = |asked: &&Asked| asked.answer.is_ok() && asked.done - asked.sent > DELAYED;
        let doubles = self.doubles(questions, sights);
        let two = doubles.first().zip(doubles.last()).map_or(Duration::ZERO, |(first, last)| *last - *first);
        Run {
            system: kind.name.to_owned(),
            fault: fault.name.to_owned(),
            gap_us: micros(report.gap),
            failed: report.failed,
            delayed: self.asked.iter().filter(slow).count(),
            two_us: micros(two),
            for_good: doubles.last().is_some_and(|last| self.ended - *last < wire::PACE * 4),
        }
    }

    /// When a question was asked that two hosts answered.
    fn doubles(&self, questions: &[Instant], sights: &[Sight]) -> Vec<Instant> {
        let mut hosts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for sight in sights.iter().filter(|sight| self.struck <= sight.at && sight.at <= self.ended) {
            if let Some(question) = sight.question {
                hosts.entry(question).or_default().push(sight.host);
            }
        }
        let two = hosts.into_iter().filter(|(_, hosts)| hosts.iter().any(|host| *host != hosts[0]));
        two.map(|(question, _)| questions[question]).collect()
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
