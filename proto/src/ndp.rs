//! Neighbour solicitations and advertisements (RFC 4861, 4.3 and 4.4), as whole frames.
//!
//! ```text
//!  0      6      12     14                18       20   21    22       38       54
//! +------+------+------+-----------------+--------+----+-----+--------+--------+
//! |  to  | from | 86dd | 6, class, flow  | length | 58 | 255 |  from  |   to   |  Ethernet, IPv6
//! +------+------+------+-----------------+--------+----+-----+--------+--------+
//! 54     55  56         58               62       78
//! +-----+---+----------+----------------+--------+----------------------------+
//! |type | 0 | checksum | R S O, reserved| target | options: type, length/8, … |     ICMPv6
//! +-----+---+----------+----------------+--------+----------------------------+
//! ```
//! [`Packet`] shows a frame, [`Repr`] means one. What parses, emits the bytes back, less Ethernet's padding.

use crate::checksum::Sum;
use crate::ethernet::{self, BadFrame, Header, octets};
use crate::units::MacAddr;
use std::net::Ipv6Addr;

/// Without options.
pub const MIN_LEN: usize = ICMP + 24;
pub const ETHERTYPE: u16 = 0x86dd;
pub const ICMPV6: u8 = 58;
pub const SOLICITATION: u8 = 135;
pub const ADVERTISEMENT: u8 = 136;
/// Where a filter finds that a frame is of interest.
pub const NEXT_HEADER_AT: u32 = 20;
pub const TYPE_AT: u32 = ICMP as u32;

const ICMP: usize = ethernet::HEADER + 40;
/// No router lowers it, so it proves that the frame comes from this link.
const HOP_LIMIT: u8 = 255;
const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Solicitation,
    Advertisement,
}

/// A frame that has passed the checks of RFC 4861, 7.1.1 or 7.1.2.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a>(&'a [u8]);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repr {
    pub ethernet: Header,
    /// Traffic class and flow label; receivers ignore both.
    pub class_and_flow: u32,
    pub from: Ipv6Addr,
    pub to: Ipv6Addr,
    pub kind: Kind,
    /// R, S and O of an advertisement, and the bits that are reserved.
    pub flags: u32,
    pub target: Ipv6Addr,
    pub options: Vec<u8>,
}

impl<'a> Packet<'a> {
    pub fn check(frame: &'a [u8]) -> Result<Packet<'a>, BadFrame> {
        ethernet::at_least(frame, MIN_LEN)?;
        ethernet::require(frame[12..14] == ETHERTYPE.to_be_bytes(), "ethertype")?;
        ethernet::require(frame[14] >> 4 == 6, "IP version")?;
        ethernet::require(frame[20] == ICMPV6, "next header")?;
        ethernet::require(frame[21] == HOP_LIMIT, "hop limit")?;
        let len = ICMP + usize::from(u16::from_be_bytes(octets(frame, 18)));
        ethernet::require(len >= MIN_LEN, "payload length")?;
        ethernet::at_least(frame, len)?;

        let packet = Packet(&frame[..len]);
        ethernet::require(matches!(frame[ICMP..ICMP + 2], [SOLICITATION | ADVERTISEMENT, 0]), "type")?;
        ethernet::require(u16::from_be_bytes(octets(frame, 56)) == packet.checksum(), "checksum")?;
        ethernet::require(!packet.target().is_multicast(), "target")?;
        packet.check_options()?;
        packet.check_addresses()?;
        Ok(packet)
    }

    fn check_options(&self) -> Result<(), BadFrame> {
        let mut rest = self.options();
        while let [_, units, ..] = *rest {
            ethernet::require(units > 0, "option length")?;
            rest = rest.get(usize::from(units) * 8..).ok_or(BadFrame::Field("option length"))?;
        }
        ethernet::require(rest.is_empty(), "option length")
    }

    fn check_addresses(&self) -> Result<(), BadFrame> {
        match self.kind() {
            Kind::Solicitation if self.from().is_unspecified() => {
                ethernet::require(
                    self.to().octets()[..13] == solicited_node(self.to()).octets()[..13],
                    "destination",
                )?;
                ethernet::require(self.link_address(SOURCE_LINK_ADDRESS).is_none(), "source link address")
            }
            Kind::Solicitation => Ok(()),
            Kind::Advertisement => {
                ethernet::require(!(self.to().is_multicast() && self.solicited()), "flag S")
            }
        }
    }

    #[must_use]
    pub fn ethernet(&self) -> Header {
        Header::of(self.0)
    }

    #[must_use]
    pub fn from(&self) -> Ipv6Addr {
        octets::<16>(self.0, 22).into()
    }

    #[must_use]
    pub fn to(&self) -> Ipv6Addr {
        octets::<16>(self.0, 38).into()
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        if self.0[ICMP] == SOLICITATION { Kind::Solicitation } else { Kind::Advertisement }
    }

    #[must_use]
    pub fn target(&self) -> Ipv6Addr {
        octets::<16>(self.0, 62).into()
    }

    /// The advertisement answers a solicitation of one host.
    #[must_use]
    pub fn solicited(&self) -> bool {
        self.flags() & Repr::SOLICITED != 0
    }

    /// Where an advertisement says that its target is.
    #[must_use]
    pub fn target_mac(&self) -> MacAddr {
        self.link_address(TARGET_LINK_ADDRESS).unwrap_or(self.ethernet().from)
    }

    fn flags(&self) -> u32 {
        u32::from_be_bytes(octets(self.0, 58))
    }

    fn options(&self) -> &'a [u8] {
        &self.0[MIN_LEN..]
    }

