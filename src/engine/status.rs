//! What the engine knows, for commands, metrics and tests alike.

use super::elect::Owner;
use super::peers::Peer;
use super::time::Instant;
use super::vrrp::State as RouterRole;
use super::{Engine, VipState};
use haclusterd_proto::control::{
    Cluster, Event, Health, Member, MemberState, Mode, SCHEMA, Snapshot, Vip, VipState as State,
};
use haclusterd_proto::member::MemberRecord;
use haclusterd_proto::{MacAddr, NodeId, Role, VipId};
use std::collections::BTreeMap;
use std::time::Duration;

impl Engine {
    /// `wall`: seconds since 1970, for the certificates' ends only. The edge adds addresses, counters and warnings
    /// of its own, and what it knows of the VIPs' neighbours.
    #[must_use]
    pub fn snapshot(&self, wall: i64, now: Instant) -> Snapshot {
        let mut members: Vec<Member> =
            self.peers.iter().map(|(node, peer)| self.member_view(node, peer, wall, now)).collect();
        members.push(self.my_view(wall, now));
        members.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Snapshot {
            schema: SCHEMA,
            version: self.config.record.version.clone(),
            node: self.config.record.name.clone(),
            cluster: self.cluster_view(&members, now),
            vips: self
                .vips
                .iter()
                .map(|vip| self.vip_view(vip, now))
                .chain((0..self.routers.len()).map(|at| self.router_view(at, now)))
                .collect(),
            warnings: self.warnings(now),
            events: self
                .events
                .iter()
                .map(|(at, e)| Event { age_ms: ms(now.since(*at)), text: e.text.clone() })
                .collect(),
            counters: self.counters(),
            members,
        }
    }

    /// What the mode promises.
    #[must_use]
    pub fn protection(&self) -> String {
        match self.voters.mode() {
            Mode::Joining => "nothing is owned before this node has heard who votes".into(),
            Mode::Single => "one voter: nobody takes over from it; add two more members or witnesses".into(),
            Mode::TwoNode => "split-brain protection: best effort; add a third member or a witness".into(),
            Mode::Quorum if self.voters.set().is_some_and(|set| set.voters.len() == 2) => {
                "one owner in any partition; none while one of the two voters is away".into()
            }
            Mode::Quorum => "one owner in any partition, hang or crash".into(),
        }
    }

    fn cluster_view(&self, members: &[Member], now: Instant) -> Cluster {
        let set = self.voters.set();
        let voters: Vec<NodeId> = set.map(|set| set.voters.clone()).unwrap_or_default();
        let mut names: Vec<String> = voters.iter().map(|node| self.name_of(*node)).collect();
        names.sort_unstable();
        Cluster {
            id: self.config.cluster.to_string(),
            mode: self.voters.mode(),
            protection: self.protection(),
            voters_in_contact: match self.voters.mode() {
                // Who is heard but has just started, or goes by other voters, grants nothing.
                Mode::Quorum => self.lease.contacts(now),
                _ => voters.iter().filter(|node| self.is_heard(**node, now)).count(),
            },
            voters: names,
            voters_version: self.voters.stamp().version,
            witnesses: set.iter().flat_map(|set| &set.witnesses).map(|node| self.name_of(*node)).collect(),
            voters_chosen: set.is_some_and(|set| set.chosen),
            voters_change: self.voters.wish().map(str::to_owned),
            quorum: set.map_or(0, haclusterd_proto::cluster::VoterSet::quorum),
            members_alive: members.iter().filter(|m| m.state == MemberState::Alive).count(),
            fence: false, // the edge knows
        }
    }

    fn member_view(&self, node: NodeId, peer: &Peer, wall: i64, now: Instant) -> Member {
        let unknown = MemberRecord {
            node,
            name: node.short(),
            role: Role::Member,
            issuer: false,
            health: Health::Unknown,
            reason: "nothing is known of it yet but its adverts".into(),
            checks: Vec::new(),
            priority: None,
            cert_not_after: wall,
            config_digest: self.config.record.config_digest,
            ..self.config.record.clone()
        };
        let record = peer.record().unwrap_or(&unknown);
        let timers = &self.config.timers;
        let silent = peer.heard_at().map(|at| now.since(at));
        let state = match silent {
            _ if peer.left() => MemberState::Left,
            None => MemberState::Joining,
            Some(silent) if silent >= peer.silent_after(timers) => MemberState::Failed,
            Some(silent) if silent >= peer.suspect_after(timers) => MemberState::Suspect,
            Some(_) => MemberState::Alive,
        };
        let alive = state == MemberState::Alive || state == MemberState::Suspect;
        let holds = |vip: &VipId| peer.bid(*vip).is_some_and(|bid| bid.holds.is_some());
        let vips = self.vips.iter().filter(|v| alive && holds(&v.id()));
        Member {
            vips: vips.map(|v| v.config.name.clone()).collect(),
            state,
            seen_ms: silent.map(ms),
            rtt_us: self.lease.rtt(node).map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            held_down_ms: some_ms(self.held_down(node, now)),
            ..self.view(record, wall)
        }
    }

