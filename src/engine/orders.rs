//! What an operator asks of this node: to stand by, to move a VIP, and what would be if some nodes were down.
//!
//! A move is kept by the node that the VIP is moved to, and told to all with its bids: it only ranks that node first, so a
//! lost word costs a preference and nothing else.

use super::*;
use haclusterd_proto::cluster::Move;
use haclusterd_proto::control::{Forecast, Order, VipForecast};

pub(super) const STANDS_BY: &str = "this node stands by (`haclusterd unstandby` ends that)";

/// An operator wants the VIP here.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Pin {
    /// Absent: until this run ends.
    until: Option<Instant>,
}

impl Pin {
    fn holds(self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    pub fn end(self) -> Option<Instant> {
        self.until
    }
}

impl Engine {
    /// What will be done, or why it is not.
    pub fn judge_order(&self, order: &Order, now: Instant) -> Result<String, String> {
        match order {
            Order::Standby { on: true, .. } if self.standby => Ok("it stands by already".into()),
            Order::Standby { on: true, force } => self.judge_standby(*force, now),
            Order::Standby { on: false, .. } => Ok("it is a candidate again".into()),
            Order::Move { vip, to: None, .. } => {
                self.vip_named(vip).map(|_| format!("{vip} goes by priorities again"))
            }
            Order::Move { vip, to: Some(to), .. } => self.judge_move(vip, to, now),
        }
    }

    fn judge_standby(&self, force: bool, now: Instant) -> Result<String, String> {
        let alone = |vip: &&VipState| vip.seat.holds().is_some() && !self.has_rival(vip.id(), now);
        match self.vips.iter().find(alone).filter(|_| !force) {
            Some(vip) => Err(format!(
                "nobody else could own {} now (`haclusterd explain {}` says why): it would be down. Mend another node first, \
                 or say --force",
                vip.config.name, vip.config.name
            )),
            None => {
                Ok("it stands by: its VIPs go to others, and it takes none before `haclusterd unstandby`"
                    .into())
            }
        }
    }

    fn judge_move(&self, vip: &str, to: &str, now: Instant) -> Result<String, String> {
        let vip = self.vip_named(vip)?;
        let node = self.node_named(to)?;
        let could = self.ranking(vip, true, now).contains(&node);
        if !could {
            return Err(format!(
                "{to} could not own {} now; `haclusterd explain {}` says why",
                vip.config.name, vip.config.name
            ));
        }
        Ok(format!("{} goes to {to}", vip.config.name))
    }

    pub(super) fn order(&mut self, order: &Order, now: Instant) {
        match order {
            Order::Standby { on, .. } => self.stand_by(*on, now),
            Order::Move { vip, to, for_s } => {
                let Ok(vip) = self.vip_named(vip).map(VipState::id) else { return };
                let to = to.as_ref().and_then(|name| self.node_named(name).ok());
                let order = Move { vip, to, for_s: *for_s };
                for peer in self.listeners() {
                    self.out.push(Action::Send { to: peer, message: Message::Move(order) });
                }
                self.move_vip(&order, now);
            }
        }
    }

    fn stand_by(&mut self, on: bool, now: Instant) {
        if std::mem::replace(&mut self.standby, on) != on {
            self.dirty = true;
            let text = if on { "stands by: an operator said so" } else { "is a candidate again" };
            self.info(text.into(), now);
        }
    }

    /// Also those that others were told of.
    pub(super) fn move_vip(&mut self, order: &Move, now: Instant) {
        let here = order.to == Some(self.me());
        // Who says it until it is so says it more than once.
        let new = self.vip(order.vip).is_some_and(|vip| self.moved_to(vip, now) != order.to);
        let until = order.for_s.map(|seconds| now + Duration::from_secs(seconds.into()));
        let name = order.to.map(|node| self.name_of(node));
        let Some(vip) = self.vips.iter_mut().find(|vip| vip.id() == order.vip) else { return };
        vip.pin = here.then_some(Pin { until });
        (self.dirty, self.moved) = (true, true);
        let vip = &vip.config.name;
        let text = match name {
            Some(name) => format!("{vip}: an operator moves it to {name}"),
            None => format!("{vip}: an operator lets it go by priorities again"),
        };
        if new {
            self.info(text, now);
        }
    }

    /// Does an operator want the VIP here?
    pub(super) fn pinned(&self, vip: &VipState, now: Instant) -> bool {
        vip.pin.is_some_and(|pin| pin.holds(now))
    }

    /// The node that an operator moved the VIP to.
    pub(super) fn moved_to(&self, vip: &VipState, now: Instant) -> Option<NodeId> {
        let pinned = |peer: &peers::Peer| peer.bid(vip.id()).is_some_and(|bid| bid.pinned);
        let peer = || self.peers.iter().find(|(_, peer)| pinned(peer)).map(|(node, _)| node);
        if self.pinned(vip, now) { Some(self.me()) } else { peer() }
    }

    fn vip_named(&self, name: &str) -> Result<&VipState, String> {
        let found = self.vips.iter().find(|vip| vip.config.name == name);
        found.ok_or_else(|| format!("the cluster elects no owner of a VIP {name}"))
    }

    /// Who would own what without these nodes.
    pub fn forecast(&self, down: &[String], now: Instant) -> Result<Forecast, String> {
        let down: Vec<NodeId> = down.iter().map(|name| self.node_named(name)).collect::<Result<_, _>>()?;
        let set = self.voters.set();
        let lives = |voter: &&NodeId| !down.contains(voter) && self.is_heard(**voter, now);
        let voters = set.map_or(0, |set| set.voters.iter().filter(lives).count());
        let needed = match self.voters.mode() {
            Mode::TwoNode => 1,
            _ => set.map_or(usize::MAX, VoterSet::quorum),
        };
        let then = |vip: &VipState| {
            let ranking = self.ranking(vip, false, now);
            let first = ranking.into_iter().find(|node| !down.contains(node));
            first.filter(|_| voters >= needed).map(|node| self.name_of(node))
        };
        let now_owned = |vip: &VipState| match self.owner_of(vip, now) {
            Owner::Nobody => None,
            Owner::Us { .. } => Some(self.config.record.name.clone()),
            Owner::Peer(node) => Some(self.name_of(node)),
        };
        let vip = |vip: &VipState| VipForecast {
            name: vip.config.name.clone(),
            owner: now_owned(vip),
            then: then(vip),
        };
        Ok(Forecast { voters, needed, vips: self.vips.iter().map(vip).collect() })
    }
}
