//! What is true of one VIP now, by the rules of the mode that protects it: the bridge between the elections
//! (leases, two-node guard) and the seat that acts on them.

use super::claims::Need;
use super::orders::STANDS_BY;
use super::peers::Peer;
use super::rank::{self, Standing};
use super::seat::Facts;
use super::time::Instant;
use super::{Engine, VipState};
use haclusterd_proto::cluster::{Bid, Step};
use haclusterd_proto::control::Mode;
use haclusterd_proto::{MacAddr, NodeId, Priority, Term, VipId};
use std::time::Duration;

/// A node that stands behind others waits this much longer for each of them.
const STAGGER: Duration = Duration::from_millis(25);
/// In the two-node mode, where no vote settles a race, the lower-ranked waits longer.
const PAIR_STAGGER: Duration = Duration::from_secs(1);
/// In the two-node mode the holder keeps the address this long without its daemon.
pub const SELF_LEASE: Duration = Duration::from_secs(3);
/// How long a node that has just started waits for its peer before it judges it silent, and for its own checks.
pub(super) const BOOT_WAIT: Duration = Duration::from_secs(3);
/// The gateway must have answered within this time.
const GATEWAY_FRESH: Duration = Duration::from_millis(300);

impl Engine {
    /// Why this node can neither take nor keep the VIP, whatever its health.
    pub(super) fn barred(&self, vip: &VipState, now: Instant) -> Option<String> {
        if self.is_witness() {
            return Some("a witness holds no address".into());
        }
        if self.voters.is_removed(self.me()) {
            return Some("this node was removed from the cluster".into());
        }
        if self.drain.is_some() {
            return Some("this node is leaving".into());
        }
        if self.standby {
            return Some(STANDS_BY.into());
        }
        if let Some(reason) = self.out_of_service(vip, now) {
            return Some(reason);
        }
        if self.router_of(vip.id()).is_some_and(|router| !router.leads()) {
            return Some("its virtual router (VRRP) is not the master here".into());
        }
        if self.voters.mode() == Mode::TwoNode && !self.voters.is_voter(self.me()) {
            return Some("only the two voters own addresses in the two-node mode".into());
        }
        None
    }

    /// Who is no member and answers for the VIP that this node does not hold.
    fn conflict(&self, vip: &VipState, now: Instant) -> Option<String> {
        let mac = self.stranger(vip, now).filter(|_| vip.seat.holds().is_none())?;
        Some(format!(
            "{mac}, which is no member's, answers for {}: find that host and take the address off it",
            vip.config.name
        ))
    }

    /// Who answers for the VIP and is no member.
    pub(super) fn stranger(&self, vip: &VipState, now: Instant) -> Option<MacAddr> {
        // With a virtual router, a master that is no member is no stranger.
        let alone = self.router_of(vip.id()).is_none();
        vip.claims.stranger(|mac| self.member_of(mac).is_some(), now).filter(|_| alone)
    }

    pub(super) fn member_of(&self, mac: MacAddr) -> Option<NodeId> {
        let has = |peer: &Peer| peer.record().is_some_and(|record| record.macs.contains(&mac));
        self.peers.iter().find(|(_, peer)| has(peer)).map(|(node, _)| node)
    }

    /// The priority that this node shows for the VIP; `None`: no candidate.
    pub(super) fn standing(&self, vip: &VipState, now: Instant) -> Option<Priority> {
        let out = self.barred(vip, now).or_else(|| self.conflict(vip, now)).or_else(|| vip.broken(now));
        self.view.fitness.filter(|_| out.is_none())
    }

    /// Could this node own a VIP at once, if it were free?
    pub(super) fn ready(&self, now: Instant) -> bool {
        self.voters.mode() == Mode::TwoNode || self.lease.in_contact(now)
    }

    /// Does it send adverts?
    pub(super) fn is_heard(&self, node: NodeId, now: Instant) -> bool {
        node == self.me() || self.peers.get(node).is_some_and(|p| p.alive(&self.config.timers, now))
    }

