//! Who is heard: one deadline a peer, and the last advert of each.

use super::time::{IDLE_ADVERT, Instant, Timers};
use haclusterd_proto::cluster::{Advert, Bid, VotersStamp, is_same};
use haclusterd_proto::member::MemberRecord;
use haclusterd_proto::{Incarnation, NodeId, Term, VipId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Each voter hears each of them at every advert interval.
pub const MAX_PEERS: usize = 128;

/// How long a member that is gone is still shown before it is forgotten.
pub const KEEP_LEFT: Duration = Duration::from_secs(3600);
pub const KEEP_FAILED: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Debug, Default, Serialize)]
pub struct Peer {
    /// What it last published, as gossip brought it.
    record: Option<MemberRecord>,
    /// When a record first said that the member leaves for good.
    left_at: Option<Instant>,
    heard: Option<Heard>,
    since: Instant,
    /// Nothing renews a lease between it and this node, so it is heard less often.
    idle: bool,
    /// The run before the one heard now.
    former: Option<Incarnation>,
    /// When two runs were last heard in turns.
    cloned_at: Option<Instant>,
    /// As last reported by [`Peers::transitions`].
    was_alive: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Heard {
    at: Instant,
    incarnation: Incarnation,
    seq: u64,
    voters: VotersStamp,
    held_down: Duration,
    sick: bool,
    bids: Arc<[Bid]>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Peers {
    peers: BTreeMap<NodeId, Peer>,
}

/// What an advert was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Nothing new.
    Fresh,
    /// Its bids are others than before.
    News,
    /// The first in a while, or the first of a new run of that node.
    Returned,
    /// Older than one already seen, or one node too many: dropped.
    Stale,
    /// Of a run that another had replaced: two hosts use one key.
    Duplicate,
}

impl Peers {
    /// False: the table is full.
    pub fn record(&mut self, record: MemberRecord, now: Instant) -> bool {
        let Some(peer) = self.entry(record.node, now) else { return false };
        peer.left_at = record.leaving.then(|| peer.left_at.unwrap_or(now));
        peer.record = Some(record);
        true
    }

    pub fn advert(&mut self, from: NodeId, advert: &Advert, timers: &Timers, now: Instant) -> Receipt {
        let Some(peer) = self.entry(from, now) else { return Receipt::Stale };
        let mut receipt = if peer.alive(timers, now) { Receipt::Fresh } else { Receipt::Returned };
        if let Some(old) = &peer.heard {
            let same = old.incarnation == advert.incarnation;
            if same && old.seq >= advert.seq {
                return Receipt::Stale;
            }
            if !same {
                if peer.former == Some(advert.incarnation) {
                    peer.cloned_at = Some(now);
                    return Receipt::Duplicate;
                }
                peer.former = Some(old.incarnation);
                receipt = Receipt::Returned;
            }
        }
        let before = peer.heard.as_ref().map(|old| &old.bids).filter(|old| is_same(old, &advert.bids));
        if receipt == Receipt::Fresh && before.is_none() {
            receipt = Receipt::News;
        }
        let bids = before.unwrap_or(&advert.bids).clone();
        peer.heard = Some(Heard {
            at: now,
            incarnation: advert.incarnation,
            seq: advert.seq,
            voters: advert.voters,
            held_down: Duration::from_millis(advert.held_down_ms.into()),
            sick: advert.sick,
            bids,
        });
        receipt
    }

    /// Drops who has been gone for long, unless `keep` says that it still matters; returns who was dropped.
    pub fn forget(&mut self, keep: impl Fn(NodeId) -> bool, now: Instant) -> Vec<NodeId> {
        let gone = |peer: &Peer| {
            let silent = now.since(peer.heard_at().unwrap_or(peer.since));
            silent >= KEEP_FAILED || peer.left_at.is_some_and(|at| now.since(at) >= KEEP_LEFT)
        };
        let old: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(node, peer)| !keep(**node) && gone(peer))
            .map(|(node, _)| *node)
            .collect();
        old.iter().for_each(|node| drop(self.peers.remove(node)));
        old
    }

    pub fn remove(&mut self, nodes: &[NodeId]) {
        nodes.iter().for_each(|node| drop(self.peers.remove(node)));
    }

    /// `renews`: between whom and this node adverts renew leases.
    pub fn set_paces(&mut self, renews: impl Fn(NodeId) -> bool) {
        self.peers.iter_mut().for_each(|(node, peer)| peer.idle = !renews(*node));
    }

