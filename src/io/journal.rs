//! A journal: all that the engine of one run was fed, so that anybody can feed it again and see what it decides.
//!
//! The engine is a function of what it began with (its configuration, the stored voters, what an earlier run left, the
//! time) and of its inputs. A journal holds just these, a line of JSON each:
//!
//! ```text
//! {"schema":1,"version":"0.1.0","started":81234567,"config":{..},"voters":{..},"inheritance":{..}}
//! {"step":{"at":81234600,"input":{..},"actions":"9f86d081884c7d65"}}
//! {"gap":{"lost":17}}     the disk was too slow for so many inputs; what follows cannot be replayed
//! "full"                  the journal had reached its bound
//! ```
//! Times are the engine's microseconds. `actions` is a digest of what the engine then asked for; it is missing if the
//! engine did not survive the input. Neither keys nor tokens ever reach the engine, so none is in a journal: names,
//! addresses and the words of checks are.

mod recorder;
mod replay;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

pub use recorder::{Recorder, Writing, record};
pub use replay::{Decided, Replay};

use crate::engine::heir::Inheritance;
use crate::engine::time::Instant;
use crate::engine::{Action, Config, Engine, Input};
use haclusterd_proto::cluster::SignedVoters;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::hash::Hasher;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Raised when lines get another meaning.
pub const SCHEMA: u32 = 1;
/// The program that writes; another may decide otherwise.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Of a file, about half an hour of three nodes: enough to catch what happens often, and no disk is filled by it.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// A new configuration, the longest line, has 24 VIPs and some 10 KiB.
const MAX_LINE: u64 = 256 * 1024;
/// More than the shortest lines that fit into [`MAX_BYTES`].
const MAX_LINES: usize = 1_000_000;

/// What a run begins with. The daemon too makes its engine of it, so that nothing can be missing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Header {
    pub schema: u32,
    pub version: String,
    pub started: Instant,
    pub config: Config,
    pub voters: Option<SignedVoters>,
    pub inheritance: Inheritance,
}

/// One input, and a digest of what the engine made of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    pub at: Instant,
    pub input: Input,
    pub actions: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Step(Step),
    Gap { lost: u64 },
    Full,
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{}: cannot be read: {error}; check the path and its permissions", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{}:{line}: {what}", path.display())]
    Bad { path: PathBuf, line: usize, what: String },
}

impl Header {
    #[must_use]
    pub fn new(
        config: Config,
        voters: Option<SignedVoters>,
        inheritance: Inheritance,
        started: Instant,
    ) -> Header {
        Header { schema: SCHEMA, version: VERSION.into(), started, config, voters, inheritance }
    }

    #[must_use]
    pub fn engine(&self) -> Engine {
        Engine::new(self.config.clone(), self.voters.clone(), self.started)
            .inherit(&self.inheritance, self.started)
    }
}

impl Step {
    /// `actions`: `None` if the engine did not survive the input.
    #[must_use]
    pub fn new(at: Instant, input: Input, actions: Option<&[Action]>) -> Step {
        Step { at, input, actions: actions.map(digest) }
    }
}

/// Tells two courses of a run apart; 64 bits are plenty where nobody lies.
fn digest(actions: &[Action]) -> String {
    let mut hash = siphasher::sip::SipHasher13::new();
    hash.write(&json(&actions));
    format!("{:016x}", hash.finish())
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Only maps with keys that are no strings, and writers, can fail.
    serde_json::to_vec(value).unwrap_or_default()
}

/// Puts a journal down, whole lines only, up to its bound.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    left: u64,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Writer<W> {
        Writer { out, left: MAX_BYTES }
    }

    /// Once, before all else.
    pub fn header(&mut self, header: &Header) -> io::Result<()> {
        self.put(json(header))
    }

    pub fn step(&mut self, step: Step) -> io::Result<()> {
        self.line(&Line::Step(step))
    }

    /// So many inputs are missing here.
    pub fn gap(&mut self, lost: u64) -> io::Result<()> {
        self.line(&Line::Gap { lost })
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        let text = json(line);
        if text.len() as u64 >= self.left {
            self.out.write_all(&[&json(&Line::Full)[..], b"\n"].concat())?;
            self.out.flush()?;
            let full = format!("it has reached its bound of {} MiB", MAX_BYTES >> 20);
            return Err(io::Error::new(ErrorKind::FileTooLarge, full));
        }
        self.put(text)
    }

    fn put(&mut self, mut text: Vec<u8>) -> io::Result<()> {
        text.push(b'\n');
        self.left = self.left.saturating_sub(text.len() as u64);
        self.out.write_all(&text)
    }
}

