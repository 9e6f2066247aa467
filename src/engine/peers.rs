//! Who is heard: one deadline a peer, and the last advert of each.

use super::time::{Instant, Timers};
use haclusterd_proto::cluster::{Advert, Bid, VotersStamp};
use haclusterd_proto::{Incarnation, NodeId, Role, VipId};
use std::collections::BTreeMap;

/// Every peer gets every advert; past this a full mesh costs more than it gives.
pub const MAX_PEERS: usize = 64;

#[derive(Clone, Debug)]
pub struct Peer {
    pub role: Role,
    /// Has said that it leaves for good: still heard, no voter to be.
    pub leaving: bool,
    heard: Option<Heard>,
}

#[derive(Clone, Debug)]
struct Heard {
    at: Instant,
    incarnation: Incarnation,
    seq: u64,
    voters: VotersStamp,
    bids: Vec<Bid>,
}

#[derive(Clone, Debug, Default)]
pub struct Peers {
    peers: BTreeMap<NodeId, Peer>,
}

/// What an advert was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    Fresh,
    /// The first of a new run of that node.
    Restarted,
    /// Older than one already seen, or from a node that is no member: dropped.
    Stale,
    /// A second run of the same node while the first is still heard: two hosts use one key.
    Duplicate,
}

impl Peers {
    /// False: the table is full.
    pub fn admit(&mut self, node: NodeId, role: Role, leaving: bool) -> bool {
        if let Some(peer) = self.peers.get_mut(&node) {
            (peer.role, peer.leaving) = (role, leaving);
            return true;
        }
        let room = self.peers.len() < MAX_PEERS;
        if room {
            self.peers.insert(node, Peer { role, leaving, heard: None });
        }
        room
    }

    pub fn forget(&mut self, node: NodeId) {
        self.peers.remove(&node);
    }

    pub fn advert(&mut self, from: NodeId, advert: &Advert, timers: &Timers, now: Instant) -> Receipt {
        let Some(peer) = self.peers.get_mut(&from) else { return Receipt::Stale };
        let receipt = match &peer.heard {
            Some(old) if old.incarnation == advert.incarnation && old.seq >= advert.seq => return Receipt::Stale,
            Some(old) if old.incarnation == advert.incarnation => Receipt::Fresh,
            Some(old) if now.since(old.at) < timers.suspect_after() => Receipt::Duplicate,
            Some(_) => Receipt::Restarted,
            None => Receipt::Fresh,
        };
        peer.heard = Some(Heard {
            at: now,
            incarnation: advert.incarnation,
            seq: advert.seq,
            voters: advert.voters,
            bids: advert.bids.clone(),
        });
        receipt
    }

    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.peers.iter().map(|(node, peer)| (*node, peer))
    }

    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&Peer> {
        self.peers.get(&node)
    }
}

impl Peer {
    #[must_use]
    pub fn heard_at(&self) -> Option<Instant> {
        self.heard.as_ref().map(|h| h.at)
    }

    #[must_use]
    pub fn alive(&self, timers: &Timers, now: Instant) -> bool {
        self.heard_at().is_some_and(|at| now.since(at) < timers.silent_after())
    }

    #[must_use]
    pub fn voters(&self) -> VotersStamp {
        self.heard.as_ref().map(|h| h.voters).unwrap_or_default()
    }

    #[must_use]
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.heard.as_ref().map(|h| h.incarnation)
    }

    /// Its last word about a VIP, however old.
    #[must_use]
    pub fn bid(&self, vip: VipId) -> Option<&Bid> {
        self.heard.as_ref()?.bids.iter().find(|bid| bid.vip == vip)
    }

    #[must_use]
    pub fn bids(&self) -> &[Bid] {
        self.heard.as_ref().map_or(&[], |h| &h.bids)
    }
}