    fn my_view(&self, wall: i64, now: Instant) -> Member {
        let record = self.published.as_ref().unwrap_or(&self.config.record);
        let held = self.vips.iter().filter(|v| v.addresses.is_held()).map(|v| &v.config.name);
        let led = self.routers.iter().filter(|r| r.addresses.is_held()).map(|r| &r.config.name);
        Member {
            me: true,
            vips: held.chain(led).cloned().collect(),
            held_down_ms: some_ms(self.held_down(self.me(), now)),
            ..self.view(record, wall)
        }
    }

    fn view(&self, record: &MemberRecord, wall: i64) -> Member {
        Member {
            name: record.name.clone(),
            id: record.node.to_string(),
            me: false,
            address: record.addr,
            state: MemberState::Alive,
            role: if self.voters.is_witness(record.node) { Role::Witness } else { record.role },
            voter: self.voters.is_voter(record.node),
            issuer: record.issuer,
            standby: record.standby,
            health: record.health,
            reason: record.reason.clone(),
            base_priority: record.base_priority,
            priority: record.priority,
            held_down_ms: None,
            checks: record.checks.clone(),
            vips: Vec::new(),
            seen_ms: None,
            rtt_us: None,
            certificate_s: record.cert_not_after.saturating_sub(wall),
            version: record.version.clone(),
            incarnation: record.incarnation.to_string(),
            config_differs: record.config_digest != self.config.record.config_digest,
        }
    }

    fn vip_view(&self, vip: &VipState, now: Instant) -> Vip {
        let owner = self.owner_of(vip, now);
        let node = match owner {
            Owner::Nobody => None,
            Owner::Us { .. } => Some(self.me()),
            Owner::Peer(node) => Some(node),
        };
        let mine = matches!(owner, Owner::Us { .. });
        let holders =
            self.peers.iter().filter(|(_, p)| p.holds(vip.id(), &self.config.timers, now).is_some()).count();
        let state = match node {
            _ if self.reported_stranger(vip, now).is_some() || holders + usize::from(mine) > 1 => {
                State::Conflict
            }
            None if vip.free_since.is_some_and(|at| now.since(at) < Duration::from_secs(1)) => State::Moving,
            None => State::Unowned,
            Some(_) if mine && !vip.addresses.is_held() => State::Moving,
            Some(_) => State::Active,
        };
        let term = match owner {
            Owner::Us { term, .. } => term,
            Owner::Peer(node) => self
                .peers
                .get(node)
                .and_then(|p| p.holds(vip.id(), &self.config.timers, now))
                .unwrap_or_default(),
            Owner::Nobody => self.highest_term(vip),
        };
        let next = self.ranking(vip, true, now).into_iter().find(|candidate| Some(*candidate) != node);
        let moved_to = self.moved_to(vip, now).map(|node| self.name_of(node));
        Vip {
            name: vip.config.name.clone(),
            id: vip.id().to_string(),
            addresses: Vec::new(),
            interface: String::new(),
            owner: node.map(|node| self.name_of(node)),
            mine,
            state,
            term: term.0,
            since_ms: node.map(|_| ms(now.since(vip.owner_since))),
            lease_ms: vip.until.filter(|_| mine).map(|until| ms(until.since(now))),
            neighbors_asked: None,
            neighbors_acked: None,
            neighbors_silent: Vec::new(),
            moved_to,
            next: next.map(|node| self.name_of(node)),
            why: self.why(vip, owner, now),
        }
    }

    /// In the words of VRRP: a master is named by its address, for nothing else is known of it.
    fn router_view(&self, at: usize, now: Instant) -> Vip {
        let router = &self.routers[at];
        let state = router.router.state();
        let mine = state == RouterRole::Master;
        let there = self.vip(router.id()).map_or(&router.addresses, |vip| &vip.addresses).is_held();
        let master = router.master.filter(|(advert, heard)| now.since(*heard) < advert.interval * 4);
        let settings = &router.config.settings;
        let what = format!("VRRPv{} VRID {}", settings.version.number(), router.config.vrid);
        let why = match (state, master) {
            (RouterRole::Master, _) => format!("{what}: priority {}", router.router.priority()),
            (RouterRole::Backup, Some((advert, _))) => {
                format!(
                    "{what}: priority {}, and the master has {}",
                    router.router.priority(),
                    advert.priority
                )
            }
            (RouterRole::Backup, None) => format!("{what}: no master is heard"),
            (RouterRole::Init, _) => format!("{what}: fault: {}", self.why_fault(at, now)),
        };
        let owner = match mine {
            true => Some(self.config.record.name.clone()),
            false => master.map(|(advert, _)| advert.source.to_string()),
        };
        Vip {
            name: router.config.name.clone(),
            id: router.id().to_string(),
            addresses: Vec::new(),
            interface: String::new(),
            state: match owner {
                None => State::Unowned,
                Some(_) if mine && !there => State::Moving,
                Some(_) => State::Active,
            },
            owner,
            mine,
            term: 0,
            since_ms: Some(ms(now.since(router.since))),
            lease_ms: router.router.until().map(|until| ms(until.since(now))),
            neighbors_asked: None,
            neighbors_acked: None,
            neighbors_silent: Vec::new(),
            moved_to: None,
            next: None,
            why,
        }
    }

