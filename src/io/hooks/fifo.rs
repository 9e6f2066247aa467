//! keepalived's notify FIFO. Nothing is lost while its reader is slow: lines wait for it.

use crate::config::hooks::Fifo;
use crate::io::command::{Account, Order, refuse_foreign};
use crate::io::watch_for;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A minute of the worst flapping; beyond them, the oldest is worth least.
const MAX_LINES: usize = 1000;
/// Between two attempts to make it, and between an end of its script and the next start.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Lines on their way. Until it is opened they wait as well.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pipe: Option<AsyncFd<OwnedFd>>,
    waiting: VecDeque<String>,
}

impl Lines {
    pub fn open(&mut self, pipe: OwnedFd) -> std::io::Result<()> {
        self.pipe = Some(watch_for(pipe, Interest::WRITABLE)?);
        self.write();
        Ok(())
    }

    /// How many had to be dropped for it.
    pub fn push(&mut self, line: String) -> u64 {
        self.waiting.push_back(line);
        self.write();
        let excess = self.waiting.len().saturating_sub(MAX_LINES);
        self.waiting.drain(..excess);
        excess as u64
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Writes what waits, whenever there is room; never ends. May be dropped at any time.
    pub async fn flow(&mut self) {
        loop {
            let Some(pipe) = self.pipe.as_ref().filter(|_| !self.waiting.is_empty()) else {
                return std::future::pending().await;
            };
            match pipe.writable().await {
                Ok(mut room) => room.clear_ready(),
                Err(_) => return std::future::pending().await,
            }
            self.write();
        }
    }

    /// A line is shorter than what a pipe takes as one: all of it, or nothing.
    fn write(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        while let Some(line) = self.waiting.front() {
            if rustix::io::write(pipe.get_ref(), line.as_bytes()).is_err() {
                return;
            }
            self.waiting.pop_front();
        }
    }
}

/// Makes it if there is none. Open for both, it needs no reader. May look a user up, so not for the office's thread.
pub(super) fn open(fifo: &Fifo) -> Result<OwnedFd, String> {
    let path = &fifo.path;
    let failed = |error: rustix::io::Errno| format!("{}: {}", path.display(), std::io::Error::from(error));
    let account = fifo.user.as_deref().map(Account::find_with_group).transpose()?;
    match rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
        Ok(()) => give(path, account)?,
        Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(failed(error)),
    }
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let pipe = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
    let kind = rustix::fs::fstat(&pipe).map(|stat| FileType::from_raw_mode(stat.st_mode)).map_err(failed)?;
    if kind != FileType::Fifo {
        return Err(format!("{} is there and is no FIFO: remove it, or name another path", path.display()));
    }
    Ok(pipe)
}

fn give(path: &Path, account: Option<Account>) -> Result<(), String> {
    let Some((uid, gid)) = account.map(Account::ids) else { return Ok(()) };
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Its reader, which is started again whenever it ends. The FIFO's path is its last word, as keepalived gives it.
pub(super) async fn read_by_script(fifo: Fifo) {
    let Some(script) = &fifo.script else { return };
    let words: Vec<String> = script.iter().cloned().chain([fifo.path.display().to_string()]).collect();
    loop {
        match start(&words, fifo.user.clone()).await {
            Ok(mut child) => {
                let _group = Group(child.id());
                let ended = child.wait().await.map_or_else(|e| e.to_string(), |status| status.to_string());
                tracing::warn!("{}, which reads the FIFO, has ended and is started again: {ended}", words[0]);
            }
            Err(error) => tracing::warn!("{} is to read the FIFO: {error}", words[0]),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn start(words: &[String], user: Option<String>) -> Result<tokio::process::Child, String> {
    let order = Order { listen: false, ..Order::new(words, None, Duration::ZERO) };
    let (tell, ready) = tokio::sync::oneshot::channel();
    // A user is looked up, which may take its time.
    let prepare = move || {
        let account = user.as_deref().map(Account::find_with_group).transpose();
        let account = account.and_then(|account| {
            refuse_foreign(&order.words[0], account.unwrap_or_else(Account::own)).map(|()| account)
        });
        let _ = tell.send(account.map(|account| Order { account, ..order }.command()));
    };
    std::thread::Builder::new().name("fifo".into()).spawn(prepare).map_err(|error| error.to_string())?;
    let command = ready.await.map_err(|_| "it could not be prepared".to_owned())??;
    tokio::process::Command::from(command).spawn().map_err(|error| error.to_string())
}

/// What a script began ends with it, and with us.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.0.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::TERM);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn fifo(dir: &tempfile::TempDir) -> Fifo {
        Fifo { path: dir.path().join("notify"), script: None, user: None }
    }

    fn line(number: usize) -> String {
        format!("INSTANCE \"VI_{number:04}{}\" MASTER 100\n", "x".repeat(200))
    }

    #[tokio::test]
    async fn what_has_no_room_waits_and_the_oldest_beyond_the_bound_are_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let mut lines = Lines::default();
        assert_eq!(lines.push("first\n".into()), 0, "before it is open");
        lines.open(open(&fifo(&dir)).unwrap()).unwrap();
        assert!(lines.is_empty());
        let all = 2000;
        let dropped: u64 = (0..all).map(|number| lines.push(line(number))).sum();
        assert!(dropped > 0 && lines.waiting.len() == MAX_LINES);
        let reader = open(&fifo(&dir)).unwrap();
        let mut read = Vec::new();
        while read.iter().filter(|byte| **byte == b'\n').count() as u64 != 1 + all as u64 - dropped {
            let _ = tokio::time::timeout(Duration::from_millis(1), lines.flow()).await;
            let mut chunk = [0; 65536];
            if let Ok(length) = rustix::io::read(&reader, &mut chunk) {
                read.extend(&chunk[..length]);
            }
        }
        let text = String::from_utf8(read).unwrap();
        assert!(
            text.starts_with("first\n")
                && text.ends_with(&line(all - 1))
                && text.lines().is_sorted_by(|a, b| a.starts_with('f') || a < b)
        );
    }

    #[tokio::test]
    async fn it_is_private_and_nothing_else_is_taken_for_one() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(&fifo(&dir)).unwrap());
        let mode = std::fs::metadata(fifo(&dir).path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        std::fs::remove_file(fifo(&dir).path).unwrap();
        std::fs::write(fifo(&dir).path, "").unwrap();
        assert!(open(&fifo(&dir)).unwrap_err().contains("is no FIFO"));
        let lost = Fifo { path: "/nowhere/notify".into(), ..fifo(&dir) };
        assert!(open(&lost).unwrap_err().starts_with("/nowhere/notify: No such file"));
    }
}
