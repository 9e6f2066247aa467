//! The files that nginx logs to.

use super::built::Built;
use super::{Log, once};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

#[derive(Debug, Default)]
pub(super) struct Logs {
    named: Vec<String>,
    /// Those of them that have clients' words.
    access: HashSet<String>,
    has_http: bool,
    /// These take the place of the built-in ones.
    main_error: bool,
    http_access: bool,
}

impl Logs {
    pub(super) fn take(&mut self, path: &[&str], words: &[&str]) {
        match words {
            ["http"] if path.is_empty() => self.has_http = true,
            ["error_log", name, ..] => {
                // Beside a main log that is no file, nginx opens its built-in one.
                self.main_error |= path.is_empty() && !is_sent(name);
                self.named.push((*name).into());
            }
            ["access_log", name, ..] => {
                self.http_access |= path == ["http"];
                self.take_access((*name).into());
            }
            _ => {}
        }
    }

    /// The logs and their directories.
    pub(super) fn found(mut self, built: &Built) -> (Vec<Log>, Vec<PathBuf>) {
        if !self.main_error {
            self.named.push(built.error_log.clone());
        }
        if self.has_http && !self.http_access {
            self.take_access(built.access_log.clone());
        }
        let files = self.named.iter().filter(|name| is_file(name));
        let files: Vec<PathBuf> = once(files).into_iter().map(|name| built.path(name)).collect();
        let dirs = once(files.iter().filter_map(|file| directory(file)));
        let access: HashSet<PathBuf> = self.access.iter().map(|name| built.path(name)).collect();
        let logs = once(files.into_iter().filter(|file| !has_variable(file)));
        let log = |path: PathBuf| Log { errors: !access.contains(&path), path };
        (logs.into_iter().map(log).collect(), dirs)
    }

    fn take_access(&mut self, name: String) {
        self.access.insert(name.clone());
        self.named.push(name);
    }
}

/// Of whoever started nginx.
fn is_stream(name: &str) -> bool {
    name.starts_with("/dev/") || name.starts_with("/proc/")
}

fn is_sent(name: &str) -> bool {
    name.starts_with("syslog:") || name.starts_with("memory:")
}

fn is_file(name: &str) -> bool {
    !(name.is_empty() || name == "off" || name == "stderr" || is_sent(name) || is_stream(name))
}

fn has_variable(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().contains(&b'$')
}

/// The innermost directory whose name is known.
fn directory(file: &Path) -> Option<PathBuf> {
    file.ancestors().skip(1).find(|directory| !has_variable(directory)).map(Path::to_owned)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::given::Given;
    use super::*;

    const VERSION: &str =
        "configure arguments: --prefix=/p --error-log-path=/d/error.log --http-log-path=/d/access.log";

    fn found(directives: &[(&[&str], &[&str])]) -> (Vec<String>, Vec<String>) {
        let mut logs = Logs::default();
        for (path, words) in directives {
            logs.take(path, words);
        }
        let (files, dirs) = logs.found(&Built::read(VERSION, &Given::default()).unwrap());
        let text = |paths: Vec<PathBuf>| paths.iter().map(|path| path.display().to_string()).collect();
        (text(files.into_iter().map(|log| log.path).collect()), text(dirs))
    }

    #[test]
    fn every_level_counts_once() {
        let (files, dirs) = found(&[
            (&[], &["error_log", "/a/e"]),
            (&[], &["http"]),
            (&["http"], &["access_log", "logs/x", "main"]),
            (&["http", "server"], &["access_log", "/a/e"]),
            (&["http", "server"], &["access_log", "/p/logs/x"]),
            (&["stream", "server"], &["error_log", "/s/e", "warn"]),
        ]);
        assert_eq!(files, ["/a/e", "/p/logs/x", "/s/e"]);
        assert_eq!(dirs, ["/a", "/p/logs", "/s"]);
    }

    #[test]
    fn what_clients_have_a_word_in_is_no_error_log() {
        let mut logs = Logs::default();
        logs.take(&[], &["error_log", "/a/e"]);
        logs.take(&["http"], &["access_log", "/p/both"]);
        logs.take(&["http"], &["error_log", "both"]);
        let (files, _) = logs.found(&Built::read(VERSION, &Given::default()).unwrap());
        let errors = files.into_iter().filter(|log| log.errors).map(|log| log.path);
        assert_eq!(errors.collect::<Vec<_>>(), [Path::new("/a/e")]);
    }

    #[test]
    fn the_built_in_ones_count_where_none_is_named() {
        assert_eq!(found(&[]).0, ["/d/error.log"]);
        assert_eq!(found(&[(&[], &["error_log", "syslog:server=x"])]).0, ["/d/error.log"]);
        assert_eq!(found(&[(&[], &["error_log", "stderr"])]).0, [""; 0]);
        let server: (&[&str], &[&str]) = (&["http", "server"], &["access_log", "off"]);
        assert_eq!(found(&[(&[], &["http"]), server]).0, ["/d/error.log", "/d/access.log"]);
        assert_eq!(found(&[(&[], &["http"]), (&["http"], &["access_log", "off"])]).0, ["/d/error.log"]);
    }

    #[test]
    fn what_is_no_file_is_left_out() {
        for name in
            ["off", "stderr", "syslog:server=1.2.3.4", "memory:32m", "/dev/stdout", "/proc/self/fd/2", ""]
        {
            let (files, dirs) = found(&[(&[], &["error_log", "stderr"]), (&["http"], &["access_log", name])]);
            assert!(files.is_empty() && dirs.is_empty(), "{name}");
        }
    }

    #[test]
    fn of_a_variable_path_the_known_directory_counts() {
        for (name, directory) in
            [("/l/$host.log", "/l"), ("/l/$host/x/y.log", "/l"), ("${dir}x/y", "/p"), ("/$a", "/")]
        {
            let (files, dirs) = found(&[(&[], &["error_log", "stderr"]), (&["http"], &["access_log", name])]);
            assert!(files.is_empty(), "{name}");
            assert_eq!(dirs, [directory], "{name}");
        }
    }
}
