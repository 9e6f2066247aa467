//! The core: [`Engine::handle`] is a function of its state, an [`Input`] and the time, and says what must happen as
//! [`Action`]s. It has no clock, socket, file, randomness or await.
//!
//! A timer is a field; [`Engine::deadline`] is the next one. Every call first does what is due at `now`, so a flood
//! of inputs starves no deadline and a late wake-up is just a large `now`.

pub mod acks;
mod ballot;
pub mod claims;
mod course;
mod drain;
pub mod elect;
mod facts;
pub mod flaps;
pub mod health;
pub mod heed;
pub mod heir;
pub mod hooks;
mod intake;
pub mod lease;
mod orders;
pub mod peers;
pub mod rank;
mod reform;
pub mod routers;
pub mod seat;
mod speech;
mod status;
mod tell;
pub mod time;
mod view;
pub mod vip;
pub mod voter;
pub mod voters;
pub mod vrrp;

use claims::Claims;
use elect::{Elect, Owner};
use flaps::Flaps;
use haclusterd_proto::cluster::{Advert, Answer, Bid, Message, SignedVoters, Step, VoterSet, VotersStamp};
use haclusterd_proto::control::{Mode, Order, VoterRequest};
use haclusterd_proto::member::MemberRecord;
use haclusterd_proto::{AddrId, ClusterId, MacAddr, NodeId, Priority, Term, VipId};
use health::{CheckConfig, Health, Outcome};
use heed::Heard;
use heir::Memory;
use lease::Lease;
use peers::{Peers, Receipt};
use routers::{RouterConfig, RouterState};
use seat::{Change, Seat};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use time::{IDLE_ADVERT, Instant, Timers};
use view::View;
use vip::{Act, Goal, Verify, Vip};
use voter::{Freed, Rules, Voter};
use voters::{Candidate, Plan, Stored, Voters};

/// Events kept for `status`.
const MAX_EVENTS: usize = 100;
/// A node that could not install an address does not try again for so long.
const BROKEN: Duration = Duration::from_secs(5);
/// A stopping node waits this long for the kernel and its voters.
const DRAIN: Duration = Duration::from_secs(2);
/// A new run needs some 50 ms from the end of the old one to its first advert, on a host that has time for it.
const RESTART: Duration = Duration::from_millis(100);
/// A leaving voter waits this long for the voter set without it.
const LEAVE: Duration = Duration::from_secs(5);
/// Gossip gets so much time to carry the last words.
const FAREWELL: Duration = Duration::from_millis(500);
/// So many addresses are renewed as often as one; of more, each less often, and it lives longer by so much at most, which
/// the guard of the fence outlives by far.
const MANY: usize = 32;
const SLACK: Duration = Duration::from_secs(10);
/// Between two probes of VIPs that others hold.
const PROBES: Duration = Duration::from_millis(40);
/// Between two looks for members that are long gone.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// Between two reports of the same conflict, and two defences against it.
const CONFLICT_PAUSE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VipConfig {
    pub id: VipId,
    pub name: String,
    pub addresses: Vec<AddrId>,
    pub preempt: bool,
    pub preempt_delay: Duration,
    pub announce_refresh: Duration,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    pub cluster: ClusterId,
    /// What this node tells of itself; the engine fills in what changes.
    pub record: MemberRecord,
    pub timers: Timers,
    /// The lease that an earlier run of this node may have granted.
    pub earlier_lease: Duration,
    pub voters_max: usize,
    /// Two voters need each other: neither holds a VIP alone.
    pub strict_pair: bool,
    /// A gateway is configured: two-node mode takes over only while it answers.
    pub gateway: bool,
    /// An operator wanted this node to own nothing, before it was started.
    pub standby: bool,
    /// The kernel has a fence, so that the addresses' own end is a second line of defence.
    pub fenced: bool,
    /// Who has a check that is down comes after all who are healthy, whatever the weights.
    pub strict_health: bool,
    pub vips: Vec<VipConfig>,
    pub routers: Vec<RouterConfig>,
    pub checks: Vec<CheckConfig>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
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
        /// Which of the check's parts; empty if it has but one.
        part: String,
        outcome: Outcome,
    },
    /// The VIPs' interfaces: their hardware addresses, or why they cannot be used.
    Interfaces(Vec<(VipId, Result<MacAddr, String>)>),
    Installed(Vec<(VipId, Result<(), String>)>),
    Removed(Vec<(VipId, Result<(), String>)>),
    /// Somebody else removed an address of the VIP.
    AddressLost(VipId),
    /// A hardware address that is not ours answers for the VIP.
    Claim {
        vip: VipId,
        mac: MacAddr,
    },
    GatewayAnswered,
    /// An advert for a virtual router of ours.
    Vrrp(Box<Heard>),
    /// The address that the virtual router's adverts come from, if its interface has one.
    Primary {
        vip: VipId,
        address: Option<IpAddr>,
    },
    /// A set that the CA key signed, from a peer's [`Message::Voters`] or by our own key; the edge has verified it.
    Voters(SignedVoters),
    VotersStored {
        stamp: VotersStamp,
        result: Result<(), String>,
    },
    Reconfigure(Box<Config>),
    /// An operator's wish; [`Engine::judge_voters`] tells whether it is granted.
    ChangeVoters(VoterRequest),
    /// [`Engine::judge_order`] tells whether it is granted.
    Order(Order),
    /// This node's certificate is good until then: seconds since 1970.
    Renewed(i64),
    /// Another host uses this node's key.
    Clone(String),
    /// Hand every VIP over and exit; `leave`: for good.
    Shutdown {
        leave: bool,
    },
    /// Exit at once and leave everything as it is: a successor comes within the lease. If that is too short for one,
    /// the same as a shutdown.
    Restart,
}

