//! The candidate's half of the quorum leases: which grants it has, and until when it may count on them.
//!
//! H1 a grant counts from the moment its advert was sent. H2 a VIP is held while a majority's grants are alive.
//! H3 the gate of a VIP closes at the Q-th largest of their ends. H4 a voter that restarted has forgotten.
//! M5 an answer to an advert before the last one that did not want the VIP is no grant of it.

use super::time::{Instant, Timers};
use haclusterd_proto::cluster::{Answer, Grant, Refusal, VoterSet, VotersStamp};
use haclusterd_proto::{Incarnation, NodeId, Term, VipId};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Adverts whose send time is remembered. Older ones are worthless: their grants have ended.
const MAX_SENT: usize = 128;
/// Below this a round trip is not worth measuring.
const MIN_PATIENCE: Duration = Duration::from_millis(20);

#[derive(Clone, Debug, Default, Serialize)]
pub struct Lease {
    seq: u64,
    sent: VecDeque<(u64, Instant)>,
    voters: BTreeMap<NodeId, AtVoter>,
    omitted: BTreeMap<VipId, u64>,
    /// Gates that grants from before still hold open: of the voter set before, or to the run before.
    inherited: BTreeMap<VipId, Instant>,
    /// The run of this node whose sessions this one asks for.
    predecessor: Option<Incarnation>,
    quorum: usize,
    stamp: VotersStamp,
}

/// What one voter has last said.
#[derive(Clone, Debug, Default, Serialize)]
struct AtVoter {
    incarnation: Option<Incarnation>,
    session: u64,
    /// The session is the predecessor's, and this voter has not said yet whether it is this run's too.
    asks: bool,
    answered: u64,
    until: Instant,
    rtt: Duration,
    refusal: Option<Refusal>,
    vips: BTreeMap<VipId, Seen>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Seen {
    term: Term,
    grant: Grant,
    at: Instant,
}

impl Lease {
    /// Starts to count by another voter set. `held`: what is held by other rules now, and until when it may be
    /// kept without this set's grants.
    pub fn adopt(&mut self, set: &VoterSet, held: &[(VipId, Instant)], now: Instant) {
        let vips: Vec<VipId> = self
            .voters
            .values()
            .flat_map(|v| v.vips.keys().copied())
            .chain(self.inherited.keys().copied())
            .collect();
        let gates: Vec<_> = vips.into_iter().filter_map(|vip| Some((vip, self.gate(vip, now)?))).collect();
        self.inherited = gates.into_iter().chain(held.iter().copied()).collect();
        self.voters.retain(|node, _| set.contains(*node));
        for node in &set.voters {
            self.voters.entry(*node).or_default();
        }
        self.quorum = set.quorum();
        self.stamp = set.stamp();
    }

    /// Asks for the sessions of an earlier run of this node.
    pub fn succeed(&mut self, run: Incarnation, sessions: &[(NodeId, u64)]) {
        self.predecessor = Some(run);
        for (node, session) in sessions {
            if let Some(voter) = self.voters.get_mut(node) {
                (voter.session, voter.asks) = (*session, true);
            }
        }
    }

    /// The earlier run held the VIP, and its gate is open until then.
    pub fn inherit(&mut self, vip: VipId, until: Instant) {
        self.inherited.insert(vip, until);
    }

    /// The run whose session at this voter is asked for.
    #[must_use]
    pub fn resumes(&self, voter: NodeId) -> Option<Incarnation> {
        self.predecessor.filter(|_| self.voters.get(&voter).is_some_and(|v| v.asks))
    }

    /// All sessions that are open.
    pub fn sessions(&self) -> impl Iterator<Item = (NodeId, u64)> {
        self.voters.iter().filter(|(_, v)| v.session != 0).map(|(node, v)| (*node, v.session))
    }

    /// A new sequence number, for an advert that wants the VIPs marked so. H1.
    pub fn send(&mut self, wants: &[(VipId, bool)], now: Instant) -> u64 {
        self.seq += 1;
        if self.sent.len() == MAX_SENT {
            self.sent.pop_front();
        }
        self.sent.push_back((self.seq, now));
        for (vip, _) in wants.iter().filter(|(_, wanted)| !wanted) {
            self.omitted.insert(*vip, self.seq);
        }
        // What this advert does not want it gives back, also what voters have granted before it.
        let wanted = |vip: &VipId| wants.contains(&(*vip, true));
        self.inherited.retain(|vip, _| wanted(vip));
        for voter in self.voters.values_mut() {
            voter.vips.retain(|vip, seen| wanted(vip) || !matches!(seen.grant, Grant::Granted));
        }
        self.seq
    }

