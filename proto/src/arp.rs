//! ARP for IPv4 on Ethernet (RFC 826), as whole frames.
//!
//! ```text
//!  0      6      12     14     16     18  19  20     22      28      32      38      42
//! +------+------+------+------+------+---+---+------+-------+-------+-------+-------+
//! |  to  | from | 0806 | 0001 | 0800 | 6 | 4 | oper |  sha  |  spa  |  tha  |  tpa  |
//! +------+------+------+------+------+---+---+------+-------+-------+-------+-------+
//! sha, spa: hardware and protocol address of the sender; tha, tpa: of the target
//! ```
//! [`Packet`] shows a frame, [`Repr`] means one. What parses, emits the bytes back, less Ethernet's padding.

use crate::ethernet::{self, BadFrame, Header, octets};
use crate::units::MacAddr;
use std::net::Ipv4Addr;

pub const LEN: usize = 42;
pub const ETHERTYPE: u16 = 0x0806;
/// Ethernet, IPv4, and the lengths of their addresses.
const FORMAT: [u8; 6] = [0, 1, 8, 0, 6, 4];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Request,
    Reply,
}

/// A frame that is ARP for IPv4 on Ethernet.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a>(&'a [u8]);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    pub ethernet: Header,
    pub operation: Operation,
    pub sender_mac: MacAddr,
    pub sender: Ipv4Addr,
    pub target_mac: MacAddr,
    pub target: Ipv4Addr,
}

impl<'a> Packet<'a> {
    pub fn check(frame: &'a [u8]) -> Result<Packet<'a>, BadFrame> {
        ethernet::at_least(frame, LEN)?;
        ethernet::require(frame[12..14] == ETHERTYPE.to_be_bytes(), "ethertype")?;
        ethernet::require(frame[14..20] == FORMAT, "address format")?;
        ethernet::require(matches!(frame[20..22], [0, 1 | 2]), "operation")?;
        Ok(Packet(&frame[..LEN]))
    }

    #[must_use]
    pub fn ethernet(&self) -> Header {
        Header::of(self.0)
    }

    #[must_use]
    pub fn operation(&self) -> Operation {
        if self.0[21] == 1 { Operation::Request } else { Operation::Reply }
    }

    #[must_use]
    pub fn sender_mac(&self) -> MacAddr {
        MacAddr(octets(self.0, 22))
    }

    #[must_use]
    pub fn sender(&self) -> Ipv4Addr {
        octets::<4>(self.0, 28).into()
    }

    #[must_use]
    pub fn target_mac(&self) -> MacAddr {
        MacAddr(octets(self.0, 32))
    }

    #[must_use]
    pub fn target(&self) -> Ipv4Addr {
        octets::<4>(self.0, 38).into()
    }
}

impl Repr {
    pub fn parse(frame: &[u8]) -> Result<Repr, BadFrame> {
        let packet = Packet::check(frame)?;
        Ok(Repr {
            ethernet: packet.ethernet(),
            operation: packet.operation(),
            sender_mac: packet.sender_mac(),
            sender: packet.sender(),
            target_mac: packet.target_mac(),
            target: packet.target(),
        })
    }

    #[must_use]
    pub fn emit(&self) -> [u8; LEN] {
        let mut frame = [0; LEN];
        frame[..14].copy_from_slice(&self.ethernet.emit(ETHERTYPE));
        frame[14..20].copy_from_slice(&FORMAT);
        frame[21] = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        frame[22..28].copy_from_slice(&self.sender_mac.0);
        frame[28..32].copy_from_slice(&self.sender.octets());
        frame[32..38].copy_from_slice(&self.target_mac.0);
        frame[38..].copy_from_slice(&self.target.octets());
        frame
    }

    /// "`address` is at `mac`", as a request: neighbours heed it even inside their lock time, and keepalived
    /// sends the same bytes.
    #[must_use]
    pub fn gratuitous_request(mac: MacAddr, address: Ipv4Addr) -> Repr {
        Repr { target_mac: MacAddr::BROADCAST, ..Repr::request(mac, address, address) }
    }

    /// The same as a reply. The target's hardware address must be the sender's own: with any other, Linux takes
    /// the frame for an answer to somebody else and ignores it inside the lock time.
    #[must_use]
    pub fn gratuitous_reply(mac: MacAddr, address: Ipv4Addr) -> Repr {
        Repr { operation: Operation::Reply, target_mac: mac, ..Repr::request(mac, address, address) }
    }

    /// "Does anybody have `address`?", asked by nobody, so that no neighbour learns anything (RFC 5227, 2.1.1).
    #[must_use]
    pub fn probe(mac: MacAddr, address: Ipv4Addr) -> Repr {
        Repr::request(mac, Ipv4Addr::UNSPECIFIED, address)
    }

