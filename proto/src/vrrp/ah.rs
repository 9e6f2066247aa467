//! The authentication header (RFC 4302) with which keepalived protects version 2 on IPv4, as whole packets.
//!
//! ```text
//!  0      1     2        4    6       8     9    10         12       16     20
//! +------+-----+--------+----+-------+-----+----+----------+--------+------+
//! | 0x45 | TOS | length | id | flags | TTL | 51 | checksum | source |  to  |          IPv4
//! +------+-----+--------+----+-------+-----+----+----------+--------+------+
//! 20    21  22  24       28         32         44
//! +-----+---+---+--------+----------+----------+-----------------
//! | 112 | 4 | 0 | source | sequence |   ICV    | VRRP message       AH
//! +-----+---+---+--------+----------+----------+-----------------
//! ```
//! The ICV is the first 96 bits of HMAC-MD5 (RFC 2403) over the packet with the ICV itself, TOS, flags and
//! checksum as zero, and TTL too if the packet goes to one host. To a group, keepalived counts the TTL in, which
//! RFC 4302, 3.3.3.1.1.1 would have as zero as well.

use super::auth::Password;
use super::flaw::{Flaw, require};
use super::{HOP_LIMIT, PROTOCOL};
use crate::checksum::Sum;
use crate::ethernet::octets;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;

/// The protocol of the IPv4 packet.
pub const AH: u8 = 51;

const IPV4: usize = 20;
const ICV: usize = IPV4 + 12;
const HEADER: usize = ICV + 12;
/// Internetwork control (RFC 791, 3.1), as keepalived has it.
const TOS: u8 = 0xc0;
/// The header's length in words, less 2.
const LEN: u8 = 4;

/// A packet that has the form of one that is authentic. Whether it is, says [`Packet::verify`].
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a>(&'a [u8]);

/// Whoever sends it must keep every field as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr<'a> {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// Never 0: a kernel that is given a packet with its header puts an id of its own in the place of 0.
    pub id: NonZeroU16,
    /// Grows with each packet, so that an old one is not believed again.
    pub sequence: u32,
    pub message: &'a [u8],
}

impl<'a> Packet<'a> {
    /// With options in the IPv4 header, some of which would count as zero, it is none of keepalived's.
    pub fn check(packet: &'a [u8]) -> Result<Packet<'a>, Flaw> {
        require(packet.len() >= HEADER, Flaw::Short)?;
        require(packet[0] == 0x45 && packet[9] == AH, Flaw::AuthHeader)?;
        require(packet[IPV4..IPV4 + 2] == [PROTOCOL, LEN], Flaw::AuthHeader)?;
        let len = usize::from(u16::from_be_bytes(octets(packet, 2)));
        require(len >= HEADER, Flaw::Length)?;
        packet.get(..len).map(Packet).ok_or(Flaw::Length)
    }

    #[must_use]
    pub fn source(&self) -> Ipv4Addr {
        octets::<4>(self.0, 12).into()
    }

    #[must_use]
    pub fn destination(&self) -> Ipv4Addr {
        octets::<4>(self.0, 16).into()
    }

    #[must_use]
    pub fn sequence(&self) -> u32 {
        u32::from_be_bytes(octets(self.0, IPV4 + 8))
    }

    /// The VRRP message, which names the virtual router whose key it is.
    #[must_use]
    pub fn message(&self) -> &'a [u8] {
        &self.0[HEADER..]
    }

    /// In constant time.
    pub fn verify(&self, key: &Password) -> Result<(), Flaw> {
        mac(self.0, key).verify_truncated_left(&self.0[ICV..HEADER]).map_err(|_| Flaw::Integrity)
    }
}

impl Repr<'_> {
    #[must_use]
    pub fn emit(&self, key: &Password) -> Vec<u8> {
        let mut packet = self.ipv4().to_vec();
        packet.extend([PROTOCOL, LEN, 0, 0]);
        packet.extend(self.source.octets());
        packet.extend(self.sequence.to_be_bytes());
        packet.extend([0; HEADER - ICV]);
        packet.extend(self.message);
        let digest = mac(&packet, key).finalize().into_bytes();
        packet[ICV..HEADER].copy_from_slice(&digest[..HEADER - ICV]);
        packet
    }

    fn ipv4(&self) -> [u8; IPV4] {
        let length = u16::try_from(HEADER + self.message.len()).unwrap_or(u16::MAX);
        let mut header = [0; IPV4];
        header[..2].copy_from_slice(&[0x45, TOS]);
        header[2..4].copy_from_slice(&length.to_be_bytes());
        header[4..6].copy_from_slice(&self.id.get().to_be_bytes());
        header[8..10].copy_from_slice(&[HOP_LIMIT, AH]);
        header[12..16].copy_from_slice(&self.source.octets());
        header[16..].copy_from_slice(&self.destination.octets());
        let checksum = Sum::default().bytes(&header).checksum();
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    }
}

/// What may change on the way counts as zero (RFC 4302, 3.3.3.1.1.1).
fn mac(packet: &[u8], key: &Password) -> Hmac<Md5> {
    let mut header = octets::<IPV4>(packet, 0);
    header[1] = 0;
    header[6..8].fill(0);
    header[10..12].fill(0);
    if !Ipv4Addr::from(octets::<4>(packet, 16)).is_multicast() {
        header[8] = 0;
    }
    // A key shorter than a block is filled up with zeros (RFC 2104, 2).
    let mut block = [0; 64];
    block[..Password::LEN].copy_from_slice(key.bytes());
    let mac = Hmac::<Md5>::new(&block.into());
    mac.chain_update(header)
        .chain_update(&packet[IPV4..ICV])
        .chain_update([0; HEADER - ICV])
        .chain_update(&packet[HEADER..])
}