    /// `check_options` has seen to it that each length is right.
    fn link_address(&self, wanted: u8) -> Option<MacAddr> {
        let mut rest = self.options();
        while let [kind, units, ..] = *rest {
            if (kind, units) == (wanted, 1) {
                return Some(MacAddr(octets(rest, 2)));
            }
            rest = rest.get(usize::from(units) * 8..)?;
        }
        None
    }

    fn checksum(&self) -> u16 {
        checksum(self.from(), self.to(), &self.0[ICMP..])
    }
}

impl Repr {
    pub const SOLICITED: u32 = 1 << 30;
    pub const OVERRIDE: u32 = 1 << 29;

    pub fn parse(frame: &[u8]) -> Result<Repr, BadFrame> {
        let packet = Packet::check(frame)?;
        Ok(Repr {
            ethernet: packet.ethernet(),
            class_and_flow: u32::from_be_bytes(octets(frame, 14)) & 0x0fff_ffff,
            from: packet.from(),
            to: packet.to(),
            kind: packet.kind(),
            flags: packet.flags(),
            target: packet.target(),
            options: packet.options().to_vec(),
        })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let length = u16::try_from(24 + self.options.len()).unwrap_or(u16::MAX);
        let mut frame = self.ethernet.emit(ETHERTYPE).to_vec();
        frame.extend((6 << 28 | self.class_and_flow).to_be_bytes());
        frame.extend(length.to_be_bytes());
        frame.extend([ICMPV6, HOP_LIMIT]);
        frame.extend(self.from.octets());
        frame.extend(self.to.octets());
        let kind = match self.kind {
            Kind::Solicitation => SOLICITATION,
            Kind::Advertisement => ADVERTISEMENT,
        };
        frame.extend([kind, 0, 0, 0]);
        frame.extend(self.flags.to_be_bytes());
        frame.extend(self.target.octets());
        frame.extend(&self.options);
        let checksum = checksum(self.from, self.to, &frame[ICMP..]);
        frame[56..58].copy_from_slice(&checksum.to_be_bytes());
        frame
    }

    /// "`address` is at `mac`", unasked and to everybody. Without O, neighbours that know another place keep it;
    /// with S, they ignore it.
    #[must_use]
    pub fn unsolicited(mac: MacAddr, address: Ipv6Addr) -> Repr {
        let mut options = vec![TARGET_LINK_ADDRESS, 1];
        options.extend(mac.0);
        Repr {
            ethernet: Header { to: multicast_mac(ALL_NODES), from: mac },
            class_and_flow: 0,
            from: address,
            to: ALL_NODES,
            kind: Kind::Advertisement,
            flags: Repr::OVERRIDE,
            target: address,
            options,
        }
    }

    /// "Where are you?", asked of `target` by `from`, which lets it know where `from` is: who is asked takes the source
    /// link-layer option into its cache, in place of what it has there (RFC 4861, 7.2.3). `to`: where it is thought to
    /// be; without, the question goes to its group.
    #[must_use]
    pub fn question(mac: MacAddr, from: Ipv6Addr, target: Ipv6Addr, to: Option<MacAddr>) -> Repr {
        let group = solicited_node(target);
        let mut options = vec![SOURCE_LINK_ADDRESS, 1];
        options.extend(mac.0);
        Repr {
            ethernet: Header { to: to.unwrap_or(multicast_mac(group)), from: mac },
            class_and_flow: 0,
            from,
            to: if to.is_some() { target } else { group },
            kind: Kind::Solicitation,
            flags: 0,
            target,
            options,
        }
    }

    /// "Does anybody have `address`?", asked by nobody: duplicate address detection (RFC 4862, 5.4.2).
    #[must_use]
    pub fn probe(mac: MacAddr, address: Ipv6Addr) -> Repr {
        let to = solicited_node(address);
        Repr {
            ethernet: Header { to: multicast_mac(to), from: mac },
            class_and_flow: 0,
            from: Ipv6Addr::UNSPECIFIED,
            to,
            kind: Kind::Solicitation,
            flags: 0,
            target: address,
            options: Vec::new(),
        }
    }
}

/// The group that whoever has `address` listens to (RFC 4291, 2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let low = u16::from_be_bytes([b, c]);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), low)
}