    /// How long the node still comes last among the candidates.
    pub(super) fn held_down(&self, node: NodeId, now: Instant) -> Duration {
        if node == self.me() {
            return self.flaps.left(now);
        }
        self.peers.get(node).map_or(Duration::ZERO, |peer| peer.held_down(now))
    }

    /// Is a check of the node down, and does that count?
    pub(super) fn is_sick(&self, node: NodeId) -> bool {
        match node == self.me() {
            true => self.config.strict_health && self.health.is_sick(),
            false => self.peers.get(node).is_some_and(Peer::is_sick),
        }
    }

    fn judged(&self, node: NodeId, bid: &Bid, incumbent: bool, now: Instant) -> Standing {
        let held_down = !self.held_down(node, now).is_zero();
        let (priority, pinned) = (bid.priority, bid.pinned);
        Standing { node, priority, pinned, incumbent, sick: self.is_sick(node), held_down }
    }

    fn judged_here(&self, vip: &VipState, incumbent: bool, now: Instant) -> Standing {
        let held_down = !self.held_down(self.me(), now).is_zero();
        Standing {
            node: self.me(),
            priority: self.standing(vip, now),
            pinned: self.pinned(vip, now),
            incumbent,
            sick: self.is_sick(self.me()),
            held_down,
        }
    }

    /// Everybody else who could own the VIP, at once or at all.
    fn rivals(&self, vip: VipId, ready: bool, now: Instant) -> Vec<Standing> {
        let eligible = |(node, peer): (NodeId, &Peer)| {
            let fit = peer.alive(&self.config.timers, now) && !peer.left();
            let bid = peer.bid(vip).filter(|bid| fit && (bid.ready || !ready))?;
            Some(self.judged(node, bid, bid.holds.is_some(), now))
        };
        self.peers.iter().filter_map(eligible).filter(|s| s.priority.is_some()).collect()
    }

    /// Could anybody else own the VIP at once?
    pub(super) fn has_rival(&self, vip: VipId, now: Instant) -> bool {
        !self.rivals(vip, true, now).is_empty()
    }

    /// All candidates, the best first; `ready`: only those that could own the VIP at once.
    pub(super) fn ranking(&self, vip: &VipState, ready: bool, now: Instant) -> Vec<NodeId> {
        let incumbent = vip.seat.holds().is_some();
        let mine = self.judged_here(vip, incumbent, now);
        let mut all = self.rivals(vip.id(), ready, now);
        all.push(mine);
        rank::order(vip.id(), vip.config.preempt, all)
    }

    /// How many candidates stand before this node; `None`: it is no candidate itself.
    fn rank(&self, vip: &VipState, now: Instant) -> Option<u32> {
        let at = self.ranking(vip, false, now).iter().position(|node| *node == self.me())?;
        u32::try_from(at).ok()
    }

    pub(super) fn facts(&self, vip: &VipState, now: Instant) -> Facts {
        let patience = self.lease.patience();
        let (granted, until) = self.lease_of(vip, now);
        // Whoever holds it has no turn to wait for.
        let rank = if vip.seat.holds().is_some() { None } else { self.rank(vip, now) };
        let attempt = u64::from(vip.seat.failures());
        let jitter = Duration::from_millis(rank::jitter_ms(vip.id(), self.me(), attempt, 10));
        Facts {
            turn: rank.and_then(|rank| self.turn(vip, rank, now)),
            unfit: self.unfit(vip, now),
            granted,
            until,
            yield_to: self.yields(vip, now),
            serves: self.well && vip.interface.is_ok() && !vip.contested && vip.rival_seen.is_none(),
            absent: vip.addresses.is_absent(),
            patience,
            pause: STAGGER * rank.unwrap_or(0) + jitter,
        }
    }

