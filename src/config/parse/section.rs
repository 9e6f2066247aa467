//! One table of the file: each key is asked for by name, and what was never asked for is unknown.

use crate::config::error::{Fault, Problems};
use crate::config::hint;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub(super) struct Section<'a> {
    /// `node`, `vip` …; empty for the file itself.
    name: &'static str,
    at: usize,
    table: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) fn new(name: &'static str, at: usize, table: Option<&'a DeTable<'a>>) -> Section<'a> {
        Section { name, at, table, known: Vec::new() }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Where the key stands, or the table if it does not.
    pub(super) fn place(&self, key: &str) -> usize {
        self.find(key).map_or(self.at, |value| value.span().start)
    }

    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.push(key);
        self.find(key)
    }

    /// `None`: not there, or wrong, which is noted.
    pub(super) fn read<T>(
        &mut self,
        problems: &mut Problems<'_>,
        key: &'static str,
        parse: impl FnOnce(&DeValue<'_>) -> Result<T, Fault>,
    ) -> Option<T> {
        let value = self.value(key)?;
        match parse(value.get_ref()) {
            Ok(parsed) => Some(parsed),
            Err(fault) => {
                problems.add(value.span().start, self.path(key), fault);
                None
            }
        }
    }

    pub(super) fn demand<T>(
        &mut self,
        problems: &mut Problems<'_>,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&DeValue<'_>) -> Result<T, Fault>,
    ) -> Option<T> {
        if self.find(key).is_none() {
            self.known.push(key);
            problems.add(
                self.at,
                self.path(key),
                Fault::new("is missing", format!("write {key} = {example}")),
            );
            return None;
        }
        self.read(problems, key, parse)
    }

    /// Something is wrong with the key, or with its absence.
    pub(super) fn complain(&self, problems: &mut Problems<'_>, key: &str, fault: Fault) {
        problems.add(self.place(key), self.path(key), fault);
    }

    /// `[[key]]`, each a section of its own.
    pub(super) fn tables(&mut self, problems: &mut Problems<'_>, key: &'static str) -> Vec<Section<'a>> {
        let Some(list) = self.value(key) else { return Vec::new() };
        let fault = |value| Fault::new(format!("is {}", kind(value)), format!("write each as [[{key}]]"));
        let DeValue::Array(all) = list.get_ref() else {
            problems.add(list.span().start, key, fault(list.get_ref()));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for entry in all {
            match entry.get_ref() {
                DeValue::Table(table) => sections.push(Section::new(key, entry.span().start, Some(table))),
                other => problems.add(entry.span().start, key, fault(other)),
            }
        }
        sections
    }

    /// Notes every key that was not asked for.
    pub(super) fn finish(self, problems: &mut Problems<'_>) {
        for (key, _) in self.table.into_iter().flatten() {
            let word: &str = key.get_ref();
            if self.known.contains(&word) {
                continue;
            }
            let remedy = match hint::nearest(word, &self.known) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("remove it, or use one of: {}", self.known.join(", ")),
            };
            problems.add(
                key.span().start,
                self.path(word),
                Fault::new("is no key that is known here", remedy),
            );
        }
    }

    pub(super) fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn find(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.iter().find(|(known, _)| known.get_ref() == key).map(|(_, value)| value)
    }
}

pub(super) fn text<T>(parse: impl Fn(&str) -> Result<T, Fault>) -> impl Fn(&DeValue<'_>) -> Result<T, Fault> {
    move |value| match value {
        DeValue::String(text) => parse(text),
        other => Err(Fault::new(format!("is {}", kind(other)), "write it in quotes")),
    }
}

/// A number, also in quotes.
pub(super) fn number<T>(
    parse: impl Fn(&str) -> Result<T, Fault>,
) -> impl Fn(&DeValue<'_>) -> Result<T, Fault> {
    move |value| match value {
        DeValue::Integer(number) if number.radix() == 10 => parse(number.as_str()),
        other => Err(Fault::new(format!("is {}", kind(other)), "write a plain number")),
    }
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, Fault> {
    match value {
        DeValue::Boolean(value) => Ok(*value),
        other => Err(Fault::new(format!("is {}", kind(other)), "write true or false")),
    }
}

/// One text, or several in brackets.
pub(super) fn texts<T>(
    parse: impl Fn(&str) -> Result<T, Fault>,
) -> impl Fn(&DeValue<'_>) -> Result<Vec<T>, Fault> {
    move |value| match value {
        DeValue::String(one) => Ok(vec![parse(one)?]),
        DeValue::Array(all) => all.iter().map(|one| text(&parse)(one.get_ref())).collect(),
        other => Err(Fault::new(format!("is {}", kind(other)), "write a list of texts: [\"…\", \"…\"]")),
    }
}

pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
