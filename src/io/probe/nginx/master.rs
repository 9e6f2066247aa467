//! nginx's master process, by its pid file and a pidfd: its death is known at once and costs nothing until then.
//!
//! A reload keeps the master. A binary upgrade (USR2, then QUIT) leaves two for a while; when the old one ends, the
//! pid file names the new one already, and that is no death.

use super::super::hand::{Hand, Stuck};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep};

/// While there is no master: how often the pid file is read again. A file has no pidfd, and a read costs 20 µs.
const LOOK: Duration = Duration::from_millis(100);
/// nginx makes its pid file and then writes it.
const UNWRITTEN: Duration = Duration::from_secs(1);
/// A pid file on a disk that hangs says nothing, good or bad.
const PATIENCE: Duration = Duration::from_secs(1);
/// A pid file that names another program was left by a crash, and its number given to somebody else.
pub(super) const PROGRAMS: [&str; 3] = ["nginx", "openresty", "angie"];

/// Which process is the master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    File(PathBuf),
    /// This one, as long as it lives: nginx could not say which file names it.
    Pid(u32),
}

pub(super) struct Master {
    hand: Hand<(), Result<Found, String>>,
    source: Source,
    process: Option<Process>,
    told: Option<News>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    Runs,
    /// It ran, and has exited.
    Died(String),
    /// It is not there.
    Absent(String),
}

type Found = (Pid, OwnedFd);

struct Process {
    pid: Pid,
    fd: AsyncFd<OwnedFd>,
}

impl Source {
    /// As it says, whoever that is.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Source::File(path) => fs::read_to_string(path).ok()?.trim().parse().ok(),
            Source::Pid(pid) => Some(*pid),
        }
    }

    fn show(&self) -> String {
        match self {
            Source::File(path) => path.display().to_string(),
            Source::Pid(_) => "nginx".into(),
        }
    }

    /// The process, if it is there and is nginx. An empty reason: not written yet.
    fn find(&self) -> Result<Found, String> {
        let shown = self.show();
        let number = match self {
            Source::File(path) => fs::read_to_string(path)
                .map_err(|error| format!("{shown}: {error}: start nginx, or correct pid_file"))?,
            Source::Pid(pid) => pid.to_string(),
        };
        let number = number.trim();
        if number.is_empty() {
            return Err(String::new());
        }
        let pid = number.parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| format!("{shown} holds no process id"))?;
        let gone = || format!("process {number} of {shown} is not running");
        let fd = pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(|_| gone())?;
        if has_exited(&fd) {
            return Err(gone()); // a zombie that nobody has reaped yet
        }
        // Read after the pidfd is open, so that it is the same process.
        let program = fs::read_to_string(format!("/proc/{number}/comm")).map_err(|_| gone())?;
        if !PROGRAMS.iter().any(|known| program.starts_with(known)) {
            return Err(format!("process {number} of {shown} is {}, not nginx", program.trim()));
        }
        Ok((pid, fd))
    }
}

impl Master {
    pub fn new(source: Source) -> Master {
        let asked = source.clone();
        let hand = Hand::new("nginx pid", move |(), answer| drop(answer.send(asked.find())));
        Master { hand, source, process: None, told: None }
    }

    /// Returns when there is something new to tell.
    pub async fn news(&mut self) -> News {
        let mut empty_since = None;
        loop {
            let news = match self.process.take() {
                Some(process) => {
                    // Readable once the process has exited, also while nobody has reaped it.
                    let _ = process.fd.ready(Interest::READABLE).await;
                    let pid = process.pid.as_raw_nonzero();
                    match self.look().await {
                        true => News::Runs,
                        false => News::Died(format!("process {pid} of {} has exited", self.source.show())),
                    }
                }
                None => match self.find().await {
                    Some(Ok(())) => News::Runs,
                    Some(Err(reason)) if !reason.is_empty() => News::Absent(reason),
                    Some(Err(_)) => {
                        let since = *empty_since.get_or_insert_with(Instant::now);
                        if since.elapsed() < UNWRITTEN {
                            sleep(LOOK).await;
                            continue;
                        }
                        News::Absent(format!("{} stays empty: is nginx starting?", self.source.show()))
                    }
                    None => continue,
                },
            };
            if self.is_new(&news) {
                self.told = Some(news.clone());
                return news;
            }
            if self.process.is_none() {
                sleep(LOOK).await;
            }
        }
    }

    /// Once it is dead, it makes no difference how.
    fn is_new(&self, news: &News) -> bool {
        let old = matches!(
            (&self.told, news),
            (Some(News::Died(_) | News::Absent(_)), News::Absent(_)) | (Some(News::Runs), News::Runs)
        );
        !old
    }

    /// Does it run now?
    pub async fn look(&mut self) -> bool {
        matches!(self.find().await, Some(Ok(())))
    }

    /// `None`: nobody can say.
    async fn find(&mut self) -> Option<Result<(), String>> {
        self.process = None;
        let found = match self.hand.run((), PATIENCE).await {
            Ok(found) => found,
            Err(Stuck::Hangs) => return None,
            Err(Stuck::NoThread(reason)) => {
                sleep(PATIENCE).await;
                Err(reason)
            }
        };
        Some(found.and_then(|(pid, fd)| {
            let fd = readiness(fd).map_err(|error| error.to_string())?;
            self.process = Some(Process { pid, fd });
            Ok(())
        }))
    }
}

pub(in crate::io::probe) fn has_exited(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

#[allow(unsafe_code)]
pub(in crate::io::probe) fn readiness(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` gives the same open descriptor until it is dropped, and nothing here replaces it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}
