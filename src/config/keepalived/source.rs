//! The files: the one that is named, and those that it includes. Comments are taken off here, as keepalived does before it
//! looks at anything else.

use super::finding::{At, Findings, Kind};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A hundred thousand lines; a larger file is some other file.
const MAX_BYTES: u64 = 8 << 20;
/// Of includes within includes. keepalived stops when it has no file descriptors left.
const MAX_DEPTH: usize = 16;
/// Of all files, each counted as often as it is included.
const MAX_FILES: usize = 1000;

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

pub struct Source<'f> {
    findings: &'f mut Findings,
    lines: Vec<Raw>,
    /// Off: every line stands for itself.
    includes: bool,
    files: usize,
    bytes: u64,
}

/// Every line of the file and of what it includes, in order.
pub fn read(path: &Path, findings: &mut Findings) -> Vec<Raw> {
    let mut source = Source { findings, lines: Vec::new(), includes: true, files: 0, bytes: 0 };
    let at = At { file: Rc::new(path.to_owned()), line: 0 };
    source.file(path, &at, 0, Strict { readable: true, ..Strict::default() }, Kind::Fatal);
    source.lines
}

/// The text of one file, for tests and fuzzing; it includes nothing.
pub fn lines_of(text: &str, path: &Path) -> Vec<Raw> {
    let mut findings = Findings::default();
    let mut source =
        Source { findings: &mut findings, lines: Vec::new(), includes: false, files: 0, bytes: 0 };
    source.text(text, path, 0);
    source.lines
}

impl Source<'_> {
    fn file(&mut self, path: &Path, by: &At, depth: usize, strict: Strict, kind: Kind) {
        let said = |error: String| format!("{} cannot be read: {error}", path.display());
        self.files += 1;
        if depth > MAX_DEPTH || self.files > MAX_FILES {
            let what = format!("more than {MAX_FILES} files are included, or {MAX_DEPTH} within each other");
            return self.findings.add(Kind::Fatal, by, what, "a file that includes itself does that");
        }
        match load(path, MAX_BYTES.saturating_sub(self.bytes)) {
            Ok(text) => {
                self.bytes += text.len() as u64;
                self.text(&text, path, depth);
            }
            Err(error) if strict.readable => {
                self.findings.add(kind, by, said(error), "check the path and its permissions")
            }
            Err(error) => self.findings.add(Kind::Note, by, said(error), "keepalived overlooks that"),
        }
    }

    fn text(&mut self, text: &str, path: &Path, depth: usize) {
        let file = Rc::new(path.to_owned());
        let dir = Rc::new(path.parent().map(Path::to_owned).unwrap_or_default());
        for (at, line) in text.lines().enumerate() {
            let at = At { file: file.clone(), line: at + 1 };
            // keepalived's lines are C strings.
            let line = line.split('\0').next().unwrap_or_default();
            let (code, comment) = uncomment(line);
            match include(&code) {
                Some((pattern, strict)) if self.includes => {
                    self.include(pattern, &dir, &at, depth, strict);
                }
                _ => self.lines.push(Raw { at, code, comment, dir: dir.clone() }),
            }
        }
    }

    fn include(&mut self, pattern: &str, dir: &Path, at: &At, depth: usize, strict: Strict) {
        let mut found = false;
        for pattern in braces(pattern) {
            let full = dir.join(&pattern);
            let paths: Vec<PathBuf> = match glob::glob(&full.to_string_lossy()) {
                Ok(paths) => {
                    paths.filter_map(Result::ok).filter(|path| !path.is_dir()).take(MAX_FILES).collect()
                }
                Err(_) => Vec::new(),
            };
            found |= !paths.is_empty();
            for path in paths {
                self.file(&path, at, depth + 1, strict, Kind::Invalid);
            }
        }
        let wild = pattern.contains(['*', '?', '[', '{']);
        if !found && (strict.wildcard || (strict.matching && !wild)) {
            self.findings.add(
                Kind::Invalid,
                at,
                format!("there is no file {pattern}"),
                "check the path; it is relative to the directory of this file",
            );
        } else if !found {
            let what = format!("there is no file {pattern}");
            self.findings.add(Kind::Note, at, what, "keepalived overlooks that");
        }
    }
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

    #[test]
    fn included_files_are_read_relative_to_their_own_directory() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        write("k.conf", "one\ninclude d/*.conf\nincludea nowhere\ninclude d\nlast\n");
        write("d/a.conf", "two\ninclude b.inc\n");
        write("d/b.inc", "three");
        let mut findings = Findings::default();
        let lines = read(&dir.path().join("k.conf"), &mut findings);
        let codes: Vec<&str> = lines.iter().map(|raw| raw.code.as_str()).collect();
        assert_eq!(codes, ["one", "two", "three", "last"]);
        assert_eq!(findings.all.len(), 2);
        assert_eq!(findings.all[0].kind, Kind::Invalid);
        assert!(findings.all[0].to_string().contains("k.conf:3: there is no file nowhere; "));
    }

    #[test]
    fn a_file_that_includes_itself_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.conf");
        std::fs::write(&path, "include k.conf\ninclude k.conf\n").unwrap();
        let mut findings = Findings::default();
        read(&path, &mut findings);
        assert!(findings.is_fatal());
    }
}
