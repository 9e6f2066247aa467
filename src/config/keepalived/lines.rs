//! Conditional lines, definitions and sequences: raw lines become the lines that mean something.
//!
//! A line that names a definition of several lines becomes those, each of which may define, repeat and name again. What
//! is still to be looked at is a stack, so the depth of all that costs no recursion.

use super::finding::{At, Findings, Kind};
use super::source::{Raw, Source};
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

/// Ten times what all VRIDs and their addresses take.
const MAX_LINES: usize = 1 << 18;
/// keepalived's own limit of a word is 1024.
const MAX_LINE: usize = 16 * 1024;
/// In one line. A definition that names itself never ends; keepalived hangs.
const MAX_SUBSTITUTIONS: usize = 1000;
/// Of includes within includes. keepalived stops when it has no file descriptors left.
const MAX_DEPTH: usize = 16;
/// Values of one `~SEQ`.
const MAX_SEQUENCE: i64 = 1 << 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    Comment(String),
    Code { at: At, text: String },
}

enum Todo {
    Text(Rc<str>),
    Define(String, String),
}

struct Expansion<'f> {
    source: &'f mut Source,
    /// What `@id` lines are compared with.
    id: &'f str,
    findings: &'f mut Findings,
    definitions: HashMap<String, String>,
    lines: Vec<Line>,
    looked_at: usize,
}

pub fn expand((mut source, raw): (Source, Vec<Raw>), id: &str, findings: &mut Findings) -> Vec<Line> {
    let definitions = HashMap::from([("_INSTANCE", id), ("_HASH", "#"), ("_BANG", "!")]);
    let definitions = definitions.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let mut expansion =
        Expansion { source: &mut source, id, findings, definitions, lines: Vec::new(), looked_at: 0 };
    expansion.file(raw, 0);
    expansion.lines
}

/// The name of a definition whose value stands on the lines after it.
fn block_definition(code: &str) -> Option<String> {
    let code = code.strip_suffix('\\').unwrap_or(code).trim_end();
    let code = if code.starts_with('@') { code.split_once(is_space)?.1 } else { code };
    let (name, value) = definition(code.trim_start())?;
    value.is_empty().then(|| name.to_owned())
}

/// A backslash at the end of a line joins nothing, and becomes a part of the last word.
fn joined(code: String) -> String {
    match code.strip_suffix('\\') {
        Some(rest) => format!("{}\\", rest.trim_end_matches(is_space)),
        None => code,
    }
}

/// Up to the first line that does not go on.
fn block(raw: &mut impl Iterator<Item = Raw>) -> String {
    let mut text = String::new();
    for line in raw {
        let more = line.code.strip_suffix('\\');
        text.push_str(more.unwrap_or(&line.code));
        // keepalived looks for the backslash before it takes the comment off.
        if more.is_none() && !line.comment.is_some_and(|comment| comment.ends_with('\\')) {
            break;
        }
        text.push('\n');
    }
    text
}

/// `$NAME=VALUE`.
fn definition(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.strip_prefix('$')?.split_once('=')?;
    is_name(name).then_some((name, value.trim_matches(is_space)))
}

/// As C's: a no-break space is a letter like others.
pub fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\x0b'
}

pub fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

fn is_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(legal) && !name.starts_with(|c: char| c.is_ascii_digit())
}

