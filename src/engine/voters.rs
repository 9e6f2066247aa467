//! Who votes, and how that changes: one signed version after the other, one voter at a time.
//!
//! Only the issuer makes versions. A version is stored before it is acted by, so that a restart never falls back
//! behind what this node has confirmed. Between the two-voter mode and a majority it takes two versions: both of the
//! pair confirm [`Step::Prepare`] before the issuer signs [`Step::Commit`].

use super::time::{Instant, Timers};
use haclusterd_proto::NodeId;
use haclusterd_proto::cluster::{MAX_REMOVED, MAX_VOTERS, SignedVoters, Step, VoterSet, VotersStamp};
use haclusterd_proto::control::Mode;
use serde::Serialize;
use std::time::Duration;

/// A version that was asked for and has neither been signed nor stored by then is asked for again.
const PATIENCE: Duration = Duration::from_secs(5);
/// An operator's wish that could not be begun by then is given up: he has long looked elsewhere.
const WISH: Duration = Duration::from_secs(60);

/// What an operator wants; one such wish at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum VoterChange {
    /// It votes; `witness`: and holds no address.
    Add { node: NodeId, witness: bool },
    /// It votes no more, and stays a member.
    Remove(NodeId),
    /// It is a member no more.
    Expel(NodeId),
    /// The issuer adds voters by itself again.
    Automatic,
    /// The other voters are off for good, so an operator vouches.
    Recover(Vec<NodeId>),
}

#[derive(Clone, Debug, Serialize)]
struct Wish {
    change: VoterChange,
    /// For an operator to read.
    text: String,
    since: Instant,
    /// The first version that brings it about.
    version: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Voters {
    me: NodeId,
    current: Option<SignedVoters>,
    /// Of `current`.
    stamp: VotersStamp,
    /// On its way to the disk.
    storing: Option<SignedVoters>,
    /// Stored by the issuer, and not acted by until the pair has confirmed it.
    prepared: Option<SignedVoters>,
    adopted_at: Instant,
    /// Since when a majority acts by `current`.
    settled_since: Option<Instant>,
    /// The version that the issuer's key is asked to sign, and when it was.
    signing: (u64, Instant),
    wish: Option<Wish>,
}

/// What the issuer knows of another node when it thinks about the next version.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    pub node: NodeId,
    pub alive: bool,
    pub left: bool,
    pub stamp: VotersStamp,
}

/// What the issuer is to bring about.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub voters_max: usize,
    /// The issuer itself leaves: its last set is one without it.
    pub leaves: bool,
    /// Two voters are to need each other.
    pub strict: bool,
}

/// What follows from a version that has reached the disk.
#[derive(Debug, PartialEq, Eq)]
pub enum Stored {
    Nothing,
    Adopted,
}

impl Voters {
    #[must_use]
    pub fn new(me: NodeId, stored: Option<SignedVoters>, now: Instant) -> Voters {
        let stamp = stored.as_ref().map(|signed| signed.set.stamp()).unwrap_or_default();
        Voters {
            me,
            current: stored,
            stamp,
            storing: None,
            prepared: None,
            adopted_at: now,
            settled_since: None,
            signing: (0, now),
            wish: None,
        }
    }

    #[must_use]
    pub fn set(&self) -> Option<&VoterSet> {
        self.current.as_ref().map(|signed| &signed.set)
    }

    #[must_use]
    pub fn stamp(&self) -> VotersStamp {
        self.stamp
    }

