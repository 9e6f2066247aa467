//! A thread that other work on the host must not keep from running: an advert that comes late is a failover.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};
use std::thread;
use std::time::{Duration, Instant};

/// Above every ordinary thread, below every other real-time one.
const PRIORITY: libc::c_int = 1;
/// How often it is tried, and for how long each: a third of a second in all.
const TRIES: usize = 1000;
const NAP: Duration = Duration::from_micros(200);

/// Makes the calling thread a real-time one. False without the right to do so (`CAP_SYS_NICE`): then it competes with
/// all others. The kernel keeps a part of each second for the others, so a defect here does not stop the host.
#[allow(unsafe_code, reason = "neither std nor rustix sets a scheduling policy")]
pub fn raise() -> bool {
    let parameter = libc::sched_param { sched_priority: PRIORITY };
    // What this process starts is ordinary again.
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: 0 is the calling thread, and the parameter outlives the call.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) == 0 }
}

/// Keeps in memory what this process has used: to read a page of it back from a disk that is busy takes seconds. False
/// where that is not allowed without a limit, for then the limit would make allocations fail.
pub fn stay_resident() -> bool {
    let may = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    let unlimited = getrlimit(Resource::Memlock).current.is_none();
    // On fault: what is never used takes no memory.
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    (may || unlimited) && mlockall(flags).is_ok()
}

/// By how much this host wakes a waiting thread too late, of a thousand times all but the worst one (p99.9).
pub fn overrun(realtime: bool) -> Duration {
    let measure = move || {
        if realtime {
            raise();
        }
        let mut late: Vec<Duration> = (0..TRIES)
            .map(|_| {
                let begin = Instant::now();
                thread::sleep(NAP);
                begin.elapsed().saturating_sub(NAP)
            })
            .collect();
        late.sort_unstable();
        late[TRIES - 2]
    };
    thread::spawn(measure).join().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_measured_how_late_a_thread_is_woken() {
        let late = overrun(false);
        assert!(late > Duration::ZERO && late < Duration::from_secs(5), "{late:?}");
    }
}
