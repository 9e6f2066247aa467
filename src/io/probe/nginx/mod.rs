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

use super::hand::Hand;
use super::http::{Client, Failure};
use super::{conf, schedule};
use crate::config::{Check, Nginx};
use crate::engine::health::Outcome;
use limit::Limits;
use master::{Master, News};
use plan::Plan;
use revive::Reviver;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(super) const PARTS: [&str; 3] = [PROCESS, HTTP, LOGS];
const PROCESS: &str = "process";
const HTTP: &str = "http";
const LOGS: &str = "logs";

/// For nginx to read its configuration and say what is in it.
const READING: Duration = Duration::from_secs(10);
/// Between two looks whether its workers are still the same, and between two attempts to hear what it has to say.
const LOOK: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_secs(2);

type Tell = Arc<dyn Fn(&str, Outcome) + Send + Sync>;

/// Until it is dropped.
pub(super) async fn watch(check: Check, nginx: Nginx, tell: Tell) {
    let mut found = ask(&nginx).await;
    loop {
        let plan = Plan::new(&nginx, found.as_ref());
        let _parts = begin(&check, &nginx, &plan, &tell);
        found = loop {
            match &found {
                Ok(_) => replaced(&plan).await,
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
            let next = ask(&nginx).await;
            // A configuration that is broken now is not the one that nginx runs by.
            let news = next.is_ok() || found.is_err();
            if news && Plan::new(&nginx, next.as_ref()) != plan {
                break next;
            }
        };
    }
}

/// Only while it runs: to say what is in its configuration, nginx opens all that it names, and what it listens on is
/// taken for that moment if nobody has it.
async fn ask(nginx: &Nginx) -> Result<conf::Found, String> {
    match running::command(nginx.pid_file.as_deref()) {
        Some(command) => conf::find(nginx.command.as_ref().unwrap_or(&command), READING).await,
        None => Err("it does not run".into()),
    }
}

/// Returns when none of the workers of now is left.
async fn replaced(plan: &Plan) {
    let mut known = Vec::new();
    loop {
        let now = limit::worker_pids(&plan.limits.pid_file);
        if !known.is_empty() && !now.is_empty() && !now.iter().any(|pid| known.contains(pid)) {
            return;
        }
        if !now.is_empty() {
            known = now;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn begin(check: &Check, nginx: &Nginx, plan: &Plan, tell: &Tell) -> JoinSet<()> {
    let mut parts = JoinSet::new();
    // True while an attempt is made to bring nginx back: what it answers meanwhile does not count.
    let (reviving, revival) = watch::channel(false);
    let client = plan.request.clone().map(|request| Arc::new(Client::new(request)));
    let process = Process {
        master: Master::new(plan.limits.pid_file.clone()),
        reviver: nginx.restart.as_ref().map(|restart| Reviver::new(&check.name, restart)),
        client: client.clone(),
        reviving,
        tell: tell.clone(),
    };
    parts.spawn(process.run());
    match client {
        Some(client) => {
            let stub = plan.stub_status.clone().map(Client::new);
            let limits = Arc::new(plan.limits.clone());
            let http = Http { client, stub, limits, revival, check: check.clone(), tell: tell.clone() };
            parts.spawn(http.run());
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
    limits: Arc<Limits>,
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
        // On another thread, for the error log may be on a disk that hangs; then there is nothing to tell apart.
        let limits = self.limits.clone();
        let before = blocking(move || limits.before()).await;
        match self.client.ask(self.check.timeout).await {
            Ok(answer) => match self.crowded().await {
                Some(text) => Outcome::Saturated(text),
                None => answer.outcome,
            },
            Err(Failure { kind, text }) => {
                let limits = self.limits.clone();
                let reached = blocking(move || before.and_then(|before| limits.reached(&before, kind))).await;
                match reached.flatten() {
                    Some(why) => Outcome::Saturated(format!("{why} ({text})")),
                    None => Outcome::Fail(text),
                }
            }
        }
    }

    /// By nginx's own count of its connections.
    async fn crowded(&self) -> Option<String> {
        let answer = self.stub.as_ref()?.ask(self.check.timeout).await.ok()?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let active: u64 =
            text.strip_prefix("Active connections:")?.split_whitespace().next()?.parse().ok()?;
        let workers = limit::worker_pids(&self.limits.pid_file).len() as u64;
        let most = workers * u64::from(self.limits.worker_connections);
        (most > 0 && active * 10 >= most * 9).then(|| format!("{active} of {most} connections in use"))
    }
}

/// `None`: not in time.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let done = tokio::time::timeout(Duration::from_millis(200), tokio::task::spawn_blocking(work)).await;
    done.ok()?.ok()
}

async fn watch_logs(check: Check, wanted: logs::Wanted, tell: Tell) {
    let mut logs = logs::Logs::new(wanted);
    let hand = Hand::new(&format!("{} logs", check.name), move |answer| drop(answer.send(logs.look())));
    let mut hand = match hand {
        Ok(hand) => hand,
        Err(error) => {
            return tell(LOGS, Outcome::Fail(format!("no thread could be started for it: {error}")));
        }
    };
    let mut schedule = schedule(&check);
    loop {
        schedule.tick().await;
        tell(
            LOGS,
            match hand.run(check.timeout).await {
                Some(Ok(())) => Outcome::Pass,
                Some(Err(reason)) => Outcome::Certain(reason),
                None => Outcome::Fail(format!(
                    "the log disk does not answer within {}",
                    humantime::format_duration(check.timeout)
                )),
            },
        );
    }
}
