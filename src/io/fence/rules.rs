//! What the chains of an interface hold: which packets have to do with an address, and what becomes of them.

use super::table::{ALIVE, Family, NAME, Set, TABLE};
use super::wire::{APPEND, Batch, Bytes, CREATE};
use haclusterd_proto::MacAddr;
use std::net::IpAddr;

const NEW_RULE: u8 = 6;

const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// Of the packets that may have an address that is fenced.
pub const ETHERTYPES: [u16; 3] = [ARP, IPV4, IPV6];

/// Where packets of a kind have an address that may be fenced. All places count from the network header.
pub struct Place {
    /// The chain that judges packets whose address has no open gate of its own.
    pub judge: &'static str,
    ethertype: u16,
    /// Bytes that must be so: where, and which.
    bytes: &'static [(u32, u8)],
    address_at: u32,
    family: Family,
}

pub const INGRESS: &[Place] = &[
    Place { judge: "to4", ethertype: IPV4, bytes: &[], address_at: DESTINATION.0, family: Family::V4 },
    Place { judge: "to6", ethertype: IPV6, bytes: &[], address_at: DESTINATION.1, family: Family::V6 },
];

pub const EGRESS: &[Place] = &[
    Place { judge: "arp", ethertype: ARP, bytes: &[], address_at: 14, family: Family::V4 },
    Place { judge: "from4", ethertype: IPV4, bytes: &[], address_at: SOURCE.0, family: Family::V4 },
    Place { judge: "from6", ethertype: IPV6, bytes: &[], address_at: SOURCE.1, family: Family::V6 },
    Place { judge: "na", ethertype: IPV6, bytes: ADVERTISEMENT, address_at: 48, family: Family::V6 },
];

/// By its target. Its source is the same address when it is ours or the kernel's, but another in a proxy's.
const ADVERTISEMENT: &[(u32, u8)] = &[(6, 58), (40, 136)];

impl Place {
    /// A guarded address whose own gate is not open is for the judge.
    pub fn fence(&self, batch: &mut Batch, chain: &str) {
        add(batch, NAME, chain, |list| self.fenced(list));
    }

    /// What opens a connection with an address that takes none any more is dropped.
    pub fn refuse(&self, batch: &mut Batch, chain: &str) {
        add(batch, NAME, chain, |list| {
            self.load_address(list);
            listed(list, Set::Quiet.name(self.family));
            opens_connection(list);
            decide(list, DROP);
        });
    }

    /// The judge: whose gate is kept open with all others passes, as long as they are.
    pub fn judge(&self, batch: &mut Batch) {
        add(batch, NAME, self.judge, |list| {
            load_ethertype(list);
            listed(list, ALIVE);
            load(list, self.address_at, self.family.length());
            listed(list, Set::Kept.name(self.family));
            decide(list, RETURN);
        });
        add(batch, NAME, self.judge, |list| decide(list, DROP));
    }

    fn fenced(&self, list: &mut Bytes) {
        self.load_address(list);
        listed(list, Set::Guard.name(self.family));
        not_listed(list, Set::Lease.name(self.family));
        jump(list, self.judge);
    }

    /// Ends the rule for all other packets.
    fn load_address(&self, list: &mut Bytes) {
        load_ethertype(list);
        equals(list, &self.ethertype.to_be_bytes());
        for &(at, byte) in self.bytes {
            load(list, at, 1);
            equals(list, &[byte]);
        }
        load(list, self.address_at, self.family.length());
    }
}

pub fn add(batch: &mut Batch, table: &str, chain: &str, expressions: impl FnOnce(&mut Bytes)) {
    const CHAIN: u16 = 2;
    const EXPRESSIONS: u16 = 4;
    batch.add(NEW_RULE, CREATE | APPEND, "add a rule", |new| {
        new.text(TABLE, table).text(CHAIN, chain).nest(EXPRESSIONS, expressions);
    });
}