impl Expansion<'_> {
    /// One that is included at this depth.
    fn file(&mut self, raw: Vec<Raw>, depth: usize) {
        let mut raw = raw.into_iter();
        while let Some(line) = raw.next() {
            if let Some(comment) = line.comment.clone() {
                self.lines.push(Line::Comment(comment));
            }
            if self.findings.is_fatal() {
                break;
            }
            match block_definition(&line.code) {
                Some(name) if line.code.ends_with('\\') => {
                    let text = block(&mut raw);
                    if self.applies(&line.code).is_some() {
                        self.definitions.insert(name, text);
                    }
                }
                _ => self.line(joined(line.code), &line.at, &line.dir, depth),
            }
        }
    }

    fn line(&mut self, code: String, at: &At, dir: &Rc<PathBuf>, depth: usize) {
        self.definitions.insert("_PWD".into(), dir.display().to_string());
        let mut todo = vec![Todo::Text(code.into())];
        while let Some(next) = todo.pop() {
            self.looked_at += 1;
            if self.looked_at + todo.len() > MAX_LINES {
                let what = format!("the file becomes more than {MAX_LINES} lines");
                return self.findings.add(
                    Kind::Fatal,
                    at,
                    what,
                    "shorten a ~SEQ, or the definitions that are named here",
                );
            }
            match next {
                Todo::Define(name, value) => drop(self.definitions.insert(name, value)),
                Todo::Text(text) => {
                    if let Some(code) = self.step(&text, at, &mut todo) {
                        self.code(code, at, dir, depth);
                    }
                }
            }
        }
    }

    /// A line that is expanded.
    fn code(&mut self, text: &str, at: &At, dir: &Rc<PathBuf>, depth: usize) {
        match self.source.included(text, at, dir, self.findings) {
            Some(_) if depth == MAX_DEPTH => {
                let what = format!("more than {MAX_DEPTH} files include each other");
                self.findings.add(Kind::Fatal, at, what, "a file that includes itself does that");
            }
            Some(lines) => {
                self.file(lines, depth + 1);
                self.definitions.insert("_PWD".into(), dir.display().to_string());
            }
            None => self.lines.push(Line::Code { at: at.clone(), text: text.to_owned() }),
        }
    }

    /// The text, if nothing in it is to be expanded any more.
    fn step<'t>(&mut self, text: &'t str, at: &At, todo: &mut Vec<Todo>) -> Option<&'t str> {
        let text = self.applies(trim(text))?;
        if let Some((name, value)) = definition(text) {
            self.definitions.insert(name.to_owned(), value.to_owned());
        } else if text.starts_with("~SEQ") || text.starts_with("~LST") {
            self.repeat(text, at, todo);
        } else if let Some(whole) = self.substituted(text, at) {
            // Each line of it is looked at anew.
            match whole.contains('\n') {
                true => todo.extend(whole.split('\n').rev().map(|line| Todo::Text(line.into()))),
                false => todo.push(Todo::Text(joined(whole).into())),
            }
        } else if !text.is_empty() && !self.findings.is_fatal() {
            return Some(text);
        }
        None
    }

    /// What is left of it on this host: `@id` is for that host only, `@^id` for all others.
    fn applies<'t>(&self, text: &'t str) -> Option<&'t str> {
        let Some(rest) = text.strip_prefix('@') else { return Some(text) };
        let (word, rest) = rest.split_once(is_space).unwrap_or((rest, ""));
        let (word, wanted) = match word.strip_prefix('^') {
            Some(word) => (word, false),
            None => (word, true),
        };
        ((word == self.id) == wanted).then(|| rest.trim_start())
    }

    /// `~SEQ(VAR, start, step, end)`, `~SEQx(…)`, `~LST(VAR, value, …)`, `~LST({A, B}, {1, 2}, …)`: the rest of the line,
    /// once with each value.
    fn repeat(&mut self, text: &str, at: &At, todo: &mut Vec<Todo>) {
        let Some((names, rows, rest)) = sequence(text) else {
            let what = format!("{} cannot be read", text.split(')').next().unwrap_or(text));
            return self.findings.add(
                Kind::Invalid,
                at,
                what,
                "write ~SEQ(NAME, first, step, last) or ~LST(NAME, a, b)",
            );
        };
        let rest: Rc<str> = rest.into();
        for row in rows.into_iter().rev() {
            todo.push(Todo::Text(rest.clone()));
            todo.extend(names.iter().cloned().zip(row).map(|(name, value)| Todo::Define(name, value)));
        }
    }

    /// With every definition that is named in its place; `None`: none is.
    fn substituted(&mut self, text: &str, at: &At) -> Option<String> {
        let mut text = text.to_owned();
        let mut count = 0;
        let mut from = 0;
        while let Some(found) = text[from..].find('$').map(|at| from + at) {
            let Some((end, value)) = self.named(&text[found..], at) else {
                from = found + 1;
                continue;
            };
            text.replace_range(found..found + end, &value);
            from = found;
            count += 1;
            if count > MAX_SUBSTITUTIONS || text.len() > MAX_LINE.max(value.len() * 2) {
                let what = "its definitions never end, or become too long";
                self.findings.add(Kind::Fatal, at, what, "a definition must not name itself");
                return Some(String::new());
            }
            if value.contains('\n') {
                break; // its lines may define what the rest of this one names
            }
        }
        (count > 0).then_some(text)
    }

    /// `$NAME` before white space, a comma or `)`, or `${NAME}`: its length, and the value.
    fn named(&mut self, text: &str, at: &At) -> Option<(usize, String)> {
        if let Some(inner) = text.strip_prefix("${") {
            let name = &inner[..inner.find('}')?];
            let end = name.len() + 3;
            if let Some(range) = name.strip_prefix("_RANDOM") {
                let least = range.split_whitespace().next().unwrap_or("0").to_owned();
                let what = "a random number would differ at each reading";
                self.findings.add(
                    Kind::Differs,
                    at,
                    what,
                    "the smallest one is taken; write the one that you want",
                );
                return Some((end, least));
            }
            return self.definitions.get(name).map(|value| (end, value.clone()));
        }
        let ends = |c| is_space(c) || c == ',' || c == ')';
        let name: &str = text[1..].split(ends).next().unwrap_or_default();
        self.definitions.get(name).filter(|_| is_name(name)).map(|value| (name.len() + 1, value.clone()))
    }
}

