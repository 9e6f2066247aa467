//! Who answers for a VIP on the wire, as far as this host can hear.
//!
//! A stranger's answer means that taking the VIP would make two holders. In the two-node mode even a member's
//! answer does: a kernel answers for its addresses although its daemon hangs.

use super::time::Instant;
use haclusterd_proto::MacAddr;
use serde::Serialize;
use std::time::Duration;

/// Between two probes when the answer is waited for.
pub const FAST: Duration = Duration::from_millis(20);
/// Between two probes of a VIP that somebody else holds, if there are not many.
pub const SLOW: Duration = Duration::from_secs(2);
/// Probes in a row without an answer after which nobody is there; at 20 % loss each way five fail 0.6 % of the time.
const QUIET: u32 = 5;
/// Probes before a VIP is taken that has not been probed lately.
const GLANCE: u32 = 2;
/// How long a stranger's claim stands.
const MEMORY: Duration = Duration::from_secs(10);
/// A new member's record follows its address by so much at most.
const DOUBT: Duration = Duration::from_secs(2);
/// An answer to the last probe may take this long.
const WAIT: Duration = Duration::from_millis(20);

#[derive(Clone, Debug, Serialize)]
pub struct Claims {
    /// Between two probes of a VIP that somebody else holds.
    slow: Duration,
    unanswered: u32,
    probed_at: Option<Instant>,
    /// The last that answered, since when it has been the one, and when it last did.
    heard: Option<(MacAddr, Instant, Instant)>,
}

/// How badly the answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    None,
    /// Somebody else holds the VIP: only strangers matter, and they are not in a hurry.
    Watch,
    /// The VIP is about to be taken.
    Take,
}

impl Default for Claims {
    fn default() -> Claims {
        Claims { slow: SLOW, unanswered: 0, probed_at: None, heard: None }
    }
}

impl Claims {
    /// Of many VIPs, each is probed less often.
    pub fn set_pace(&mut self, slow: Duration) {
        self.slow = slow;
    }

    /// Somebody answered for the VIP, or announced it.
    pub fn heard(&mut self, mac: MacAddr, now: Instant) {
        self.unanswered = 0;
        let since = match self.heard {
            Some((old, since, last)) if old == mac && now.since(last) < MEMORY => since,
            _ => now,
        };
        self.heard = Some((mac, since, now));
    }

    /// Who answers for the VIP and is no member. Whether it is one may be known later than its answer.
    #[must_use]
    pub fn stranger(&self, is_member: impl Fn(MacAddr) -> bool, now: Instant) -> Option<MacAddr> {
        let (mac, _, last) = self.heard?;
        (now.since(last) < MEMORY && !is_member(mac)).then_some(mac)
    }

    /// When what was heard counts no longer.
    #[must_use]
    pub fn forgets(&self) -> Option<Instant> {
        self.heard.map(|(_, _, last)| last + MEMORY)
    }

    /// Has the stranger been one for so long that it is no member whose record is on its way?
    #[must_use]
    pub fn certain(&self, now: Instant) -> bool {
        self.heard.is_some_and(|(_, since, _)| now.since(since) >= DOUBT)
    }

    /// Time for another probe?
    pub fn probe(&mut self, need: Need, now: Instant) -> bool {
        let due = self.next_probe(need).is_some_and(|at| at <= now);
        if due {
            self.unanswered = if self.stale(now) { 1 } else { self.unanswered + 1 };
            self.probed_at = Some(now);
        }
        due
    }

    #[must_use]
    pub fn next_probe(&self, need: Need) -> Option<Instant> {
        let pause = match need {
            Need::None => return None,
            Need::Watch => self.slow,
            Need::Take => FAST,
        };
        Some(self.probed_at.map_or(Instant::default(), |at| at + pause))
    }

    /// Who has just answered for the VIP, member or not.
    #[must_use]
    pub fn answers(&self, now: Instant) -> Option<MacAddr> {
        self.heard.filter(|(_, _, last)| now.since(*last) < FAST * QUIET).map(|(mac, _, _)| mac)
    }

    /// Nobody has answered the last five probes.
    #[must_use]
    pub fn quiet(&self, now: Instant) -> bool {
        self.unanswered >= QUIET && self.settled(now)
    }

    /// Probed lately, whoever answered: a stranger would be known. That the holder does not answer any more says nothing
    /// else: it is why the VIP is to be taken.
    #[must_use]
    pub fn glanced(&self, now: Instant) -> bool {
        let lately = |at: Instant| now.since(at) < self.slow * 2;
        let answered = self.heard.is_some_and(|(_, _, last)| lately(last));
        self.probed_at.is_some_and(lately)
            && (answered || self.unanswered > GLANCE || (self.unanswered == GLANCE && self.settled(now)))
    }

    fn settled(&self, now: Instant) -> bool {
        self.probed_at.is_some_and(|at| now.since(at) >= WAIT) || self.unanswered > QUIET
    }

    fn stale(&self, now: Instant) -> bool {
        self.probed_at.is_none_or(|at| now.since(at) >= self.slow * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn at(ms: u64) -> Instant {
        Instant::from_micros(10_000_000 + ms * 1000)
    }

    /// When the wire is first called quiet, in milliseconds; answered once at `answer`.
    fn quiet_at(answer: Option<u64>) -> Option<u64> {
        let mut claims = Claims::default();
        (0..400).find(|ms| {
            claims.probe(Need::Take, at(*ms));
            if answer == Some(*ms) {
                claims.heard(MAC, at(*ms));
            }
            claims.quiet(at(*ms))
        })
    }

    #[test]
    fn five_probes_without_an_answer_are_quiet() {
        assert_eq!(quiet_at(None), Some(100));
        assert_eq!(quiet_at(Some(70)), Some(180));
    }

    #[test]
    fn a_holder_that_answers_no_more_is_no_reason_to_look_again() {
        let mut claims = Claims::default();
        claims.probe(Need::Watch, at(0));
        claims.heard(MAC, at(0));
        claims.probe(Need::Watch, at(2000));
        assert!(claims.glanced(at(2001)));
        assert!(!claims.glanced(at(4000)), "that was long ago");
    }

    #[test]
    fn a_glance_takes_two_probes() {
        let mut claims = Claims::default();
        let first = (0..400).find(|ms| {
            claims.probe(Need::Take, at(*ms));
            claims.glanced(at(*ms))
        });
        assert_eq!(first, Some(40));
    }

    #[test]
    fn only_strangers_are_a_conflict_and_they_are_forgotten() {
        let mut claims = Claims::default();
        claims.heard(MAC, at(0));
        assert_eq!(claims.stranger(|mac| mac == MAC, at(1)), None);
        assert_eq!(claims.stranger(|_| false, at(9_999)), Some(MAC));
        assert_eq!(claims.stranger(|_| false, at(10_000)), None);
    }

    #[test]
    fn a_stranger_is_reported_once_it_cannot_be_a_new_member() {
        let mut claims = Claims::default();
        claims.heard(MAC, at(0));
        assert!(!claims.certain(at(1_999)));
        claims.heard(MAC, at(1_990));
        assert!(claims.certain(at(2_000)));
    }
}
