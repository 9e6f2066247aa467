//! The defaults that nginx was built with, from the output of `nginx -V`.

use super::given::Given;
use std::path::{Path, PathBuf};

const ARGUMENTS: &str = "configure arguments:";

/// Paths as nginx writes them: relative ones start at the prefix.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Built {
    prefix: PathBuf,
    pub(super) pid: String,
    pub(super) error_log: String,
    pub(super) access_log: String,
}

impl Built {
    /// What the command line of nginx says comes before what nginx was built with.
    pub(super) fn read(version: &str, given: &Given) -> Result<Built, String> {
        let line = version.lines().find_map(|line| line.strip_prefix(ARGUMENTS));
        let line = line.ok_or("nginx -V names no configure arguments: is the program nginx?")?;
        let words = words(line);
        let value = |name: &str, default: &str| {
            let set = words.iter().rev().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            set.unwrap_or(default).to_owned()
        };
        let built_in = value("--prefix", "/usr/local/nginx");
        Ok(Built {
            prefix: given.prefix.clone().unwrap_or_else(|| built_in.into()),
            pid: value("--pid-path", "logs/nginx.pid"),
            error_log: given.error_log.clone().unwrap_or_else(|| value("--error-log-path", "logs/error.log")),
            access_log: value("--http-log-path", "logs/access.log"),
        })
    }

    pub(super) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.prefix.join(name)
    }
}

/// A value with spaces stands in single quotes.
fn words(line: &str) -> Vec<String> {
    let mut quoted = false;
    let words = line.split(|c: char| {
        quoted ^= c == '\'';
        c.is_whitespace() && !quoted
    });
    words.filter(|word| !word.is_empty()).map(|word| word.replace('\'', "")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn built(arguments: &str) -> Built {
        Built::read(&format!("nginx version: x\n{ARGUMENTS}{arguments}\n"), &Given::default()).unwrap()
    }

    #[test]
    fn without_arguments_nginx_has_defaults() {
        let built = built("");
        assert_eq!(built.path(&built.pid), Path::new("/usr/local/nginx/logs/nginx.pid"));
        assert_eq!(built.error_log, "logs/error.log");
        assert_eq!(built.access_log, "logs/access.log");
    }

    #[test]
    fn the_last_of_an_argument_counts_and_quotes_hide() {
        let built =
            built(" --with-cc-opt='-g --pid-path=/wrong' --prefix='/a b' --pid-path=/x --pid-path=run/y");
        assert_eq!(built.path(&built.pid), Path::new("/a b/run/y"));
    }

    #[test]
    fn the_command_line_wins() {
        let given = Given { prefix: Some("/p".into()), error_log: Some("e".into()), ..Given::default() };
        let built = Built::read("configure arguments: --prefix=/q --error-log-path=/f", &given).unwrap();
        assert_eq!(built.path(&built.error_log), Path::new("/p/e"));
    }

    #[test]
    fn another_program_is_told() {
        let error = Built::read("GNU bash 5\n", &Given::default()).unwrap_err();
        assert!(error.contains("is the program nginx?"), "{error}");
    }
}
