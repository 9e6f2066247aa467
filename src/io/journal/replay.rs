//! A journal's run once more, by a fresh engine.

use super::{JournalError, Reader, digest};
use crate::engine::time::Instant;
use crate::engine::{Action, Engine, Input};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[derive(Debug)]
pub struct Replay {
    journal: Reader,
    engine: Engine,
    now: Instant,
    until: Option<Instant>,
    over: bool,
}

/// What the engine makes of one input.
#[derive(Debug)]
pub struct Decided {
    /// Where the input is in the journal.
    pub line: usize,
    pub at: Instant,
    pub input: Input,
    pub actions: Vec<Action>,
    /// The daemon's engine asked for the same.
    pub same: bool,
}

impl Replay {
    pub fn open(path: &Path) -> Result<Replay, JournalError> {
        let journal = Reader::open(path)?;
        let started = journal.header.started;
        let engine = survive(|| journal.header.engine()).ok_or_else(|| journal.bad(PANIC.into()))?;
        Ok(Replay { journal, engine, now: started, until: None, over: false })
    }

    /// What comes later than this is not replayed.
    #[must_use]
    pub fn until(mut self, until: Option<Instant>) -> Replay {
        self.until = until;
        self
    }

    #[must_use]
    pub fn header(&self) -> &super::Header {
        &self.journal.header
    }

    /// As it is after the last input.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Why the journal ends where it does, if not with the daemon's run.
    #[must_use]
    pub fn end(&self) -> Option<&'static str> {
        self.journal.end
    }

    fn step(&mut self) -> Result<Option<Decided>, JournalError> {
        let Some(step) = self.journal.step()? else { return Ok(None) };
        if self.until.is_some_and(|until| step.at > until) {
            return Ok(None);
        }
        self.now = step.at;
        let actions = survive(|| self.engine.handle(step.input.clone(), step.at));
        let actions = actions.ok_or_else(|| self.journal.bad(PANIC.into()))?;
        let same = step.actions == Some(digest(&actions));
        Ok(Some(Decided { line: self.journal.line, at: step.at, input: step.input, actions, same }))
    }
}

impl Iterator for Replay {
    type Item = Result<Decided, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = self.step();
        // What follows on a gap or a damaged line would be decided by a state that no daemon was in.
        self.over = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

const PANIC: &str = "the engine panics on this (our fault, if haclusterd wrote the journal)";

/// A journal may be a stranger's, or the report of just such a failure.
fn survive<T>(engine: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(engine)).ok()
}