/// All expressions work on this one: it keeps what was loaded last.
const REGISTER: u32 = 1;
/// The value of a register, in a nest.
const VALUE: u16 = 1;

fn expression(list: &mut Bytes, name: &str, fill: impl FnOnce(&mut Bytes)) {
    const ELEMENT: u16 = 1;
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    list.nest(ELEMENT, |expression| {
        expression.text(NAME, name).nest(DATA, fill);
    });
}

fn load_ethertype(list: &mut Bytes) {
    const PROTOCOL: u32 = 1;
    load_meta(list, PROTOCOL);
}

fn load_meta(list: &mut Bytes, key: u32) {
    const TO: u16 = 1;
    const KEY: u16 = 2;
    expression(list, "meta", |meta| {
        meta.number(KEY, key).number(TO, REGISTER);
    });
}

/// TCP with SYN and without ACK.
fn opens_connection(list: &mut Bytes) {
    const TRANSPORT_PROTOCOL: u32 = 16;
    const TCP: u8 = 6;
    const FLAGS_AT: u32 = 13;
    const SYN: u8 = 0x02;
    const SYN_ACK: u8 = 0x12;
    load_meta(list, TRANSPORT_PROTOCOL);
    equals(list, &[TCP]);
    load_from(list, TRANSPORT_HEADER, FLAGS_AT, 1);
    mask(list, &[SYN_ACK]);
    equals(list, &[SYN]);
}

/// Keeps these bits of what was loaded.
fn mask(list: &mut Bytes, bits: &[u8]) {
    const FROM: u16 = 1;
    const TO: u16 = 2;
    const LENGTH: u16 = 3;
    const MASK: u16 = 4;
    const XOR: u16 = 5;
    let length = u32::try_from(bits.len()).unwrap_or(u32::MAX);
    expression(list, "bitwise", |bitwise| {
        bitwise.number(FROM, REGISTER).number(TO, REGISTER).number(LENGTH, length);
        bitwise.nest(MASK, |data| {
            data.bytes(VALUE, bits);
        });
        bitwise.nest(XOR, |data| {
            data.bytes(VALUE, &vec![0; bits.len()]);
        });
    });
}

/// Where the two families have an address of a packet, from the network header.
pub type End = (u32, u32);
pub const SOURCE: End = (12, 8);
pub const DESTINATION: End = (16, 24);

pub fn has_address(list: &mut Bytes, addr: IpAddr, (v4_at, v6_at): End) {
    load_ethertype(list);
    match addr {
        IpAddr::V4(addr) => {
            equals(list, &IPV4.to_be_bytes());
            load(list, v4_at, 4);
            equals(list, &addr.octets());
        }
        IpAddr::V6(addr) => {
            equals(list, &IPV6.to_be_bytes());
            load(list, v6_at, 16);
            equals(list, &addr.octets());
        }
    }
}

pub fn load(list: &mut Bytes, at: u32, length: u32) {
    load_from(list, NETWORK_HEADER, at, length);
}

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

fn load_from(list: &mut Bytes, header: u32, at: u32, length: u32) {
    const TO: u16 = 1;
    const BASE: u16 = 2;
    const OFFSET: u16 = 3;
    const LENGTH: u16 = 4;
    expression(list, "payload", |payload| {
        payload.number(TO, REGISTER).number(BASE, header).number(OFFSET, at).number(LENGTH, length);
    });
}

pub fn equals(list: &mut Bytes, value: &[u8]) {
    const EQUAL: u32 = 0;
    compare(list, EQUAL, value);
}

pub fn differs(list: &mut Bytes, value: &[u8]) {
    const UNEQUAL: u32 = 1;
    compare(list, UNEQUAL, value);
}

fn compare(list: &mut Bytes, operation: u32, value: &[u8]) {
    const FROM: u16 = 1;
    const OPERATION: u16 = 2;
    const WITH: u16 = 3;
    expression(list, "cmp", |cmp| {
        cmp.number(FROM, REGISTER).number(OPERATION, operation).nest(WITH, |data| {
            data.bytes(VALUE, value);
        });
    });
}

