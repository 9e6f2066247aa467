//! What is wrong with a configuration file: where, what, and what to do about it.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// 32 VIPs with every key and comment need 20 KiB; a larger file is some other file.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// More than an operator mends in one go; the rest is only counted.
const MAX_PROBLEMS: usize = 20;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: cannot be read: {error}; check the path (--config) and its permissions", path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    /// Of a keepalived.conf.
    #[error("{0}")]
    Keepalived(String),
    #[error("{}", lines(problems, *more))]
    Bad {
        /// In the order of the file, at least one.
        problems: Vec<Problem>,
        /// Beyond those listed.
        more: usize,
    },
}

/// One mistake. Prints as `FILE:LINE: key: what is wrong; remedy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub path: PathBuf,
    pub line: usize,
    pub key: String,
    pub fault: Fault,
}

/// What is wrong with a value, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct Fault {
    pub what: String,
    pub remedy: String,
}

impl Fault {
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault { what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path.display(), self.line, self.key, self.fault)
    }
}

fn lines(problems: &[Problem], more: usize) -> String {
    let mut lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.join("\n")
}

/// Gathers the mistakes of one file.
pub(super) struct Problems<'t> {
    text: &'t str,
    path: &'t Path,
    found: Vec<(usize, String, Fault)>,
}

impl<'t> Problems<'t> {
    pub(super) fn new(text: &'t str, path: &'t Path) -> Problems<'t> {
        Problems { text, path, found: Vec::new() }
    }

    /// `at` is an offset into the text.
    pub(super) fn add(&mut self, at: usize, key: impl Into<String>, fault: Fault) {
        self.found.push((at, key.into(), fault));
    }

    /// The value, if it is there and nothing was found.
    pub(super) fn verdict<T>(mut self, value: Option<T>) -> Result<T, ConfigError> {
        if let (Some(value), true) = (value, self.found.is_empty()) {
            return Ok(value);
        }
        self.found.sort_by_key(|(at, ..)| *at);
        let more = self.found.len().saturating_sub(MAX_PROBLEMS);
        self.found.truncate(MAX_PROBLEMS);
        let problems = std::mem::take(&mut self.found)
            .into_iter()
            .map(|(at, key, fault)| Problem { path: self.path.into(), line: self.line(at), key, fault })
            .collect();
        Err(ConfigError::Bad { problems, more })
    }

    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |error| ConfigError::Unreadable { path: path.into(), error };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        let what = format!("larger than {} MiB, so no configuration of haclusterd", MAX_BYTES >> 20);
        return Err(unreadable(std::io::Error::other(what)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good =
            String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
        let mut problems = Problems::new(&good, path);
        problems.add(good.len(), "text", Fault::new("is not UTF-8", "save the file as UTF-8"));
        match problems.verdict(None::<()>) {
            Err(error) => error,
            Ok(()) => unreadable(std::io::Error::other("not UTF-8")),
        }
    })
}
