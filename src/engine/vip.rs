//! The addresses of one VIP on this host: Absent -> Adding -> Held (-> Quiet) -> Removing, and when to announce them.
//!
//! The kernel's answers come back as inputs, so that an announcement never overtakes its address and a lease is
//! never given back while the address still stands.

use super::time::Instant;
use serde::Serialize;
use std::time::Duration;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// After the first round: close together against loss, then once a second past the neighbours' lock time.
const ROUNDS: [Duration; 9] =
    [ms(5), ms(20), ms(50), ms(120), ms(1000), ms(2000), ms(3000), ms(4000), ms(5000)];
/// The same of the questions to single neighbours, which end with an answer. After the last, nobody is asked any more.
const QUESTIONS: [Duration; 11] =
    [ms(5), ms(10), ms(20), ms(40), ms(80), ms(1000), ms(2000), ms(3000), ms(4000), ms(5000), ms(6000)];
/// Between two attempts at the kernel, after one has failed.
const RETRY: Duration = Duration::from_millis(100);
/// The fence counts in the kernel's jiffies; to push it out by less is work for nothing.
pub(super) const FENCE_STEP: Duration = Duration::from_millis(4);
/// What is being served may end before the address goes: most answers take less. Longer, and more new connections would
/// be lost, each of which comes again after a second.
const QUIET: Duration = Duration::from_micros(500);
/// Two hands that remove and add the same address must not make a storm.
const READD_PAUSE: Duration = Duration::from_millis(20);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
enum State {
    Absent,
    /// Somebody removed an address; others of the group may still be there.
    Lost {
        readd_at: Instant,
    },
    Adding,
    Held {
        since: Instant,
        announcing: Schedule,
        asking: Schedule,
        refresh_at: Instant,
    },
    /// Takes no new connections.
    Quiet {
        remove_at: Instant,
    },
    Removing {
        retry_at: Option<Instant>,
    },
}

/// What is to become of the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    Held(Instant),
    /// Not ours any more, as soon as what is being served has had a moment to end.
    Quit,
    Gone,
}

/// Rounds at growing distances; the first is at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Schedule {
    done: usize,
    /// `None`: that was the last.
    next: Option<Instant>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Vip {
    state: State,
    refresh: Duration,
    /// Until when the kernel was last told to pass the packets.
    fenced: Instant,
    /// The end that the kernel has is too late by the rules that hold now.
    hurry: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Add the addresses, or push their end out; the kernel drops them at `until` on its own.
    Install {
        until: Instant,
    },
    /// The lease is longer by now: the kernel may pass the addresses' packets until then.
    Extend {
        until: Instant,
    },
    /// Take no new connections.
    Quiet,
    Remove,
    Announce,
    Verify(Verify),
}

/// A verify ping is a question to one neighbour in the VIP's name, whose answer acknowledges that it knows where the VIP
/// is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verify {
    /// Ask those that matter.
    Begin,
    /// Ask those that have not answered.
    Again,
    /// Wait for no answer any more.
    End,
}

impl Vip {
    /// `refresh`: between two announcements while held; zero turns them off.
    #[must_use]
    pub fn new(refresh: Duration) -> Vip {
        Vip { state: State::Absent, refresh, fenced: Instant::default(), hurry: false }
    }

