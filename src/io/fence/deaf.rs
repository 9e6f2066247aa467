//! Addresses that are announced and yet take no packet: RFC 9568's Accept_Mode false, keepalived's `no_accept`.
//!
//! ```text
//! table netdev haclusterd-deaf {
//!     chain ingress-2 {
//!         type filter hook ingress device "eth0" priority -900; policy accept;
//!         ip daddr 10.9.0.100 drop
//!         ip6 daddr fd00::100 ip6 nexthdr != icmpv6 drop
//!         ip6 daddr fd00::100 icmpv6 type echo-request drop
//!     }
//! }
//! ```
//! What asks where the address is, is not dropped (RFC 9568, 6.1). On a host that does not have the address, nothing comes
//! for it.

use super::rules;
use super::table::{Hook, INGRESS_STEP};
use super::wire::Bytes;
use super::{FenceError, plain};
use std::net::IpAddr;

const NAME: &str = "haclusterd-deaf";
/// After the fence's own.
const HOOK: Hook = Hook { name: "ingress", number: 0, priority: -900, step: INGRESS_STEP, places: &[] };

const NEXT_HEADER: u32 = 6;
const TYPE: u32 = 40;
const ICMPV6: u8 = 58;
const ECHO_REQUEST: u8 = 128;

/// From now on these and no others, each with the interface by which packets for it come in.
pub fn turn(addresses: &[(u32, IpAddr)]) -> Result<(), FenceError> {
    let rules = |&(ifindex, addr): &(u32, IpAddr)| -> Vec<plain::Rule<'static>> {
        match addr {
            IpAddr::V4(_) => vec![(ifindex, Box::new(move |list| drop_when(list, addr, |_| {})))],
            IpAddr::V6(_) => vec![
                (ifindex, Box::new(move |list| drop_when(list, addr, is_not_icmp))),
                (ifindex, Box::new(move |list| drop_when(list, addr, is_echo_request))),
            ],
        }
    };
    let rules: Vec<plain::Rule<'_>> = addresses.iter().flat_map(rules).collect();
    plain::replace(NAME, &HOOK, &rules)
}

fn drop_when(list: &mut Bytes, addr: IpAddr, when: fn(&mut Bytes)) {
    rules::has_address(list, addr, rules::DESTINATION);
    when(list);
    rules::drop_packet(list);
}

fn is_not_icmp(list: &mut Bytes) {
    rules::load(list, NEXT_HEADER, 1);
    rules::differs(list, &[ICMPV6]);
}

fn is_echo_request(list: &mut Bytes) {
    rules::load(list, NEXT_HEADER, 1);
    rules::equals(list, &[ICMPV6]);
    rules::load(list, TYPE, 1);
    rules::equals(list, &[ECHO_REQUEST]);
}
