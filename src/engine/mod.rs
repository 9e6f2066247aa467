//! The core: [`Engine::handle`] is a function of its state, an [`Input`] and the time, and says what must happen as
//! [`Action`]s. It has no clock, socket, file, randomness or await.
//!
//! A timer is a field; [`Engine::deadline`] is the next one. Every call first does what is due at `now`, so a flood
//! of inputs starves no deadline and a late wake-up is just a large `now`.

pub mod claims;
pub mod elect;
mod facts;
pub mod health;
pub mod lease;
pub mod peers;
pub mod rank;
pub mod seat;
mod status;
pub mod time;
pub mod vip;
pub mod voter;
pub mod voters;

use claims::Claims;
use elect::{Elect, Owner};
use haclusterd_proto::cluster::{Advert, Answer, Bid, Message, SignedVoters, Step, VoterSet, VotersStamp};
use haclusterd_proto::control::Mode;
use haclusterd_proto::member::MemberRecord;
use haclusterd_proto::{AddrId, ClusterId, MacAddr, NodeId, Priority, Term, VipId};
use health::{CheckConfig, Health, Outcome};
use lease::Lease;
use peers::{Peers, Receipt};
use seat::{Change, Seat};
use std::collections::VecDeque;
use std::time::Duration;
use time::{Instant, Timers};
use vip::{Act, Vip};
use voter::{Freed, Rules, Voter};
use voters::{Candidate, Plan, Stored, Voters};

/// Events kept for `status`.
const MAX_EVENTS: usize = 100;
/// A node that could not install an address does not try again for so long.
const BROKEN: Duration = Duration::from_secs(5);
/// A stopping node waits this long for the kernel and its voters.
const DRAIN: Duration = Duration::from_secs(2);
/// A leaving voter waits this long for the voter set without it.
const LEAVE: Duration = Duration::from_secs(5);
/// Between two looks for members that are long gone.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// Between two reports of the same conflict, and two defences against it.
const CONFLICT_PAUSE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct VipConfig {
    pub id: VipId,
    pub name: String,
    pub addresses: Vec<AddrId>,
    pub preempt: bool,
    pub preempt_delay: Duration,
    pub announce_refresh: Duration,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub cluster: ClusterId,
    /// What this node tells of itself; the engine fills in what changes.
    pub record: MemberRecord,
    pub timers: Timers,
    pub voters_max: usize,
    /// A gateway is configured: two-node mode takes over only while it answers.
    pub gateway: bool,
    pub vips: Vec<VipConfig>,
    pub checks: Vec<CheckConfig>,
}

#[derive(Clone, Debug)]
pub enum Input {
    Deadline,
    Message {
        from: NodeId,
        message: Message,
    },
    /// A connection to that node is up.
    Connected(NodeId),
    /// What a member published; the edge has verified its signature.
    Member(Box<MemberRecord>),
    Check {
        name: String,
        outcome: Outcome,
    },
    /// The VIP's interface: its hardware address, or why it cannot be used.
    Interface {
        vip: VipId,
        state: Result<MacAddr, String>,
    },
    Installed {
        vip: VipId,
        result: Result<(), String>,
    },
    Removed {
        vip: VipId,
        result: Result<(), String>,
    },
    /// Somebody else removed an address of the VIP.
    AddressLost(VipId),
    /// A hardware address that is not ours answers for the VIP.
    Claim {
        vip: VipId,
        mac: MacAddr,
    },
    GatewayAnswered,
    /// A set that the CA key signed, from a peer's [`Message::Voters`] or by our own key; the edge has verified it.
    Voters(SignedVoters),
    VotersStored {
        stamp: VotersStamp,
        result: Result<(), String>,
    },
    Reconfigure(Box<Config>),
    /// Another host uses this node's key.
    Clone(String),
    /// Hand every VIP over and exit; `leave`: for good.
    Shutdown {
        leave: bool,
    },
}