/// The Ethernet group that carries an IPv6 group (RFC 2464, 7).
fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// RFC 4443, 2.3: over the pseudo-header and the message, as if its checksum field were zero.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let sum = Sum::default().pseudo_header(from.into(), to.into(), ICMPV6, message.len());
    sum.bytes(&message[..2]).bytes(&message[4..]).checksum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x0a]);

    /// Captured from Linux 6.18: duplicate address detection (with a nonce) and `ndisc_notify`.
    const SOLICIT: &str = "3333ff02010002000000000a86dd6000000000203aff00000000000000000000000000000000ff02000000000000\
        00000001ff020100870012e200000000fd0000000000000000000001000201000e0186864301912f";
    const ADVERT: &str = "33330000000102000000000a86dd6000000000203afffd000000000000000000000100020100ff0200000000000000\
        000000000000018800588e20000000fd000000000000000000000100020100020102000000000a";

    fn bytes(hex: &str) -> Vec<u8> {
        HEXLOWER.decode(hex.as_bytes()).unwrap()
    }

    fn vip() -> Ipv6Addr {
        "fd00::1:2:100".parse().unwrap()
    }

    #[test]
    fn the_unsolicited_advertisement_is_the_kernels() {
        assert_eq!(Repr::unsolicited(A, vip()).emit(), bytes(ADVERT));
        let packet = bytes(ADVERT);
        let packet = Packet::check(&packet).unwrap();
        assert_eq!((packet.target(), packet.target_mac(), packet.solicited()), (vip(), A, false));
    }

    #[test]
    fn the_probe_is_the_kernels_without_its_nonce() {
        let mut kernels = Repr::parse(&bytes(SOLICIT)).unwrap();
        assert_eq!(kernels.options.len(), 8);
        kernels.options.clear();
        assert_eq!(Repr::probe(A, vip()), kernels);
    }

    #[test]
    fn a_question_says_where_its_asker_is() {
        const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x0b]);
        let peer = "fd00::1:2:3".parse().unwrap();
        let frame = Repr::question(A, vip(), peer, Some(B)).emit();
        let packet = Packet::check(&frame).unwrap();
        assert_eq!((packet.ethernet().to, packet.to(), packet.from()), (B, peer, vip()));
        assert_eq!(packet.link_address(SOURCE_LINK_ADDRESS), Some(A));
        let frame = Repr::question(A, vip(), peer, None).emit();
        let packet = Packet::check(&frame).unwrap();
        assert_eq!(packet.to().to_string(), "ff02::1:ff02:3");
        assert_eq!(packet.ethernet().to, MacAddr([0x33, 0x33, 0xff, 2, 0, 3]));
    }

    #[test]
    fn an_advertisement_without_the_option_means_its_sender() {
        let bare = Repr { options: Vec::new(), ..Repr::unsolicited(A, vip()) }.emit();
        assert_eq!(Packet::check(&bare).unwrap().target_mac(), A);
    }

    #[test]
    fn what_rfc_4861_forbids_is_refused() {
        let good = bytes(ADVERT);
        for (at, field) in
            [(12, "ethertype"), (14, "IP version"), (20, "next header"), (21, "hop limit"), (57, "checksum")]
        {
            let mut bad = good.clone();
            bad[at] ^= 0x11;
            assert_eq!(Repr::parse(&bad), Err(BadFrame::Field(field)), "byte {at}");
        }
        let refused = |repr: Repr, field| assert_eq!(Repr::parse(&repr.emit()), Err(BadFrame::Field(field)));
        let advert = Repr::unsolicited(A, vip());
        refused(Repr { flags: Repr::SOLICITED, ..advert.clone() }, "flag S");
        refused(Repr { target: ALL_NODES, ..advert.clone() }, "target");
        refused(Repr { options: vec![2, 0, 0, 0, 0, 0, 0, 0], ..advert.clone() }, "option length");
        refused(Repr { options: vec![2, 2, 0, 0, 0, 0, 0, 0], ..advert.clone() }, "option length");
        refused(Repr { options: vec![2], ..advert }, "option length");
        let probe = Repr::probe(A, vip());
        refused(Repr { to: ALL_NODES, ..probe.clone() }, "destination");
        refused(
            Repr { options: vec![SOURCE_LINK_ADDRESS, 1, 2, 0, 0, 0, 0, 1], ..probe },
            "source link address",
        );
        assert_eq!(Repr::parse(&good[..70]), Err(BadFrame::Short { need: 78, have: 70 }));
        assert_eq!(Repr::parse(&good[..80]), Err(BadFrame::Short { need: 86, have: 80 }));
    }

    proptest! {
        #[test]
        fn what_parses_emits_the_bytes_back(
            noise in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4),
            tail in prop::collection::vec(any::<u8>(), 0..32),
            solicit: bool,
            mended: bool,
        ) {
            let mut frame = bytes(if solicit { SOLICIT } else { ADVERT });
            noise.iter().for_each(|(at, byte)| { let at = at % frame.len(); frame[at] = *byte; });
            if mended {
                let (from, to) = (octets::<16>(&frame, 22), octets::<16>(&frame, 38));
                let sum = checksum(from.into(), to.into(), &frame[ICMP..]);
                frame[56..58].copy_from_slice(&sum.to_be_bytes());
            }
            frame.extend(tail);
            if let Ok(repr) = Repr::parse(&frame) {
                let emitted = repr.emit();
                prop_assert_eq!(&emitted[..], &frame[..emitted.len()]);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(frame in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Repr::parse(&frame);
        }
    }
}