    /// An ordinary question of `from` for `target`, to everybody. Its target learns the sender, also inside the lock
    /// time, and its answer says so.
    #[must_use]
    pub fn request(mac: MacAddr, from: Ipv4Addr, target: Ipv4Addr) -> Repr {
        Repr {
            ethernet: Header { to: MacAddr::BROADCAST, from: mac },
            operation: Operation::Request,
            sender_mac: mac,
            sender: from,
            target_mac: MacAddr::ZERO,
            target,
        }
    }

    /// The same to one host: nobody else is bothered.
    #[must_use]
    pub fn request_to(to: MacAddr, mac: MacAddr, from: Ipv4Addr, target: Ipv4Addr) -> Repr {
        Repr { ethernet: Header { to, from: mac }, ..Repr::request(mac, from, target) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x0a]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x0b]);
    const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);

    /// Captured from keepalived 2.2.7 (its gratuitous ARP), arping (an ordinary request, padded) and Linux 6.18
    /// (the answer).
    const KEEPALIVED: &str =
        "ffffffffffff02000000000a0806000108000604000102000000000a0a090064ffffffffffff0a090064";
    const ARPING: &str = "ffffffffffff02000000000a0806000108000604000102000000000a0a0900010000000000000a090002\
         00000000000000000000000000000000";
    const LINUX: &str =
        "02000000000a02000000000b0806000108000604000202000000000b0a09000202000000000a0a090001";

    fn bytes(hex: &str) -> Vec<u8> {
        HEXLOWER.decode(hex.as_bytes()).unwrap()
    }

    #[test]
    fn the_gratuitous_request_is_keepaliveds() {
        assert_eq!(Repr::gratuitous_request(A, VIP).emit(), *bytes(KEEPALIVED));
    }

    #[test]
    fn the_ordinary_request_is_arpings() {
        let request = Repr::request(A, Ipv4Addr::new(10, 9, 0, 1), Ipv4Addr::new(10, 9, 0, 2));
        assert_eq!(request.emit(), bytes(ARPING)[..LEN]);
        assert_eq!(Repr::parse(&bytes(ARPING)), Ok(request));
    }

    #[test]
    fn a_request_to_one_host_differs_by_its_destination_alone() {
        let (from, target) = (VIP, Ipv4Addr::new(10, 9, 0, 2));
        let frame = Repr::request_to(B, A, from, target).emit();
        assert_eq!(frame[..6], B.0);
        assert_eq!(frame[6..], Repr::request(A, from, target).emit()[6..]);
    }

    #[test]
    fn a_kernels_answer_is_understood() {
        let answer = Repr::parse(&bytes(LINUX)).unwrap();
        assert_eq!((answer.operation, answer.ethernet.to), (Operation::Reply, A));
        assert_eq!((answer.sender_mac, answer.sender), (B, Ipv4Addr::new(10, 9, 0, 2)));
        assert_eq!((answer.target_mac, answer.target), (A, Ipv4Addr::new(10, 9, 0, 1)));
    }

    #[test]
    fn a_gratuitous_reply_names_its_sender_as_target() {
        let frame = Repr::gratuitous_reply(A, VIP).emit();
        assert_eq!(frame[22..32], frame[32..42]);
        assert_eq!(frame[21], 2);
    }

    #[test]
    fn a_probe_names_no_sender() {
        assert_eq!(Repr::probe(A, VIP).emit()[28..32], [0; 4]);
    }

    #[test]
    fn other_frames_are_refused() {
        let good = bytes(KEEPALIVED);
        assert_eq!(Repr::parse(&good[..41]), Err(BadFrame::Short { need: 42, have: 41 }));
        for (at, field) in
            [(12, "ethertype"), (15, "address format"), (18, "address format"), (21, "operation")]
        {
            let mut bad = good.clone();
            bad[at] = 9;
            assert_eq!(Repr::parse(&bad), Err(BadFrame::Field(field)), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_emits_the_bytes_back(
            frame in prop::collection::vec(any::<u8>(), 0..80),
            operation in 0u8..4,
            mended: bool,
        ) {
            let mut frame = frame;
            if mended && frame.len() >= LEN {
                frame[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
                frame[14..20].copy_from_slice(&FORMAT);
                frame[20..22].copy_from_slice(&[0, operation]);
            }
            if let Ok(repr) = Repr::parse(&frame) {
                prop_assert_eq!(&repr.emit()[..], &frame[..LEN]);
            }
        }
    }
}
