//! Decides what of a peer's message may reach chitchat, and reports what is new.
//!
//! Mutual TLS says who sent a message, not who wrote what it relays, and chitchat believes all of it. So the
//! gate holds a table of the runs of nodes (node, generation, address) that a verified record vouches for:
//!
//! - A record passes if its author signed it, and signed exactly the id that it is filed under. Its version
//!   in chitchat must be its signed `seq`: else a relay could number an old record so high that no later one
//!   were ever taken.
//! - A digest entry passes if the table has its id. Its heartbeat passes only from the node itself: else a relay
//!   could raise it so high that the node seemed dead. chitchat's "live" so means "I hear it directly".
//!
//! Nobody can therefore make chitchat hold more ids than signers make, and a signer's own number is bounded.

use super::counters::{Fault, Tally};
use super::wire::{self, Id, Message, Seen, Update};
use super::{Keys, Report};
use haclusterd_proto::member::{MemberRecord, SignedRecord};
use haclusterd_proto::{ClusterId, NodeId};
use ring::digest::{SHA256, digest};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Clusters of this kind have a handful; a digest of so many is 5 kB.
pub const MAX_MEMBERS: usize = 64;
/// Restarts of one node that are remembered at once; a node that restarts more often waits to be heard again.
const MAX_RUNS: usize = 32;
/// All runs of all nodes. chitchat's digest must stay well under its 65,507 bytes, or it underflows: 85 bytes each.
const MAX_IDS: usize = 512;
/// chitchat forgets a silent id after its grace period of 15 minutes and the at most 80 s that it takes to call it
/// dead. Only after that may the gate forget it.
const FORGET: Duration = Duration::from_secs(20 * 60);
/// A false signature costs some 200 us; an honest relay may have a few of certificates that have just expired.
const MAX_FALSE: usize = 8;

/// Heartbeat of a node that is only heard of. The lowest there is, so it never advances anything.
const HEARSAY: u64 = 1;

pub struct Gate {
    me: Id,
    cluster: String,
    keys: Arc<dyn Keys>,
    report: Report,
    tally: Arc<Tally>,
    runs: BTreeMap<Id, Run>,
}

/// What is known of one run of a node.
struct Run {
    seq: u64,
    /// SHA-256 of the verified record's text, so that the same one passes again unverified.
    digest: [u8; 32],
    heard: Instant,
}

impl Gate {
    pub fn new(me: Id, cluster: ClusterId, keys: Arc<dyn Keys>, report: Report, tally: Arc<Tally>) -> Gate {
        Gate { me, cluster: cluster.to_string(), keys, report, tally, runs: BTreeMap::new() }
    }

    /// The message as chitchat may have it, encoded anew.
    pub fn pass(&mut self, sender: NodeId, bytes: &[u8], now: Instant) -> Option<Vec<u8>> {
        let message = wire::decode(bytes).and_then(|message| self.filter(sender, message, now));
        match message {
            Ok(message) => Some(wire::encode(&message)),
            Err(fault) => {
                self.tally.add(fault);
                None
            }
        }
    }

    fn filter(&mut self, sender: NodeId, message: Message, now: Instant) -> Result<Message, Fault> {
        match message {
            Message::Syn { cluster, .. } if cluster != self.cluster => Err(Fault::OtherCluster),
            Message::Syn { cluster, digest } => {
                Ok(Message::Syn { cluster, digest: self.digest(sender, digest, now) })
            }
            // The records first: they may vouch for ids in the digest.
            Message::SynAck { digest, delta } => {
                let delta = self.delta(delta, now);
                Ok(Message::SynAck { digest: self.digest(sender, digest, now), delta })
            }
            Message::Ack { delta } => Ok(Message::Ack { delta: self.delta(delta, now) }),
            // It would only be logged, once for each that is sent.
            Message::BadCluster => Err(Fault::OtherCluster),
        }
    }

    fn digest(&mut self, sender: NodeId, digest: Vec<Seen>, now: Instant) -> Vec<Seen> {
        digest.into_iter().filter_map(|seen| self.seen(sender, seen, now)).collect()
    }

