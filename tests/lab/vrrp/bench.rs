//! The same virtual routers with haclusterd and with keepalived, side by side: `make lab-vrrp`.

use super::adverts::{self, Jitter};
use super::group::{Group, Program};
use super::way::{SECOND, V3, Way};
use crate::alone_and_aloud;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

/// A program with this priority.
type Make = fn(Way, u8, &str) -> Program;

const PROGRAMS: [(&str, Make); 2] = [("haclusterd", Program::ours), ("keepalived", Program::theirs)];
const ROUNDS: u32 = 3;
const BACKUP: u8 = 100;
const ROUTERS: u8 = 255;

fn every(millis: u64) -> Way {
    Way { advert: Duration::from_millis(millis), ..V3 }
}

#[test]
#[ignore = "takes minutes and needs a machine that does nothing else: make lab-vrrp"]
fn takeover() {
    alone_and_aloud(|| {
        println!("\n| advert | fault | RFC 9568, ms | haclusterd, gap in ms | keepalived, gap in ms |");
        println!("|---|---|---|---|---|");
        for way in [1000, 100, 10].map(every) {
            for fault in FAULTS {
                let gaps = PROGRAMS.map(|(name, make)| gaps(way, make, name, fault));
                let [ours, theirs] = gaps.map(|gaps| gaps.join(" "));
                println!(
                    "| {:?} | {} | {} | {ours} | {theirs} |",
                    way.advert,
                    fault.name,
                    formula(way, fault)
                );
            }
        }
    });
}

#[derive(Clone, Copy)]
struct Fault {
    name: &'static str,
    crash: bool,
    strike: fn(&mut Group),
    back: fn(&mut Group),
}

const FAULTS: [Fault; 2] = [
    Fault { name: "crash", crash: true, strike: |group| group.power_off(1), back: |group| group.power_on(1) },
    Fault { name: "stop", crash: false, strike: |group| group.stop(1), back: |group| group.start(1) },
];

/// The last advert of one that crashes is up to an interval old.
fn formula(way: Way, fault: Fault) -> String {
    let skew = way.skew(BACKUP);
    if fault.crash {
        format!("{} to {}", (way.advert * 2 + skew).as_millis(), (way.advert * 3 + skew).as_millis())
    } else {
        skew.as_millis().to_string()
    }
}

fn gaps(way: Way, make: Make, program: &str, fault: Fault) -> Vec<String> {
    let case = format!("{program}, {}", fault.name);
    let mut group = Group::form(way, &[make(way, 150, ""), make(way, BACKUP, "")]);
    let round = |round| {
        sleep(way.advert * 3 + way.advert * round / ROUNDS);
        let seen = group.observe(&case, |group| {
            (fault.strike)(group);
            group.until_on(2);
        });
        if seen.holding.order.len() != 2 {
            println!("{case}: the address went {:?}", seen.holding.order);
        }
        (fault.back)(&mut group);
        group.until_on(1);
        seen.gap().as_millis().to_string()
    };
    (0..ROUNDS).map(round).collect()
}

/// Both at once, each the only one of its virtual router, while all processors are busy.
#[test]
#[ignore = "takes minutes and needs a machine that does nothing else: make lab-vrrp"]
fn jitter() {
    alone_and_aloud(|| {
        let way = every(100);
        let minutes: f64 = std::env::var("VRRP_MINUTES").map_or(1.0, |text| text.parse().unwrap());
        let numbered = PROGRAMS.iter().zip(1..).map(|((_, make), vrid)| make(way, 150, "").numbered(vrid));
        let mut group = Group::new(way, &numbered.collect::<Vec<_>>());
        (1..=PROGRAMS.len()).for_each(|host| group.start(host));
        sleep(SECOND * 3);
        let _busy = Busy::begin();
        let heard = adverts::listen(group.net, Duration::from_secs_f64(minutes * 60.0));
        println!("\n| advert 100 ms, processors busy | {} |\n|---|---|---|---|---|---|---|", Jitter::COLUMNS);
        for ((name, _), vrid) in PROGRAMS.iter().zip(1..) {
            println!("| {name} | {} |", Jitter::of(heard.get(&vrid).into_iter(), way.advert).row());
        }
    });
}

#[test]
#[ignore = "takes minutes and needs a machine that does nothing else: make lab-vrrp"]
fn many() {
    alone_and_aloud(|| {
        let way = every(1000);
        println!(
            "\n| {ROUTERS} virtual routers, advert 1 s | masters | CPU seconds a second | {} |",
            Jitter::COLUMNS
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        for (name, make) in PROGRAMS {
            let all = Program::joined((1..=ROUTERS).map(|number| make(way, 150, "").numbered(number)));
            let mut group = Group::new(way, &[all]);
            group.start(1);
            // To be master of all, and to have announced all of it, also a second time.
            sleep(SECOND * 15);
            let (span, before) = (SECOND * 20, group.cpu(1));
            let heard = adverts::listen(group.net, span);
            let cpu = (group.cpu(1) - before).as_secs_f64() / span.as_secs_f64();
            println!(
                "| {name} | {} | {cpu:.4} | {} |",
                heard.len(),
                Jitter::of(heard.values(), way.advert).row()
            );
        }
    });
}

/// A process for each processor that does nothing else.
struct Busy(Vec<Child>);

impl Busy {
    fn begin() -> Busy {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        let spin = |_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        Busy((0..processors).map(spin).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
