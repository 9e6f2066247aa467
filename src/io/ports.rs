//! Does what the engine asks for. What the kernel answers is the engine's next input.
//!
//! Kernel calls are awaited in the loop: they take some hundred microseconds, and in order they need no queue.
//! Everything that could take longer (disk, signing) goes to the other thread through [`Ports::work`].

mod faces;
mod verify;
mod ways;

pub use faces::wanted;
pub use ways::ways_of;

use self::faces::Faces;
use self::verify::Verifier;
use self::ways::Ways;
use super::adverts::Adverts;
use super::clock;
use super::fence::{Gate, deaf};
use super::gates::Gates;
use super::lists::{Lists, Parcel, Unread};
use super::neighbor::{Neighbor, NeighborError};
use super::netlink::{self, Installed, Kernel};
use super::quic::Transport;
use super::virtual_macs::{Made, VirtualMacs};
use crate::config::{Address, Config, Vip, Vrrp};
use crate::engine::heir::Memory;
use crate::engine::hooks::Changed;
use crate::engine::time::Instant;
use crate::engine::{Action, Event, Input};
use haclusterd_proto::cluster::{Message, SignedVoters, VoterSet};
use haclusterd_proto::member::MemberRecord;
use haclusterd_proto::{MacAddr, NodeId, VipId};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tracing::Instrument;

const GONE: &str = "its interface is gone";

/// What the other thread does.
#[derive(Debug)]
pub enum Work {
    Publish(Box<MemberRecord>),
    Sign(VoterSet),
    Store(SignedVoters),
    /// These are no members any more.
    Dismiss(Vec<NodeId>),
    /// What a successor would have to know.
    Remember(Box<Memory>),
    /// What programs outside are to hear.
    Changed(Box<Changed>),
    /// What has happened, for those who ask later.
    Note(Event),
}

/// What is said of an address.
type Act<'a> = &'a dyn Fn(&Neighbor, IpAddr) -> Result<(), NeighborError>;

/// Called for every input that an adapter has; it must not block.
pub type Inputs = Arc<dyn Fn(Input) + Send + Sync>;

#[derive(Debug, Default)]
pub struct Counters {
    /// Messages that did not fit a packet.
    pub oversize: AtomicU64,
    /// Announcements, questions and probes that could not be sent.
    pub unsent: AtomicU64,
}

struct Link {
    index: u32,
    up: bool,
    mac: Option<MacAddr>,
    neighbor: Option<Neighbor>,
}

/// A VIP that the engine wants on this host.
struct Wanted {
    vip: VipId,
    until: Instant,
    slack: Duration,
}

/// The same in the kernel's terms.
struct Wish {
    id: VipId,
    valid_for: u32,
    addresses: Vec<netlink::Address>,
    places: Vec<(u32, IpNet)>,
    /// It was elsewhere.
    before: Option<Vec<(u32, IpNet)>>,
}

/// A VIP's addresses on this host.
struct Placed {
    places: Vec<(u32, IpNet)>,
    /// `None`: one of them is gone, or it is not known whether they are there.
    installed: Option<Installed>,
}

pub struct Ports {
    transport: Transport,
    lists: Lists,
    kernel: Kernel,
    gates: Gates,
    /// Those of the virtual routers as well.
    vips: Vec<Vip>,
    routers: Vec<Vrrp>,
    adverts: Adverts,
    faces: Faces,
    ways: Ways,
    verifier: Verifier,
    gateway: Option<IpAddr>,
    /// This host's own addresses, as they came.
    own: Vec<(u32, IpNet)>,
    links: BTreeMap<String, Link>,
    /// Where each VIP's addresses were put: the interface may have another name by the time they are removed.
    placed: BTreeMap<VipId, Placed>,
    inputs: Inputs,
    work: Box<dyn Fn(Work) + Send>,
    pub counters: Arc<Counters>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports").field("vips", &self.vips).finish_non_exhaustive()
    }
}