#[must_use = "what the engine asks for must be done"]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Action {
    Send {
        to: NodeId,
        message: Message,
    },
    /// Add the VIP's addresses or push their end out: the kernel is to close the fence at `until` by itself, and to drop
    /// them then.
    Install {
        vip: VipId,
        until: Instant,
        /// It may keep the addresses for so much longer than it may pass their packets.
        slack: Duration,
    },
    /// The fences of these are to stay open until then; each closes by itself when it is not.
    Extend(Vec<(VipId, Instant)>),
    /// The same of all fences that are open, but for those of virtual routers.
    ExtendAll(Instant),
    /// Take no new connections for these: they are about to be removed.
    Quiet(VipId),
    Remove(VipId),
    Announce(VipId),
    /// Ask single neighbours in the VIP's name.
    Verify {
        vip: VipId,
        what: Verify,
    },
    /// Ask the wire who answers for the VIP.
    Probe(VipId),
    ProbeGateway,
    /// Send an advert of this virtual router.
    Vrrp {
        vip: VipId,
        priority: u8,
    },
    Publish(Box<MemberRecord>),
    SignVoters(VoterSet),
    StoreVoters(SignedVoters),
    /// These were removed: no connection with them any more.
    Dismiss(Vec<NodeId>),
    /// What a successor within the lease would have to know.
    Remember(Box<Memory>),
    /// What programs outside are to hear.
    Changed(Box<hooks::Changed>),
    Log(Event),
    /// Nothing is held any more, or it is left to a successor.
    Exit,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    pub warning: bool,
    pub text: String,
}

/// The kernel refused an address: why, and until when it is not tried again.
type Broken = Option<(String, Instant)>;

/// Half of it or more, so that what is done for each VIP is not done for all at once.
fn spread(longest: Duration, vip: VipId) -> Duration {
    longest / 2 + longest / 128 * u32::try_from(vip.0 % 64).unwrap_or(0)
}

fn still_broken(broken: &Broken, now: Instant) -> Option<String> {
    broken.as_ref().filter(|(_, until)| now < *until).map(|(reason, _)| reason.clone())
}

#[derive(Clone, Serialize)]
pub(crate) struct VipState {
    config: VipConfig,
    seat: Seat,
    addresses: Vip,
    claims: Claims,
    interface: Result<MacAddr, String>,
    /// The edge has told of the interface.
    reported: bool,
    /// This run has it from the one before.
    heir: bool,
    broken: Broken,
    free_since: Option<Instant>,
    /// The candidate that ranks before us while we own it, and since when.
    better: Option<(NodeId, Instant)>,
    /// Two-node mode: when the other's hardware address last answered for the VIP that we hold.
    rival_seen: Option<Instant>,
    /// A member says that it holds the VIP that this node holds.
    contested: bool,
    conflict_at: Option<Instant>,
    highest: Term,
    /// The owner as last reported, and since when.
    owner: Owner,
    owner_since: Instant,
    until: Option<Instant>,
    pin: Option<orders::Pin>,
    /// When it must be looked at again, although nothing has changed; and when its lease ends.
    deadline: Option<Instant>,
    lapse: Option<Instant>,
    #[serde(skip)] // nothing follows from it
    told: tell::Told,
}

#[derive(Clone, Serialize)]
enum Drain {
    Stopping { since: Instant },
    Leaving { since: Instant },
    Done,
}

