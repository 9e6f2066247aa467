//! Who is to hear of a change.

use super::super::fifo::Lines;
use super::super::ledger::Record;
use super::super::mail::Letter;
use super::super::message;
use super::{Desk, Key};
use crate::config::Config;
use crate::config::hooks::{Hook, Notify};
use crate::engine::hooks::{Changed, Kind, Part, Policy};
use crate::engine::time::Instant;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;

impl Desk {
    pub(super) fn tell(&mut self, changed: &Changed, now: Instant) {
        if message::is_unnamed(&self.config, changed) {
            return;
        }
        let config = self.config.clone();
        if config.fifo.is_some() {
            self.write(message::fifo_line(changed));
        }
        let key = (format!("{:?}", changed.kind), changed.name.clone());
        let first = self.told.insert(key.clone(), changed.clone()).is_none();
        if let Some(notify) = message::notify_of(&config, changed) {
            self.alert(notify, changed, first);
            if !message::programs(notify, changed).is_empty() {
                self.notifies.tell(key, changed.clone(), Policy::default(), now);
            }
        }
        let concerned = |hook: &&Hook| changed.kind != Kind::Group && hook.is_for(&changed.name);
        for hook in config.hooks.iter().filter(concerned) {
            self.tell_hook(hook, changed, now);
        }
    }

    /// As keepalived, nobody is written to of a backup that starts, nor of a stop.
    fn alert(&self, notify: &Notify, changed: &Changed, first: bool) {
        let trite = changed.part == Part::Stop || (first && changed.part == Part::Backup);
        let Some(mail) = self.config.mail.clone().filter(|_| notify.alert && !trite) else { return };
        self.post.send(Letter { mail, node: self.config.node.name.clone(), changed: changed.clone() });
    }

    /// A hook that is known to have heard just this, from an earlier run, need not hear it again.
    fn tell_hook(&mut self, hook: &Hook, changed: &Changed, now: Instant) {
        let key = (hook.name.clone(), changed.name.clone());
        let again = hook.reconcile.filter(|_| changed.part == Part::Owner);
        let policy = Policy { retry: true, again };
        let knows = |record: &Record| !record.owed && record.changed.is_as(changed);
        if self.records.get(&key).is_some_and(knows) {
            return self.hooks.has_heard(key, changed.clone(), policy, now);
        }
        let record = Record { hook: hook.name.clone(), changed: changed.clone(), owed: true };
        self.records.insert(key.clone(), record);
        self.page = self.ledger.put(self.records.values());
        self.hooks.tell(key, changed.clone(), policy, now);
    }

    fn write(&mut self, line: String) {
        let dropped = self.fifo.push(line);
        let before = self.counters.fifo_dropped.fetch_add(dropped, Ordering::Relaxed);
        if dropped > 0 && before == 0 {
            tracing::warn!("lines for the notify FIFO are dropped: nobody reads it, or not fast enough");
        }
    }

    /// A hook that is new, or another, is told how things are.
    pub(super) fn reconfigure(&mut self, config: Config, now: Instant) {
        let old = std::mem::replace(&mut self.config, Arc::new(config));
        let config = self.config.clone();
        let (same, other): (Vec<&Hook>, Vec<&Hook>) =
            config.hooks.iter().partition(|hook| old.hooks.contains(hook));
        let stays =
            |(name, vip): &Key| same.iter().any(|hook| hook.name == *name && is_told(&config, hook, vip));
        self.hooks.retain(stays);
        self.records.retain(|key, _| stays(key));
        let told: Vec<Changed> = self.told.values().cloned().collect();
        for hook in other {
            for changed in told.iter().filter(|c| c.kind != Kind::Group && is_told(&config, hook, &c.name)) {
                self.tell_hook(hook, changed, now);
            }
        }
        self.show_troubles(now);
        if old.fifo != config.fifo {
            self.fifo = Lines::default();
            self.reader = JoinSet::new();
            self.open_fifo(Duration::ZERO);
        }
    }
}

/// The VIP is configured, and the hook is for it.
pub(super) fn is_told(config: &Config, hook: &Hook, vip: &str) -> bool {
    hook.is_for(vip) && config.all_vips().any(|known| known.name == vip)
}
