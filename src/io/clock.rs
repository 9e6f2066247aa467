//! CLOCK_BOOTTIME: it goes on through a suspend and does not jump. The engine knows no other time.

use crate::engine::time::Instant;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime};

#[must_use]
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::Boottime);
    let micros = time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_nsec.unsigned_abs() / 1000;
    Instant::from_micros(micros)
}

/// Wakes at `deadline`, or up to a millisecond later.
pub async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.since(now())).await,
        None => std::future::pending().await,
    }
}

/// Seconds since 1970, for certificates and for the eyes of operators; decisions never see it.
#[must_use]
pub fn wall() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
