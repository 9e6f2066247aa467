//! Random faults for a time, and what must hold whatever happens: never two owners, rising terms, and an owner soon
//! after there can be one. `make lab-nemesis`; how to read it stands in tests/README.md.

mod checker;
pub mod clocks;
mod faults;
mod journal;
pub mod packet;
mod plan;
pub mod question;
mod report;
pub mod wire;

use crate::alone_and_aloud;
use crate::client::{self, Asked};
use crate::lab::Lab;
use crate::net::CLIENT;
use crate::watch::Watch;
use faults::Faults;
use journal::{Journal, Line};
use plan::{Plan, Round};
use report::Report;
use serde_json::Value;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};
use wire::{Sight, Wire};

const VIP: &str = "10.0.0.100/24";
const MEMBERS: [&str; 5] = ["member"; 5];
/// In `make test`; most kinds of faults come once.
const SECONDS: u64 = 50;
/// What is seen of the time before the first fault and after the last.
const AROUND: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
pub struct Options {
    seconds: u64,
    seed: u64,
    nodes: usize,
    /// No faults, but this all the time.
    quiet: Option<Quiet>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quiet {
    Loss(u8),
    Load,
}

/// A round that has begun.
#[derive(Debug)]
pub struct Begun {
    at: Instant,
    kinds: Vec<plan::Kind>,
}

/// All that was seen of a run, in order of time.
pub struct Seen {
    began: Instant,
    ended: Instant,
    rounds: Vec<Begun>,
    could: Vec<(Instant, bool)>,
    daemons_ended: Vec<Instant>,
    questions: Vec<Instant>,
    sights: Vec<Sight>,
    /// Frames that were lost before they could be seen.
    unheard: u32,
    asked: Vec<Asked>,
    gained: Vec<(Instant, usize)>,
    lines: Vec<Line>,
    /// What went wrong while the faults were done.
    wrong: Option<String>,
}

#[test]
fn no_course_of_faults_gives_the_vip_two_owners() {
    alone_and_aloud(|| {
        let options = Options::read();
        println!("\nnemesis: {}", options.text());
        let seen = run(&options);
        let report = Report::of(&options, &seen);
        report.note();
        println!("{report}");
        assert!(report.failures.is_empty(), "{}\n{}", options.text(), report.failures.join("\n"));
    });
}

impl Options {
    fn read() -> Options {
        let number = |name| std::env::var(name).ok().map(|text| text.parse().expect(name));
        let quiet = std::env::var("NEMESIS_QUIET").ok().map(|text| match text.as_str() {
            "loss5" => Quiet::Loss(5),
            "loss20" => Quiet::Loss(20),
            "load" => Quiet::Load,
            other => panic!("NEMESIS_QUIET={other}: write loss5, loss20 or load"),
        });
        let nodes = number("NEMESIS_NODES").unwrap_or(3);
        assert!((3..=5).contains(&nodes), "NEMESIS_NODES={nodes}: write 3, 4 or 5");
        Options {
            seconds: number("NEMESIS_SECONDS").unwrap_or(SECONDS),
            seed: number("NEMESIS_SEED").unwrap_or_else(|| fastrand::u64(0..1_000_000)),
            nodes: nodes as usize,
            quiet,
        }
    }

    /// What runs it again.
    fn text(&self) -> String {
        let quiet = match self.quiet {
            None => String::new(),
            Some(Quiet::Loss(percent)) => format!(" NEMESIS_QUIET=loss{percent}"),
            Some(Quiet::Load) => " NEMESIS_QUIET=load".to_owned(),
        };
        let Options { seconds, seed, nodes, .. } = self;
        format!("NEMESIS_SECONDS={seconds} NEMESIS_SEED={seed} NEMESIS_NODES={nodes}{quiet} make lab-nemesis")
    }
}

/// The cluster under faults and under observation.
fn run(options: &Options) -> Seen {
    let mut lab = Lab::form_of(&MEMBERS[..options.nodes], VIP, clocks::give);
    let IpAddr::V4(vip) = lab.vip[0] else { unreachable!() };
    let hosts: Vec<usize> = (1..=options.nodes).collect();
    let net = lab.net;
    let watch = Watch::new(net, &hosts, &lab.vip);
    let journal = Journal::new(lab.nodes.iter().map(|node| node.log_file()).collect());
    let wire = Wire::new(net, options.nodes, vip);
    let stop: Arc<AtomicBool> = Arc::default();
    let end = stop.clone();
    let client = net.inside(CLIENT, move || client::ask_until(&end, (vip, 80).into(), client::PACE));
    sleep(AROUND);
    assert_eq!(wire.owner(), 1, "the switch hears who answers");

    let began = Instant::now();
    let mut course = Course { faults: Faults::new(&mut lab), wire: &wire, began, rounds: Vec::new() };
    // Whatever goes wrong, what was seen until then is told.
    let done = catch_unwind(AssertUnwindSafe(|| match options.quiet {
        None => course.suffer(options),
        Some(quiet) => course.wait(options, quiet),
    }));
    let Course { faults, rounds, .. } = course;
    let (could, daemons_ended) = (faults.could, faults.ended);
    let wrong = done.err().map(|panic| {
        panic.downcast_ref::<String>().map_or("the course ended by a panic", String::as_str).to_owned()
    });
    let ended = Instant::now();
    stop.store(true, Ordering::Relaxed);
    let asked = client.join().unwrap();
    let (questions, sights, unheard) = wire.end();
    let (_, changes) = watch.finish(net);
    let gained = changes.iter().filter(|change| change.has).map(|change| (change.at, change.host)).collect();
    let lines = journal.end();
    Seen {
        began,
        ended,
        rounds,
        could,
        daemons_ended,
        questions,
        sights,
        unheard,
        asked,
        gained,
        lines,
        wrong,
    }
}

struct Course<'a> {
    faults: Faults<'a>,
    wire: &'a Wire,
    began: Instant,
    rounds: Vec<Begun>,
}