    #[must_use]
    pub fn adopted_at(&self) -> Instant {
        self.adopted_at
    }

    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.set().is_some_and(|set| set.contains(node))
    }

    #[must_use]
    pub fn step(&self) -> Step {
        self.set().map_or(Step::Plain, |set| set.step)
    }

    #[must_use]
    pub fn mode(&self) -> Mode {
        match self.set() {
            None => Mode::Joining,
            Some(set) if set.step == Step::Prepare || set.is_guarded_pair() => Mode::TwoNode,
            Some(set) if set.voters.len() == 1 => Mode::Single,
            Some(_) => Mode::Quorum,
        }
    }

    /// An operator made it a witness.
    #[must_use]
    pub fn is_witness(&self, node: NodeId) -> bool {
        self.set().is_some_and(|set| set.witnesses.contains(&node))
    }

    #[must_use]
    pub fn is_removed(&self, node: NodeId) -> bool {
        self.set().is_some_and(|set| set.removed.contains(&node))
    }

    /// The operator's wish that is under way.
    #[must_use]
    pub fn wish(&self) -> Option<&str> {
        self.wish.as_ref().map(|wish| wish.text.as_str())
    }

    pub fn wants(&mut self, change: VoterChange, text: String, now: Instant) {
        self.wish = Some(Wish { change, text, since: now, version: None });
    }

    /// The wish that could not be begun in time, once.
    pub fn give_up(&mut self, now: Instant) -> Option<String> {
        let old = |wish: &mut Wish| wish.version.is_none() && now.since(wish.since) >= WISH;
        self.wish.take_if(old).map(|wish| wish.text)
    }

    /// In the two-voter mode: the other one.
    #[must_use]
    pub fn other(&self) -> Option<NodeId> {
        let set = self.set().filter(|set| set.is_guarded_pair() && set.contains(self.me))?;
        set.voters.iter().copied().find(|node| *node != self.me)
    }

    /// The version that a node with this stamp should have instead, if any.
    #[must_use]
    pub fn newer_for(&self, node: NodeId, stamp: VotersStamp) -> Option<&SignedVoters> {
        let prepared = self.prepared.as_ref().filter(|next| next.set.contains(node) || self.is_voter(node));
        [prepared, self.current.as_ref()]
            .into_iter()
            .flatten()
            .find(|signed| signed.set.version > stamp.version)
    }

    /// A version that the edge has verified. True: it is to be stored.
    pub fn offer(&mut self, signed: &SignedVoters) -> bool {
        let known = [&self.current, &self.storing, &self.prepared];
        let newest = known.into_iter().flatten().map(|s| s.set.version).max().unwrap_or(0);
        let news = signed.set.is_sound() && signed.set.version > newest;
        if news {
            self.storing = Some(signed.clone());
        }
        news
    }

    /// The version has reached the disk.
    pub fn stored(&mut self, stamp: VotersStamp, now: Instant) -> Stored {
        let Some(signed) = self.storing.take_if(|signed| signed.set.stamp() == stamp) else {
            return Stored::Nothing;
        };
        let leads = signed.set.step == Step::Prepare && self.signing.0 == stamp.version;
        if leads {
            self.prepared = Some(signed);
            return Stored::Nothing;
        }
        (self.current, self.prepared, self.adopted_at) = (Some(signed), None, now);
        (self.stamp, self.settled_since) = (stamp, None);
        let done = |wish: &mut Wish| wish.version.is_some_and(|first| first <= stamp.version);
        if self.step() != Step::Prepare {
            self.wish.take_if(done);
        }
        Stored::Adopted
    }

    /// The version did not reach the disk: whoever has it offers it again, and the issuer signs it anew.
    pub fn not_stored(&mut self) {
        self.storing = None;
    }

    /// The next version for the issuer to sign, if the last one has settled.
    pub fn next(
        &mut self,
        plan: &Plan,
        others: &[Candidate],
        timers: &Timers,
        now: Instant,
    ) -> Option<VoterSet> {
        // `init` stored the first one. To make another here would found a second cluster.
        let set = self.prepared.as_ref().or(self.current.as_ref()).map(|signed| signed.set.clone())?;
        let version = set.version + 1;
        let asked = self.signing.0 >= version && now.since(self.signing.1) < PATIENCE;
        if asked || self.storing.is_some() {
            return None;
        }
        let next = self.draft(&set, plan, others, timers, now)?;
        self.signing = (version, now);
        Some(VoterSet { version, ..next })
    }

    /// The next version but for its number.
    fn draft(
        &mut self,
        set: &VoterSet,
        plan: &Plan,
        others: &[Candidate],
        timers: &Timers,
        now: Instant,
    ) -> Option<VoterSet> {
        let recovery = self.wish.as_ref().is_some_and(|wish| matches!(wish.change, VoterChange::Recover(_)));
        if set.step == Step::Prepare && !recovery {
            let commit = || VoterSet { step: Step::Commit, confirm: Vec::new(), ..set.clone() };
            return self.confirmed(set, others).then(commit);
        }
        let since = self.settled_since.or_else(|| self.majority_has(set, others).then_some(now));
        self.settled_since = since;
        // A lease that the set before granted may outlive the moment at which the majority changed.
        let settled = since.is_some_and(|since| now >= since + timers.lease * 2);
        if !settled && !recovery {
            return None;
        }
        let Some(wish) = &mut self.wish else { return changed(set, plan, others, self.me) };
        wish.version = Some(set.version + 1);
        Some(wished(set, &wish.change, plan))
    }

    fn confirmed(&self, prepare: &VoterSet, others: &[Candidate]) -> bool {
        let has =
            |node: NodeId| others.iter().any(|o| o.node == node && o.alive && o.stamp == prepare.stamp());
        prepare.confirm.iter().all(|node| *node == self.me || has(*node))
    }

    fn majority_has(&self, set: &VoterSet, others: &[Candidate]) -> bool {
        let has = |node: NodeId| {
            node == self.me || others.iter().any(|o| o.node == node && o.alive && o.stamp == self.stamp)
        };
        set.voters.iter().filter(|node| has(**node)).count() >= set.quorum()
    }
}

