//! The nginx that runs: how its master was started, by the title that it gives itself.
//!
//! Anybody can give himself that title, and what it says is run as root: so the process must be root's in every respect (a
//! setuid program keeps the words of whoever started it), and what is run is its own file, not what it calls itself.

use super::master::PROGRAMS;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const TITLE: &[u8] = b"nginx: master process ";

/// The master's process and command, or why there is none.
pub(super) type Runs = Result<(u32, Vec<String>), String>;

/// The master of that pid file, and how it was started; without a pid file, the only one here.
pub(super) fn find(pid_file: Option<&Path>) -> Runs {
    if let Some(file) = pid_file {
        let pid = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        return trusted(pid.trim()).ok_or_else(|| "it does not run".into());
    }
    // In our network, and with our files: what a container calls nginx is not looked for among them.
    let place = |pid: &str| ["net", "mnt"].map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok());
    let here = place("self");
    let entries = fs::read_dir("/proc").map_err(|error| error.to_string())?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut found = pids.filter(|pid| place(pid) == here).filter_map(|pid| trusted(&pid));
    match (found.next(), found.next()) {
        (Some(master), None) => Ok(master),
        (None, _) => Err("it does not run".into()),
        (Some(_), Some(_)) => Err("more than one runs here: say which by `pid_file`".into()),
    }
}

fn trusted(pid: &str) -> Option<(u32, Vec<String>)> {
    let pid: u32 = pid.parse().ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let title = line.strip_prefix(TITLE)?.split(|byte| *byte == 0).next()?;
    let mut words = words(&String::from_utf8_lossy(title));
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    // After an upgrade the file has another inode.
    let program = program.to_str()?.trim_end_matches(" (deleted)");
    let name = Path::new(program).file_name()?.to_str()?;
    let file = fs::metadata(program).ok()?;
    let known = PROGRAMS.iter().any(|known| name.starts_with(known));
    let user = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).ok();
    let host = user(&pid.to_string()) == user("self");
    let safe = known && host && file.mode() & 0o6022 == 0 && is_ours(file.uid()) && runs_as_ours(pid);
    program.clone_into(words.first_mut().filter(|_| safe)?);
    Some((pid, words))
}

fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// proc(5), status: the real, effective, saved and file system's user.
fn runs_as_ours(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let mut users = users.unwrap_or("none").split_whitespace().map(str::parse);
    users.all(|user| user.is_ok_and(is_ours))
}

/// The title has lost the quotes: what follows `-g` goes on until a directive's end is followed by an option.
fn words(title: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut global = false;
    for word in title.split_ascii_whitespace() {
        let ends = words.last().is_some_and(|last| last.ends_with(';')) && word.starts_with('-');
        match words.last_mut() {
            Some(last) if global && last != "-g" && !ends => {
                last.push(' ');
                last.push_str(word);
            }
            _ => {
                global = word == "-g" || (global && !ends);
                words.push(word.to_owned());
            }
        }
    }
    // Its value was empty, and would be taken from what follows.
    words.pop_if(|last| last == "-g");
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn who_merely_calls_himself_nginx_is_not_believed() {
        let mut sleeper = Command::new("/bin/sleep");
        let mut child = sleeper.arg0("nginx: master process /tmp/evil").arg("60").spawn().unwrap();
        assert_eq!(trusted(&child.id().to_string()), None);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_title_becomes_a_command_again() {
        for (title, expected) in [
            ("nginx", &["nginx"][..]),
            (
                "/usr/sbin/nginx -g daemon on; master_process on;",
                &["/usr/sbin/nginx", "-g", "daemon on; master_process on;"],
            ),
            (
                "nginx -p /x -g daemon off; -c /x/n.conf",
                &["nginx", "-p", "/x", "-g", "daemon off;", "-c", "/x/n.conf"],
            ),
            ("nginx -c /etc/n.conf -e stderr", &["nginx", "-c", "/etc/n.conf", "-e", "stderr"]),
            ("nginx -g", &["nginx"]),
        ] {
            assert_eq!(words(title), expected, "{title}");
        }
    }
}
