//! Saturated or hung? An nginx at its limit of connections accepts and closes at once, or leaves new ones waiting; one
//! that hangs leaves them waiting too. At the limit is a worker whose connections are used up, by count or by its own
//! words in the error log. A worker that is not at its limit and does not answer hangs; so does one that did not run
//! for a moment while it was asked.

use super::super::http::Kind;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Of the error log, as written during one check.
const MAX_LOG: u64 = 64 * 1024;
/// More than any host has; the rest is not looked at.
const MAX_WORKERS: usize = 256;
/// What nginx writes when it has no connection left for a client, and when it has no file for one.
const WORDS: [&str; 2] = ["worker_connections are not enough", "Too many open files"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limits {
    pub pid_file: PathBuf,
    pub worker_connections: u32,
    pub error_logs: Vec<PathBuf>,
}

/// How things were before nginx was asked.
pub(super) struct Before {
    workers: Vec<Worker>,
    logs: Vec<u64>,
}

#[derive(Clone, Copy)]
struct Worker {
    pid: u32,
    /// Nanoseconds on a processor.
    ran: u64,
}

impl Limits {
    pub fn before(&self) -> Before {
        let length = |path: &PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
        Before { workers: workers(&self.pid_file), logs: self.error_logs.iter().map(length).collect() }
    }

    /// Why it gave no answer, if that is only because it is at its limit.
    pub fn reached(&self, before: &Before, kind: Kind) -> Option<String> {
        let full: Vec<(Worker, String)> =
            before.workers.iter().filter_map(|worker| Some((*worker, self.is_full(worker.pid)?))).collect();
        let said = || self.said(before);
        match kind {
            Kind::Wrong => None,
            // Who closes is awake.
            Kind::Closed => full.into_iter().next().map(|(_, why)| why).or_else(said),
            Kind::Late => {
                let awake = |worker: &Worker| ran(worker.pid).is_some_and(|now| now > worker.ran);
                let one = full.into_iter().find(|(worker, _)| awake(worker)).map(|(_, why)| why);
                one.or_else(|| said().filter(|_| before.workers.iter().any(awake)))
            }
        }
    }

    /// `None` also where the daemon may not look (it needs CAP_SYS_PTRACE); then the error log must do.
    fn is_full(&self, pid: u32) -> Option<String> {
        let (sockets, files) = open_files(pid)?;
        let connections = self.worker_connections;
        let most = file_limit(pid);
        // nginx keeps a few for itself, and each worker has a socket to every other.
        if u64::from(sockets) * 10 >= u64::from(connections) * 9 {
            return Some(format!("worker {pid} has {sockets} of {connections} worker_connections in use"));
        }
        let near = most.is_some_and(|most| u64::from(files) + 8 >= most);
        near.then(|| format!("worker {pid} has {files} of {} files open", most.unwrap_or_default()))
    }

    /// What the workers wrote since then.
    fn said(&self, before: &Before) -> Option<String> {
        let new = self.error_logs.iter().zip(&before.logs).filter_map(|(path, from)| tail(path, *from));
        let lines: Vec<String> = new.collect();
        let mut lines = lines.iter().flat_map(|text| text.lines());
        let line = lines.find(|line| WORDS.iter().any(|words| line.contains(words)))?;
        // Without the time, which is different each time.
        Some(line.split_once("] ").map_or(line, |(_, rest)| rest).chars().take(200).collect())
    }
}

/// The master's children. After a reload, those of before are among them until their last connection ends.
fn workers(pid_file: &Path) -> Vec<Worker> {
    let pids = worker_pids(pid_file);
    pids.into_iter().filter_map(|pid| Some(Worker { pid, ran: ran(pid)? })).collect()
}

pub(super) fn worker_pids(pid_file: &Path) -> Vec<u32> {
    let master = fs::read_to_string(pid_file).unwrap_or_default();
    let master = master.trim();
    let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap_or_default();
    children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).take(MAX_WORKERS).collect()
}

/// proc(5), schedstat: nanoseconds on a processor, nanoseconds of waiting, time slices.
fn ran(pid: u32) -> Option<u64> {
    fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?.split(' ').next()?.parse().ok()
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

fn tail(path: &Path, from: u64) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let end = file.metadata().ok()?.len();
    // A log that has become shorter was begun anew.
    let from = if from > end { 0 } else { from.max(end.saturating_sub(MAX_LOG)) };
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_LOG).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