/// The next version as an operator wants it.
fn wished(set: &VoterSet, change: &VoterChange, plan: &Plan) -> VoterSet {
    let without = |list: &[NodeId], gone: NodeId| list.iter().copied().filter(|node| *node != gone).collect();
    let with =
        |list: &[NodeId], new: NodeId| list.iter().copied().filter(|n| *n != new).chain([new]).collect();
    let base = VoterSet { step: Step::Plain, chosen: true, ..set.clone() };
    let next = match change {
        VoterChange::Add { node, witness } => {
            let witnesses =
                if *witness { with(&set.witnesses, *node) } else { without(&set.witnesses, *node) };
            let voters = if set.contains(*node) { set.voters.clone() } else { with(&set.voters, *node) };
            VoterSet { voters, witnesses, ..base }
        }
        VoterChange::Remove(node) => VoterSet {
            voters: without(&set.voters, *node),
            witnesses: without(&set.witnesses, *node),
            ..base
        },
        VoterChange::Expel(node) => VoterSet {
            voters: without(&set.voters, *node),
            witnesses: without(&set.witnesses, *node),
            removed: with(&set.removed[set.removed.len().saturating_sub(MAX_REMOVED - 1)..], *node),
            chosen: set.chosen,
            ..base
        },
        VoterChange::Automatic => VoterSet { chosen: false, ..base },
        VoterChange::Recover(keep) => VoterSet {
            voters: keep.clone(),
            witnesses: set.witnesses.iter().copied().filter(|node| keep.contains(node)).collect(),
            step: Step::Recover,
            chosen: set.chosen,
            ..base
        },
    };
    by_way_of_the_pair(set, next, plan, Some(change))
}

/// The next version that nobody had to ask for: one voter more while there are too few, or one less when one has left.
fn changed(set: &VoterSet, plan: &Plan, others: &[Candidate], me: NodeId) -> Option<VoterSet> {
    let left = |node: NodeId| match node == me {
        true => plan.leaves,
        false => others.iter().any(|o| o.node == node && o.left),
    };
    let gone = set.voters.iter().copied().find(|node| left(*node));
    let staying = set.voters.iter().filter(|node| !left(**node)).count();
    let fits = |o: &&Candidate| {
        o.alive
            && !o.left
            && o.stamp == set.stamp()
            && !set.contains(o.node)
            && !set.removed.contains(&o.node)
    };
    let joins = others
        .iter()
        .find(fits)
        .filter(|_| !set.chosen && staying < plan.voters_max && set.voters.len() < MAX_VOTERS);
    let voters = match (joins, gone) {
        (Some(new), _) => set.voters.iter().copied().chain([new.node]).collect(),
        (None, Some(gone)) if staying > 0 => set.voters.iter().copied().filter(|n| *n != gone).collect(),
        (None, _) if set.voters.len() == 2 && set.strict != plan.strict => set.voters.clone(),
        _ => return None,
    };
    let witnesses = set.witnesses.iter().copied().filter(|node| voters.contains(node)).collect();
    Some(by_way_of_the_pair(
        set,
        VoterSet { step: Step::Plain, voters, witnesses, ..set.clone() },
        plan,
        None,
    ))
}

