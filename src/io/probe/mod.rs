//! Checks of this host. A [`Probe`] is asked again and again and says how things are; what follows from that is the
//! engine's business.
//!
//! * [`nginx`]: its master process, its answers, the disk of its logs. `http`, `tcp`, `script`, `process`, `file`,
//!   `interface`, `gateway`: one thing each.
//! * `hand`: a thread for what may hang. `conf`: what `nginx -T` says.

mod conf;
mod file;
mod gateway;
mod hand;
mod http;
mod interface;
mod links;
mod nginx;
mod process;
mod script;
mod tcp;
mod tls;

use crate::config::{Address, Check, Config, Kind, Vip};
use crate::engine::health::{CheckConfig, Outcome};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout_at};

/// Called with every result of the named check's named part; it must not block.
pub type Report = Arc<dyn Fn(&str, &str, Outcome) + Send + Sync>;

/// The next result, when there is one: a probe keeps its own time.
trait Probe: Send + 'static {
    fn next(&mut self) -> impl Future<Output = Outcome> + Send;
}

/// The checks that are running; each ends when it is dropped.
#[derive(Debug, Default)]
pub struct Running {
    tasks: Vec<(Check, JoinSet<()>)>,
}

/// How the engine is to count the results.
#[must_use]
pub fn checks(checks: &[Check]) -> Vec<CheckConfig> {
    let counted = |check: &Check| CheckConfig {
        name: check.name.clone(),
        parts: parts(check).iter().map(|part| (*part).to_owned()).collect(),
        rise: check.counting.rise,
        fall: check.counting.fall,
        weight: check.counting.weight,
        numeric: matches!(check.kind, Kind::File(_)),
        reverse: check.counting.reverse,
        initial: check.counting.initial,
    };
    checks.iter().map(counted).collect()
}

/// What of the check is counted apart.
fn parts(check: &Check) -> &'static [&'static str] {
    match check.kind {
        Kind::Nginx(_) => &nginx::PARTS,
        _ => &[""],
    }
}

impl Running {
    /// What is to run now. A check that is the same as before goes on: it may be in the middle of something.
    /// Must be called inside a tokio runtime.
    pub fn update(&mut self, config: &Config, report: &Report) {
        let vips: Arc<[IpAddr]> = config.all_vips().flat_map(Vip::all).map(Address::ip).collect();
        let mut old = std::mem::take(&mut self.tasks);
        for check in &config.checks {
            let same = old.iter().position(|(known, _)| known == check);
            let known = same.map(|at| old.swap_remove(at));
            self.tasks.push(known.unwrap_or_else(|| (check.clone(), begin(check, &vips, report))));
        }
    }
}

fn begin(check: &Check, vips: &Arc<[IpAddr]>, report: &Report) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (name, report) = (check.name.clone(), report.clone());
    let tell = move |part: &str, outcome| report(&name, part, outcome);
    match check.kind.clone() {
        Kind::Nginx(nginx) => {
            tasks.spawn(nginx::watch(check.clone(), *nginx, vips.clone(), Arc::new(tell)));
        }
        Kind::Http(http) => spawn(&mut tasks, http::Probe::new(check, http), tell),
        Kind::Tcp(address) => spawn(&mut tasks, tcp::Probe::new(check, address), tell),
        Kind::Script(script) => spawn(&mut tasks, script::Probe::new(check, script), tell),
        Kind::Process(process) => spawn(&mut tasks, process::Probe::new(check, process), tell),
        Kind::File(path) => spawn(&mut tasks, file::Probe::new(check, path), tell),
        Kind::Interface(name) => spawn(&mut tasks, interface::Probe::new(check, name), tell),
        Kind::Gateway(gateway) => spawn(&mut tasks, gateway::Probe::new(check, gateway), tell),
    }
    tasks
}

fn spawn(tasks: &mut JoinSet<()>, mut probe: impl Probe, tell: impl Fn(&str, Outcome) + Send + 'static) {
    tasks.spawn(async move {
        loop {
            let outcome = probe.next().await;
            tell("", outcome);
        }
    });
}

/// A slow run neither shifts the schedule nor is made up for.
fn schedule(check: &Check) -> Interval {
    let mut schedule = interval(check.interval);
    schedule.set_missed_tick_behavior(MissedTickBehavior::Skip);
    schedule
}

/// The first result of one part of a check.
#[derive(Debug)]
pub struct First {
    pub check: String,
    pub part: String,
    /// `None`: not within `patience`.
    pub outcome: Option<Outcome>,
    pub took: Duration,
}

/// Runs every check once. Must be called inside a tokio runtime.
pub async fn once(config: &Config, patience: Duration) -> Vec<First> {
    let (send, mut results) = mpsc::unbounded_channel();
    let began = Instant::now();
    let report: Report = Arc::new(move |check: &str, part: &str, outcome| {
        let _ = send.send((check.to_owned(), part.to_owned(), outcome, began.elapsed()));
    });
    let mut running = Running::default();
    running.update(config, &report);
    let first = |check: &Check, part: &&str| First {
        check: check.name.clone(),
        part: (*part).to_owned(),
        outcome: None,
        took: patience,
    };
    let mut all: Vec<First> = config
        .checks
        .iter()
        .flat_map(|check| parts(check).iter().map(move |part| first(check, part)))
        .collect();
    while all.iter().any(|first| first.outcome.is_none()) {
        let Ok(Some((check, part, outcome, took))) = timeout_at(began + patience, results.recv()).await
        else {
            break;
        };
        let waits =
            |first: &&mut First| first.check == check && first.part == part && first.outcome.is_none();
        if let Some(first) = all.iter_mut().find(waits) {
            (first.outcome, first.took) = (Some(outcome), took);
        }
    }
    all
}
