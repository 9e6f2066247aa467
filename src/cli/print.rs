//! How a command speaks: text on the standard output, complaints on the standard error.

use serde::Serialize;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    #[default]
    Table,
    /// A table with more columns.
    Wide,
    /// The stable form for programs.
    Json,
}

pub fn json(value: &impl Serialize) -> String {
    // Only maps with keys that are no strings, and writers, can fail.
    serde_json::to_string_pretty(value).expect("plain structures become JSON") + "\n"
}

/// For programs that read a line at a time.
pub fn json_line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain structures become JSON") + "\n"
}

/// A reader that has seen enough (`| head`) is no error.
pub fn say(text: &str) {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(&format!("cannot write to the standard output: {error}"));
        }
        _ => {}
    }
}

/// Shows it again and again, each time on a screen of its own, until interrupted.
pub fn watch(pause: Duration, look: impl Fn() -> String) -> ! {
    let clear = if io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    loop {
        say(&format!("{clear}{}", look()));
        std::thread::sleep(pause);
    }
}

pub fn complain(text: &str) {
    // Where this fails, nobody is left to be told.
    let _ = writeln!(io::stderr(), "haclusterd: {text}");
}

/// Colours are for terminals, and for those who have not set <https://no-color.org>.
pub fn colour() -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    !plain && !dumb && io::stdout().is_terminal()
}
