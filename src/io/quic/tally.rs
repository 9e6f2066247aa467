//! What was dropped or refused, counted; and the leave to log it, which is given seldom.

use super::locked;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What strangers and broken peers cause is logged once in so long, so that they cannot fill a disk.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// Always false: what is counted here has not been done.
    pub fn add(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        false
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counted since the start.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Debug, Default)]
        pub(super) struct Tally { $(pub $name: Count,)* }

        impl Tally {
            pub fn read(&self) -> Counters {
                Counters { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Datagrams to a node without a connection.
    datagrams_dropped,
    /// Streams to an address without a connection, with a full queue, or not taken by the peer in time.
    streams_dropped,
    /// Datagrams and streams, ours and theirs, that were too long.
    oversize,
    /// Streams of peers that did not end in time or broke off.
    unfinished,
    /// Handshakes that failed while we were the server: no certificate of this cluster, or too slow.
    handshakes_failed,
    /// Dials that did not lead to a connection.
    dials_failed,
    /// Handshakes that were sound, but not by a member.
    unknown,
    /// Connections of nodes that are forbidden.
    forbidden,
    /// Connections turned away because there were too many of them.
    refused,
    /// Connections of another host with this node's key.
    clones,
    /// How often the endpoint had to be opened anew.
    restarts,
}

/// One log line of any kind in [`LOG_INTERVAL`] for each of the fields.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    pub strangers: Now,
    pub crowd: Now,
    pub clones: Now,
    pub reopening: Now,
}

#[derive(Debug, Default)]
pub(super) struct Now(Mutex<Option<Instant>>);

impl Now {
    pub fn may_log(&self) -> bool {
        let mut last = locked(&self.0);
        let due = last.is_none_or(|at| at.elapsed() >= LOG_INTERVAL);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}