/// Two voters that go by no majority must both have let go of that rule before a majority counts; and before they may
/// begin to go by it, both must have let go of the majority's. Who left has let go of all, and so has who is vouched
/// to be off; not so, as far as the pair can know, a voter that only loses its vote.
fn by_way_of_the_pair(set: &VoterSet, next: VoterSet, plan: &Plan, change: Option<&VoterChange>) -> VoterSet {
    let next = VoterSet { strict: plan.strict, confirm: Vec::new(), ..next };
    let removes = matches!(change, Some(VoterChange::Remove(_)));
    let expels = matches!(change, Some(VoterChange::Expel(_)));
    let out = set.is_guarded_pair() && !next.is_guarded_pair() && (removes || next.voters.len() > 1);
    let into = next.is_guarded_pair() && set.voters.len() > 2 && (removes || expels);
    let confirm = match (next.step, out, into) {
        (Step::Plain, true, _) => set.voters.clone(),
        (Step::Plain, false, true) => next.voters.clone(),
        _ => return next,
    };
    VoterSet { step: Step::Prepare, confirm, ..next }
}

#[cfg(test)]
mod tests {
    use super::*;
    use haclusterd_proto::ClusterId;

    const TIMERS: Timers = Timers { advert: Duration::from_millis(50), lease: Duration::from_millis(500) };
    const CLUSTER: ClusterId = ClusterId([1; 16]);

    fn node(n: u8) -> NodeId {
        NodeId([n; 16])
    }

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    fn sign(set: VoterSet) -> SignedVoters {
        SignedVoters { set, signature: Vec::new() }
    }

    fn other(n: u8, stamp: VotersStamp) -> Candidate {
        Candidate { node: node(n), alive: true, left: false, stamp }
    }

    /// The issuer signs and stores what it wants next.
    fn advance(voters: &mut Voters, others: &[Candidate], ms: u64) -> Option<VoterSet> {
        let plan = Plan { voters_max: 3, leaves: false, strict: false };
        let set = voters.next(&plan, others, &TIMERS, at(ms))?;
        assert!(voters.offer(&sign(set.clone())));
        voters.stored(set.stamp(), at(ms));
        Some(set)
    }

    fn three() -> VoterSet {
        VoterSet { voters: vec![node(1), node(2), node(3)], version: 4, ..VoterSet::first(CLUSTER, node(1)) }
    }

    #[test]
    fn three_voters_come_by_way_of_two_and_a_confirmed_step() {
        let mut voters = Voters::new(node(1), Some(sign(VoterSet::first(CLUSTER, node(1)))), at(0));
        assert_eq!(voters.mode(), Mode::Single);

        let one = voters.stamp();
        assert_eq!(advance(&mut voters, &[other(2, one)], 500), None, "not settled yet");
        advance(&mut voters, &[other(2, one)], 1500).unwrap();
        assert_eq!(voters.mode(), Mode::TwoNode);

        let two = voters.stamp();
        assert_eq!(
            advance(&mut voters, &[other(2, two), other(3, two)], 1600),
            None,
            "since a majority has it"
        );
        let prepare = advance(&mut voters, &[other(2, two), other(3, two)], 3000).unwrap();
        assert_eq!((prepare.step, voters.mode(), voters.stamp()), (Step::Prepare, Mode::TwoNode, two));
        assert_eq!(voters.newer_for(node(2), two).unwrap().set, prepare);

        assert_eq!(advance(&mut voters, &[other(2, two), other(3, prepare.stamp())], 3001), None);
        let commit = advance(&mut voters, &[other(2, prepare.stamp())], 3002).unwrap();
        assert_eq!((commit.step, voters.mode()), (Step::Commit, Mode::Quorum));
        assert_eq!(commit.voters, [node(1), node(2), node(3)]);
    }

    #[test]
    fn a_voter_that_left_is_replaced_or_dropped() {
        let set = three();
        let stamp = set.stamp();
        let gone = Candidate { left: true, ..other(3, stamp) };
        let mut voters = Voters::new(node(1), Some(sign(set)), at(0));
        assert_eq!(advance(&mut voters, &[other(2, stamp), gone], 0), None, "not settled yet");
        let four = advance(&mut voters.clone(), &[other(2, stamp), gone, other(4, stamp)], 2000).unwrap();
        assert_eq!(four.voters.len(), 4);
        let two = advance(&mut voters, &[other(2, stamp), gone], 2000).unwrap();
        assert_eq!(two.voters, [node(1), node(2)]);
    }

