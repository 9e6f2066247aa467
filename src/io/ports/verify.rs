//! Verify pings: who is asked, in a VIP's name, whether it knows where the VIP is; and what comes back.
//!
//! When to ask is the engine's decision, and whom to ask again is that of [`Acks`]. Here stands who is there to be asked:
//! whom the kernel knows, and who was heard asking for the VIP while it was elsewhere.

use super::{Link, Ports};
use crate::config::{Address, Vip};
use crate::engine::Input;
use crate::engine::acks::{Acks, Counts, Peer, Question, Verdict};
use crate::engine::time::Instant;
use crate::engine::vip::Verify;
use crate::io::clock;
use crate::io::neighbor::{Claim, ClaimKind, Ears};
use crate::io::netlink::Kernel;
use haclusterd_proto::{MacAddr, VipId};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Between two looks at the neighbours of one interface: many VIPs that are taken at once have one.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Of those who asked for one address, the last. Anybody can pretend to be many.
const MAX_ASKERS: usize = 32;
/// Neighbours that are thought of in one round, over all VIPs, and at least of each: gateways come first.
const MANY: usize = 256;
const FEW: usize = 4;
/// Answers between two rounds: all that two rounds can ask, on four interfaces.
const MAX_ANSWERS: usize = 1024;

/// A VIP, what is to be done for it, and its addresses, each with its interface.
type Due<'a> = (&'a Vip, Verify, Vec<(u32, &'a Address)>);

#[derive(Default)]
pub(super) struct Verifier {
    acks: Acks,
    /// What the engine has decided since the last round.
    due: Vec<(VipId, Verify)>,
    looked: BTreeMap<u32, Instant>,
    heard: Arc<Mutex<Heard>>,
}

/// What the tasks beside the loop find out; the loop looks at it when it is to ask again, and not before.
#[derive(Default)]
struct Heard {
    /// By the kernel, by interface.
    known: BTreeMap<u32, Vec<Peer>>,
    /// By the address that they asked for, the last first.
    askers: BTreeMap<IpAddr, VecDeque<Peer>>,
    /// VIP, its address, and who answered.
    answers: Vec<(VipId, IpAddr, IpAddr)>,
    dropped: u64,
}

/// What one interface hears of VIPs and of the gateway, which is nobody's.
pub(super) struct Ear {
    pub watch: BTreeMap<IpAddr, Option<VipId>>,
    pub inputs: super::Inputs,
    heard: Arc<Mutex<Heard>>,
}

impl Ears for Ear {
    fn claim(&self, claim: Claim) {
        match self.watch.get(&claim.addr) {
            _ if claim.kind == ClaimKind::Probe => {}
            Some(Some(vip)) => (self.inputs)(Input::Claim { vip: *vip, mac: claim.mac }),
            Some(None) => (self.inputs)(Input::GatewayAnswered),
            None => {}
        }
    }

    fn answer(&self, asker: IpAddr, peer: IpAddr) {
        let Some(Some(vip)) = self.watch.get(&asker) else { return };
        let mut heard = lock(&self.heard);
        match heard.answers.len() < MAX_ANSWERS {
            true => heard.answers.push((*vip, asker, peer)),
            false => heard.dropped += 1,
        }
    }

    fn question(&self, wanted: IpAddr, peer: IpAddr, mac: MacAddr) {
        // A VIP's owner asks in its name.
        if self.watch.get(&wanted).is_none_or(Option::is_none) || self.watch.contains_key(&peer) {
            return;
        }
        let mut heard = lock(&self.heard);
        let askers = heard.askers.entry(wanted).or_default();
        askers.retain(|other| other.addr != peer);
        askers.truncate(MAX_ASKERS - 1);
        askers.push_front(Peer { addr: peer, mac: Some(mac), gateway: false });
    }
}

impl Verifier {
    pub fn ear(&self, watch: BTreeMap<IpAddr, Option<VipId>>, inputs: super::Inputs) -> Ear {
        Ear { watch, inputs, heard: self.heard.clone() }
    }

    pub fn want(&mut self, vip: VipId, what: Verify) {
        self.due.push((vip, what));
    }

    pub fn forget(&mut self, vip: VipId) {
        self.due.retain(|(other, _)| *other != vip);
        self.acks.forget(vip);
    }

    /// Nobody is remembered for what no VIP has any more.
    pub fn keep(&mut self, vips: &[Vip]) {
        let all = || vips.iter().flat_map(Vip::all).map(Address::ip);
        lock(&self.heard).askers.retain(|wanted, _| all().any(|addr| addr == *wanted));
    }

    /// Looks who is there, beside the loop, and not before the address is: the answer is there by the second round.
    fn look(&mut self, kernel: &Kernel, ifindex: u32) {
        let now = clock::now();
        if self.looked.get(&ifindex).is_some_and(|at| now.since(*at) < LOOK_AGAIN) {
            return;
        }
        self.looked.insert(ifindex, now);
        let (kernel, heard) = (kernel.clone(), self.heard.clone());
        tokio::spawn(async move {
            match kernel.neighbors(ifindex).await {
                Ok(known) => drop(lock(&heard).known.insert(ifindex, known)),
                Err(error) => tracing::debug!(ifindex, %error, "its neighbours are not known"),
            }
        });
    }

    fn meet(&mut self, due: &[Due<'_>], kernel: &Kernel, gateway: Option<IpAddr>) {
        for (vip, _, seats) in due.iter().filter(|(_, what, _)| *what == Verify::Begin) {
            self.acks.begin(vip.id);
            seats.iter().for_each(|(ifindex, _)| self.look(kernel, *ifindex));
        }
        let heard = lock(&self.heard);
        let mut all = Vec::new();
        let share = (MANY / due.len().max(1)).max(FEW);
        for (vip, _, seats) in due.iter().filter(|(vip, ..)| self.acks.meets(vip.id)) {
            for (ifindex, address) in seats {
                let peers = heard.peers_of(*ifindex, address, gateway).into_iter().take(share).enumerate();
                all.extend(peers.map(|(rank, peer)| (rank, (vip.id, *ifindex, address.ip(), peer))));
            }
        }
        drop(heard);
        // The most important of all VIPs and addresses first.
        all.sort_by_key(|(rank, _)| *rank);
        if !all.is_empty() {
            self.acks.meet(all.into_iter().map(|(_, peer)| peer));
        }
    }

    fn take_answers(&mut self) {
        let answers = std::mem::take(&mut lock(&self.heard).answers);
        for (vip, asker, peer) in answers {
            self.acks.answered(vip, asker, peer);
        }
    }
}

impl Ports {
    /// Asks whom the engine wants to be asked now, a bounded number.
    pub fn verify(&mut self) {
        if self.verifier.due.is_empty() {
            return;
        }
        let Ports { vips, links, verifier, kernel, gateway, .. } = self;
        let mut due: BTreeMap<VipId, Verify> = std::mem::take(&mut verifier.due).into_iter().collect();
        let due = vips.iter().filter_map(|vip| Some((vip, due.remove(&vip.id)?, seats(vip, links))));
        let due: Vec<Due<'_>> = due.filter(|(.., seats)| !seats.is_empty()).collect();
        verifier.take_answers();
        verifier.meet(&due, kernel, *gateway);
        let asking = due.iter().filter(|(_, what, _)| *what != Verify::End).map(|(vip, ..)| vip.id);
        let mut questions = verifier.acks.ask(&asking.collect::<Vec<_>>());
        for (vip, what, _) in &due {
            if let Some(news) = verifier.acks.news(vip.id, *what == Verify::End) {
                tracing::info!("{}: {news}", vip.name);
            }
        }
        questions.sort_by_key(|question| question.ifindex);
        questions.chunk_by(|a, b| a.ifindex == b.ifindex).for_each(|questions| self.ask(questions));
    }

    /// All on one interface.
    fn ask(&self, questions: &[Question]) {
        let link = self.links.values().find(|link| link.index == questions[0].ifindex);
        let neighbor = link.and_then(|link| link.neighbor.as_ref());
        let sent = neighbor.map_or(0, |neighbor| neighbor.ask(questions));
        self.tally_many(questions.len() - sent);
    }

    /// Who knows of the VIP that is held here.
    #[must_use]
    pub fn acknowledged(&self, vip: VipId) -> Option<Verdict> {
        self.verifier.acks.verdict(vip)
    }

    /// Of all VIPs since the start; and answers that were more than could be kept.
    #[must_use]
    pub fn verify_counts(&self) -> (Counts, u64) {
        (self.verifier.acks.counts, lock(&self.verifier.heard).dropped)
    }
}

impl Heard {
    /// Gateways, those who asked for the address, and whom the kernel knows.
    fn peers_of(&self, ifindex: u32, address: &Address, gateway: Option<IpAddr>) -> Vec<Peer> {
        let known = self.known.get(&ifindex).into_iter().flatten();
        let here: Vec<Peer> = known.filter(|peer| concerns(address, peer)).copied().collect();
        // Which is on another interface, perhaps, if this one's subnet does not tell.
        let is_here = |addr: IpAddr| {
            is_subnet(address) && address.net.contains(&addr) && !here.iter().any(|peer| peer.addr == addr)
        };
        let unknown = gateway.filter(|addr| is_here(*addr));
        let unknown = unknown.map(|addr| Peer { addr, mac: None, gateway: true });
        let named = |peer: &Peer| Peer { gateway: peer.gateway || Some(peer.addr) == gateway, ..*peer };
        let here: Vec<Peer> = here.iter().map(named).collect();
        let (gateways, others): (Vec<Peer>, Vec<Peer>) = here.into_iter().partition(|peer| peer.gateway);
        let askers = self.askers.get(&address.ip()).into_iter().flatten().copied();
        unknown.into_iter().chain(gateways).chain(askers).chain(others).collect()
    }
}

/// Where neighbours know the VIP by a hardware address that it does not take along: nowhere, if it has a virtual MAC.
fn seats<'a>(vip: &'a Vip, links: &BTreeMap<String, Link>) -> Vec<(u32, &'a Address)> {
    let seat = |address| Some((links.get(vip.link_of(address)?)?.index, address));
    let addresses = vip.all().filter(|_| vip.virtual_mac.is_none());
    addresses.filter_map(seat).collect()
}

/// Whether that neighbour may have the address in its cache: a gateway, or who is in its subnet.
fn concerns(address: &Address, peer: &Peer) -> bool {
    let family = address.ip().is_ipv4() == peer.addr.is_ipv4();
    let link_local = matches!(peer.addr, IpAddr::V6(addr) if addr.is_unicast_link_local());
    let near = if is_subnet(address) { address.net.contains(&peer.addr) } else { !link_local };
    family && peer.addr != address.ip() && (peer.gateway || near)
}

fn is_subnet(address: &Address) -> bool {
    address.net.prefix_len() < address.net.max_prefix_len()
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}
