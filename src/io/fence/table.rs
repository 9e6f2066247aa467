//! The table, as nft(8) would show it:
//!
//! ```text
//! table netdev haclusterd {
//!     set guard4 { type ipv4_addr; flags timeout; }           (and guard6, lease4, lease6, quiet4, quiet6, kept4, kept6)
//!     set alive { type ether_type; flags timeout; }
//!     chain to4 {
//!         meta protocol @alive ip daddr @kept4 return
//!         drop
//!     }                                                       (and to6, arp, from4, from6, na)
//!     chain ingress-2 {
//!         type filter hook ingress device "eth0" priority -1000; policy accept;
//!         ip daddr @quiet4 tcp flags & (syn | ack) == syn drop        (and the same of IPv6)
//!         ip daddr @guard4 ip daddr != @lease4 jump to4
//!         ip6 daddr @guard6 ip6 daddr != @lease6 jump to6
//!     }
//!     chain egress-2 {
//!         type filter hook egress device "eth0" priority 1000; policy accept;
//!         arp saddr ip @guard4 arp saddr ip != @lease4 jump arp
//!         ip saddr @guard4 ip saddr != @lease4 jump from4
//!         ip6 saddr @guard6 ip6 saddr != @lease6 jump from6
//!         (a neighbour advertisement's target) @guard6 (the target) != @lease6 jump na
//!     }
//! }
//! ```
//! Neither ARP nor neighbour solicitations are dropped when they come in: they tell of rivals, and what the kernel
//! answers to them is dropped when it goes out. Ingress is the first to look at a packet and egress the last, so that
//! nobody's rewriting of addresses lies between.
//!
//! A gate is an address in a lease set, which times out. Gates that are always open until the same moment are kept instead:
//! what times out for them is `alive`, so that a renewal costs the same for one and for a thousand.

use super::rules::{self, Place};
use super::socket::{Refusal, Socket};
use super::wire::{self, Batch, Bytes, CREATE};
use rustix::io::Errno;
use std::net::IpAddr;

pub const NAME: &str = "haclusterd";
/// For who lists the ruleset.
const COMMENT: &[u8] = b"kept by haclusterd, and rebuilt when changed\0";

pub const NEW_TABLE: u8 = 0;
const GET_TABLE: u8 = 1;
pub const DELETE_TABLE: u8 = 2;
const NEW_CHAIN: u8 = 3;
const GET_CHAIN: u8 = 4;
const GET_RULE: u8 = 7;
const NEW_SET: u8 = 9;
const GET_SET: u8 = 10;

/// The first attribute of whatever is part of a table, and of the table itself.
pub const TABLE: u16 = 1;

/// What an error says was refused; [`super::FenceError`] tells by them what the kernel lacks.
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
    /// Addresses that take no new connections.
    Quiet,
    /// Gates that are open as long as [`ALIVE`] has elements.
    Kept,
}

/// The ethertypes of packets that pass the gates that are [`Set::Kept`]: all of them, or none.
pub const ALIVE: &str = "alive";

