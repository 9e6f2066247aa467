//! Saturated or hung? An nginx at its limit of connections accepts and closes at once, or leaves new ones waiting; one
//! that hangs leaves them waiting too. At the limit is a worker whose connections are used up, by count or by its own
//! words in the error log. A worker that is not at its limit and does not answer hangs; so does one that is stopped, waits
//! for a disk, or did not run for longer than nginx ever pauses.
//!
//! Everything here may block; a `Hand` does it.

use super::super::http::Kind;
use super::master::Source;
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Of the error log, as written during one check.
const MAX_LOG: u64 = 64 * 1024;
/// More than any host has; the rest is not looked at.
const MAX_WORKERS: usize = 256;
/// Without a file for another connection, nginx accepts none for half a second.
const PAUSE: Duration = Duration::from_millis(600);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limits {
    pub master: Source,
    pub worker_connections: u32,
    pub error_logs: Vec<PathBuf>,
}

/// What is known of the workers, from before nginx was asked.
pub(super) struct Watch {
    limits: Limits,
    /// Nanoseconds on a processor, and since when there were no more.
    workers: BTreeMap<u32, (u64, Instant)>,
    logs: Vec<u64>,
}

impl Watch {
    pub fn new(limits: Limits) -> Watch {
        Watch { limits, workers: BTreeMap::new(), logs: Vec::new() }
    }

    /// To be called before nginx is asked. How many workers there are.
    pub fn before(&mut self) -> usize {
        let now = Instant::now();
        let old = std::mem::take(&mut self.workers);
        for pid in worker_pids(&self.limits.master) {
            let Some(ran) = ran(pid) else { continue };
            let since = old.get(&pid).filter(|(before, _)| *before == ran).map_or(now, |(_, since)| *since);
            self.workers.insert(pid, (ran, since));
        }
        let length = |path: &PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
        self.logs = self.limits.error_logs.iter().map(length).collect();
        self.workers.len()
    }

    /// Why it gave no answer, if that is only because it is at its limit.
    pub fn reached(&self, kind: Kind) -> Option<String> {
        let full = |awake: &dyn Fn(u32) -> bool| {
            self.workers.keys().filter(|pid| awake(**pid)).find_map(|pid| self.is_full(*pid))
        };
        match kind {
            Kind::Wrong => None,
            // Who closes is awake.
            Kind::Closed => full(&|_| true).or_else(|| self.said()),
            Kind::Late if self.workers.keys().any(|pid| is_held_up(*pid)) => None,
            Kind::Late => {
                let awake = |pid| self.is_awake(pid);
                full(&awake).or_else(|| self.said().filter(|_| self.workers.keys().any(|pid| awake(*pid))))
            }
        }
    }

    fn is_awake(&self, pid: u32) -> bool {
        let Some((before, since)) = self.workers.get(&pid) else { return false };
        ran(pid).is_some_and(|now| now > *before) || since.elapsed() < PAUSE
    }

    /// `None` also where the daemon may not look (it needs CAP_SYS_PTRACE); then the error log must do.
    fn is_full(&self, pid: u32) -> Option<String> {
        let (sockets, files) = open_files(pid)?;
        let connections = self.limits.worker_connections;
        let most = file_limit(pid);
        // nginx keeps a few for itself, and each worker has a socket to every other.
        if u64::from(sockets) * 10 >= u64::from(connections) * 9 {
            return Some(format!("worker {pid} has {sockets} of {connections} worker_connections in use"));
        }
        let near = most.is_some_and(|most| u64::from(files) + 8 >= most);
        near.then(|| format!("worker {pid} has {files} of {} files open", most.unwrap_or_default()))
    }

    /// What the workers wrote since then.
    fn said(&self) -> Option<String> {
        let new = self.limits.error_logs.iter().zip(&self.logs);
        new.filter_map(|(path, from)| tail(path, *from)).find_map(|text| text.lines().find_map(confession))
    }
}

/// `2026/11/25 14:00:00 [alert] 7#7: 512 worker_connections are not enough`: nginx's own words, not what a client had it
/// quote.
fn confession(line: &str) -> Option<String> {
    let (_, text) = line.split_once("#").and_then(|(_, rest)| rest.split_once(": "))?;
    let text = text.strip_prefix('*').and_then(|rest| rest.split_once(' ')).map_or(text, |(_, rest)| rest);
    let bare = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let short = bare.len() < text.len() && bare.starts_with(" worker_connections are not enough");
    let files = text.starts_with("accept4() failed (24:") || text.starts_with("accept() failed (24:");
    (short || files).then(|| text.chars().take(200).collect())
}

/// The master's children. After a reload, those of before are among them until their last connection ends.
pub(super) fn worker_pids(master: &Source) -> Vec<u32> {
    let Some(master) = master.pid() else { return Vec::new() };
    let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap_or_default();
    children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).take(MAX_WORKERS).collect()
}

/// proc(5), schedstat: nanoseconds on a processor, nanoseconds of waiting, time slices.
fn ran(pid: u32) -> Option<u64> {
    fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?.split(' ').next()?.parse().ok()
}

/// proc(5), stat: stopped, or in the kernel until a disk answers.
fn is_held_up(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't', 'D']))
}

/// Sockets, and files in all.
fn open_files(pid: u32) -> Option<(u32, u32)> {
    let (mut sockets, mut files) = (0, 0);
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
        files += 1;
        let link = fs::read_link(entry.path()).ok();
        sockets += u32::from(link.is_some_and(|link| link.to_string_lossy().starts_with("socket:")));
    }
    Some((sockets, files))
}

fn file_limit(pid: u32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Of a file and nothing else: who may write where the log is may put a pipe there.
fn tail(path: &Path, from: u64) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let meta = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let end = meta.len();
    // A log that has become shorter was begun anew.
    let from = if from > end { 0 } else { from.max(end.saturating_sub(MAX_LOG)) };
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_LOG).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nginxs_own_words_count() {
        let said = |text: &str| confession(&format!("2026/11/25 14:00:00 [alert] 7#7: {text}"));
        assert_eq!(
            said("512 worker_connections are not enough").unwrap(),
            "512 worker_connections are not enough"
        );
        assert!(said("*31 512 worker_connections are not enough while connecting").is_some());
        assert!(said("accept4() failed (24: Too many open files)").is_some());
        for quoted in [
            "*9 open() \"/x/9 worker_connections are not enough\" failed (2: No such file or directory)",
            "*9 open() \"/x\" failed (24: Too many open files)",
            "worker_connections are not enough",
        ] {
            assert_eq!(said(quoted), None, "{quoted}");
        }
    }
}
