//! What keepalived takes and a haclusterd.toml does not, and no other rule has caught: it is left out and told.

use super::super::finding::{At, Findings, Kind};
use crate::config::{Config, ConfigError, Problem};
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

/// Each finds twenty mistakes.
const MAX_ROUNDS: usize = 30;

/// The text without the lines that [`Config::parse`] refuses, and what that makes of it. `None`: too much is refused.
pub fn keep(mut text: String, file: &Path, findings: &mut Findings) -> (String, Option<Config>) {
    let at = At { file: Rc::new(file.to_owned()), line: 0 };
    for _ in 0..MAX_ROUNDS {
        let problems = match Config::parse(&text, file) {
            Ok(config) => return (text, Some(config)),
            Err(ConfigError::Bad { problems, .. }) => problems,
            Err(ConfigError::Unreadable { .. } | ConfigError::Keepalived(_)) => break, // it is a text of ours
        };
        let mut lost = BTreeSet::new();
        for problem in &problems {
            let (what, gone) = without(&text, problem);
            lost.extend(gone);
            let what = format!("{what} is left out: {} {}", problem.key, problem.fault.what);
            findings.add(Kind::Missing, &at, what, problem.fault.remedy.clone());
        }
        let kept = text.lines().enumerate().filter(|(at, _)| !lost.contains(at));
        text = kept.fold(String::new(), |text, (_, line)| text + line + "\n");
    }
    findings.add(
        Kind::Fatal,
        &at,
        "more of it has no equivalent than can be told",
        "begin with a smaller file",
    );
    (text, None)
}

/// What it stands in, and the lines to leave out: the one, or the table that lacks something.
fn without(text: &str, problem: &Problem) -> (String, Vec<usize>) {
    let lines: Vec<&str> = text.lines().collect();
    let line = problem.line.saturating_sub(1).min(lines.len().saturating_sub(1));
    let is_head = |line: &&str| line.starts_with('[');
    let begin = (0..=line).rev().find(|at| is_head(&lines[*at])).unwrap_or(0);
    let end = (begin + 1..lines.len()).find(|at| is_head(&lines[*at])).unwrap_or(lines.len());
    let name = lines[begin..end].iter().find_map(|line| line.strip_prefix("name = ")).unwrap_or_default();
    let place = format!("{} {name}", lines[begin]);
    match lines.get(line) {
        // Without these, nothing of it is left.
        Some(own) if line != begin && !own.starts_with("addresses") => {
            (format!("{own} ({})", place.trim()), vec![line])
        }
        _ => (place.trim().to_owned(), (begin..end).collect()),
    }
}
