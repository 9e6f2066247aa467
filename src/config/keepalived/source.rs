//! The files: the one that is named, and those that it includes. Comments are taken off here, as keepalived does before it
//! looks at anything else.

use super::finding::{At, Findings, Kind};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A hundred thousand lines; a larger file is some other file.
const MAX_BYTES: u64 = 8 << 20;
/// Each counted as often as it is included.
const MAX_FILES: usize = 1000;
/// keepalived's buffer: what is beyond it is the next line.
const MAX_PIECE: usize = 1023;

/// A line without its comment.
#[derive(Debug, Clone)]
pub struct Raw {
    pub at: At,
    pub code: String,
    /// Without the mark.
    pub comment: Option<String>,
    /// Of the file's directory, for `${_PWD}`.
    pub dir: Rc<PathBuf>,
}

/// Which includes must be there.
#[derive(Clone, Copy, Default)]
struct Strict {
    readable: bool,
    matching: bool,
    wildcard: bool,
}

/// What has been read so far.
pub struct Source {
    /// Off: every line stands for itself.
    includes: bool,
    files: usize,
    bytes: u64,
}

impl Source {
    /// With the lines of the file.
    pub fn open(path: &Path, findings: &mut Findings) -> (Source, Vec<Raw>) {
        let mut source = Source { includes: true, files: 0, bytes: 0 };
        let at = At { file: Rc::new(path.to_owned()), line: 0 };
        let must = Strict { readable: true, ..Strict::default() };
        let lines = source.file(path, &at, must, Kind::Fatal, findings);
        (source, lines)
    }

    /// A text that includes nothing, for tests and fuzzing.
    pub fn of_text(text: &str, path: &Path) -> (Source, Vec<Raw>) {
        (Source { includes: false, files: 0, bytes: 0 }, lines_of(text, path))
    }

    /// The lines of what a line includes. `None`: it is no such line.
    pub fn included(&mut self, code: &str, at: &At, dir: &Path, findings: &mut Findings) -> Option<Vec<Raw>> {
        let (pattern, strict) = include(code).filter(|_| self.includes)?;
        let (mut found, mut lines) = (false, Vec::new());
        for pattern in braces(pattern) {
            for path in files(&dir.join(&pattern)) {
                found = true;
                lines.extend(self.file(&path, at, strict, Kind::Invalid, findings));
            }
        }
        if pattern.contains('"') {
            let what = "a quote within the name of a file";
            findings.add(Kind::Invalid, at, what, "put quotes around the whole name, or none");
        }
        let wild = pattern.contains(['*', '?', '[', '{']);
        let what = format!("there is no file {pattern}");
        if !found && (strict.wildcard || (strict.matching && !wild)) {
            let remedy = "check the path; it is relative to the directory of this file";
            findings.add(Kind::Invalid, at, what, remedy);
        } else if !found {
            findings.add(Kind::Note, at, what, "keepalived overlooks that");
        }
        Some(lines)
    }

    fn file(
        &mut self,
        path: &Path,
        by: &At,
        strict: Strict,
        kind: Kind,
        findings: &mut Findings,
    ) -> Vec<Raw> {
        self.files += 1;
        if self.files > MAX_FILES {
            let what = format!("more than {MAX_FILES} files are included");
            findings.add(Kind::Fatal, by, what, "a file that includes itself does that");
            return Vec::new();
        }
        let error = match load(path, MAX_BYTES.saturating_sub(self.bytes)) {
            Ok(text) => {
                self.bytes += text.len() as u64;
                return lines_of(&text, path);
            }
            Err(error) => format!("{} cannot be read: {error}", path.display()),
        };
        match strict.readable {
            true => findings.add(kind, by, error, "check the path and its permissions"),
            false => findings.add(Kind::Note, by, error, "keepalived overlooks that"),
        }
        Vec::new()
    }
}

fn files(pattern: &Path) -> Vec<PathBuf> {
    let Ok(paths) = glob::glob(&pattern.to_string_lossy()) else { return Vec::new() };
    paths.filter_map(Result::ok).filter(|path| !path.is_dir()).take(MAX_FILES).collect()
}

