use super::sample::{STARTED, WEB, header, run};
use super::*;
use crate::engine::elect::{Elect, Owner};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

fn dir() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    (dir, path)
}

fn start() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.header(&header()).unwrap();
    writer.step(Step::new(STARTED, Input::Deadline, None)).unwrap();
    writer.out
}

/// How many inputs are replayed, and what is said at the end.
fn replay(text: &[u8]) -> (usize, String) {
    let (_dir, path) = dir();
    fs::write(&path, text).unwrap();
    let mut replay = match Replay::open(&path) {
        Ok(replay) => replay,
        Err(error) => return (0, error.to_string()),
    };
    let all: Vec<_> = replay.by_ref().collect();
    let error = all.iter().find_map(|next| next.as_ref().err());
    let said = error.map(ToString::to_string).or(replay.end().map(str::to_owned));
    (all.iter().filter(|next| next.is_ok()).count(), said.unwrap_or_default())
}

fn with(tail: &[u8]) -> Vec<u8> {
    [&start(), tail].concat()
}

#[test]
fn what_was_recorded_is_decided_again() {
    let (_dir, path) = dir();
    let inputs = run(&path);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut replay = Replay::open(&path).unwrap();
    let all: Vec<Decided> = replay.by_ref().map(Result::unwrap).collect();
    assert_eq!(all.len(), inputs);
    assert!(all.iter().all(|decided| decided.same));
    assert!(all.iter().any(|decided| matches!(decided.actions[..], [Action::Install { .. }, ..])));
    assert!(matches!(replay.engine().owner(WEB, replay.now()), Owner::Us { .. }));
}

#[test]
fn a_replay_stops_in_time() {
    let (_dir, path) = dir();
    run(&path);
    let until = STARTED + std::time::Duration::from_millis(100);
    let mut replay = Replay::open(&path).unwrap().until(Some(until));
    assert!(replay.by_ref().count() > 2);
    assert!(replay.now() > STARTED && replay.now() <= until);
}

#[test]
fn another_decision_is_noticed() {
    let text = String::from_utf8(start()).unwrap().replace("\"at\":81234567", "\"at\":81234568");
    let (_dir, path) = dir();
    fs::write(&path, text).unwrap();
    assert!(!Replay::open(&path).unwrap().next().unwrap().unwrap().same);
}

#[test]
fn nothing_is_replayed_past_a_gap() {
    let step = json(&Line::Step(Step::new(STARTED, Input::Deadline, None)));
    let gap = [b"{\"gap\":{\"lost\":17}}\n", &step[..], b"\n"].concat();
    let (count, said) = replay(&with(&gap));
    assert_eq!(count, 1);
    assert!(said.contains("journal:3: 17 inputs are missing"), "{said}");
}

#[test]
fn a_journal_that_ends_early_says_why() {
    assert_eq!(replay(&start()), (1, String::new()));
    let (count, said) = replay(&with(b"\"full\"\n"));
    assert!(count == 1 && said.contains("bound"), "{said}");
    let (count, said) = replay(&with(b"{\"step\":{\"at\":8123"));
    assert!(count == 1 && said.contains("not whole"), "{said}");
}

#[test]
fn what_is_no_journal_is_named_with_its_line() {
    let header = String::from_utf8(start()).unwrap();
    let other = |from: &str, to: &str| header.replace(from, to).into_bytes();
    let cases = [
        (b"".to_vec(), "journal:1: this does not begin a journal"),
        (b"\x7fELF".to_vec(), "journal:1: this does not begin a journal"),
        (other("\"schema\":1", "\"schema\":2"), "journal:1: a journal of schema 2, this program reads 1"),
        (other("\"Deadline\"", "\"Dawn\""), "journal:2: no line of a journal: unknown variant `Dawn`"),
        (with(b"nonsense\n"), "journal:3: no line of a journal"),
        (with(&vec![b' '; 300 * 1024]), "journal:3: longer than 256 KiB"),
    ];
    for (text, expected) in cases {
        let (_, said) = replay(&text);
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let missing = Replay::open(Path::new("/nowhere/journal")).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/journal: cannot be read"), "{missing}");
}

#[test]
fn another_programs_journal_is_replayed_as_far_as_it_is_known() {
    let version = format!("\"version\":\"{VERSION}\",\"started\"");
    let other = String::from_utf8(start()).unwrap().replace(&version, "\"version\":\"9.9.9\",\"started\"");
    assert_eq!(replay(other.as_bytes()), (1, String::new()));
    let (_, said) = replay(other.replace("\"Deadline\"", "\"Dawn\"").as_bytes());
    assert!(said.contains("replay it with haclusterd \"9.9.9\""), "{said}");
}

#[test]
fn an_engine_that_panics_is_reported_by_line() {
    let text = String::from_utf8(start()).unwrap();
    let (_, said) = replay(text.replace("\"secs\":0", "\"secs\":18446744073709551615").as_bytes());
    assert!(said.contains("journal:2: the engine panics"), "{said}");
}

#[test]
fn a_journal_stops_at_its_bound() {
    let mut writer = Writer { out: Vec::new(), left: 200 };
    let end = (0..).find_map(|_| writer.step(Step::new(STARTED, Input::Deadline, None)).err()).unwrap();
    assert!(end.to_string().contains("64 MiB"), "{end}");
    assert!(writer.out.ends_with(b"}\n\"full\"\n") && writer.out.len() <= 208);
}