    fn seen(&mut self, sender: NodeId, mut seen: Seen, now: Instant) -> Option<Seen> {
        if seen.id == self.me {
            return Some(seen);
        }
        let direct = seen.id.node == sender && self.newest(sender) == Some(seen.id.generation);
        let run = self.runs.get_mut(&seen.id)?;
        if direct {
            run.heard = now;
        } else {
            seen.heartbeat = HEARSAY;
        }
        Some(seen)
    }

    fn delta(&mut self, delta: Vec<Update>, now: Instant) -> Vec<Update> {
        let mut passed = Vec::new();
        let mut ids = BTreeSet::new();
        let mut bad = 0;
        for update in delta {
            // Peers that remember an earlier run of this node, or this one before chitchat restarted, may tell of it.
            if update.id.node == self.me.node {
                continue;
            }
            // chitchat refuses a message that names an id twice.
            if !ids.insert(update.id) {
                self.tally.add(Fault::WrongAuthor);
                continue;
            }
            match self.judge(&update, now) {
                Ok(()) => passed.push(update),
                Err(fault) => {
                    self.tally.add(fault);
                    bad += usize::from(fault == Fault::BadSignature);
                }
            }
            if bad == MAX_FALSE {
                break;
            }
        }
        passed
    }

    fn judge(&mut self, update: &Update, now: Instant) -> Result<(), Fault> {
        let mut text = [0; 32];
        text.copy_from_slice(digest(&SHA256, update.text.as_bytes()).as_ref());
        match self.runs.get(&update.id) {
            Some(run) if run.seq == update.version && run.digest == text => return Ok(()),
            Some(run) if run.seq >= update.version => return Err(Fault::Stale),
            Some(_) => {}
            None => self.make_room(update.id.node, now)?,
        }
        let record = self.verify(update)?;
        let is_news = self.last(record.node) < Some((record.generation, record.seq));
        self.runs.insert(update.id, Run { seq: record.seq, digest: text, heard: now });
        if is_news {
            (self.report)(record);
        } else {
            // Of an earlier run. It passes, for peers would tell it again and again.
            self.tally.add(Fault::Stale);
        }
        Ok(())
    }

    fn verify(&self, update: &Update) -> Result<MemberRecord, Fault> {
        let signed = SignedRecord::decode(&update.text).map_err(|_| Fault::Undecodable)?;
        let record = signed.open().map_err(|_| Fault::Undecodable)?;
        let filed = Id { node: record.node, generation: record.generation, addr: record.addr };
        if filed != update.id || record.seq != update.version {
            return Err(Fault::WrongAuthor);
        }
        let message = SignedRecord::message(&signed.record);
        match self.keys.verify(&signed.certificate, &message, &signed.signature) {
            Ok(author) if author == record.node => Ok(record),
            Ok(_) => Err(Fault::WrongAuthor),
            Err(why) => {
                tracing::debug!(node = %record.node, why, "a member's record does not verify");
                Err(Fault::BadSignature)
            }
        }
    }

    /// The runs of one node, the newest last.
    fn of(&self, node: NodeId) -> impl Iterator<Item = (&Id, &Run)> {
        let lowest = Id { node, generation: 0, addr: ([0, 0, 0, 0], 0).into() };
        self.runs.range(lowest..).take_while(move |(id, _)| id.node == node)
    }

    fn newest(&self, node: NodeId) -> Option<u64> {
        self.of(node).last().map(|(id, _)| id.generation)
    }

    fn last(&self, node: NodeId) -> Option<(u64, u64)> {
        self.of(node).map(|(id, run)| (id.generation, run.seq)).max()
    }

    fn make_room(&mut self, node: NodeId, now: Instant) -> Result<(), Fault> {
        if !self.fits(node) {
            self.runs.retain(|_, run| now.saturating_duration_since(run.heard) < FORGET);
        }
        if self.fits(node) { Ok(()) } else { Err(Fault::Full) }
    }

    fn fits(&self, node: NodeId) -> bool {
        let runs = self.of(node).count();
        let members: BTreeSet<NodeId> = self.runs.keys().map(|id| id.node).collect();
        self.runs.len() < MAX_IDS && runs < MAX_RUNS && (runs > 0 || members.len() < MAX_MEMBERS)
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
