//! One nginx under one name, in three parts that are counted apart: its master process, its answers, and the disk of
//! its logs.
//!
//! What the operator did not say is asked of nginx itself (`conf`), and asked again whenever its workers have been
//! replaced, for then its configuration may have been.
//!
//! * `master`: the process. `revive`: one attempt to bring it back.
//! * `running`: how it was started.
//! * `limit`: tells an nginx at its limit from one that hangs. `logs`: the disk.

mod limit;
mod logs;
pub(super) mod master;
mod plan;
mod revive;
mod running;

use super::hand::{Answer, Hand};
use super::http::{Client, Failure, Kind};
use super::{conf, schedule};
use crate::config::{Check, Nginx};
use crate::engine::health::Outcome;
use limit::Limits;
use master::{Master, News, Source};
use plan::Plan;
use revive::Reviver;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(super) const PARTS: [&str; 3] = [PROCESS, HTTP, LOGS];
const PROCESS: &str = "process";
const HTTP: &str = "http";
const LOGS: &str = "logs";

/// For nginx to read its configuration and say what is in it.
const READING: Duration = Duration::from_secs(3);
/// Between two looks whether its workers are still the same, and between two attempts to hear what it has to say.
const LOOK: Duration = Duration::from_millis(250);
const AGAIN: Duration = Duration::from_secs(2);

type Tell = Arc<dyn Fn(&str, Outcome) + Send + Sync>;

