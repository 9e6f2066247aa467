//! A node that fails again and again is trusted less and less: each time it is well again it comes last among the
//! candidates, for a growing and bounded while. With nobody else to own a VIP it still does.

use super::time::Instant;
use serde::Serialize;
use std::time::Duration;

/// Failures that cost nothing: one is an accident, a second may be its repair.
const FREE: u32 = 2;
/// Each failure is forgotten after so long without another.
const FORGET: Duration = Duration::from_secs(60);
/// What the first failure too many costs; each further one costs twice the last.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);
/// More need not be counted: the longest hold-down is reached, and five minutes of health forgive them.
const MOST: u32 = 8;

#[derive(Clone, Debug, Default, Serialize)]
pub struct Flaps {
    well: bool,
    failures: u32,
    failed_at: Instant,
    until: Option<Instant>,
}

impl Flaps {
    /// Takes notice of how the node is now. True: it has just been released.
    pub fn observe(&mut self, well: bool, now: Instant) -> bool {
        if std::mem::replace(&mut self.well, well) && !well {
            self.fail(now);
        } else if !well {
            // The while begins when it is well again.
            self.until = self.price().map(|price| now + price);
        }
        self.until.take_if(|until| *until <= now).is_some()
    }

    /// One failure more: of its service, or of a lease that it could not keep.
    pub fn fail(&mut self, now: Instant) {
        let forgotten = now.since(self.failed_at).as_secs() / FORGET.as_secs();
        let forgotten = u32::try_from(forgotten).unwrap_or(u32::MAX);
        self.failures = (self.failures.saturating_sub(forgotten) + 1).min(MOST);
        (self.failed_at, self.until) = (now, self.price().map(|price| now + price));
    }

    fn price(&self) -> Option<Duration> {
        let beyond = self.failures.checked_sub(FREE + 1)?;
        Some((FIRST * 2u32.saturating_pow(beyond)).min(LONGEST))
    }

    /// How long it still comes last.
    #[must_use]
    pub fn left(&self, now: Instant) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.since(now))
    }

    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.until.filter(|_| self.well)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(1_000_000_000 + seconds * 1_000_000)
    }

    /// Seconds of hold-down after each failure; the node is well again one second after it failed.
    fn prices(failures: &[u64]) -> Vec<u64> {
        let mut flaps = Flaps::default();
        flaps.observe(true, at(0));
        failures
            .iter()
            .map(|second| {
                flaps.observe(false, at(*second));
                flaps.observe(false, at(*second + 1));
                flaps.observe(true, at(*second + 1));
                flaps.left(at(*second + 1)).as_secs()
            })
            .collect()
    }

    #[test]
    fn the_price_grows_and_ends() {
        assert_eq!(
            prices(&[0, 10, 20, 30, 40, 50, 60, 70, 80, 90]),
            [0, 0, 10, 20, 40, 80, 160, 300, 300, 300]
        );
    }

    #[test]
    fn a_failure_now_and_then_costs_nothing() {
        assert_eq!(prices(&[0, 100, 200, 300, 400, 500]), [0; 6]);
        assert_eq!(prices(&[0, 1, 2, 3, 400]), [0, 0, 10, 20, 0]);
    }

    #[test]
    fn it_is_released_once_when_its_while_is_over() {
        let mut flaps = Flaps::default();
        for second in 0..3 {
            flaps.observe(true, at(second));
            flaps.observe(false, at(second));
        }
        flaps.observe(true, at(3));
        assert!(!flaps.observe(true, at(11)));
        assert_eq!(flaps.deadline(), Some(at(12)));
        assert!(flaps.observe(true, at(12)) && !flaps.observe(true, at(13)));
        assert_eq!(flaps.left(at(13)), Duration::ZERO);
    }

    #[test]
    fn a_start_is_no_failure() {
        let mut flaps = Flaps::default();
        for second in 0..10 {
            flaps.observe(false, at(second));
        }
        assert_eq!(flaps.left(at(10)), Duration::ZERO);
    }
}
