//! `[[vrrp]]`: virtual routers as keepalived and hardware speak them.

use super::Vip;
use crate::engine::health::Track;
use crate::engine::routers::RouterConfig;
use crate::engine::vrrp::{Settings, Version};
use haclusterd_proto::MacAddr;
use std::net::IpAddr;
use std::time::Duration;

/// One virtual router, of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vrrp {
    /// Its addresses, and how they are announced. `preempt` and `preempt_delay` count here as well.
    pub vip: Vip,
    pub vrid: u8,
    pub version: Version,
    /// 255: this host has the addresses by itself.
    pub priority: u8,
    pub interval: Duration,
    /// Keepalived's `state MASTER`.
    pub eager: bool,
    /// Version 2 only, for compatibility.
    pub password: Option<String>,
    /// The password is the key of an authentication header, instead of being sent.
    pub ah: bool,
    /// Instead of multicast.
    pub peers: Vec<IpAddr>,
    /// Of our adverts, instead of the interface's first address.
    pub source: Option<IpAddr>,
    /// Version 3 for IPv4: the checksum is over the pseudo-header too, as keepalived sends it.
    pub pseudo_header: bool,
    /// Packets for the addresses are taken: RFC 9568's Accept_Mode.
    pub accept: bool,
    /// All of a group are master, or none.
    pub group: Option<String>,
    /// The checks that count; `None`: all of them.
    pub track: Option<Vec<Track>>,
}

/// A macvlan that exists only while the addresses are here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualMac {
    pub interface: String,
    pub mac: MacAddr,
}

impl Vrrp {
    #[must_use]
    pub fn for_engine(&self) -> RouterConfig {
        RouterConfig {
            vip: self.vip.id,
            name: self.vip.name.clone(),
            vrid: self.vrid,
            settings: Settings {
                version: self.version,
                interval: self.interval,
                preempt: self.vip.preempt,
                preempt_delay: self.vip.preempt_delay,
                eager: self.eager,
            },
            priority: self.priority,
            addresses: self.vip.ips().collect(),
            peers: self.peers.clone(),
            group: self.group.clone(),
            track: self.track.clone(),
            announce_refresh: self.vip.announce_refresh.unwrap_or_default(),
        }
    }

    #[must_use]
    pub fn is_ipv6(&self) -> bool {
        self.vip.is_ipv6()
    }
}