#[must_use = "what the engine asks for must be done"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Send {
        to: NodeId,
        message: Message,
    },
    /// Add the VIP's addresses or push their end out: the kernel is to drop them at `until` by itself.
    Install {
        vip: VipId,
        until: Instant,
        renewal: bool,
    },
    Remove(VipId),
    Announce(VipId),
    /// Ask the wire who answers for the VIP.
    Probe(VipId),
    ProbeGateway,
    Publish(Box<MemberRecord>),
    SignVoters(VoterSet),
    StoreVoters(SignedVoters),
    Log(Event),
    /// Nothing is held any more.
    Exit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub warning: bool,
    pub text: String,
}

pub(crate) struct VipState {
    config: VipConfig,
    seat: Seat,
    addresses: Vip,
    claims: Claims,
    interface: Result<MacAddr, String>,
    /// The kernel refused the address, and until when it is not tried again.
    broken: Option<(String, Instant)>,
    free_since: Option<Instant>,
    /// The candidate that ranks before us while we own it, and since when.
    better: Option<(NodeId, Instant)>,
    /// Two-node mode: when the other's hardware address last answered for the VIP that we hold.
    rival_seen: Option<Instant>,
    conflict_at: Option<Instant>,
    highest: Term,
    /// The owner as last reported, and since when.
    owner: Owner,
    owner_since: Instant,
    until: Option<Instant>,
    deadline: Option<Instant>,
}

enum Drain {
    Stopping { since: Instant },
    Leaving { since: Instant },
    Done,
}

pub struct Engine {
    config: Config,
    started: Instant,
    health: Health,
    peers: Peers,
    lease: Lease,
    voter: Voter,
    voters: Voters,
    vips: Vec<VipState>,
    next_advert: Instant,
    next_housekeeping: Instant,
    gateway_at: Option<Instant>,
    gateway_probed: Instant,
    published: Option<MemberRecord>,
    drain: Option<Drain>,
    events: VecDeque<(Instant, Event)>,
    /// Something that the peers should hear of at once.
    dirty: bool,
    out: Vec<Action>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("node", &self.config.record.name).finish_non_exhaustive()
    }
}

impl Config {
    #[must_use]
    pub fn base(&self) -> Priority {
        Priority(self.record.base_priority)
    }
}

impl Engine {
    #[must_use]
    pub fn new(config: Config, voters: Option<SignedVoters>, now: Instant) -> Engine {
        let me = config.record.node;
        let mut engine = Engine {
            started: now,
            health: Health::new(&config.checks),
            peers: Peers::default(),
            lease: Lease::default(),
            voter: Voter::new(config.record.incarnation, config.timers, now),
            voters: Voters::new(me, voters, now),
            vips: config.vips.iter().map(|vip| VipState::new(vip.clone(), now)).collect(),
            next_advert: now,
            next_housekeeping: now + HOUSEKEEPING,
            gateway_at: None,
            gateway_probed: Instant::default(),
            published: None,
            drain: None,
            events: VecDeque::new(),
            dirty: true,
            out: Vec::new(),
            config,
        };
        if let Some(set) = engine.voters.set().cloned() {
            engine.lease.adopt(&set, &[], now);
        }
        engine
    }

    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Action> {
        let freed = self.voter.expire(now);
        self.tell_freed(freed, None, now);
        self.dirty |= self.voter.wakes(now);
        self.take_in(input, now);
        self.grow_voters(now);
        self.settle(now);
        for _ in 0..4 {
            if !self.dirty && self.next_advert > now {
                break;
            }
            self.advertise(now);
            self.settle(now);
        }
        self.keep_house(now);
        self.publish(now);
        self.finish_drain(now);
        self.note_deadlines(now);
        std::mem::take(&mut self.out)
    }

