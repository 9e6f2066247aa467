//! What is to be said of a keepalived.conf: where, what, and what to do about it.

use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

/// More than an operator reads; the rest is only counted.
const MAX_FINDINGS: usize = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing to do: haclusterd does it by itself, or has no need of it.
    Note,
    /// It is carried over, and does something else here.
    Differs,
    /// It has no equivalent.
    Missing,
    /// keepalived complains of it as well, and goes on without it or by its default.
    Invalid,
    /// Nothing is made of such a file.
    Fatal,
}

/// One line of the report: `FILE:LINE: what; remedy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: Kind,
    pub at: At,
    pub what: String,
    pub remedy: String,
}

/// A line of a file; 0: the file as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    pub file: Rc<PathBuf>,
    pub line: usize,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}:{line}", self.file.display()),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.at, self.what, self.remedy)
    }
}

/// All that was found, in the order of the lines that are read.
#[derive(Debug, Default)]
pub struct Findings {
    pub all: Vec<Finding>,
    /// Beyond those that are kept.
    pub more: usize,
    fatal: bool,
}

impl Findings {
    pub fn add(&mut self, kind: Kind, at: &At, what: impl Into<String>, remedy: impl Into<String>) {
        self.fatal |= kind == Kind::Fatal;
        // The one that ends it is always told.
        if self.all.len() >= MAX_FINDINGS && kind != Kind::Fatal {
            self.more += 1;
            return;
        }
        let finding = Finding { kind, at: at.clone(), what: what.into(), remedy: remedy.into() };
        if !self.all.contains(&finding) {
            self.all.push(finding);
        }
    }

    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.fatal
    }
}
