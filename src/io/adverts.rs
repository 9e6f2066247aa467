//! The virtual routers' packets: what comes in becomes the engine's input, and what the engine says goes out.

use super::ports::Inputs;
use super::vrrp::{Hears, Listener, Sender, To, VrrpError, Wire};
use crate::config::Vrrp;
use crate::engine::Input;
use crate::engine::routers::Heard;
use crate::engine::vrrp::Version;
use haclusterd_proto::VipId;
use haclusterd_proto::vrrp::{
    Auth, Coverage, GROUP_V4, GROUP_V6, Password, Repr, Version as Wired, Vrid, VrrpPriority,
};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// By name; those of the engine's own judgement are counted there.
type Counts = Arc<Mutex<BTreeMap<&'static str, u64>>>;

pub struct Adverts {
    routers: Vec<Vrrp>,
    sockets: BTreeMap<(u32, bool), Sockets>,
    counts: Counts,
    inputs: Inputs,
}

/// Of one interface and family.
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
        Adverts { routers, sockets: BTreeMap::new(), counts: Counts::default(), inputs }
    }

    /// The sockets are to be opened again.
    pub fn reconfigure(&mut self, routers: Vec<Vrrp>) {
        self.routers = routers;
        self.sockets.clear();
    }

    /// For the virtual routers of this interface, as far as it is not done.
    pub fn open(&mut self, name: &str, ifindex: u32) -> Result<(), VrrpError> {
        for ipv6 in [false, true] {
            let there =
                |router: &&Vrrp| router.is_ipv6() == ipv6 && router.vip.interface.as_deref() == Some(name);
            let routers: Vec<Vrrp> = self.routers.iter().filter(there).cloned().collect();
            if routers.is_empty() || self.sockets.contains_key(&(ifindex, ipv6)) {
                continue;
            }
            let wire = if ipv6 { Wire::V6 } else { Wire::V4 };
            let hears = self.hears(routers);
            let sockets = Sockets {
                listener: Listener::open(ifindex, wire, hears)?,
                sender: Sender::open(ifindex, wire)?,
            };
            self.sockets.insert((ifindex, ipv6), sockets);
        }
        Ok(())
    }

    pub fn close(&mut self, ifindex: u32) {
        self.sockets.retain(|(index, _), _| *index != ifindex);
    }

    fn hears(&self, routers: Vec<Vrrp>) -> Hears {
        let (counts, inputs) = (self.counts.clone(), self.inputs.clone());
        Arc::new(move |packet| {
            let parsed = Repr::parse(&packet.message, packet.source, packet.destination);
            let heard = parsed.map_err(|flaw| flaw.name()).and_then(|repr| {
                let ours = routers.iter().find(|router| router.vrid == repr.vrid.get());
                // Another's virtual router on this link is no fault.
                let router = ours.ok_or("vrrp_other_vrid")?;
                Ok(heard(router, repr, packet.source, packet.hops, packet.destination.is_multicast()))
            });
            match heard {
                Ok(heard) => inputs(Input::Vrrp(Box::new(heard))),
                Err(name) => {
                    *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1
                }
            }
        })
    }

    /// True: it was sent, to everybody or to every peer.
    pub fn send(&self, vip: VipId, priority: u8, ifindex: u32, source: IpAddr) -> bool {
        let Some(router) = self.routers.iter().find(|router| router.vip.id == vip) else { return false };
        let Some(sockets) = self.sockets.get(&(ifindex, router.is_ipv6())) else { return false };
        let Some(repr) = repr(router, priority) else { return false };
        let send = |to: To| {
            let destination = match (to, source) {
                (To::Unicast(peer), _) => peer,
                (To::Multicast, IpAddr::V4(_)) => GROUP_V4.into(),
                (To::Multicast, IpAddr::V6(_)) => GROUP_V6.into(),
            };
            sockets.sender.send(source, to, &repr.emit(source, destination)).is_ok()
        };
        match router.peers.as_slice() {
            [] => send(To::Multicast),
            // One that cannot be reached does not keep the others from hearing it.
            peers => peers.iter().filter(|peer| !send(To::Unicast(**peer))).count() == 0,
        }
    }

    /// What was dropped before the engine saw it, since the start.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: BTreeMap<String, u64> =
            counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        if !self.routers.is_empty() {
            let sum = |of: fn(&Listener) -> u64| self.sockets.values().map(|s| of(&s.listener)).sum();
            all.insert("vrrp_dropped".into(), sum(Listener::dropped));
            all.insert("vrrp_malformed".into(), sum(Listener::malformed));
        }
        all
    }
}

fn heard(router: &Vrrp, repr: Repr, source: IpAddr, hops: u8, multicast: bool) -> Heard {
    let (version, authentic) = match repr.version {
        Wired::V2 { auth, .. } => (Version::V2, auth == wanted(router)),
        Wired::V3 { .. } => (Version::V3, true),
    };
    Heard {
        vip: router.vip.id,
        source,
        hops,
        multicast,
        version,
        priority: repr.priority.0,
        interval: repr.version.interval(),
        addresses: repr.addresses,
        authentic,
    }
}

fn wanted(router: &Vrrp) -> Auth {
    router.password.as_ref().map_or(Auth::None, |text| Auth::Pass(Password::new(text.as_bytes())))
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
