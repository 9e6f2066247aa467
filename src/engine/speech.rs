//! What the others must hear: adverts to the members, the record to gossip.

use super::*;

impl Engine {
    pub(super) fn advertise(&mut self, now: Instant) {
        let all = std::mem::take(&mut self.dirty) || self.next_idle_advert <= now;
        if all {
            self.next_idle_advert = now + IDLE_ADVERT;
        }
        self.next_advert = now + self.config.timers.advert;
        let seq = self.next_seq(now);
        for to in self.listeners() {
            // A voter tells by its answers that it lives; its own leases it renews with the other voters.
            if !all && !self.voters.is_voter(to) {
                continue;
            }
            let advert = self.advert_for(to, seq, now);
            self.out.push(Action::Send { to, message: Message::Advert(advert) });
        }
        self.ask_self(seq, now);
    }

    pub(super) fn send_advert(&mut self, to: NodeId, now: Instant) {
        let seq = self.next_seq(now);
        let advert = self.advert_for(to, seq, now);
        self.out.push(Action::Send { to, message: Message::Advert(advert) });
    }

    pub(super) fn next_seq(&mut self, now: Instant) -> u64 {
        self.renew_bids(now);
        self.lease.send(now)
    }

    /// The list stays the very same one while nothing in it changes: then nobody looks at it again.
    fn renew_bids(&mut self, now: Instant) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let mut bids: Vec<Bid> = self.vips.iter().map(|vip| self.bid(vip, now)).collect();
        bids.sort_unstable_by_key(|bid| bid.vip);
        if *self.bids != *bids {
            self.bids = bids.into();
            self.lease.want(&self.bids);
        }
    }

    /// Does the last list of bids still say of this VIP what is so?
    pub(super) fn is_told(&self, vip: &VipState, now: Instant) -> bool {
        let at = self.bids.binary_search_by_key(&vip.id(), |bid| bid.vip);
        at.is_ok_and(|at| self.bids[at] == self.bid(vip, now))
    }

    fn bid(&self, vip: &VipState, now: Instant) -> Bid {
        let want = vip.seat.wants();
        Bid {
            vip: vip.id(),
            priority: self.standing(vip, now),
            ready: self.ready(now) && !vip.seat.holds_off(now),
            want,
            holds: vip.seat.holds(),
            pinned: self.pinned(vip, now),
            term: self.highest_term(vip),
            addresses: if want { vip.config.addresses.clone() } else { Vec::new() },
        }
    }

    /// This node's own vote goes the way of all others.
    pub(super) fn ask_self(&mut self, seq: u64, now: Instant) {
        if !self.votes() {
            return;
        }
        let me = self.me();
        let advert = self.advert_for(me, seq, now);
        let (answer, freed) = self.voter.advert(me, &advert, &self.rules(), now);
        self.tell_freed(freed, None);
        if let Some(answer) = answer {
            self.answer(me, &answer, now);
        }
    }

    pub(super) fn advert_for(&self, to: NodeId, seq: u64, now: Instant) -> Advert {
        Advert {
            incarnation: self.config.record.incarnation,
            seq,
            voters: self.voters.stamp(),
            session: self.lease.session(to),
            resumes: self.lease.resumes(to),
            held_down_ms: u32::try_from(self.flaps.left(now).as_millis()).unwrap_or(u32::MAX),
            sick: self.is_sick(self.me()),
            bids: self.bids.clone(),
        }
    }

    /// Everybody who hears our adverts.
    pub(super) fn listeners(&self) -> Vec<NodeId> {
        self.peers.iter().filter(|(_, peer)| !peer.left()).map(|(node, _)| node).collect()
    }

    pub(super) fn publish(&mut self, now: Instant) {
        let leaving = matches!(self.drain, Some(Drain::Leaving { .. } | Drain::Done)) && self.is_leaving();
        let macs = self.vips.iter().filter_map(|v| v.interface.clone().ok());
        let mut macs: Vec<MacAddr> = macs.collect();
        macs.sort_unstable();
        macs.dedup();
        let standing = self.vips.iter().filter_map(|v| self.standing(v, now)).max();
        let record = MemberRecord {
            priority: standing.map(|p| p.0),
            health: self.health.verdict(),
            reason: self.reason(now),
            checks: self.health.states(),
            macs,
            leaving,
            standby: self.standby,
            ..self.config.record.clone()
        };
        if self.published.as_ref() != Some(&record) {
            self.out.push(Action::Publish(Box::new(record.clone())));
            self.published = Some(record);
        }
    }

    /// Why this node is not well, for `members`.
    pub(super) fn reason(&self, now: Instant) -> String {
        if self.is_witness() {
            return self.health.reason();
        }
        let unusable = self.vips.iter().find_map(|v| v.interface.as_ref().err().cloned());
        let broken = self.vips.iter().find_map(|v| v.broken(now));
        let health = Some(self.health.reason()).filter(|r| !r.is_empty());
        health.or(unusable).or(broken).unwrap_or_default()
    }
}
