//! The virtual routers of this node: each is told its priority and what it hears, its adverts are sent, and its
//! addresses follow its state. Those of one group are master together or not at all.

use super::vrrp::{ADDRESS_OWNER, Advert, LEAVING, Router, Send, Settings, State, Version};
use super::*;
use std::collections::BTreeMap;
use std::net::IpAddr;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RouterConfig {
    pub vip: VipId,
    pub name: String,
    pub vrid: u8,
    pub settings: Settings,
    pub priority: u8,
    pub addresses: Vec<IpAddr>,
    /// Empty: multicast.
    pub peers: Vec<IpAddr>,
    pub group: Option<String>,
    pub announce_refresh: Duration,
}

/// What came for a virtual router of ours, and is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    pub vip: VipId,
    pub source: IpAddr,
    /// The TTL or hop limit that was left.
    pub hops: u8,
    pub multicast: bool,
    pub version: Version,
    pub priority: u8,
    pub interval: Duration,
    pub addresses: Vec<IpAddr>,
    /// By its password, or because none is wanted.
    pub authentic: bool,
}

/// Why an advert is not listened to: RFC 9568 7.1 and RFC 3768 7.1, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Refused {
    Ttl,
    Version,
    /// It came by the way that this router does not use, or from a host that is none of its peers.
    Sender,
    AddressOwner,
    Password,
    Interval,
}

impl Refused {
    const ALL: [Refused; 6] = [
        Refused::Ttl,
        Refused::Version,
        Refused::Sender,
        Refused::AddressOwner,
        Refused::Password,
        Refused::Interval,
    ];

    /// Of its counter.
    pub(super) fn name(self) -> &'static str {
        match self {
            Refused::Ttl => "vrrp_bad_ttl",
            Refused::Version => "vrrp_bad_version",
            Refused::Sender => "vrrp_bad_sender",
            Refused::AddressOwner => "vrrp_own_addresses",
            Refused::Password => "vrrp_bad_password",
            Refused::Interval => "vrrp_bad_interval",
        }
    }
}

#[derive(Clone, Serialize)]
pub(crate) struct RouterState {
    pub(super) config: RouterConfig,
    pub(super) router: Router,
    pub(super) addresses: Vip,
    interface: Result<MacAddr, String>,
    /// The address that adverts come from.
    primary: Option<IpAddr>,
    pub(super) broken: Broken,
    pub(super) master: Option<(Advert, Instant)>,
    pub(super) since: Instant,
    refused: BTreeMap<Refused, u64>,
}

impl RouterState {
    pub(super) fn new(config: RouterConfig, now: Instant) -> RouterState {
        RouterState {
            router: Router::new(config.settings.clone()),
            addresses: Vip::new(config.announce_refresh),
            interface: Err("its interface is not known yet".into()),
            primary: None,
            broken: None,
            master: None,
            since: now,
            refused: BTreeMap::new(),
            config,
        }
    }

    pub(super) fn id(&self) -> VipId {
        self.config.vip
    }

    /// Only an advert moves the end of its addresses, which is at least two intervals off then.
    pub(super) fn renew(&self, cluster: Duration) -> Duration {
        cluster.max(self.config.settings.interval)
    }

    /// Why it can take no part, whatever this node's health.
    pub(super) fn fault(&self, now: Instant) -> Option<String> {
        let mute =
            self.primary.is_none().then(|| "its interface has no address to send adverts from".to_owned());
        self.interface.as_ref().err().cloned().or(mute).or_else(|| still_broken(&self.broken, now))
    }

    /// RFC 9568 7.1; what concerns the message alone was looked at before.
    fn judge(&self, heard: &Heard) -> Result<(), Refused> {
        let config = &self.config;
        let wrong_way = match config.peers.is_empty() {
            true => !heard.multicast,
            false => heard.multicast || !config.peers.contains(&heard.source),
        };
        let other_interval =
            config.settings.version == Version::V2 && heard.interval != config.settings.interval;
        [
            (heard.multicast && heard.hops != 255, Refused::Ttl),
            (heard.version != config.settings.version, Refused::Version),
            (wrong_way, Refused::Sender),
            (config.priority == ADDRESS_OWNER, Refused::AddressOwner),
            (!heard.authentic, Refused::Password),
            (other_interval, Refused::Interval),
        ]
        .into_iter()
        .find_map(|(wrong, why)| wrong.then_some(why))
        .map_or(Ok(()), Err)
    }

