//! Do enough processes of a program run? A death is known at once by a pidfd, a start with the next interval.

use super::hand::Hand;
use super::nginx::master::{has_exited, readiness};
use super::schedule;
use crate::config::{Check, Process, Programs};
use crate::engine::health::Outcome;
use futures::future::select_all;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Interval;

/// Of more processes, the death of the others is known with the next interval.
const MAX_WATCHED: usize = 64;

pub(super) struct Probe {
    process: Process,
    /// What is read of other processes may hang, as `ps` does.
    hand: Hand<(), Vec<OwnedFd>>,
    schedule: Interval,
    timeout: Duration,
    watched: Vec<AsyncFd<OwnedFd>>,
}

impl Probe {
    pub fn new(check: &Check, process: Process) -> Probe {
        let programs = process.programs.clone();
        let hand = Hand::new(&check.name, move |(), answer| drop(answer.send(running(&programs))));
        Probe { process, hand, schedule: schedule(check), timeout: check.timeout, watched: Vec::new() }
    }
}

impl super::Probe for Probe {
    async fn next(&mut self) -> Outcome {
        let exits = self.watched.iter().map(|fd| Box::pin(fd.ready(Interest::READABLE)));
        if self.watched.is_empty() {
            self.schedule.tick().await;
        } else {
            tokio::select! {
                _ = select_all(exits) => {}
                _ = self.schedule.tick() => {}
            }
        }
        let running = match self.hand.run((), self.timeout).await {
            Ok(running) => running,
            Err(stuck) => return Outcome::Fail(stuck.say("the processes cannot be looked at: it hangs")),
        };
        let count = u32::try_from(running.len()).unwrap_or(u32::MAX);
        self.watched = running.into_iter().take(MAX_WATCHED).filter_map(|fd| readiness(fd).ok()).collect();
        judge(&self.process, count)
    }
}

fn judge(Process { programs, quorum }: &Process, count: u32) -> Outcome {
    let name = match programs {
        Programs::Named(name) => name.clone(),
        Programs::Called(words) => words.join(" "),
    };
    match count {
        count if count < *quorum.start() => {
            Outcome::Fail(format!("{count} of {} processes of {name} run", quorum.start()))
        }
        count if count > *quorum.end() => {
            Outcome::Fail(format!("{count} processes of {name} run, more than {}", quorum.end()))
        }
        _ => Outcome::Pass,
    }
}

/// Without those that have exited and wait for their parent.
fn running(programs: &Programs) -> Vec<OwnedFd> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let open = |pid: i32| {
        let fd = is(programs, pid).then(|| pidfd_open(Pid::from_raw(pid)?, PidfdFlags::NONBLOCK).ok())??;
        (!has_exited(&fd)).then_some(fd)
    };
    pids.filter_map(open).collect()
}

fn is(programs: &Programs, pid: i32) -> bool {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    match programs {
        Programs::Named(name) => read("comm").strip_suffix(b"\n") == Some(name.as_bytes()),
        Programs::Called(words) => {
            let line = read("cmdline");
            let said = line.split(|byte| *byte == 0).take(words.len() + 1);
            said.eq(words.iter().map(String::as_bytes).chain([&b""[..]]))
        }
    }
}