    pub fn set_refresh(&mut self, refresh: Duration) {
        self.refresh = refresh;
    }

    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.state == State::Absent
    }

    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self.state, State::Held { .. })
    }

    /// Makes the addresses follow the ownership.
    pub fn follow(&mut self, goal: Goal, renew: Duration, now: Instant) -> Vec<Act> {
        match (&mut self.state, goal) {
            (State::Absent, Goal::Held(until)) => self.add(until),
            (State::Lost { readd_at }, Goal::Held(until)) if *readd_at <= now => self.add(until),
            // The kernel may take its time: by when it is ready, the lease is longer.
            (State::Adding, Goal::Held(until)) if until >= self.fenced + FENCE_STEP => {
                self.fenced = until;
                vec![Act::Extend { until }]
            }
            (State::Held { announcing, asking, refresh_at, .. }, Goal::Held(until)) => {
                let mut acts = Vec::new();
                if *refresh_at <= now || std::mem::take(&mut self.hurry) {
                    *refresh_at = now + renew;
                    self.fenced = until;
                    acts.push(Act::Install { until });
                } else if until >= self.fenced + FENCE_STEP {
                    self.fenced = until;
                    acts.push(Act::Extend { until });
                }
                let refresh = (!self.refresh.is_zero()).then_some(self.refresh);
                if announcing.is_due(&ROUNDS, refresh, now) {
                    acts.push(Act::Announce);
                }
                if asking.is_due(&QUESTIONS, None, now) {
                    acts.push(Act::Verify(match asking {
                        Schedule { done: 1, .. } => Verify::Begin,
                        Schedule { next: Some(_), .. } => Verify::Again,
                        Schedule { next: None, .. } => Verify::End,
                    }));
                }
                acts
            }
            (State::Held { .. }, Goal::Quit) => {
                self.state = State::Quiet { remove_at: now + QUIET };
                vec![Act::Quiet]
            }
            (State::Quiet { remove_at }, Goal::Quit) if now < *remove_at => Vec::new(),
            (State::Quiet { .. }, _)
            | (State::Lost { .. } | State::Adding | State::Held { .. }, Goal::Quit | Goal::Gone) => {
                self.state = State::Removing { retry_at: None };
                vec![Act::Remove]
            }
            (State::Removing { retry_at }, _) if retry_at.is_some_and(|at| at <= now) => {
                *retry_at = None;
                vec![Act::Remove]
            }
            _ => Vec::new(),
        }
    }

    fn add(&mut self, until: Instant) -> Vec<Act> {
        self.state = State::Adding;
        self.fenced = until;
        vec![Act::Install { until }]
    }

    /// The kernel is told, as of everything that is held, that it may pass the packets until then. False: nothing is there.
    pub fn prolong(&mut self, until: Instant) -> bool {
        let there = matches!(self.state, State::Held { .. } | State::Adding);
        if there {
            self.fenced = self.fenced.max(until);
        }
        there
    }

    /// The lease ends sooner than it did by other rules: the kernel must know at once.
    pub fn shorten(&mut self) {
        self.hurry = true;
    }

    /// The kernel's answer to `Install`. True: the addresses are new here.
    pub fn installed(&mut self, ok: bool, renew: Duration, now: Instant) -> bool {
        match (&self.state, ok) {
            (State::Adding, true) => {
                let (first, refresh_at) = (Schedule::begin(now), now + renew);
                self.state = State::Held { since: now, announcing: first, asking: first, refresh_at };
                true
            }
            // Some of a group may have been added.
            (State::Adding, false) => {
                self.state = State::Removing { retry_at: Some(now) };
                false
            }
            // The kernel ends what it has by itself; until then there is time to try again.
            (State::Held { .. }, false) => {
                if let State::Held { refresh_at, .. } = &mut self.state {
                    *refresh_at = now + RETRY;
                }
                false
            }
            _ => false,
        }
    }

    /// The kernel's answer to `Remove`.
    pub fn removed(&mut self, ok: bool, now: Instant) {
        if let State::Removing { retry_at } = &mut self.state {
            match ok {
                true => self.state = State::Absent,
                false => *retry_at = Some(now + RETRY),
            }
        }
    }

    /// Somebody else removed an address. True: it was there and is to be added again.
    pub fn lost(&mut self, now: Instant) -> bool {
        let held = self.is_held();
        if held {
            self.state = State::Lost { readd_at: now + READD_PAUSE };
        }
        held
    }

    /// Announce once more from the start: after a link came back, or a conflict ended.
    pub fn announce_again(&mut self, now: Instant) {
        if let State::Held { announcing, asking, .. } = &mut self.state {
            (*announcing, *asking) = (Schedule::begin(now), Schedule::begin(now));
        }
    }

    #[must_use]
    pub fn held_since(&self) -> Option<Instant> {
        match self.state {
            State::Held { since, .. } => Some(since),
            _ => None,
        }
    }

    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Held { announcing, asking, refresh_at, .. } => {
                announcing.next.into_iter().chain(asking.next).chain([refresh_at]).min()
            }
            State::Removing { retry_at } => retry_at,
            State::Lost { readd_at } => Some(readd_at),
            State::Quiet { remove_at } => Some(remove_at),
            State::Absent | State::Adding => None,
        }
    }
}

