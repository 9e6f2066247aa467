//! What may be tracked, and the blocks that track it.

use super::super::command;
use super::super::finding::{Findings, Kind};
use super::super::grammar::{FILE, PROCESS_LEVEL, SCRIPT, other, shape};
use super::super::model::{Command, Model, Track, TrackKind, Tracker, Watch};
use super::super::tree::Statement;
use super::super::value::{self, invalid, number, parse_number, seconds, text};
use super::{all_comments, name};
use std::net::SocketAddr;
use std::time::Duration;

/// `vrrp_script`, `vrrp_track_process`, `track_file`.
pub fn tracker(model: &mut Model, statement: &Statement, findings: &mut Findings) {
    let Some(name) = name(statement, findings) else { return };
    let kind = statement.key.as_str();
    let same = |other: &Tracker| other.name == name && kind_of(&other.watch) == track_kind(kind);
    if model.trackers.iter().any(same) {
        let what = format!("{kind} {name} is there already");
        return invalid(
            findings,
            statement,
            what,
            "keepalived leaves the second one out: give it another name",
        );
    }
    let mut tracker = Tracker {
        at: statement.at.clone(),
        comments: all_comments(statement),
        name: name.to_owned(),
        weight: None,
        reverse: false,
        watch: empty(kind),
    };
    for inner in statement.inner() {
        shape(inner, false, findings);
        part(&mut tracker, inner, findings);
    }
    let (missing, key) = match &tracker.watch {
        Watch::Script { command, .. } => (command.words.is_empty(), "script"),
        Watch::Process { words, .. } => (words.is_empty(), "process"),
        Watch::File { path } => (path.is_empty(), "file"),
    };
    if missing {
        return invalid(
            findings,
            statement,
            format!("{kind} {name} has no {key}"),
            "keepalived leaves it out: write one, or remove it",
        );
    }
    model.trackers.push(tracker);
}

fn empty(kind: &str) -> Watch {
    match kind {
        "vrrp_script" => Watch::Script {
            command: Command {
                at: super::super::finding::At { file: Default::default(), line: 0 },
                words: Vec::new(),
                user: None,
            },
            tcp: None,
            interval: Duration::from_secs(1),
            timeout: None,
            rise: 1,
            fall: 1,
            init_fail: false,
        },
        "vrrp_track_process" => {
            Watch::Process { words: Vec::new(), whole: false, quorum: 1, quorum_max: None }
        }
        _ => Watch::File { path: String::new() },
    }
}

fn track_kind(key: &str) -> TrackKind {
    match key {
        "vrrp_script" | "track_script" => TrackKind::Script,
        "vrrp_track_process" | "track_process" => TrackKind::Process,
        "track_interface" => TrackKind::Interface,
        _ => TrackKind::File,
    }
}

fn kind_of(watch: &Watch) -> TrackKind {
    match watch {
        Watch::Script { .. } => TrackKind::Script,
        Watch::Process { .. } => TrackKind::Process,
        Watch::File { .. } => TrackKind::File,
    }
}

fn part(tracker: &mut Tracker, s: &Statement, findings: &mut Findings) {
    if s.key == "weight" {
        let most = match tracker.watch {
            Watch::Script { .. } => 253,
            Watch::Process { .. } => 254,
            Watch::File { .. } => i64::from(i32::MAX),
        };
        tracker.weight = number(findings, s, -most..=most).and_then(|weight| i32::try_from(weight).ok());
        tracker.reverse = s.arg(1) == Some("reverse");
        if let Some(word) = s.arg(1).filter(|word| !matches!(*word, "reverse" | "noreverse")) {
            invalid(findings, s, format!("{word} is not known here"), "write weight N, or weight N reverse");
        }
        return;
    }
    match &mut tracker.watch {
        Watch::Script { command, tcp, interval, timeout, rise, fall, init_fail } => match s.key.as_str() {
            "script" => {
                *tcp = port(s, findings);
                let user = command.user.take();
                if let Some(own) = script(s, findings) {
                    *command = own;
                }
                command.user = user;
            }
            "interval" => *interval = whole(s, findings).unwrap_or(*interval),
            "timeout" => *timeout = whole(s, findings),
            "rise" => *rise = count(s, findings).unwrap_or(*rise),
            "fall" => *fall = count(s, findings).unwrap_or(*fall),
            "user" => command.user = text(findings, s).and_then(|_| value::user(findings, s, &s.args)),
            "init_fail" => *init_fail = true,
            _ => other(&SCRIPT, s, findings),
        },
        Watch::Process { words, whole, quorum, quorum_max } => match s.key.as_str() {
            "process" => {
                *words = s.args.iter().map(|word| word.text.clone()).collect();
                *whole |= words.len() > 1;
            }
            "quorum" => *quorum = most(s, 1..=65535, findings).unwrap_or(*quorum),
            "quorum_max" => *quorum_max = most(s, 0..=65535, findings),
            "full_command" => *whole = true,
            "param_match" => {
                let what = "param_match has no equivalent: all parameters are compared as a whole";
                findings.add(Kind::Missing, &s.at, what, "name them all, or the program alone");
            }
            "delay" | "fork_delay" | "terminate_delay" => {
                if seconds(findings, s, 0.0..=3600.0).is_some() {
                    let what = format!("{} has no equivalent: a change counts at once", s.key);
                    findings.add(
                        Kind::Missing,
                        &s.at,
                        what,
                        "for nginx use kind = \"nginx\", which knows a reload from an end",
                    );
                }
            }
            _ => other(&PROCESS_LEVEL, s, findings),
        },
        Watch::File { path } => match s.key.as_str() {
            "file" => *path = text(findings, s).unwrap_or_default().to_owned(),
            "init_file" => {
                let what = "init_file has no equivalent: a file that is not there counts as 0";
                findings.add(Kind::Differs, &s.at, what, "let what writes it make it");
            }
            _ => other(&FILE, s, findings),
        },
    }
}

