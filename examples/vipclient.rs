//! Asks a VIP every 5 ms, each time over a new connection, until its standard input ends, and says what it saw.
//!
//! `vipclient 10.0.0.100:80`

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[allow(dead_code, reason = "the lab reads more of it")]
#[path = "../tests/lab/client.rs"]
mod client;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn main() -> ExitCode {
    let Some(vip) = std::env::args().nth(1).and_then(|text| text.parse::<SocketAddr>().ok()) else {
        let _ = writeln!(std::io::stderr(), "usage: vipclient ADDRESS:PORT");
        return ExitCode::FAILURE;
    };
    let stop: Arc<AtomicBool> = Arc::default();
    let asking = stop.clone();
    let client = std::thread::spawn(move || client::ask_until(&asking, vip, client::PACE));
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    stop.store(true, Ordering::Relaxed);
    let Ok(all) = client.join() else { return ExitCode::FAILURE };
    let report = client::report(&all);
    let pace = client::PACE.as_millis();
    let text = format!(
        "the client asked {} times, every {pace} ms: answered by {}; longest gap {} ms; failed {}",
        report.asked,
        report.answered.join(", then "),
        report.gap.as_millis(),
        report.failed
    );
    let _ = writeln!(std::io::stdout(), "{text}");
    ExitCode::SUCCESS
}
