//! The voter's half of the quorum leases: sessions and grants, in memory only.
//!
//! The rules carry the names under which docs/protocol.md proves them: V0 silence after a start, V1 only fresh
//! messages of the live session, V2 a heeded advert renews, V3 grant what is free, V4 expiry drops all grants of a
//! session, V5 what an advert does not want is released.

use super::time::{Instant, Timers};
use haclusterd_proto::cluster::{Advert, Answer, Bid, Grant, Refusal, Step, Verdict, VotersStamp, is_same};
use haclusterd_proto::{AddrId, Incarnation, NodeId, Term, VipId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// VIPs that a voter remembers terms of: four times what a cluster may have, and an end to what a hostile member can add.
const MAX_KNOWN_VIPS: usize = 4096;

#[derive(Clone, Debug, Serialize)]
pub struct Voter {
    incarnation: Incarnation,
    timers: Timers,
    silent_until: Instant,
    awake: bool,
    /// The end of the lease that follows a [`Step::Commit`].
    holders_only_until: Instant,
    sessions: BTreeMap<NodeId, Session>,
    next_session: u64,
    vips: BTreeMap<VipId, Seat>,
    /// Which VIP that is held has the address.
    taken: BTreeMap<AddrId, VipId>,
    /// Counts the changes of `vips`.
    #[serde(skip)] // nothing follows from it
    changes: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Session {
    id: u64,
    incarnation: Incarnation,
    last_seq: u64,
    expires: Instant,
    #[serde(skip)] // nothing follows from it
    judged: Option<Judged>,
}

/// The same bids get the same verdicts, as long as nothing else has changed.
#[derive(Clone, Debug)]
struct Judged {
    bids: Arc<[Bid]>,
    may_grant: bool,
    changes: u64,
    verdicts: Arc<[Verdict]>,
}

impl Session {
    /// A new run of the node proves by the session's number that it knows the very run that it succeeds.
    fn is_resumed_by(&self, advert: &Advert) -> bool {
        let named = advert.resumes == Some(self.incarnation) && advert.session == self.id;
        named && advert.incarnation != self.incarnation
    }
}

/// What a voter knows of one VIP.
#[derive(Clone, Debug, Default, Serialize)]
struct Seat {
    term: Term,
    holder: Option<NodeId>,
    addresses: Vec<AddrId>,
}

/// What the voter must know of the world beyond its own memory.
#[derive(Debug)]
pub struct Rules {
    pub stamp: VotersStamp,
    pub is_voter: bool,
    pub step: Step,
}

/// Leases that ended, to be told to everybody.
pub type Freed = Vec<(VipId, Term)>;

impl Voter {
    /// `earlier`: the lease that this node's last run may have granted.
    #[must_use]
    pub fn new(incarnation: Incarnation, timers: Timers, earlier: Duration, now: Instant) -> Voter {
        Voter {
            incarnation,
            timers,
            silent_until: now + Timers::silence_of(timers.lease.max(earlier)), // V0
            awake: false,
            holders_only_until: now,
            sessions: BTreeMap::new(),
            next_session: 1,
            vips: BTreeMap::new(),
            taken: BTreeMap::new(),
            changes: 0,
        }
    }

    /// The way out of the two-node mode is complete: who held a VIP there may still, for one lease.
    pub fn commit(&mut self, now: Instant) {
        self.holders_only_until = now + self.timers.silence();
    }

    /// The other voters are gone for good: what they granted must have ended before anything is granted anew.
    pub fn recover(&mut self, now: Instant) {
        (self.silent_until, self.awake) = (now + self.timers.silence(), false);
    }

    /// When the next session ends, or the silence.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let silence = [self.silent_until, self.holders_only_until].into_iter().filter(|end| now < *end).min();
        self.sessions.values().map(|s| s.expires).chain(silence).min()
    }

    /// True once, when the silence has ended.
    pub fn wakes(&mut self, now: Instant) -> bool {
        let wakes = !self.awake && now >= self.silent_until;
        self.awake |= wakes;
        wakes
    }

    /// V4.
    pub fn expire(&mut self, now: Instant) -> Freed {
        let ended: Vec<NodeId> =
            self.sessions.iter().filter(|(_, s)| s.expires <= now).map(|(node, _)| *node).collect();
        let mut freed = Freed::new();
        for node in ended {
            self.sessions.remove(&node);
            freed.extend(self.release(node, |_| false));
        }
        freed
    }

    /// `None`: the advert is older than one already heeded, and is not worth an answer.
    pub fn advert(
        &mut self,
        from: NodeId,
        advert: &Advert,
        rules: &Rules,
        now: Instant,
    ) -> (Option<Answer>, Freed) {
        let session = match self.admit(from, advert, rules, now) {
            Ok(Some(session)) => session,
            Ok(None) => return (None, Freed::new()),
            Err((session, refusal)) => {
                return (Some(self.answer(advert, rules, session, refusal)), Freed::new());
            }
        };
        let (verdicts, freed) = self.judge_all(from, &advert.bids, now);
        let answer = Answer { verdicts, ..self.answer(advert, rules, session, None) };
        (Some(answer), freed)
    }

    fn judge_all(&mut self, from: NodeId, bids: &Arc<[Bid]>, now: Instant) -> (Arc<[Verdict]>, Freed) {
        let open = now >= self.holders_only_until;
        let before = self.sessions.get(&from).and_then(|session| session.judged.as_ref());
        let same = |judged: &&Judged| {
            judged.changes == self.changes && judged.may_grant == open && is_same(&judged.bids, bids)
        };
        if let Some(judged) = before.filter(same) {
            return (judged.verdicts.clone(), Freed::new());
        }
        let wants = |vip: VipId| bids.binary_search_by_key(&vip, |bid| bid.vip).is_ok_and(|at| bids[at].want);
        let freed = self.release(from, wants);
        let verdicts: Vec<Verdict> = bids.iter().map(|bid| self.judge(from, bid, open)).collect();
        let old =
            self.sessions.get(&from).and_then(|session| session.judged.as_ref()).map(|old| &old.verdicts);
        let verdicts = match old.filter(|old| ***old == *verdicts) {
            Some(old) => old.clone(),
            None => verdicts.into(),
        };
        let (bids, changes) = (bids.clone(), self.changes);
        if let Some(session) = self.sessions.get_mut(&from) {
            session.judged = Some(Judged { bids, may_grant: open, changes, verdicts: verdicts.clone() });
        }
        (verdicts, freed)
    }

    /// V1 and V2: the live session that this advert renews, or why it is not heeded.
    fn admit(
        &mut self,
        from: NodeId,
        advert: &Advert,
        rules: &Rules,
        now: Instant,
    ) -> Result<Option<u64>, (u64, Option<Refusal>)> {
        let refuse = |refusal| Err((0, Some(refusal)));
        if !rules.is_voter {
            return refuse(Refusal::NotAVoter);
        }
        if advert.voters != rules.stamp {
            return refuse(Refusal::OtherVoters);
        }
        if rules.step == Step::Prepare {
            return refuse(Refusal::Unsettled);
        }
        if now < self.silent_until {
            return refuse(Refusal::Booting { left_ms: left_ms(self.silent_until, now) });
        }
        let expires = now + self.timers.lease;
        let Some(session) = self.sessions.get_mut(&from) else {
            let id = self.next_session;
            self.next_session += 1;
            let (incarnation, last_seq) = (advert.incarnation, advert.seq);
            self.sessions.insert(from, Session { id, incarnation, last_seq, expires, judged: None });
            return Err((id, None));
        };
        if session.is_resumed_by(advert) {
            (session.id, self.next_session) = (self.next_session, self.next_session + 1);
            (session.incarnation, session.last_seq) = (advert.incarnation, advert.seq);
            return Err((session.id, None));
        }
        if session.incarnation != advert.incarnation {
            return refuse(Refusal::DuplicateId { left_ms: left_ms(session.expires, now) });
        }
        if advert.seq <= session.last_seq {
            return Ok(None);
        }
        if advert.session != session.id {
            return Err((session.id, None));
        }
        session.last_seq = advert.seq;
        session.expires = expires;
        Ok(Some(session.id))
    }

    /// V5, and the end of V4: frees what `node` holds and does not keep.
    fn release(&mut self, node: NodeId, keeps: impl Fn(VipId) -> bool) -> Freed {
        let mut freed = Freed::new();
        for (vip, seat) in self.vips.iter_mut().filter(|(vip, s)| s.holder == Some(node) && !keeps(**vip)) {
            seat.holder = None;
            for address in seat.addresses.drain(..) {
                self.taken.remove(&address);
            }
            freed.push((*vip, seat.term));
        }
        self.changes += u64::from(!freed.is_empty());
        freed
    }

    /// V3.
    fn judge(&mut self, from: NodeId, bid: &Bid, open: bool) -> Verdict {
        let verdict = |term, grant| Verdict { vip: bid.vip, term, grant };
        let may_grant = open || bid.holds.is_some();
        if !self.vips.contains_key(&bid.vip) && !self.make_room() {
            return verdict(Term::default(), Grant::Free);
        }
        let free = self.vips.get(&bid.vip).is_none_or(|seat| seat.holder.is_none());
        let overlap = if free && bid.want { self.overlap(bid) } else { None };
        let seat = self.vips.entry(bid.vip).or_default();
        match (seat.holder, overlap) {
            (Some(holder), _) if holder == from => {
                self.changes += u64::from(seat.term < bid.term);
                seat.term = seat.term.max(bid.term);
                verdict(seat.term, Grant::Granted)
            }
            (Some(by), _) => verdict(seat.term, Grant::Held { by }),
            (None, _) if !bid.want || !may_grant => verdict(seat.term, Grant::Free),
            (None, Some(by)) => verdict(seat.term, Grant::Overlaps { by }),
            (None, None) => {
                self.changes += 1;
                // An owner that a restarted voter has forgotten keeps its term; a new owner gets a greater one.
                let resumes = bid.holds.is_some_and(|held| held >= seat.term);
                seat.term = if resumes { seat.term.max(bid.term) } else { seat.term.max(bid.term).next() };
                seat.holder = Some(from);
                seat.addresses.clone_from(&bid.addresses);
                self.taken.extend(bid.addresses.iter().map(|address| (*address, bid.vip)));
                verdict(seat.term, Grant::Granted)
            }
        }
    }

    /// Made-up VIPs must not keep real ones out: of those that nobody holds, the one with the lowest term goes.
    fn make_room(&mut self) -> bool {
        if self.vips.len() < MAX_KNOWN_VIPS {
            return true;
        }
        let unheld = self.vips.iter().filter(|(_, seat)| seat.holder.is_none());
        let least = unheld.min_by_key(|(_, seat)| seat.term).map(|(vip, _)| *vip);
        self.changes += 1;
        least.is_some_and(|vip| self.vips.remove(&vip).is_some())
    }

    /// Who holds another VIP that shares an address with this one.
    fn overlap(&self, bid: &Bid) -> Option<NodeId> {
        let mut taken = bid.addresses.iter().filter_map(|address| self.taken.get(address));
        taken.find(|vip| **vip != bid.vip).and_then(|vip| self.vips.get(vip)?.holder)
    }

    fn answer(&self, advert: &Advert, rules: &Rules, session: u64, refusal: Option<Refusal>) -> Answer {
        Answer {
            seq: advert.seq,
            incarnation: self.incarnation,
            voters: rules.stamp,
            session,
            lease_us: u64::try_from(self.timers.lease.as_micros()).unwrap_or(u64::MAX),
            refusal,
            verdicts: Arc::default(),
        }
    }
}

fn left_ms(until: Instant, now: Instant) -> u32 {
    u32::try_from(until.since(now).as_millis()).unwrap_or(u32::MAX)
}
