//! Who votes, and how that changes: one signed version after the other, one voter at a time.
//!
//! Only the issuer makes versions. A version is stored before it is acted by, so that a restart never falls back
//! behind what this node has confirmed. Out of the two-voter mode it takes two versions: both old voters confirm
//! [`Step::Prepare`] before the issuer signs [`Step::Commit`].

use super::time::{Instant, Timers};
use haclusterd_proto::cluster::{MAX_VOTERS, SignedVoters, Step, VoterSet, VotersStamp};
use haclusterd_proto::control::Mode;
use haclusterd_proto::{ClusterId, NodeId};
use serde::Serialize;
use std::time::Duration;

/// A version that was asked for and has neither been signed nor stored by then is asked for again.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Serialize)]
pub struct Voters {
    me: NodeId,
    current: Option<SignedVoters>,
    /// Of `current`.
    stamp: VotersStamp,
    /// On its way to the disk.
    storing: Option<SignedVoters>,
    /// Stored by the issuer, and not acted by until both old voters have confirmed it.
    prepared: Option<SignedVoters>,
    adopted_at: Instant,
    /// Since when a majority acts by `current`.
    settled_since: Option<Instant>,
    /// The version that the issuer's key is asked to sign, and when it was.
    signing: (u64, Instant),
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
    pub cluster: ClusterId,
    pub voters_max: usize,
    /// The issuer itself leaves: its last set is one without it.
    pub leaves: bool,
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
        match self.set().map(|set| (set.voters.len(), set.step)) {
            None => Mode::Joining,
            Some((1, _)) => Mode::Single,
            Some((2, _) | (_, Step::Prepare)) => Mode::TwoNode,
            Some(_) => Mode::Quorum,
        }
    }

    /// In the two-voter mode: the other one.
    #[must_use]
    pub fn other(&self) -> Option<NodeId> {
        let set = self.set().filter(|set| set.voters.len() == 2 && set.contains(self.me))?;
        set.voters.iter().copied().find(|node| *node != self.me)
    }

    /// The version that a node with this stamp should have instead, if any.
    #[must_use]
    pub fn newer_for(&self, node: NodeId, stamp: VotersStamp) -> Option<&SignedVoters> {
        let prepared = self.prepared.as_ref().filter(|next| next.set.contains(node));
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
        let next = |step, voters| Some(VoterSet { cluster: plan.cluster, version, step, voters });
        let set = if set.step == Step::Prepare {
            self.confirmed(&set, others).then(|| next(Step::Commit, set.voters.clone()))?
        } else {
            let since = self.settled_since.or_else(|| self.majority_has(&set, others).then_some(now));
            self.settled_since = since;
            // A lease that the set before granted may outlive the moment at which the majority changed.
            let settled = since.is_some_and(|since| now >= since + timers.lease * 2);
            let voters = settled.then(|| changed(&set, plan, others, self.me))??;
            let leaves_pair = set.voters.len() == 2 && voters.len() == 3;
            next(if leaves_pair { Step::Prepare } else { Step::Plain }, voters)
        };
        self.signing = (version, now);
        set
    }

    /// Have both voters of the two-node mode confirmed `Prepare`? Who restarted in it asks all.
    fn confirmed(&self, prepare: &VoterSet, others: &[Candidate]) -> bool {
        let old = if self.prepared.is_some() { self.set() } else { Some(prepare) };
        let has =
            |node: NodeId| others.iter().any(|o| o.node == node && o.alive && o.stamp == prepare.stamp());
        old.is_some_and(|set| set.voters.iter().all(|node| *node == self.me || has(*node)))
    }

    fn majority_has(&self, set: &VoterSet, others: &[Candidate]) -> bool {
        let has = |node: NodeId| {
            node == self.me || others.iter().any(|o| o.node == node && o.alive && o.stamp == self.stamp)
        };
        set.voters.iter().filter(|node| has(**node)).count() >= set.quorum()
    }
}

/// The voters of the next version: one more while there are too few, or one less when one has left.
fn changed(set: &VoterSet, plan: &Plan, others: &[Candidate], me: NodeId) -> Option<Vec<NodeId>> {
    let left = |node: NodeId| match node == me {
        true => plan.leaves,
        false => others.iter().any(|o| o.node == node && o.left),
    };
    let gone = set.voters.iter().copied().find(|node| left(*node));
    let staying = set.voters.iter().filter(|node| !left(**node)).count();
    let joins = others.iter().find(|o| o.alive && !o.left && o.stamp == set.stamp() && !set.contains(o.node));
    match joins {
        Some(new) if staying < plan.voters_max && set.voters.len() < MAX_VOTERS => {
            Some(set.voters.iter().copied().chain([new.node]).collect())
        }
        _ if staying == 0 => None,
        _ => gone.map(|gone| set.voters.iter().copied().filter(|node| *node != gone).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let plan = Plan { cluster: CLUSTER, voters_max: 3, leaves: false };
        let set = voters.next(&plan, others, &TIMERS, at(ms))?;
        assert!(voters.offer(&sign(set.clone())));
        voters.stored(set.stamp(), at(ms));
        Some(set)
    }

    #[test]
    fn three_voters_come_by_way_of_two_and_a_confirmed_step() {
        let first = VoterSet { cluster: CLUSTER, version: 1, step: Step::Plain, voters: vec![node(1)] };
        let mut voters = Voters::new(node(1), Some(sign(first)), at(0));
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
        let set = VoterSet {
            cluster: CLUSTER,
            version: 4,
            step: Step::Plain,
            voters: vec![node(1), node(2), node(3)],
        };
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
    fn an_older_version_is_never_taken() {
        let set = |version| VoterSet { cluster: CLUSTER, version, step: Step::Plain, voters: vec![node(1)] };
        let mut voters = Voters::new(node(1), Some(sign(set(5))), at(0));
        assert!(!voters.offer(&sign(set(4))) && !voters.offer(&sign(set(5))));
        assert!(voters.offer(&sign(set(6))));
        assert_eq!(voters.stamp().version, 5, "only what is stored counts");
        assert_eq!(voters.stored(set(6).stamp(), at(1)), Stored::Adopted);
    }
}