fn lines_of(text: &str, path: &Path) -> Vec<Raw> {
    let file = Rc::new(path.to_owned());
    let dir = Rc::new(path.parent().map(Path::to_owned).unwrap_or_default());
    let mut lines = Vec::new();
    for (at, line) in text.lines().enumerate() {
        // keepalived's lines are C strings.
        let mut rest = line.split('\0').next().unwrap_or_default();
        loop {
            let end = (0..=rest.len().min(MAX_PIECE)).rev().find(|end| rest.is_char_boundary(*end));
            let (piece, after) = rest.split_at(end.unwrap_or_default());
            let (code, comment) = uncomment(piece);
            lines.push(Raw { at: At { file: file.clone(), line: at + 1 }, code, comment, dir: dir.clone() });
            if after.is_empty() {
                break;
            }
            rest = after;
        }
    }
    lines
}

fn load(path: &Path, left: u64) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err("it is no file".into()); // a pipe would be waited for
    }
    let mut bytes = Vec::new();
    file.take(left + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > left {
        return Err(format!("with all that is included it is larger than {} MiB", MAX_BYTES >> 20));
    }
    // Comments in an old encoding are no reason to refuse the file.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `!` and `#` begin a comment anywhere but in double quotes, also within a word; a backslash takes their meaning.
fn uncomment(line: &str) -> (String, Option<String>) {
    let (mut code, mut quoted, mut escaped) = (String::new(), false, false);
    for (at, c) in line.char_indices() {
        match c {
            '#' | '!' if escaped && !quoted => {
                code.pop();
            }
            '#' | '!' if !quoted => {
                return (
                    code.trim_end().to_owned(),
                    Some(line[at..].trim_start_matches(['#', '!']).trim().to_owned()),
                );
            }
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        code.push(c);
    }
    (code.trim_end().to_owned(), None)
}

fn include(code: &str) -> Option<(&str, Strict)> {
    let (word, rest) = code.trim_start().split_once(char::is_whitespace)?;
    let pattern = rest.trim().trim_matches('"');
    let (readable, matching, wildcard) = match word {
        "include" => (false, false, false),
        "includer" => (true, false, false),
        "includem" | "includeb" => (true, true, false),
        "includew" | "includea" => (true, true, true),
        _ => return None,
    };
    (!pattern.is_empty()).then_some((pattern, Strict { readable, matching, wildcard }))
}

/// `a{b,c}` as `ab` and `ac`, also nested; what is no such pair stays as it is.
fn braces(pattern: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(next) = open.pop() {
        match first_pair(&next) {
            Some((before, choices, after)) if done.len() + open.len() < MAX_FILES => {
                open.extend(choices.iter().rev().map(|choice| format!("{before}{choice}{after}")));
            }
            _ => done.push(next),
        }
    }
    done
}

fn first_pair(pattern: &str) -> Option<(&str, Vec<&str>, &str)> {
    let open = pattern.find('{')?;
    let (mut depth, mut from, mut choices) = (0, open + 1, Vec::new());
    for (at, c) in pattern.char_indices().skip_while(|(at, _)| *at <= open) {
        match c {
            '{' => depth += 1,
            ',' if depth == 0 => {
                choices.push(&pattern[from..at]);
                from = at + 1;
            }
            '}' if depth == 0 => {
                choices.push(&pattern[from..at]);
                return Some((&pattern[..open], choices, &pattern[at + 1..]));
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_begins_within_a_word_and_not_in_quotes() {
        for (line, code, comment) in [
            ("priority 51#x", "priority 51", Some("x")),
            ("  notify \"/bin/x #1\" ! why", "  notify \"/bin/x #1\"", Some("why")),
            (r"auth_pass ab\#cd", "auth_pass ab#cd", None),
            ("## a head", "", Some("a head")),
            ("plain", "plain", None),
        ] {
            assert_eq!(uncomment(line), (code.into(), comment.map(str::to_owned)), "{line}");
        }
    }

    #[test]
    fn braces_are_expanded_within_bounds() {
        assert_eq!(braces("a{b,c{d,e}}f"), ["abf", "acdf", "acef"]);
        assert_eq!(braces("a{b"), ["a{b"]);
        assert!(braces(&"{a,b}".repeat(40)).len() <= MAX_FILES + 1);
    }
}