impl Schedule {
    fn begin(now: Instant) -> Schedule {
        Schedule { done: 0, next: Some(now) }
    }

    /// Then the round counts as done. `rounds`: when the others are, after the first. `after` all: again and again.
    fn is_due(&mut self, rounds: &[Duration], after: Option<Duration>, now: Instant) -> bool {
        let due = self.next.is_some_and(|at| at <= now);
        if due {
            let last =
                self.done.checked_sub(1).and_then(|last| rounds.get(last)).copied().unwrap_or_default();
            let pause = rounds.get(self.done).map(|next| next.saturating_sub(last)).or(after);
            self.next = pause.map(|pause| now + pause);
            self.done += 1;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENEW: Duration = Duration::from_millis(250);
    const END: Instant = Instant::from_micros(u64::MAX);

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    fn held(refresh: Duration) -> Vip {
        let mut vip = Vip::new(refresh);
        assert_eq!(vip.follow(Goal::Held(END), RENEW, at(0)), [Act::Install { until: END }]);
        assert!(vip.installed(true, RENEW, at(0)));
        vip
    }

    /// Milliseconds of every announcement until `end`.
    fn announcements(vip: &mut Vip, end: u64) -> Vec<u64> {
        let says = |vip: &mut Vip, ms| vip.follow(Goal::Held(END), RENEW, at(ms)).contains(&Act::Announce);
        (0..end).filter(|ms| says(vip, *ms)).collect()
    }

    #[test]
    fn announcements_burst_then_repeat_then_refresh() {
        let mut vip = held(Duration::from_secs(30));
        assert_eq!(
            announcements(&mut vip, 70_000),
            [0, 5, 20, 50, 120, 1000, 2000, 3000, 4000, 5000, 35_000, 65_000]
        );
        assert_eq!(announcements(&mut held(Duration::ZERO), 60_000).len(), 10);
    }

    #[test]
    fn neighbours_are_asked_for_five_seconds_and_waited_for_one_more() {
        let mut vip = held(Duration::from_secs(30));
        let mut said = Vec::new();
        for ms in 0..20_000 {
            let acts = vip.follow(Goal::Held(END), RENEW, at(ms));
            said.extend(acts.into_iter().filter_map(|act| match act {
                Act::Verify(what) => Some((ms, what)),
                _ => None,
            }));
        }
        let again = [5, 10, 20, 40, 80, 1000, 2000, 3000, 4000, 5000].map(|ms| (ms, Verify::Again));
        let all: Vec<_> =
            [(0, Verify::Begin)].into_iter().chain(again).chain([(6000, Verify::End)]).collect();
        assert_eq!(said, all);
        vip.announce_again(at(20_000));
        assert!(vip.follow(Goal::Held(END), RENEW, at(20_000)).contains(&Act::Verify(Verify::Begin)));
    }

    #[test]
    fn nobody_is_asked_in_the_name_of_what_is_not_ours_any_more() {
        let mut vip = held(Duration::ZERO);
        let acts: Vec<_> = (1..20_000).flat_map(|ms| vip.follow(Goal::Gone, RENEW, at(ms))).collect();
        assert_eq!(acts, [Act::Remove]);
    }

    #[test]
    fn nothing_is_announced_before_the_kernel_has_the_address() {
        let mut vip = Vip::new(Duration::ZERO);
        vip.follow(Goal::Held(at(500)), RENEW, at(0));
        assert_eq!(vip.follow(Goal::Held(at(501)), RENEW, at(1)), []);
        assert_eq!(
            vip.follow(Goal::Held(at(550)), RENEW, at(50)),
            [Act::Extend { until: at(550) }],
            "it is slow"
        );
    }

    #[test]
    fn a_removal_is_repeated_until_the_kernel_confirms_it() {
        let mut vip = held(Duration::ZERO);
        assert_eq!(vip.follow(Goal::Gone, RENEW, at(1)), [Act::Remove]);
        vip.removed(false, at(1));
        assert_eq!(vip.follow(Goal::Gone, RENEW, at(2)), []);
        assert_eq!(vip.follow(Goal::Gone, RENEW, at(101)), [Act::Remove]);
        vip.removed(true, at(101));
        assert!(vip.is_absent());
    }

    #[test]
    fn what_is_being_served_may_end() {
        let mut vip = held(Duration::ZERO);
        let mut quit = |micros| vip.follow(Goal::Quit, RENEW, Instant::from_micros(micros));
        assert_eq!(quit(1000), [Act::Quiet]);
        assert_eq!((quit(1000), quit(1499)), (vec![], vec![]));
        assert_eq!(quit(1500), [Act::Remove]);
        let mut vip = held(Duration::ZERO);
        vip.follow(Goal::Quit, RENEW, at(1));
        assert_eq!(vip.follow(Goal::Gone, RENEW, at(1)), [Act::Remove], "its lease has ended");
    }

    #[test]
    fn an_address_that_somebody_removed_comes_back() {
        let mut vip = held(Duration::ZERO);
        assert!(vip.lost(at(10)));
        assert_eq!(vip.follow(Goal::Held(END), RENEW, at(10)), []);
        assert_eq!(vip.follow(Goal::Held(END), RENEW, at(30)), [Act::Install { until: END }]);
    }

    #[test]
    fn an_address_that_somebody_removed_is_not_all_of_its_group() {
        let mut vip = held(Duration::ZERO);
        vip.lost(at(10));
        assert!(!vip.is_absent());
        assert_eq!(vip.follow(Goal::Gone, RENEW, at(11)), [Act::Remove]);
    }

    #[test]
    fn a_renewal_that_failed_is_tried_again() {
        let mut vip = held(Duration::ZERO);
        vip.installed(false, RENEW, at(10));
        assert!(vip.is_held());
        assert!(vip.follow(Goal::Held(END), RENEW, at(110)).contains(&Act::Install { until: END }));
    }

    #[test]
    fn the_fence_follows_the_lease_between_two_renewals_of_the_address() {
        let mut vip = Vip::new(Duration::ZERO);
        vip.follow(Goal::Held(at(500)), RENEW, at(0));
        vip.installed(true, RENEW, at(0));
        let mut follow = |end, now| vip.follow(Goal::Held(at(end)), RENEW, at(now));
        assert!(!follow(503, 3).contains(&Act::Extend { until: at(503) }), "not worth it");
        assert!(follow(550, 50).contains(&Act::Extend { until: at(550) }));
        assert!(follow(800, 300).contains(&Act::Install { until: at(800) }));
        assert!(!follow(800, 301).contains(&Act::Extend { until: at(800) }), "the installation did");
    }

    #[test]
    fn the_end_of_the_address_is_pushed_out_while_held() {
        let mut vip = held(Duration::ZERO);
        let acts: Vec<_> = (1..=500).flat_map(|ms| vip.follow(Goal::Held(END), RENEW, at(ms))).collect();
        assert_eq!(acts.iter().filter(|a| matches!(a, Act::Install { .. })).count(), 2);
    }
}
