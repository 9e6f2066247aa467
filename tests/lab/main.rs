//! The whole program on hosts of its own: real nginx, real kernel addresses, a real client. Needs root, iproute2,
//! nftables and nginx.
//!
//! Each case runs in a process of its own with its own network, process and mount namespaces: whatever becomes of it,
//! nothing is left on the machine, and no packet leaves it.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod cases;
mod client;
mod lab;
mod net;
#[path = "../netns/mod.rs"]
#[allow(dead_code, reason = "the lab has cables of its own")]
mod netns;
mod node;
mod voting;
mod watch;

use std::sync::{Mutex, PoisonError};

/// Two labs at once make each other's gaps.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs the case, which is the body of the test that calls this.
fn alone<Case: FnOnce()>(case: Case) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let path = std::any::type_name::<Case>();
    let name = path.trim_start_matches("lab::").trim_end_matches("::{{closure}}");
    let processes = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let text = netns::isolated(name, &processes, case);
    text.lines().filter(|line| line.contains("| gap")).for_each(|line| println!("{line}"));
}
