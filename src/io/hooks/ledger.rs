//! `hooks.json`: what each hook was told of each VIP, and whether it is known to have heard it. Written by a thread of
//! its own, for a disk may hang.

use crate::engine::hooks::Changed;
use crate::io::identity::StoreError;
use crate::io::identity::store::{StateDir, read_private};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const FILE: &str = "hooks.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub hook: String,
    pub changed: Changed,
    /// It may not have heard it: it is to be told again, of what is so then.
    pub owed: bool,
}

#[derive(Clone)]
pub(super) struct Ledger(Arc<(Mutex<Pages>, Condvar)>);

#[derive(Default)]
struct Pages {
    text: Vec<u8>,
    /// Of `text`, and of what is on the disk.
    number: u64,
    stored: u64,
    closed: bool,
}

/// What cannot be read is not there: then every hook is told once more.
pub(super) fn load(dir: &Path) -> Vec<Record> {
    let bytes = read_private(&dir.join(FILE)).unwrap_or_else(|error| {
        tracing::warn!("what the hooks were told before is not known: {error}");
        None
    });
    serde_json::from_slice(&bytes.unwrap_or_default()).unwrap_or_default()
}

impl Ledger {
    pub fn open(dir: &Path) -> Ledger {
        let ledger = Ledger(Arc::default());
        let (own, dir) = (ledger.clone(), dir.to_owned());
        let thread = std::thread::Builder::new().name("hooks.json".into());
        if let Err(error) = thread.spawn(move || own.keep(&dir)) {
            tracing::warn!("hooks are not remembered: no thread could be started: {error}");
        }
        ledger
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers with the number of what is to be on the disk.
    pub fn put<'r>(&self, records: impl Iterator<Item = &'r Record>) -> u64 {
        let records: Vec<&Record> = records.collect();
        let mut pages = self.pages();
        pages.text = serde_json::to_vec(&records).unwrap_or_default();
        pages.number += 1;
        self.0.1.notify_all();
        pages.number
    }

    /// Until it is stored; on a disk that hangs, no longer than that.
    pub fn wait(&self, number: u64, patience: Duration) {
        let waits = |pages: &mut Pages| pages.stored < number;
        drop(self.0.1.wait_timeout_while(self.pages(), patience, waits));
    }

    pub fn close(&self) {
        self.pages().closed = true;
        self.0.1.notify_all();
    }

    fn keep(&self, dir: &Path) {
        loop {
            let nothing = |pages: &mut Pages| pages.stored == pages.number && !pages.closed;
            let pages = self.0.1.wait_while(self.pages(), nothing).unwrap_or_else(PoisonError::into_inner);
            if pages.stored == pages.number {
                return; // closed, and all is stored
            }
            let (text, number) = (pages.text.clone(), pages.number);
            drop(pages);
            if let Err(error) = store(dir, &text) {
                tracing::warn!("a hook that a crash interrupts might not be run again: {error}");
            }
            self.pages().stored = number;
            self.0.1.notify_all();
        }
    }
}

fn store(dir: &Path, text: &[u8]) -> Result<(), StoreError> {
    StateDir::lock(dir)?.replace(FILE, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::hooks::{Kind, Part};
    use std::os::unix::fs::PermissionsExt;

    fn record(epoch: u64) -> Record {
        let (name, hook) = ("web".to_owned(), "cloud".to_owned());
        let (old_owner, new_owner, reason) = Default::default();
        let (kind, part, priority) = (Kind::Vip, Part::Owner, 100);
        let changed = Changed { kind, name, part, priority, old_owner, new_owner, epoch, reason };
        Record { hook, changed, owed: true }
    }

    #[test]
    fn the_last_page_is_on_the_disk_when_that_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()), []);
        let ledger = Ledger::open(dir.path());
        for epoch in 0..20 {
            ledger.put([&record(epoch)].into_iter());
        }
        let number = ledger.put([&record(20)].into_iter());
        ledger.wait(number, Duration::from_secs(10));
        assert_eq!(load(dir.path()), [record(20)]);
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        ledger.close();
        ledger.wait(number + 1, Duration::from_millis(10));
    }

    #[test]
    fn what_is_not_ours_is_as_if_there_were_nothing() {
        let dir = tempfile::tempdir().unwrap();
        StateDir::lock(dir.path()).unwrap().replace(FILE, b"{\"x\": 1").unwrap();
        assert_eq!(load(dir.path()), []);
    }
}
