//! The house's floors: a file imports only from the floors below its own (docs/architecture.md), only one file names
//! bincode, one rtnetlink and one netlink-sys, and the engine knows no clock, socket, file or chance.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::path::{Path, PathBuf};

const FLOORS: [(&str, u8); 24] = [
    ("src/main.rs", 5),
    ("src/lib.rs", 5),
    ("src/cli", 5),
    ("src/daemon", 4),
    ("src/io", 3),
    ("src/config", 3),
    ("src/engine/mod.rs", 2),
    ("src/engine/ballot.rs", 2),
    ("src/engine/course.rs", 2),
    ("src/engine/drain.rs", 2),
    ("src/engine/facts.rs", 2),
    ("src/engine/heed.rs", 2),
    ("src/engine/heir.rs", 2),
    ("src/engine/reform.rs", 2),
    ("src/engine/intake.rs", 2),
    ("src/engine/routers.rs", 2),
    ("src/engine/speech.rs", 2),
    ("src/engine/status.rs", 2),
    ("src/engine/tell.rs", 2),
    ("src/engine/view.rs", 2),
    ("src/engine/time.rs", 0),
    ("src/engine/rank.rs", 0),
    ("src/engine/elect.rs", 0),
    ("src/engine", 1),
];

fn floor(path: &str) -> u8 {
    FLOORS
        .iter()
        .find(|(prefix, _)| path.starts_with(prefix))
        .map(|(_, floor)| *floor)
        .expect("a floor for every file")
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

fn all(dir: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    sources(&root.join(dir), &mut found);
    let name = |path: &PathBuf| path.strip_prefix(root).unwrap().display().to_string();
    found.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// Without its tests, which may look anywhere.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

#[test]
fn imports_only_go_down() {
    let targets = [("crate::cli", 5), ("crate::daemon", 4), ("crate::io", 3), ("crate::engine::Engine", 2)];
    for (name, text) in all("src") {
        let own = floor(&name);
        for (target, height) in targets {
            assert!(own >= height || !code(&text).contains(target), "{name} (floor {own}) imports {target}");
        }
    }
}

#[test]
fn decisions_on_one_floor_do_not_know_each_other() {
    let decisions = [
        "acks", "voter", "lease", "voters", "seat", "claims", "vip", "peers", "health", "flaps", "vrrp",
        "hooks",
    ];
    for (name, text) in all("src/engine") {
        for other in decisions.iter().filter(|_| floor(&name) <= 1) {
            let import = format!("use super::{other}::");
            assert!(!code(&text).contains(&import), "{name} imports {other}");
        }
    }
}

#[test]
fn the_engine_touches_nothing() {
    let forbidden = [
        "std::fs",
        "std::net::Tcp",
        "std::net::Udp",
        "std::thread",
        "tokio",
        "SystemTime",
        "rand::",
        "async fn",
        "HashMap",
    ];
    for (name, text) in all("src/engine") {
        for word in forbidden {
            assert!(!code(&text).contains(word), "{name} names {word}");
        }
    }
}

#[test]
fn crates_that_may_change_are_named_in_one_place() {
    let places = [
        ("bincode::", "proto/src/codec.rs"),
        ("rtnetlink::", "src/io/netlink"),
        ("netlink_sys::", "src/io/fence/socket.rs"),
        ("chitchat::", "src/io/gossip"),
    ];
    for (name, text) in all("src").into_iter().chain(all("proto/src")) {
        for (word, place) in places {
            assert!(name.starts_with(place) || !code(&text).contains(word), "{name} names {word}");
        }
    }
}
