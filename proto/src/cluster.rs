//! What nodes say to each other about ownership. Each [`Message`] is one QUIC datagram, or a stream if it is too long.
//!
//! ```text
//! candidate                    voter
//!    | Advert{seq, bids, ..}  ---> |   every advert interval, and at once when something changed
//!    | <--- Answer{seq, verdicts}|   what the voter grants, counted by the candidate from its own send time
//!    | <--- Freed{vips}          |   pushed once, when a lease ended or was released
//! ```
//! A `Advert` says the whole of what its sender wants, so a lost one is repaired by the next: to stop naming a
//! VIP is to release it.

use crate::units::{AddrId, ClusterId, Incarnation, NodeId, Priority, Term, VipId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The bids for so many fit in one message of [`MAX_MESSAGE`].
pub const MAX_VIPS: usize = 1024;
/// All addresses of all VIPs of one node, for the same reason.
pub const MAX_ADDRESSES: usize = 2048;
/// Of a message, in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Voter sets larger than this cost more than they give.
pub const MAX_VOTERS: usize = 7;
/// Removed members that a set names; the certificates of those before them have long ended.
pub const MAX_REMOVED: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    Advert(Advert),
    Answer(Answer),
    Freed(Freed),
    /// The newest voter set that the sender has, because the other's advert named an older one.
    Voters(SignedVoters),
    Move(Move),
}

/// An operator wants the VIP at that node; nowhere in particular: the priorities say where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    pub vip: VipId,
    pub to: Option<NodeId>,
    /// Then the priorities count again. Absent: until the node's daemon ends, or another move.
    pub for_s: Option<u32>,
}

/// "I am alive, this is how I stand, and these are the leases I ask for."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advert {
    pub incarnation: Incarnation,
    /// One counter for everything an incarnation sends, to whomever.
    pub seq: u64,
    /// The voter set that the sender acts by; also its acknowledgement of that set.
    pub voters: VotersStamp,
    /// The session that this voter gave to the sender; 0 asks for one. Meaningless to a node that is no voter.
    pub session: u64,
    /// The session is that of this earlier run, which has ended: it and its grants are to be the sender's.
    pub resumes: Option<Incarnation>,
    /// The sender has failed too often: for so long it comes last among the candidates.
    pub held_down_ms: u32,
    /// A check of the sender is down: it comes after all who are healthy, whatever its priority.
    pub sick: bool,
    /// One for each VIP, by ascending id. While nothing changes, it is the same list in each advert.
    pub bids: Arc<[Bid]>,
}

/// How the sender stands towards one VIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bid {
    pub vip: VipId,
    /// Effective priority. `None`: not a candidate now.
    pub priority: Option<Priority>,
    /// Enough voters listen to it: it could own the VIP at once.
    pub ready: bool,
    /// Asks to get or to keep the lease. A lease that an advert does not want is released.
    pub want: bool,
    /// The term under which the sender holds the VIP now.
    pub holds: Option<Term>,
    /// An operator has moved the VIP to the sender.
    pub pinned: bool,
    /// The highest term that the sender knows of.
    pub term: Term,
    /// The VIP's addresses, while it is wanted: no two VIPs that share one are ever granted together.
    pub addresses: Vec<AddrId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Of the advert that this answers.
    pub seq: u64,
    /// The voter's incarnation: a voter that restarted has forgotten what it granted.
    pub incarnation: Incarnation,
    pub voters: VotersStamp,
    /// The sender's session at this voter. Differs from the advert's: the advert was not heeded, ask again by this one.
    pub session: u64,
    /// How long the voter honours a grant, by its own configuration, in microseconds.
    pub lease_us: u64,
    pub refusal: Option<Refusal>,
    /// One for each bid, in its order. While nothing changes, it is the same list in each answer.
    pub verdicts: Arc<[Verdict]>,
}

/// Why a voter heeded nothing in an advert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The voter has just started and may have granted leases that it no longer remembers.
    Booting { left_ms: u32 },
    /// Another run of the same node still has a session: a restart waits for its end, a clone is refused.
    DuplicateId { left_ms: u32 },
    /// The voter acts by another voter set.
    OtherVoters,
    /// The voter is none by its own set, or is leaving.
    NotAVoter,
    /// The set is a [`Step::Prepare`]: nobody grants anything in it.
    Unsettled,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub vip: VipId,
    pub term: Term,
    pub grant: Grant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grant {
    Granted,
    /// Nobody holds it at this voter.
    Free,
    Held {
        by: NodeId,
    },
    /// Another VIP that shares an address with this one is held.
    Overlaps {
        by: NodeId,
    },
}

/// A lease ended at the sender. A hint to ask now, never a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freed {
    pub vips: Vec<(VipId, Term)>,
}

/// Names a voter set: version and the first 64 bits of its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct VotersStamp {
    pub version: u64,
    pub digest: u64,
}