    fn take_in(&mut self, input: Input, now: Instant) {
        match input {
            Input::Deadline => {}
            Input::Message { from, message } => self.message(from, message, now),
            Input::Connected(node) => self.send_advert(node, now),
            Input::Member(record) => self.member(*record, now),
            Input::Check { name, outcome } => self.check(&name, &outcome),
            Input::Interface { vip, state } => self.interface(vip, state, now),
            Input::Installed { vip, result } => self.installed(vip, result, now),
            Input::Removed { vip, result } => self.removed(vip, result, now),
            Input::AddressLost(vip) => self.address_lost(vip, now),
            Input::Claim { vip, mac } => self.claim(vip, mac, now),
            Input::GatewayAnswered => self.gateway_at = Some(now),
            Input::Voters(signed) => self.offer_voters(&signed),
            Input::VotersStored { stamp, result } => self.voters_stored(stamp, result, now),
            Input::Reconfigure(config) => self.reconfigure(*config, now),
            Input::Clone(from) => self.warn(format!("another host at {from} uses this node's key: two nodes must not share a state directory; stop one of them and join it again under its own name"), now),
            Input::Shutdown { leave } => self.shutdown(leave, now),
        }
    }

    // ---- what others say

    fn message(&mut self, from: NodeId, message: Message, now: Instant) {
        match message {
            Message::Advert(advert) => self.advert(from, &advert, now),
            Message::Answer(answer) => {
                if self.lease.answer(from, &answer, &self.config.timers, now) {
                    self.dirty = true;
                }
            }
            Message::Freed(freed) => {
                for (vip, term) in freed.vips {
                    self.lease.freed(from, vip, term, now);
                }
            }
            // Unverified: the edge turns it into `Input::Voters` once its signature is checked.
            Message::Voters(_) => {}
        }
    }

    fn advert(&mut self, from: NodeId, advert: &Advert, now: Instant) {
        match self.peers.advert(from, advert, &self.config.timers, now) {
            Receipt::Stale => return,
            Receipt::Duplicate => {
                let name = self.name_of(from);
                self.warn_once(format!("{name} runs on two hosts with one key: stop one of them and join it again under its own name"), now);
            }
            Receipt::Returned => self.dirty = true,
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
            self.tell_freed(freed, Some(from), now);
        }
    }

