//! Between what raw sockets give and take, and messages.

use super::{AH, CLASS, HOPS, Heard, VRRP, Wire};
use bytes::Bytes;
use nix::libc::in6_pktinfo;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, RecvMsg, SockaddrIn6, recvmsg};
use socket2::Socket;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

/// 255 IPv6 addresses with a trailer. What is longer is no message.
pub(super) const LONGEST: usize = 4608;
const HEADER: usize = 20;

pub(super) struct Received {
    /// `None`: malformed.
    pub(super) heard: Option<Heard>,
    /// By the kernel, since the socket was opened.
    pub(super) dropped: Option<u32>,
}

pub(super) fn receive(socket: &Socket, wire: Wire, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = nix::cmsg_space!(u32, i32, in6_pktinfo);
    let mut bytes = [IoSliceMut::new(buffer)];
    let message: RecvMsg<'_, '_, SockaddrIn6> =
        recvmsg(socket.as_raw_fd(), &mut bytes, Some(&mut control), MsgFlags::empty())?;
    let source = message.address.map(|address| address.ip());
    let cut = message.flags.contains(MsgFlags::MSG_TRUNC);
    let (length, control) = (message.bytes, Control::of(&message)?);
    let packet = buffer.get(..length).filter(|_| !cut);
    let heard = packet.and_then(|packet| match wire {
        Wire::V4 | Wire::V4Ah => split(packet, wire),
        Wire::V6 => control.heard(source?, packet),
    });
    Ok(Received { heard, dropped: control.dropped })
}

#[derive(Default)]
struct Control {
    destination: Option<Ipv6Addr>,
    hops: Option<u8>,
    dropped: Option<u32>,
}

impl Control {
    fn of<S>(message: &RecvMsg<'_, '_, S>) -> io::Result<Control> {
        let mut control = Control::default();
        for item in message.cmsgs()? {
            match item {
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    control.destination = Some(info.ipi6_addr.s6_addr.into());
                }
                ControlMessageOwned::Ipv6HopLimit(hops) => control.hops = u8::try_from(hops).ok(),
                ControlMessageOwned::RxqOvfl(count) => control.dropped = Some(count),
                _ => {}
            }
        }
        Ok(control)
    }

    fn heard(&self, source: Ipv6Addr, message: &[u8]) -> Option<Heard> {
        Some(Heard {
            ifindex: 0,
            source: source.into(),
            destination: self.destination?.into(),
            hops: self.hops?,
            ah: false,
            ip_header: Vec::new(),
            message: Bytes::copy_from_slice(message),
        })
    }
}

/// The header says where it ends and where the packet does; what follows is Ethernet's padding.
fn split(packet: &[u8], wire: Wire) -> Option<Heard> {
    let fixed: &[u8; HEADER] = packet.first_chunk()?;
    let header = packet.get(..usize::from(fixed[0] & 0x0f) * 4).filter(|header| header.len() >= HEADER)?;
    let total = u16::from_be_bytes([fixed[2], fixed[3]]).into();
    Some(Heard {
        ifindex: 0,
        source: address(fixed, 12),
        destination: address(fixed, 16),
        hops: fixed[8],
        ah: wire == Wire::V4Ah,
        ip_header: header.to_vec(),
        message: Bytes::copy_from_slice(packet.get(header.len()..total)?),
    })
}

fn address(header: &[u8; HEADER], at: usize) -> IpAddr {
    Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]).into()
}

/// The header of an IPv4 packet as the kernel gets it. It fills in the checksum, and replaces an id of zero; with an
/// authentication header, which covers the id, that must not happen.
#[must_use]
pub fn ip_header(wire: Wire, source: Ipv4Addr, to: Ipv4Addr, message: usize) -> [u8; HEADER] {
    let (protocol, id) = if wire == Wire::V4Ah { (AH, 1) } else { (VRRP, 0) };
    let [high, low] = u16::try_from(HEADER + message).unwrap_or(u16::MAX).to_be_bytes();
    let [a, b, c, d] = source.octets();
    let [e, f, g, h] = to.octets();
    [0x45, CLASS, high, low, 0, id, 0, 0, HOPS, protocol, 0, 0, a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(message: &[u8]) -> Vec<u8> {
        let header = ip_header(Wire::V4, [10, 9, 0, 1].into(), super::super::GROUP_V4, message.len());
        [&header, message].concat()
    }

    #[test]
    fn a_packet_is_split_where_its_header_says() {
        let mut padded = packet(b"advert");
        padded.extend([0; 14]);
        let heard = split(&padded, Wire::V4).unwrap();
        assert_eq!((heard.hops, &heard.message[..]), (255, &b"advert"[..]));
        assert_eq!(heard.source, IpAddr::from([10, 9, 0, 1]));
        assert_eq!(heard.ip_header, padded[..20]);

        let mut options = packet(b"optnadvert");
        options[0] = 0x46;
        let heard = split(&options, Wire::V4).unwrap();
        assert_eq!((heard.ip_header.len(), &heard.message[..]), (24, &b"advert"[..]));
    }

    #[test]
    fn a_header_that_lies_makes_no_message() {
        let good = packet(b"advert");
        assert!((0..good.len()).all(|end| split(&good[..end], Wire::V4).is_none()));
        for (at, lie) in [(0, 0x44), (0, 0x4f), (3, 19), (3, 200), (2, 255)] {
            let mut bad = good.clone();
            bad[at] = lie;
            assert!(split(&bad, Wire::V4).is_none(), "byte {at} is {lie}");
        }
    }
}
