//! How late the loop did what was due, in the last five to ten minutes: its time to think, the host's other work, and
//! what else keeps a thread waiting.

use crate::engine::time::Instant;
use std::time::Duration;

/// Quarters of powers of two, in microseconds, up to some minutes.
const BUCKETS: usize = 112;
const HALF: Duration = Duration::from_secs(300);
/// Fewer say nothing of the worst in a thousand.
const ENOUGH: u64 = 1000;

pub(super) struct Lateness {
    now: Half,
    before: Half,
    since: Instant,
}

#[derive(Clone, Copy)]
struct Half {
    counts: [u32; BUCKETS],
    most: Duration,
}

impl Half {
    const EMPTY: Half = Half { counts: [0; BUCKETS], most: Duration::ZERO };
}

impl Lateness {
    pub fn new(now: Instant) -> Lateness {
        Lateness { now: Half::EMPTY, before: Half::EMPTY, since: now }
    }

    pub fn note(&mut self, late: Duration, now: Instant) {
        if now.since(self.since) >= HALF {
            (self.before, self.now, self.since) = (self.now, Half::EMPTY, now);
        }
        let count = &mut self.now.counts[bucket(late)];
        *count = count.saturating_add(1);
        self.now.most = self.now.most.max(late);
    }

    /// What all but one of a thousand stay below.
    pub fn p999(&self) -> Option<Duration> {
        let counts =
            || (0..BUCKETS).map(|at| u64::from(self.now.counts[at]) + u64::from(self.before.counts[at]));
        let all: u64 = counts().sum();
        let mut left = all.checked_sub(all / 1000).filter(|_| all >= ENOUGH)?;
        let at = counts().position(|count| {
            let reached = count >= left;
            left = left.saturating_sub(count);
            reached
        });
        at.map(|at| above(at).min(self.most()))
    }

    pub fn most(&self) -> Duration {
        self.now.most.max(self.before.most)
    }
}

fn bucket(late: Duration) -> usize {
    let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX).max(4);
    let power = micros.ilog2();
    let at = u64::from(power - 2) * 4 + (micros >> (power - 2)) % 4;
    usize::try_from(at).map_or(BUCKETS - 1, |at| at.min(BUCKETS - 1))
}

/// The end of a bucket.
fn above(bucket: usize) -> Duration {
    let (power, quarter) = (bucket / 4, bucket as u64 % 4);
    Duration::from_micros((4 + quarter + 1) << power)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_micros(1);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_bucket_ends_above_what_is_in_it_and_by_a_quarter_at_most() {
        for micros in [5, 7, 8, 100, 999, 5_000, 123_456, 9_999_999] {
            let late = Duration::from_micros(micros);
            let end = above(bucket(late));
            assert!(late < end && end <= late * 5 / 4 + Duration::from_micros(1), "{late:?} {end:?}");
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn one_in_a_thousand_may_be_worse() {
        let mut lateness = Lateness::new(NOW);
        assert_eq!(lateness.p999(), None);
        (0..999).for_each(|_| lateness.note(MS, NOW));
        lateness.note(MS * 500, NOW);
        assert!(lateness.p999().unwrap() < MS * 2);
        assert_eq!(lateness.most(), MS * 500);
        lateness.note(MS * 400, NOW);
        lateness.note(MS * 400, NOW);
        assert!(lateness.p999().unwrap() > MS * 399);
    }

    #[test]
    fn what_was_is_forgotten_after_ten_minutes() {
        let mut lateness = Lateness::new(NOW);
        lateness.note(MS * 500, NOW);
        lateness.note(MS, NOW + HALF);
        assert_eq!(lateness.most(), MS * 500);
        lateness.note(MS, NOW + HALF * 2);
        assert_eq!(lateness.most(), MS);
    }
}
