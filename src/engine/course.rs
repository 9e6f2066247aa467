//! The course of each VIP: the facts are shown to its seat, and its addresses follow.

use super::*;

impl Engine {
    /// Lets the VIPs take the steps that the facts allow, until none is left to take.
    pub(super) fn settle(&mut self, now: Instant) {
        let all = std::mem::take(&mut self.moved) || !self.goes_by_view();
        if !all && self.soonest.is_none_or(|at| now < at) {
            return self.hold_on(now);
        }
        let mut extended = Vec::new();
        for at in 0..self.vips.len() {
            if all || self.vips[at].next().is_some_and(|at| at <= now) {
                self.proceed(at, &mut extended, now);
                self.note_deadline(at, now);
                self.stale = self.stale || all || !self.is_told(&self.vips[at], now);
            }
        }
        self.extend(extended);
        self.note_soonest();
        self.looked |= all || self.stale;
    }

    fn proceed(&mut self, at: usize, extended: &mut Vec<(VipId, Instant)>, now: Instant) {
        self.observe(at, now);
        for _ in 0..4 {
            let facts = self.facts(&self.vips[at], now);
            let vip = &mut self.vips[at];
            vip.until = facts.until;
            let change = vip.seat.step(&facts, now);
            let goal = match (vip.seat.phase(), facts.until) {
                (seat::Phase::Owner { .. }, Some(until)) => Goal::Held(until),
                (seat::Phase::Leaving { gently: true, .. }, Some(until)) if now < until => Goal::Quit,
                _ => Goal::Gone,
            };
            let id = vip.id();
            // Where there is a virtual router too, the addresses follow that one.
            if self.router_of(id).is_none() {
                let (renew, slack) = (self.renew(), self.slack(id));
                let acts = self.vips[at].addresses.follow(goal, renew + slack, now);
                perform(acts, id, slack, &mut self.out, extended);
            }
            match change {
                Some(change) => self.changed(at, &change, now),
                None => break,
            }
        }
    }

    /// All at once: it is one call of the kernel.
    pub(super) fn extend(&mut self, extended: Vec<(VipId, Instant)>) {
        if !extended.is_empty() {
            self.out.push(Action::Extend(extended));
        }
    }

    /// Notes since when things have been as they are.
    pub(super) fn observe(&mut self, at: usize, now: Instant) {
        let vip = &self.vips[at];
        let free = self.is_free(vip, now);
        let owns = matches!(vip.seat.phase(), seat::Phase::Owner { .. });
        let better = self.better(vip, now).filter(|_| owns);
        let need = self.probe_need(vip, now);
        let vip = &mut self.vips[at];
        vip.free_since = if free { vip.free_since.or(Some(now)) } else { None };
        vip.better = match (vip.better, better) {
            (Some((old, since)), Some(new)) if old == new => Some((old, since)),
            (_, new) => new.map(|node| (node, now)),
        };
        if vip.claims.probe(need, now) {
            let id = vip.id();
            self.out.push(Action::Probe(id));
        }
        if let Some(reason) = self.waits_for(&self.vips[at], now) {
            self.warn_once(reason, now);
        }
        self.note_contest(at, owns, now);
        let owner = self.owner_of(&self.vips[at], now);
        let vip = &mut self.vips[at];
        if same_owner(vip.owner, owner) {
            vip.owner = owner; // only its lease is new
            return;
        }
        (vip.owner, vip.owner_since) = (owner, now);
        self.note_owner(at, owner);
        if let Owner::Peer(node) = owner {
            let text = format!("{}: {} owns it now", self.vips[at].config.name, self.name_of(node));
            self.info(text, now);
        }
    }

    fn note_owner(&mut self, at: usize, owner: Owner) {
        let name = match owner {
            Owner::Nobody => return,
            Owner::Us { .. } => self.config.record.name.clone(),
            Owner::Peer(node) => self.name_of(node),
        };
        self.vips[at].told.note_owner(name);
    }

    /// Where two have held a VIP, clients may have followed either: the one that keeps it says so once more.
    fn note_contest(&mut self, at: usize, owns: bool, now: Instant) {
        let id = self.vips[at].id();
        let timers = &self.config.timers;
        let contested = owns && self.peers.iter().any(|(_, peer)| peer.holds(id, timers, now).is_some());
        let vip = &mut self.vips[at];
        if std::mem::replace(&mut vip.contested, contested) && owns && !contested {
            vip.addresses.announce_again(now);
            let text = format!("{}: nobody else holds it any more; announced again", vip.config.name);
            self.info(text, now);
        }
    }

    pub(super) fn changed(&mut self, at: usize, change: &Change, now: Instant) {
        self.dirty = true;
        let vip = &mut self.vips[at];
        let name = vip.config.name.clone();
        match change {
            Change::Asks | Change::GivesUp => {}
            Change::Takes(term) => {
                vip.highest = vip.highest.max(*term);
                vip.rival_seen = None;
                let why = self.why(&self.vips[at], Owner::Us { term: *term, until: now }, now);
                self.info(format!("{name}: taken, term {term}: {why}"), now);
            }
            Change::Leaves { why, lapsed: false } => self.info(format!("{name}: handed over: {why}"), now),
            Change::Leaves { why, lapsed: true } => {
                self.flaps.fail(now);
                self.warn(format!("{name}: let go: {why}"), now);
            }
            Change::Left => {
                vip.free_since = None;
                // The better candidates are given the time to take it.
                vip.seat.hold_off(now + Duration::from_millis(100));
            }
        }
    }
}

/// What one VIP's addresses ask for.
pub(super) fn perform(
    acts: Vec<Act>,
    vip: VipId,
    slack: Duration,
    out: &mut Vec<Action>,
    extended: &mut Vec<(VipId, Instant)>,
) {
    for act in acts {
        match act {
            Act::Install { until } => out.push(Action::Install { vip, until, slack }),
            Act::Extend { until } => extended.push((vip, until)),
            Act::Quiet => out.push(Action::Quiet(vip)),
            Act::Remove => {
                extended.retain(|(other, _)| *other != vip);
                out.push(Action::Remove(vip));
            }
            Act::Announce => out.push(Action::Announce(vip)),
            Act::Verify(what) => out.push(Action::Verify { vip, what }),
        }
    }
}
