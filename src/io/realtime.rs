//! A thread that other work on the host must not keep from running: an advert that comes late is a failover.

/// Above every ordinary thread, below every other real-time one.
const PRIORITY: libc::c_int = 1;

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