    #[must_use]
    pub fn session(&self, voter: NodeId) -> u64 {
        self.voters.get(&voter).map_or(0, |v| v.session)
    }

    /// True: worth another advert at once (a session was opened, or terms must be made equal).
    pub fn answer(&mut self, from: NodeId, answer: &Answer, timers: &Timers, now: Instant) -> bool {
        let sent = self.sent.iter().find(|(seq, _)| *seq == answer.seq).map(|(_, at)| *at);
        let (Some(sent), Some(voter)) = (sent, self.voters.get_mut(&from)) else { return false };
        if answer.seq <= voter.answered {
            return false;
        }
        voter.answered = answer.seq;
        voter.rtt = now.since(sent);
        voter.refusal = answer.refusal;
        if voter.incarnation.replace(answer.incarnation) != Some(answer.incarnation) {
            voter.forget(); // H4
        }
        if answer.refusal.is_some() {
            return false; // what it granted before, it honours to the end
        }
        if answer.session != voter.session {
            voter.forget();
            voter.session = answer.session;
            return true;
        }
        if answer.voters != self.stamp {
            return false;
        }
        // The voter may go by another lease than this node: the shorter counts.
        voter.until = voter.until.max(sent + timers.holder_of(Duration::from_micros(answer.lease_us)));
        let said = std::mem::take(&mut voter.vips);
        for verdict in &answer.verdicts {
            let omitted = self.omitted.get(&verdict.vip).copied().unwrap_or(0);
            let stale = matches!(verdict.grant, Grant::Granted) && answer.seq <= omitted; // M5
            if !stale {
                let seen = Seen { term: verdict.term, grant: verdict.grant, at: now };
                voter.vips.insert(verdict.vip, seen);
            }
        }
        let news = voter.vips.iter().any(|(vip, seen)| said.get(vip).map(|old| old.term) != Some(seen.term));
        // Without news another advert would get the same answer, as fast as the network can carry it.
        news && self.terms_differ(now)
    }

    /// H3: until when this node may serve the VIP. `None`: not at all.
    #[must_use]
    pub fn gate(&self, vip: VipId, now: Instant) -> Option<Instant> {
        let mut ends: Vec<Instant> = self.grants(vip, now).map(|(_, until)| until).collect();
        ends.sort_unstable();
        let kth = ends.len().checked_sub(self.quorum.max(1)).map(|at| ends[at]);
        let inherited = self.inherited.get(&vip).copied().filter(|until| *until > now);
        kth.max(inherited)
    }

    /// The term under which this node may begin to serve: a majority has granted it in this very term.
    #[must_use]
    pub fn opening_term(&self, vip: VipId, now: Instant) -> Option<Term> {
        let highest = self.grants(vip, now).map(|(term, _)| term).max()?;
        let agreed = self.grants(vip, now).filter(|(term, _)| *term == highest).count();
        (agreed >= self.quorum.max(1)).then_some(highest)
    }

    /// Do enough voters listen to this node for it to be a candidate?
    #[must_use]
    pub fn in_contact(&self, now: Instant) -> bool {
        self.contacts(now) >= self.quorum.max(1)
    }

    #[must_use]
    pub fn contacts(&self, now: Instant) -> usize {
        self.voters.values().filter(|v| v.until > now).count()
    }

    /// Who holds the VIP, by a majority of the voters' last words; `Ok` when it is free for the taking.
    pub fn free(&self, vip: VipId, now: Instant) -> Result<(), Option<NodeId>> {
        let mut free = 0;
        let mut holder = None;
        for voter in self.voters.values().filter(|v| v.until > now) {
            match voter.vips.get(&vip).map(|s| (s.grant, s.at)) {
                Some((Grant::Held { by, left_ms }, at))
                    if at + Duration::from_millis(left_ms.into()) > now =>
                {
                    holder = Some(by);
                }
                Some((Grant::Overlaps { by }, _)) => holder = Some(by),
                Some(_) => free += 1,
                None => {}
            }
        }
        if free >= self.quorum.max(1) { Ok(()) } else { Err(holder) }
    }

    /// A voter told that a lease has ended.
    pub fn freed(&mut self, from: NodeId, vip: VipId, term: Term, now: Instant) {
        let Some(voter) = self.voters.get_mut(&from) else { return };
        // Only of a VIP that this voter was asked about.
        if let Some(seen) = voter.vips.get_mut(&vip)
            && !matches!(seen.grant, Grant::Granted)
            && seen.term <= term
        {
            *seen = Seen { term, grant: Grant::Free, at: now };
        }
    }

