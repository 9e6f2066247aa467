//! What the logs of a run say: two owners, terms that did not rise, times without an owner.

use super::wire::{PACE, Sight};
use crate::client::Asked;
use std::time::{Duration, Instant};

/// An address does not travel from one host to another within this.
const AT_ONCE: Duration = Duration::from_micros(100);
/// A monitor may note so late that a host has got the address, on a busy machine.
const NOTED_LATE: Duration = Duration::from_millis(250);
/// An asker that sleeps so long was not woken: nor were the daemons.
const STANDSTILL: Duration = Duration::from_millis(200);
/// A line of a daemon's log may be read so late.
const READ_LATE: Duration = Duration::from_millis(100);

/// From the first moment at which two hosts had the VIP for certain to the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    pub from: Instant,
    pub to: Instant,
    pub hosts: Vec<usize>,
}

/// A daemon's word that it has taken the VIP.
#[derive(Debug, Clone, Copy)]
pub struct Take {
    pub at: Instant,
    pub host: usize,
    pub term: u64,
}

/// Who answered, asked by ARP and by http, and when each host got the address. All in order of time.
#[derive(Debug)]
pub struct Answers<'a> {
    pub sights: &'a [Sight],
    pub asked: &'a [Asked],
    pub gained: &'a [(Instant, usize)],
}

impl Answers<'_> {
    /// An answer by A after one by B says that A has taken over in between, or else that both had the VIP before.
    pub fn overlaps(&self) -> Vec<Overlap> {
        let others = self.others();
        let mut found = Vec::new();
        for (at, sight) in self.sights.iter().enumerate() {
            let before = at.checked_sub(1).map(|last| self.sights[last]);
            // One question is heard by all hosts at the same time.
            let twin = before.filter(|other| {
                let same = sight.question.is_some() && other.question == sight.question;
                same && other.host != sight.host && sight.at - other.at < AT_ONCE
            });
            found.extend(twin.map(|other| overlap(other, sight.host, sight.at)));
            found.extend(self.unexplained(&others, sight.host, sight.at, sight.at));
        }
        for asked in self.asked {
            let host = asked.answer.as_ref().ok().and_then(|name| name.strip_prefix("lb"));
            let host = host.and_then(|number| number.parse().ok());
            found.extend(host.and_then(|host| self.unexplained(&others, host, asked.sent, asked.done)));
        }
        merged(found)
    }

    /// For each sight, the last one before it of another host.
    fn others(&self) -> Vec<Option<usize>> {
        let mut others: Vec<Option<usize>> = vec![None; self.sights.len()];
        for at in 1..self.sights.len() {
            let same = self.sights[at].host == self.sights[at - 1].host;
            others[at] = if same { others[at - 1] } else { Some(at - 1) };
        }
        others
    }

    /// The host answered at a moment between the two, and has not got the address since another had the VIP: so it had
    /// the VIP then too.
    fn unexplained(
        &self,
        others: &[Option<usize>],
        host: usize,
        from: Instant,
        to: Instant,
    ) -> Option<Overlap> {
        let last = self.sights.partition_point(|sight| sight.at < from).checked_sub(1)?;
        let same = self.sights[last].host == host;
        let other = self.sights[if same { others[last]? } else { last }];
        let first = self.gained.partition_point(|(at, _)| *at < other.at);
        let mut since = self.gained[first..].iter().take_while(|(at, _)| *at < to + NOTED_LATE);
        let explained = since.any(|(_, by)| *by == host);
        (!explained).then(|| overlap(other, host, other.at))
    }
}

fn overlap(other: Sight, host: usize, to: Instant) -> Overlap {
    let mut hosts = vec![other.host, host];
    hosts.sort_unstable();
    Overlap { from: other.at, to, hosts }
}

fn merged(mut found: Vec<Overlap>) -> Vec<Overlap> {
    found.sort_by_key(|overlap| overlap.from);
    let mut all: Vec<Overlap> = Vec::new();
    for next in found {
        match all.last_mut().filter(|last| next.from <= last.to + PACE * 4) {
            Some(last) => {
                last.to = last.to.max(next.to);
                last.hosts.extend(next.hosts);
                last.hosts.sort_unstable();
                last.hosts.dedup();
            }
            None => all.push(next),
        }
    }
    all
}

