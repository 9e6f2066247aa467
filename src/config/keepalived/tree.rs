//! Lines become statements within statements. A line ends a statement, and so does a brace wherever it stands.

use super::finding::{At, Findings, Kind};
use super::grammar::ROOT;
use super::lines::{Line, is_space};

/// keepalived knows four: a virtual server's real server's check's URL.
const MAX_DEPTH: usize = 16;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    pub quoted: bool,
}

/// A keyword, what stands beside it, and what stands in the braces after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub at: At,
    pub key: String,
    pub args: Vec<Word>,
    pub body: Option<Vec<Statement>>,
    /// The comments above it, and since the statement before it.
    pub comments: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(Word),
    Open,
    Close,
}

struct Builder<'f> {
    findings: &'f mut Findings,
    /// Of each level that is open: what it has so far. The last statement of a level is the one that the next is in.
    levels: Vec<Vec<Statement>>,
    comments: Vec<String>,
    /// After a statement without a brace, the brace may still come.
    may_open: bool,
}

pub fn build(lines: Vec<Line>, findings: &mut Findings) -> Vec<Statement> {
    let mut builder = Builder { findings, levels: vec![Vec::new()], comments: Vec::new(), may_open: false };
    let mut last = None;
    for line in lines {
        match line {
            Line::Comment(text) => builder.comments.push(text),
            Line::Code { at, text } => {
                builder.line(&at, &text);
                last = Some(at);
            }
        }
        if builder.findings.is_fatal() {
            break;
        }
    }
    if let (2.., Some(at)) = (builder.levels.len(), last) {
        let opened = builder.levels.iter().rev().nth(1).and_then(|level| level.last());
        let opened =
            opened.map_or(String::new(), |one| format!(": that of {} in line {}", one.key, one.at.line));
        // What is in a block and cannot be shows where the block was to end.
        let remedy = match builder.levels[1..].iter().flatten().find(|inner| stands_alone(&inner.key)) {
            Some(first) => format!("close the block above {} in line {}", first.words(), first.at.line),
            None => "close the block".to_owned(),
        };
        builder.findings.add(Kind::Fatal, &at, format!("a }} is missing{opened}"), remedy);
    }
    builder.levels.swap_remove(0)
}

impl Builder<'_> {
    fn line(&mut self, at: &At, text: &str) {
        let mut words = Vec::new();
        for token in self.tokens(at, text) {
            match token {
                Token::Word(word) => words.push(word),
                Token::Open => {
                    self.end(at, std::mem::take(&mut words));
                    self.open(at);
                }
                Token::Close => {
                    self.end(at, std::mem::take(&mut words));
                    self.close(at);
                }
            }
        }
        self.end(at, words);
    }

    fn end(&mut self, at: &At, words: Vec<Word>) {
        let mut words = words.into_iter();
        let (Some(key), Some(level)) = (words.next(), self.levels.last_mut()) else { return };
        let comments = std::mem::take(&mut self.comments);
        level.push(Statement { at: at.clone(), key: key.text, args: words.collect(), body: None, comments });
        self.may_open = true;
    }

    fn open(&mut self, at: &At) {
        if !std::mem::take(&mut self.may_open) {
            return self.findings.add(
                Kind::Fatal,
                at,
                "a { belongs to nothing",
                "remove it, or write what it opens",
            );
        }
        if self.levels.len() > MAX_DEPTH {
            let what = format!("more than {MAX_DEPTH} blocks are within each other");
            return self.findings.add(Kind::Fatal, at, what, "close what is open");
        }
        self.levels.push(Vec::new());
    }

    fn close(&mut self, at: &At) {
        self.may_open = false;
        if self.levels.len() < 2 {
            return self.findings.add(Kind::Fatal, at, "a } closes nothing", "remove it");
        }
        let body = self.levels.pop();
        if let Some(owner) = self.levels.last_mut().and_then(|level| level.last_mut()) {
            // What stood at the end of a block is its own.
            owner.comments.append(&mut self.comments);
            owner.body = body;
        }
    }

    fn tokens(&mut self, at: &At, text: &str) -> Vec<Token> {
        let command = text.split([' ', '\t', '{']).next().is_some_and(names_a_command);
        let mut lexer = Lexer { tokens: Vec::new(), word: None };
        let mut chars = text.chars().peekable();
        let mut quote = None;
        while let Some(c) = chars.next() {
            match c {
                '\\' if command => {
                    lexer.push(c);
                    chars.next().into_iter().for_each(|next| lexer.push(next));
                }
                _ if quote == Some(c) => {
                    quote = None;
                    if !command {
                        lexer.end();
                    }
                }
                '"' | '\'' if quote.is_none() && (c == '"' || command) => {
                    quote = Some(c);
                    if !command {
                        lexer.end();
                    }
                    lexer.word.get_or_insert_with(Word::default).quoted = true;
                }
                _ if quote.is_some() => lexer.push(c),
                '$' if chars.peek() == Some(&'{') => {
                    // A definition that is not there: it stays as it is.
                    lexer.push(c);
                    for next in chars.by_ref() {
                        lexer.push(next);
                        if next == '}' {
                            break;
                        }
                    }
                }
                '{' => lexer.token(Token::Open),
                '}' => lexer.token(Token::Close),
                _ if is_space(c) => lexer.end(),
                _ => lexer.push(c),
            }
        }
        if quote.is_some() {
            lexer.word = None;
            self.findings.add(
                Kind::Invalid,
                at,
                "a quote is not closed",
                "what comes after it is left out: close it",
            );
        }
        lexer.end();
        lexer.tokens
    }
}