    #[test]
    fn an_operators_wish_waits_until_the_last_version_has_settled() {
        let stamp = three().stamp();
        let all = [other(2, stamp), other(3, stamp), other(4, stamp)];
        let mut voters = Voters::new(node(1), Some(sign(three())), at(0));
        voters.wants(VoterChange::Add { node: node(4), witness: true }, "lb4 is to vote".into(), at(0));
        assert_eq!(advance(&mut voters, &all, 0), None);
        assert_eq!(voters.wish(), Some("lb4 is to vote"));
        let four = advance(&mut voters, &all, 2000).unwrap();
        assert_eq!((four.voters.len(), four.witnesses, four.chosen), (4, vec![node(4)], true));
        assert_eq!(voters.wish(), None);
    }

    #[test]
    fn chosen_voters_are_not_added_to() {
        let set = VoterSet { voters: vec![node(1)], chosen: true, ..three() };
        let stamp = set.stamp();
        let mut voters = Voters::new(node(1), Some(sign(set)), at(0));
        assert_eq!(advance(&mut voters, &[other(2, stamp)], 0), None);
        assert_eq!(advance(&mut voters, &[other(2, stamp)], 2000), None);
        voters.wants(VoterChange::Automatic, String::new(), at(2000));
        assert!(!advance(&mut voters, &[other(2, stamp)], 2001).unwrap().chosen);
    }

    #[test]
    fn a_wish_that_cannot_be_begun_is_given_up() {
        let mut voters = Voters::new(node(1), Some(sign(three())), at(0));
        voters.wants(VoterChange::Remove(node(3)), "lb3".into(), at(0));
        assert_eq!(advance(&mut voters, &[], 30_000), None, "no majority is heard");
        assert_eq!((voters.give_up(at(59_999)), voters.give_up(at(60_000))), (None, Some("lb3".into())));
    }

    #[test]
    fn a_recovery_waits_for_nobody() {
        let mut voters = Voters::new(node(1), Some(sign(three())), at(0));
        voters.wants(VoterChange::Recover(vec![node(1)]), String::new(), at(0));
        let alone = advance(&mut voters, &[], 1).unwrap();
        assert_eq!((alone.step, alone.voters, voters.mode()), (Step::Recover, vec![node(1)], Mode::Single));
    }

    #[test]
    fn two_voters_that_are_to_need_each_other_prepare_for_it() {
        let pair = VoterSet { voters: vec![node(1), node(2)], ..three() };
        let stamp = pair.stamp();
        let mut voters = Voters::new(node(1), Some(sign(pair)), at(0));
        let plan = Plan { voters_max: 3, leaves: false, strict: true };
        voters.next(&plan, &[other(2, stamp)], &TIMERS, at(0));
        let prepare = voters.next(&plan, &[other(2, stamp)], &TIMERS, at(2000)).unwrap();
        assert_eq!((prepare.step, prepare.strict), (Step::Prepare, true));
        voters.offer(&sign(prepare.clone()));
        voters.stored(prepare.stamp(), at(2001));
        assert_eq!(voters.mode(), Mode::TwoNode);
        let commit = voters.next(&plan, &[other(2, prepare.stamp())], &TIMERS, at(2002)).unwrap();
        voters.offer(&sign(commit.clone()));
        voters.stored(commit.stamp(), at(2003));
        assert_eq!(voters.mode(), Mode::Quorum);
    }

    #[test]
    fn an_older_version_is_never_taken() {
        let set = |version| VoterSet { version, ..VoterSet::first(CLUSTER, node(1)) };
        let mut voters = Voters::new(node(1), Some(sign(set(5))), at(0));
        assert!(!voters.offer(&sign(set(4))) && !voters.offer(&sign(set(5))));
        assert!(voters.offer(&sign(set(6))));
        assert_eq!(voters.stamp().version, 5, "only what is stored counts");
        assert_eq!(voters.stored(set(6).stamp(), at(1)), Stored::Adopted);
    }
}
