//! A question to all hosts at once, twice: by ARP, who has the VIP, and by an echo request to it, which a client with
//! an old neighbour entry would send. A host with the VIP gives both answers.
//!
//! The number of the question stands in each, and so in the answer.

use haclusterd_proto::MacAddr;
use haclusterd_proto::arp::{self, Operation, Repr};
use std::net::Ipv4Addr;

/// The asker's hardware addresses begin with this; answers go nowhere else.
pub const ASKER: [u8; 2] = [0x0a, 0x5e];
/// Who sends the echo requests, and where it is: a permanent neighbour of each host.
pub const ECHOER: (Ipv4Addr, &str) = (Ipv4Addr::new(10, 0, 0, 77), "0a:5e:ff:ff:ff:ff");
const IPV4: u16 = 0x0800;
const ICMP: u8 = 1;
/// Ethernet, IPv4 without options, and an echo without data.
const ECHO: usize = 14 + 20 + 8;

/// What of a frame is looked at: so many bytes, from where, and their value.
pub type Condition = (usize, u32, u32);

/// Frames in which somebody says that it has the VIP.
pub fn claims(vip: Ipv4Addr) -> [Vec<Condition>; 2] {
    let vip = vip.to_bits();
    [
        vec![(2, 12, arp::ETHERTYPE.into()), (4, 28, vip)],
        vec![(2, 12, IPV4.into()), (1, 23, ICMP.into()), (4, 26, vip)],
    ]
}

pub fn by_arp(number: u32, vip: Ipv4Addr) -> [u8; arp::LEN] {
    let [c, d, e, f] = number.to_be_bytes();
    // Asked by nobody, so that no host learns anything.
    Repr::probe(MacAddr([ASKER[0], ASKER[1], c, d, e, f]), vip).emit()
}

pub fn by_echo(number: u32, vip: Ipv4Addr) -> [u8; ECHO] {
    let mut frame = [0; ECHO];
    frame[..6].copy_from_slice(&MacAddr::BROADCAST.0);
    frame[6..8].copy_from_slice(&ASKER);
    frame[8..12].fill(0xff);
    frame[12..14].copy_from_slice(&IPV4.to_be_bytes());
    frame[14] = 0x45;
    frame[17] = (ECHO - 14) as u8;
    frame[22..24].copy_from_slice(&[64, ICMP]);
    frame[26..30].copy_from_slice(&ECHOER.0.octets());
    frame[30..34].copy_from_slice(&vip.octets());
    frame[34] = 8;
    frame[38..].copy_from_slice(&number.to_be_bytes());
    let (header, echo) = (checksum(&frame[14..34]), checksum(&frame[34..]));
    frame[24..26].copy_from_slice(&header);
    frame[36..38].copy_from_slice(&echo);
    frame
}

/// The number of the question that the frame answers; an announcement answers none.
pub fn answered(frame: &[u8]) -> Option<u32> {
    if let Ok(arp) = Repr::parse(frame) {
        let MacAddr([a, b, rest @ ..]) = arp.target_mac;
        let ours = arp.operation == Operation::Reply && [a, b] == ASKER;
        return ours.then(|| u32::from_be_bytes(rest));
    }
    let echo = frame.get(34..ECHO)?;
    (echo[0] == 0).then(|| u32::from_be_bytes([echo[4], echo[5], echo[6], echo[7]]))
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!(folded as u16)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

    #[test]
    fn an_answer_says_which_question_it_is_to() {
        let asked = Repr::parse(&by_arp(7, VIP)).unwrap();
        let mine = MacAddr([2, 0, 0, 0, 0, 1]);
        let answer = Repr {
            operation: Operation::Reply,
            sender_mac: mine,
            sender: VIP,
            target_mac: asked.sender_mac,
            ..Repr::request(mine, VIP, VIP)
        };
        assert_eq!(answered(&answer.emit()), Some(7));
        assert_eq!(answered(&Repr::gratuitous_reply(mine, VIP).emit()), None);

        let mut echo = by_echo(70_000, VIP);
        assert_eq!(answered(&echo), None, "a request is no answer");
        echo[34] = 0;
        assert_eq!(answered(&echo), Some(70_000));
    }

    #[test]
    fn the_sum_over_a_message_with_its_checksum_is_nothing() {
        let echo = by_echo(70_000, VIP);
        assert_eq!((checksum(&echo[14..34]), checksum(&echo[34..])), ([0, 0], [0, 0]));
    }
}
