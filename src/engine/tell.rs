//! What programs outside are to hear: what this node is to each VIP, virtual router and group, whenever that is another.
//!
//! It is told after the fact, as in keepalived: an owner has its addresses, and who is owner no more has lost them.

use super::hooks::{Changed, Kind, Part};
use super::orders::STANDS_BY;
use super::vrrp::State;
use super::*;
use std::collections::BTreeMap;

/// So long may interfaces and checks take to be heard of before what is missing counts as a fault.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// What was told last. Nothing is decided by it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    part: Option<Part>,
    owner: Option<String>,
    /// The one before that one.
    before: Option<String>,
}

pub(super) type Groups = BTreeMap<String, Part>;

impl Told {
    pub(super) fn note_owner(&mut self, owner: String) {
        if self.owner.as_ref() != Some(&owner) {
            self.before = self.owner.replace(owner);
        }
    }

    /// From whom to whom, as far as is known.
    fn owners(&self, me: &str, part: Part) -> (String, String) {
        let known = |owner: &Option<String>| owner.clone().unwrap_or_default();
        match (part, self.owner.as_deref() == Some(me)) {
            (Part::Owner, true) => (known(&self.before), me.to_owned()),
            (Part::Owner, false) => (known(&self.owner), me.to_owned()),
            (_, true) => (me.to_owned(), String::new()),
            (_, false) => (known(&self.before), known(&self.owner)),
        }
    }
}

impl Engine {
    pub(super) fn tell(&mut self, now: Instant) {
        if self.is_witness() {
            return;
        }
        for at in 0..self.vips.len() {
            let Some(part) = self.news(self.vip_part(at, now), &self.vips[at].told, now) else { continue };
            let changed = self.vip_changed(at, part, now);
            self.vips[at].told.part = Some(part);
            self.out.push(Action::Changed(Box::new(changed)));
        }
        let mut moved = false;
        for at in 0..self.routers.len() {
            let Some(part) = self.news(self.router_part(at), &self.routers[at].told, now) else { continue };
            let changed = self.router_changed(at, part, now);
            self.routers[at].told.part = Some(part);
            self.out.push(Action::Changed(Box::new(changed)));
            moved = true;
        }
        if moved {
            self.tell_groups();
        }
    }

    /// `None`: nothing that programs should hear.
    fn news(&self, part: Option<Part>, told: &Told, now: Instant) -> Option<Part> {
        let part = if matches!(self.drain, Some(Drain::Done)) { Part::Stop } else { part? };
        let early = part == Part::Fault && told.part.is_none() && now < self.started + GRACE;
        (told.part != Some(part) && !early).then_some(part)
    }

    /// `None`: it is on its way.
    fn vip_part(&self, at: usize, now: Instant) -> Option<Part> {
        let vip = &self.vips[at];
        let there = match self.router_of(vip.id()) {
            Some(router) => &router.addresses,
            None => &vip.addresses,
        };
        let serves = matches!(vip.seat.phase(), seat::Phase::Owner { .. });
        match (serves, there.is_absent()) {
            (true, _) => there.is_held().then_some(Part::Owner),
            (false, false) => None,
            (false, true) if self.drain.is_some() => Some(Part::Stop),
            (false, true) if self.vip_fault(vip, now).is_some() => Some(Part::Fault),
            (false, true) => Some(Part::Backup),
        }
    }

    fn vip_fault(&self, vip: &VipState, now: Instant) -> Option<String> {
        if self.standby {
            return Some(STANDS_BY.into());
        }
        let sick = || self.fitness(now).is_none().then(|| self.health.reason());
        self.out_of_service(vip, now).or_else(|| vip.broken(now)).or_else(sick)
    }

    fn router_part(&self, at: usize) -> Option<Part> {
        let router = &self.routers[at];
        let there = self.vip(router.id()).map_or(&router.addresses, |vip| &vip.addresses);
        match router.router.state() {
            State::Master => there.is_held().then_some(Part::Owner),
            _ if !there.is_absent() => None,
            State::Backup => Some(Part::Backup),
            State::Init if self.drain.is_some() => Some(Part::Stop),
            State::Init => Some(Part::Fault),
        }
    }

    fn vip_changed(&self, at: usize, part: Part, now: Instant) -> Changed {
        let vip = &self.vips[at];
        let (old_owner, new_owner) = vip.told.owners(&self.config.record.name, part);
        let epoch = vip.seat.holds().unwrap_or_else(|| self.highest_term(vip));
        let reason = match part {
            Part::Owner | Part::Backup => self.why(vip, self.owner_of(vip, now), now),
            Part::Fault => self.vip_fault(vip, now).unwrap_or_default(),
            Part::Stop => self.why_stop().into(),
        };
        Changed {
            kind: Kind::Vip,
            name: vip.config.name.clone(),
            part,
            priority: self.fitness(now).unwrap_or(self.config.base()).0,
            old_owner,
            new_owner,
            epoch: epoch.0,
            reason,
        }
    }

    fn router_changed(&mut self, at: usize, part: Part, now: Instant) -> Changed {
        let me = self.config.record.name.clone();
        let router = &mut self.routers[at];
        // An owner's predecessor is silent by now; of the others only one that still speaks is the master.
        let speaks =
            |heard: Instant| part == Part::Owner || now.since(heard) < router.config.settings.interval * 4;
        let master =
            router.master.filter(|(_, heard)| speaks(*heard)).map(|(advert, _)| advert.source.to_string());
        if let Some(master) = master {
            router.told.note_owner(master);
        }
        if part == Part::Owner {
            router.told.note_owner(me.clone());
        }
        let router = &self.routers[at];
        let (old_owner, new_owner) = router.told.owners(&me, part);
        let priority = Some(router.router.priority()).filter(|priority| *priority > 0);
        let reason = match part {
            Part::Owner => format!("priority {}", router.router.priority()),
            Part::Backup => router.master.map_or("no master is heard".into(), |(advert, _)| {
                format!("the master has priority {}", advert.priority)
            }),
            Part::Fault => self.why_fault(at, now),
            Part::Stop => self.why_stop().into(),
        };
        Changed {
            kind: Kind::Router,
            name: router.config.name.clone(),
            part,
            priority: priority.unwrap_or(router.config.priority),
            old_owner,
            new_owner,
            epoch: 0,
            reason,
        }
    }

    fn why_stop(&self) -> &'static str {
        if self.is_leaving() { "this node leaves the cluster" } else { "the daemon stops" }
    }

    /// A group is what all of its virtual routers are.
    fn tell_groups(&mut self) {
        let mut parts: BTreeMap<&String, Option<Part>> = BTreeMap::new();
        for router in &self.routers {
            let Some(group) = &router.config.group else { continue };
            let own = router.told.part;
            parts
                .entry(group)
                .and_modify(|part| *part = part.filter(|part| Some(*part) == own))
                .or_insert(own);
        }
        let mut changed = Vec::new();
        for (group, part) in parts {
            let Some(part) = part.filter(|part| self.groups.get(group) != Some(part)) else { continue };
            changed.push((group.clone(), part));
        }
        for (name, part) in changed {
            self.groups.insert(name.clone(), part);
            let (old_owner, new_owner, reason) = Default::default();
            let (kind, priority, epoch) = (Kind::Group, 0, 0);
            self.out.push(Action::Changed(Box::new(Changed {
                kind,
                name,
                part,
                priority,
                old_owner,
                new_owner,
                epoch,
                reason,
            })));
        }
    }
}
