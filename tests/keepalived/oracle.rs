//! The real keepalived, asked what it says of a file (`-t`; it starts no daemon).

use crate::netns::run;
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Some files make it hang.
const PATIENCE: Duration = Duration::from_secs(3);

/// The interfaces that the corpus names, in a network namespace of the test.
pub fn links() {
    run("ip link set lo up");
    for n in 0..3 {
        run(&format!("ip link add eth{n} type veth peer name peer{n}"));
        run(&format!("ip address add 192.0.2.{}/24 dev eth{n}", n + 1));
        run(&format!("ip address add 2001:db8::{}/64 dev eth{n} nodad", n + 1));
        run(&format!("ip link set eth{n} up"));
        run(&format!("ip link set peer{n} up"));
    }
}

/// Its exit code, and its messages joined as in oracle.tsv. `None`: it crashed or hung.
pub fn ask(file: &Path, options: &str) -> Option<(i32, String)> {
    let heard = file.with_extension("heard");
    let output = File::create(&heard).unwrap();
    let mut child = Command::new("keepalived")
        .args(["-t", "-f"])
        .arg(file)
        .args(options.split_whitespace())
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .process_group(0)
        .spawn()
        .expect("keepalived is there: apt-get install keepalived");
    let limit = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() > limit => {
                let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
                break child.wait().unwrap();
            }
            None => sleep(Duration::from_millis(2)),
        }
    };
    let text = std::fs::read(&heard).unwrap();
    let messages = String::from_utf8_lossy(&text).lines().collect::<Vec<_>>().join(" | ");
    Some((status.code()?, messages))
}
