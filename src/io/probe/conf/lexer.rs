//! The language of nginx's configuration, as nginx itself reads it.

use super::lua;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Statement {
    Simple(Vec<String>),
    /// The head of a block.
    Open(Vec<String>),
    Close,
    End,
}

pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Lexer<'a> {
        Lexer { text, at: 0 }
    }

    /// How many bytes were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn statement(&mut self) -> Result<Statement, &'static str> {
        let mut words = Vec::new();
        loop {
            self.skip_blank();
            match self.peek() {
                None if words.is_empty() => return Ok(Statement::End),
                None => return Err("it ends within a directive"),
                Some(b';') => return Ok(self.past(Statement::Simple(words))),
                Some(b'{') => return Ok(self.past(Statement::Open(words))),
                Some(b'}') if words.is_empty() => return Ok(self.past(Statement::Close)),
                Some(b'}') => return Err("a directive has no ; before a }"),
                Some(quote @ (b'"' | b'\'')) => words.push(self.quoted(quote)?),
                Some(_) => words.push(self.bare()),
            }
        }
    }

    /// The rest of a block of Lua.
    pub(super) fn skip_lua(&mut self) -> Result<(), &'static str> {
        self.at += lua::end(&self.text[self.at..]).ok_or("a block of Lua has no end")?;
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn past(&mut self, statement: Statement) -> Statement {
        self.at += 1;
        statement
    }

    fn skip_blank(&mut self) {
        let mut comment = false;
        while let Some(byte) = self.peek() {
            comment = (comment || byte == b'#') && byte != b'\n';
            if !comment && !is_blank(byte) {
                break;
            }
            self.at += 1;
        }
    }

    fn quoted(&mut self, quote: u8) -> Result<String, &'static str> {
        let start = self.at + 1;
        self.at = start;
        while let Some(byte) = self.peek() {
            if byte == quote {
                self.at += 1;
                return Ok(plain(&self.text[start..self.at - 1]));
            }
            self.step(byte);
        }
        Err("a quote has no end")
    }

    fn bare(&mut self) -> String {
        let start = self.at;
        let mut variable = false; // in ${name} the brace opens no block
        while let Some(byte) = self.peek() {
            if is_blank(byte) || byte == b';' || (byte == b'{' && !variable) {
                break;
            }
            variable = byte == b'$' || byte == b'{';
            self.step(byte);
        }
        plain(&self.text[start..self.at])
    }

    /// One byte, or two if a backslash quotes the second.
    fn step(&mut self, byte: u8) {
        let step = if byte == b'\\' { 2 } else { 1 };
        self.at = self.text.len().min(self.at + step);
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Without the backslashes that nginx takes away; it leaves the others for regular expressions.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let escaped = if c == '\\' { rest.clone().next() } else { None };
        let meant = match escaped {
            Some(quoted @ ('"' | '\'' | '\\')) => Some(quoted),
            Some('t') => Some('\t'),
            Some('r') => Some('\r'),
            Some('n') => Some('\n'),
            _ => None,
        };
        plain.push(meant.unwrap_or(c));
        if meant.is_some() {
            rest.next();
        }
    }
    plain
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Vec<Statement>, &'static str> {
        let mut lexer = Lexer::new(text);
        let mut found = Vec::new();
        loop {
            match lexer.statement()? {
                Statement::End => return Ok(found),
                statement => found.push(statement),
            }
        }
    }

    fn words(text: &str) -> Vec<String> {
        match all(text).unwrap().remove(0) {
            Statement::Simple(words) | Statement::Open(words) => words,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn words_quotes_and_comments() {
        assert_eq!(words("# a; b {\n\tlisten\r\n 80#1 ;"), ["listen", "80#1"]);
        assert_eq!(
            words(r#"a "b;{} #c" 'd"e' "f\"g" 'h\'i' "";"#),
            ["a", "b;{} #c", "d\"e", "f\"g", "h'i", ""]
        );
        assert_eq!(words(r"a b\ c \# \; d\\e f\tg \é;"), ["a", r"b\ c", r"\#", r"\;", r"d\e", "f\tg", r"\é"]);
        assert_eq!(words("é 'ü';"), ["é", "ü"]);
    }

    #[test]
    fn heads_of_blocks() {
        assert_eq!(words(r"location ~ \.php$ {}"), ["location", "~", r"\.php$"]);
        assert_eq!(words(r#"if ($a = "b") {}"#), ["if", "($a", "=", "b", ")"]);
        assert_eq!(words("map $a ${b}c {}"), ["map", "$a", "${b}c"]);
        assert_eq!(words("server{}"), ["server"]);
    }

    #[test]
    fn blocks_open_and_close() {
        let expected =
            [Statement::Open(vec!["a".into()]), Statement::Simple(vec!["b".into()]), Statement::Close];
        assert_eq!(all("a{b;}").unwrap(), expected);
    }

    #[test]
    fn what_nginx_would_refuse() {
        for text in ["a", "a b", "a }", "a 'b", "a \"b\\"] {
            assert!(all(text).is_err(), "{text}");
        }
    }
}
