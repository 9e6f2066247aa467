//! The table, as nft(8) would show it:
//!
//! ```text
//! table netdev haclusterd {
//!     set guard4 { type ipv4_addr; flags timeout; }           (and guard6, lease4, lease6)
//!     chain ingress-2 {
//!         type filter hook ingress device "eth0" priority -1000; policy accept;
//!         ip daddr @guard4 ip daddr != @lease4 drop
//!         ip6 daddr @guard6 ip6 daddr != @lease6 drop
//!     }
//!     chain egress-2 {
//!         type filter hook egress device "eth0" priority 1000; policy accept;
//!         arp saddr ip @guard4 arp saddr ip != @lease4 drop
//!         ip saddr @guard4 ip saddr != @lease4 drop
//!         ip6 saddr @guard6 ip6 saddr != @lease6 drop
//!         icmpv6 type nd-neighbor-advert and its target @guard6 != @lease6 drop
//!     }
//! }
//! ```
//! Neither ARP nor neighbour solicitations are dropped when they come in: they tell of rivals, and what the kernel
//! answers to them is dropped when it goes out. Ingress is the first to look at a packet and egress the last, so that
//! nobody's rewriting of addresses lies between.

use super::socket::{Refusal, Socket};
use super::wire::{self, APPEND, Batch, Bytes, CREATE};
use rustix::io::Errno;
use std::net::IpAddr;
use std::time::Duration;

pub const NAME: &str = "haclusterd";
const COMMENT: &[u8] = b"kept by haclusterd, and rebuilt when changed\0";

const NEW_TABLE: u8 = 0;
const GET_TABLE: u8 = 1;
const DELETE_TABLE: u8 = 2;
const NEW_CHAIN: u8 = 3;
const GET_CHAIN: u8 = 4;
const NEW_RULE: u8 = 6;
const GET_RULE: u8 = 7;
const NEW_SET: u8 = 9;
const GET_SET: u8 = 10;
const NEW_ELEMENT: u8 = 12;
const GET_ELEMENT: u8 = 13;
const DELETE_ELEMENT: u8 = 14;

/// The first attribute of whatever is part of a table, and of the table itself.
const TABLE: u16 = 1;

/// What an error says was refused; some are looked for by [`super::FenceError`].
pub const TABLE_STEP: &str = "make a table of the family netdev";
pub const INGRESS_STEP: &str = "hook into what comes in by an interface";
pub const EGRESS_STEP: &str = "hook into what goes out by an interface";
pub const LIST_STEP: &str = "list its table";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// Addresses that need an open gate.
    Guard,
    /// Open gates.
    Lease,
}

