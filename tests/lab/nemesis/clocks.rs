//! Clocks of a host's own. It was booted at another time than the others, so a time of one host means nothing on
//! another; and its wall clock can be stepped while the daemon runs.
//!
//! A time namespace has no wall clock of its own, and libfaketime 0.9.10 breaks absolute sleeps of the other clocks, so
//! the daemon's `clock_gettime` is replaced by that of `wall.c`.

use crate::node::Node;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/nemesis/wall.c");

/// To be called before the daemon starts.
pub fn give(node: &mut Node) {
    let library = shift_file(node).with_file_name("wall.so");
    compile(&library);
    step(node, 0);
    let boot = node.host * 1_000_000;
    node.wrapper = vec![
        "unshare".into(),
        "--time".into(),
        format!("--boottime={boot}"),
        format!("--monotonic={boot}"),
        "env".into(),
        format!("LD_PRELOAD={}", library.display()),
        format!("WALL_CLOCK={}", shift_file(node).display()),
    ];
}

/// The daemon's wall clock is off by so many seconds from now on.
pub fn step(node: &Node, seconds: i64) {
    // Never cut short, because it is mapped.
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(false).open(shift_file(node)).unwrap();
    file.write_all(&seconds.to_ne_bytes()).unwrap();
}

fn shift_file(node: &Node) -> PathBuf {
    node.log_file().with_file_name("wall-clock")
}

fn compile(library: &Path) {
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).arg(library).arg(SOURCE);
    let done = command.output().expect("a C compiler is installed, as the daemon's build needs one");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