    /// What an operator must know of an advert that is refused.
    fn complaint(&self, heard: &Heard, why: Refused) -> String {
        let RouterConfig { name, vrid, settings, .. } = &self.config;
        let who = heard.source;
        let what = match why {
            Refused::Ttl => {
                format!("came with TTL {}, so through a router: VRRP is for one link", heard.hops)
            }
            Refused::Version => {
                format!("is of version {}: set `version` to the same on both", version(heard.version))
            }
            Refused::Sender if heard.multicast => {
                "came by multicast: name unicast_peers on both, or on neither".into()
            }
            Refused::Sender => "came by unicast, and it is none of unicast_peers: name it there".into(),
            Refused::AddressOwner if heard.priority == ADDRESS_OWNER => {
                "says too that it has the addresses by itself (priority 255): only one may".into()
            }
            Refused::AddressOwner => return String::new(),
            Refused::Password => {
                "has another password: set the same on both, or give one of them another VRID".into()
            }
            Refused::Interval => format!(
                "is sent every {:?}, and ours every {:?}: set advert_interval to the same on both",
                heard.interval, settings.interval
            ),
        };
        format!("{name}: the advert of {who} for VRID {vrid} {what}")
    }

    fn differs(&self, heard: &Heard) -> bool {
        let sorted = |list: &[IpAddr]| {
            let mut list = list.to_vec();
            list.sort_unstable();
            list
        };
        sorted(&heard.addresses) != sorted(&self.config.addresses)
    }
}

pub(super) fn version(version: Version) -> u8 {
    match version {
        Version::V2 => 2,
        Version::V3 => 3,
    }
}

impl Engine {
    pub(super) fn router_at(&self, vip: VipId) -> Option<usize> {
        self.routers.iter().position(|router| router.id() == vip)
    }

    pub(super) fn vrrp(&mut self, heard: &Heard, now: Instant) {
        let Some(at) = self.router_at(heard.vip) else { return };
        let router = &mut self.routers[at];
        if let Err(why) = router.judge(heard) {
            *router.refused.entry(why).or_default() += 1;
            let complaint = router.complaint(heard, why);
            if !complaint.is_empty() {
                self.warn_once(complaint, now);
            }
            return;
        }
        let advert = Advert { source: heard.source, priority: heard.priority, interval: heard.interval };
        router.master = (advert.priority != LEAVING).then_some((advert, now));
        let (differs, before) = (router.differs(heard), router.router.state());
        let sent = router.router.heard(&advert, router.primary, now);
        self.send_vrrp(at, sent);
        self.note_router(at, before, now);
        if differs {
            let RouterConfig { name, vrid, .. } = &self.routers[at].config;
            let text = format!(
                "{name}: {} uses VRID {vrid} for other addresses: make them the same on both, or give one of them another VRID",
                heard.source
            );
            self.warn_once(text, now);
        }
    }

    /// Lets every virtual router do what is due, and its addresses follow.
    pub(super) fn run_routers(&mut self, now: Instant) {
        for at in 0..self.routers.len() {
            let before = self.routers[at].router.state();
            let priority = self.router_priority(at, now);
            let sent = self.routers[at].router.set_priority(priority, now);
            self.send_vrrp(at, sent);
            self.note_router(at, before, now);
        }
        // Who may is known of all before the first does.
        let all_want = |at| self.group_of(at).all(|other: &RouterState| other.router.wants(now));
        let may: Vec<bool> = (0..self.routers.len()).map(all_want).collect();
        for (at, may) in may.into_iter().enumerate() {
            let before = self.routers[at].router.state();
            let sent = self.routers[at].router.expire(may, now);
            self.send_vrrp(at, sent);
            self.note_router(at, before, now);
        }
        self.keep_step(now);
        let (renew, mut extended) = (self.renew(), Vec::new());
        for router in &mut self.routers {
            let acts = router.addresses.follow(router.router.until(), router.renew(renew), now);
            course::perform(acts, router.id(), &mut self.out, &mut extended);
        }
        self.extend(extended);
    }

    /// A fault of one is the fault of all in its group.
    fn router_priority(&self, at: usize, now: Instant) -> Option<u8> {
        let own = self.priority_of(&self.routers[at], now).filter(|_| self.drain.is_none());
        own.filter(|_| self.group_of(at).all(|other| self.priority_of(other, now).is_some()))
    }