/// Terms live in the memory of voters: they rise as long as no daemon has ended between two takings (`ended`).
pub fn terms_that_did_not_rise(takes: &[Take], ended: &[Instant]) -> Vec<(Take, Take)> {
    let mut wrong = Vec::new();
    for (at, later) in takes.iter().enumerate() {
        let forgot = ended.iter().rev().find(|end| **end <= later.at).copied();
        let remembered = |earlier: &&Take| forgot.is_none_or(|end| earlier.at > end + READ_LATE);
        for earlier in takes[..at].iter().rev().take_while(remembered) {
            let fell = later.term < earlier.term && later.at - earlier.at > READ_LATE;
            if later.host != earlier.host && (fell || later.term == earlier.term) {
                wrong.push((*earlier, *later));
            }
        }
    }
    wrong
}

/// From one event to the next in which nobody answered. `good`: the moments with an answer, in order.
pub fn silences(good: &[Instant], end: Instant) -> Vec<(Instant, Instant)> {
    let nexts = good.iter().skip(1).copied().chain([end]);
    good.iter().copied().zip(nexts).collect()
}

/// From the first question without an answer to the next with one.
pub fn unanswered(questions: &[Instant], sights: &[Sight]) -> Vec<(Instant, Instant)> {
    let mut answered = vec![false; questions.len()];
    sights.iter().filter_map(|sight| sight.question).for_each(|question| answered[question] = true);
    let mut spans = Vec::new();
    let mut since = None;
    for (asked, answered) in questions.iter().zip(answered) {
        match (answered, since) {
            (false, None) => since = Some(*asked),
            (true, Some(from)) => {
                spans.push((from, *asked));
                since = None;
            }
            _ => {}
        }
    }
    spans.extend(since.zip(questions.last().copied()));
    spans
}

/// When the machine itself stood still.
pub fn standstills(questions: &[Instant]) -> Vec<(Instant, Instant)> {
    let pairs = questions.windows(2).map(|pair| (pair[0], pair[1]));
    pairs.filter(|(from, to)| *to - *from > STANDSTILL).collect()
}

/// From when on somebody could have answered or not (`could`), on a machine that stood still now and then.
pub fn awake(could: &[(Instant, bool)], standstills: &[(Instant, Instant)]) -> Vec<(Instant, bool)> {
    let mut all = could.to_vec();
    for (from, to) in standstills {
        let then = could.iter().rev().find(|(at, _)| at <= to).is_some_and(|(_, could)| *could);
        all.retain(|(at, _)| at < from || at > to);
        all.extend([(*from, false), (*to, then)]);
    }
    all.sort_by_key(|(at, _)| *at);
    all
}

