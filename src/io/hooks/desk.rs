//! Who is to hear what, and when: the queues decide, threads do it.

mod tell;

use self::tell::is_told;
use super::fifo::{self, Lines};
use super::ledger::{self, Ledger, Record};
use super::mail::Post;
use super::message::{self, Message};
use super::run::{Run, Stored};
use super::{Counters, Trouble, Word};
use crate::config::Config;
use crate::config::hooks::Fifo;
use crate::engine::hooks::{Changed, Queue};
use crate::engine::time::Instant;
use crate::io::clock;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Threads at once: a hook that hangs must not keep the others from being run, nor fill the host.
const MAX_RUNS: usize = 32;
const SOON: Duration = Duration::from_millis(50);
/// With nothing to do.
const FOREVER: Duration = Duration::from_secs(3600);

/// A hook and a VIP. keepalived's programs have no name, and their subject is with its kind.
type Key = (String, String);

pub(super) struct Desk {
    config: Arc<Config>,
    notifies: Queue<Key, Changed>,
    hooks: Queue<Key, Changed>,
    records: BTreeMap<Key, Record>,
    /// What was told last of each.
    told: BTreeMap<Key, Changed>,
    ledger: Ledger,
    /// Of the last page.
    page: u64,
    post: Post,
    fifo: Lines,
    reader: JoinSet<()>,
    counters: Arc<Counters>,
    runs: usize,
    ends: mpsc::UnboundedSender<Ended>,
    ended: mpsc::UnboundedReceiver<Ended>,
    asked: Vec<oneshot::Sender<()>>,
}

/// What a thread has to say when it is done; there are few at once.
enum Ended {
    Notify(Key, Result<(), String>),
    Hook(Key, Result<(), String>),
    /// It is to be over, and is not.
    Late(Key, String),
    Fifo(Fifo, Result<OwnedFd, String>),
}

impl Desk {
    pub fn open(config: Config, state_dir: &Path, counters: Arc<Counters>) -> Desk {
        let (ends, ended) = mpsc::unbounded_channel();
        let records = match config.hooks.is_empty() {
            true => Vec::new(),
            false => ledger::load(state_dir),
        };
        let wanted = |record: &Record| {
            config.hooks.iter().any(|h| h.name == record.hook && is_told(&config, h, &record.changed.name))
        };
        let keyed = |record: Record| ((record.hook.clone(), record.changed.name.clone()), record);
        let records = records.into_iter().filter(wanted).map(keyed).collect();
        let desk = Desk {
            config: Arc::new(config),
            notifies: Queue::default(),
            hooks: Queue::default(),
            records,
            told: BTreeMap::new(),
            ledger: Ledger::open(state_dir),
            page: 0,
            post: Post::open(counters.clone()),
            fifo: Lines::default(),
            reader: JoinSet::new(),
            counters,
            runs: 0,
            ends,
            ended,
            asked: Vec::new(),
        };
        desk.open_fifo(Duration::ZERO);
        desk
    }

    pub async fn serve(mut self, mut words: mpsc::Receiver<Word>) {
        loop {
            let due = [self.notifies.deadline(), self.hooks.deadline()].into_iter().flatten().min();
            // The mails' thread does not say when it is done.
            let longest = if self.asked.is_empty() { FOREVER } else { SOON };
            let pause = due.map_or(FOREVER, |due| due.since(clock::now())).min(longest);
            tokio::select! {
                word = words.recv() => match word {
                    Some(word) => self.hear(word),
                    None => break,
                },
                Some(ended) = self.ended.recv() => self.end(ended),
                () = self.fifo.flow() => {}
                // While there is no room, an end wakes it.
                () = tokio::time::sleep(pause), if self.runs < MAX_RUNS => {}
            }
            self.start(clock::now());
            if self.is_quiet() {
                for asked in self.asked.drain(..) {
                    let _ = asked.send(());
                }
            }
        }
        self.ledger.close();
    }

    fn hear(&mut self, word: Word) {
        match word {
            Word::Changed(changed) => self.tell(&changed, clock::now()),
            Word::Reconfigure(config) => self.reconfigure(*config, clock::now()),
            Word::Quiet(asked) => self.asked.push(asked),
        }
    }

    fn is_quiet(&self) -> bool {
        let mails = self.counters.mails_waiting.load(Ordering::Relaxed);
        let read = self.fifo.is_empty() || self.config.fifo.is_none();
        self.notifies.is_idle() && self.hooks.is_idle() && mails == 0 && read
    }