    /// The address owner's priority is not what checks make of it.
    fn priority_of(&self, router: &RouterState, now: Instant) -> Option<u8> {
        let base = router.config.priority;
        let own = if base == ADDRESS_OWNER { 254 } else { base };
        let effective = self.fitness_of(Priority(own), now).filter(|_| router.fault(now).is_none())?;
        Some(if base == ADDRESS_OWNER { base } else { effective.0 })
    }

    /// It and those that it must keep step with.
    fn group_of(&self, at: usize) -> impl Iterator<Item = &RouterState> {
        let own = &self.routers[at];
        let together = |other: &&RouterState| {
            other.id() == own.id() || own.config.group.is_some() && other.config.group == own.config.group
        };
        self.routers.iter().filter(together)
    }

    /// Where one has found a better master, the others of its group are masters no longer.
    fn keep_step(&mut self, now: Instant) {
        for at in 0..self.routers.len() {
            let torn = self.group_of(at).any(|other| other.router.state() != State::Master);
            if torn && self.routers[at].router.state() == State::Master {
                self.routers[at].router.yield_now(now);
                self.note_router(at, State::Master, now);
            }
        }
    }

    fn send_vrrp(&mut self, at: usize, sent: Option<Send>) {
        if let Some(Send(priority)) = sent {
            self.out.push(Action::Vrrp { vip: self.routers[at].id(), priority });
        }
    }

    fn note_router(&mut self, at: usize, before: State, now: Instant) {
        let router = &mut self.routers[at];
        let after = router.router.state();
        if before == after {
            return;
        }
        router.since = now;
        let name = router.config.name.clone();
        match after {
            State::Master => {
                let priority = router.router.priority();
                router.addresses.announce_again(now);
                self.info(format!("{name}: master, priority {priority}"), now);
            }
            State::Backup => {
                let who = router.master.map_or(String::new(), |(advert, _)| {
                    format!(": {} has priority {}", advert.source, advert.priority)
                });
                self.info(format!("{name}: backup{who}"), now);
            }
            State::Init if self.drain.is_some() => {}
            State::Init => {
                let why = self.why_fault(at, now);
                self.warn(format!("{name}: fault: {why}"), now);
            }
        }
    }

    pub(super) fn why_fault(&self, at: usize, now: Instant) -> String {
        let own = self.routers[at].fault(now);
        let other = || {
            let sick = self.group_of(at).find(|other| other.fault(now).is_some())?;
            Some(format!("{} of its group: {}", sick.config.name, sick.fault(now)?))
        };
        own.or_else(other).unwrap_or_else(|| self.health.reason())
    }

    pub(super) fn routers_deadline(&self) -> Option<Instant> {
        let due = |router: &RouterState| [router.router.deadline(), router.addresses.deadline()];
        self.routers.iter().flat_map(due).flatten().min()
    }

    pub(super) fn router_interface(&mut self, at: usize, state: Result<MacAddr, String>, now: Instant) {
        let router = &mut self.routers[at];
        if state.is_ok() && router.interface.is_err() {
            router.addresses.announce_again(now);
        }
        router.interface = state;
    }

    pub(super) fn router_primary(&mut self, vip: VipId, address: Option<IpAddr>) {
        if let Some(at) = self.router_at(vip) {
            self.routers[at].primary = address;
        }
    }

    pub(super) fn routers_reconfigured(&mut self, configs: &[RouterConfig], now: Instant) {
        let mut old = std::mem::take(&mut self.routers);
        for config in configs {
            let known = old.iter().position(|router| router.id() == config.vip).map(|at| old.swap_remove(at));
            let state = match known {
                Some(mut router) if router.config.vrid == config.vrid => {
                    router.router.configure(config.settings.clone());
                    router.addresses.set_refresh(config.announce_refresh);
                    router.config = config.clone();
                    router
                }
                _ => RouterState::new(config.clone(), now),
            };
            self.routers.push(state);
        }
        for mut gone in old {
            if let Some(Send(priority)) = gone.router.stop() {
                self.out.push(Action::Vrrp { vip: gone.id(), priority });
            }
            if !gone.addresses.is_absent() {
                self.out.push(Action::Remove(gone.id()));
            }
        }
    }

    pub(super) fn refused_adverts(&self) -> BTreeMap<Refused, u64> {
        let mut all = match self.routers.is_empty() {
            true => BTreeMap::new(),
            false => Refused::ALL.map(|why| (why, 0)).into(),
        };
        for (why, count) in self.routers.iter().flat_map(|router| &router.refused) {
            *all.entry(*why).or_default() += count;
        }
        all
    }
}
