//! Tells programs outside what this node is to its VIPs: keepalived's `notify…` and FIFO, hooks, mails.
//!
//! * `desk`: who is to hear what, and when. `run`: a program or a webhook, in a thread of its own. `message`: in whose
//!   words. `ledger`: what a crash must not make forgotten. `fifo`, `mail`, `webhook`: those ways.
//!
//! Nothing here waits in the office: what may take time has a thread, and what comes meanwhile has a bounded queue.

mod desk;
mod fifo;
mod ledger;
mod mail;
mod message;
mod run;
#[cfg(test)]
mod tests;
mod webhook;

use crate::config::Config;
use crate::engine::hooks::{Changed, Part};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// As many virtual routers and groups as there can be, several times.
const QUEUE: usize = 4096;
/// Who is told of the end of a run is not waited for any longer.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// The way to the desk.
#[derive(Debug)]
pub struct Hooks {
    desk: mpsc::Sender<Word>,
    counters: Arc<Counters>,
    /// The end was told: who is told of it is waited for.
    ends: AtomicBool,
}

#[derive(Debug)]
enum Word {
    Changed(Box<Changed>),
    Reconfigure(Box<Config>),
    /// Answered when nobody has anything left to hear.
    Quiet(oneshot::Sender<()>),
}

/// Since the daemon began, and the hooks that fail now.
#[derive(Debug, Default)]
pub struct Counters {
    run: AtomicU64,
    failed: AtomicU64,
    fifo_dropped: AtomicU64,
    mails_sent: AtomicU64,
    mails_failed: AtomicU64,
    mails_waiting: AtomicU64,
    troubles: Mutex<Vec<Trouble>>,
}

#[derive(Debug)]
struct Trouble {
    hook: String,
    vip: String,
    since: Instant,
    failures: u32,
    error: String,
}

impl Hooks {
    /// Must be called inside a tokio runtime.
    #[must_use]
    pub fn start(config: &Config, state_dir: &Path) -> Hooks {
        let (desk, words) = mpsc::channel(QUEUE);
        let counters: Arc<Counters> = Arc::default();
        tokio::spawn(desk::Desk::open(config.clone(), state_dir, counters.clone()).serve(words));
        Hooks { desk, counters, ends: AtomicBool::new(false) }
    }

    pub fn changed(&self, changed: Box<Changed>) {
        self.ends.fetch_or(changed.part == Part::Stop, Ordering::Relaxed);
        self.say(Word::Changed(changed));
    }

    pub fn reconfigure(&self, config: &Config) {
        self.say(Word::Reconfigure(Box::new(config.clone())));
    }

    fn say(&self, word: Word) {
        if self.desk.try_send(word).is_err() {
            tracing::warn!("a change is not told to hooks: too many wait");
        }
    }

    /// Whoever is told of the end is given some time. A run that leaves its VIPs to a successor tells nobody.
    pub async fn stop(&self) {
        if !self.ends.load(Ordering::Relaxed) {
            return;
        }
        let (answer, quiet) = oneshot::channel();
        self.say(Word::Quiet(answer));
        if tokio::time::timeout(LAST_WORDS, quiet).await.is_err() {
            tracing::warn!("not all who are told of the end have ended in time");
        }
    }

    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }
}

impl Counters {
    #[must_use]
    pub fn all(&self) -> [(&'static str, u64); 5] {
        let Counters { run, failed, fifo_dropped, mails_sent, mails_failed, .. } = self;
        [
            ("hooks_run", run),
            ("hooks_failed", failed),
            ("notify_fifo_dropped", fifo_dropped),
            ("mails_sent", mails_sent),
            ("mails_failed", mails_failed),
        ]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }

    /// What an operator should mend.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let say = |Trouble { hook, vip, since, failures, error }: &Trouble| {
            let since = humantime::format_duration(Duration::from_secs(since.elapsed().as_secs()));
            format!(
                "hook {hook}: {vip}: fails since {since} ({failures} times), and is tried again until it succeeds: {error}"
            )
        };
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).iter().map(say).collect()
    }
}