/// A step of a round, in the order of its time.
enum Step {
    Inject(usize),
    Heal(usize),
}

impl Course<'_> {
    fn say(&self, text: &str) {
        println!("{:>8.3} s  {text}", self.began.elapsed().as_secs_f64());
    }

    fn suffer(&mut self, options: &Options) {
        let end = self.began + Duration::from_secs(options.seconds);
        let mut rounds = Plan::new(options.seed, options.nodes);
        while Instant::now() < end
            && let Some(round) = rounds.next()
        {
            self.go_through(&round);
            sleep(round.rest);
            let ended = self.faults.who_ended();
            assert!(ended.is_empty(), "the daemons of {ended:?} have ended by themselves");
            if round.calm {
                self.calm();
            }
        }
        self.faults.heal_all();
        self.calm();
        sleep(AROUND);
    }

    fn go_through(&mut self, round: &Round) {
        let begin = Instant::now();
        self.rounds.push(Begun { at: begin, kinds: round.faults.iter().map(|fault| fault.kind).collect() });
        let injections = round.faults.iter().enumerate().map(|(id, fault)| (fault.after, Step::Inject(id)));
        let heals =
            round.faults.iter().enumerate().map(|(id, fault)| (fault.after + fault.lasts, Step::Heal(id)));
        let mut steps: Vec<(Duration, Step)> = injections.chain(heals).collect();
        // Stable: what is healed at once is injected before.
        steps.sort_by_key(|(at, _)| *at);
        for (at, step) in steps {
            sleep((begin + at).saturating_duration_since(Instant::now()));
            match step {
                Step::Inject(id) => {
                    let fault = &round.faults[id];
                    let owner = self.wire.owner().max(1);
                    let host = self.faults.inject(id, fault.kind, fault.target, owner);
                    let (name, lasts) = (fault.kind.name(), fault.lasts.as_millis());
                    let met = match host == owner {
                        _ if fault.kind.meets_all() => String::new(),
                        true => format!(": lb{host}, the owner"),
                        false => format!(": lb{host}"),
                    };
                    self.say(&format!("{name} for {lasts} ms{met}"));
                }
                Step::Heal(id) => self.faults.heal(id),
            }
        }
    }

    /// Somebody owns the VIP soon after all is well, and all know who. Not the best-ranked, if it failed again and again.
    fn calm(&mut self) {
        let since = Instant::now();
        self.faults.lab.until("all agree on who owns the VIP", |lab| {
            let views: Vec<Value> = (1..=lab.nodes.len()).map(|host| lab.vip(host)).collect();
            let mine = views.iter().filter(|vip| vip["mine"] == true && vip["state"] == "active").count();
            mine == 1 && views.iter().all(|vip| vip["owner"] == views[0]["owner"])
        });
        self.say(&format!("all is well after {} ms", since.elapsed().as_millis()));
    }

    /// No faults, but a poor network or a busy machine.
    fn wait(&mut self, options: &Options, quiet: Quiet) {
        let over: Arc<AtomicBool> = Arc::default();
        match quiet {
            Quiet::Load => faults::keep_busy(&over),
            Quiet::Loss(percent) => {
                let rule = format!("numgen random mod 100 < {percent} drop");
                self.faults.lab.net.obstruct("quiet", "forward", &rule);
            }
        }
        sleep(Duration::from_secs(options.seconds));
        over.store(true, Ordering::Relaxed);
    }
}
