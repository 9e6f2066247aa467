//! `haclusterd replay`: a journal fed to the engine again, and what it decides, a line for each input.

mod words;

use super::table::printable;
use super::{fail, print, status};
use crate::engine::elect::{Elect, Owner};
use crate::engine::time::Instant;
use crate::engine::{Action, Input};
use crate::io::journal::{Decided, JournalError, Replay, VERSION};
use haclusterd_proto::VipId;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use words::{Book, Said};

pub const OK: u8 = 0;
pub const DIFFERS: u8 = 2;

/// Runs a journal of `run --journal` once more, and prints what was decided and after what.
///
/// A line has the milliseconds since the daemon began, the input, what the engine asked for, who owns a VIP from now
/// on, and when the engine is to be asked again. At the end stands what `status` would have shown.
///
/// Exit code: 0; 1 the journal cannot be read, or not to its end; 2 the daemon decided otherwise.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The journal.
    file: PathBuf,
    /// Stop after this time: 12345.678 (milliseconds, as printed), or 90s, or 5m.
    #[arg(long, value_name = "TIME", value_parser = span)]
    until: Option<Duration>,
    /// Only what concerns this VIP. May be given several times.
    #[arg(long, value_name = "NAME")]
    vip: Vec<String>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Inputs that changed something; what repeats (messages sent, renewals, probes) is left out.
    #[default]
    Short,
    /// Every input, and all that was asked for.
    Wide,
    /// Every input and all actions, a line of JSON each.
    Json,
}

/// As printed, or with a unit.
fn span(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(millis) => Ok(Duration::from_micros((millis * 1000.0).round() as u64)),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string()),
    }
}

pub fn run(args: &Args) -> u8 {
    match Replay::open(&args.file) {
        Ok(replay) => Show::new(args, replay).all(),
        Err(error) => refuse(&error.to_string()),
    }
}

/// What is quoted may be a stranger's.
fn refuse(reason: &str) -> u8 {
    fail(&printable(reason))
}

struct Show<'a> {
    args: &'a Args,
    replay: Replay,
    book: Book,
    owners: BTreeMap<VipId, Owner>,
    inputs: usize,
    /// Answered otherwise than by the daemon: how many, and the line of the first.
    otherwise: Option<(usize, usize)>,
}

