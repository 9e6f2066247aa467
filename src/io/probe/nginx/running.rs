//! The nginx that runs: how its master was started, by the title that it gives itself.

use std::fs;
use std::path::Path;

const TITLE: &[u8] = b"nginx: master process ";

/// How the master of that pid file was started; without a pid file, the only one in this network.
pub(super) fn command(pid_file: Option<&Path>) -> Option<Vec<String>> {
    let words = |pid: &str| Some(words(&title(pid)?)).filter(|words| !words.is_empty());
    if let Some(file) = pid_file {
        return words(fs::read_to_string(file).ok()?.trim());
    }
    let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let here = network("self");
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    // Where we may not look, it is taken for ours.
    let mut found =
        pids.filter(|pid| network(pid).is_none_or(|other| Some(other) == here)).filter_map(|pid| words(&pid));
    found.next().filter(|_| found.next().is_none())
}

fn title(pid: &str) -> Option<String> {
    let pid: u32 = pid.parse().ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let title = line.strip_prefix(TITLE)?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(title).into_owned())
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
    words
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("nginx -g", &["nginx", "-g"]),
        ] {
            assert_eq!(words(title), expected, "{title}");
        }
    }
}
