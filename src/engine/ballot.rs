//! Voting: which set this node acts by, what it asks the issuer's key to sign, and who hears of leases that ended.

use super::*;

impl Engine {
    pub(super) fn offer_voters(&mut self, signed: &SignedVoters) {
        if self.voters.offer(signed) {
            self.out.push(Action::StoreVoters(signed.clone()));
        }
    }

    pub(super) fn voters_stored(&mut self, stamp: VotersStamp, result: Result<(), String>, now: Instant) {
        if let Err(reason) = result {
            self.voters.not_stored();
            self.warn_once(format!("the new voters could not be stored and are not acted by: {reason}"), now);
            return;
        }
        let guarded = self.voters.mode() == Mode::TwoNode && self.voters.step() != Step::Prepare;
        let held = self.vips.iter().filter(|v| guarded && v.seat.holds().is_some());
        let held: Vec<_> = held.map(|v| (v.id(), now + self.config.timers.holder())).collect();
        self.dirty = true;
        if self.voters.stored(stamp, now) == Stored::Nothing {
            return;
        }
        let Some(set) = self.voters.set().cloned() else { return };
        self.lease.adopt(&set, &held, now);
        self.vips.iter_mut().for_each(|vip| vip.addresses.shorten());
        match set.step {
            Step::Commit => self.voter.commit(now),
            Step::Recover => self.voter.recover(now),
            Step::Plain | Step::Prepare => {}
        }
        let names: Vec<String> = set.voters.iter().map(|node| self.name_of(*node)).collect();
        let text =
            format!("voters are now {} (version {}): {}", names.join(", "), set.version, self.protection());
        self.info(text, now);
        // Also to who was removed, for the last time: it should know.
        for to in self.listeners() {
            let stamp = self.peers.get(to).map(peers::Peer::voters).unwrap_or_default();
            if let Some(newer) = self.voters.newer_for(to, stamp) {
                let message = Message::Voters(newer.clone());
                self.out.push(Action::Send { to, message });
            }
        }
        self.dismiss(now);
    }

    pub(super) fn grow_voters(&mut self, now: Instant) {
        let leaves = matches!(self.drain, Some(Drain::Leaving { .. }));
        if !self.config.record.issuer || (self.drain.is_some() && !leaves) {
            return;
        }
        let others: Vec<Candidate> = self
            .peers
            .iter()
            .map(|(node, peer)| Candidate {
                node,
                alive: peer.alive(&self.config.timers, now) && peer.record().is_some() && !peer.cloned(now),
                left: peer.left(),
                stamp: peer.voters(),
            })
            .collect();
        if let Some(text) = self.voters.give_up(now) {
            self.warn(format!("given up, because no majority of the voters is heard: {text}"), now);
        }
        let plan = Plan { voters_max: self.config.voters_max, leaves, strict: self.config.strict_pair };
        if let Some(set) = self.voters.next(&plan, &others, &self.config.timers, now) {
            self.out.push(Action::SignVoters(set));
        }
    }

    /// A node that leaves has drained, and promises never to grant again: the set without it relies on that.
    pub(super) fn votes(&self) -> bool {
        self.voters.is_voter(self.me()) && !matches!(self.drain, Some(Drain::Leaving { .. } | Drain::Done))
    }

    pub(super) fn rules(&self) -> Rules {
        Rules { stamp: self.voters.stamp(), is_voter: self.votes(), step: self.voters.step() }
    }

    pub(super) fn tell_freed(&mut self, freed: Freed, except: Option<NodeId>) {
        if freed.is_empty() {
            return;
        }
        let me = self.me();
        self.moved = true;
        for (vip, term) in &freed {
            self.lease.freed(me, *vip, *term);
        }
        let message = Message::Freed(haclusterd_proto::cluster::Freed { vips: freed });
        for to in self.listeners().into_iter().filter(|to| Some(*to) != except) {
            self.out.push(Action::Send { to, message: message.clone() });
        }
    }
}