/// Until it is dropped.
pub(super) async fn watch(check: Check, nginx: Nginx, vips: Arc<[IpAddr]>, tell: Tell) {
    let mut eyes = Eyes::open();
    let (mut master, mut found) = eyes.ask(&nginx).await;
    loop {
        let plan = Plan::new(&nginx, master, found.as_ref(), &vips);
        let _parts = begin(&check, &nginx, &plan, &tell);
        (master, found) = loop {
            match &found {
                Ok(_) => eyes.replaced(&plan.limits.master).await,
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
            let next = eyes.ask(&nginx).await;
            // A configuration that is broken now is not the one that nginx runs by.
            let news = next.1.is_ok() || found.is_err();
            if news && Plan::new(&nginx, next.0, next.1.as_ref(), &vips) != plan {
                break next;
            }
        };
    }
}

/// What is read of other processes may hang, as `ps` does: a thread reads it.
struct Eyes {
    runs: Hand<Option<PathBuf>, running::Runs>,
    workers: Hand<Source, Vec<u32>>,
}

impl Eyes {
    fn open() -> Eyes {
        let runs = |pid_file: Option<PathBuf>, answer: &Answer<_>| {
            let _ = answer.send(running::find(pid_file.as_deref()));
        };
        let workers = |master: Source, answer: &Answer<_>| drop(answer.send(limit::worker_pids(&master)));
        Eyes { runs: Hand::new("nginx title", runs), workers: Hand::new("nginx workers", workers) }
    }

    /// The master that runs, and what it says of its configuration. Only while it runs: to say that, nginx opens all that
    /// it names, and what it listens on is taken for that moment if nobody has it.
    async fn ask(&mut self, nginx: &Nginx) -> (Option<u32>, Result<conf::Found, String>) {
        let runs = self.runs.run(nginx.pid_file.clone(), LOOK * 4).await;
        match runs.unwrap_or_else(|stuck| Err(stuck.say("its process cannot be looked at: it hangs"))) {
            Ok((pid, command)) => {
                (Some(pid), conf::find(nginx.command.as_ref().unwrap_or(&command), READING).await)
            }
            Err(reason) => (None, Err(reason)),
        }
    }

    /// Returns when there is a worker that was not there before, or none for a while.
    async fn replaced(&mut self, master: &Source) {
        let mut known: Option<Vec<u32>> = None;
        let mut without = Duration::ZERO;
        while without < AGAIN {
            let now = self.workers.run(master.clone(), LOOK * 4).await.unwrap_or_default();
            without = if now.is_empty() { without + LOOK } else { Duration::ZERO };
            match &known {
                Some(known) if now.iter().any(|pid| !known.contains(pid)) => return,
                None if !now.is_empty() => known = Some(now),
                _ => {}
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn begin(check: &Check, nginx: &Nginx, plan: &Plan, tell: &Tell) -> JoinSet<()> {
    let mut parts = JoinSet::new();
    // True while an attempt is made to bring nginx back: what it answers meanwhile does not count.
    let (reviving, revival) = watch::channel(false);
    let client = plan.request.clone().map(|request| Arc::new(Client::new(request)));
    let process = Process {
        master: Master::new(plan.limits.master.clone()),
        reviver: nginx.restart.as_ref().map(|restart| Reviver::new(&check.name, restart)),
        client: client.clone(),
        reviving,
        tell: tell.clone(),
    };
    parts.spawn(process.run());
    match client {
        Some(client) => {
            let stub = plan.stub_status.clone().map(Client::new);
            let limits = Watched::new(plan.limits.clone());
            let connections = plan.limits.worker_connections.into();
            let (check, tell) = (check.clone(), tell.clone());
            parts.spawn(Http { client, stub, limits, connections, revival, check, tell }.run());
        }
        None => tell(HTTP, Outcome::Warn(plan.unasked.clone())),
    }
    match plan.logs.dirs.is_empty() && plan.logs.mounts.is_empty() {
        true => tell(LOGS, Outcome::Pass),
        false => drop(parts.spawn(watch_logs(check.clone(), plan.logs.clone(), tell.clone()))),
    }
    parts
}

struct Process {
    master: Master,
    reviver: Option<Reviver>,
    client: Option<Arc<Client>>,
    reviving: watch::Sender<bool>,
    tell: Tell,
}

impl Process {
    async fn run(mut self) {
        loop {
            let outcome = match self.master.news().await {
                News::Runs => Outcome::Pass,
                News::Absent(reason) => Outcome::Certain(reason),
                News::Died(reason) => self.revive(reason).await,
            };
            (self.tell)(PROCESS, outcome);
        }
    }

    async fn revive(&mut self, died: String) -> Outcome {
        let Some(reviver) = self.reviver.as_mut().filter(|reviver| reviver.may_try()) else {
            return Outcome::Certain(died);
        };
        self.reviving.send_replace(true);
        (self.tell)(PROCESS, Outcome::Warn(format!("{died}; it is being restarted")));
        let revived = reviver.attempt(&mut self.master, self.client.as_deref()).await;
        self.reviving.send_replace(false);
        match revived {
            Ok(()) => Outcome::Pass,
            Err(reason) => Outcome::Certain(format!("{died}; {reason}")),
        }
    }
}

struct Http {
    client: Arc<Client>,
    stub: Option<Client>,
    limits: Watched,
    connections: u64,
    revival: watch::Receiver<bool>,
    check: Check,
    tell: Tell,
}

impl Http {
    async fn run(mut self) {
        let mut schedule = schedule(&self.check);
        loop {
            schedule.tick().await;
            let outcome = self.result().await;
            // A failure that the restart explains is the process's; the moment lets the kernel tell of its death.
            if matches!(outcome, Outcome::Fail(_)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if *self.revival.borrow() {
                let _ = self.revival.wait_for(|reviving| !reviving).await;
                schedule.reset_immediately();
                continue;
            }
            (self.tell)(HTTP, outcome);
        }
    }

    async fn result(&mut self) -> Outcome {
        let workers = self.limits.before().await;
        match self.client.ask(self.check.timeout).await {
            Ok(answer) => match self.crowded(workers).await {
                Some(text) => Outcome::Saturated(text),
                None => answer.outcome,
            },
            Err(Failure { kind, text }) => match self.limits.reached(kind).await {
                Some(why) => Outcome::Saturated(format!("{why} ({text})")),
                None => Outcome::Fail(text),
            },
        }
    }

    /// By nginx's own count of its connections.
    async fn crowded(&self, workers: usize) -> Option<String> {
        let answer = self.stub.as_ref()?.ask(self.check.timeout).await.ok()?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let active: u64 =
            text.strip_prefix("Active connections:")?.split_whitespace().next()?.parse().ok()?;
        let most = workers as u64 * self.connections;
        (most > 0 && active * 10 >= most * 9).then(|| format!("{active} of {most} connections in use"))
    }
}

/// The workers, as a thread sees them; where it hangs, nothing is told apart.
struct Watched(Hand<Look, Seen>);

enum Look {
    Before,
    Reached(Kind),
}

#[derive(Default)]
struct Seen {
    workers: usize,
    reached: Option<String>,
}

impl Watched {
    fn new(limits: Limits) -> Watched {
        let mut watch = limit::Watch::new(limits);
        Watched(Hand::new("nginx limit", move |look, answer| {
            let _ = answer.send(match look {
                Look::Before => Seen { workers: watch.before(), reached: None },
                Look::Reached(kind) => Seen { workers: 0, reached: watch.reached(kind) },
            });
        }))
    }

    async fn look(&mut self, look: Look) -> Seen {
        self.0.run(look, LOOK).await.unwrap_or_default()
    }

    async fn before(&mut self) -> usize {
        self.look(Look::Before).await.workers
    }

    async fn reached(&mut self, kind: Kind) -> Option<String> {
        self.look(Look::Reached(kind)).await.reached
    }
}

async fn watch_logs(check: Check, wanted: logs::Wanted, tell: Tell) {
    let mut logs = logs::Logs::new(wanted);
    let mut hand =
        Hand::new(&format!("{} logs", check.name), move |(), answer| drop(answer.send(logs.look())));
    let late = format!("the log disk does not answer within {}", humantime::format_duration(check.timeout));
    let mut schedule = schedule(&check);
    loop {
        schedule.tick().await;
        let outcome = match hand.run((), check.timeout).await {
            Ok(Ok(())) => Outcome::Pass,
            Ok(Err(reason)) => Outcome::Certain(reason),
            Err(stuck) => Outcome::Fail(stuck.say(late.clone())),
        };
        tell(LOGS, outcome);
    }
}