/// The longest part of the span in which somebody could have answered. `could`: from when on that was so or not.
pub fn longest_owed(span: (Instant, Instant), could: &[(Instant, bool)]) -> Duration {
    let ends = could.iter().skip(1).map(|(at, _)| *at).chain([span.1]);
    let parts = could.iter().zip(ends).filter(|((_, could), _)| *could);
    let clipped = parts.map(|((from, _), to)| to.min(span.1).saturating_duration_since(span.0.max(*from)));
    clipped.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Sights at a millisecond, by a host; each host gained the address at the given milliseconds.
    fn overlaps(
        sights: &[(u64, usize)],
        gained: &[(u64, usize)],
        asked: &[(u64, u64, usize)],
    ) -> Vec<(u64, u64)> {
        let begin = Instant::now();
        let sights: Vec<Sight> =
            sights.iter().map(|&(at, host)| Sight { at: begin + ms(at), host, question: None }).collect();
        let gained: Vec<_> = gained.iter().map(|&(at, host)| (begin + ms(at), host)).collect();
        let asked: Vec<Asked> = asked
            .iter()
            .map(|&(sent, done, host)| Asked {
                sent: begin + ms(sent),
                done: begin + ms(done),
                answer: Ok(format!("lb{host}")),
            })
            .collect();
        let since = |at: Instant| u64::try_from((at - begin).as_millis()).unwrap();
        let found = Answers { sights: &sights, asked: &asked, gained: &gained }.overlaps();
        found.iter().map(|overlap| (since(overlap.from), since(overlap.to))).collect()
    }

    #[test]
    fn a_move_and_a_move_back_are_no_overlap() {
        let sights = [(0, 1), (5, 1), (10, 2), (15, 2), (20, 1), (25, 1)];
        assert_eq!(overlaps(&sights, &[(0, 1), (9, 2), (18, 1)], &[]), []);
    }

    #[test]
    fn a_host_that_answers_again_without_a_taking_is_one() {
        let sights = [(0, 1), (5, 1), (10, 2), (15, 2), (20, 1), (25, 2)];
        assert_eq!(overlaps(&sights, &[(0, 1), (9, 2)], &[]), [(15, 20)]);
    }

    #[test]
    fn two_that_answer_by_turns_are_one_overlap() {
        let turns: Vec<(u64, usize)> =
            (0..100).map(|n| (n * 5, 1 + usize::from(n >= 20 && n % 2 == 1))).collect();
        assert_eq!(overlaps(&turns, &[(0, 1), (102, 2)], &[]), [(105, 490)]);
    }

    #[test]
    fn a_request_that_the_old_owner_answers_after_the_new_ones_answer_is_one() {
        let sights = [(0, 1), (10, 2), (15, 2)];
        let gained = [(0, 1), (9, 2)];
        assert_eq!(overlaps(&sights, &gained, &[(8, 12, 1), (13, 14, 2)]), []);
        assert_eq!(overlaps(&sights, &gained, &[(16, 18, 1)]), [(15, 15)]);
    }

    #[test]
    fn two_answers_to_one_question_are_one() {
        let begin = Instant::now();
        let answer =
            |after: u64, host| Sight { at: begin + Duration::from_micros(after), host, question: Some(0) };
        let gained = [(begin, 1), (begin, 2)];
        let count = |later| {
            let sights = [answer(0, 1), answer(later, 2)];
            Answers { sights: &sights, asked: &[], gained: &gained }.overlaps().len()
        };
        assert_eq!((count(30), count(3000)), (1, 0));
    }

    #[test]
    fn terms_rise_unless_a_voter_has_forgotten_them() {
        let begin = Instant::now();
        let take = |at, host, term| Take { at: begin + ms(at), host, term };
        let wrong = |takes: &[Take], ended: &[u64]| {
            let ended: Vec<Instant> = ended.iter().map(|at| begin + ms(*at)).collect();
            terms_that_did_not_rise(takes, &ended).len()
        };
        assert_eq!(wrong(&[take(0, 1, 4), take(1000, 2, 5), take(2000, 1, 6)], &[]), 0);
        assert_eq!(wrong(&[take(0, 1, 4), take(1000, 2, 4)], &[]), 1);
        assert_eq!(wrong(&[take(0, 1, 4), take(1000, 2, 3)], &[]), 1);
        assert_eq!(wrong(&[take(0, 1, 4), take(1000, 2, 3)], &[500]), 0);
        assert_eq!(wrong(&[take(0, 1, 4), take(1000, 1, 4)], &[]), 0, "the same owner may keep its term");
        assert_eq!(wrong(&[take(0, 1, 5), take(20, 2, 4)], &[]), 0, "lines are read a moment late");
    }

    #[test]
    fn only_the_time_counts_in_which_somebody_could_have_answered() {
        let begin = Instant::now();
        let at = |after| begin + ms(after);
        let could = [(at(0), true), (at(100), false), (at(300), true)];
        assert_eq!(longest_owed((at(50), at(450)), &could), ms(150));
        assert_eq!(longest_owed((at(120), at(280)), &could), ms(0));
        assert_eq!(longest_owed((at(20), at(110)), &could), ms(80));
    }

    #[test]
    fn nobody_owes_an_answer_while_the_machine_stands_still() {
        let begin = Instant::now();
        let at = |after| begin + ms(after);
        let questions = [at(0), at(5), at(1005), at(1010)];
        let still = standstills(&questions);
        assert_eq!(still, [(at(5), at(1005))]);
        let could = [(at(0), true), (at(400), false), (at(900), true)];
        assert_eq!(awake(&could, &still), [(at(0), true), (at(5), false), (at(1005), true)]);
    }

    #[test]
    fn the_time_without_an_answer_ends_with_the_next_one() {
        let begin = Instant::now();
        let questions: Vec<Instant> = (0..6).map(|n| begin + ms(n * 5)).collect();
        let heard = [0, 3, 4].map(|n| Sight { at: questions[n], host: 1, question: Some(n) });
        let spans = unanswered(&questions, &heard);
        assert_eq!(spans, [(questions[1], questions[3]), (questions[5], questions[5])]);
    }
}