/// Its state is plain data, so that a model check (tests/model) can copy it and tell two states apart.
#[derive(Clone, Serialize)]
pub struct Engine {
    config: Config,
    started: Instant,
    health: Health,
    flaps: Flaps,
    peers: Peers,
    lease: Lease,
    voter: Voter,
    voters: Voters,
    vips: Vec<VipState>,
    routers: Vec<RouterState>,
    next_advert: Instant,
    next_idle_advert: Instant,
    next_housekeeping: Instant,
    gateway_at: Option<Instant>,
    gateway_probed: Instant,
    published: Option<MemberRecord>,
    /// How often a check went down, and how often one was found saturated.
    failed: u64,
    saturated: u64,
    drain: Option<Drain>,
    standby: bool,
    /// Holds something that an earlier run of this node held.
    heir: bool,
    remembered: Memory,
    events: VecDeque<(Instant, Event)>,
    #[serde(skip)] // nothing follows from it
    groups: tell::Groups,
    /// Something that the peers should hear of at once.
    dirty: bool,
    /// What all VIPs depend on, as it was when they were last looked at.
    view: View,
    #[serde(skip)] // it has no meaning
    spare: View,
    /// All VIPs must be looked at.
    moved: bool,
    /// Some have been since the outside was last told of them.
    looked: bool,
    /// This node and its interfaces can serve.
    well: bool,
    /// When the first VIP must be looked at, if nothing changes.
    soonest: Option<Instant>,
    /// Until when everything that is held was last prolonged as one.
    fenced: Instant,
    /// The bids of the next advert, and whether they may be others by now.
    bids: Arc<[Bid]>,
    stale: bool,
    #[serde(skip)] // empty between two calls
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
            flaps: Flaps::default(),
            peers: Peers::default(),
            lease: Lease::default(),
            voter: Voter::new(config.record.incarnation, config.timers, config.earlier_lease, now),
            voters: Voters::new(me, voters, now),
            vips: config.vips.iter().map(|vip| VipState::new(vip.clone(), now)).collect(),
            routers: config.routers.iter().map(|router| RouterState::new(router.clone(), now)).collect(),
            next_advert: now,
            next_idle_advert: now,
            next_housekeeping: now + HOUSEKEEPING,
            gateway_at: None,
            gateway_probed: Instant::default(),
            published: None,
            failed: 0,
            saturated: 0,
            drain: None,
            standby: config.standby,
            heir: false,
            remembered: Memory::default(),
            events: VecDeque::new(),
            groups: tell::Groups::default(),
            dirty: true,
            view: View::default(),
            spare: View::default(),
            moved: true,
            looked: true,
            well: false,
            soonest: None,
            fenced: now,
            bids: Arc::default(),
            stale: true,
            out: Vec::new(),
            config,
        };
        engine.set_paces();
        if let Some(set) = engine.voters.set().cloned() {
            engine.lease.adopt(&set, &[], now);
            engine.dismiss(now);
        }
        engine
    }

    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Action> {
        let freed = self.voter.expire(now);
        self.tell_freed(freed, None);
        self.dirty |= self.voter.wakes(now);
        if matches!(input, Input::Restart) && self.drain.is_none() && self.outlasts_a_restart(now) {
            self.info("restarting: the VIPs stay for the next run".into(), now);
            self.out.push(Action::Exit);
            return std::mem::take(&mut self.out);
        }
        self.take_in(input, now);
        self.look(now);
        self.dirty |= self.flaps.observe(self.well, now);
        if self.moved || self.next_advert <= now {
            self.grow_voters(now);
        }
        self.settle(now);
        for _ in 0..4 {
            if !self.dirty && self.next_advert > now {
                break;
            }
            self.advertise(now);
            self.settle(now);
        }
        self.run_routers(now);
        self.keep_house(now);
        let looked = std::mem::take(&mut self.looked) || self.drain.is_some() || !self.routers.is_empty();
        if looked {
            self.publish(now);
            self.finish_drain(now);
            self.tell(now);
            self.remember();
        }
        std::mem::take(&mut self.out)
    }

    fn take_in(&mut self, input: Input, now: Instant) {
        match &input {
            Input::Deadline | Input::Message { .. } | Input::Connected(_) => {}
            // What it does to all VIPs, the view shows.
            Input::Check { .. } => self.looked = true,
            Input::Installed(all) | Input::Removed(all) => {
                all.iter().for_each(|(vip, _)| self.touch(*vip, now))
            }
            Input::AddressLost(vip) | Input::Claim { vip, .. } => self.touch(*vip, now),
            _ => self.moved = true,
        }
        match input {
            Input::Deadline => {}
            Input::Message { from, message } => self.message(from, message, now),
            Input::Connected(node) => self.send_advert(node, now),
            Input::Member(record) => self.member(*record, now),
            Input::Check { name, part, outcome } => self.check(&name, &part, &outcome, now),
            Input::Interfaces(all) => all.into_iter().for_each(|(vip, state)| self.interface(vip, state, now)),
            Input::Installed(all) => all.into_iter().for_each(|(vip, result)| self.installed(vip, result, now)),
            Input::Removed(all) => all.into_iter().for_each(|(vip, result)| self.removed(vip, result, now)),
            Input::AddressLost(vip) => self.address_lost(vip, now),
            Input::Claim { vip, mac } => self.claim(vip, mac, now),
            Input::Vrrp(heard) => self.vrrp(&heard, now),
            Input::Primary { vip, address } => self.router_primary(vip, address),
            Input::GatewayAnswered => self.gateway_at = Some(now),
            Input::Voters(signed) => self.offer_voters(&signed),
            Input::VotersStored { stamp, result } => self.voters_stored(stamp, result, now),
            Input::ChangeVoters(request) => self.change_voters(&request, now),
            Input::Order(order) => self.order(&order, now),
            Input::Renewed(until) => {
                self.config.record.cert_not_after = until;
                self.info("its certificate was renewed".into(), now);
            }
            Input::Reconfigure(config) => self.reconfigure(*config, now),
            Input::Clone(from) => self.warn_once(format!("another host at {from} uses this node's key: two nodes must not share a state directory; stop one of them and join it again under its own name"), now),
            Input::Shutdown { leave } => self.shutdown(leave, now),
            Input::Restart => self.shutdown(false, now),
        }
    }

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

    /// How often an address's end is pushed out: several times within the shortest life that it can have.
    fn renew(&self) -> Duration {
        match self.voters.mode() {
            Mode::TwoNode => facts::SELF_LEASE / 3,
            _ => (self.config.timers.lease * 3 / 5).min(Duration::from_millis(300)),
        }
    }

    /// How much longer this VIP's addresses live, so that many cost the kernel no more than some, at times of their own.
    /// Only behind a fence.
    fn slack(&self, vip: VipId) -> Duration {
        let many = u32::try_from(self.vips.len() / MANY).unwrap_or(u32::MAX);
        if !self.config.fenced || many == 0 {
            return Duration::ZERO;
        }
        spread((self.renew() * many).min(SLACK), vip)
    }

    /// However many VIPs others hold, so many probes a second go out.
    fn set_paces(&mut self) {
        let many = u32::try_from(self.vips.len()).unwrap_or(u32::MAX);
        let pace = PROBES * many;
        for vip in &mut self.vips {
            vip.claims.set_pace(if pace <= claims::SLOW {
                claims::SLOW
            } else {
                spread(pace, vip.config.id)
            });
        }
    }

    fn owner_of(&self, vip: &VipState, now: Instant) -> Owner {
        if let (Some(term), Some(until)) = (vip.seat.holds(), vip.until) {
            return Owner::Us { term, until };
        }
        let holds = |(node, peer): (NodeId, &peers::Peer)| {
            Some((peer.holds(vip.id(), &self.config.timers, now)?, node))
        };
        self.peers.iter().filter_map(holds).max().map_or(Owner::Nobody, |(_, node)| Owner::Peer(node))
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
        self.vip(vip).map_or(Owner::Nobody, |vip| self.owner_of(vip, now))
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        let drain = match &self.drain {
            Some(Drain::Stopping { since }) => Some(*since + DRAIN),
            Some(Drain::Leaving { since }) => {
                Some(*since + FAREWELL).filter(|at| *at > now).or(Some(*since + self.patience_to_leave()))
            }
            Some(Drain::Done) | None => None,
        };
        self.soonest
            .into_iter()
            .chain(self.voter.deadline(now))
            .chain([self.next_advert])
            .chain(self.flaps.deadline())
            .chain(self.routers_deadline())
            .chain(drain)
            .min()
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
            reported: false,
            heir: false,
            broken: None,
            free_since: None,
            better: None,
            rival_seen: None,
            contested: false,
            conflict_at: None,
            highest: Term::default(),
            owner: Owner::Nobody,
            owner_since: now,
            until: None,
            pin: None,
            deadline: None,
            lapse: None,
            told: tell::Told::default(),
            config,
        }
    }

    fn id(&self) -> VipId {
        self.config.id
    }

    /// When it must be looked at, if nothing changes.
    fn next(&self) -> Option<Instant> {
        [self.deadline, self.lapse].into_iter().flatten().min()
    }

    fn broken(&self, now: Instant) -> Option<String> {
        still_broken(&self.broken, now)
    }
}
