//! One node's candidacy for one VIP: Idle -> Asking -> Owner -> Leaving -> Idle.
//!
//! A seat knows nothing of how ownership is decided. It is shown [`Facts`] and says what follows, so that the
//! leases and the two-node mode share it.

use super::time::Instant;
use haclusterd_proto::Term;
use serde::Serialize;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Phase {
    Idle,
    Asking {
        since: Instant,
    },
    Owner {
        since: Instant,
        term: Term,
    },
    /// Still in the lease: it is given back once the address is gone.
    Leaving {
        term: Term,
        gently: bool,
    },
}

/// What is true of this VIP now.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Nobody owns it and it is this node's turn. `None`: not so. `Some(later)`: will be, if nothing changes.
    pub turn: Option<Instant>,
    /// A reason to let go at once, or not to take.
    pub unfit: Option<String>,
    /// The term under which this node may serve now.
    pub granted: Option<Term>,
    /// Until when this node may serve.
    pub until: Option<Instant>,
    /// Another node should own it, and why.
    pub yield_to: Option<String>,
    /// What is served here is served well, and nowhere else: it may end.
    pub serves: bool,
    /// The addresses are off this host.
    pub absent: bool,
    /// How long an attempt may take.
    pub patience: Duration,
    /// The pause after an attempt that failed.
    pub pause: Duration,
}

#[derive(Clone, Debug, Serialize)]
pub struct Seat {
    phase: Phase,
    not_before: Instant,
    /// Attempts that came to nothing since the last ownership.
    failures: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Asks,
    GivesUp,
    Takes(Term),
    Leaves { why: String, lapsed: bool },
    Left,
}

impl Seat {
    #[must_use]
    pub fn new(now: Instant) -> Seat {
        Seat { phase: Phase::Idle, not_before: now, failures: 0 }
    }

    /// Held by an earlier run of this node, and by this one now.
    #[must_use]
    pub fn inherited(term: Term, now: Instant) -> Seat {
        Seat { phase: Phase::Owner { since: now, term }, ..Seat::new(now) }
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Is the lease asked for, or kept?
    #[must_use]
    pub fn wants(&self) -> bool {
        self.phase != Phase::Idle
    }

    #[must_use]
    pub fn holds(&self) -> Option<Term> {
        match self.phase {
            Phase::Owner { term, .. } | Phase::Leaving { term, .. } => Some(term),
            Phase::Idle | Phase::Asking { .. } => None,
        }
    }

    /// Not to be taken before then, whoever else does not.
    pub fn hold_off(&mut self, until: Instant) {
        self.not_before = self.not_before.max(until);
    }

    /// Until when it is not to ask, if it does not.
    #[must_use]
    pub fn held_off_until(&self) -> Option<Instant> {
        (self.phase == Phase::Idle).then_some(self.not_before)
    }

    /// Could it ask at once?
    #[must_use]
    pub fn holds_off(&self, now: Instant) -> bool {
        self.phase == Phase::Idle && now < self.not_before
    }

    /// What follows from the facts; at most one change at a time.
    pub fn step(&mut self, facts: &Facts, now: Instant) -> Option<Change> {
        match self.phase {
            Phase::Idle => {
                let turn = facts.turn.is_some_and(|at| at <= now) && facts.unfit.is_none();
                (turn && self.not_before <= now)
                    .then(|| self.enter(Phase::Asking { since: now }, Change::Asks))
            }
            Phase::Asking { since } => self.asking(since, facts, now),
            Phase::Owner { term, .. } => {
                let lapsed = facts.until.is_none_or(|until| until <= now);
                let why = match (lapsed, &facts.unfit, &facts.yield_to) {
                    (true, _, _) => "the lease was not renewed in time".into(),
                    (false, Some(reason), _) | (false, None, Some(reason)) => reason.clone(),
                    (false, None, None) => return None,
                };
                let gently = facts.serves && !lapsed;
                Some(self.enter(Phase::Leaving { term, gently }, Change::Leaves { why, lapsed }))
            }
            Phase::Leaving { .. } => facts.absent.then(|| self.enter(Phase::Idle, Change::Left)),
        }
    }

    fn asking(&mut self, since: Instant, facts: &Facts, now: Instant) -> Option<Change> {
        let open = facts.until.is_some_and(|until| until > now);
        if let (None, Some(term), true) = (&facts.unfit, facts.granted, open) {
            self.failures = 0;
            return Some(self.enter(Phase::Owner { since: now, term }, Change::Takes(term)));
        }
        if facts.unfit.is_none() && now < since + facts.patience {
            return None;
        }
        self.failures += 1;
        self.not_before = now + facts.pause;
        Some(self.enter(Phase::Idle, Change::GivesUp))
    }

    fn enter(&mut self, phase: Phase, change: Change) -> Change {
        self.phase = phase;
        change
    }

    /// When `step` may say something new although no fact changes.
    #[must_use]
    pub fn deadline(&self, facts: &Facts) -> Option<Instant> {
        match self.phase {
            Phase::Idle => facts.turn.filter(|_| facts.unfit.is_none()).map(|at| at.max(self.not_before)),
            Phase::Asking { since } => Some(since + facts.patience),
            Phase::Owner { .. } => facts.until,
            Phase::Leaving { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_micros(1_000_000);
    const LATER: Instant = Instant::from_micros(1_500_000);

    fn facts() -> Facts {
        Facts {
            turn: Some(NOW),
            unfit: None,
            granted: None,
            until: None,
            yield_to: None,
            serves: true,
            absent: true,
            patience: Duration::from_millis(20),
            pause: Duration::from_millis(30),
        }
    }

    fn owner() -> (Seat, Facts) {
        let mut seat = Seat::new(NOW);
        let facts = Facts { granted: Some(Term(3)), until: Some(LATER), absent: false, ..facts() };
        assert_eq!(seat.step(&facts, NOW), Some(Change::Asks));
        assert_eq!(seat.step(&facts, NOW), Some(Change::Takes(Term(3))));
        (seat, facts)
    }

    #[test]
    fn an_attempt_ends_after_its_patience_and_pauses() {
        let mut seat = Seat::new(NOW);
        assert_eq!(seat.step(&facts(), NOW), Some(Change::Asks));
        let late = NOW + Duration::from_millis(20);
        assert_eq!(seat.step(&facts(), late), Some(Change::GivesUp));
        assert_eq!(seat.step(&facts(), late), None);
        assert_eq!(seat.step(&facts(), late + Duration::from_millis(30)), Some(Change::Asks));
    }

    #[test]
    fn the_lease_is_kept_until_the_address_is_gone() {
        let (mut seat, facts) = owner();
        let unfit = Facts { unfit: Some("nginx is down".into()), ..facts };
        assert!(matches!(seat.step(&unfit, NOW), Some(Change::Leaves { lapsed: false, .. })));
        assert_eq!((seat.step(&unfit, NOW), seat.wants(), seat.holds()), (None, true, Some(Term(3))));
        assert_eq!(seat.step(&Facts { absent: true, ..unfit }, NOW), Some(Change::Left));
        assert!(!seat.wants());
    }

    #[test]
    fn an_owner_lets_go_when_its_lease_ends() {
        let (mut seat, facts) = owner();
        assert_eq!(seat.step(&facts, NOW), None);
        assert!(matches!(seat.step(&facts, LATER), Some(Change::Leaves { lapsed: true, .. })));
    }

    #[test]
    fn an_unfit_node_does_not_ask() {
        let unfit = Facts { unfit: Some("link down".into()), ..facts() };
        assert_eq!(Seat::new(NOW).step(&unfit, NOW), None);
    }
}