impl Show<'_> {
    fn new(args: &Args, replay: Replay) -> Show<'_> {
        let header = replay.header();
        let book = Book::new(header);
        let until = args.until.map(|span| header.started + span);
        Show { args, replay: replay.until(until), book, owners: BTreeMap::new(), inputs: 0, otherwise: None }
    }

    fn all(mut self) -> u8 {
        let version = &self.replay.header().version;
        if version != VERSION {
            let version = printable(version);
            print::complain(&format!(
                "warning: haclusterd {version} wrote this journal, this is {VERSION}: it may decide otherwise"
            ));
        }
        let failure = self.each(print::say);
        if self.args.output != Form::Json {
            print::say(&self.summary());
        }
        self.verdict(failure)
    }

    /// Until the journal's end, or what is wrong with it.
    fn each(&mut self, mut say: impl FnMut(&str)) -> Option<JournalError> {
        while let Some(next) = self.replay.next() {
            match next {
                Ok(decided) => say(&self.one(&decided)),
                Err(error) => return Some(error),
            }
        }
        None
    }

    /// What is printed of one input; nothing, or one line.
    fn one(&mut self, decided: &Decided) -> String {
        self.inputs += 1;
        if !decided.same {
            let (count, first) = self.otherwise.unwrap_or((0, decided.line));
            self.otherwise = Some((count + 1, first));
        }
        self.book.learn(&decided.input);
        let moves = self.moves(decided.at);
        let wide = self.args.output != Form::Short;
        let actions: Vec<Said> = decided.actions.iter().map(|action| self.book.action(action)).collect();
        let said =
            actions.into_iter().filter(|said| (wide || !said.routine) && self.wants(&said.text, said.vip));
        let said: Vec<String> = said.map(|said| said.text).collect();
        if said.is_empty() && moves.is_empty() && !(wide && self.args.vip.is_empty()) {
            return String::new();
        }
        match self.args.output {
            Form::Json => json(decided, self.replay.header().started),
            Form::Short | Form::Wide => self.line(decided, &said, &moves),
        }
    }

    fn line(&self, decided: &Decided, said: &[String], moves: &[String]) -> String {
        let mut parts = vec![self.book.input(&decided.input)];
        parts.extend([said, moves].into_iter().filter(|part| !part.is_empty()).map(|part| part.join(", ")));
        let next = self.replay.engine().deadline(decided.at);
        parts.extend(next.map(|at| format!("next {}", self.book.time(at))));
        if !decided.same {
            parts.push("THE DAEMON DECIDED OTHERWISE".into());
        }
        format!("{:>12}  {}\n", self.book.time(decided.at), printable(&parts.join(" | ")))
    }

    /// Who owns another VIP than before.
    fn moves(&mut self, now: Instant) -> Vec<String> {
        let mut moves = Vec::new();
        for (vip, name) in self.book.vips() {
            let owner = self.replay.engine().owner(vip, now);
            let old = self.owners.insert(vip, owner).unwrap_or(Owner::Nobody);
            let (old, new) = (self.book.owner(old), self.book.owner(owner));
            if old != new && self.wants("", Some(vip)) {
                moves.push(format!("{name}: {old} -> {new}"));
            }
        }
        moves
    }

    /// `--vip`: is it about one of these? What is about no VIP may still name one.
    fn wants(&self, text: &str, vip: Option<VipId>) -> bool {
        let is = |name: &String| match vip {
            Some(vip) => *name == self.book.vip(vip),
            None => text.contains(name.as_str()),
        };
        self.args.vip.is_empty() || self.args.vip.iter().any(is)
    }

    fn summary(&self) -> String {
        let snapshot = self.replay.engine().snapshot(0, self.replay.now());
        let same = match self.otherwise {
            None => "decided as the daemon did".into(),
            Some((count, line)) => {
                format!("{count} decided otherwise than the daemon did, first in line {line}")
            }
        };
        let (inputs, time) = (self.inputs, self.book.time(self.replay.now()));
        let end = self.replay.end().map(|end| format!("the journal ends early: {end}\n")).unwrap_or_default();
        let name = printable(&snapshot.node);
        format!("\n{name}: {inputs} inputs in {time} ms, {same}\n{end}")
            + &status::render(&snapshot, false, print::colour())
    }

    fn verdict(&self, failure: Option<JournalError>) -> u8 {
        if let Some(error) = failure {
            return refuse(&error.to_string());
        }
        let unknown = |name: &&String| self.book.vips().all(|(_, known)| known != **name);
        if let Some(name) = self.args.vip.iter().find(unknown) {
            let known: Vec<String> = self.book.vips().map(|(_, name)| name).collect();
            return refuse(&format!(
                "no VIP is called {name:?} in this journal; there are: {}",
                known.join(", ")
            ));
        }
        if let Some((count, line)) = self.otherwise {
            print::complain(&format!(
                "{}:{line}: the daemon decided otherwise here ({count} times in all): another build wrote the journal, or the file was changed",
                self.args.file.display()
            ));
            return DIFFERS;
        }
        OK
    }
}

