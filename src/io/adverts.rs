//! The virtual routers' packets: what comes in becomes the engine's input, and what the engine says goes out.

use super::clock;
use super::ports::Inputs;
use super::vrrp::{Heard as Packet, Hears, Interface, Listener, Sender, To, VrrpError, Wire};
use crate::config::Vrrp;
use crate::engine::Input;
use crate::engine::heed::Heard;
use crate::engine::time::Instant;
use crate::engine::vrrp::Version;
use haclusterd_proto::vrrp::{
    Auth, Coverage, Flaw, Password, Repr, Version as Wired, Vrid, VrrpPriority, ah,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const IP_HEADER: usize = 20;

/// Between two log lines about the same fault.
const PAUSE: Duration = Duration::from_secs(10);

/// By name, and when it was last said; those of the engine's own judgement are counted there.
type Counts = Arc<Mutex<BTreeMap<&'static str, (u64, Option<Instant>)>>>;

pub struct Adverts {
    routers: Vec<Vrrp>,
    sockets: BTreeMap<(u32, Wire), Sockets>,
    counts: Counts,
    /// Of the last advert with an authentication header.
    sequence: AtomicU32,
    inputs: Inputs,
}

/// Of one interface and kind of packet.
struct Sockets {
    listener: Listener,
    sender: Sender,
}

impl std::fmt::Debug for Adverts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adverts").field("sockets", &self.sockets.keys()).finish_non_exhaustive()
    }
}

impl Adverts {
    pub fn new(routers: Vec<Vrrp>, inputs: Inputs) -> Adverts {
        Adverts {
            routers,
            sockets: BTreeMap::new(),
            counts: Counts::default(),
            sequence: AtomicU32::new(0),
            inputs,
        }
    }

    /// The sockets are to be opened again.
    pub fn reconfigure(&mut self, routers: Vec<Vrrp>) {
        self.routers = routers;
        self.sockets.clear();
    }

    /// For the virtual routers of this interface, as far as it is not done.
    pub fn open(&mut self, name: &str, ifindex: u32) -> Result<(), VrrpError> {
        for wire in [Wire::V4, Wire::V4Ah, Wire::V6] {
            let there =
                |router: &&Vrrp| wire_of(router) == wire && router.vip.interface.as_deref() == Some(name);
            let routers: Vec<Vrrp> = self.routers.iter().filter(there).cloned().collect();
            if routers.is_empty() || self.sockets.contains_key(&(ifindex, wire)) {
                continue;
            }
            let hears = self.ear(routers);
            let sockets = Sockets {
                listener: Listener::open(ifindex, wire, hears)?,
                sender: Sender::open(ifindex, wire)?,
            };
            self.sockets.insert((ifindex, wire), sockets);
        }
        Ok(())
    }

    pub fn close(&mut self, ifindex: u32) {
        self.sockets.retain(|(index, _), _| *index != ifindex);
    }

    fn ear(&self, routers: Vec<Vrrp>) -> Hears {
        let (counts, inputs) = (self.counts.clone(), self.inputs.clone());
        Arc::new(move |packet| match heard(&routers, &packet) {
            Ok(Some(heard)) => inputs(Input::Vrrp(Box::new(heard))),
            Ok(None) => drop(count(&counts, "vrrp_other_vrid")),
            Err(flaw) => {
                if count(&counts, flaw.name()) {
                    let interface = Interface(packet.ifindex);
                    tracing::warn!("{interface}: a VRRP packet of {} is dropped: {flaw}", packet.source);
                }
            }
        })
    }

    /// Whether all of this interface's virtual routers can hear.
    #[must_use]
    pub fn hears(&self, name: &str, ifindex: u32) -> bool {
        let mut there = self.routers.iter().filter(|router| router.vip.interface.as_deref() == Some(name));
        there.all(|router| self.sockets.contains_key(&(ifindex, wire_of(router))))
    }

    /// With that interface's own MAC.
    #[must_use]
    pub fn sender(&self, ifindex: u32, router: &Vrrp) -> Option<&Sender> {
        self.sockets.get(&(ifindex, wire_of(router))).map(|sockets| &sockets.sender)
    }

    /// True: it was sent, to everybody or to every peer.
    pub fn send(&self, router: &Vrrp, priority: u8, sender: &Sender, source: IpAddr) -> bool {
        let Some(repr) = repr(router, priority) else { return false };
        let sequence = router.ah.then(|| self.next_sequence());
        let send = |to: To| {
            let destination = to.address(source);
            let message = repr.emit(source, destination);
            let message = match (sequence, source, destination) {
                (Some(number), IpAddr::V4(source), IpAddr::V4(to)) => {
                    seal(router, &message, source, to, number)
                }
                _ => message,
            };
            sender.send(source, to, &message).is_ok()
        };
        match router.peers.as_slice() {
            [] => send(To::Multicast),
            // One that cannot be reached does not keep the others from hearing it.
            peers => peers.iter().filter(|peer| !send(To::Unicast(**peer))).count() == 0,
        }
    }

    /// A keepalived takes a number that is not larger than the last for an old packet, also after a restart of ours: so
    /// it is the time, in quarters of a second.
    fn next_sequence(&self) -> u32 {
        let quarters = clock::wall().wrapping_mul(4) as u32;
        let next = self.sequence.load(Ordering::Relaxed).wrapping_add(1).max(quarters);
        self.sequence.store(next, Ordering::Relaxed);
        next
    }

