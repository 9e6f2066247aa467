//! What all VIPs depend on. While none of it changes, nothing that came was new, and nothing of a VIP's own is due, there
//! is nothing to decide: what a node does then costs the same for one VIP and for a thousand.

use super::*;

#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct View {
    voters: VotersStamp,
    pub fitness: Option<Priority>,
    sick: bool,
    held_down: bool,
    drains: bool,
    stands_by: bool,
    /// Of a run that has just started, more is presumed than is known.
    starting: [bool; 2],
    /// Which voters heed this node, a bit each.
    contacts: u8,
    /// How each peer is, a byte each.
    peers: Vec<u8>,
}

impl Engine {
    /// Has anything changed that all VIPs depend on?
    pub(super) fn look(&mut self, now: Instant) {
        if self.view.voters != self.voters.stamp() || self.view.peers.len() != self.peers.len() {
            let (voters, votes) = (&self.voters, self.voters.is_voter(self.me()));
            self.peers.set_paces(|node| votes || voters.is_voter(node));
        }
        let mut view = std::mem::take(&mut self.spare);
        view.peers.clear();
        view.peers.extend(self.peers.iter().map(|(_, peer)| {
            let heard = peer.alive(&self.config.timers, now);
            let bits = [heard, peer.left(), peer.is_sick(), !peer.held_down(now).is_zero()];
            bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit))
        }));
        view.voters = self.voters.stamp();
        view.fitness = self.fitness(now);
        view.sick = self.is_sick(self.me());
        view.held_down = !self.flaps.left(now).is_zero();
        view.drains = self.drain.is_some();
        view.stands_by = self.standby;
        view.starting = [tell::GRACE, facts::BOOT_WAIT].map(|wait| now < self.started + wait);
        view.contacts = self.lease.contact_bits(now);
        self.moved |= view != self.view;
        self.spare = std::mem::replace(&mut self.view, view);
        if self.moved {
            self.well = self.is_well(now) && self.vips.iter().all(|vip| vip.interface.is_ok());
        }
    }

    /// Where a single voter or the two-node mode decides, and beside virtual routers, more than the view counts.
    pub(super) fn goes_by_view(&self) -> bool {
        self.voters.mode() == Mode::Quorum && self.voters.step() != Step::Prepare && self.routers.is_empty()
    }

    /// Something that concerns this VIP alone has happened.
    pub(super) fn touch(&mut self, vip: VipId, now: Instant) {
        if let Some(vip) = self.vips.iter_mut().find(|state| state.id() == vip) {
            vip.deadline = Some(now);
            (self.soonest, self.looked) = (Some(now), true);
        }
    }

    /// Nothing is new but that leases last longer: what the kernel keeps open it may keep open for as long.
    pub(super) fn hold_on(&mut self, now: Instant) {
        let Some(until) = self.lease.common_gate(now).filter(|until| *until >= self.fenced + vip::FENCE_STEP)
        else {
            return;
        };
        self.fenced = until;
        let mut some = false;
        for vip in &mut self.vips {
            let seat::Phase::Owner { term, .. } = vip.seat.phase() else { continue };
            if vip.addresses.prolong(until) {
                some = true;
                (vip.owner, vip.until, vip.lapse) = (Owner::Us { term, until }, Some(until), Some(until));
            }
        }
        if some {
            self.out.push(Action::ExtendAll(until));
        }
        self.note_soonest();
    }

    /// When `vip` must be looked at again, although nothing has changed.
    pub(super) fn note_deadline(&mut self, at: usize, now: Instant) {
        let vip = &self.vips[at];
        let facts = self.facts(vip, now);
        let need = self.probe_need(vip, now);
        let owns = matches!(vip.seat.phase(), seat::Phase::Owner { .. });
        let ends = [
            vip.seat.deadline(&facts).filter(|_| !owns),
            vip.seat.held_off_until(),
            vip.addresses.deadline(),
            vip.claims.next_probe(need),
            vip.claims.forgets(),
            vip.broken.as_ref().map(|(_, until)| *until),
            vip.better.map(|(node, since)| since + self.preempt_delay(vip, node, now)),
            vip.pin.and_then(orders::Pin::end),
        ];
        let soonest = ends.into_iter().flatten().filter(|at| *at > now).min();
        let vip = &mut self.vips[at];
        (vip.deadline, vip.lapse) = (soonest, facts.until.filter(|until| owns && *until > now));
    }

    pub(super) fn note_soonest(&mut self) {
        self.soonest = self.vips.iter().filter_map(VipState::next).min();
    }
}
