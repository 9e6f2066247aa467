//! What the command line of nginx says of its configuration.

use std::path::{PathBuf, absolute};

/// The options of nginx that have a value.
const VALUED: [char; 5] = ['c', 'e', 'g', 'p', 's'];

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    /// Of `-p`.
    pub(super) prefix: Option<PathBuf>,
    /// Of `-e`: it replaces the default that nginx was built with.
    pub(super) error_log: Option<String>,
    /// Of `-g`: nginx reads them before its files.
    pub(super) directives: String,
}

impl Given {
    pub(super) fn of(command: &[String]) -> Given {
        let mut given = Given::default();
        let mut rest = command.iter().skip(1);
        while let Some(argument) = rest.next() {
            let option =
                argument.strip_prefix('-').and_then(|flags| flags.split_once(VALUED).zip(Some(flags)));
            let Some(((before, attached), flags)) = option else { continue };
            let value = if attached.is_empty() { rest.next().map_or("", String::as_str) } else { attached };
            match flags.as_bytes()[before.len()] {
                b'p' => given.prefix = absolute(value).ok(),
                b'e' => given.error_log = Some(value.into()),
                b'g' => given.directives = value.into(),
                _ => {}
            }
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(command: &[&str]) -> Given {
        Given::of(&command.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read_as_nginx_does() {
        assert_eq!(given(&["nginx"]), Given::default());
        let expected = Given {
            prefix: Some("/p".into()),
            error_log: Some("stderr".into()),
            directives: "pid /x; daemon off;".into(),
        };
        let apart = ["nginx", "-p", "/p", "-c", "-g", "-e", "stderr", "-g", "pid /x; daemon off;"];
        assert_eq!(given(&apart), expected);
        assert_eq!(given(&["nginx", "-qp/p", "-estderr", "-gpid /x; daemon off;"]), expected);
        assert_eq!(given(&["nginx", "-q", "-", "é", "-p"]).directives, "");
    }

    #[test]
    fn a_relative_prefix_starts_here() {
        assert!(given(&["nginx", "-p", "here"]).prefix.is_some_and(|prefix| prefix.is_absolute()));
    }
}