fn json(decided: &Decided, started: Instant) -> String {
    #[derive(Serialize)]
    struct Entry<'a> {
        line: usize,
        since_us: u128,
        input: &'a Input,
        actions: &'a [Action],
        same: bool,
    }
    let Decided { line, at, input, actions, same } = decided;
    let since_us = at.since(started).as_micros();
    print::json_line(&Entry { line: *line, since_us, input, actions, same: *same })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::journal::sample;
    use clap::Parser;
    use std::fs;
    use std::path::Path;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        args: Args,
    }

    /// What is printed of a journal, a line each, and the exit code.
    fn shown(journal: &Path, words: &str) -> (Vec<String>, u8) {
        let words = ["replay", journal.to_str().unwrap()].into_iter().chain(words.split_whitespace());
        let args = Words::parse_from(words).args;
        let mut show = Show::new(&args, Replay::open(journal).unwrap());
        let mut text = String::new();
        let failure = show.each(|line| text += line);
        if args.output != Form::Json {
            text += &show.summary();
        }
        (text.lines().map(str::to_owned).collect(), show.verdict(failure))
    }

    fn sample() -> (tempfile::TempDir, PathBuf, usize) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let inputs = sample::run(&path);
        (dir, path, inputs)
    }

    #[test]
    fn a_line_tells_the_input_the_decisions_and_the_new_owner() {
        let (_dir, path, inputs) = sample();
        let (lines, code) = shown(&path, "");
        let taken = "     581.000  deadline | install web until 1070.000, log \"web: taken, term 1: priority 150, the only candidate\" | \
                     web: nobody -> lb1 (term 1) | next 631.000";
        assert!(lines.contains(&taken.to_owned()), "{lines:#?}");
        let summary = format!("lb1: {inputs} inputs in 3031.000 ms, decided as the daemon did");
        assert!(lines.contains(&summary) && lines.iter().any(|line| line.starts_with("web  lb1 *  active")));
        assert_eq!(code, OK);
    }

    #[test]
    fn what_repeats_all_the_time_is_told_only_if_asked_for() {
        let (_dir, path, inputs) = sample();
        let inputs_of = |words: &str| {
            let lines = shown(&path, words).0;
            lines.into_iter().filter(|line| line.contains("| next ")).collect::<Vec<_>>()
        };
        assert!(!inputs_of("").iter().any(|line| line.contains("renew") || line.contains("probe")));
        let wide = inputs_of("-o wide");
        assert_eq!(wide.len(), inputs);
        assert!(wide.iter().any(|line| line.contains("| renew web until")));
    }

    #[test]
    fn a_vip_or_a_span_may_be_asked_for() {
        let (_dir, path, _) = sample();
        let (lines, code) = shown(&path, "--vip web");
        assert!(!lines.iter().any(|line| line.contains("publish")) && code == OK, "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("log \"web: taken")));
        let (lines, code) = shown(&path, "--vip other");
        assert!(!lines.iter().any(|line| line.contains("| next ")) && code == 1, "{lines:#?}");
        let (lines, _) = shown(&path, "--until 580.999");
        assert!(lines.iter().any(|line| line.contains("in 561.000 ms")), "{lines:#?}");
    }

    #[test]
    fn every_input_is_a_line_of_json() {
        let (_dir, path, inputs) = sample();
        let (lines, _) = shown(&path, "-o json");
        assert_eq!(lines.len(), inputs);
        let first: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(
            (&first["line"], &first["since_us"], &first["same"]),
            (&2.into(), &0.into(), &true.into())
        );
        assert!(first["input"]["Interfaces"].is_array() && first["actions"][0]["Log"].is_object());
    }

    #[test]
    fn the_exit_code_says_whether_all_was_decided_as_before() {
        let (_dir, path, _) = sample();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("\"Pass\"", "{\"Fail\":\"503\"}", 1)).unwrap();
        let (lines, code) = shown(&path, "");
        assert!(lines.iter().any(|line| line.ends_with("THE DAEMON DECIDED OTHERWISE")), "{lines:#?}");
        assert_eq!(code, DIFFERS);
        fs::write(&path, text + "{\"gap\":{\"lost\":1}}\n").unwrap();
        assert_eq!(shown(&path, "").1, 1);
        assert_eq!(run(&Words::parse_from(["replay", "/nowhere"]).args), 1);
    }

    #[test]
    fn a_time_is_read_as_it_is_printed_or_with_a_unit() {
        for (text, micros) in [("12345.678", 12_345_678), ("0", 0), ("90s", 90_000_000), ("5m", 300_000_000)]
        {
            assert_eq!(span(text), Ok(Duration::from_micros(micros)));
        }
        assert!(span("soon").is_err());
    }
}
