//! What is to be said of a run.

use super::checker::{self, Answers, Overlap};
use super::journal::{self, Line};
use super::wire::PACE;
use super::{Begun, Options, Seen};
use crate::client::Asked;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// Two owners are told of so often; what follows is more of the same.
const TOLD: usize = 5;
/// What else is told of the time before and after.
const AROUND: Duration = Duration::from_secs(1);
/// With a majority in touch, and on a machine that does much else, somebody owns the VIP again within this.
const OWNED_WITHIN: Duration = Duration::from_secs(5);
/// Lines of each daemon's log that are told.
const LINES: usize = 15;

/// What a kind of fault did, in all of its rounds.
#[derive(Debug, Default)]
struct Row {
    rounds: usize,
    lost: usize,
    /// The longest time in which no host answered by ARP, and somebody could have.
    unowned: Duration,
    /// The longest time in which the client got no answer, and somebody could have given it.
    gap: Duration,
}

pub struct Report {
    options: Options,
    rows: BTreeMap<&'static str, Row>,
    lasted: Duration,
    overlaps: Vec<Overlap>,
    asked: usize,
    lost: usize,
    /// How often another host took the VIP than before, and how often any host took it.
    changes: usize,
    taken: usize,
    /// The longest of the machine.
    standstill: Duration,
    pub failures: Vec<String>,
}

impl Report {
    pub fn of(options: &Options, seen: &Seen) -> Report {
        let Seen { sights, asked, gained, .. } = seen;
        let overlaps = Answers { sights, asked, gained }.overlaps();
        let standstills = checker::standstills(&seen.questions);
        let could = checker::awake(&seen.could, &standstills);
        let takes = journal::takes(&seen.lines);
        let terms = checker::terms_that_did_not_rise(&takes, &seen.daemons_ended);
        let mut failures: Vec<String> = seen.wrong.clone().into_iter().collect();
        failures.extend(overlaps.iter().take(TOLD).map(|overlap| seen.evidence(overlap)));
        failures.extend(terms.iter().map(|(earlier, later)| {
            format!("{}: lb{} took term {}", seen.time(later.at), later.host, later.term)
                + &format!(" after lb{} had {} at {}", earlier.host, earlier.term, seen.time(earlier.at))
        }));
        failures.extend(seen.ownerless(&could));
        if seen.unheard > 0 {
            failures.push(format!("{} frames were lost, so what was seen is not all", seen.unheard));
        }
        if !failures.is_empty() {
            failures.extend((1..=options.nodes).map(|host| seen.last_words(host)));
        }
        Report {
            options: options.clone(),
            rows: seen.rows(&could),
            lasted: seen.ended - seen.began,
            overlaps,
            asked: asked.len(),
            lost: asked.iter().filter(|asked| asked.answer.is_err()).count(),
            changes: takes.windows(2).filter(|pair| pair[0].host != pair[1].host).count(),
            taken: takes.len(),
            standstill: standstills.iter().map(|(from, to)| *to - *from).max().unwrap_or_default(),
            failures,
        }
    }

    fn two_owners(&self) -> Duration {
        self.overlaps.iter().map(|overlap| overlap.to - overlap.from).sum()
    }

    /// In the lab's file of figures.
    pub fn note(&self) {
        let Options { seconds, seed, nodes, quiet } = &self.options;
        let rows = self.rows.iter().map(|(name, row)| {
            let row = json!({
                "rounds": row.rounds, "lost": row.lost, "unowned_ms": ms(row.unowned), "gap_ms": ms(row.gap),
            });
            ((*name).to_owned(), row)
        });
        let line = json!({
            "case": "nemesis", "seed": seed, "seconds": seconds, "nodes": nodes, "lasted_ms": ms(self.lasted),
            "quiet": quiet.map(|quiet| format!("{quiet:?}")),
            "two_owners": self.overlaps.len(), "two_owners_ms": ms(self.two_owners()),
            "asked": self.asked, "lost": self.lost, "changes": self.changes, "taken": self.taken,
            "standstill_ms": ms(self.standstill),
            "kinds": rows.collect::<serde_json::Map<String, Value>>(),
        });
        crate::lab::note_line(&line);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<22} | rounds | requests lost | longest unowned | longest gap", "fault")?;
        for (name, row) in &self.rows {
            let Row { rounds, lost, unowned, gap } = row;
            let (unowned, gap) = (ms(*unowned), ms(*gap));
            writeln!(f, "{name:<22} | {rounds:>6} | {lost:>13} | {unowned:>12} ms | {gap:>8} ms")?;
        }
        let (times, span) = (self.overlaps.len(), ms(self.two_owners()));
        writeln!(f, "two owners: {times} times, {span} ms in all")?;
        let per_hour = self.changes as f64 * 3600.0 / self.lasted.as_secs_f64();
        let lasted = self.lasted.as_secs();
        writeln!(
            f,
            "owner changed {} times in {lasted} s ({per_hour:.1}/h), taken {} times",
            self.changes, self.taken
        )?;
        writeln!(f, "requests lost: {} of {}", self.lost, self.asked)?;
        if !self.standstill.is_zero() {
            writeln!(
                f,
                "the machine stood still for up to {} ms, which counts for nobody",
                ms(self.standstill)
            )?;
        }
        write!(f, "{}", self.options.text())
    }
}

