//! A process that renews is stopped: when does a client get its last answer? The fence's other figures, too.

use super::{EARLY, LEASE, PACE, after, clients, finish, gates, host, index, last_answered, silence, wired};
use crate::client::{EVERYHOW, How};
use haclusterd::engine::time::Instant;
use haclusterd::io::clock;
use haclusterd::io::fence::{Fence, Gate};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

const TALLY: &str = "HACLUSTERD_TEST_TALLY";
const RENEW: Duration = Duration::from_millis(50);

/// Until when the gates are to be open, and until when they are, where another process can read it.
struct Tally(File);

impl Tally {
    fn write(&self, place: u64, until: Instant) {
        self.0.write_all_at(&until.micros().to_ne_bytes(), place * 8).unwrap();
    }

    fn read(&self, place: u64) -> Option<Instant> {
        let mut micros = [0; 8];
        self.0.read_exact_at(&mut micros, place * 8).ok()?;
        Some(Instant::from_micros(u64::from_ne_bytes(micros)))
    }
}

/// No test, but the process that is stopped.
#[test]
#[ignore = "a part of others"]
fn who_renews() {
    let Some(path) = std::env::var_os(TALLY) else { return };
    let tally = Tally(File::options().write(true).open(path).unwrap());
    let mut fence = Fence::start(&[]).unwrap();
    let v0 = index("v0");
    loop {
        let until = clock::now() + LEASE;
        tally.write(0, until);
        let opened = fence.open(&gates(v0, until)).unwrap();
        if opened.closed.is_empty() {
            tally.write(1, until);
        }
        sleep(RENEW);
    }
}

struct Renewing(Child);

impl Renewing {
    fn start(path: &str) -> Renewing {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "stopped::who_renews", "--include-ignored"]);
        Renewing(command.env(TALLY, path).stdout(Stdio::null()).spawn().unwrap())
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    fn stop(&self) {
        kill_process(Pid::from_child(&self.0), Signal::STOP).unwrap();
    }
}

impl Drop for Renewing {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Trial {
    how: How,
    /// In milliseconds after the end of the lease, so below zero.
    last: f64,
    /// From the signal.
    stopped_for: f64,
}

/// `None` if the process was stopped in the middle of a renewal: which lease it was is not known then.
fn trial(number: u64) -> Option<Vec<Trial>> {
    let path = format!("/run/tally-{number}");
    let tally = Tally(File::options().create_new(true).read(true).write(true).open(&path).unwrap());
    let mut renewing = Renewing::start(&path);
    while tally.read(1).is_none() {
        assert!(!renewing.has_ended(), "it does not renew");
        sleep(PACE);
    }
    let clients = clients(PACE);
    sleep(2 * RENEW + Duration::from_micros(fastrand::u64(0..50_000)));
    renewing.stop();
    let signal = clock::now();
    sleep(LEASE + LEASE / 3);
    let until = (tally.read(0).unwrap(), tally.read(1).unwrap());
    let trials = finish(clients).into_iter().map(|(how, asked)| {
        let last = last_answered(&asked).unwrap();
        assert!(last <= until.0, "{how:?} was served {} ms after the end", after(last, until.0));
        assert!(silence(&asked) + EARLY >= until.1, "{how:?} was cut off {} ms early", after(until.1, last));
        Trial { how, last: after(last, until.1), stopped_for: after(last, signal) }
    });
    let trials = trials.collect();
    (until.0 == until.1).then_some(trials)
}

#[test]
fn a_stopped_process_serves_until_its_lease_ends_and_no_longer() {
    wired("stopped::a_stopped_process_serves_until_its_lease_ends_and_no_longer", || async {
        host();
        let trials = (0..5).find_map(trial).expect("one of five stops between two renewals");
        for Trial { how, last, stopped_for } in trials {
            println!("{how:?}: last answer {last:.1} ms after the end, {stopped_for:.1} ms after the signal");
        }
    });
}

fn spread(mut figures: Vec<f64>) -> String {
    figures.sort_by(f64::total_cmp);
    let at = |share: f64| figures[((figures.len() - 1) as f64 * share) as usize];
    format!(
        "min {:.3}, median {:.3}, p99 {:.3}, max {:.3} of {}",
        at(0.0),
        at(0.5),
        at(0.99),
        at(1.0),
        figures.len()
    )
}

#[test]
#[ignore = "a measurement"]
fn precision() {
    let shown = wired("stopped::precision", || async {
        host();
        let trials: Vec<_> = (0..24).filter_map(trial).flatten().collect();
        for how in EVERYHOW {
            let of: Vec<_> = trials.iter().filter(|trial| trial.how == how).collect();
            println!(
                "{how:?}: last answer, ms after the end: {}",
                spread(of.iter().map(|trial| trial.last).collect())
            );
            println!(
                "{how:?}: last answer, ms after SIGSTOP: {}",
                spread(of.iter().map(|trial| trial.stopped_for).collect())
            );
        }
    });
    print!("{shown}");
}

#[test]
#[ignore = "a measurement"]
fn cost() {
    let shown = wired("stopped::cost", || async {
        let v0 = index("v0");
        for (count, pause) in [(1, 0), (24, 0), (1, 10), (24, 10)] {
            let addrs = (0..count).map(|last| IpAddr::from([10, 9, 1, last]));
            let addrs: Vec<_> = addrs.collect();
            let gates = || {
                let until = clock::now() + LEASE;
                addrs.iter().map(|addr| Gate { ifindex: v0, addr: *addr, until }).collect::<Vec<_>>()
            };
            let timed = |work: &mut dyn FnMut()| {
                sleep(Duration::from_millis(pause));
                let start = std::time::Instant::now();
                work();
                start.elapsed().as_secs_f64() * 1e6
            };
            let mut starts = Vec::new();
            let (mut renewals, mut closings) = (Vec::new(), Vec::new());
            for _ in 0..20 {
                let mut fence = None;
                starts.push(timed(&mut || fence = Some(Fence::start(&gates()).unwrap())));
                let mut fence = fence.unwrap();
                for _ in 0..25 {
                    let gates = gates();
                    renewals.push(timed(&mut || drop(fence.open(&gates).unwrap())));
                }
                closings.push(timed(&mut || fence.close(&addrs).unwrap()));
            }
            println!("{count} addresses, {pause} ms between: µs");
            for (what, figures) in [("renewal", renewals), ("start", starts), ("close", closings)] {
                println!("  {what}: {}", spread(figures));
            }
        }
    });
    print!("{shown}");
}
