//! The virtual routers of this node: each is told its priority and what it hears, its adverts are sent, and its
//! addresses follow its state. Those of one group are master together or not at all.

use super::health::Track;
use super::heed::{Heard, Refused};
use super::orders::STANDS_BY;
use super::vrrp::{ADDRESS_OWNER, Advert, LEAVING, Router, Send, Settings, State};
use super::*;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A trouble that was mended is forgotten after this.
const TROUBLE: Duration = Duration::from_secs(15);
/// Of one virtual router, the newest.
const MAX_TROUBLES: usize = 8;

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
    /// The checks that count; `None`: all of them.
    pub track: Option<Vec<Track>>,
    pub announce_refresh: Duration,
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
    /// What an operator should mend, and when it was last so.
    troubles: Vec<(String, Instant)>,
    #[serde(skip)] // nothing follows from it
    pub(super) told: tell::Told,
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
            troubles: Vec::new(),
            told: tell::Told::default(),
            config,
        }
    }

    pub(super) fn id(&self) -> VipId {
        self.config.vip
    }

    pub(super) fn leads(&self) -> bool {
        self.router.state() == State::Master
    }

    fn note_trouble(&mut self, text: &str, now: Instant) {
        self.troubles.retain(|(other, at)| other != text && now.since(*at) < TROUBLE);
        self.troubles.truncate(MAX_TROUBLES - 1);
        self.troubles.insert(0, (text.to_owned(), now));
    }

    pub(super) fn troubles(&self, now: Instant) -> impl Iterator<Item = &String> {
        self.troubles.iter().filter(move |(_, at)| now.since(*at) < TROUBLE).map(|(text, _)| text)
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
}

impl Engine {
    /// The virtual router of the same addresses.
    pub(super) fn router_of(&self, vip: VipId) -> Option<&RouterState> {
        self.routers.iter().find(|router| router.id() == vip)
    }

    pub(super) fn router_at(&self, vip: VipId) -> Option<usize> {
        self.routers.iter().position(|router| router.id() == vip)
    }

    pub(super) fn vrrp(&mut self, heard: &Heard, now: Instant) {
        let Some(at) = self.router_at(heard.vip) else { return };
        let verdict = self.routers[at].config.judge(heard);
        if let Some(text) = self.routers[at].config.complaint(heard, verdict) {
            self.routers[at].note_trouble(&text, now);
            self.warn_once(text, now);
        }
        let router = &mut self.routers[at];
        if let Err(why) = verdict {
            *router.refused.entry(why).or_default() += 1;
            return;
        }
        let advert = Advert { source: heard.source, priority: heard.priority, interval: heard.interval };
        router.master = (advert.priority != LEAVING).then_some((advert, now));
        let before = router.router.state();
        let sent = router.router.heard(&advert, router.primary, now);
        self.send_vrrp(at, sent);
        self.note_router(at, before, now);
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
        let wants = |router: &RouterState| router.router.wants(now) && !self.is_elsewhere(router, now);
        let all_want = |at| self.group_of(at).all(wants);
        let may: Vec<bool> = (0..self.routers.len()).map(all_want).collect();
        for (at, may) in may.into_iter().enumerate() {
            let before = self.routers[at].router.state();
            let sent = self.routers[at].router.expire(may, now);
            self.send_vrrp(at, sent);
            self.note_router(at, before, now);
        }
        self.keep_step(now);
        let (renew, mut extended) = (self.renew(), Vec::new());
        for at in 0..self.routers.len() {
            let router = &self.routers[at];
            let (id, until, renew) = (router.id(), router.router.until(), router.renew(renew));
            let vip = self.vips.iter_mut().find(|vip| vip.id() == id).map(|vip| &mut vip.addresses);
            let addresses = vip.unwrap_or(&mut self.routers[at].addresses);
            let acts = addresses.follow(until.map_or(Goal::Gone, Goal::Held), renew, now);
            course::perform(acts, id, Duration::ZERO, &mut self.out, &mut extended);
        }
        self.extend(extended);
    }

    /// A VIP that is on its way to the cluster has both: VRRP decides until the cluster has an owner, and from then on no
    /// virtual router takes it from that one, also when it advertises no longer.
    fn is_elsewhere(&self, router: &RouterState, now: Instant) -> bool {
        matches!(self.owner(router.id(), now), Owner::Peer(_))
    }

    /// A fault of one is the fault of all in its group.
    fn router_priority(&self, at: usize, now: Instant) -> Option<u8> {
        let own = self.priority_of(&self.routers[at], now).filter(|_| self.drain.is_none() && !self.standby);
        own.filter(|_| self.group_of(at).all(|other| self.priority_of(other, now).is_some()))
    }

    /// The address owner's priority is not what checks make of it.
    fn priority_of(&self, router: &RouterState, now: Instant) -> Option<u8> {
        let base = router.config.priority;
        let own = if base == ADDRESS_OWNER { 254 } else { base };
        let broken = self.vip(router.id()).and_then(|vip| vip.broken(now)).or_else(|| router.fault(now));
        let tracks = router.config.track.as_deref();
        let effective = self.fitness_of(Priority(own), tracks, now).filter(|_| broken.is_none())?;
        Some(if base == ADDRESS_OWNER { base } else { effective.0 })
    }

    /// It and those that it must keep step with.
    fn group_of(&self, at: usize) -> impl Iterator<Item = &RouterState> {
        let group = &self.routers[at].config.group;
        // With hundreds of virtual routers, not to look at all others for each matters.
        let range = if group.is_some() { 0..self.routers.len() } else { at..at + 1 };
        self.routers[range].iter().filter(move |other| other.config.group == *group)
    }

    /// Where one has found a better master, the others of its group are masters no longer.
    fn keep_step(&mut self, now: Instant) {
        for at in 0..self.routers.len() {
            let torn = |other: &RouterState| !other.leads() || self.is_elsewhere(other, now);
            if self.group_of(at).any(torn) && self.routers[at].router.state() == State::Master {
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
                let (id, priority) = (router.id(), router.router.priority());
                if let Some(place) = self.place_of(id) {
                    place.addresses.announce_again(now);
                }
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
        if self.standby {
            return STANDS_BY.into();
        }
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
            let same = |router: &RouterState| (router.id(), router.config.vrid) == (config.vip, config.vrid);
            let known = old.iter().position(same).map(|at| old.swap_remove(at));
            let state = match known {
                Some(mut router) => {
                    router.router.configure(config.settings.clone());
                    router.config = config.clone();
                    router
                }
                None => RouterState::new(config.clone(), now),
            };
            self.routers.push(state);
        }
        for mut gone in old {
            if let Some(Send(priority)) = gone.router.stop() {
                self.out.push(Action::Vrrp { vip: gone.id(), priority });
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
