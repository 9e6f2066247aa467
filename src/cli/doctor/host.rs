//! What on this host may hurt, whether the daemon runs or not.

use crate::config::Config;
use crate::io::{clock, netlink, sysctl};
use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

/// QUIC's smallest packet, in IPv6.
const LEAST_MTU: u32 = 1280;

pub(super) fn findings(config: &Config) -> Vec<String> {
    let missing = netlink::check_capabilities().err().map(|error| error.to_string());
    let names: BTreeSet<&str> = config.all_vips().filter_map(|vip| vip.interface.as_deref()).collect();
    let of_links = names.iter().flat_map(|name| of_link(name, config));
    missing.into_iter().chain(of_links).chain(of_clock()).collect()
}

fn of_link(name: &str, config: &Config) -> Vec<String> {
    if netlink::index_of(name).is_none() {
        return vec![format!("interface {name} does not exist: make it, or correct `interface`")];
    }
    let mut found = Vec::new();
    if let Some(mtu) = number(name, "mtu").filter(|mtu| *mtu < LEAST_MTU) {
        found.push(format!(
            "{name}: its MTU is {mtu}, and QUIC needs {LEAST_MTU}: ip link set {name} mtu 1500"
        ));
    }
    // IFF_MULTICAST, as in linux/if.h.
    let multicast = flags(name).is_none_or(|flags| flags & 0x1000 != 0);
    let by_multicast = |router: &crate::config::Vrrp| {
        router.peers.is_empty() && router.vip.interface.as_deref() == Some(name)
    };
    if !multicast && config.routers.iter().any(by_multicast) {
        found.push(format!("{name}: it takes no multicast, by which its virtual routers speak: ip link set {name} multicast on, or give them unicast_peers"));
    }
    let ipv6 = |vip: &&crate::config::Vip| {
        vip.interface.as_deref() == Some(name)
            && vip.all().any(|address| matches!(address.ip(), IpAddr::V6(_)))
    };
    if reads(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1") && config.all_vips().any(|vip| ipv6(&vip)) {
        found.push(format!("{name}: IPv6 is switched off there, and a VIP has an IPv6 address: sysctl -w net.ipv6.conf.{name}.disable_ipv6=0"));
    }
    for (key, bad, why) in [
        ("arp_ignore", "8", "this host answers no ARP question, so nobody finds a VIP here"),
        ("proxy_arp", "1", "this host may answer for a VIP that another has"),
    ] {
        for of in ["all", name] {
            if reads(&format!("net/ipv4/conf/{of}/{key}"), bad) {
                found.push(format!(
                    "net.ipv4.conf.{of}.{key} = {bad}: {why}: sysctl -w net.ipv4.conf.{of}.{key}=0"
                ));
            }
        }
    }
    found
}

fn of_clock() -> Option<String> {
    (!clock::is_synchronized()).then(|| {
        "this host's clock is not synchronised: ownership does not depend on it, certificates do: run chrony or systemd-timesyncd".into()
    })
}

fn reads(key: &str, value: &str) -> bool {
    sysctl::read(key).is_ok_and(|text| text == value)
}

fn number(interface: &str, what: &str) -> Option<u32> {
    fs::read_to_string(format!("/sys/class/net/{interface}/{what}")).ok()?.trim().parse().ok()
}

fn flags(interface: &str) -> Option<u32> {
    let text = fs::read_to_string(format!("/sys/class/net/{interface}/flags")).ok()?;
    u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}