    /// The term under which this node may serve, and until when.
    fn lease_of(&self, vip: &VipState, now: Instant) -> (Option<Term>, Option<Instant>) {
        match (self.voters.mode(), self.voters.step()) {
            (Mode::Joining, _) => (None, None),
            (Mode::TwoNode, Step::Prepare) => (None, self.lease.gate(vip.id(), now)),
            (Mode::TwoNode, _) => (Some(self.highest_term(vip).next()), Some(now + SELF_LEASE)),
            (Mode::Single | Mode::Quorum, _) => {
                (self.lease.opening_term(vip.id(), now), self.lease.gate(vip.id(), now))
            }
        }
    }

    fn unfit(&self, vip: &VipState, now: Instant) -> Option<String> {
        if let Some(reason) =
            self.barred(vip, now).or_else(|| self.conflict(vip, now)).or_else(|| vip.broken(now))
        {
            return Some(reason);
        }
        let sick = self.view.fitness.is_none();
        // With nobody better the owner stays: a refused connection tells a client more than a black hole.
        let stays = vip.seat.holds().is_some() && !self.has_rival(vip.id(), now);
        (sick && !stays).then(|| self.health.reason())
    }

    /// When it is this node's turn to take the VIP, if nothing changes.
    fn turn(&self, vip: &VipState, rank: u32, now: Instant) -> Option<Instant> {
        let free_since = vip.free_since?;
        let stagger = match self.voters.mode() {
            Mode::TwoNode => PAIR_STAGGER,
            _ => STAGGER.max(self.lease.patience()),
        };
        vip.claims.glanced(now).then(|| free_since + stagger * rank)
    }

    /// Does nobody own the VIP, as far as this node can know?
    pub(super) fn is_free(&self, vip: &VipState, now: Instant) -> bool {
        match (self.voters.mode(), self.voters.step()) {
            (Mode::Joining, _) | (_, Step::Prepare) => false,
            (Mode::TwoNode, _) => self.voters.other().is_some_and(|other| self.pair_free(vip, other, now)),
            (Mode::Single | Mode::Quorum, _) => self.lease.free(vip.id(), now).is_ok(),
        }
    }

    /// Two nodes, no witness: a peer that is heard is believed; one that is silent must be silent on every path.
    fn pair_free(&self, vip: &VipState, other: NodeId, now: Instant) -> bool {
        // What the voters before granted, to whomever, has ended.
        if now < self.voters.adopted_at() + self.config.timers.lease {
            return false;
        }
        if let Some(peer) = self.peers.get(other).filter(|peer| peer.alive(&self.config.timers, now)) {
            return peer.bid(vip.id()).is_none_or(|bid| bid.holds.is_none());
        }
        let waited = self.heard(other).is_some() || now >= self.started + BOOT_WAIT;
        waited && vip.claims.quiet(now) && self.gateway_answers(now)
    }

    /// Two-node mode: what keeps this node from taking over from a peer that is not heard.
    pub(super) fn waits_for(&self, vip: &VipState, now: Instant) -> Option<String> {
        let other = self.voters.other().filter(|_| vip.seat.holds().is_none())?;
        if self.is_heard(other, now) {
            return None;
        }
        let (name, vip_name) = (self.name_of(other), &vip.config.name);
        if let Some(mac) = vip.claims.answers(now) {
            return Some(format!(
                "{name} is not heard, but {mac} answers for {vip_name}: not taken while it does"
            ));
        }
        let waited = self.heard(other).is_some() || now >= self.started + BOOT_WAIT;
        (waited && !self.gateway_answers(now)).then(|| {
            format!(
                "{name} is not heard, and the gateway does not answer: this node may be the one that is cut off, and does not take {vip_name}"
            )
        })
    }

    fn gateway_answers(&self, now: Instant) -> bool {
        !self.config.gateway || self.gateway_at.is_some_and(|at| now.since(at) < GATEWAY_FRESH)
    }

    fn heard(&self, node: NodeId) -> Option<Instant> {
        self.peers.get(node).and_then(Peer::heard_at)
    }