/// The MAC from which the packet goes out.
pub fn write_source(list: &mut Bytes, mac: MacAddr) {
    const TO: u16 = 1;
    const DATA: u16 = 2;
    const BASE: u16 = 2;
    const OFFSET: u16 = 3;
    const LENGTH: u16 = 4;
    const FROM: u16 = 5;
    const LINK_HEADER: u32 = 0;
    const SOURCE_AT: u32 = 6;
    expression(list, "immediate", |immediate| {
        immediate.number(TO, REGISTER).nest(DATA, |data| {
            data.bytes(VALUE, &mac.0);
        });
    });
    expression(list, "payload", |payload| {
        payload.number(FROM, REGISTER).number(BASE, LINK_HEADER).number(OFFSET, SOURCE_AT).number(LENGTH, 6);
    });
}

fn listed(list: &mut Bytes, set: &str) {
    expression(list, "lookup", |lookup| look_up(lookup, set));
}

fn not_listed(list: &mut Bytes, set: &str) {
    const FLAGS: u16 = 5;
    const INVERTED: u32 = 1;
    expression(list, "lookup", |lookup| {
        look_up(lookup, set);
        lookup.number(FLAGS, INVERTED);
    });
}

fn look_up(lookup: &mut Bytes, set: &str) {
    const SET: u16 = 1;
    const FROM: u16 = 2;
    lookup.number(FROM, REGISTER).text(SET, set);
}

const DROP: i32 = 0;
const RETURN: i32 = -5;
const JUMP: i32 = -3;

pub fn drop_packet(list: &mut Bytes) {
    decide(list, DROP);
}

fn decide(list: &mut Bytes, code: i32) {
    verdict(list, code, None);
}

fn jump(list: &mut Bytes, chain: &str) {
    verdict(list, JUMP, Some(chain));
}

fn verdict(list: &mut Bytes, code: i32, chain: Option<&str>) {
    const TO: u16 = 1;
    const DATA: u16 = 2;
    const VERDICT: u16 = 2;
    const CODE: u16 = 1;
    const CHAIN: u16 = 2;
    const VERDICT_REGISTER: u32 = 0;
    expression(list, "immediate", |immediate| {
        immediate.number(TO, VERDICT_REGISTER).nest(DATA, |data| {
            data.nest(VERDICT, |verdict| {
                verdict.number(CODE, code.cast_unsigned());
                if let Some(chain) = chain {
                    verdict.text(CHAIN, chain);
                }
            });
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nft 1.0.6 sends them for `ip daddr @guard4 ip daddr != @lease4 jump to4`, but that it loads the address twice
    /// and adds the numbers of the sets.
    #[cfg(target_endian = "little")]
    #[test]
    fn a_rule_is_what_nft_makes_of_it() {
        let wanted = "24000180 09000100 6d65746100000000 14000280 08000200 00000001 08000100 00000001
                      2c000180 08000100 636d7000 20000280 08000100 00000001 08000200 00000000 0c000380 06000100 08000000
                      34000180 0c000100 7061796c6f616400
                      24000280 08000100 00000001 08000200 00000001 08000300 00000010 08000400 00000004
                      28000180 0b000100 6c6f6f6b75700000 18000280 08000200 00000001 0b000100 6775617264340000
                      30000180 0b000100 6c6f6f6b75700000 20000280 08000200 00000001 0b000100 6c65617365340000
                      08000500 00000001
                      38000180 0e000100 696d6d656469617465000000
                      24000280 08000100 00000000 18000280 14000280 08000100 fffffffd 08000200 746f3400";
        let mut list = Bytes::default();
        INGRESS[0].fenced(&mut list);
        let wanted: String = wanted.split_whitespace().collect();
        assert_eq!(data_encoding::HEXLOWER.encode(list.as_ref()), wanted);
    }
}