    /// How long to wait for a majority before the attempt is given up (H6).
    #[must_use]
    pub fn patience(&self) -> Duration {
        let slowest = self.voters.values().map(|v| v.rtt).max().unwrap_or_default();
        (slowest * 3).clamp(MIN_PATIENCE, Duration::from_secs(1))
    }

    /// The highest term that any voter has told of.
    #[must_use]
    pub fn highest_term(&self, vip: VipId) -> Term {
        self.voters.values().filter_map(|v| v.vips.get(&vip)).map(|s| s.term).max().unwrap_or_default()
    }

    #[must_use]
    pub fn refusals(&self) -> Vec<(NodeId, Refusal)> {
        self.voters.iter().filter_map(|(node, v)| Some((*node, v.refusal?))).collect()
    }

    #[must_use]
    pub fn rtt(&self, voter: NodeId) -> Option<Duration> {
        self.voters.get(&voter).filter(|v| v.answered > 0).map(|v| v.rtt)
    }

    /// Has every live grant of the VIP been renewed by this voter? Then its bid needs no addresses.
    #[must_use]
    pub fn granted_by(&self, voter: NodeId, vip: VipId) -> bool {
        self.voters
            .get(&voter)
            .and_then(|v| v.vips.get(&vip))
            .is_some_and(|s| matches!(s.grant, Grant::Granted))
    }

    fn grants(&self, vip: VipId, now: Instant) -> impl Iterator<Item = (Term, Instant)> {
        self.voters.values().filter(move |v| v.until > now).filter_map(move |voter| {
            let seen = voter.vips.get(&vip)?;
            matches!(seen.grant, Grant::Granted).then_some((seen.term, voter.until))
        })
    }

    fn terms_differ(&self, now: Instant) -> bool {
        let vips = self.voters.values().flat_map(|v| v.vips.keys().copied());
        vips.into_iter().any(|vip| {
            let enough = self.grants(vip, now).count() >= self.quorum.max(1);
            enough && self.opening_term(vip, now).is_none()
        })
    }
}

impl AtVoter {
    fn forget(&mut self) {
        self.until = Instant::default();
        (self.session, self.asks) = (0, false);
        self.vips.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use haclusterd_proto::ClusterId;
    use haclusterd_proto::cluster::Verdict;

    const TIMERS: Timers = Timers { advert: Duration::from_millis(50), lease: Duration::from_millis(500) };
    const VIP: VipId = VipId(7);

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    fn node(n: u8) -> NodeId {
        NodeId([n; 16])
    }

    fn answer(lease: &Lease, seq: u64, lease_ms: u64, grant: Grant) -> Answer {
        Answer {
            seq,
            incarnation: Incarnation(1),
            voters: lease.stamp,
            session: 4,
            lease_us: lease_ms * 1000,
            refusal: None,
            verdicts: vec![Verdict { vip: VIP, term: Term(1), grant }],
        }
    }

    /// Two of three voters have granted the VIP to an advert sent at 0.
    fn granted(lease_ms: u64) -> Lease {
        let voters = (1..=3).map(node).collect();
        let set = VoterSet { voters, ..VoterSet::first(ClusterId([0; 16]), node(1)) };
        let mut lease = Lease::default();
        lease.adopt(&set, &[], at(0));
        for _ in 0..2 {
            // The first answer opens the session, the second grants.
            let seq = lease.send(&[(VIP, true)], at(0));
            for voter in [1, 2] {
                let answer = answer(&lease, seq, lease_ms, Grant::Granted);
                lease.answer(node(voter), &answer, &TIMERS, at(1));
            }
        }
        lease
    }

    #[test]
    fn a_grant_counts_from_the_moment_its_advert_was_sent() {
        assert_eq!(granted(500).gate(VIP, at(1)), Some(at(0) + TIMERS.holder()));
        assert_eq!(granted(500).opening_term(VIP, at(1)), Some(Term(1)));
    }

    #[test]
    fn the_shorter_of_both_leases_counts() {
        assert!(granted(100).gate(VIP, at(1)).unwrap() < at(100));
        assert_eq!(granted(5000).gate(VIP, at(1)), Some(at(0) + TIMERS.holder()));
    }

    #[test]
    fn what_was_released_is_held_no_more_and_not_free_either() {
        let mut lease = granted(500);
        let seq = lease.send(&[(VIP, false)], at(10));
        assert_eq!(lease.gate(VIP, at(11)), None);
        assert!(lease.free(VIP, at(11)).is_err(), "nobody has said that it is free");
        let late = answer(&lease, seq, 500, Grant::Granted);
        lease.answer(node(1), &late, &TIMERS, at(12));
        assert_eq!(lease.gate(VIP, at(12)), None, "an answer to the release is no grant");
    }
}
