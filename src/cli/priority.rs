//! `haclusterd priority`: this node's base priority, in its configuration file and in force.

use super::{PATIENCE, Paths, fail, orders, print};
use crate::config;
use crate::io::control;
use clap::Subcommand;
use haclusterd_proto::Priority;
use haclusterd_proto::control::Request;
use std::fs;
use std::io;
use std::path::Path;
use toml_edit::{DocumentMut, value};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Write this node's base priority into its configuration file, and reload it.
    ///
    /// Exit code: 0 it is in force; 1 nothing was changed, and says why; 3 no daemon, and nothing was changed.
    Set {
        /// 1 to 254; the largest owns the VIPs.
        #[arg(value_parser = super::value(config::priority))]
        priority: Priority,
    },
}

pub(super) fn run(verb: &Verb, paths: &Paths) -> u8 {
    let Verb::Set { priority } = verb;
    // Before anything is written: who hears of it?
    if let Err(error) = control::snapshot(&paths.socket, PATIENCE) {
        return super::no_daemon(&error);
    }
    let before = match fs::read_to_string(&paths.config) {
        Ok(text) => text,
        Err(error) => return fail(&format!("{}: {error}", paths.config.display())),
    };
    let after = match with_priority(&before, *priority) {
        Ok(after) => after,
        Err(error) => return fail(&format!("{}: {error}", paths.config.display())),
    };
    if let Err(error) = replace(&paths.config, &after) {
        return fail(&format!("{}: {error}; nothing was changed", paths.config.display()));
    }
    match orders::done(&paths.socket, &Request::Reload, PATIENCE) {
        Ok(text) => {
            print::say(&format!("priority {priority}; {text}\n"));
            0
        }
        Err(code) => {
            if let Err(error) = replace(&paths.config, &before) {
                print::complain(&format!("{}: could not be put back: {error}", paths.config.display()));
            }
            code
        }
    }
}

/// All else in the file stays as it was written.
fn with_priority(text: &str, priority: Priority) -> Result<String, toml_edit::TomlError> {
    let mut document: DocumentMut = text.parse()?;
    let old = document.get("node").and_then(|node| node.get("priority")?.as_value());
    let old = old.map(|old| old.decor().clone());
    let mut new = value(i64::from(priority.0));
    if let (Some(decor), Some(new)) = (old, new.as_value_mut()) {
        *new.decor_mut() = decor;
    }
    document["node"]["priority"] = new;
    Ok(document.to_string())
}

/// As a whole, with the rights that it had; a link's target, not the link.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = path.canonicalize()?;
    let beside = path.with_extension("toml-new");
    fs::write(&beside, text)?;
    fs::set_permissions(&beside, fs::metadata(&path)?.permissions())?;
    fs::rename(&beside, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_changed_and_nothing_else() {
        let file = "# ours\n[node]\nname = \"lb1\"\npriority = 150 # the first\n\n[[vip]]\naddresses = [\"10.0.0.100/24\"]\n";
        assert_eq!(with_priority(file, Priority(90)).unwrap(), file.replace("150", "90"));
        let without = "[node]\nname = \"lb1\"\n";
        assert_eq!(with_priority(without, Priority(90)).unwrap(), "[node]\nname = \"lb1\"\npriority = 90\n");
    }
}