impl Ports {
    pub fn new(
        config: &Config,
        transport: Transport,
        kernel: Kernel,
        gates: Gates,
        virtual_macs: VirtualMacs,
        inputs: Inputs,
        work: Box<dyn Fn(Work) + Send>,
    ) -> Ports {
        Ports {
            transport,
            lists: Lists::default(),
            kernel,
            gates,
            vips: config.all_vips().cloned().collect(),
            routers: config.routers.clone(),
            adverts: Adverts::new(config.routers.clone(), inputs.clone()),
            faces: Faces::new(virtual_macs),
            ways: Ways::default(),
            verifier: Verifier::default(),
            gateway: config.cluster.gateway,
            own: Vec::new(),
            links: BTreeMap::new(),
            placed: BTreeMap::new(),
            inputs,
            work,
            counters: Arc::default(),
        }
    }

    /// What the engine must hear at once as the answer, if anything. All that the kernel is asked of addresses is asked at
    /// once, after what can be said meanwhile.
    pub async fn perform(&mut self, actions: Vec<Action>) -> Vec<Input> {
        let (mut installs, mut removals, mut inputs) = (Vec::new(), Vec::new(), Vec::new());
        for action in actions {
            match action {
                Action::Install { vip, until, slack } => installs.push(Wanted { vip, until, slack }),
                Action::Remove(vip) => removals.push(vip),
                other => self.act(other),
            }
        }
        if !removals.is_empty() {
            inputs.push(Input::Removed(self.remove(&removals).await));
        }
        if !installs.is_empty() {
            inputs.push(Input::Installed(self.install(&installs).await));
        }
        inputs
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send { to, message } => self.send(to, message),
            Action::Extend(ends) => self.extend(&ends),
            Action::ExtendAll(until) => self.gates.keep(until),
            Action::Quiet(vip) => self.gates.quiet(&self.placed_of(vip)),
            Action::Announce(vip) => {
                let _span = tracing::debug_span!("announce").entered();
                self.each_address(vip, &Neighbor::announce);
            }
            Action::Verify { vip, what } => self.verifier.want(vip, what),
            Action::Probe(vip) => self.each_address(vip, &Neighbor::probe),
            Action::ProbeGateway => self.probe_gateway(),
            Action::Vrrp { vip, priority } => self.advertise(vip, priority),
            Action::Publish(record) => (self.work)(Work::Publish(record)),
            Action::SignVoters(set) => (self.work)(Work::Sign(set)),
            Action::Dismiss(nodes) => {
                self.lists.forget(&nodes);
                (self.work)(Work::Dismiss(nodes));
            }
            Action::Remember(memory) => (self.work)(Work::Remember(memory)),
            Action::Changed(changed) => (self.work)(Work::Changed(changed)),
            Action::StoreVoters(signed) => (self.work)(Work::Store(signed)),
            Action::Log(event) => {
                match event.warning {
                    true => tracing::warn!("{}", event.text),
                    false => tracing::info!("{}", event.text),
                }
                (self.work)(Work::Note(event));
            }
            Action::Install { .. } | Action::Remove(_) | Action::Exit => {}
        }
    }

    fn send(&mut self, to: NodeId, message: Message) {
        match self.lists.pack(to, message) {
            Ok(Parcel::Datagram(bytes)) => drop(self.transport.datagram(to, bytes)),
            Ok(Parcel::Stream(bytes)) => drop(self.transport.stream_to(to, bytes)),
            Err(_) => drop(self.counters.oversize.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// What a member has sent.
    pub fn read(&mut self, from: NodeId, bytes: &[u8]) -> Result<Message, Unread> {
        self.lists.unpack(from, bytes)
    }

    /// True: there is nothing to wait for.
    fn ask_face(&mut self, id: VipId, until: Instant) -> Result<bool, String> {
        let vip = self.vips.iter().find(|vip| vip.id == id).ok_or(GONE)?;
        let link = vip.interface.as_ref().and_then(|name| self.links.get(name)).ok_or(GONE)?;
        self.faces.ask(vip, link.index, until)
    }

    /// What the engine must hear; before it, the advert that has waited goes out.
    pub async fn made(&mut self, made: Made) -> Option<Input> {
        let until = self.faces.answer(&made)?;
        let Made { vip, result, .. } = made;
        let router = self.routers.iter().find(|router| router.vip.id == vip)?;
        let own = router.vip.virtual_mac.as_ref()?;
        let result = match result.and_then(|index| self.faces.open(router, own, index)) {
            Ok(()) => {
                if let Some(priority) = self.faces.held_back(vip) {
                    self.advertise(vip, priority);
                }
                let wanted = Wanted { vip, until, slack: Duration::ZERO };
                return Some(Input::Installed(self.install(&[wanted]).await));
            }
            Err(reason) => Err(reason),
        };
        Some(Input::Installed(vec![(vip, result)]))
    }

    /// The addresses of these VIPs and their fences, in one go. One whose face is on its way gets its answer later.
    async fn install(&mut self, wanted: &[Wanted]) -> Vec<(VipId, Result<(), String>)> {
        let (mut results, mut wishes, mut gates) = (Vec::new(), Vec::new(), Vec::new());
        for wanted in wanted {
            let id = wanted.vip;
            let ready = self.ask_face(id, wanted.until);
            match ready.and_then(|ready| ready.then(|| self.wish(wanted)).transpose()) {
                Ok(Some((wish, own))) => {
                    gates.extend(own);
                    wishes.push(wish);
                }
                Ok(None) => {}
                Err(reason) => results.push((id, Err(reason))),
            }
        }
        // First: from the moment that an address is there, the fence is to end it.
        let opened = self.gates.open(gates).instrument(tracing::debug_span!("fence")).await;
        if let Err(reason) = opened {
            results.extend(wishes.into_iter().map(|wish| (wish.id, Err(reason.clone()))));
            return results;
        }
        let known: Vec<Option<Installed>> = wishes.iter_mut().map(|wish| self.begin(wish)).collect();
        let anew: Vec<bool> = known.iter().map(Option::is_none).collect();
        let asked = wishes.iter().zip(known).map(|(wish, known)| match known {
            Some(known) => netlink::Wish::Renew(known, wish.valid_for),
            None => netlink::Wish::Add(&wish.addresses),
        });
        let asked = self.kernel.install(asked.collect()).instrument(tracing::debug_span!("netlink"));
        let outcomes = match asked.await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                let failed = |wish: Wish| (wish.id, Err(error.to_string()));
                results.extend(wishes.into_iter().map(failed));
                return results;
            }
        };
        for ((wish, anew), outcome) in wishes.into_iter().zip(anew).zip(outcomes) {
            let id = wish.id;
            let result = match outcome {
                Ok(installed) => {
                    self.installed(wish, anew, installed).await;
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            };
            results.push((id, result));
        }
        results
    }

    fn wish(&self, wanted: &Wanted) -> Result<(Wish, Vec<Gate>), String> {
        let Wanted { vip: id, until, slack } = *wanted;
        let (vip, _) = self.place(id).ok_or(GONE)?;
        let left = until.since(clock::now());
        if left.is_zero() {
            return Err("its lease ended before its address could be added".into());
        }
        let valid_for = seconds(left + slack);
        let addresses = self.seated(vip, valid_for);
        let places: Vec<_> = addresses.iter().map(|address| (address.ifindex, address.net)).collect();
        if self.placed.get(&id).is_none_or(|placed| placed.places != places) {
            self.warn_of_homeless(vip);
        }
        Ok((Wish { id, valid_for, addresses, places, before: None }, self.gates_of(vip, until)))
    }

    /// Notes where it will be; what is known to be there already, and needs only to be renewed.
    fn begin(&mut self, wish: &mut Wish) -> Option<Installed> {
        let placed = Placed { places: wish.places.clone(), installed: None };
        let Placed { places, installed } = self.placed.insert(wish.id, placed)?;
        if places != wish.places {
            wish.before = Some(places);
            return None;
        }
        installed
    }

    async fn installed(&mut self, wish: Wish, anew: bool, installed: Installed) {
        if let Some(placed) = self.placed.get_mut(&wish.id) {
            placed.installed = Some(installed);
        }
        if let Some(before) = wish.before {
            self.announce_late(wish.id, &before);
        }
        if let Some(vip) = self.vips.iter().find(|vip| vip.id == wish.id) {
            self.ways.tend(&self.kernel, vip, anew).await;
        }
    }

    /// Those whose interface is there, each where it belongs.
    fn seated(&self, vip: &Vip, valid_for: u32) -> Vec<netlink::Address> {
        let face = self.faces.get(vip.id).map(|face| face.index);
        let seat = |address: &Address| {
            let face = face.filter(|_| address.interface.is_none());
            face.or_else(|| self.link_of(vip, address).map(|link| link.index))
        };
        let seated = |address: &Address| {
            let (ifindex, net, label) = (seat(address)?, address.net, address.label.clone());
            Some(netlink::Address { ifindex, net, label, valid_for })
        };
        vip.all().filter_map(seated).collect()
    }

    /// An interface that only some addresses are on does not keep the others from being served.
    fn warn_of_homeless(&self, vip: &Vip) {
        for address in vip.all().filter(|address| self.link_of(vip, address).is_none()) {
            tracing::warn!("{}: {address} is left out until its interface is there", vip.name);
        }
    }

    /// The engine has had the VIP announced, and these were not there yet.
    fn announce_late(&self, id: VipId, before: &[(u32, IpNet)]) {
        let Some((vip, _)) = self.place(id) else { return };
        for address in vip.all().filter(|address| before.iter().all(|(_, net)| *net != address.net)) {
            self.at_address(vip, address, &Neighbor::announce);
        }
    }

    fn extend(&mut self, ends: &[(VipId, Instant)]) {
        let placed: Vec<_> = ends.iter().filter(|(id, end)| !self.faces.extend(*id, *end)).collect();
        let gates: Vec<Gate> = placed
            .iter()
            .filter_map(|(id, until)| Some((self.place(*id)?.0, until)))
            .flat_map(|(vip, until)| self.gates_of(vip, *until))
            .collect();
        self.gates.extend(gates);
    }

    /// Their addresses, in one go: of all or, as far as it is known, of none.
    async fn remove(&mut self, ids: &[VipId]) -> Vec<(VipId, Result<(), String>)> {
        let addrs: Vec<IpAddr> = ids.iter().flat_map(|id| self.placed_of(*id)).collect();
        self.gates.close(&addrs);
        for id in ids {
            self.verifier.forget(*id);
            self.ways.remove(&self.kernel, *id).await;
        }
        // What an interface that is gone took along needs no removing.
        let places = ids.iter().filter_map(|id| self.placed.get(id)).flat_map(|placed| &placed.places);
        let places: Vec<(u32, IpNet)> = places.copied().collect();
        let deleted = self.kernel.delete(&places).instrument(tracing::debug_span!("netlink")).await;
        let result = deleted.map_err(|error| error.to_string());
        if result.is_ok() {
            self.gates.forget(&addrs);
            for id in ids {
                self.placed.remove(id);
                self.faces.remove(*id);
            }
        }
        ids.iter().map(|id| (*id, result.clone())).collect()
    }

    fn placed_of(&self, id: VipId) -> Vec<IpAddr> {
        let places = self.placed.get(&id).map(|placed| placed.places.as_slice()).unwrap_or_default();
        places.iter().map(|(_, net)| net.addr()).collect()
    }

    /// The end of a run. What is still placed stays fenced: for a successor, or until the kernel drops it.
    pub fn close(self) {
        if self.placed.is_empty() {
            if self.routers.iter().any(|router| !router.accept) {
                let _ = deaf::turn(&[]);
            }
            self.gates.remove();
            self.faces.close();
        }
    }

    /// The routes and rules that are not there, and why.
    pub fn refused_ways(&self) -> impl Iterator<Item = &String> {
        self.ways.refused()
    }

    #[must_use]
    pub fn gates(&self) -> &Gates {
        &self.gates
    }

    fn each_address(&self, vip: VipId, act: Act) {
        let Some((vip, _)) = self.place(vip) else { return };
        vip.all().for_each(|address| self.at_address(vip, address, act));
    }

    /// Says it on the address's own interface.
    fn at_address(&self, vip: &Vip, address: &Address, act: Act) {
        let face = self.faces.get(vip.id).filter(|_| address.interface.is_none());
        let below = || self.link_of(vip, address)?.neighbor.as_ref();
        let Some(neighbor) = face.map(|face| &face.neighbor).or_else(below) else { return };
        self.tally(act(neighbor, address.ip()).is_ok());
    }

    fn probe_gateway(&self) {
        let Some(gateway) = self.gateway else { return };
        for neighbor in self.links.values().filter_map(|link| link.neighbor.as_ref()) {
            self.tally(neighbor.probe(gateway).is_ok());
        }
    }

    fn advertise(&mut self, vip: VipId, priority: u8) {
        let Some(router) = self.routers.iter().find(|router| router.vip.id == vip) else { return };
        let own = self.faces.get(vip).map(|face| &face.sender);
        if own.is_none() && router.vip.virtual_mac.is_some() {
            self.faces.hold_back(vip, priority);
            return;
        }
        let below = || self.adverts.sender(self.place(vip)?.1.index, router);
        let sender = own.or_else(below);
        let sent = sender.zip(self.source(router));
        let sent = sent.is_some_and(|(sender, source)| self.adverts.send(router, priority, sender, source));
        self.tally(sent);
        if !sent {
            self.faces.lose(vip);
        }
    }

    /// What was dropped of the virtual routers' packets.
    #[must_use]
    pub fn vrrp_counters(&self) -> BTreeMap<String, u64> {
        self.adverts.counters()
    }

    fn tally(&self, sent: bool) {
        self.tally_many(usize::from(!sent));
    }

    fn tally_many(&self, unsent: usize) {
        self.counters.unsent.fetch_add(unsent as u64, Ordering::Relaxed);
    }

    fn place(&self, id: VipId) -> Option<(&Vip, &Link)> {
        let vip = self.vips.iter().find(|vip| vip.id == id)?;
        Some((vip, self.links.get(vip.interface.as_ref()?)?))
    }

    fn link_of(&self, vip: &Vip, address: &Address) -> Option<&Link> {
        self.links.get(vip.link_of(address)?)
    }

    /// With a virtual MAC as well, packets for the addresses pass the interface below it.
    fn gates_of(&self, vip: &Vip, until: Instant) -> Vec<Gate> {
        let gate = |address: &Address| {
            Some(Gate { ifindex: self.link_of(vip, address)?.index, addr: address.ip(), until })
        };
        vip.all().filter_map(gate).collect()
    }

    /// What the kernel's monitor reports, in the engine's words.
    pub fn kernel_event(&mut self, event: netlink::Event) -> Vec<Input> {
        match event {
            netlink::Event::Link { index, name, up, mac } => {
                let old = self.links.remove(&name).filter(|old| old.index == index);
                let (new, was_up) = (old.is_none(), old.as_ref().is_some_and(|old| old.up));
                let neighbor = old.and_then(|old| old.neighbor);
                self.links.insert(name.clone(), Link { index, up, mac, neighbor });
                if new && self.routers.iter().any(|r| !r.accept && is_on(&r.vip, &name)) {
                    self.turn_deaf();
                }
                self.listen(&name);
                if up && !was_up {
                    self.ways.doubt();
                    self.announce_on(&name);
                }
                self.interface_states(&name)
            }
            netlink::Event::LinkGone { index, name } => {
                if self.links.get(&name).is_some_and(|link| link.index == index) {
                    self.links.remove(&name);
                    self.adverts.close(index);
                }
                self.faces.lose_index(index);
                self.interface_states(&name)
            }
            netlink::Event::AddressGone { index, net } => {
                self.own.retain(|own| *own != (index, net));
                let mut inputs = Vec::new();
                for (id, placed) in &mut self.placed {
                    if placed.places.contains(&(index, net)) {
                        placed.installed = None;
                        inputs.push(Input::AddressLost(*id));
                    }
                }
                inputs.into_iter().chain(self.primaries(index)).collect()
            }
            netlink::Event::AddressAdded { index, net, ours, tentative } => {
                self.own.retain(|own| *own != (index, net));
                if !ours && !tentative {
                    self.own.push((index, net));
                }
                self.primaries(index)
            }
        }
    }

    /// An interface came up that is not their VIP's own: of that one, the engine hears.
    fn announce_on(&self, name: &str) {
        let held = |vip: &&Vip| self.placed.get(&vip.id).is_some_and(|placed| placed.installed.is_some());
        for vip in self.vips.iter().filter(held) {
            let there = |address: &&Address| address.interface.as_deref() == Some(name);
            vip.all().filter(there).for_each(|address| self.at_address(vip, address, &Neighbor::announce));
        }
    }

    /// Where the adverts of that interface's virtual routers come from.
    fn primaries(&self, index: u32) -> Vec<Input> {
        let there = |router: &&Vrrp| self.place(router.vip.id).is_some_and(|(_, link)| link.index == index);
        self.routers.iter().filter(there).map(|router| self.primary(router)).collect()
    }

    fn primary(&self, router: &Vrrp) -> Input {
        Input::Primary { vip: router.vip.id, address: self.source(router) }
    }

    /// RFC 9568 5.1.1.1 and 5.1.2.1: the first address of the interface, and for IPv6 its link-local one.
    fn source(&self, router: &Vrrp) -> Option<IpAddr> {
        let index = self.place(router.vip.id)?.1.index;
        let fits = |addr: &IpAddr| match addr {
            IpAddr::V4(_) => !router.is_ipv6(),
            IpAddr::V6(addr) => router.is_ipv6() && addr.is_unicast_link_local(),
        };
        let mut own = self.own.iter().filter(|(at, _)| *at == index).map(|(_, net)| net.addr());
        router.source.or_else(|| own.find(fits))
    }

    /// Which addresses take no packets, also before they are here.
    fn turn_deaf(&self) {
        let deaf = self.routers.iter().filter(|router| !router.accept).map(|router| &router.vip);
        let each = deaf.flat_map(|vip| vip.all().map(move |address| (vip, address)));
        let place =
            |(vip, address): (&Vip, &Address)| Some((self.link_of(vip, address)?.index, address.ip()));
        let addresses: Vec<(u32, IpAddr)> = each.filter_map(place).collect();
        if let Err(error) = deaf::turn(&addresses)
            && !addresses.is_empty()
        {
            tracing::warn!("addresses with accept = false take packets all the same: {error}");
        }
    }

    /// Takes over a new configuration: what must be removed first, and what the engine must hear after it has it.
    pub fn reconfigure(&mut self, config: &Config) {
        self.vips = config.all_vips().cloned().collect();
        self.routers.clone_from(&config.routers);
        self.adverts.reconfigure(config.routers.clone());
        self.gateway = config.cluster.gateway;
        self.verifier.keep(&self.vips);
        let names: Vec<String> = self.links.keys().cloned().collect();
        for name in names {
            if let Some(link) = self.links.get_mut(&name) {
                link.neighbor = None;
            }
            self.listen(&name);
        }
        self.turn_deaf();
    }

    /// An interface that could not be listened to is tried again; what the engine must hear of that.
    pub fn listen_again(&mut self) -> Vec<Input> {
        let deaf = |(name, link): &(&String, &Link)| link.up && !self.hears(name, link);
        let names: Vec<String> = self.links.iter().filter(deaf).map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.listen(name));
        let heard = |name: &&String| self.links.get(*name).is_some_and(|link| self.hears(name, link));
        names.iter().filter(heard).flat_map(|name| self.interface_states(name)).collect()
    }

    fn hears(&self, name: &str, link: &Link) -> bool {
        link.neighbor.is_some() && self.adverts.hears(name, link.index)
    }

    pub fn all_interface_states(&self) -> Vec<Input> {
        let interfaces = self.vips.iter().map(|vip| self.interface_state(vip)).collect();
        let routers = self.routers.iter().map(|router| self.primary(router));
        [Input::Interfaces(interfaces)].into_iter().chain(routers).collect()
    }

    fn interface_states(&self, name: &str) -> Vec<Input> {
        let there = |vip: &&Vip| vip.interface.as_deref() == Some(name);
        let interfaces: Vec<_> =
            self.vips.iter().filter(there).map(|vip| self.interface_state(vip)).collect();
        if interfaces.is_empty() {
            return Vec::new();
        }
        let routers = self.routers.iter().filter(|router| there(&&router.vip));
        let routers = routers.map(|router| self.primary(router));
        [Input::Interfaces(interfaces)].into_iter().chain(routers).collect()
    }

    fn interface_state(&self, vip: &Vip) -> (VipId, Result<MacAddr, String>) {
        let name = vip.interface.as_deref().unwrap_or("none");
        let state = match self.links.get(name) {
            None => Err(format!("interface {name} does not exist")),
            Some(Link { up: false, .. }) => Err(format!("interface {name} is down or has no carrier")),
            Some(Link { mac: None, .. }) => Err(format!("interface {name} has no hardware address")),
            Some(link) if !self.hears(name, link) => Err(format!("interface {name} cannot be listened to")),
            Some(Link { mac: Some(mac), .. }) => Ok(*mac),
        };
        (vip.id, state)
    }

    /// Opens the packet sockets of an interface that VIPs are on.
    fn listen(&mut self, name: &str) {
        let here = |vip: &Vip, address: &Address| vip.link_of(address) == Some(name);
        let watch: BTreeMap<IpAddr, Option<VipId>> = (self.vips.iter())
            .flat_map(|vip| vip.all().map(move |address| (vip, address)))
            .filter(|(vip, address)| here(vip, address))
            .map(|(vip, address)| (address.ip(), Some(vip.id)))
            .chain(self.gateway.map(|gateway| (gateway, None)))
            .collect();
        let Some(link) = self.links.get_mut(name) else { return };
        if link.up
            && let Err(error) = self.adverts.open(name, link.index)
        {
            tracing::warn!("{name}: {error}");
        }
        let Some(mac) = link.mac.filter(|_| watch.values().any(Option::is_some)) else { return };
        if link.neighbor.is_some() || !link.up {
            return;
        }
        let addresses: BTreeSet<IpAddr> = watch.keys().copied().collect();
        let ear = Arc::new(self.verifier.ear(watch, self.inputs.clone()));
        match Neighbor::open(link.index, mac, addresses, ear) {
            Ok(neighbor) => link.neighbor = Some(neighbor),
            Err(error) => tracing::warn!("{name}: {error}"),
        }
    }
}

/// Also if only one address of it is.
fn is_on(vip: &Vip, name: &str) -> bool {
    vip.all().any(|address| vip.link_of(address) == Some(name))
}

/// The kernel counts in whole seconds; it is never told less than one.
fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}