    fn reported_stranger(&self, vip: &VipState, now: Instant) -> Option<MacAddr> {
        self.stranger(vip, now).filter(|_| vip.claims.certain(now))
    }

    /// Why the owner owns it, or why nobody does.
    pub(super) fn why(&self, vip: &VipState, owner: Owner, now: Instant) -> String {
        if let Some(mac) = self.reported_stranger(vip, now) {
            return format!("{mac}, which is no member's, answers for it");
        }
        let ranking = self.ranking(vip, true, now);
        let shown = |node: NodeId| match node == self.me() {
            true => self.standing(vip, now),
            false => self.peers.get(node).and_then(|p| p.bid(vip.id())).and_then(|bid| bid.priority),
        };
        let owner = match owner {
            Owner::Nobody => return self.why_nobody(vip, ranking.is_empty(), now),
            Owner::Us { .. } => self.me(),
            Owner::Peer(node) => node,
        };
        let Some(mine) = shown(owner) else {
            return "no candidate is healthy: the last owner keeps it".into();
        };
        if self.moved_to(vip, now) == Some(owner) {
            return "moved here by an operator (`haclusterd move VIP auto` ends that)".into();
        }
        let next = ranking.into_iter().find(|node| *node != owner);
        let held_down = next.filter(|node| !self.held_down(*node, now).is_zero());
        if let Some(name) = held_down.map(|node| self.name_of(node)) {
            return format!("priority {mine}; {name} is held down, for it has failed again and again");
        }
        match next.and_then(shown) {
            None => format!("priority {mine}, the only candidate"),
            Some(next) if next == mine => format!("priority {mine} = {next}, it was there first"),
            Some(next) if next > mine => format!("priority {mine} < {next}, but it is not preempted"),
            Some(next) => format!("priority {mine} > {next}"),
        }
    }

    fn why_nobody(&self, vip: &VipState, no_candidate: bool, now: Instant) -> String {
        if self.voters.mode() == Mode::Quorum && !self.lease.in_contact(now) {
            return "this node is in touch with too few voters".into();
        }
        if let Some(reason) = self.waits_for(vip, now) {
            return reason;
        }
        match (no_candidate, self.barred(vip, now)) {
            (true, Some(reason)) => format!("no candidate; here: {reason}"),
            (true, None) => format!("no candidate; here: {}", self.reason(now)),
            (false, _) => "about to be taken".into(),
        }
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let checks =
            [("checks_failed".to_owned(), self.failed), ("checks_saturated".to_owned(), self.saturated)];
        let refused = self.refused_adverts().into_iter();
        checks.into_iter().chain(refused.map(|(why, count)| (why.name().to_owned(), count))).collect()
    }

    fn warnings(&self, now: Instant) -> Vec<String> {
        let mut warnings = Vec::new();
        for vip in &self.vips {
            if let Some(mac) = self.reported_stranger(vip, now) {
                warnings.push(format!("{}: {mac}, which is no member's, answers for it: find that host and take the address off it", vip.config.name));
            }
            if let Err(reason) = &vip.interface
                && self.config.record.role == Role::Member
            {
                warnings.push(format!("{}: {reason}", vip.config.name));
            }
            if let Some(reason) = vip.broken(now) {
                warnings.push(format!("{}: {reason}", vip.config.name));
            }
        }
        warnings.extend(self.routers.iter().flat_map(|router| router.troubles(now)).cloned());
        for node in self.peers.iter().map(|(node, _)| node).chain([self.me()]) {
            let left = self.held_down(node, now);
            if !left.is_zero() {
                let name = self.name_of(node);
                let s = left.as_secs() + 1;
                warnings.push(format!(
                    "{name} has failed again and again: held down for {s} s more, for which every other candidate comes first"
                ));
            }
        }
        for (node, peer) in self.peers.iter().filter(|(_, peer)| !peer.left()) {
            let name = self.name_of(node);
            if peer.record().is_some_and(|r| r.config_digest != self.config.record.config_digest) {
                warnings.push(format!("{name} has other VIPs or timers than this node: make [cluster] and [[vip]] the same on both and reload"));
            }
            if peer.cloned(now) {
                warnings.push(format!("{name} runs on two hosts with one key: stop one of them"));
            }
        }
        warnings
    }
}

fn some_ms(span: Duration) -> Option<u64> {
    (!span.is_zero()).then(|| ms(span))
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Engine {
    /// What this node tells of itself, but for what changes.
    #[must_use]
    pub fn record(&self) -> &MemberRecord {
        &self.config.record
    }

    /// Stopping or leaving.
    #[must_use]
    pub fn drains(&self) -> bool {
        self.drain.is_some()
    }

    #[must_use]
    pub fn mode(&self) -> Mode {
        self.voters.mode()
    }

    /// The VIPs whose addresses this host is to have now, for the edge's own checks.
    #[must_use]
    pub fn held(&self) -> Vec<VipId> {
        self.vips.iter().filter(|vip| vip.addresses.is_held()).map(VipState::id).collect()
    }
}
