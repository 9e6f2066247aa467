//! What comes from a virtual address wears the virtual MAC.
//!
//! Routes know nothing of virtual interfaces: an answer to a client leaves by the interface that leads there, with that
//! one's MAC. So its source is rewritten at the last moment, for clients near by and behind a gateway alike:
//!
//! ```text
//! table netdev haclusterd-mask {
//!     chain egress-2 {
//!         type filter hook egress device "eth0" priority 900; policy accept;
//!         ip saddr 10.9.0.100 ether saddr set 00:00:5e:00:01:33
//!     }
//! }
//! ```
//! A table of its own: nobody's safety depends on it, and it is not watched. Left behind by a crash, it does nothing on
//! a host that does not have the addresses.

use super::rules;
use super::table::{EGRESS_STEP, Hook};
use super::wire::Bytes;
use super::{FenceError, plain};
use haclusterd_proto::MacAddr;
use std::net::IpAddr;

const NAME: &str = "haclusterd-mask";
/// Before the fence's own.
const HOOK: Hook = Hook { name: "egress", number: 1, priority: 900, step: EGRESS_STEP, places: &[] };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mask {
    /// The interface by which answers leave: the parent of the one that has the address.
    pub ifindex: u32,
    pub addr: IpAddr,
    pub mac: MacAddr,
}

/// From now on these and no others, in one transaction. Those of an interface that is gone are left out.
pub fn wear(masks: &[Mask]) -> Result<(), FenceError> {
    let rule = |mask: &Mask| -> plain::Rule<'static> {
        let mask = *mask;
        (mask.ifindex, Box::new(move |list| mask.expressions(list)))
    };
    let rules: Vec<plain::Rule<'_>> = masks.iter().map(rule).collect();
    plain::replace(NAME, &HOOK, &rules)
}

impl Mask {
    fn expressions(&self, list: &mut Bytes) {
        rules::has_address(list, self.addr, rules::SOURCE);
        rules::write_source(list, self.mac);
    }
}
