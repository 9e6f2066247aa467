//! nginx's master process, by its pid file and a pidfd: its death is known at once and costs nothing until then.
//!
//! A reload keeps the master. A binary upgrade (USR2, then QUIT) leaves two for a while; when the old one ends, the
//! pid file names the new one already, and that is no death.

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
/// A pid file that names another program was left by a crash, and its number given to somebody else.
pub(super) const PROGRAMS: [&str; 3] = ["nginx", "openresty", "angie"];

pub(in crate::io::probe) struct Master {
    pid_file: PathBuf,
    process: Option<Process>,
    told: Option<News>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::io::probe) enum News {
    Runs,
    /// It ran, and has exited.
    Died(String),
    /// It is not there.
    Absent(String),
}

struct Process {
    pid: Pid,
    fd: AsyncFd<OwnedFd>,
}

impl Master {
    pub fn new(pid_file: PathBuf) -> Master {
        Master { pid_file, process: None, told: None }
    }

    /// Returns when there is something new to tell.
    pub async fn news(&mut self) -> News {
        let mut empty_since = None;
        loop {
            let news = match &self.process {
                Some(process) => {
                    // Readable once the process has exited, also while nobody has reaped it.
                    let _ = process.fd.ready(Interest::READABLE).await;
                    let pid = process.pid.as_raw_nonzero();
                    self.process = None;
                    match self.look() {
                        true => News::Runs,
                        false => {
                            News::Died(format!("process {pid} of {} has exited", self.pid_file.display()))
                        }
                    }
                }
                None => match self.find() {
                    Ok(process) => {
                        self.process = Some(process);
                        News::Runs
                    }
                    Err(reason) if !reason.is_empty() => News::Absent(reason),
                    Err(_) => {
                        let since = *empty_since.get_or_insert_with(Instant::now);
                        if since.elapsed() < UNWRITTEN {
                            sleep(LOOK).await;
                            continue;
                        }
                        News::Absent(format!("{} stays empty: is nginx starting?", self.pid_file.display()))
                    }
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
    pub fn look(&mut self) -> bool {
        self.process = self.find().ok();
        self.process.is_some()
    }

    /// The process that the pid file names, if it is there and is nginx. An empty reason: not written yet.
    fn find(&self) -> Result<Process, String> {
        let path = self.pid_file.display();
        let text = fs::read_to_string(&self.pid_file)
            .map_err(|error| format!("{path}: {error}: start nginx, or correct pid_file"))?;
        let number = text.trim();
        if number.is_empty() {
            return Err(String::new());
        }
        let pid = number.parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| format!("{path} holds no process id"))?;
        let gone = || format!("process {number} of {path} is not running");
        let fd = pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(|_| gone())?;
        if has_exited(&fd) {
            return Err(gone()); // a zombie that nobody has reaped yet
        }
        // Read after the pidfd is open, so that it is the same process.
        let program = fs::read_to_string(format!("/proc/{number}/comm")).map_err(|_| gone())?;
        if !PROGRAMS.iter().any(|known| program.starts_with(known)) {
            return Err(format!("process {number} of {path} is {}, not nginx", program.trim()));
        }
        let fd = readiness(fd).map_err(|error| error.to_string())?;
        Ok(Process { pid, fd })
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
