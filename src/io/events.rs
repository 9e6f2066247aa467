//! `events.jsonl` in the state directory: what happened, a line of JSON each, so that it outlives the daemon.
//!
//! Written by a thread of its own, for a disk may hang; what does not fit its queue is kept in memory only, and counted.

use haclusterd_proto::control::LoggedEvent;
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

const FILE: &str = "events.jsonl";
/// The file before this one.
const OLDER: &str = "events.1.jsonl";
/// Of one file: some five thousand events.
const MAX_FILE: u64 = 1 << 20;
/// Kept in memory, for whoever asks.
const KEPT: usize = 1000;
/// A line of words that others chose may be long.
const MAX_TEXT: usize = 1024;
/// When a thousand VIPs move, each has something to tell.
const QUEUE: usize = 4096;

#[derive(Debug)]
pub struct Events {
    kept: Mutex<VecDeque<LoggedEvent>>,
    writer: SyncSender<LoggedEvent>,
    unwritten: AtomicU64,
}

impl Events {
    #[must_use]
    pub fn open(dir: &Path) -> Events {
        let mut kept: VecDeque<LoggedEvent> = VecDeque::new();
        for event in [OLDER, FILE].iter().flat_map(|name| read(&dir.join(name))) {
            keep(&mut kept, event);
        }
        let (writer, queue) = sync_channel(QUEUE);
        let dir = dir.to_owned();
        if let Err(error) =
            std::thread::Builder::new().name("events".into()).spawn(move || write(&dir, &queue))
        {
            tracing::warn!("events are not written down: no thread could be started: {error}");
        }
        Events { kept: Mutex::new(kept), writer, unwritten: AtomicU64::new(0) }
    }

    pub fn note(&self, warning: bool, text: &str) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let id = kept.back().map_or(1, |last| last.id + 1);
        let text = text.chars().take(MAX_TEXT).collect();
        let event = LoggedEvent { id, unix_ms, warning, text };
        keep(&mut kept, event.clone());
        drop(kept);
        if self.writer.try_send(event).is_err() {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The oldest first.
    #[must_use]
    pub fn after(&self, id: u64) -> Vec<LoggedEvent> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().filter(|event| event.id > id).cloned().collect()
    }

    #[must_use]
    pub fn unwritten(&self) -> u64 {
        self.unwritten.load(Ordering::Relaxed)
    }
}

fn keep(kept: &mut VecDeque<LoggedEvent>, event: LoggedEvent) {
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back(event);
}

/// A line that a loss of power has cut is left out.
fn read(path: &Path) -> Vec<LoggedEvent> {
    let Ok(file) = File::open(path) else { return Vec::new() };
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    lines.filter_map(|line| serde_json::from_str(&line).ok()).collect()
}

fn write(dir: &Path, queue: &Receiver<LoggedEvent>) {
    let mut file = None;
    while let Ok(event) = queue.recv() {
        if let Err(error) = append(dir, &mut file, &event) {
            file = None;
            tracing::warn!("{}: an event is not written down: {error}", dir.join(FILE).display());
        }
    }
}

fn append(dir: &Path, file: &mut Option<(File, u64)>, event: &LoggedEvent) -> io::Result<()> {
    let path: PathBuf = dir.join(FILE);
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let full = |size: u64| size + line.len() as u64 > MAX_FILE;
    if file.as_ref().is_some_and(|(_, size)| full(*size)) {
        fs::rename(&path, dir.join(OLDER))?;
        *file = None;
    }
    let (to, size) = match file {
        Some(open) => open,
        None => {
            let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
            let size = opened.metadata()?.len();
            if size > 0 {
                line.insert(0, b'\n'); // the last line may have been cut
            }
            file.insert((opened, size))
        }
    };
    to.write_all(&line)?;
    *size += line.len() as u64;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn texts(events: &[LoggedEvent]) -> Vec<&str> {
        events.iter().map(|event| event.text.as_str()).collect()
    }

    fn until(what: impl Fn() -> bool) {
        let limit = Instant::now() + Duration::from_secs(10);
        while !what() {
            assert!(Instant::now() < limit);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_restart_forgets_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let events = Events::open(dir.path());
        events.note(false, "web: taken");
        events.note(true, "web: let go");
        until(|| read(&dir.path().join(FILE)).len() == 2);
        drop(events);
        let events = Events::open(dir.path());
        events.note(false, "web: taken again");
        assert_eq!(texts(&events.after(0)), ["web: taken", "web: let go", "web: taken again"]);
        assert_eq!(texts(&events.after(2)), ["web: taken again"]);
        assert_eq!(events.after(2)[0].id, 3);
    }

    #[test]
    fn there_are_two_files_of_a_bounded_size_and_a_bounded_memory() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = None;
        let event = |id| LoggedEvent { id, unix_ms: 0, warning: false, text: "x".repeat(1000) };
        for id in 1..3000 {
            append(dir.path(), &mut file, &event(id)).unwrap();
        }
        for name in [FILE, OLDER] {
            assert!(fs::metadata(dir.path().join(name)).unwrap().len() <= MAX_FILE);
        }
        let events = Events::open(dir.path());
        assert_eq!((events.after(0).len(), events.after(2998).len()), (KEPT, 1));
    }

    #[test]
    fn a_line_that_was_cut_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = None;
        append(dir.path(), &mut file, &LoggedEvent { id: 7, unix_ms: 0, warning: false, text: "a".into() })
            .unwrap();
        file.unwrap().0.write_all(b"{\"id\": 8, \"uni").unwrap();
        assert_eq!(Events::open(dir.path()).after(0).len(), 1);
    }
}