impl Set {
    pub fn name(self, family: Family) -> &'static str {
        match (self, family) {
            (Set::Guard, Family::V4) => "guard4",
            (Set::Guard, Family::V6) => "guard6",
            (Set::Lease, Family::V4) => "lease4",
            (Set::Lease, Family::V6) => "lease6",
            (Set::Quiet, Family::V4) => "quiet4",
            (Set::Quiet, Family::V6) => "quiet6",
            (Set::Kept, Family::V4) => "kept4",
            (Set::Kept, Family::V6) => "kept6",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    pub fn of(addr: IpAddr) -> Family {
        if addr.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// Of an address, in bytes.
    pub fn length(self) -> u32 {
        match self {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }
}

pub struct Hook {
    pub name: &'static str,
    pub number: u32,
    pub priority: i32,
    pub step: &'static str,
    pub places: &'static [Place],
}

const INGRESS: u32 = 0;
const HOOKS: [Hook; 2] = [
    Hook { name: "ingress", number: INGRESS, priority: -1000, step: INGRESS_STEP, places: rules::INGRESS },
    Hook { name: "egress", number: 1, priority: 1000, step: EGRESS_STEP, places: rules::EGRESS },
];

/// Removes the table if there is one: only what exists can be deleted, so it is made first.
pub fn remove(batch: &mut Batch) {
    new_table(batch);
    batch.add(DELETE_TABLE, 0, "delete its table", |table| {
        table.text(TABLE, NAME);
    });
}

/// The table with empty sets and without chains, where there is none.
pub fn make(batch: &mut Batch) {
    new_table(batch);
    for set in [Set::Guard, Set::Lease, Set::Quiet, Set::Kept] {
        for family in Family::BOTH {
            // nft's numbers for its types, which the kernel keeps for it.
            let key_type = if family == Family::V4 { 7 } else { 8 };
            let id = 1 + set as u32 * 2 + family as u32;
            new_set(batch, set.name(family), id, key_type, family.length());
        }
    }
    const ETHERTYPE: u32 = 10;
    new_set(batch, ALIVE, 100, ETHERTYPE, 2);
    for place in rules::INGRESS.iter().chain(rules::EGRESS) {
        judge(batch, place.judge);
        place.judge(batch);
    }
}

/// A chain that packets come to only from another.
fn judge(batch: &mut Batch, name: &str) {
    const CHAIN_NAME: u16 = 3;
    batch.add(NEW_CHAIN, CREATE, "make a chain", |new| {
        new.text(TABLE, NAME).text(CHAIN_NAME, name);
    });
}

/// Both chains of one interface, with their rules.
pub fn hook(batch: &mut Batch, ifindex: u32, device: &str) {
    for hook in &HOOKS {
        let chain = format!("{}-{ifindex}", hook.name);
        new_chain(batch, NAME, hook, &chain, device);
        if hook.number == INGRESS {
            hook.places.iter().for_each(|place| place.refuse(batch, &chain));
        }
        hook.places.iter().for_each(|place| place.fence(batch, &chain));
    }
}

/// Chains that go with the [`remove`] that follows: refused where the kernel cannot do what [`hook`] needs.
pub fn try_hooks(batch: &mut Batch, device: &str) {
    new_table(batch);
    for hook in &HOOKS {
        new_chain(batch, NAME, hook, &format!("trial-{}", hook.name), device);
    }
}

fn new_table(batch: &mut Batch) {
    const USERDATA: u16 = 6;
    // In nft's own format: kind 0 is a comment; its length; its text.
    let comment = [&[0, COMMENT.len() as u8], COMMENT].concat();
    batch.add(NEW_TABLE, CREATE, TABLE_STEP, |table| {
        table.text(TABLE, NAME).bytes(USERDATA, &comment);
    });
}

fn new_set(batch: &mut Batch, name: &str, id: u32, key_type: u32, key_length: u32) {
    const SET_NAME: u16 = 2;
    const FLAGS: u16 = 3;
    const KEY_TYPE: u16 = 4;
    const KEY_LENGTH: u16 = 5;
    const ID: u16 = 10;
    const TIMEOUT: u32 = 0x10;
    batch.add(NEW_SET, CREATE, "make a set whose elements time out", |new| {
        new.text(TABLE, NAME)
            .text(SET_NAME, name)
            .number(FLAGS, TIMEOUT)
            .number(KEY_TYPE, key_type)
            .number(KEY_LENGTH, key_length)
            .number(ID, id);
    });
}

pub fn new_chain(batch: &mut Batch, table: &str, hook: &Hook, chain: &str, device: &str) {
    const CHAIN_NAME: u16 = 3;
    const HOOK: u16 = 4;
    const TYPE: u16 = 7;
    const HOOK_NUMBER: u16 = 1;
    const PRIORITY: u16 = 2;
    const DEVICE: u16 = 3;
    batch.add(NEW_CHAIN, CREATE, hook.step, |new| {
        new.text(TABLE, table).text(CHAIN_NAME, chain).text(TYPE, "filter").nest(HOOK, |at| {
            at.number(HOOK_NUMBER, hook.number)
                .bytes(PRIORITY, &hook.priority.to_be_bytes())
                .text(DEVICE, device);
        });
    });
}

/// What tells this table from any other, and from itself once changed. Handles are given once: whatever was deleted
/// and made again has another. The rest is what can be changed in place.
pub type Portrait = Vec<Vec<u8>>;

/// `None` if it changed meanwhile; empty if there is no table.
pub fn portrait(socket: &mut Socket) -> Result<Option<Portrait>, Refusal> {
    const TRAITS: [(u8, &[u16]); 4] = [
        (GET_TABLE, &[2, 4]),       // flags, such as dormant; handle
        (GET_CHAIN, &[2, 3, 4, 5]), // handle, name, hook (with the interface), policy
        (GET_RULE, &[2, 3]),        // chain, handle
        (GET_SET, &[2, 3, 16]),     // name, flags, handle
    ];
    let mut portrait = Portrait::new();
    for (kind, traits) in TRAITS {
        let Some(members) = list(socket, kind, |_| ())? else { return Ok(None) };
        portrait.extend(members.iter().map(|member| {
            let kept = wire::attributes(member).filter(|(kind, _)| traits.contains(kind));
            kept.flat_map(|(_, value)| value).copied().collect()
        }));
    }
    Ok(Some(portrait))
}

/// Those that are part of our table; none if there is no table. `None` if they changed meanwhile.
pub fn list(
    socket: &mut Socket,
    kind: u8,
    fill: impl FnOnce(&mut Bytes),
) -> Result<Option<Vec<Vec<u8>>>, Refusal> {
    let listed = socket.list(kind, LIST_STEP, |question| {
        // Not heeded for tables and chains.
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