/// keepalived 2.2 takes whole seconds here and goes on by its default, later ones take fractions. What is meant is clear.
fn whole(s: &Statement, findings: &mut Findings) -> Option<Duration> {
    let value = seconds(findings, s, 0.000_001..=4294.0)?;
    if s.arg(0).is_some_and(|word| word.contains('.')) {
        let what =
            format!("{} {} is a fraction, which keepalived 2.2 does not take", s.key, value.as_secs_f64());
        invalid(findings, s, what, "it is carried as it is written");
    }
    Some(value)
}

fn count(s: &Statement, findings: &mut Findings) -> Option<u32> {
    most(s, 1..=i64::from(i32::MAX), findings)
}

fn most(s: &Statement, range: std::ops::RangeInclusive<i64>, findings: &mut Findings) -> Option<u32> {
    number(findings, s, range).and_then(|n| u32::try_from(n).ok())
}

/// `script "</path"` asks whether a file can be opened.
fn script(s: &Statement, findings: &mut Findings) -> Option<Command> {
    let line = text(findings, s)?;
    if let Some(path) = line.strip_prefix('<') {
        let words = ["/usr/bin/test", "-r", path.trim()].map(str::to_owned).to_vec();
        return Some(Command { at: s.at.clone(), words, user: None });
    }
    let words = command::split(line).unwrap_or_default();
    if words.is_empty() {
        invalid(findings, s, "the command of script cannot be read", "mend its quotes");
        return None;
    }
    if s.args.len() > 1 {
        let what = format!("script {line}: the words after it are overlooked, by keepalived as well");
        findings.add(Kind::Differs, &s.at, what, "put the command and its arguments into one pair of quotes");
    }
    Some(Command { at: s.at.clone(), words, user: None })
}

/// `script "</dev/tcp/HOST/PORT"`, in bash's words.
fn port(s: &Statement, findings: &mut Findings) -> Option<SocketAddr> {
    let (host, port) = s.arg(0)?.strip_prefix('<')?.trim().strip_prefix("/dev/tcp/")?.split_once('/')?;
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    let socket = SocketAddr::new(host.parse().ok()?, port.parse().ok().filter(|port| *port > 0)?);
    let what =
        format!("keepalived looks for a file /dev/tcp/{host}/{port}, so this script never succeeds there");
    findings.add(Kind::Differs, &s.at, what, "it becomes a check of kind \"tcp\", as it was meant");
    Some(socket)
}

/// The lines of a `track_…` block.
pub fn tracks(tracks: &mut Vec<Track>, known: &[Tracker], statement: &Statement, findings: &mut Findings) {
    if !shape(statement, true, findings) {
        return;
    }
    let kind = track_kind(&statement.key);
    for line in statement.inner() {
        let defined =
            known.iter().find(|tracker| tracker.name == line.key && kind_of(&tracker.watch) == kind);
        if kind != TrackKind::Interface && defined.is_none() {
            let what = format!("{} {} is not defined above", statement.key, line.key);
            invalid(
                findings,
                line,
                what,
                "keepalived runs without it: define it before the instance, or remove the line",
            );
            continue;
        }
        if tracks.iter().any(|track| track.kind == kind && track.name == line.key) {
            invalid(
                findings,
                line,
                format!("{} is tracked twice", line.key),
                "keepalived takes the first one: remove this one",
            );
            continue;
        }
        let (weight, reverse) = weight(line, kind, findings);
        tracks.push(Track { at: line.at.clone(), kind, name: line.key.clone(), weight, reverse });
    }
}

/// `weight N [reverse|noreverse]`.
fn weight(line: &Statement, kind: TrackKind, findings: &mut Findings) -> (Option<i32>, bool) {
    let mut words = line.args.iter().map(|word| word.text.as_str());
    let (mut weight, mut reverse) = (None, false);
    while let Some(word) = words.next() {
        match word {
            "weight" => {
                let most = if matches!(kind, TrackKind::Script | TrackKind::Interface) { 253 } else { 254 };
                let value = words.next().and_then(parse_number);
                weight = value.filter(|n| n.abs() <= most).and_then(|n| i32::try_from(n).ok());
                if weight.is_none() {
                    invalid(
                        findings,
                        line,
                        format!("the weight of {} is out of range", line.key),
                        format!("write -{most} to {most}"),
                    );
                }
            }
            "reverse" => reverse = true,
            "noreverse" | "no_reverse" => reverse = false,
            _ => invalid(
                findings,
                line,
                format!("{word} is not known here"),
                "one name stands on one line: NAME [weight N [reverse]]",
            ),
        }
    }
    (weight, reverse)
}
