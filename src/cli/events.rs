//! `haclusterd events`: what happened on this node, also before its daemon was restarted.

use super::print::{self, Output};
use super::table::{Tone, paint, printable};
use super::{PATIENCE, fail, no_daemon};
use crate::io::control::{self, ControlError};
use haclusterd_proto::control::{LoggedEvent, Request, Response};
use std::path::Path;
use std::time::{Duration, SystemTime};

const LOOK_AGAIN: Duration = Duration::from_millis(250);
const OTHER_VERSION: &str = "the daemon is of another version: restart it after an update";

/// Show what happened on this node, the newest last. The last thousand events are kept, over restarts too.
///
/// Exit code: 0; 3 no daemon.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// So many of the last.
    #[arg(short = 'n', long, default_value_t = 50)]
    lines: usize,
    /// Go on and show what comes, until interrupted.
    #[arg(short, long)]
    follow: bool,
    /// json: one object a line.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &Args, socket: &Path) -> u8 {
    let mut events = match after(socket, 0) {
        Ok(Ok(events)) => events,
        Ok(Err(reason)) => return fail(&reason),
        Err(error) => return no_daemon(&error),
    };
    events.drain(..events.len().saturating_sub(args.lines));
    let mut last = show(&events, args, 0);
    if !args.follow {
        return 0;
    }
    loop {
        std::thread::sleep(LOOK_AGAIN);
        // A daemon that is restarted goes on with the same numbers.
        if let Ok(Ok(events)) = after(socket, last) {
            last = show(&events, args, last);
        }
    }
}

fn after(socket: &Path, id: u64) -> Result<Result<Vec<LoggedEvent>, String>, ControlError> {
    Ok(match control::ask(socket, &Request::Events { after: id }, PATIENCE)? {
        Response::Events(events) => Ok(events),
        Response::Error(reason) => Err(reason),
        _ => Err(OTHER_VERSION.into()),
    })
}

/// The number of the last one that was shown.
fn show(events: &[LoggedEvent], args: &Args, last: u64) -> u64 {
    let colour = print::colour();
    let line = |event: &LoggedEvent| match args.output {
        Output::Json => print::json_line(event),
        _ => render(event, colour),
    };
    print::say(&events.iter().map(line).collect::<String>());
    events.last().map_or(last, |event| event.id)
}

fn render(event: &LoggedEvent, colour: bool) -> String {
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(event.unix_ms);
    let tone = if event.warning { Tone::Warn } else { Tone::Plain };
    format!("{}  {}\n", humantime::format_rfc3339_millis(at), paint(&printable(&event.text), tone, colour))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_time_and_the_words() {
        let event =
            LoggedEvent { id: 1, unix_ms: 1_796_140_000_123, warning: true, text: "lb3 is not heard".into() };
        assert_eq!(render(&event, false), "2026-12-01T15:46:40.123Z  lb3 is not heard\n");
    }
}
