//! What an earlier run of this node left on this host and a new one may go on with: the VIPs that it held and whose
//! fences are open still. The kernel's word counts; what the run wrote down only says under which term and sessions.

use crate::config::{Config, Vip};
use crate::engine::heir::{Inheritance, Memory};
use crate::engine::time::Instant;
use crate::io::fence::{Fence, Gate};
use crate::io::netlink;
use crate::io::netlink::way::Way;
use crate::io::ports::{wanted, ways_of};
use crate::io::virtual_macs::Wanted;
use haclusterd_proto::cluster::VotersStamp;
use std::net::IpAddr;

#[derive(Debug, Default)]
pub(super) struct Heritage {
    pub inheritance: Inheritance,
    pub gates: Vec<Gate>,
    pub virtual_macs: Vec<Wanted>,
    pub ways: Vec<Way>,
}

impl Heritage {
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.gates.iter().map(|gate| gate.addr).collect()
    }
}

/// To be called once the earlier run is known to have ended.
pub(super) fn find(config: &Config, memory: Memory, voters: VotersStamp) -> Heritage {
    // Without an answer, the sweep and a new fence begin from nothing.
    let held = !memory.held.is_empty() && memory.voters == voters;
    let open = if held { Fence::left_open().unwrap_or_default() } else { Vec::new() };
    let mut heritage = Heritage::default();
    let held = |vip: &&Vip| memory.held.iter().any(|(id, _)| *id == vip.id);
    for vip in config.all_vips().filter(held) {
        let Some(ifindex) = vip.interface.as_deref().and_then(netlink::index_of) else { continue };
        let places = places(vip);
        let Some(until) = earliest(&places, &open) else { continue };
        heritage.inheritance.gates.push((vip.id, until));
        heritage.virtual_macs.extend(vip.virtual_mac.as_ref().map(|own| wanted(vip, own, ifindex)));
        heritage.ways.extend(ways_of(vip));
        heritage.gates.extend(places.into_iter().map(|(ifindex, addr)| Gate { ifindex, addr, until }));
    }
    heritage.inheritance.memory = memory;
    heritage
}

/// An address whose interface is not there is nowhere.
fn places(vip: &Vip) -> Vec<(u32, IpAddr)> {
    let index = |address| vip.link_of(address).and_then(netlink::index_of);
    vip.all().filter_map(|address| Some((index(address)?, address.ip()))).collect()
}

/// Until when all of these are open.
fn earliest(places: &[(u32, IpAddr)], open: &[(IpAddr, Instant)]) -> Option<Instant> {
    let end = |addr: IpAddr| open.iter().find(|(other, _)| *other == addr).map(|(_, until)| *until);
    let ends: Option<Vec<Instant>> = places.iter().map(|(_, addr)| end(*addr)).collect();
    ends?.into_iter().min()
}
