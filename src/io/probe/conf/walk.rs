//! Goes through the files as nginx does, each where it is included.

use super::dump::Dump;
use super::lexer::{Lexer, Statement};

/// Blocks in blocks, and files in files.
const DEPTH: usize = 32;
/// Bytes, also of a file that is included again.
const WORK: usize = 256 << 20;
/// What a file costs besides its bytes, and the look at a name.
const FILE: usize = 128;
/// Blocks that hold data.
const DATA: [&str; 6] = ["charset_map", "geo", "map", "match", "split_clients", "types"];

struct Open<'a> {
    name: &'a str,
    lexer: Lexer<'a>,
    /// How many blocks and files it is in.
    blocks: usize,
    files: usize,
}

struct Walk<'a> {
    dump: &'a Dump<'a>,
    /// The last one is being read.
    open: Vec<Open<'a>>,
    path: Vec<String>,
    work: usize,
}

/// Calls `visit` with every directive and the names of the blocks that it stands in, first of all with those of `-g`.
pub(super) fn walk(dump: &Dump, given: &str, visit: impl FnMut(&[&str], &[&str])) -> Result<(), String> {
    let mut walk = Walk { dump, open: Vec::new(), path: Vec::new(), work: 0 };
    let main = &dump.files[0];
    for (name, text) in [(main.name, main.text), ("-g", given)] {
        walk.open.push(Open { name, lexer: Lexer::new(text), blocks: 0, files: 0 });
    }
    walk.run(visit).map_err(|fault| {
        let name = walk.open.last().map_or("", |file| file.name);
        format!("cannot read the configuration of nginx, {name}: {fault}")
    })
}

impl Walk<'_> {
    fn run(&mut self, mut visit: impl FnMut(&[&str], &[&str])) -> Result<(), &'static str> {
        while let Some(file) = self.open.last_mut() {
            let before = file.lexer.at();
            let statement = file.lexer.statement()?;
            let read = file.lexer.at() - before;
            self.spend(read)?;
            match statement {
                Statement::End => self.end()?,
                Statement::Close => self.close()?,
                Statement::Simple(words) => {
                    self.visit(&words, &mut visit);
                    self.include(&words)?;
                }
                Statement::Open(words) => {
                    self.visit(&words, &mut visit);
                    self.enter(words)?;
                }
            }
        }
        Ok(())
    }

    fn visit(&self, words: &[String], visit: &mut impl FnMut(&[&str], &[&str])) {
        if self.in_data() {
            return;
        }
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        visit(&path, &words);
    }

    fn in_data(&self) -> bool {
        self.path.last().is_some_and(|block| DATA.contains(&block.as_str()))
    }

    fn spend(&mut self, work: usize) -> Result<(), &'static str> {
        self.work += work;
        if self.work > WORK { Err("it includes too much") } else { Ok(()) }
    }

    fn end(&mut self) -> Result<(), &'static str> {
        if self.open.last().is_some_and(|file| file.blocks < self.path.len()) {
            return Err("a { has no }");
        }
        self.open.pop();
        Ok(())
    }

    fn close(&mut self) -> Result<(), &'static str> {
        if self.open.last().is_some_and(|file| file.blocks == self.path.len()) {
            return Err("a } has no {");
        }
        self.path.pop();
        Ok(())
    }

    fn enter(&mut self, words: Vec<String>) -> Result<(), &'static str> {
        let name = words.into_iter().next().unwrap_or_default();
        if name.ends_with("_by_lua_block") {
            return self.open.last_mut().map_or(Ok(()), |file| file.lexer.skip_lua());
        }
        if self.path.len() == DEPTH {
            return Err("it has blocks in too many blocks");
        }
        self.path.push(name);
        Ok(())
    }

    fn include(&mut self, words: &[String]) -> Result<(), &'static str> {
        let [include, name] = words else { return Ok(()) };
        if include != "include" || self.in_data() {
            return Ok(());
        }
        let files = self.open.last().map_or(0, |file| file.files) + 1;
        if files == DEPTH {
            return Err("it is included by too many files");
        }
        let (numbers, compared) = self.dump.included(name);
        self.spend((1 + compared) * FILE)?;
        for number in numbers.into_iter().rev() {
            let file = &self.dump.files[number];
            let lexer = Lexer::new(file.text);
            self.open.push(Open { name: file.name, lexer, blocks: self.path.len(), files });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str, given: &str) -> Result<Vec<String>, String> {
        let text = format!("# configuration file /n/main:\n{text}");
        let mut seen = Vec::new();
        walk(&Dump::read(&text)?, given, |path, words| {
            seen.push(format!("{}:{}", path.join("/"), words.join(" ")));
        })?;
        Ok(seen)
    }

    #[test]
    fn files_stand_where_they_are_included() {
        let text = "a { include *.c; z; }\n# configuration file /n/1.c:\nb { c; }\n# configuration file /n/2.c:\nd;\n";
        let expected =
            [":g", ":a", "a:include *.c", "a:b", "a/b:c", "a:d", "a:z"].map(ToOwned::to_owned).to_vec();
        assert_eq!(seen(text, "g;"), Ok(expected));
    }

    #[test]
    fn data_and_lua_hold_no_directives() {
        let text = "map $a $b { access_log x; include y; } content_by_lua_block { if { '}' } } c;";
        let expected = [":map $a $b", ":content_by_lua_block", ":c"].map(ToOwned::to_owned).to_vec();
        assert_eq!(seen(text, ""), Ok(expected));
    }

    #[test]
    fn a_fault_names_its_file() {
        for (text, fault) in [
            ("a {", "/n/main: a { has no }"),
            ("a { } }", "/n/main: a } has no {"),
            ("a { include b; }\n# configuration file /n/b:\n}", "/n/b: a } has no {"),
            ("include b; }\n# configuration file /n/b:\na {", "/n/b: a { has no }"),
            ("include b;\n# configuration file /n/b:\nx", "/n/b: it ends within a directive"),
            (&"a {".repeat(33), "too many blocks"),
            ("include main;", "too many files"),
            ("x_by_lua_block {", "Lua has no end"),
        ] {
            let error = seen(text, "").expect_err(text);
            assert!(error.contains(fault), "{error}");
        }
        assert!(seen("a;", "g").is_err_and(|error| error.contains("-g: it ends within")));
    }

    #[test]
    fn files_that_include_each_other_twice_do_not_take_for_ever() {
        let files: String =
            (0..30).map(|n| format!("include {n};include {n};\n# configuration file /n/{n}:\n")).collect();
        assert!(seen(&files, "").is_err_and(|error| error.contains("too much")));
    }

    #[test]
    fn many_patterns_over_many_files_do_not_take_for_ever() {
        let files: String = (0..20_000).map(|n| format!("# configuration file /n/{n}:\n")).collect();
        let text = format!("{}\n{files}", "include *x;".repeat(100_000));
        assert!(seen(&text, "").is_err_and(|error| error.contains("too much")));
    }
}
