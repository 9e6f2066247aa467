//! Recording while the daemon runs. The core thread only enqueues; a thread of its own writes.

use super::{Header, Step, Writer};
use crate::engine::time::Instant;
use crate::engine::{Action, Input};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

/// Some ten seconds of a disk that hangs, and a few megabytes.
const QUEUE: usize = 2048;
/// A disk that hangs must not keep the daemon from ending.
const PATIENCE: Duration = Duration::from_secs(2);
/// How each journal begins.
const MARK: &[u8] = br#"{"schema":"#;

enum Note {
    Begin(Box<Header>),
    Step(Instant, Input, Option<Vec<Action>>),
    Gap(u64),
}

/// The core's end of the queue.
#[derive(Debug, Default)]
pub struct Recorder {
    /// `None`: nothing is recorded (any more).
    queue: Option<SyncSender<Note>>,
    /// What the engine is at.
    input: Option<(Instant, Input)>,
    /// Since the last note that was taken.
    lost: u64,
    dropped: u64,
}

/// The thread that writes.
#[derive(Debug)]
pub struct Writing(Receiver<()>);

/// Makes the file, for its owner only; the journal of an earlier run is kept beside it as `FILE.1`.
pub fn record(path: &Path) -> io::Result<(Recorder, Writing)> {
    keep_earlier(path)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let (queue, notes) = sync_channel(QUEUE);
    let (alive, ended) = channel();
    let path = path.to_path_buf();
    std::thread::Builder::new().name("journal".into()).spawn(move || {
        if let Err(error) = write(file, &notes) {
            tracing::warn!("{}: the journal ends here: {error}", path.display());
        }
        drop(alive);
    })?;
    let mut recorder = Recorder::default();
    recorder.queue = Some(queue);
    Ok((recorder, Writing(ended)))
}

/// A restart must not cost the journal of what led to it, and a slip of the pen no other file.
fn keep_earlier(path: &Path) -> io::Result<()> {
    let Ok(found) = path.symlink_metadata() else { return Ok(()) };
    let mut start = Vec::new();
    if found.is_file() {
        File::open(path)?.take(MARK.len() as u64).read_to_end(&mut start)?;
    }
    if !found.is_file() || !MARK.starts_with(&start) {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "there is something else of that name"));
    }
    if start.is_empty() {
        return fs::remove_file(path); // a run that did not begin
    }
    let mut earlier = path.as_os_str().to_owned();
    earlier.push(".1");
    fs::rename(path, PathBuf::from(earlier))
}

fn write(file: File, notes: &Receiver<Note>) -> io::Result<()> {
    let mut writer = Writer::new(BufWriter::new(file));
    // Flushed whenever there is no more to write: whatever ends the daemon, its last moments are in the file.
    while let Ok(note) = notes.recv() {
        for note in std::iter::once(note).chain(notes.try_iter()) {
            match note {
                Note::Begin(header) => writer.header(&header)?,
                Note::Step(at, input, actions) => writer.step(Step::new(at, input, actions.as_deref()))?,
                Note::Gap(lost) => writer.gap(lost)?,
            }
        }
        writer.flush()?;
    }
    Ok(())
}

impl Recorder {
    pub fn begin(&mut self, header: &Header) {
        self.send(Note::Begin(Box::new(header.clone())));
    }

    /// Before the engine has it.
    pub fn input(&mut self, now: Instant, input: &Input) {
        self.input = self.queue.is_some().then(|| (now, input.clone()));
    }

    /// What the engine made of it.
    pub fn actions(&mut self, actions: &[Action]) {
        if let Some((at, input)) = self.input.take() {
            self.step(Note::Step(at, input, Some(actions.to_vec())));
        }
    }

    /// How many inputs are missing in the journal.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn step(&mut self, step: Note) {
        if self.lost > 0 && self.send(Note::Gap(self.lost)) {
            self.lost = 0;
        }
        if self.lost > 0 || !self.send(step) {
            self.lost += 1;
            self.dropped += 1;
        }
    }

    /// False: there is no room.
    fn send(&mut self, note: Note) -> bool {
        let Some(queue) = &self.queue else { return true };
        match queue.try_send(note) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => false,
            Err(TrySendError::Disconnected(_)) => {
                self.queue = None; // the writer has said why
                true
            }
        }
    }
}

/// An input that the engine does not survive is the one that matters most.
impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some((at, input)) = self.input.take() {
            self.step(Note::Step(at, input, None));
        }
    }
}

impl Writing {
    /// Waits until all is written, once the recorder is gone.
    pub fn finish(self) {
        let _ = self.0.recv_timeout(PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::journal::sample::{STARTED, run};

    /// A recorder whose queue holds two notes, and which is not read.
    fn stuck() -> (Recorder, Receiver<Note>) {
        let (queue, notes) = sync_channel(2);
        let mut recorder = Recorder::default();
        recorder.queue = Some(queue);
        (recorder, notes)
    }

    fn step(recorder: &mut Recorder) {
        recorder.input(STARTED, &Input::Deadline);
        recorder.actions(&[]);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_leaves_a_gap() {
        let (mut recorder, notes) = stuck();
        (0..5).for_each(|_| step(&mut recorder));
        assert_eq!(recorder.dropped(), 3);
        assert!(notes.try_iter().all(|note| matches!(note, Note::Step(..))));
        (0..2).for_each(|_| step(&mut recorder));
        let notes: Vec<Note> = notes.try_iter().collect();
        assert!(matches!(notes[..], [Note::Gap(3), Note::Step(..)]));
        assert_eq!(recorder.dropped(), 4);
    }

    #[test]
    fn an_input_that_the_engine_does_not_survive_is_recorded() {
        let (mut recorder, notes) = stuck();
        recorder.input(STARTED, &Input::Deadline);
        drop(recorder);
        assert!(matches!(notes.recv(), Ok(Note::Step(_, Input::Deadline, None))));
    }

    #[test]
    fn a_writer_that_has_ended_costs_nothing_more() {
        let (mut recorder, notes) = stuck();
        drop(notes);
        (0..2).for_each(|_| step(&mut recorder));
        assert!(recorder.queue.is_none() && recorder.input.is_none() && recorder.dropped() == 0);
    }

    #[test]
    fn an_earlier_journal_is_kept_and_no_other_file_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        run(&path);
        let first = fs::read(&path).unwrap();
        run(&path);
        assert_eq!(fs::read(dir.path().join("journal.1")).unwrap(), first);
        fs::write(&path, "").unwrap();
        drop(record(&path).unwrap());
        assert_eq!(fs::read(dir.path().join("journal.1")).unwrap(), first);
        fs::write(&path, "[node]\n").unwrap();
        assert!(record(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "[node]\n");
        assert!(record(Path::new("/dev/null")).is_err());
    }
}
