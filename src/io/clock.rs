//! CLOCK_BOOTTIME: it goes on through a suspend and does not jump. The engine knows no other time.

use super::watch_descriptor;
use crate::engine::time::Instant;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};
use tokio::io::unix::AsyncFd;

#[must_use]
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::Boottime);
    let micros = time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_nsec.unsigned_abs() / 1000;
    Instant::from_micros(micros)
}

/// The one timer of a loop. tokio's own count in milliseconds, and an advert that is a millisecond late each time is a
/// tenth late at the shortest interval.
#[derive(Debug)]
pub struct Alarm {
    timer: AsyncFd<OwnedFd>,
    set: Option<Instant>,
}

impl Alarm {
    /// In a tokio runtime.
    pub fn new() -> io::Result<Alarm> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = watch_descriptor(timerfd_create(TimerfdClockId::Boottime, flags)?)?;
        Ok(Alarm { timer, set: None })
    }

    /// Returns at `deadline`, not before. Safe to cancel.
    pub async fn ring(&mut self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return std::future::pending().await };
        if deadline <= now() {
            // So that one deadline after the other keeps no message waiting.
            tokio::task::yield_now().await;
        }
        while now() < deadline {
            if self.set != Some(deadline) && self.arm(deadline).is_err() {
                // Where the kernel refuses it, late is better than never.
                return tokio::time::sleep(deadline.since(now())).await;
            }
            let Ok(mut ready) = self.timer.readable().await else { return };
            // What it says does not matter; that it is read does.
            let _ = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?));
        }
        self.set = None;
    }

    fn arm(&mut self, deadline: Instant) -> io::Result<()> {
        let since_boot = deadline.since(Instant::default());
        let at = Timespec {
            tv_sec: i64::try_from(since_boot.as_secs()).unwrap_or(i64::MAX),
            // Zero would turn it off, and the clock shows no less than a microsecond anyway.
            tv_nsec: i64::from(since_boot.subsec_nanos()) + 1,
        };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: at };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &once)?;
        self.set = Some(deadline);
        Ok(())
    }
}

/// Seconds since 1970, for certificates and for the eyes of operators; decisions never see it.
#[must_use]
pub fn wall() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Does something keep the wall clock right? True where the kernel does not say.
#[must_use]
#[allow(unsafe_code, reason = "neither std nor rustix asks for it")]
pub fn is_synchronized() -> bool {
    // SAFETY: an empty request changes nothing, and the kernel fills in what it is given.
    let status = unsafe {
        let mut state: libc::timex = std::mem::zeroed();
        libc::adjtimex(&raw mut state)
    };
    status != libc::TIME_ERROR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_rings_when_it_is_time_and_again() {
        let mut alarm = Alarm::new().unwrap();
        for _ in 0..3 {
            let deadline = now() + Duration::from_millis(3);
            alarm.ring(Some(deadline)).await;
            assert!(now() >= deadline);
        }
        alarm.ring(Some(now())).await;
        assert!(tokio::time::timeout(Duration::from_millis(5), alarm.ring(None)).await.is_err());
    }

    #[tokio::test]
    async fn who_stopped_waiting_can_wait_for_another_time() {
        let mut alarm = Alarm::new().unwrap();
        let far = now() + Duration::from_secs(60);
        assert!(tokio::time::timeout(Duration::from_millis(5), alarm.ring(Some(far))).await.is_err());
        alarm.ring(Some(now() + Duration::from_millis(3))).await;
        let near = now() + Duration::from_millis(20);
        assert!(tokio::time::timeout(Duration::ZERO, alarm.ring(Some(near))).await.is_err());
        std::thread::sleep(Duration::from_millis(25));
        let next = now() + Duration::from_millis(5);
        alarm.ring(Some(next)).await;
        assert!(now() >= next, "an earlier one that nobody waited for does not count");
    }
}