/// Who votes. Neighbouring versions differ by one voter at most, so that their majorities meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterSet {
    pub cluster: ClusterId,
    pub version: u64,
    pub step: Step,
    pub voters: Vec<NodeId>,
    /// The pair that must confirm a [`Step::Prepare`] before the next version is made.
    pub confirm: Vec<NodeId>,
    /// Voters that an operator made witnesses: they hold no address, whatever role they joined with.
    pub witnesses: Vec<NodeId>,
    /// An operator chose the voters: none is added without one.
    pub chosen: bool,
    /// Two voters go by their majority, which is both: neither holds a VIP without the other.
    pub strict: bool,
    /// Members that were removed for good: nobody listens to them any more.
    pub removed: Vec<NodeId>,
}

/// The two-voter mode knows no majority, so the way out of it takes two versions with the same voters; and so does the
/// way into it, if a voter loses its vote that may still be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    Plain,
    /// Nobody takes a VIP any more, and who holds one lets go within a lease. Nobody grants.
    Prepare,
    /// Both of the pair have confirmed `Prepare`. For one lease, voters grant only to who holds.
    Commit,
    /// An operator vouches that the other voters are off. For one lease nobody grants: what they granted ends.
    Recover,
}

/// A voter set as the CA key signed it. The edge verifies it; the engine only ever sees verified sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedVoters {
    pub set: VoterSet,
    pub signature: Vec<u8>,
}

impl Advert {
    /// No honest node says anything else.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let addresses: usize = self.bids.iter().map(|bid| bid.addresses.len()).sum();
        let terms = self.bids.iter().flat_map(|bid| [bid.term, bid.holds.unwrap_or_default()]);
        self.bids.len() <= MAX_VIPS
            && self.bids.is_sorted_by(|one, next| one.vip < next.vip)
            && addresses <= MAX_ADDRESSES
            && terms.into_iter().all(|term| term <= Term::MAX)
    }
}

/// Is it the same list? The very same one, in most cases, and then this costs nothing.
#[must_use]
pub fn is_same<T: PartialEq>(one: &Arc<[T]>, other: &Arc<[T]>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

impl VoterSet {
    /// Of a cluster of one node.
    #[must_use]
    pub fn first(cluster: ClusterId, node: NodeId) -> VoterSet {
        VoterSet {
            cluster,
            version: 1,
            step: Step::Plain,
            voters: vec![node],
            confirm: Vec::new(),
            witnesses: Vec::new(),
            chosen: false,
            strict: false,
            removed: Vec::new(),
        }
    }

    /// What the CA key signs, and what the stamp is made of.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = b"haclusterd voter set v1\0".to_vec();
        bytes.extend(self.cluster.0);
        bytes.extend(self.version.to_be_bytes());
        bytes.extend([self.step as u8, u8::from(self.chosen), u8::from(self.strict)]);
        for list in [&self.voters, &self.confirm, &self.witnesses, &self.removed] {
            // A set that is sound names far fewer than 255.
            bytes.push(u8::try_from(list.len()).unwrap_or(u8::MAX));
            list.iter().for_each(|node| bytes.extend(node.0));
        }
        bytes
    }

    #[must_use]
    pub fn stamp(&self) -> VotersStamp {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.signed_bytes());
        let mut head = [0; 8];
        head.copy_from_slice(&digest.as_ref()[..8]);
        VotersStamp { version: self.version, digest: u64::from_be_bytes(head) }
    }

    /// How many voters make a majority.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.voters.contains(&node)
    }

    /// Two voters without a majority's rule: whoever does not hear the other may take over.
    #[must_use]
    pub fn is_guarded_pair(&self) -> bool {
        self.voters.len() == 2 && !self.strict
    }

    /// A set that no node may act by is not: empty, too large, with a voter twice or one that was removed.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let mut seen = self.voters.clone();
        seen.sort_unstable();
        seen.dedup();
        (1..=MAX_VOTERS).contains(&seen.len())
            && seen.len() == self.voters.len()
            && self.witnesses.iter().all(|node| self.contains(*node))
            && self.confirm.len() <= 2
            && self.removed.len() <= MAX_REMOVED
            && !self.removed.iter().any(|node| self.contains(*node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(voters: u8) -> VoterSet {
        let voters = (0..voters).map(|n| NodeId([n; 16])).collect();
        VoterSet { voters, ..VoterSet::first(ClusterId([9; 16]), NodeId([0; 16])) }
    }

    #[test]
    fn a_majority_is_more_than_half() {
        for (voters, quorum) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)] {
            assert_eq!(set(voters).quorum(), quorum);
        }
    }

    #[test]
    fn the_stamp_names_the_content() {
        assert_ne!(set(2).stamp(), set(3).stamp());
        assert_eq!(set(3).stamp(), set(3).stamp());
    }

    #[test]
    fn a_voter_counts_once() {
        let mut twice = set(2);
        twice.voters[1] = twice.voters[0];
        assert!(!twice.is_sound() && !set(0).is_sound() && !set(8).is_sound());
        assert!(set(3).is_sound());
    }

    #[test]
    fn who_was_removed_does_not_vote_and_only_voters_are_witnesses() {
        let node = |n| NodeId([n; 16]);
        assert!(!VoterSet { removed: vec![node(1)], ..set(3) }.is_sound());
        assert!(!VoterSet { witnesses: vec![node(7)], ..set(3) }.is_sound());
        assert!(VoterSet { witnesses: vec![node(1)], removed: vec![node(7)], ..set(3) }.is_sound());
    }
}
