//! The whole program on hosts of its own: real nginx, real kernel addresses, a real client. Needs root, iproute2,
//! nftables and nginx.
//!
//! Each case runs in a process of its own with its own network, process and mount namespaces: whatever becomes of it,
//! nothing is left on the machine, and no packet leaves it.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod announce;
mod bench;
mod cases;
mod certificates;
mod client;
mod compare;
mod crowd;
mod disk;
mod frr;
mod handover;
mod health;
mod hooks;
mod lab;
mod migrate;
mod nemesis;
mod net;
#[path = "../netns/mod.rs"]
#[allow(dead_code, reason = "the lab has cables of its own")]
mod netns;
mod nginx;
mod node;
mod orders;
mod rival;
mod secure;
mod voting;
mod vrrp;
mod watch;

use std::sync::{Mutex, PoisonError};

/// Two labs at once make each other's gaps.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
const PROCESSES: [&str; 5] = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Runs the case, which is the body of the test that calls this.
fn alone<Case: FnOnce()>(case: Case) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let text = netns::isolated(name_of::<Case>(), &PROCESSES, case);
    text.lines().filter(|line| line.contains("| gap")).for_each(|line| println!("{line}"));
}

/// The same, and all that it prints is seen at once.
fn alone_and_aloud<Case: FnOnce()>(case: Case) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if netns::is_inside() {
        return case();
    }
    let status = netns::again(name_of::<Case>(), &PROCESSES).status().expect("unshare (util-linux) runs");
    assert!(status.success(), "see above");
}

fn name_of<Case>() -> &'static str {
    std::any::type_name::<Case>().trim_start_matches("lab::").trim_end_matches("::{{closure}}")
}
