//! The engine's clock: microseconds of CLOCK_BOOTTIME, handed in from outside. Never wall time.

use core::ops::Add;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Instant(u64);

impl Instant {
    #[must_use]
    pub const fn from_micros(micros: u64) -> Instant {
        Instant(micros)
    }

    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Zero when `earlier` is in fact later.
    #[must_use]
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, span: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// How far a clock's rate may be from real time: 1000 ppm, twice what NTP slews at most.
const DRIFT_PPM: u64 = 1000;
/// What the kernel and the loop may be late by when a lease ends.
const GUARD: Duration = Duration::from_millis(10);
/// Adverts missed in a row after which a peer counts as silent.
const MISSES: u32 = 6;

/// Between two adverts of members neither of whom votes on the other's leases: they only tell how they stand, and at
/// once when that changes. Renewals cost each voter a packet a member, and not each member a packet a member.
pub const IDLE_ADVERT: Duration = Duration::from_secs(1);

/// The two intervals that everything else follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    /// Between two adverts to each voter.
    pub advert: Duration,
    /// How long a voter honours a grant after the advert that renewed it.
    pub lease: Duration,
}

impl Timers {
    /// How long the holder counts a grant, from the moment it sent the advert. Shorter than the voter's lease by
    /// both clocks' drift and the guard: this inequality is what keeps two owners apart.
    #[must_use]
    pub fn holder(&self) -> Duration {
        self.holder_of(self.lease)
    }

    /// The same of a voter that may go by another lease: the shorter counts.
    #[must_use]
    pub fn holder_of(&self, voter: Duration) -> Duration {
        let micros = micros(self.lease.min(voter));
        let slow = micros * (1_000_000 - DRIFT_PPM) / (1_000_000 + DRIFT_PPM);
        Duration::from_micros(slow).saturating_sub(GUARD)
    }

    /// How long a voter that has just started grants nothing: it may have granted before, and has forgotten.
    #[must_use]
    pub fn silence(&self) -> Duration {
        Timers::silence_of(self.lease)
    }

    #[must_use]
    pub fn silence_of(lease: Duration) -> Duration {
        let micros = micros(lease);
        Duration::from_micros(micros + micros * 2 * DRIFT_PPM / 1_000_000) + GUARD
    }

    /// How late a node may do what is due, one time in a thousand.
    #[must_use]
    pub fn lateness(&self) -> Duration {
        self.lease / 4
    }

    /// A peer not heard for this long is no candidate.
    #[must_use]
    pub fn silent_after(&self) -> Duration {
        self.advert * MISSES
    }

    /// A peer not heard for this long is looked for by other means.
    #[must_use]
    pub fn suspect_after(&self) -> Duration {
        self.advert * (MISSES / 2)
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX / 2_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAN: Timers = Timers { advert: Duration::from_millis(50), lease: Duration::from_millis(500) };

    #[test]
    fn the_holder_lets_go_before_the_voter_forgets() {
        assert_eq!(LAN.holder().as_millis(), 489);
        assert_eq!(LAN.silence(), Duration::from_millis(511));
    }

    #[test]
    fn time_never_runs_backwards() {
        let (early, late) = (Instant::from_micros(5), Instant::from_micros(9));
        assert_eq!(late.since(early), Duration::from_micros(4));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
