//! Programs of the operator's: run without a shell, in a process group of their own, for a bounded time, with bounded
//! output. Everything here blocks: a thread of its own does it.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::io::{PipeReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Of what a program says; the rest is read and forgotten.
const MAX_OUTPUT: usize = 4096;
/// Between the polite signal and the other one.
const GRACE: Duration = Duration::from_secs(2);
/// Where programs of the system are, whatever the daemon was started from.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
}

/// What is to be run, and how.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub words: Vec<String>,
    /// As whom; `None`: as the daemon itself.
    pub account: Option<Account>,
    pub patience: Duration,
    /// Beside `PATH`, which is all else.
    pub environment: Vec<(&'static str, String)>,
    /// Less than a pipe holds (64 KiB), so that no program has to read it.
    pub input: Vec<u8>,
    /// What it says matters. Else whatever it leaves behind may write without end.
    pub listen: bool,
}

/// How a run ended.
pub(super) enum End {
    Exited {
        status: ExitStatus,
        said: String,
    },
    /// It was given up. It must still be tidied up, which may take for ever.
    Late(Straggler),
    NotStarted(String),
}

/// A program that did not end in time.
pub(super) struct Straggler(Child);

impl Account {
    pub const ROOT: Account = Account { uid: 0, gid: 0 };

    /// By name or number.
    pub fn find(text: &str) -> Result<Account, String> {
        let user = match text.parse() {
            Ok(uid) => nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)),
            Err(_) => nix::unistd::User::from_name(text),
        };
        let user = user.map_err(|error| format!("the user {text} cannot be looked up: {error}"))?;
        let user = user.ok_or_else(|| format!("there is no user {text}: create it, or set `user`"))?;
        Ok(Account { uid: user.uid.as_raw(), gid: user.gid.as_raw() })
    }

    /// `USER` or `USER:GROUP`.
    pub fn find_with_group(text: &str) -> Result<Account, String> {
        let Some((user, group)) = text.split_once(':') else { return Account::find(text) };
        let found = match group.parse() {
            Ok(gid) => nix::unistd::Group::from_gid(nix::unistd::Gid::from_raw(gid)),
            Err(_) => nix::unistd::Group::from_name(group),
        };
        let found = found.map_err(|error| format!("the group {group} cannot be looked up: {error}"))?;
        let found = found.ok_or_else(|| format!("there is no group {group}: create it, or name another"))?;
        Ok(Account { gid: found.gid.as_raw(), ..Account::find(user)? })
    }

    pub fn own() -> Account {
        Account { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    /// As chown takes it.
    pub fn ids(self) -> (u32, u32) {
        (self.uid, self.gid)
    }
}

/// Whether it will be run as that user, as far as this host can tell.
pub fn trust(program: &Path, user: &str) -> Result<(), String> {
    refuse_foreign(&program.to_string_lossy(), Account::find_with_group(user)?)
}

/// A program that others may change would run their code: neither it nor a directory above it may be theirs.
pub(super) fn refuse_foreign(program: &str, account: Account) -> Result<(), String> {
    if !program.contains('/') {
        return Ok(()); // found in the system's own directories
    }
    let path = Path::new(program).canonicalize().map_err(|error| format!("{program}: {error}"))?;
    let ours = [0, rustix::process::geteuid().as_raw(), account.uid];
    for part in path.ancestors() {
        let meta = part.metadata().map_err(|error| format!("{}: {error}", part.display()))?;
        let mode = meta.permissions().mode();
        // Nobody renames another's files in a sticky directory.
        let shared = mode & 0o022 != 0 && !(meta.is_dir() && mode & 0o1000 != 0);
        if shared || !ours.contains(&meta.uid()) {
            return Err(format!(
                "{} may be changed by others and is not run: chown root, chmod go-w",
                part.display()
            ));
        }
    }
    Ok(())
}

impl Order {
    pub fn new(words: &[String], account: Option<Account>, patience: Duration) -> Order {
        let (environment, input) = Default::default();
        Order { words: words.to_vec(), account, patience, environment, input, listen: true }
    }

    /// Ready to be started.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).process_group(0).env_clear().env("PATH", PATH).current_dir("/");
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(Account { uid, gid }) = self.account {
            command.uid(uid).gid(gid); // without further groups, which the library sees to
        }
        command
    }
}

pub(super) fn run(order: &Order) -> End {
    let until = Instant::now() + order.patience;
    let (mut child, mut output, exit) = match start(order) {
        Ok(started) => started,
        Err(error) => return End::NotStarted(format!("{}: {error}", order.words[0])),
    };
    let mut said = Vec::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut fds = vec![PollFd::new(&exit, PollFlags::IN)];
        fds.extend(output.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let _ = poll(&mut fds, Timespec::try_from(left).ok().as_ref());
        let (ended, speaks) = (fds[0].revents(), fds.get(1).map(PollFd::revents));
        if speaks.is_some_and(|events| !events.is_empty()) && !listen(output.as_mut(), &mut said) {
            output = None;
        }
        if !ended.is_empty() {
            return match child.wait() {
                Ok(status) => End::Exited { status, said: first_line(&said) },
                Err(error) => End::NotStarted(error.to_string()),
            };
        }
        if left.is_zero() {
            return End::Late(Straggler(child));
        }
    }
}

type Started = (Child, Option<PipeReader>, OwnedFd);

fn start(order: &Order) -> std::io::Result<Started> {
    let mut command = order.command();
    let mut output = None;
    if order.listen {
        let (read, write) = std::io::pipe()?;
        command.stdout(write.try_clone()?).stderr(write);
        output = Some(read);
    }
    if !order.input.is_empty() {
        let (read, mut write) = std::io::pipe()?;
        write.write_all(&order.input)?;
        command.stdin(read);
    }
    let mut child = command.spawn()?;
    match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
        Ok(exit) => Ok((child, output, exit)),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error.into())
        }
    }
}

/// False: there is nothing more to come.
fn listen(output: Option<&mut PipeReader>, said: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 1024];
    match output.map(|pipe| pipe.read(&mut chunk)) {
        Some(Ok(length)) if length > 0 => {
            said.extend(&chunk[..length.min(MAX_OUTPUT - said.len())]);
            true
        }
        _ => false,
    }
}

fn first_line(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

impl Straggler {
    /// Ends it and all that it began. A program that hangs in the kernel is waited for until it is let go.
    pub fn end(mut self) {
        let group = Pid::from_child(&self.0);
        let _ = kill_process_group(group, Signal::TERM);
        if let Ok(exit) = pidfd_open(group, PidfdFlags::empty()) {
            let mut fds = [PollFd::from_borrowed_fd(exit.as_fd(), PollFlags::IN)];
            let _ = poll(&mut fds, Timespec::try_from(GRACE).ok().as_ref());
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.0.wait();
    }
}

/// `exit code 3`, `killed by signal 9`.
pub(super) fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, signal) => format!("killed by signal {}", signal.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests;