    fn member(&mut self, record: MemberRecord, now: Instant) {
        let (node, leaving) = (record.node, record.leaving);
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

    // ---- what this host says

    fn check(&mut self, name: &str, outcome: &Outcome) {
        self.health.report(name, outcome);
    }

    fn interface(&mut self, vip: VipId, state: Result<MacAddr, String>, now: Instant) {
        let Some(vip) = self.vips.iter_mut().find(|v| v.id() == vip) else { return };
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

    fn installed(&mut self, vip: VipId, result: Result<(), String>, now: Instant) {
        let renew = self.renew();
        let Some(vip) = self.vips.iter_mut().find(|v| v.id() == vip) else { return };
        vip.addresses.installed(result.is_ok(), renew, now);
        if let Err(reason) = result {
            let text = format!("{}: {reason}", vip.config.name);
            vip.broken = Some((reason, now + BROKEN));
            self.warn(text, now);
        }
    }

    fn removed(&mut self, vip: VipId, result: Result<(), String>, now: Instant) {
        let Some(vip) = self.vips.iter_mut().find(|v| v.id() == vip) else { return };
        vip.addresses.removed(result.is_ok(), now);
        if let Err(reason) = result {
            let text = format!("{}: {reason}", vip.config.name);
            self.warn_once(text, now);
        }
    }

    fn address_lost(&mut self, vip: VipId, now: Instant) {
        let Some(vip) = self.vips.iter_mut().find(|v| v.id() == vip) else { return };
        if vip.addresses.lost(now) {
            let text = format!("{}: somebody removed its address; it is added again", vip.config.name);
            self.warn_once(text, now);
        }
    }

    fn claim(&mut self, vip: VipId, mac: MacAddr, now: Instant) {
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

    fn reconfigure(&mut self, config: Config, now: Instant) {
        self.health.reconfigure(&config.checks);
        let mut old = std::mem::take(&mut self.vips);
        for vip in &config.vips {
            let known = old.iter().position(|v| v.id() == vip.id).map(|at| old.swap_remove(at));
            let state = known.map_or_else(
                || VipState::new(vip.clone(), now),
                |mut state| {
                    state.addresses.set_refresh(vip.announce_refresh);
                    state.config = vip.clone();
                    state
                },
            );
            self.vips.push(state);
        }
        for gone in old.into_iter().filter(|vip| !vip.addresses.is_absent()) {
            self.out.push(Action::Remove(gone.id()));
        }
        self.config = config;
        self.dirty = true;
        self.info("the configuration was reloaded".into(), now);
    }

    // ---- who votes

    fn offer_voters(&mut self, signed: &SignedVoters) {
        if self.voters.offer(signed) {
            self.out.push(Action::StoreVoters(signed.clone()));
        }
    }

    fn voters_stored(&mut self, stamp: VotersStamp, result: Result<(), String>, now: Instant) {
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
        if set.step == Step::Commit {
            self.voter.commit(now);
        }
        let names: Vec<String> = set.voters.iter().map(|node| self.name_of(*node)).collect();
        let text =
            format!("voters are now {} (version {}): {}", names.join(", "), set.version, self.protection());
        self.info(text, now);
        for to in self.listeners() {
            let stamp = self.peers.get(to).map(peers::Peer::voters).unwrap_or_default();
            if let Some(newer) = self.voters.newer_for(to, stamp) {
                let message = Message::Voters(newer.clone());
                self.out.push(Action::Send { to, message });
            }
        }
    }

    fn grow_voters(&mut self, now: Instant) {
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
        let plan = Plan { cluster: self.config.cluster, voters_max: self.config.voters_max, leaves };
        if let Some(set) = self.voters.next(&plan, &others, &self.config.timers, now) {
            self.out.push(Action::SignVoters(set));
        }
    }

    /// A node that leaves has drained, and promises never to grant again: the set without it relies on that.
    fn votes(&self) -> bool {
        self.voters.is_voter(self.me()) && !matches!(self.drain, Some(Drain::Leaving { .. } | Drain::Done))
    }

    fn rules(&self) -> Rules {
        Rules { stamp: self.voters.stamp(), is_voter: self.votes(), step: self.voters.step() }
    }

    fn tell_freed(&mut self, freed: Freed, except: Option<NodeId>, now: Instant) {
        if freed.is_empty() {
            return;
        }
        let me = self.me();
        for (vip, term) in &freed {
            self.lease.freed(me, *vip, *term, now);
        }
        let message = Message::Freed(haclusterd_proto::cluster::Freed { vips: freed });
        for to in self.listeners().into_iter().filter(|to| Some(*to) != except) {
            self.out.push(Action::Send { to, message: message.clone() });
        }
    }

    // ---- what follows

    /// Lets every VIP take the steps that the facts allow, until none is left to take.
    fn settle(&mut self, now: Instant) {
        let renew = self.renew();
        for at in 0..self.vips.len() {
            self.observe(at, now);
            for _ in 0..4 {
                let facts = self.facts(&self.vips[at], now);
                let vip = &mut self.vips[at];
                vip.until = facts.until;
                let change = vip.seat.step(&facts, now);
                let serve = matches!(vip.seat.phase(), seat::Phase::Owner { .. });
                let until = facts.until.filter(|_| serve);
                let acts = vip.addresses.follow(until, renew, now);
                let id = vip.id();
                for act in &acts {
                    self.out.push(match act {
                        Act::Install { until } => Action::Install {
                            vip: id,
                            until: *until,
                            renewal: self.vips[at].addresses.is_held(),
                        },
                        Act::Remove => Action::Remove(id),
                        Act::Announce => Action::Announce(id),
                    });
                }
                match change {
                    Some(change) => self.changed(at, &change, now),
                    None => break,
                }
            }
        }
    }

    /// Notes since when things have been as they are.
    fn observe(&mut self, at: usize, now: Instant) {
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
        let owner = self.owner(self.vips[at].id(), now);
        let vip = &mut self.vips[at];
        if same_owner(vip.owner, owner) {
            vip.owner = owner; // only its lease is new
            return;
        }
        (vip.owner, vip.owner_since) = (owner, now);
        if let Owner::Peer(node) = owner {
            let text = format!("{}: {} owns it now", self.vips[at].config.name, self.name_of(node));
            self.info(text, now);
        }
    }

    fn changed(&mut self, at: usize, change: &Change, now: Instant) {
        self.dirty = true;
        let vip = &mut self.vips[at];
        let name = vip.config.name.clone();
        match change {
            Change::Asks | Change::GivesUp => {}
            Change::Takes(term) => {
                vip.highest = vip.highest.max(*term);
                vip.rival_seen = None;
                self.info(format!("{name}: taken, term {term}"), now);
            }
            Change::Leaves { why, lapsed: false } => self.info(format!("{name}: handed over: {why}"), now),
            Change::Leaves { why, lapsed: true } => self.warn(format!("{name}: let go: {why}"), now),
            Change::Left => {
                vip.free_since = None;
                // The better candidates are given the time to take it.
                vip.seat.hold_off(now + Duration::from_millis(100));
            }
        }
    }

    // ---- what the others must hear

    fn advertise(&mut self, now: Instant) {
        self.dirty = false;
        self.next_advert = now + self.config.timers.advert;
        let seq = self.next_seq(now);
        for to in self.listeners() {
            let advert = self.advert_for(to, seq, now);
            self.out.push(Action::Send { to, message: Message::Advert(advert) });
        }
        self.ask_self(seq, now);
    }

    fn send_advert(&mut self, to: NodeId, now: Instant) {
        let seq = self.next_seq(now);
        let advert = self.advert_for(to, seq, now);
        self.out.push(Action::Send { to, message: Message::Advert(advert) });
    }

    fn next_seq(&mut self, now: Instant) -> u64 {
        let wants: Vec<(VipId, bool)> = self.vips.iter().map(|v| (v.id(), v.seat.wants())).collect();
        self.lease.send(&wants, now)
    }

    /// This node's own vote goes the way of all others.
    fn ask_self(&mut self, seq: u64, now: Instant) {
        if !self.votes() {
            return;
        }
        let me = self.me();
        let advert = self.advert_for(me, seq, now);
        let (answer, freed) = self.voter.advert(me, &advert, &self.rules(), now);
        self.tell_freed(freed, None, now);
        if answer.is_some_and(|answer: Answer| self.lease.answer(me, &answer, &self.config.timers, now)) {
            self.dirty = true;
        }
    }

    fn advert_for(&self, to: NodeId, seq: u64, now: Instant) -> Advert {
        let bids = self.vips.iter().map(|vip| Bid {
            vip: vip.id(),
            priority: self.standing(vip, now),
            ready: self.ready(now) && !vip.seat.holds_off(now),
            want: vip.seat.wants(),
            holds: vip.seat.holds(),
            term: self.highest_term(vip.id()),
            addresses: match vip.seat.wants() && !self.lease.granted_by(to, vip.id()) {
                true => vip.config.addresses.clone(),
                false => Vec::new(),
            },
        });
        Advert {
            incarnation: self.config.record.incarnation,
            seq,
            voters: self.voters.stamp(),
            session: self.lease.session(to),
            bids: bids.collect(),
        }
    }

    /// Everybody who hears our adverts.
    fn listeners(&self) -> Vec<NodeId> {
        self.peers.iter().filter(|(_, peer)| !peer.left()).map(|(node, _)| node).collect()
    }

    fn publish(&mut self, now: Instant) {
        let leaving = matches!(self.drain, Some(Drain::Leaving { .. } | Drain::Done)) && self.is_leaving();
        let macs = self.vips.iter().filter_map(|v| v.interface.clone().ok());
        let mut macs: Vec<MacAddr> = macs.collect();
        macs.sort_unstable();
        macs.dedup();
        let standing = self.vips.iter().filter_map(|v| self.standing(v, now)).max();
        let record = MemberRecord {
            priority: standing.map(|p| p.0),
            health: self.health.verdict(),
            reason: self.reason(),
            vips: self.vips.iter().filter(|v| v.addresses.is_held()).map(VipState::id).collect(),
            macs,
            leaving,
            ..self.config.record.clone()
        };
        if self.published.as_ref() != Some(&record) {
            self.out.push(Action::Publish(Box::new(record.clone())));
            self.published = Some(record);
        }
    }

    /// Why this node is not well, for `members`.
    fn reason(&self) -> String {
        let unusable = self.vips.iter().find_map(|v| v.interface.as_ref().err().cloned());
        let broken = self.vips.iter().find_map(|v| v.broken.as_ref().map(|(reason, _)| reason.clone()));
        let health = Some(self.health.reason()).filter(|r| !r.is_empty());
        health.or(unusable).or(broken).unwrap_or_default()
    }

    // ---- the end

    fn shutdown(&mut self, leave: bool, now: Instant) {
        if self.drain.is_none() {
            self.config.record.leaving = leave;
            self.drain = Some(Drain::Stopping { since: now });
            let why = if leave { "leaving the cluster" } else { "stopping" };
            self.info(why.into(), now);
        }
    }

    fn is_leaving(&self) -> bool {
        self.config.record.leaving
    }

    fn finish_drain(&mut self, now: Instant) {
        let Some(drain) = &self.drain else { return };
        let clear = self.vips.iter().all(|v| v.addresses.is_absent() && !v.seat.wants()) && !self.dirty;
        let alone = self.listeners().is_empty();
        match drain {
            Drain::Stopping { since } if clear || now >= *since + DRAIN => {
                if !clear {
                    self.warn(
                        "an address could not be removed in time; the kernel drops it within seconds".into(),
                        now,
                    );
                }
                self.drain = Some(if self.is_leaving() && !alone {
                    Drain::Leaving { since: now }
                } else {
                    Drain::Done
                });
                if matches!(self.drain, Some(Drain::Done)) {
                    self.out.push(Action::Exit);
                } else {
                    self.publish(now);
                }
            }
            Drain::Leaving { since } => {
                let voter = self.voters.is_voter(self.me());
                if !voter || now >= *since + LEAVE {
                    if voter {
                        self.warn(
                            "left, but its vote is still counted: no issuer answered in time".into(),
                            now,
                        );
                    }
                    self.drain = Some(Drain::Done);
                    self.out.push(Action::Exit);
                }
            }
            Drain::Stopping { .. } | Drain::Done => {}
        }
    }

    // ---- small things

    fn keep_house(&mut self, now: Instant) {
        let suspected = |other: NodeId| {
            let heard = self.peers.get(other).and_then(peers::Peer::heard_at);
            heard.is_none_or(|at| now.since(at) >= self.config.timers.suspect_after())
        };
        if self.config.gateway
            && self.voters.other().is_some_and(suspected)
            && now.since(self.gateway_probed) >= claims::FAST
        {
            self.gateway_probed = now;
            self.out.push(Action::ProbeGateway);
        }
        for (node, alive) in self.peers.transitions(&self.config.timers, now) {
            let name = self.name_of(node);
            match alive {
                true => self.info(format!("{name} is alive"), now),
                false => self.warn(format!("{name} is not heard any more"), now),
            }
        }
        if self.next_housekeeping <= now {
            self.next_housekeeping = now + HOUSEKEEPING;
            let voters = self.voters.set().map(|set| set.voters.clone()).unwrap_or_default();
            self.peers.forget(|node| voters.contains(&node), now);
        }
    }

    fn note_deadlines(&mut self, now: Instant) {
        for at in 0..self.vips.len() {
            let facts = self.facts(&self.vips[at], now);
            let need = self.probe_need(&self.vips[at], now);
            let vip = &self.vips[at];
            let preempts = vip.better.map(|(_, since)| since + vip.config.preempt_delay);
            let ends =
                [vip.seat.deadline(&facts), vip.addresses.deadline(), vip.claims.next_probe(need), preempts];
            let soonest = ends.into_iter().flatten().filter(|at| *at > now).min();
            self.vips[at].deadline = soonest;
        }
    }

    /// How often the address's end is pushed out: several times within the shortest life that it can have.
    fn renew(&self) -> Duration {
        match self.voters.mode() {
            Mode::TwoNode => facts::SELF_LEASE / 3,
            _ => (self.config.timers.lease * 3 / 5).min(Duration::from_millis(300)),
        }
    }

    fn me(&self) -> NodeId {
        self.config.record.node
    }

    fn vip(&self, id: VipId) -> Option<&VipState> {
        self.vips.iter().find(|vip| vip.id() == id)
    }

    fn info(&mut self, text: String, now: Instant) {
        self.log(Event { warning: false, text }, now);
    }

    fn warn(&mut self, text: String, now: Instant) {
        self.log(Event { warning: true, text }, now);
    }

    /// The same words at most every ten seconds.
    fn warn_once(&mut self, text: String, now: Instant) {
        let recent = |(at, event): &(Instant, Event)| event.text == text && now.since(*at) < CONFLICT_PAUSE;
        if !self.events.iter().any(recent) {
            self.warn(text, now);
        }
    }

    fn log(&mut self, event: Event, now: Instant) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_back();
        }
        self.events.push_front((now, event.clone()));
        self.out.push(Action::Log(event));
    }
}

impl Elect for Engine {
    fn owner(&self, vip: VipId, now: Instant) -> Owner {
        let Some(state) = self.vip(vip) else { return Owner::Nobody };
        if let (Some(term), Some(until)) = (state.seat.holds(), state.until) {
            return Owner::Us { term, until };
        }
        let holds =
            self.peers.iter().filter_map(|(node, p)| Some((p.holds(vip, &self.config.timers, now)?, node)));
        holds.max().map_or(Owner::Nobody, |(_, node)| Owner::Peer(node))
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        let vips = self.vips.iter().filter_map(|vip| vip.deadline);
        let drain = match &self.drain {
            Some(Drain::Stopping { since }) => Some(*since + DRAIN),
            Some(Drain::Leaving { since }) => Some(*since + LEAVE),
            Some(Drain::Done) | None => None,
        };
        vips.chain(self.voter.deadline(now)).chain([self.next_advert]).chain(drain).min()
    }
}

fn same_owner(a: Owner, b: Owner) -> bool {
    match (a, b) {
        (Owner::Us { term: a, .. }, Owner::Us { term: b, .. }) => a == b,
        _ => a == b,
    }
}

impl VipState {
    fn new(config: VipConfig, now: Instant) -> VipState {
        VipState {
            seat: Seat::new(now),
            addresses: Vip::new(config.announce_refresh),
            claims: Claims::default(),
            interface: Err("its interface is not known yet".into()),
            broken: None,
            free_since: None,
            better: None,
            rival_seen: None,
            conflict_at: None,
            highest: Term::default(),
            owner: Owner::Nobody,
            owner_since: now,
            until: None,
            deadline: None,
            config,
        }
    }

    fn id(&self) -> VipId {
        self.config.id
    }

    fn broken(&self, now: Instant) -> Option<String> {
        self.broken.as_ref().filter(|(_, until)| now < *until).map(|(reason, _)| reason.clone())
    }
}
