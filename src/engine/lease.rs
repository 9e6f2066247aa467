//! The candidate's half of the quorum leases: which grants it has, and until when it may count on them.
//!
//! H1 a grant counts from the moment its advert was sent. H2 a VIP is held while a majority's grants are alive.
//! H3 the gate of a VIP closes at the Q-th largest of their ends. H4 a voter that restarted has forgotten.
//! M5 an answer to an advert before the last one that did not want the VIP is no grant of it.

use super::time::{Instant, Timers};
use haclusterd_proto::cluster::{
    Answer, Bid, Grant, MAX_VOTERS, Refusal, Verdict, VoterSet, VotersStamp, is_same,
};
use haclusterd_proto::{Incarnation, NodeId, Term, VipId};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
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
    /// What the last advert wanted.
    wanted: BTreeSet<VipId>,
    /// The last advert that did not want what the last one did.
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
    /// The verdicts by which `vips` is what it is.
    #[serde(skip)] // nothing follows from it
    heeded: Option<Arc<[Verdict]>>,
    /// How many of them are grants.
    #[serde(skip)]
    granted: usize,
}

/// What an answer brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// It answers a later advert than any before.
    pub fresh: bool,
    /// Worth another advert at once: a session was opened, or terms must be made equal.
    pub ask: bool,
    /// More than that leases last longer.
    pub moved: bool,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Seen {
    term: Term,
    grant: Grant,
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

    /// What all adverts from the next one on want.
    pub fn want(&mut self, bids: &[Bid]) {
        let wanted: BTreeSet<VipId> = bids.iter().filter(|bid| bid.want).map(|bid| bid.vip).collect();
        self.omitted.extend(wanted.difference(&self.wanted).map(|vip| (*vip, self.seq)));
        // What an advert does not want it gives back, also what voters have granted before it.
        self.omitted.retain(|vip, _| wanted.contains(vip));
        self.inherited.retain(|vip, _| wanted.contains(vip));
        for voter in self.voters.values_mut() {
            let before = voter.vips.len();
            voter.vips.retain(|vip, seen| wanted.contains(vip) || seen.grant != Grant::Granted);
            if voter.vips.len() != before {
                voter.heeded = None;
            }
        }
        self.wanted = wanted;
    }

    /// A new sequence number for an advert. H1.
    pub fn send(&mut self, now: Instant) -> u64 {
        self.seq += 1;
        if self.sent.len() == MAX_SENT {
            self.sent.pop_front();
        }
        self.sent.push_back((self.seq, now));
        self.seq
    }

    #[must_use]
    pub fn session(&self, voter: NodeId) -> u64 {
        self.voters.get(&voter).map_or(0, |v| v.session)
    }

    pub fn answer(&mut self, from: NodeId, answer: &Answer, timers: &Timers, now: Instant) -> News {
        let sent = self.sent.iter().find(|(seq, _)| *seq == answer.seq).map(|(_, at)| *at);
        let (Some(sent), Some(voter)) = (sent, self.voters.get_mut(&from)) else { return News::default() };
        if answer.seq <= voter.answered {
            return News::default();
        }
        voter.answered = answer.seq;
        voter.rtt = now.since(sent);
        let mut moved = voter.refusal != answer.refusal;
        voter.refusal = answer.refusal;
        if voter.incarnation.replace(answer.incarnation) != Some(answer.incarnation) {
            moved = true;
            voter.forget(); // H4
        }
        if answer.refusal.is_some() {
            return News { fresh: true, ask: false, moved }; // what it granted before, it honours to the end
        }
        if answer.session != voter.session {
            voter.forget();
            voter.session = answer.session;
            return News { fresh: true, ask: true, moved: true };
        }
        if answer.voters != self.stamp {
            return News { fresh: true, ask: false, moved };
        }
        // The voter may go by another lease than this node: the shorter counts.
        voter.until = voter.until.max(sent + timers.holder_of(Duration::from_micros(answer.lease_us)));
        if voter.heeded.as_ref().is_some_and(|heeded| is_same(heeded, &answer.verdicts)) {
            return News { fresh: true, ask: false, moved };
        }
        let said = std::mem::take(&mut voter.vips);
        for verdict in answer.verdicts.iter() {
            let stale = match self.wanted.contains(&verdict.vip) {
                true => self.omitted.get(&verdict.vip).is_some_and(|omitted| answer.seq <= *omitted),
                false => true,
            };
            // M5
            if verdict.grant != Grant::Granted || !stale {
                voter.vips.insert(verdict.vip, Seen { term: verdict.term, grant: verdict.grant });
            }
        }
        voter.granted = voter.vips.values().filter(|seen| seen.grant == Grant::Granted).count();
        voter.heeded = (voter.vips.len() == answer.verdicts.len()).then(|| answer.verdicts.clone());
        let news = voter.vips.iter().any(|(vip, seen)| said.get(vip).map(|old| old.term) != Some(seen.term));
        // Without news another advert would get the same answer, as fast as the network can carry it.
        News { fresh: true, ask: news && self.terms_differ(now), moved: true }
    }

    /// H3: until when this node may serve the VIP. `None`: not at all.
    #[must_use]
    pub fn gate(&self, vip: VipId, now: Instant) -> Option<Instant> {
        let kth = self.kth(self.grants(vip, now).map(|(_, until)| until));
        let inherited = self.inherited.get(&vip).copied().filter(|until| *until > now);
        kth.max(inherited)
    }

    /// Until when this node may serve everything that it wants: no VIP's gate closes before.
    #[must_use]
    pub fn common_gate(&self, now: Instant) -> Option<Instant> {
        let whole = |voter: &&AtVoter| {
            voter.until > now && voter.heeded.is_some() && voter.granted == self.wanted.len()
        };
        self.kth(self.voters.values().filter(whole).map(|voter| voter.until))
    }

    /// The end until which a majority's grants last, of the ends of those that granted.
    fn kth(&self, ends: impl Iterator<Item = Instant>) -> Option<Instant> {
        let mut all = [Instant::default(); MAX_VOTERS];
        let mut count = 0;
        ends.take(MAX_VOTERS).for_each(|end| {
            all[count] = end;
            count += 1;
        });
        let all = &mut all[..count];
        all.sort_unstable();
        count.checked_sub(self.quorum.max(1)).map(|at| all[at])
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

    /// Which voters listen to this node, a bit each.
    #[must_use]
    pub fn contact_bits(&self, now: Instant) -> u8 {
        self.voters.values().fold(0, |bits, voter| bits << 1 | u8::from(voter.until > now))
    }

    /// Who holds the VIP, by a majority of the voters' last words; `Ok` when it is free for the taking.
    pub fn free(&self, vip: VipId, now: Instant) -> Result<(), Option<NodeId>> {
        let mut free = 0;
        let mut holder = None;
        for voter in self.voters.values().filter(|v| v.until > now) {
            match voter.vips.get(&vip).map(|seen| seen.grant) {
                Some(Grant::Held { by } | Grant::Overlaps { by }) => holder = Some(by),
                Some(Grant::Granted | Grant::Free) => free += 1,
                None => {}
            }
        }
        if free >= self.quorum.max(1) { Ok(()) } else { Err(holder) }
    }

    /// A voter told that a lease has ended.
    pub fn freed(&mut self, from: NodeId, vip: VipId, term: Term) {
        let Some(voter) = self.voters.get_mut(&from) else { return };
        // Only of a VIP that this voter was asked about.
        if let Some(seen) = voter.vips.get_mut(&vip)
            && !matches!(seen.grant, Grant::Granted)
            && seen.term <= term
        {
            *seen = Seen { term, grant: Grant::Free };
            voter.heeded = None;
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
        self.heeded = None;
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
            verdicts: [Verdict { vip: VIP, term: Term(1), grant }].into(),
        }
    }

    fn bid() -> Bid {
        let (priority, holds, addresses) = Default::default();
        Bid { vip: VIP, priority, ready: true, want: true, holds, pinned: false, term: Term(1), addresses }
    }

    /// Two of three voters have granted the VIP to an advert sent at 0.
    fn granted(lease_ms: u64) -> Lease {
        let voters = (1..=3).map(node).collect();
        let set = VoterSet { voters, ..VoterSet::first(ClusterId([0; 16]), node(1)) };
        let mut lease = Lease::default();
        lease.adopt(&set, &[], at(0));
        lease.want(&[bid()]);
        for _ in 0..2 {
            // The first answer opens the session, the second grants.
            let seq = lease.send(at(0));
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
    fn the_same_verdicts_prolong_and_are_no_news() {
        let mut lease = granted(500);
        let seq = lease.send(at(50));
        for voter in [1, 2] {
            let answer = answer(&lease, seq, 500, Grant::Granted);
            let news = lease.answer(node(voter), &answer, &TIMERS, at(51));
            assert_eq!(news, News { fresh: true, ..News::default() });
        }
        assert_eq!(lease.gate(VIP, at(51)), Some(at(50) + TIMERS.holder()));
        assert_eq!(lease.common_gate(at(51)), Some(at(50) + TIMERS.holder()));
    }

    #[test]
    fn nothing_is_prolonged_as_one_before_all_that_is_wanted_is_granted() {
        let mut lease = granted(500);
        lease.want(&[bid(), Bid { vip: VipId(8), ..bid() }]);
        let seq = lease.send(at(10));
        for voter in [1, 2] {
            let answer = answer(&lease, seq, 500, Grant::Granted);
            lease.answer(node(voter), &answer, &TIMERS, at(11));
        }
        assert_eq!(lease.common_gate(at(11)), None);
        assert!(lease.gate(VIP, at(11)).is_some());
    }

    #[test]
    fn the_shorter_of_both_leases_counts() {
        assert!(granted(100).gate(VIP, at(1)).unwrap() < at(100));
        assert_eq!(granted(5000).gate(VIP, at(1)), Some(at(0) + TIMERS.holder()));
    }

    #[test]
    fn what_was_released_is_held_no_more_and_not_free_either() {
        let mut lease = granted(500);
        lease.want(&[]);
        let seq = lease.send(at(10));
        assert_eq!(lease.gate(VIP, at(11)), None);
        assert!(lease.free(VIP, at(11)).is_err(), "nobody has said that it is free");
        let late = answer(&lease, seq, 500, Grant::Granted);
        lease.answer(node(1), &late, &TIMERS, at(12));
        assert_eq!(lease.gate(VIP, at(12)), None, "an answer to the release is no grant");
    }
}
