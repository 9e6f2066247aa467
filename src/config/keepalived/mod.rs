//! A keepalived.conf, read as keepalived reads it.
//!
//! ```text
//! source   files and what they include, without comments
//! lines    conditions, definitions, sequences
//! tree     statements within statements
//! read     keepalived's words and ranges (grammar: those that nothing is made of): the model
//! write    a haclusterd.toml
//! ```
//! A file of bad will costs bounded time and memory at each step: files, lines, lengths, depth and findings have limits.

mod bfd;
mod command;
mod finding;
mod grammar;
mod lines;
pub mod lvs;
pub mod model;
mod read;
mod source;
mod tree;
mod value;
mod write;

pub use finding::{At, Finding, Findings, Kind};
pub use write::{Mode, Node};

use super::{Config, ConfigError};
use model::Model;
use source::{Raw, Source};
use std::path::Path;

/// What a file says, and what there is to be said of it.
#[derive(Debug)]
pub struct Read {
    pub model: Model,
    pub findings: Findings,
}

/// `id`: what `@id` lines are compared with; keepalived takes the host's name up to the first dot.
#[must_use]
pub fn read(path: &Path, id: &str) -> Read {
    let mut findings = Findings::default();
    let source = Source::open(path, &mut findings);
    parse(source, path, id, findings)
}

/// The same of a text, in which nothing is included.
#[must_use]
pub fn read_text(text: &str, path: &Path, id: &str) -> Read {
    parse(Source::of_text(text, path), path, id, Findings::default())
}

fn parse(source: (Source, Vec<Raw>), path: &Path, id: &str, mut findings: Findings) -> Read {
    let lines = lines::expand(source, id, &mut findings);
    let statements = tree::build(lines, &mut findings);
    let model = if findings.is_fatal() { Model::default() } else { read::model(statements, &mut findings) };
    let model = Model { file: path.to_owned(), ..model };
    Read { model, findings }
}

/// Virtual routers as the file says, and what is different or left out.
pub fn load(path: &Path, id: &str, node: &Node) -> Result<(Config, Vec<String>), ConfigError> {
    let mut read = read(path, id);
    let (_, config) = write::write(&read.model, Mode::Vrrp, node, &mut read.findings);
    let said = |is: fn(Kind) -> bool| -> Vec<String> {
        read.findings.all.iter().filter(|finding| is(finding.kind)).map(ToString::to_string).collect()
    };
    match config.filter(|_| !read.findings.is_fatal()) {
        Some(config) => Ok((config, said(|kind| kind != Kind::Note))),
        None => Err(ConfigError::Keepalived(said(|kind| kind == Kind::Fatal).join("\n"))),
    }
}

/// The haclusterd.toml of the same, in words that [`super::Config::parse`] takes.
#[must_use]
pub fn to_toml(read: &mut Read, mode: Mode, node: &Node) -> String {
    write::write(&read.model, mode, node, &mut read.findings).0
}
