//! What reaches the engine from others and from this host, taken in; what follows is decided afterwards.

use super::*;
use haclusterd_proto::control::Health as Verdict;
use std::collections::BTreeMap;

impl Engine {
    pub(super) fn message(&mut self, from: NodeId, message: Message, now: Instant) {
        if self.voters.is_removed(from) {
            return;
        }
        match message {
            Message::Advert(advert) => self.advert(from, &advert, now),
            Message::Answer(answer) => self.answer(from, &answer, now),
            Message::Freed(freed) => {
                self.moved = true;
                for (vip, term) in freed.vips {
                    self.lease.freed(from, vip, term);
                }
            }
            // Unverified: the edge turns it into `Input::Voters` once its signature is checked.
            Message::Voters(_) => {}
            Message::Move(order) => self.move_vip(&order, now),
        }
    }

    pub(super) fn advert(&mut self, from: NodeId, advert: &Advert, now: Instant) {
        if !advert.is_sound() {
            return self
                .warn_once(format!("{} sends adverts that no honest node sends", self.name_of(from)), now);
        }
        match self.peers.advert(from, advert, &self.config.timers, now) {
            Receipt::Stale => return,
            Receipt::Duplicate => {
                let name = self.name_of(from);
                self.warn_once(format!("{name} runs on two hosts with one key: stop one of them and join it again under its own name"), now);
            }
            Receipt::Returned => (self.dirty, self.moved) = (true, true),
            Receipt::News => self.moved = true,
            Receipt::Fresh => {}
        }
        if let Some(newer) = self.voters.newer_for(from, advert.voters) {
            let message = Message::Voters(newer.clone());
            self.out.push(Action::Send { to: from, message });
        }
        if self.votes() {
            let (answer, freed) = self.voter.advert(from, advert, &self.rules(), now);
            if let Some(answer) = answer {
                self.out.push(Action::Send { to: from, message: Message::Answer(answer) });
            }
            self.tell_freed(freed, Some(from));
        }
    }

    pub(super) fn answer(&mut self, from: NodeId, answer: &Answer, now: Instant) {
        let news = self.lease.answer(from, answer, &self.config.timers, now);
        if news.fresh {
            self.peers.answered(from, answer.incarnation, now);
        }
        self.dirty |= news.ask;
        self.moved |= news.moved;
    }

    pub(super) fn member(&mut self, record: MemberRecord, now: Instant) {
        let (node, leaving) = (record.node, record.leaving);
        if self.voters.is_removed(node) {
            return;
        }
        let name = record.name.clone();
        let was = self.peers.get(node).map(|p| (p.record().is_some(), p.left()));
        let clash = self
            .peers
            .iter()
            .any(|(other, p)| other != node && !p.left() && p.record().is_some_and(|r| r.name == name));
        if clash || name == self.config.record.name {
            self.warn_once(format!("two members are named {name}: give one of them another name (`haclusterd leave` there, then join again)"), now);
        }
        if !self.peers.record(record, now) {
            self.warn_once(
                format!("{name} is one member too many: at most {} are known", peers::MAX_PEERS),
                now,
            );
            return;
        }
        match was {
            Some((true, false)) if leaving => self.info(format!("{name} left"), now),
            None | Some((false, _)) if !leaving => {
                self.info(format!("{name} is a member"), now);
                self.send_advert(node, now);
            }
            _ => {}
        }
    }

    pub(super) fn check(&mut self, name: &str, part: &str, outcome: &Outcome, now: Instant) {
        let Some(state) = self.health.report(name, part, outcome) else { return };
        self.moved = true;
        match state.health {
            Verdict::Failed => {
                self.failed += 1;
                self.warn(format!("check failed: {}", state.reason), now);
            }
            Verdict::Saturated => {
                self.saturated += 1;
                self.warn(format!("saturated, not failed: {}", state.reason), now);
            }
            Verdict::Warn => self.warn(state.reason, now),
            Verdict::Ok => self.info(format!("check {name} passes"), now),
            Verdict::Unknown | Verdict::Unchecked => {}
        }
    }

    pub(super) fn interface(&mut self, vip: VipId, state: Result<MacAddr, String>, now: Instant) {
        if let Some(at) = self.router_at(vip) {
            self.router_interface(at, state.clone(), now);
        }
        let Some(vip) = self.vips.iter_mut().find(|v| v.id() == vip) else { return };
        vip.reported = true;
        if vip.interface == state {
            return;
        }
        let text = match &state {
            Ok(_) => format!("{}: its interface can be used", vip.config.name),
            Err(reason) => format!("{}: {reason}", vip.config.name),
        };
        if state.is_ok() {
            vip.addresses.announce_again(now);
        }
        vip.interface = state;
        self.info(text, now);
    }