    /// What was dropped before the engine saw it, since the start.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: BTreeMap<String, u64> =
            counts.iter().map(|(name, (count, _))| ((*name).to_owned(), *count)).collect();
        if !self.routers.is_empty() {
            let sum = |of: fn(&Listener) -> u64| self.sockets.values().map(|s| of(&s.listener)).sum();
            all.insert("vrrp_dropped".into(), sum(Listener::dropped));
            all.insert("vrrp_malformed".into(), sum(Listener::malformed));
        }
        all
    }
}

/// True: it is time to say so again.
fn count(counts: &Counts, name: &'static str) -> bool {
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    let (count, said) = counts.entry(name).or_default();
    *count += 1;
    let now = clock::now();
    let due = said.is_none_or(|at| now.since(at) >= PAUSE);
    if due {
        *said = Some(now);
    }
    due
}

/// What it says, whoever's it is.
pub fn read(packet: &Packet) -> Result<Repr, Flaw> {
    let whole = sealed(packet);
    let sealed = whole.as_deref().map(ah::Packet::check).transpose()?;
    let message = sealed.as_ref().map_or(&packet.message[..], ah::Packet::message);
    Repr::parse(message, packet.source, packet.destination)
}

/// With the IP header, which an authentication header covers too.
fn sealed(packet: &Packet) -> Option<Vec<u8>> {
    packet.ah.then(|| [packet.ip_header.as_slice(), &packet.message].concat())
}

fn is_proven(packet: &Packet, key: &Password) -> bool {
    let whole = sealed(packet);
    whole.is_none_or(|whole| ah::Packet::check(&whole).is_ok_and(|sealed| sealed.verify(key).is_ok()))
}

/// `Ok(None)`: another's virtual router on this link, which is no fault.
pub fn heard(routers: &[Vrrp], packet: &Packet) -> Result<Option<Heard>, Flaw> {
    let repr = read(packet)?;
    let ours = routers.iter().find(|router| router.vrid == repr.vrid.get());
    let Some(router) = ours else { return Ok(None) };
    if repr.addresses.is_empty() && !router.vip.addresses.is_empty() {
        return Err(Flaw::Count);
    }
    let (version, authentic) = match repr.version {
        Wired::V2 { auth, .. } => (Version::V2, auth == wanted(router)),
        Wired::V3 { .. } => (Version::V3, true),
    };
    Ok(Some(Heard {
        vip: router.vip.id,
        source: packet.source,
        hops: packet.hops,
        multicast: packet.destination.is_multicast(),
        version,
        priority: repr.priority.0,
        interval: repr.version.interval(),
        addresses: repr.addresses,
        authentic: authentic && is_proven(packet, &key(router)),
    }))
}

/// With an authentication header before it, which covers the IP header that the socket sends.
fn seal(router: &Vrrp, message: &[u8], source: Ipv4Addr, destination: Ipv4Addr, sequence: u32) -> Vec<u8> {
    let sealed = ah::Repr { source, destination, id: NonZeroU16::MIN, sequence, message };
    sealed.emit(&key(router)).split_off(IP_HEADER)
}

pub fn wire_of(router: &Vrrp) -> Wire {
    match (router.is_ipv6(), router.ah) {
        (true, _) => Wire::V6,
        (false, true) => Wire::V4Ah,
        (false, false) => Wire::V4,
    }
}

fn key(router: &Vrrp) -> Password {
    Password::new(router.password.as_deref().unwrap_or_default().as_bytes())
}

fn wanted(router: &Vrrp) -> Auth {
    match (&router.password, router.ah) {
        (None, _) => Auth::None,
        (Some(_), true) => Auth::Ah,
        (Some(_), false) => Auth::Pass(key(router)),
    }
}

/// `None`: what the configuration does not let through.
fn repr(router: &Vrrp, priority: u8) -> Option<Repr> {
    let version = match router.version {
        Version::V2 => Wired::V2 { interval: router.interval.try_into().ok()?, auth: wanted(router) },
        Version::V3 => {
            let coverage = if router.pseudo_header { Coverage::PseudoHeader } else { Coverage::Message };
            Wired::V3 { interval: router.interval.try_into().ok()?, coverage }
        }
    };
    Some(Repr {
        version,
        vrid: Vrid::new(router.vrid)?,
        priority: VrrpPriority(priority),
        addresses: router.vip.ips().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    #[test]
    fn an_advert_of_no_address_counts_only_where_none_is_advertised() {
        let read = |keys: &str| {
            let text = format!(
                "[node]\nname = 'n'\nlisten = '10.0.0.1'\ninterface = 'eth0'\n[[vrrp]]\nvrid = 51\n{keys}"
            );
            Config::parse(&text, Path::new("t.toml")).unwrap().routers
        };
        let (none, one) = (read("excluded = ['10.0.0.9']"), read("addresses = ['10.0.0.9']"));
        let (source, destination) = (Ipv4Addr::new(10, 0, 0, 2).into(), Ipv4Addr::new(224, 0, 0, 18).into());
        let message = repr(&none[0], 100).unwrap().emit(source, destination);
        let packet = Packet {
            ifindex: 1,
            source,
            destination,
            hops: 255,
            ah: false,
            ip_header: Vec::new(),
            message: message.into(),
        };
        assert!(heard(&none, &packet).unwrap().unwrap().addresses.is_empty());
        assert_eq!(heard(&one, &packet), Err(Flaw::Count));
    }
}