    fn start(&mut self, now: Instant) {
        for (key, changed) in self.notifies.start(MAX_RUNS - self.runs, now) {
            let notify = message::notify_of(&self.config, &changed);
            let run = notify.map(|notify| Run::Programs {
                all: message::programs(notify, &changed),
                user: notify.user.clone(),
            });
            self.begin(key, run, Ended::Notify);
        }
        for (key, changed) in self.hooks.start(MAX_RUNS - self.runs, now) {
            let run = self.hook_run(&key, &changed);
            self.begin(key, run, Ended::Hook);
        }
    }

    fn hook_run(&self, (name, _): &Key, changed: &Changed) -> Option<Run> {
        let hook = self.config.hooks.iter().find(|hook| hook.name == *name)?;
        let message = Message::new(&self.config, name, changed)?;
        let stored = Stored { ledger: self.ledger.clone(), number: self.page };
        Some(Run::of(hook, &message, stored))
    }

    /// No run: what it was for is configured no more.
    fn begin(&mut self, key: Key, run: Option<Run>, end: fn(Key, Result<(), String>) -> Ended) {
        self.runs += 1;
        let (ends, own) = (self.ends.clone(), key.clone());
        let work = move || {
            let late = |reason: &str| drop(ends.send(Ended::Late(own.clone(), reason.to_owned())));
            let result = run.map_or(Ok(()), |run| run.run(&late));
            let _ = ends.send(end(own, result));
        };
        if let Err(error) = std::thread::Builder::new().name("hook".into()).spawn(work) {
            let failed = Err(format!("no thread could be started for it: {error}"));
            let _ = self.ends.send(end(key, failed));
        }
    }

    fn end(&mut self, ended: Ended) {
        let now = clock::now();
        match ended {
            Ended::Notify(key, result) => {
                self.runs -= 1;
                if let Err(reason) = &result {
                    tracing::warn!("{}: a notify program failed: {reason}", key.1);
                }
                self.notifies.end(&key, result, now);
            }
            Ended::Hook(key, result) => {
                self.runs -= 1;
                self.end_hook(&key, result, now);
            }
            // Of notify programs nothing is shown.
            Ended::Late(key, reason) => {
                self.hooks.hangs(&key, reason, now);
                self.show_troubles(now);
            }
            Ended::Fifo(wanted, opened) if Some(&wanted) == self.config.fifo.as_ref() => {
                self.fifo_opened(wanted, opened);
            }
            Ended::Fifo(..) => {} // another is configured by now
        }
    }

    fn end_hook(&mut self, key: &Key, result: Result<(), String>, now: Instant) {
        self.counters.run.fetch_add(1, Ordering::Relaxed);
        if let Err(reason) = &result {
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("hook {}: {}: {reason}", key.0, key.1);
        }
        self.hooks.end(key, result, now);
        let heard = !self.hooks.owes(key);
        if let Some(record) = self.records.get_mut(key).filter(|record| record.owed && heard) {
            record.owed = false;
            self.page = self.ledger.put(self.records.values());
        }
        self.show_troubles(now);
    }

    fn show_troubles(&self, now: Instant) {
        let since = |at: Instant| std::time::Instant::now().checked_sub(now.since(at));
        let shown = self.hooks.troubles().map(|((hook, vip), trouble)| Trouble {
            hook: hook.clone(),
            vip: vip.clone(),
            since: since(trouble.since).unwrap_or_else(std::time::Instant::now),
            failures: trouble.failures,
            error: trouble.error.clone(),
        });
        *self.counters.troubles.lock().unwrap_or_else(PoisonError::into_inner) = shown.collect();
    }

    fn open_fifo(&self, pause: Duration) {
        let Some(wanted) = self.config.fifo.clone() else { return };
        let ends = self.ends.clone();
        let work = move || {
            std::thread::sleep(pause);
            let opened = fifo::open(&wanted);
            drop(ends.send(Ended::Fifo(wanted, opened)));
        };
        if let Err(error) = std::thread::Builder::new().name("fifo".into()).spawn(work) {
            tracing::warn!("the notify FIFO is not opened: no thread could be started: {error}");
        }
    }

    fn fifo_opened(&mut self, wanted: Fifo, opened: Result<OwnedFd, String>) {
        let opened = opened.and_then(|pipe| self.fifo.open(pipe).map_err(|error| error.to_string()));
        match opened {
            Ok(()) => drop(self.reader.spawn(fifo::read_by_script(wanted))),
            Err(reason) => {
                tracing::warn!("the notify FIFO is tried again: {reason}");
                self.open_fifo(fifo::PAUSE * 10);
            }
        }
    }
}