/// No block but the file as a whole has such a one in it.
fn stands_alone(key: &str) -> bool {
    ROOT.read.contains(&key) && key != "track_file"
}

/// These are read again as a command with its arguments, so their quotes may be single, and escapes stay.
pub fn names_a_command(key: &str) -> bool {
    matches!(
        key,
        "script"
            | "misc_path"
            | "quorum_up"
            | "quorum_down"
            | "startup_script"
            | "shutdown_script"
            | "process"
    ) || key.starts_with("notify") && key != "notify_fifo" && key != "notification_email"
        || key.ends_with("_fifo_script")
}

struct Lexer {
    tokens: Vec<Token>,
    word: Option<Word>,
}

impl Lexer {
    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().text.push(c);
    }

    fn end(&mut self) {
        self.tokens.extend(self.word.take().map(Token::Word));
    }

    fn token(&mut self, token: Token) {
        self.end();
        self.tokens.push(token);
    }
}

#[cfg(test)]
mod tests {
    use super::super::lines::expand;
    use super::super::source::Source;
    use super::*;
    use std::path::Path;

    fn built(text: &str) -> (Vec<Statement>, Findings) {
        let mut findings = Findings::default();
        let lines = expand(Source::of_text(text, Path::new("k.conf")), "", &mut findings);
        (build(lines, &mut findings), findings)
    }

    /// `key arg[inner;inner]`
    fn show(statements: &[Statement]) -> String {
        let one = |statement: &Statement| {
            let args: String = statement.args.iter().map(|word| format!(" {}", word.text)).collect();
            let body = statement.body.as_ref().map(|body| format!("[{}]", show(body))).unwrap_or_default();
            format!("{}{args}{body}", statement.key)
        };
        statements.iter().map(one).collect::<Vec<_>>().join(";")
    }

    #[test]
    fn braces_may_stand_anywhere() {
        for (text, shown) in [
            ("a b {\n c d\n}", "a b[c d]"),
            ("a b\n{\n c {\n }\n}", "a b[c[]]"),
            ("a{ b }\nc", "a[b];c"),
            ("a {\n b\n} c d { e }", "a[b];c d[e]"),
            ("a {\n b }", "a[b]"),
            ("a ${X} { b }", "a ${X}[b]"),
            ("a \"b { c\"", "a b { c"),
        ] {
            let (statements, findings) = built(text);
            assert_eq!((show(&statements).as_str(), findings.all.len()), (shown, 0), "{text}");
        }
    }

    #[test]
    fn quotes_in_commands_are_left_for_the_command() {
        let (statements, _) = built("notify_master \"/x 'a b' \\\"c\" user\nnotify '/a b' \nname 'a b'");
        assert_eq!(statements[0].args[0].text, "/x 'a b' \\\"c");
        assert_eq!(statements[1].args[0].text, "/a b");
        assert_eq!(statements[2].args.len(), 2);
    }

    #[test]
    fn braces_that_do_not_match_are_told_by_line() {
        for (text, said) in [
            ("a {\n b {\n c\n", "k.conf:3: a } is missing: that of b in line 2; "),
            ("a\n}\n", "k.conf:2: a } closes nothing; "),
            ("{\n}\n", "k.conf:1: a { belongs to nothing; "),
            ("a {\n{\n}\n}", "k.conf:2: a { belongs to nothing; "),
        ] {
            let (_, findings) = built(text);
            assert!(
                findings.is_fatal() && findings.all[0].to_string().starts_with(said),
                "{:?}",
                findings.all
            );
        }
        assert!(built(&"a {\n".repeat(100)).1.is_fatal());
    }

    #[test]
    fn a_quote_that_is_not_closed_cuts_the_line() {
        let (statements, findings) = built("a b \"c d\ne");
        assert_eq!((show(&statements).as_str(), findings.all[0].kind), ("a b;e", Kind::Invalid));
    }

    #[test]
    fn comments_go_with_what_they_stand_above() {
        let (statements, _) = built("# one\n\n# two\na {\n # three\n b\n # four\n}\nc # five\nd");
        assert_eq!(statements[0].comments, ["one", "two", "four"]);
        assert_eq!(statements[0].body.as_ref().unwrap()[0].comments, ["three"]);
        assert_eq!(statements[1].comments, ["five"]);
    }
}