    pub(super) fn installed(&mut self, vip: VipId, result: Result<(), String>, now: Instant) {
        let own = self.renew() + self.slack(vip);
        let renew = self.router_at(vip).map_or(own, |at| self.routers[at].renew(own));
        let Some(Place { name, addresses, broken }) = self.place_of(vip) else { return };
        addresses.installed(result.is_ok(), renew, now);
        if let Err(reason) = result {
            let text = format!("{name}: {reason}");
            if !addresses.is_held() {
                *broken = Some((reason, now + BROKEN));
            }
            self.warn_once(text, now);
        }
    }

    pub(super) fn removed(&mut self, vip: VipId, result: Result<(), String>, now: Instant) {
        let Some(Place { name, addresses, .. }) = self.place_of(vip) else { return };
        addresses.removed(result.is_ok(), now);
        if let Err(reason) = result {
            let text = format!("{name}: {reason}");
            self.warn_once(text, now);
        }
    }

    pub(super) fn address_lost(&mut self, vip: VipId, now: Instant) {
        let Some(Place { name, addresses, .. }) = self.place_of(vip) else { return };
        if addresses.lost(now) {
            let text = format!("{name}: somebody removed its address; it is added again");
            self.warn_once(text, now);
        }
    }

    /// A VIP's, if there is a virtual router for the same addresses.
    pub(super) fn place_of(&mut self, vip: VipId) -> Option<Place<'_>> {
        let place = |name, addresses, broken| Place { name, addresses, broken };
        let mut vips = self.vips.iter_mut().filter(|state| state.id() == vip);
        if let Some(state) = vips.next() {
            return Some(place(&state.config.name, &mut state.addresses, &mut state.broken));
        }
        let mut routers = self.routers.iter_mut().filter(|router| router.id() == vip);
        routers.next().map(|router| place(&router.config.name, &mut router.addresses, &mut router.broken))
    }

    pub(super) fn claim(&mut self, vip: VipId, mac: MacAddr, now: Instant) {
        let member = self.member_of(mac);
        let rival = member.is_some() && member == self.voters.other();
        let Some(vip) = self.vips.iter_mut().find(|v| v.id() == vip) else { return };
        vip.claims.heard(mac, now);
        let holds = vip.addresses.is_held();
        if rival && holds {
            vip.rival_seen = Some(now);
        }
        let due = vip.conflict_at.is_none_or(|at| now.since(at) >= CONFLICT_PAUSE);
        if member.is_none() && due && vip.claims.certain(now) {
            vip.conflict_at = Some(now);
            vip.addresses.announce_again(now); // RFC 5227 2.4 (c): defend what is held by right
            let name = &vip.config.name;
            let does = if holds { "it is held and defended here" } else { "it is not taken here" };
            let text = format!(
                "{name}: {mac}, which is no member's, answers for it; {does}. Find that host and take the address off it"
            );
            self.warn(text, now);
        }
    }

    pub(super) fn reconfigure(&mut self, config: Config, now: Instant) {
        if self.drain.is_some() {
            return; // who goes has nothing to change any more
        }
        self.health.reconfigure(&config.checks);
        // What is there stays there under the rules that hold from now on.
        let mut there: BTreeMap<VipId, Vip> = BTreeMap::new();
        let mut take = |id: VipId, addresses: &mut Vip| {
            if !addresses.is_absent() {
                there.insert(id, std::mem::replace(addresses, Vip::new(Duration::ZERO)));
            }
        };
        self.vips.iter_mut().for_each(|vip| take(vip.id(), &mut vip.addresses));
        self.routers.iter_mut().for_each(|router| take(router.id(), &mut router.addresses));
        self.routers_reconfigured(&config.routers, now);
        let mut old = std::mem::take(&mut self.vips);
        for vip in &config.vips {
            let known = old.iter().position(|v| v.id() == vip.id).map(|at| old.swap_remove(at));
            let new = || VipState::new(vip.clone(), now);
            self.vips.push(known.map_or_else(new, |state| VipState { config: vip.clone(), ..state }));
        }
        let places = config.vips.iter().map(|vip| (vip.id, vip.announce_refresh));
        let routers = config.routers.iter().map(|router| (router.vip, router.announce_refresh));
        for (id, refresh) in places.chain(routers) {
            let Some(Place { addresses, .. }) = self.place_of(id) else { continue };
            if let Some(mut placed) = there.remove(&id) {
                placed.shorten();
                *addresses = placed;
            }
            addresses.set_refresh(refresh);
        }
        self.out.extend(there.into_keys().map(Action::Remove));
        self.config = config;
        self.set_paces();
        self.dirty = true;
        self.info("the configuration was reloaded".into(), now);
    }
}

/// Addresses on this host, whoever elects their owner.
pub(super) struct Place<'a> {
    pub name: &'a str,
    pub addresses: &'a mut Vip,
    pub broken: &'a mut Broken,
}
