//! nginx's master process, by its pid file and a pidfd: its death is known at once and costs nothing until then.
//!
//! A reload keeps the master. A binary upgrade (USR2, then QUIT) leaves two for a while; when the old one ends, the
//! pid file names the new one already, and that is no death.

use super::Probe;
use crate::engine::health::Outcome;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep};

/// While there is no master: how often the pid file is read again. A file has no pidfd, and a read costs 20 µs.
const LOOK: Duration = Duration::from_millis(100);
/// nginx makes its pid file and then writes it.
const UNWRITTEN: Duration = Duration::from_secs(1);
/// A pid file that names another program was left by a crash, and its number given to somebody else.
const PROGRAMS: [&str; 3] = ["nginx", "openresty", "angie"];

pub(super) struct Process {
    pid_file: PathBuf,
    master: Option<Master>,
    /// The last thing reported.
    dead: Option<String>,
}

struct Master {
    pid: Pid,
    fd: AsyncFd<OwnedFd>,
}

impl Process {
    pub(super) fn new(pid_file: PathBuf) -> Process {
        Process { pid_file, master: None, dead: None }
    }

    async fn result(&mut self) -> Outcome {
        let mut empty_since = None;
        loop {
            if let Some(master) = &self.master {
                // Readable once the process has exited, also while nobody has reaped it.
                let _ = master.fd.ready(Interest::READABLE).await;
                let pid = master.pid.as_raw_nonzero();
                self.master = None;
                if let Ok(next) = self.find() {
                    return self.follow(next);
                }
                return self.died(format!("process {pid} of {} has exited", self.pid_file.display()));
            }
            match self.find() {
                Ok(master) => return self.follow(master),
                Err(reason) if reason.is_empty() => {
                    let since = *empty_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= UNWRITTEN && self.dead.is_none() {
                        return self
                            .died(format!("{} stays empty: is nginx starting?", self.pid_file.display()));
                    }
                }
                Err(reason) if self.dead.is_none() => return self.died(reason),
                Err(_) => {}
            }
            sleep(LOOK).await;
        }
    }

    fn follow(&mut self, master: Master) -> Outcome {
        self.master = Some(master);
        self.dead = None;
        Outcome::Pass
    }

    fn died(&mut self, reason: String) -> Outcome {
        self.dead = Some(reason.clone());
        Outcome::Dead(reason)
    }

    /// The process that the pid file names, if it is there and is nginx. An empty reason: not written yet.
    fn find(&self) -> Result<Master, String> {
        let path = self.pid_file.display();
        let text = fs::read_to_string(&self.pid_file)
            .map_err(|error| format!("{path}: {error}: start nginx, or correct nginx.pid_file"))?;
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
        Ok(Master { pid, fd })
    }
}

fn has_exited(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

#[allow(unsafe_code)]
fn readiness(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` gives the same open descriptor until it is dropped, and nothing here replaces it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

impl Probe for Process {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>> {
        Box::pin(self.result())
    }
}
