//! What gossip has dropped, and why.

use std::sync::atomic::{AtomicU64, Ordering};

/// One reason each. A message or a part of one that is dropped counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not a message, or not a record.
    Undecodable,
    /// A key other than ours, or a deletion: no haclusterd writes those.
    ForeignKey,
    /// A message, a value or an unpacked delta over its bound.
    Oversize,
    OtherCluster,
    /// The certificate or the signature does not verify; the certificate may also just have expired.
    BadSignature,
    /// The record is well signed, but says another node, generation, address or version than it is filed under.
    WrongAuthor,
    /// Older than what this node has, or another content under the same number.
    Stale,
    /// No room: too many members, or too many runs of one.
    Full,
    /// The outbox did not take it: no connection, or its queue is full.
    Unsent,
    /// chitchat did not keep up.
    Overflow,
    /// chitchat ended and was started again.
    Restart,
}

const FAULTS: usize = Fault::Restart as usize + 1;

#[derive(Debug, Default)]
pub struct Tally([AtomicU64; FAULTS]);

/// A snapshot, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub undecodable: u64,
    pub foreign_key: u64,
    pub oversize: u64,
    pub other_cluster: u64,
    pub bad_signature: u64,
    pub wrong_author: u64,
    pub stale: u64,
    pub full: u64,
    pub unsent: u64,
    pub overflow: u64,
    pub restarts: u64,
}

impl Tally {
    pub fn add(&self, fault: Fault) {
        self.0[fault as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn snapshot(&self) -> Counters {
        let of = |fault: Fault| self.0[fault as usize].load(Ordering::Relaxed);
        Counters {
            undecodable: of(Fault::Undecodable),
            foreign_key: of(Fault::ForeignKey),
            oversize: of(Fault::Oversize),
            other_cluster: of(Fault::OtherCluster),
            bad_signature: of(Fault::BadSignature),
            wrong_author: of(Fault::WrongAuthor),
            stale: of(Fault::Stale),
            full: of(Fault::Full),
            unsent: of(Fault::Unsent),
            overflow: of(Fault::Overflow),
            restarts: of(Fault::Restart),
        }
    }
}