/// A journal that is read. It may be a stranger's: nothing is believed of its lengths.
#[derive(Debug)]
struct Reader {
    path: PathBuf,
    lines: BufReader<File>,
    /// Of the line that was read last.
    line: usize,
    header: Header,
    /// Why the journal ends where it does, if not with the run.
    end: Option<&'static str>,
}

impl Reader {
    fn open(path: &Path) -> Result<Reader, JournalError> {
        let file = File::open(path).map_err(unreadable(path))?;
        let mut lines = BufReader::new(file);
        let text = next_line(&mut lines).map_err(unreadable(path))?;
        let header = header(&text).map_err(|what| JournalError::Bad { path: path.into(), line: 1, what })?;
        Ok(Reader { path: path.into(), lines, line: 1, header, end: None })
    }

    /// `None` at the journal's end.
    fn step(&mut self) -> Result<Option<Step>, JournalError> {
        let text = next_line(&mut self.lines).map_err(unreadable(&self.path))?;
        if text.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        if self.line > MAX_LINES {
            return Err(self.bad(format!("more than {MAX_LINES} lines, which no journal has")));
        }
        if text.last() != Some(&b'\n') && (text.len() as u64) < MAX_LINE {
            self.end = Some("its last line is not whole: the daemon was killed, or its disk was full");
            return Ok(None);
        }
        match serde_json::from_slice(&text) {
            Ok(Line::Step(step)) => Ok(Some(step)),
            Ok(Line::Gap { lost }) => Err(self.bad(gap(lost))),
            Ok(Line::Full) => {
                self.end = Some("it had reached its bound; the daemon ran on");
                Ok(None)
            }
            Err(error) => Err(self.bad(unknown(&text, &error, &self.header.version))),
        }
    }

    fn bad(&self, what: String) -> JournalError {
        JournalError::Bad { path: self.path.clone(), line: self.line, what }
    }
}

/// Empty at the end; without its line feed if there is none within [`MAX_LINE`].
fn next_line(lines: &mut BufReader<File>) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    lines.take(MAX_LINE).read_until(b'\n', &mut text)?;
    Ok(text)
}

fn header(text: &[u8]) -> Result<Header, String> {
    #[derive(Deserialize)]
    struct Stamp {
        schema: u32,
        version: String,
    }
    let no_journal = |error| format!("this does not begin a journal of `haclusterd run --journal`: {error}");
    let stamp: Stamp = serde_json::from_slice(text).map_err(no_journal)?;
    if stamp.schema != SCHEMA {
        let Stamp { schema, version } = stamp;
        return Err(format!(
            "a journal of schema {schema}, this program reads {SCHEMA}: replay it with haclusterd {version:?}, which wrote it"
        ));
    }
    serde_json::from_slice(text).map_err(|error| unknown(text, &error, &stamp.version))
}

fn unknown(text: &[u8], error: &serde_json::Error, version: &str) -> String {
    if text.len() as u64 >= MAX_LINE {
        return format!("longer than {} KiB, which no line of a journal is", MAX_LINE >> 10);
    }
    match version == VERSION {
        true => format!("no line of a journal: {error}; the file was changed or is damaged"),
        false => format!(
            "not known to this program ({error}): replay it with haclusterd {version:?}, which wrote it"
        ),
    }
}

fn gap(lost: u64) -> String {
    format!(
        "{lost} inputs are missing, so what follows cannot be replayed: the daemon's disk was too slow; record again, \
         to another one (`journal_dropped` in `status -o json` counts)"
    )
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> JournalError + use<> {
    let path = path.to_path_buf();
    move |error| JournalError::Unreadable { path, error }
}
