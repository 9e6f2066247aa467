//! Whom the kernel knows on a link, and by whom it reaches everybody else.

use super::{Kernel, KernelError, answer, connect};
use crate::engine::acks::Peer;
use futures::{StreamExt, TryStreamExt};
use haclusterd_proto::MacAddr;
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// So many entries are looked at; by itself the kernel keeps no more of one family.
const MAX_LOOKED_AT: usize = 2048;
/// Of these, so many are handed on.
const MAX_KNOWN: usize = 64;
/// Addresses of the documentation, which nobody has (RFC 5737, RFC 3849): the way there is the way to everywhere.
const ELSEWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

impl Kernel {
    /// Those of the interface's neighbours whose hardware address the kernel has: gateways, then whom it dealt with last.
    pub async fn neighbors(&self, ifindex: u32) -> Result<Vec<Peer>, KernelError> {
        let handle = connect()?;
        let gateways = gateways(&handle, ifindex).await?;
        let mut request = handle.neighbours().get();
        // Old kernels filter by this one, and those that do not, do no harm.
        request.message_mut().attributes.push(NeighbourAttribute::IfIndex(ifindex));
        let entries = request.execute().take(MAX_LOOKED_AT).try_collect::<Vec<_>>();
        let entries = answer(entries)
            .await?
            .map_err(|why| KernelError::NoList { what: "neighbours", why: why.to_string() })?;
        let here = entries.iter().filter(|entry| entry.header.ifindex == ifindex);
        let mut known: Vec<(u32, Peer)> = here.filter_map(|entry| known(entry, &gateways)).collect();
        known.sort_by_key(|(idle, peer)| (!peer.gateway, *idle));
        let known = known.into_iter().map(|(_, peer)| peer).take(MAX_KNOWN);
        let mut peers: Vec<Peer> = known.collect();
        let unknown = |addr: &&IpAddr| !peers.iter().any(|peer| peer.addr == **addr);
        let unknown: Vec<_> = gateways.iter().filter(unknown).copied().collect();
        peers.splice(0..0, unknown.into_iter().map(|addr| Peer { addr, mac: None, gateway: true }));
        Ok(peers)
    }
}

/// Of each family, that on this interface.
async fn gateways(handle: &Handle, ifindex: u32) -> Result<Vec<IpAddr>, KernelError> {
    let mut all = Vec::new();
    for to in ELSEWHERE {
        let ways = handle.route().get(way_to(to)).execute().try_collect::<Vec<_>>();
        // Without any way there, the answer is an error.
        let ways = answer(ways).await?.unwrap_or_default();
        all.extend(ways.iter().filter_map(|way| gateway(way, ifindex)));
    }
    Ok(all)
}

fn way_to(to: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, length, to) = match to {
        IpAddr::V4(to) => (AddressFamily::Inet, 32, RouteAddress::Inet(to)),
        IpAddr::V6(to) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(to)),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = length;
    message.attributes.push(RouteAttribute::Destination(to));
    message
}

fn gateway(way: &RouteMessage, ifindex: u32) -> Option<IpAddr> {
    let out = way.attributes.contains(&RouteAttribute::Oif(ifindex));
    let gateway = way.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(addr)) => Some(IpAddr::V4(*addr)),
        RouteAttribute::Gateway(RouteAddress::Inet6(addr)) => Some(IpAddr::V6(*addr)),
        _ => None,
    });
    gateway.filter(|_| out)
}

/// With the time, in the kernel's ticks, since it was last of use.
fn known(entry: &NeighbourMessage, gateways: &[IpAddr]) -> Option<(u32, Peer)> {
    use NeighbourState::{Delay, Permanent, Probe, Reachable, Stale};
    if !matches!(entry.header.state, Reachable | Stale | Delay | Probe | Permanent) {
        return None;
    }
    let (mut addr, mut mac, mut idle) = (None, None, u32::MAX);
    for attribute in &entry.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(to)) => addr = Some(IpAddr::V4(*to)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(to)) => addr = Some(IpAddr::V6(*to)),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = bytes.as_slice().try_into().ok().map(MacAddr);
            }
            NeighbourAttribute::CacheInfo(info) => idle = info.used.min(info.confirmed),
            _ => {}
        }
    }
    let (addr, mac) = (addr?, mac?);
    // A router that is not the way to everywhere may still be one for many.
    let idle = if entry.header.flags.contains(NeighbourFlags::Router) { 0 } else { idle };
    Some((idle, Peer { addr, mac: Some(mac), gateway: gateways.contains(&addr) }))
}
