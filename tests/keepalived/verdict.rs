//! What keepalived says of a file, and what we say.

use haclusterd::config::keepalived::{Kind, Node, Read, read};
use std::path::Path;

/// What it says of the host that it is asked on, or of files beside the configuration.
const NOT_OF_THE_FILE: [&str; 9] = [
    "SECURITY VIOLATION",
    "doesn't exist",
    "does not exist",
    "No config files matched",
    "Non-existent interface",
    "unknown interface",
    "not found/accessible",
    "WARNING - script",
    "is not executable",
];

/// Whether keepalived complains of the configuration.
pub fn complains(exit: i32, messages: &str) -> bool {
    let mut own = messages.split(" | ").filter(|line| !line.trim().is_empty());
    exit != 0 && (exit == 2 || own.any(|line| !NOT_OF_THE_FILE.iter().any(|words| line.contains(words))))
}

/// What we complain of, in the same sense.
pub fn complaints(read: &Read) -> Vec<String> {
    let grave = |kind| matches!(kind, Kind::Invalid | Kind::Fatal);
    read.findings.all.iter().filter(|finding| grave(finding.kind)).map(ToString::to_string).collect()
}

pub fn node() -> Node {
    Node { name: "lb1".into(), listen: "127.0.0.1:7946".parse().unwrap(), script_user: "root".into() }
}

pub fn of(file: &Path, options: &str) -> Read {
    read(file, options.strip_prefix("-i ").unwrap_or("host"))
}
