//! The files that `nginx -T` prints. It leaves the includes to the reader.

use glob::{MatchOptions, Pattern};
use std::collections::BTreeMap;

const BEFORE: &str = "# configuration file ";
/// No path of Linux is longer, and no name.
const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

#[derive(Debug)]
pub(super) struct File<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
}

/// Files in the order in which nginx opened them first.
#[derive(Debug)]
pub(super) struct Dump<'a> {
    pub(super) files: Vec<File<'a>>,
    numbers: BTreeMap<&'a str, usize>,
}

impl<'a> Dump<'a> {
    pub(super) fn read(text: &'a str) -> Result<Dump<'a>, String> {
        let mut dump = Dump { files: Vec::new(), numbers: BTreeMap::new() };
        let mut start = 0;
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            // nginx prints a file once: the same name again is a comment in a file.
            if let Some(name) = name(line).filter(|name| !dump.numbers.contains_key(name)) {
                dump.end_last(&text[start..at]);
                start = at + line.len();
                dump.numbers.insert(name, dump.files.len());
                dump.files.push(File { name, text: "" });
            }
            at += line.len();
        }
        dump.end_last(&text[start..]);
        if dump.files.is_empty() {
            return Err("nginx -T prints no configuration file: is the program nginx?".into());
        }
        Ok(dump)
    }

    fn end_last(&mut self, text: &'a str) {
        if let Some(last) = self.files.last_mut() {
            last.text = text;
        }
    }

    /// The numbers of the files that an include names, and with how many names it was compared.
    pub(super) fn included(&self, name: &str) -> (Vec<usize>, usize) {
        let name = self.full(name);
        let Some(known) = name.find(['*', '?', '[']) else {
            return (self.numbers.get(name.as_str()).copied().into_iter().collect(), 1);
        };
        let Some(patterns) = patterns(&name) else { return (Vec::new(), 1) };
        let start = &name[..known];
        let mut compared = 0;
        let alike = self.numbers.range(start..).take_while(|(name, _)| name.starts_with(start));
        let alike = alike.inspect(|_| compared += 1).filter(|(name, _)| matches(&patterns, name));
        let mut numbers: Vec<usize> = alike.map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        (numbers, compared)
    }

    /// nginx does not tidy the names that it makes.
    fn full(&self, name: &str) -> String {
        if name.starts_with('/') {
            return name.into();
        }
        let directory = self.files[0].name.rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{directory}/{name}")
    }
}

fn name(line: &str) -> Option<&str> {
    line.strip_prefix(BEFORE)?.strip_suffix('\n')?.strip_suffix(':')
}

/// One for each name of the path: over a whole path the crate can take very long.
fn patterns(path: &str) -> Option<Vec<Pattern>> {
    if path.len() > PATH_MAX {
        return None;
    }
    path.split('/').map(pattern).collect()
}

fn pattern(name: &str) -> Option<Pattern> {
    let mut name = name.to_owned();
    // To the crate, two stars are more than to nginx.
    while name.contains("**") {
        name = name.replace("**", "*");
    }
    if name.len() > NAME_MAX { None } else { Pattern::new(&name).ok() }
}

fn matches(patterns: &[Pattern], path: &str) -> bool {
    let mut names = path.split('/');
    let fit =
        patterns.iter().all(|pattern| names.next().is_some_and(|name| pattern.matches_with(name, OPTIONS)));
    fit && names.next().is_none()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn dump() -> Dump<'static> {
        let text = "# configuration file /etc/nginx/nginx.conf:\na;\n# configuration file /etc/nginx/sites/b.conf:\n\
                    b;\n# configuration file /etc/nginx/nginx.conf:\n\n# configuration file /etc/nginx/sites/a b:\nc;\n\
                    # configuration file /etc/nginx/sites/deep/x.conf:\n";
        Dump::read(text).unwrap()
    }

    #[test]
    fn files_are_told_apart() {
        let dump = dump();
        let texts: Vec<_> = dump.files.iter().map(|file| file.text).collect();
        assert_eq!(texts, ["a;\n", "b;\n# configuration file /etc/nginx/nginx.conf:\n\n", "c;\n", ""]);
        assert_eq!(dump.files[2].name, "/etc/nginx/sites/a b");
        assert!(Dump::read("hello\n").unwrap_err().contains("no configuration file"));
    }

    #[test]
    fn includes_find_their_files() {
        let dump = dump();
        for (name, numbers) in [
            ("/etc/nginx/sites/*", [1, 2].as_slice()), // in the order of nginx
            ("sites/**.conf", &[1]),
            ("*/[ab]?conf", &[1]),
            ("/etc/*/sites/*/*", &[3]),
            ("sites/a b", &[2]),
        ] {
            assert_eq!(dump.included(name).0, numbers, "{name}");
        }
        assert_eq!(dump.included("sites/b*"), (vec![1], 1));
        for none in ["sites", "sites/z", "*/nothing", "[", &"*".repeat(5000), &"a*".repeat(400), ""] {
            assert!(dump.included(none).0.is_empty(), "{none}");
        }
    }
}
