//! `haclusterd check`: is the configuration good, and with `--run`, what do its checks say?

use super::table::{self, Cell, Tone};
use super::{FAILED, fail, human, print};
use crate::config::Config;
use crate::engine::health::Outcome;
use crate::io::probe::{self, First};
use std::path::Path;
use std::time::Duration;

const HEADER: [&str; 4] = ["CHECK", "RESULT", "TIME", "REASON"];
/// Beyond what the checks themselves are given: nginx is asked for its configuration first.
const SLACK: Duration = Duration::from_secs(5);

const CHECK_FAILED: u8 = 2;

/// Checks the configuration file.
///
/// Exit code: 0 it can be run; 1 it has mistakes, each with file, line, key and remedy; with --run: 2 a check fails.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Run every check once, and tell what comes out. Nothing is counted or restarted, and the daemon hears nothing of it.
    #[arg(long)]
    run: bool,
}

pub fn run(args: &Args, path: &Path) -> u8 {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    if args.run {
        return run_checks(config);
    }
    let (vips, checks, name) = (config.all_vips().count(), config.checks.len(), &config.node.name);
    print::say(&format!("{}: good: node {name}, {vips} VIPs, {checks} checks\n", path.display()));
    config.advice().iter().for_each(|advice| print::say(&format!("warning: {advice}\n")));
    0
}

fn run_checks(config: Config) -> u8 {
    if config.checks.is_empty() {
        print::say("no check is configured: add a [[check]], for instance with kind = \"nginx\"\n");
        return 0;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let longest = config.checks.iter().map(|check| check.timeout).max().unwrap_or_default();
    let results = runtime.block_on(probe::once(&config, longest + SLACK));
    print::say(&render(&results, print::colour()));
    // A thread that hangs in a check must not keep the command from ending.
    runtime.shutdown_background();
    let failed = |first: &First| matches!(first.outcome, None | Some(Outcome::Fail(_) | Outcome::Certain(_)));
    if results.iter().any(failed) { CHECK_FAILED } else { 0 }
}

fn render(results: &[First], colour: bool) -> String {
    let mut rows = vec![HEADER.iter().map(Cell::from).collect()];
    rows.extend(results.iter().map(row));
    table::render(&rows, colour)
}

fn row(first: &First) -> Vec<Cell> {
    let name = match first.part.as_str() {
        "" => first.check.clone(),
        part => format!("{} {part}", first.check),
    };
    let (word, tone, reason) = match &first.outcome {
        Some(Outcome::Pass) => ("ok".to_owned(), Tone::Good, ""),
        Some(Outcome::Number(number)) => (number.to_string(), Tone::Plain, ""),
        Some(Outcome::Warn(reason)) => ("warn".to_owned(), Tone::Warn, reason.as_str()),
        Some(Outcome::Saturated(reason)) => ("saturated".to_owned(), Tone::Warn, reason.as_str()),
        Some(Outcome::Fail(reason) | Outcome::Certain(reason)) => {
            ("failed".to_owned(), Tone::Bad, reason.as_str())
        }
        None => ("failed".to_owned(), Tone::Bad, "no result in time"),
    };
    let took = human::round_trip(u64::try_from(first.took.as_micros()).unwrap_or(u64::MAX));
    vec![name.into(), Cell::new(word, tone), took.into(), reason.into()]
}

const _: () = assert!(CHECK_FAILED != FAILED, "the two are told apart");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_result_has_its_line() {
        let first = |part: &str, outcome, ms| First {
            check: "nginx".into(),
            part: part.into(),
            outcome,
            took: Duration::from_millis(ms),
        };
        let text = render(
            &[
                first("process", Some(Outcome::Pass), 31),
                first("http", Some(Outcome::Saturated("worker 7 is full".into())), 33),
                first("logs", Some(Outcome::Certain("the log disk is full".into())), 32),
                first("", None, 12_000),
            ],
            false,
        );
        assert_eq!(
            text,
            "\
CHECK          RESULT     TIME  REASON
nginx process  ok         31ms  -
nginx http     saturated  33ms  worker 7 is full
nginx logs     failed     32ms  the log disk is full
nginx          failed     12s   no result in time
"
        );
    }
}
