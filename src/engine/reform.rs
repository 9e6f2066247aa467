//! What an operator asks of the voters: whether it may be done, and what follows from a set that has been adopted.

use super::voters::VoterChange;
use super::*;
use haclusterd_proto::Role;
use haclusterd_proto::cluster::MAX_VOTERS;
use haclusterd_proto::control::VoterRequest;

impl Engine {
    /// The request with its names resolved, and words for it; or why it cannot be done and what to do instead.
    pub fn judge_voters(
        &self,
        request: &VoterRequest,
        now: Instant,
    ) -> Result<(VoterChange, String), String> {
        self.may_reform()?;
        let set =
            self.voters.set().ok_or("this node has not heard yet who votes: wait until `status` shows it")?;
        let node = |name: &String| self.node_named(name);
        let (change, text) = match request {
            VoterRequest::Add { name, witness } => {
                let (node, witness) = (node(name)?, *witness);
                self.may_add(set, node, witness, name, now)?;
                let what = if witness { "votes as a witness" } else { "votes" };
                (VoterChange::Add { node, witness }, format!("{name} {what}"))
            }
            VoterRequest::Remove { name } => {
                let node = node(name)?;
                self.may_remove(set, node, name, now)?;
                (VoterChange::Remove(node), format!("{name} votes no more"))
            }
            VoterRequest::Expel { name, force } => {
                let node = node(name)?;
                self.may_expel(set, node, name, *force, now)?;
                (VoterChange::Expel(node), format!("{name} is no member any more"))
            }
            VoterRequest::Automatic if !set.chosen => return Err("nobody has chosen the voters".into()),
            VoterRequest::Automatic => {
                (VoterChange::Automatic, "voters are added by themselves again".into())
            }
            VoterRequest::Recover { keep } => {
                let nodes = keep.iter().map(node).collect::<Result<Vec<_>, _>>()?;
                self.may_recover(set, &nodes, now)?;
                (VoterChange::Recover(nodes), format!("only {} vote", keep.join(", ")))
            }
        };
        Ok((change, text))
    }

    fn may_reform(&self) -> Result<(), String> {
        if !self.config.record.issuer {
            let issuers = self.peers.iter().filter_map(|(_, peer)| peer.record()).find(|r| r.issuer);
            let place = issuers.map_or_else(|| "the node that made the cluster".into(), |r| r.name.clone());
            return Err(format!(
                "only the node with the cluster's CA key changes who votes: run this on {place}"
            ));
        }
        if self.drain.is_some() {
            return Err("this node is stopping".into());
        }
        match self.voters.wish() {
            Some(text) => Err(format!(
                "another change is under way ({text}): wait until `haclusterd status` shows it done, then try again"
            )),
            None => Ok(()),
        }
    }

    pub(super) fn node_named(&self, name: &str) -> Result<NodeId, String> {
        if name == self.config.record.name {
            return Ok(self.me());
        }
        let named = |peer: &peers::Peer| peer.record().is_some_and(|r| r.name == name) && !peer.left();
        let known = || self.peers.iter().filter(|(_, peer)| !peer.left()).map(|(node, _)| self.name_of(node));
        self.peers.iter().find(|(_, peer)| named(peer)).map(|(node, _)| node).ok_or_else(|| {
            let all: Vec<String> = known().chain([self.config.record.name.clone()]).collect();
            format!("no member is named {name}; the members are {}", all.join(", "))
        })
    }

    fn heard_of(&self, voters: impl Iterator<Item = NodeId>, now: Instant) -> usize {
        voters.filter(|node| self.is_heard(*node, now)).count()
    }

    fn may_add(
        &self,
        set: &VoterSet,
        node: NodeId,
        witness: bool,
        name: &str,
        now: Instant,
    ) -> Result<(), String> {
        if set.contains(node) && self.voters.is_witness(node) == witness {
            return Err(format!("{name} votes already"));
        }
        if !set.contains(node) && set.voters.len() >= MAX_VOTERS {
            return Err(format!("{MAX_VOTERS} voters are the most: remove one first"));
        }
        if !self.is_heard(node, now) {
            return Err(format!("{name} is not heard: start it, or mend its network, first"));
        }
        Ok(())
    }

    fn may_remove(&self, set: &VoterSet, node: NodeId, name: &str, now: Instant) -> Result<(), String> {
        if !set.contains(node) {
            return Err(format!("{name} does not vote"));
        }
        if set.voters.len() == 1 {
            return Err(format!("{name} is the only voter: add another first"));
        }
        if set.is_guarded_pair() && !self.is_heard(node, now) {
            return Err(format!(
                "{name} is not heard, and might hold a VIP: start it first; or, if it is off for good, `haclusterd remove {name}`"
            ));
        }
        self.leaves_a_majority(set, node, now)
    }

    /// Of those that stay, a majority must be there: without it the next change could not be made either.
    fn leaves_a_majority(&self, set: &VoterSet, node: NodeId, now: Instant) -> Result<(), String> {
        let staying = || set.voters.iter().copied().filter(|voter| *voter != node);
        let (all, heard) = (staying().count(), self.heard_of(staying(), now));
        if heard > all / 2 {
            return Ok(());
        }
        Err(format!(
            "of the {all} voters that would stay only {heard} are heard: start them first, or see `haclusterd voter recover --help`"
        ))
    }

    fn may_expel(
        &self,
        set: &VoterSet,
        node: NodeId,
        name: &str,
        force: bool,
        now: Instant,
    ) -> Result<(), String> {
        if node == self.me() {
            return Err("this node has the cluster's CA key: it stays".into());
        }
        if self.is_heard(node, now) && !force {
            return Err(format!(
                "{name} is alive: run `haclusterd leave` on it, or stop it first; --force removes it all the same, with what it holds"
            ));
        }
        if set.contains(node) { self.leaves_a_majority(set, node, now) } else { Ok(()) }
    }

    fn may_recover(&self, set: &VoterSet, keep: &[NodeId], now: Instant) -> Result<(), String> {
        if self.heard_of(set.voters.iter().copied(), now) >= set.quorum() && set.voters.len() != 2 {
            return Err("a majority of the voters is heard: nothing is to be recovered".into());
        }
        match keep.iter().find(|node| !self.is_heard(**node, now)) {
            Some(silent) => Err(format!("{} is not heard: name only nodes that run", self.name_of(*silent))),
            None if keep.len() > MAX_VOTERS => Err(format!("{MAX_VOTERS} voters are the most")),
            None => Ok(()),
        }
    }

    pub(super) fn change_voters(&mut self, request: &VoterRequest, now: Instant) {
        match self.judge_voters(request, now) {
            Ok((change, text)) => {
                self.info(format!("an operator asks that {text}"), now);
                self.voters.wants(change, text, now);
            }
            Err(reason) => self.info(format!("an operator's change of voters was refused: {reason}"), now),
        }
    }

    /// Who was removed is forgotten, with all that it said.
    pub(super) fn dismiss(&mut self, now: Instant) {
        let removed = self.voters.set().map(|set| set.removed.clone()).unwrap_or_default();
        if removed.contains(&self.me()) {
            self.warn("this node was removed from the cluster by an operator: stop it, move its state directory away, and join again".into(), now);
        }
        if !removed.is_empty() {
            self.peers.remove(&removed);
            self.out.push(Action::Dismiss(removed));
        }
    }

    /// Votes without holding an address: by the role it joined with, or because an operator said so.
    pub(super) fn is_witness(&self) -> bool {
        self.config.record.role == Role::Witness || self.voters.is_witness(self.me())
    }
}