    /// An answer shows as well that a run lives.
    pub fn answered(&mut self, from: NodeId, run: Incarnation, now: Instant) {
        let heard = self.peers.get_mut(&from).and_then(|peer| peer.heard.as_mut());
        if let Some(heard) = heard.filter(|heard| heard.incarnation == run) {
            heard.at = now;
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Who has come to life or fallen silent since the last call.
    pub fn transitions(&mut self, timers: &Timers, now: Instant) -> Vec<(NodeId, bool)> {
        let mut changes = Vec::new();
        for (node, peer) in &mut self.peers {
            let alive = peer.alive(timers, now) && !peer.left();
            if std::mem::replace(&mut peer.was_alive, alive) != alive && !peer.left() {
                changes.push((*node, alive));
            }
        }
        changes
    }

    fn entry(&mut self, node: NodeId, now: Instant) -> Option<&mut Peer> {
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&node) {
            return None;
        }
        Some(self.peers.entry(node).or_insert_with(|| Peer { since: now, ..Peer::default() }))
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
        self.heard_at().is_some_and(|at| now.since(at) < self.silent_after(timers))
    }

    /// Not heard for this long, it is no candidate.
    #[must_use]
    pub fn silent_after(&self, timers: &Timers) -> Duration {
        if self.idle { timers.silent_after().max(IDLE_ADVERT * 3) } else { timers.silent_after() }
    }

    /// Not heard for this long, it is looked for by other means.
    #[must_use]
    pub fn suspect_after(&self, timers: &Timers) -> Duration {
        if self.idle { timers.suspect_after().max(IDLE_ADVERT * 3 / 2) } else { timers.suspect_after() }
    }

    #[must_use]
    pub fn voters(&self) -> VotersStamp {
        self.heard.as_ref().map(|h| h.voters).unwrap_or_default()
    }

    /// By its last advert.
    #[must_use]
    pub fn is_sick(&self) -> bool {
        self.heard.as_ref().is_some_and(|h| h.sick)
    }

    /// How long it still comes last among the candidates, by its own count.
    #[must_use]
    pub fn held_down(&self, now: Instant) -> Duration {
        self.heard.as_ref().map_or(Duration::ZERO, |h| h.held_down.saturating_sub(now.since(h.at)))
    }

    #[must_use]
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.heard.as_ref().map(|h| h.incarnation)
    }

    /// Its last word about a VIP, however old.
    #[must_use]
    pub fn bid(&self, vip: VipId) -> Option<&Bid> {
        let bids = &self.heard.as_ref()?.bids;
        bids.binary_search_by_key(&vip, |bid| bid.vip).ok().map(|at| &bids[at])
    }

    #[must_use]
    pub fn record(&self) -> Option<&MemberRecord> {
        self.record.as_ref()
    }

    #[must_use]
    pub fn left(&self) -> bool {
        self.left_at.is_some()
    }

    /// Its key is in use on two hosts: what it says is worth nothing until one of them is gone.
    #[must_use]
    pub fn cloned(&self, now: Instant) -> bool {
        self.cloned_at.is_some_and(|at| now.since(at) < Duration::from_secs(10))
    }

    /// The term under which it says that it holds the VIP, if it is alive.
    #[must_use]
    pub fn holds(&self, vip: VipId, timers: &Timers, now: Instant) -> Option<Term> {
        self.bid(vip).filter(|_| self.alive(timers, now))?.holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMERS: Timers = Timers { advert: Duration::from_millis(50), lease: Duration::from_millis(500) };
    const NODE: NodeId = NodeId([7; 16]);

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    fn advert(incarnation: u128, seq: u64) -> Advert {
        let incarnation = Incarnation(incarnation);
        Advert {
            incarnation,
            seq,
            voters: VotersStamp::default(),
            session: 0,
            resumes: None,
            held_down_ms: 0,
            sick: false,
            bids: Arc::default(),
        }
    }

    #[test]
    fn a_replayed_advert_is_worth_nothing() {
        let mut peers = Peers::default();
        assert_eq!(peers.advert(NODE, &advert(1, 5), &TIMERS, at(0)), Receipt::Returned);
        assert_eq!(peers.advert(NODE, &advert(1, 5), &TIMERS, at(1)), Receipt::Stale);
        assert_eq!(peers.advert(NODE, &advert(1, 6), &TIMERS, at(2)), Receipt::Fresh);
    }

    #[test]
    fn two_runs_in_turns_are_a_clone_and_a_restart_is_not() {
        let mut peers = Peers::default();
        peers.advert(NODE, &advert(1, 5), &TIMERS, at(0));
        assert_eq!(peers.advert(NODE, &advert(2, 1), &TIMERS, at(10)), Receipt::Returned);
        assert_eq!(peers.advert(NODE, &advert(2, 2), &TIMERS, at(20)), Receipt::Fresh);
        assert_eq!(peers.advert(NODE, &advert(1, 6), &TIMERS, at(30)), Receipt::Duplicate);
        assert!(peers.get(NODE).unwrap().cloned(at(40)));
    }

    #[test]
    fn silence_is_death_and_a_word_is_life() {
        let mut peers = Peers::default();
        peers.advert(NODE, &advert(1, 1), &TIMERS, at(0));
        assert!(peers.get(NODE).unwrap().alive(&TIMERS, at(299)));
        assert!(!peers.get(NODE).unwrap().alive(&TIMERS, at(300)));
        assert_eq!(peers.advert(NODE, &advert(1, 2), &TIMERS, at(400)), Receipt::Returned);
    }

    #[test]
    fn the_table_is_bounded_and_the_dead_are_forgotten() {
        let mut peers = Peers::default();
        for node in 0..=MAX_PEERS {
            peers.advert(NodeId([u8::try_from(node).unwrap(); 16]), &advert(1, 1), &TIMERS, at(0));
        }
        assert_eq!(peers.iter().count(), MAX_PEERS);
        peers.forget(|_| false, at(0) + KEEP_FAILED);
        assert_eq!(peers.iter().count(), 0);
    }
}