type Sequence<'t> = (Vec<String>, Vec<Vec<String>>, &'t str);

fn sequence(text: &str) -> Option<Sequence<'_>> {
    let (head, rest) = text.split_once(')')?;
    let (kind, inner) = head.split_once('(')?;
    let rows = match kind {
        "~LST" => return list(inner, rest.trim_start()),
        "~SEQ" => numbers(inner, |n| n.to_string()),
        "~SEQx" => {
            numbers(inner, |n| if n < 0 { format!("-{:x}", n.unsigned_abs()) } else { format!("{n:x}") })
        }
        _ => None,
    }?;
    let name = inner.split(',').next()?.trim_matches(is_space);
    is_name(name).then(|| (vec![name.to_owned()], rows, rest.trim_start()))
}

fn numbers(inner: &str, show: impl Fn(i64) -> String) -> Option<Vec<Vec<String>>> {
    let values: Vec<i64> =
        inner.split(',').skip(1).map(|word| integer(word.trim_matches(is_space))).collect::<Option<_>>()?;
    let (start, step, end) = match values[..] {
        [end] => (if end > 0 { 1 } else { -1 }, if end > 0 { 1 } else { -1 }, end),
        [start, end] => (start, if end >= start { 1 } else { -1 }, end),
        [start, step, end] => (start, step, end),
        _ => return None,
    };
    let away = step == 0 || (end > start && step < 0) || (end < start && step > 0);
    let count = end.checked_sub(start)?.checked_div(step)?;
    if away || count >= MAX_SEQUENCE {
        return None;
    }
    Some((0..=count).map(|n| vec![show(start + n * step)]).collect())
}

fn integer(word: &str) -> Option<i64> {
    let (sign, digits) = word.strip_prefix('-').map_or((1, word), |digits| (-1, digits));
    let value = match digits.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    value.ok().filter(|n| n.unsigned_abs() < 1 << 31).map(|n| sign * n)
}

