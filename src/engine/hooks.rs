//! What programs outside this one hear of a VIP: the newest of each wins, and is said again until it was heard.
//!
//! ```text
//!            tell                start                 end: well
//!   nothing -----> waits for due -----> runs ------------------------> settled (again at its interval)
//!                      ^                  |  end: failed, or something newer was told meanwhile
//!                      +------------------+
//! ```
//! Of one key never two run at once. How a program is run, and what it is told, is the edge's business.

use super::time::Instant;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// After the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Vip,
    Router,
    /// Virtual routers that keep step.
    Group,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Owner,
    Backup,
    Fault,
    Stop,
}

impl Part {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Part::Owner => "owner",
            Part::Backup => "backup",
            Part::Fault => "fault",
            Part::Stop => "stop",
        }
    }

    /// In VRRP's word, which keepalived uses.
    #[must_use]
    pub fn vrrp(self) -> &'static str {
        match self {
            Part::Owner => "MASTER",
            Part::Backup => "BACKUP",
            Part::Fault => "FAULT",
            Part::Stop => "STOP",
        }
    }
}

/// What this node is to a VIP, since now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub kind: Kind,
    pub name: String,
    pub part: Part,
    /// This node's; 0 for a group.
    pub priority: u8,
    /// Names of members; of other virtual routers, their addresses. Empty: not known.
    pub old_owner: String,
    pub new_owner: String,
    /// Raised with each new owner. 0: VRRP counts none.
    pub epoch: u64,
    pub reason: String,
}

impl Changed {
    /// Who has heard the one need not hear the other.
    #[must_use]
    pub fn is_as(&self, other: &Changed) -> bool {
        let counted = self.kind == Kind::Vip && self.part == other.part;
        // What epoch others are in, a node that has just started does not know.
        counted && (self.part != Part::Owner || self.epoch == other.epoch)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// What failed is tried again.
    pub retry: bool,
    /// What was heard is said again after this.
    pub again: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct Trouble {
    pub since: Instant,
    pub failures: u32,
    pub error: String,
}

impl Trouble {
    fn new(since: Instant) -> Trouble {
        Trouble { since, failures: 0, error: String::new() }
    }
}

#[derive(Clone, Debug)]
struct Slot<T> {
    news: Option<T>,
    policy: Policy,
    due: Instant,
    runs: bool,
    /// Told while an older one runs.
    newer: bool,
    settled: bool,
    trouble: Option<Trouble>,
}

#[derive(Clone, Debug)]
pub struct Queue<K, T> {
    slots: BTreeMap<K, Slot<T>>,
}

impl<K, T> Default for Queue<K, T> {
    fn default() -> Self {
        Queue { slots: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, T: Clone> Queue<K, T> {
    pub fn tell(&mut self, key: K, news: T, policy: Policy, now: Instant) {
        let slot = self.slots.entry(key).or_insert_with(|| Slot {
            news: None,
            policy,
            due: now,
            runs: false,
            newer: false,
            settled: false,
            trouble: None,
        });
        (slot.news, slot.policy, slot.due) = (Some(news), policy, now);
        (slot.newer, slot.settled) = (slot.runs, false);
        if let Some(trouble) = &mut slot.trouble {
            trouble.failures = 0; // what is new is not what failed so often
        }
    }

    /// It has heard this already, from an earlier run of the daemon.
    pub fn has_heard(&mut self, key: K, news: T, policy: Policy, now: Instant) {
        self.tell(key.clone(), news, policy, now);
        self.settle(&key, now);
    }

    /// What is to be started now: those that have waited longest, at most `room`.
    #[must_use]
    pub fn start(&mut self, room: usize, now: Instant) -> Vec<(K, T)> {
        let waits = |(_, slot): &(&K, &mut Slot<T>)| slot.waits() && slot.due <= now;
        let mut due: Vec<_> = self.slots.iter_mut().filter(waits).collect();
        due.sort_by_key(|(_, slot)| slot.due);
        let begin = |(key, slot): (&K, &mut Slot<T>)| {
            (slot.runs, slot.newer, slot.settled) = (true, false, false);
            Some((key.clone(), slot.news.clone()?))
        };
        due.into_iter().take(room).filter_map(begin).collect()
    }

    /// What was started has ended.
    pub fn end(&mut self, key: &K, result: Result<(), String>, now: Instant) {
        let Some(slot) = self.slots.get_mut(key).filter(|slot| slot.runs) else { return };
        slot.runs = false;
        match result {
            Ok(()) if slot.newer => slot.due = now,
            Ok(()) => self.settle(key, now),
            Err(error) => slot.fail(error, now),
        }
    }

    /// It has failed, and has not ended yet.
    pub fn hangs(&mut self, key: &K, error: String, now: Instant) {
        if let Some(slot) = self.slots.get_mut(key).filter(|slot| slot.runs) {
            slot.trouble.get_or_insert_with(|| Trouble::new(now)).error = error;
        }
    }

    fn settle(&mut self, key: &K, now: Instant) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        (slot.settled, slot.trouble) = (true, None);
        match slot.policy.again {
            Some(pause) => slot.due = now + pause,
            None => slot.news = None,
        }
    }

    /// Whose hook or VIP is gone hears no more.
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.slots.retain(|key, slot| slot.runs || keep(key));
        self.slots
            .iter_mut()
            .filter(|(key, _)| !keep(key))
            .for_each(|(_, slot)| slot.policy = Policy::default());
    }

    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.slots.values().filter(|slot| slot.waits()).map(|slot| slot.due).min()
    }

    /// Nothing runs, and nothing waits that has not failed already.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let failed = |slot: &Slot<T>| slot.trouble.as_ref().is_some_and(|trouble| trouble.failures > 0);
        self.slots.values().all(|slot| !slot.runs && (slot.news.is_none() || slot.settled || failed(slot)))
    }

    /// Has not heard it, as far as is known.
    #[must_use]
    pub fn owes(&self, key: &K) -> bool {
        self.slots.get(key).is_some_and(|slot| slot.news.is_some() && !slot.settled)
    }

    pub fn troubles(&self) -> impl Iterator<Item = (&K, &Trouble)> {
        self.slots.iter().filter_map(|(key, slot)| Some((key, slot.trouble.as_ref()?)))
    }
}

impl<T> Slot<T> {
    fn waits(&self) -> bool {
        self.news.is_some() && !self.runs
    }

    fn fail(&mut self, error: String, now: Instant) {
        let trouble = self.trouble.get_or_insert_with(|| Trouble::new(now));
        trouble.error = error;
        if self.newer {
            self.due = now;
        } else if self.policy.retry {
            trouble.failures = trouble.failures.saturating_add(1);
            self.due = now + pause(trouble.failures);
        } else {
            (self.news, self.trouble) = (None, None);
        }
    }
}

fn pause(failures: u32) -> Duration {
    let doubled = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests;