    /// Whom the owner makes room for, and why.
    fn yields(&self, vip: &VipState, now: Instant) -> Option<String> {
        vip.seat.holds().filter(|_| self.router_of(vip.id()).is_none())?;
        if let Some(other) = self.voters.other().filter(|other| self.outranks(vip, *other, now)) {
            return Some(format!("{} holds it too and ranks before this node", self.name_of(other)));
        }
        let (node, since) = vip.better?;
        let why = || {
            let priority = self.peers.get(node).and_then(|p| p.bid(vip.id())).and_then(|bid| bid.priority);
            let theirs = priority.map_or(0, |p| p.0);
            let mine = self.fitness(now).map_or(0, |p| p.0);
            match self.is_sick(self.me()) {
                _ if self.moved_to(vip, now) == Some(node) => {
                    format!("an operator moves it to {}", self.name_of(node))
                }
                true => self.health.reason(),
                false => format!("{} has priority {theirs} > {mine}", self.name_of(node)),
            }
        };
        (now >= since + self.preempt_delay(vip, node, now)).then(why)
    }

    /// How long a better node must have been better. To make room for a healthy one, or to obey, is no preemption.
    pub(super) fn preempt_delay(&self, vip: &VipState, better: NodeId, now: Instant) -> Duration {
        let at_once = self.is_sick(self.me()) || self.moved_to(vip, now) == Some(better);
        if at_once { Duration::ZERO } else { vip.config.preempt_delay }
    }

    /// Two-node mode: the other holds the VIP as well (its own word, or its answer on the wire), and is to keep it.
    fn outranks(&self, vip: &VipState, other: NodeId, now: Instant) -> bool {
        let Some(peer) = self.peers.get(other) else { return false };
        let says = peer.holds(vip.id(), &self.config.timers, now).is_some();
        let seen = vip.rival_seen.is_some_and(|at| now.since(at) < SELF_LEASE);
        let Some(bid) = peer.bid(vip.id()).filter(|_| says || seen) else { return false };
        let mine = self.judged_here(vip, false, now);
        let both = vec![self.judged(other, bid, false, now), mine];
        match rank::order(vip.id(), true, both).first() {
            Some(first) => *first == other,
            None => other < self.me(),
        }
    }

    /// The best other candidate, if it ranks before this node, which owns the VIP.
    pub(super) fn better(&self, vip: &VipState, now: Instant) -> Option<NodeId> {
        let first = self.ranking(vip, true, now).first().copied()?;
        (first != self.me()).then_some(first)
    }

    /// How badly this node wants to know who answers for the VIP.
    pub(super) fn probe_need(&self, vip: &VipState, now: Instant) -> Need {
        let out = self.barred(vip, now).is_some() || self.view.fitness.is_none();
        if out || vip.seat.holds().is_some() || self.voters.mode() == Mode::Joining {
            return Need::None;
        }
        let suspect = self.voters.other().is_some_and(|other| {
            self.heard(other).is_none_or(|at| now.since(at) >= self.config.timers.suspect_after())
        });
        let unseen = vip.free_since.is_some() && !vip.claims.glanced(now);
        if suspect || unseen { Need::Take } else { Need::Watch }
    }

    /// The highest term that anybody has told of.
    pub(super) fn highest_term(&self, vip: &VipState) -> Term {
        let told = self
            .peers
            .iter()
            .filter_map(|(_, peer)| peer.bid(vip.id()))
            .map(|b| b.term.max(b.holds.unwrap_or_default()));
        told.chain([self.lease.highest_term(vip.id()), vip.highest]).max().unwrap_or_default()
    }

    pub(super) fn name_of(&self, node: NodeId) -> String {
        if node == self.me() {
            return self.config.record.name.clone();
        }
        let record = self.peers.get(node).and_then(Peer::record);
        record.map_or_else(|| node.short(), |record| record.name.clone())
    }
}