fn list<'t>(inner: &str, rest: &'t str) -> Option<Sequence<'t>> {
    let mut items = Vec::new();
    let mut left = inner.trim_matches(is_space);
    while !left.is_empty() {
        let (item, after) = match left.strip_prefix('{') {
            Some(group) => group.split_once('}')?,
            None => left.split_at(left.find(',').unwrap_or(left.len())),
        };
        items.push(item.split(',').map(|word| word.trim_matches(is_space).to_owned()).collect::<Vec<_>>());
        left = after.trim_start().trim_start_matches(',').trim_start();
    }
    let names = (!items.is_empty()).then(|| items.remove(0))?;
    let whole = !items.is_empty() && items.iter().all(|row| row.len() == names.len());
    (whole && names.iter().all(|name| is_name(name))).then_some((names, items, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn code(line: Line) -> Option<String> {
        match line {
            Line::Code { text, .. } => Some(text),
            Line::Comment(_) => None,
        }
    }

    fn expanded(text: &str) -> (Vec<String>, Findings) {
        let mut findings = Findings::default();
        let lines = expand(Source::of_text(text, Path::new("/etc/keepalived/k.conf")), "lb1", &mut findings);
        (lines.into_iter().filter_map(code).collect(), findings)
    }

    fn lines(text: &str) -> Vec<String> {
        expanded(text).0
    }

    #[test]
    fn a_condition_names_the_host() {
        let text = "@lb1 router_id one\n@lb2 router_id two\n@^lb2 not_two\n  @^lb1 not_one\npriority @lb2 90";
        assert_eq!(lines(text), ["router_id one", "not_two", "priority @lb2 90"]);
    }

    #[test]
    fn a_definition_is_looked_up_when_it_is_named() {
        let text =
            "$BASE=10.2.${SUB}\n$SUB=0\n${BASE}.100/32\n$SUB=10\n${BASE}.100/32\n$BASE end $NONE ${NONE}\n";
        assert_eq!(lines(text), ["10.2.0.100/32", "10.2.10.100/32", "10.2.10 end $NONE ${NONE}"]);
        assert_eq!(lines("$IF=@lb1\n$IF priority 240\n$NO=@x\n$NO priority 1"), ["priority 240"]);
        assert_eq!(lines("$ P=1\n$P = 1\n"), ["$ P=1", "$P = 1"]);
        assert_eq!(lines("dir ${_PWD} ${_INSTANCE}\n"), ["dir /etc/keepalived lb1"]);
    }

    #[test]
    fn a_definition_may_have_lines_that_define_and_name_others() {
        let text = "$RS= \\\nreal ${VS}.${N} { \\\n  weight 1 \\\n}\n$ALL= \\\nvirtual ${VS} { \\\n  $N=1 \\\n  $RS \\\n  \
                    $N=2 \\\n  $RS \\\n}\n$VS=a\n$ALL\n$VS=b\n$ALL\n";
        let one = |vs: &str| -> Vec<String> {
            [
                &format!("virtual {vs} {{"),
                &format!("real {vs}.1 {{"),
                "weight 1",
                "}",
                &format!("real {vs}.2 {{"),
                "weight 1",
                "}",
                "}",
            ]
            .map(str::to_owned)
            .to_vec()
        };
        assert_eq!(lines(text), [one("a"), one("b")].concat());
    }

    #[test]
    fn sequences_repeat_the_rest_of_the_line() {
        assert_eq!(lines("~SEQ(N, 0, 2) a${N}"), ["a0", "a1", "a2"]);
        assert_eq!(lines("~SEQ(N,3) a$N"), ["a1", "a2", "a3"]);
        assert_eq!(lines("~SEQx(N, 0x90, 0x10, 0xa0) ${N}"), ["90", "a0"]);
        assert_eq!(lines("~SEQ(A,2,1) ~LST(B,x,y) ${A}${B}"), ["2x", "2y", "1x", "1y"]);
        assert_eq!(lines("~LST({A, B}, {10,1},{20,4}) ${A}.${B}"), ["10.1", "20.4"]);
        for bad in [
            "~SEQ(N,1,0,4) x",
            "~SEQ(N,1,-1,4) x",
            "~SEQ(N) x",
            "~LST(N) x",
            "~SEQ(N,1 x",
            "~SEQ(N,0,99999999) x",
        ] {
            let (lines, findings) = expanded(bad);
            assert_eq!((lines.len(), findings.all.len()), (0, 1), "{bad}");
        }
    }

    #[test]
    fn what_would_never_end_is_an_error() {
        for text in
            ["$A=$A\n$A", "$A=x${A}y\n${A}", "$A=${B}${B}\n$B=${A}${A}\n${A}", "$A= \\\n x \\\n $A\n$A"]
        {
            assert!(expanded(text).1.is_fatal(), "{text}");
        }
        let many = "~SEQ(A,1,60000) ~SEQ(B,1,60000) x";
        assert!(expanded(many).1.is_fatal());
    }

    #[test]
    fn included_files_are_read_relative_to_their_own_directory() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        write(
            "k.conf",
            "one\n$D=d\ninclude ${D}/*.conf\nincludea nowhere\n@lb1 include d\n@lb2 include k.conf\nlast",
        );
        write("d/a.conf", "two\ninclude b.inc\n");
        write("d/b.inc", "three");
        let mut findings = Findings::default();
        let source = Source::open(&dir.path().join("k.conf"), &mut findings);
        let codes: Vec<String> = expand(source, "lb1", &mut findings).into_iter().filter_map(code).collect();
        assert_eq!(codes, ["one", "two", "three", "last"]);
        assert_eq!(findings.all.len(), 2);
        assert_eq!(findings.all[0].kind, Kind::Invalid);
        assert!(findings.all[0].to_string().contains("k.conf:4: there is no file nowhere; "));
    }

    #[test]
    fn a_file_that_includes_itself_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.conf");
        std::fs::write(&path, "include k.conf\ninclude k.conf\n").unwrap();
        let mut findings = Findings::default();
        let source = Source::open(&path, &mut findings);
        expand(source, "", &mut findings);
        assert!(findings.is_fatal());
    }

    #[test]
    fn comments_stay_in_their_place() {
        let mut findings = Findings::default();
        let found = expand(Source::of_text("# one\na # two\n", Path::new("k")), "", &mut findings);
        assert_eq!(found[..2], [Line::Comment("one".into()), Line::Comment("two".into())]);
    }
}