impl Set {
    fn name(self, family: Family) -> &'static str {
        match (self, family) {
            (Set::Guard, Family::V4) => "guard4",
            (Set::Guard, Family::V6) => "guard6",
            (Set::Lease, Family::V4) => "lease4",
            (Set::Lease, Family::V6) => "lease6",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    const BOTH: [Family; 2] = [Family::V4, Family::V6];

    fn of(addr: IpAddr) -> Family {
        if addr.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    fn length(self) -> u32 {
        if self == Family::V4 { 4 } else { 16 }
    }
}

/// Drops what has a guarded address without a lease at `address_at`. All places count from the network header.
struct Rule {
    ethertype: u16,
    /// Bytes that must be so.
    bytes: &'static [(u32, u8)],
    address_at: u32,
    family: Family,
}

const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// An advertisement whose source is another address: neither this kernel nor this daemon sends one, proxies do.
const ADVERTISEMENT: &[(u32, u8)] = &[(6, 58), (40, 136)];

const INGRESS: &[Rule] = &[
    Rule { ethertype: IPV4, bytes: &[], address_at: 16, family: Family::V4 },
    Rule { ethertype: IPV6, bytes: &[], address_at: 24, family: Family::V6 },
];
const EGRESS: &[Rule] = &[
    Rule { ethertype: ARP, bytes: &[], address_at: 14, family: Family::V4 },
    Rule { ethertype: IPV4, bytes: &[], address_at: 12, family: Family::V4 },
    Rule { ethertype: IPV6, bytes: &[], address_at: 8, family: Family::V6 },
    Rule { ethertype: IPV6, bytes: ADVERTISEMENT, address_at: 48, family: Family::V6 },
];

struct Hook {
    name: &'static str,
    number: u32,
    priority: i32,
    step: &'static str,
    rules: &'static [Rule],
}

const HOOKS: [Hook; 2] = [
    Hook { name: "ingress", number: 0, priority: -1000, step: INGRESS_STEP, rules: INGRESS },
    Hook { name: "egress", number: 1, priority: 1000, step: EGRESS_STEP, rules: EGRESS },
];

/// Removes the table if there is one. Only what exists can be deleted, so it is made first; the same goes for
/// elements below.
pub fn remove(batch: &mut Batch) {
    new_table(batch);
    batch.add(DELETE_TABLE, 0, "delete its table", |table| {
        table.text(TABLE, NAME);
    });
}

/// Chains that go with the [`remove`] that follows: refused where the kernel cannot do what [`hook`] needs.
pub fn try_hooks(batch: &mut Batch, device: &str) {
    new_table(batch);
    for hook in &HOOKS {
        new_chain(batch, hook, &format!("trial-{}", hook.name), device);
    }
}

/// The table with empty sets and without chains; there is none before.
pub fn make(batch: &mut Batch) {
    new_table(batch);
    for set in [Set::Guard, Set::Lease] {
        for family in Family::BOTH {
            new_set(batch, set, family);
        }
    }
}

fn new_table(batch: &mut Batch) {
    const USERDATA: u16 = 6;
    // nft's own format: kind 0 is a comment, its length, its text.
    let comment = [&[0, COMMENT.len() as u8], COMMENT].concat();
    batch.add(NEW_TABLE, CREATE, TABLE_STEP, |table| {
        table.text(TABLE, NAME).bytes(USERDATA, &comment);
    });
}

fn new_set(batch: &mut Batch, set: Set, family: Family) {
    const SET_NAME: u16 = 2;
    const FLAGS: u16 = 3;
    const KEY_TYPE: u16 = 4;
    const KEY_LENGTH: u16 = 5;
    const ID: u16 = 10;
    const TIMEOUT: u32 = 0x10;
    // nft's numbers for its types; the kernel only keeps them.
    let key_type = if family == Family::V4 { 7 } else { 8 };
    batch.add(NEW_SET, CREATE, "make a set whose elements time out", |new| {
        new.text(TABLE, NAME)
            .text(SET_NAME, set.name(family))
            .number(FLAGS, TIMEOUT)
            .number(KEY_TYPE, key_type)
            .number(KEY_LENGTH, family.length())
            .number(ID, 1 + set as u32 * 2 + family as u32);
    });
}

/// Both chains of one interface, with their rules.
pub fn hook(batch: &mut Batch, ifindex: u32, device: &str) {
    for hook in &HOOKS {
        let chain = format!("{}-{ifindex}", hook.name);
        new_chain(batch, hook, &chain, device);
        for rule in hook.rules {
            new_rule(batch, &chain, rule);
        }
    }
}

fn new_chain(batch: &mut Batch, hook: &Hook, chain: &str, device: &str) {
    const CHAIN_NAME: u16 = 3;
    const HOOK: u16 = 4;
    const TYPE: u16 = 7;
    const HOOK_NUMBER: u16 = 1;
    const PRIORITY: u16 = 2;
    const DEVICE: u16 = 3;
    batch.add(NEW_CHAIN, CREATE, hook.step, |new| {
        new.text(TABLE, NAME).text(CHAIN_NAME, chain).text(TYPE, "filter").nest(HOOK, |at| {
            at.number(HOOK_NUMBER, hook.number)
                .bytes(PRIORITY, &hook.priority.to_be_bytes())
                .text(DEVICE, device);
        });
    });
}

fn new_rule(batch: &mut Batch, chain: &str, rule: &Rule) {
    const RULE_CHAIN: u16 = 2;
    const EXPRESSIONS: u16 = 4;
    batch.add(NEW_RULE, CREATE | APPEND, "add a rule", |new| {
        new.text(TABLE, NAME).text(RULE_CHAIN, chain).nest(EXPRESSIONS, |list| {
            expression::ethertype(list);
            expression::equals(list, &rule.ethertype.to_be_bytes());
            for &(at, byte) in rule.bytes {
                expression::load(list, at, 1);
                expression::equals(list, &[byte]);
            }
            expression::load(list, rule.address_at, rule.family.length());
            expression::listed(list, Set::Guard.name(rule.family));
            expression::not_listed(list, Set::Lease.name(rule.family));
            expression::drop(list);
        });
    });
}

/// What rules are made of. All of these work on one register, which keeps what was loaded last.
mod expression {
    use super::Bytes;

    const ELEMENT: u16 = 1;
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    const VALUE: u16 = 1;
    const REGISTER: u32 = 1;

    fn add(list: &mut Bytes, name: &str, fill: impl FnOnce(&mut Bytes)) {
        list.nest(ELEMENT, |expression| {
            expression.text(NAME, name).nest(DATA, fill);
        });
    }

    pub fn ethertype(list: &mut Bytes) {
        const TARGET: u16 = 1;
        const KEY: u16 = 2;
        const PROTOCOL: u32 = 1;
        add(list, "meta", |meta| {
            meta.number(KEY, PROTOCOL).number(TARGET, REGISTER);
        });
    }

    pub fn load(list: &mut Bytes, at: u32, length: u32) {
        const TARGET: u16 = 1;
        const BASE: u16 = 2;
        const OFFSET: u16 = 3;
        const LENGTH: u16 = 4;
        const NETWORK_HEADER: u32 = 1;
        add(list, "payload", |payload| {
            payload.number(TARGET, REGISTER).number(BASE, NETWORK_HEADER);
            payload.number(OFFSET, at).number(LENGTH, length);
        });
    }

    pub fn equals(list: &mut Bytes, value: &[u8]) {
        const SOURCE: u16 = 1;
        const OPERATION: u16 = 2;
        const WITH: u16 = 3;
        const EQUAL: u32 = 0;
        add(list, "cmp", |cmp| {
            cmp.number(SOURCE, REGISTER).number(OPERATION, EQUAL).nest(WITH, |data| {
                data.bytes(VALUE, value);
            });
        });
    }

    pub fn listed(list: &mut Bytes, set: &str) {
        lookup(list, set, 0);
    }

    pub fn not_listed(list: &mut Bytes, set: &str) {
        const INVERTED: u32 = 1;
        lookup(list, set, INVERTED);
    }

    fn lookup(list: &mut Bytes, set: &str, flags: u32) {
        const SET: u16 = 1;
        const SOURCE: u16 = 2;
        const FLAGS: u16 = 5;
        add(list, "lookup", |lookup| {
            lookup.text(SET, set).number(SOURCE, REGISTER).number(FLAGS, flags);
        });
    }

    pub fn drop(list: &mut Bytes) {
        const TARGET: u16 = 1;
        const WITH: u16 = 2;
        const VERDICT: u16 = 2;
        const CODE: u16 = 1;
        const VERDICT_REGISTER: u32 = 0;
        const DROP: u32 = 0;
        add(list, "immediate", |immediate| {
            immediate.number(TARGET, VERDICT_REGISTER).nest(WITH, |data| {
                data.nest(VERDICT, |verdict| {
                    verdict.number(CODE, DROP);
                });
            });
        });
    }
}

/// Puts these in and takes everything else that is `named` out. An element that is there already would keep its old
/// timeout, up to Linux 6.11 in any case; so each is made if it is not there, deleted, and made anew. Nobody sees
/// anything but the end of a transaction.
pub fn set_elements(batch: &mut Batch, set: Set, named: &[IpAddr], kept: &[(IpAddr, Duration)]) {
    for family in Family::BOTH {
        let named: Vec<_> = named.iter().filter(|addr| Family::of(**addr) == family).collect();
        let kept: Vec<_> = kept.iter().filter(|(addr, _)| Family::of(*addr) == family).collect();
        if !named.is_empty() {
            let forever = || named.iter().map(|addr| (**addr, None));
            elements(batch, NEW_ELEMENT, set, family, forever());
            elements(batch, DELETE_ELEMENT, set, family, forever());
        }
        if !kept.is_empty() {
            elements(batch, NEW_ELEMENT, set, family, kept.iter().map(|(addr, left)| (*addr, Some(*left))));
        }
    }
}

const ELEMENT_SET: u16 = 2;
const ELEMENTS: u16 = 3;
const ELEMENT: u16 = 1;
const KEY: u16 = 1;
const KEY_VALUE: u16 = 1;
const TIMEOUT: u16 = 4;
const EXPIRATION: u16 = 5;

fn elements(
    batch: &mut Batch,
    kind: u8,
    set: Set,
    family: Family,
    elements: impl Iterator<Item = (IpAddr, Option<Duration>)>,
) {
    let flags = if kind == NEW_ELEMENT { CREATE } else { 0 };
    let step = if kind == NEW_ELEMENT { "put an address in" } else { "take an address out" };
    batch.add(kind, flags, step, |new| {
        new.text(TABLE, NAME).text(ELEMENT_SET, set.name(family)).nest(ELEMENTS, |list| {
            for (addr, left) in elements {
                list.nest(ELEMENT, |element| {
                    if let Some(left) = left {
                        element.long(TIMEOUT, left.as_millis().try_into().unwrap_or(u64::MAX));
                    }
                    element.nest(KEY, |key| {
                        match addr {
                            IpAddr::V4(addr) => key.bytes(KEY_VALUE, &addr.octets()),
                            IpAddr::V6(addr) => key.bytes(KEY_VALUE, &addr.octets()),
                        };
                    });
                });
            }
        });
    });
}

/// What tells this table from any other, and from itself once changed. Handles are given once: whatever was deleted
/// and made again has another. The rest is what can be changed in place.
pub type Portrait = Vec<Vec<u8>>;

/// `None` if it changed meanwhile; empty if there is no table.
pub fn portrait(socket: &mut Socket) -> Result<Option<Portrait>, Refusal> {
    const HANDLES: [(u8, &[u16]); 4] = [
        (GET_TABLE, &[2, 4]),       // flags: dormant; handle
        (GET_CHAIN, &[2, 3, 4, 5]), // handle, name, hook: the interface; policy
        (GET_RULE, &[2, 3]),        // chain, handle
        (GET_SET, &[2, 3, 16]),     // name, flags, handle
    ];
    let mut portrait = Portrait::new();
    for (kind, traits) in HANDLES {
        let Some(members) = list(socket, kind, |_| ())? else { return Ok(None) };
        for member in members {
            let kept = wire::attributes(&member).filter(|(kind, _)| traits.contains(kind));
            portrait.push(kept.flat_map(|(_, value)| value).copied().collect());
        }
    }
    Ok(Some(portrait))
}

/// Which gates are open, and for how long yet.
pub fn leases(socket: &mut Socket) -> Result<Option<Vec<(IpAddr, Duration)>>, Refusal> {
    let mut leases = Vec::new();
    for family in Family::BOTH {
        let name = Set::Lease.name(family);
        let listed = list(socket, GET_ELEMENT, |set| {
            set.text(ELEMENT_SET, name);
        })?;
        let Some(parts) = listed else { return Ok(None) };
        let lists = parts.iter().filter_map(|part| wire::attribute(part, ELEMENTS));
        leases.extend(lists.flat_map(wire::attributes).filter_map(|(_, element)| lease(element)));
    }
    Ok(Some(leases))
}

fn lease(element: &[u8]) -> Option<(IpAddr, Duration)> {
    let key = wire::attribute(wire::attribute(element, KEY)?, KEY_VALUE)?;
    let addr = match key.len() {
        4 => IpAddr::from(wire::octets::<4>(key, 0)?),
        _ => IpAddr::from(wire::octets::<16>(key, 0)?),
    };
    let left = u64::from_be_bytes(wire::octets(wire::attribute(element, EXPIRATION)?, 0)?);
    Some((addr, Duration::from_millis(left)))
}

/// Those that are part of our table; none if there is no table.
fn list(
    socket: &mut Socket,
    kind: u8,
    fill: impl FnOnce(&mut Bytes),
) -> Result<Option<Vec<Vec<u8>>>, Refusal> {
    let listed = socket.list(kind, LIST_STEP, |question| {
        // Only hearsay for lists of tables and chains: the kernel lists them all.
        question.text(TABLE, NAME);
        fill(question);
    });
    let ours = |member: &Vec<u8>| wire::attribute(member, TABLE).and_then(wire::text) == Some(NAME);
    match listed {
        Ok(members) => Ok(members.map(|members| members.into_iter().filter(ours).collect())),
        Err(Refusal { errno: Errno::NOENT, .. }) => Ok(Some(Vec::new())),
        Err(refusal) => Err(refusal),
    }
}