impl Seen {
    fn rows(&self, could: &[(Instant, bool)]) -> BTreeMap<&'static str, Row> {
        let mut rows: BTreeMap<&'static str, Row> = BTreeMap::new();
        // Without a fault yet, by the seconds before.
        let row_at = |at: Instant| {
            let round = self.rounds.partition_point(|round| round.at <= at).checked_sub(1);
            round.map_or("no fault", |round| self.rounds[round].name())
        };
        for round in &self.rounds {
            rows.entry(round.name()).or_default().rounds += 1;
        }
        for asked in self.asked.iter().filter(|asked| asked.answer.is_err()) {
            rows.entry(row_at(asked.sent)).or_default().lost += 1;
        }
        for span in checker::unanswered(&self.questions, &self.sights) {
            let row = rows.entry(row_at(span.0)).or_default();
            row.unowned = row.unowned.max(checker::longest_owed(span, could));
        }
        let mut answered: Vec<Instant> =
            self.asked.iter().filter(|a| a.answer.is_ok()).map(|a| a.done).collect();
        answered.sort_unstable();
        // Between two questions there is always a gap; and the last answer was a moment before the fault.
        let gaps = checker::silences(&answered, self.ended).into_iter();
        for span in gaps.filter(|span| span.1.saturating_duration_since(span.0) > PACE * 2) {
            let row = rows.entry(row_at(span.0 + PACE * 2)).or_default();
            row.gap = row.gap.max(checker::longest_owed(span, could));
        }
        rows
    }

    fn time(&self, at: Instant) -> String {
        format!("{:.4} s", at.saturating_duration_since(self.began).as_secs_f64())
    }

    /// Who answered about then, and what the daemons said.
    fn evidence(&self, overlap: &Overlap) -> String {
        let hosts: Vec<String> = overlap.hosts.iter().map(|host| format!("lb{host}")).collect();
        let mut text = format!(
            "two owners from {} to {}: {}",
            self.time(overlap.from),
            self.time(overlap.to),
            hosts.join(" and ")
        );
        let (from, to) = (overlap.from - PACE * 2, overlap.from + PACE * 2);
        let during = |at: Instant| from <= at && at <= to;
        for sight in self.sights.iter().filter(|sight| during(sight.at)) {
            let question = sight.question.map_or("unasked".into(), |question| format!("question {question}"));
            text += &format!("\n    {}  lb{} has it ({question})", self.time(sight.at), sight.host);
        }
        for Asked { sent, done, answer } in
            self.asked.iter().filter(|asked| during(asked.sent) || during(asked.done))
        {
            text += &format!("\n    {} to {}  http: {answer:?}", self.time(*sent), self.time(*done));
        }
        for (at, host) in self.gained.iter().filter(|(at, _)| (from - AROUND..to + AROUND).contains(at)) {
            text += &format!("\n    {}  lb{host} gets the address", self.time(*at));
        }
        text + &self.said(from, to)
    }

    fn ownerless(&self, could: &[(Instant, bool)]) -> Vec<String> {
        let spans = checker::unanswered(&self.questions, &self.sights).into_iter();
        let long = spans.filter(|span| checker::longest_owed(*span, could) > OWNED_WITHIN);
        let tell = |(from, to)| {
            let what = format!("no owner from {} to {}", self.time(from), self.time(to));
            what + &self.said(from, to)
        };
        long.map(tell).collect()
    }

    /// By the daemons, about then.
    fn said(&self, from: Instant, to: Instant) -> String {
        let around = from - AROUND..to + AROUND;
        let lines = self.lines.iter().filter(|line| around.contains(&line.at));
        lines
            .map(|line| format!("\n    {}  lb{} said: {}", self.time(line.at), line.host, line.text))
            .collect()
    }

    fn last_words(&self, host: usize) -> String {
        let own: Vec<&Line> = self.lines.iter().filter(|line| line.host == host).collect();
        let last = own.iter().skip(own.len().saturating_sub(LINES));
        let text: Vec<String> =
            last.map(|line| format!("    {}  {}", self.time(line.at), line.text)).collect();
        format!("the last that lb{host} said:\n{}", text.join("\n"))
    }
}

impl Begun {
    fn name(&self) -> &'static str {
        match self.kinds.as_slice() {
            [kind] => kind.name(),
            _ => "two at a time",
        }
    }
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
