//! The authentication header, against packets of keepalived's.

use super::recorded::{packets, recorded};
use super::*;
use std::num::NonZeroU16;

fn emitted_back(packet: &[u8], key: &Password) -> Vec<u8> {
    let parsed = ah::Packet::check(packet).unwrap();
    let id = NonZeroU16::new(u16::from_be_bytes(octets(packet, 4))).unwrap();
    let repr = ah::Repr {
        source: parsed.source(),
        destination: parsed.destination(),
        id,
        sequence: parsed.sequence(),
        message: parsed.message(),
    };
    repr.emit(key)
}

#[test]
fn keepaliveds_packets_are_authentic_and_emitted_alike() {
    let all = [
        (recorded!("keepalived-v2-ah"), Password::new(b"secret")),
        (recorded!("keepalived-v2-ah-long"), Password::new(b"longersecret")),
        (recorded!("keepalived-v2-ah-unicast"), Password::new(b"secret")),
    ];
    for (packets, key) in all {
        for (packet, sequence) in packets.iter().zip(1..) {
            let parsed = ah::Packet::check(packet).unwrap();
            assert_eq!((parsed.sequence(), parsed.verify(&key)), (sequence, Ok(())));
            assert_eq!(parsed.verify(&Password::new(b"other")), Err(Flaw::Integrity));
            assert_eq!(emitted_back(packet, &key), *packet);
        }
    }
}

/// TOS, flags and fragment offset, and the checksum change on the way; the TTL does only towards one host.
#[test]
fn only_mutable_fields_may_change() {
    let mutable = |at, to_one_host| matches!(at, 1 | 6 | 7 | 10 | 11) || at == 8 && to_one_host;
    let key = Password::new(b"secret");
    for (packets, to_one_host) in
        [(recorded!("keepalived-v2-ah"), false), (recorded!("keepalived-v2-ah-unicast"), true)]
    {
        for bit in 0..packets[0].len() * 8 {
            let mut packet = packets[0].clone();
            packet[bit / 8] ^= 1 << (bit % 8);
            let authentic = ah::Packet::check(&packet).and_then(|packet| packet.verify(&key)).is_ok();
            assert_eq!(authentic, mutable(bit / 8, to_one_host), "byte {}", bit / 8);
        }
    }
}

#[test]
fn rfc_4302_2_other_packets_are_refused() {
    let good = recorded!("keepalived-v2-ah").remove(0);
    for len in 0..good.len() {
        let flaw = if len < 44 { Flaw::Short } else { Flaw::Length };
        assert_eq!(ah::Packet::check(&good[..len]).err(), Some(flaw));
    }
    // Version and header length, protocol, next header, length of the authentication header.
    for at in [0, 9, 20, 21] {
        let mut bad = good.clone();
        bad[at] += 1;
        assert_eq!(ah::Packet::check(&bad).err(), Some(Flaw::AuthHeader), "byte {at}");
    }
    let mut bad = good.clone();
    bad[3] = 43;
    assert_eq!(ah::Packet::check(&bad).err(), Some(Flaw::Length));
}

#[test]
fn padding_behind_the_packet_is_no_part_of_it() {
    let mut padded = recorded!("keepalived-v2-ah").remove(0);
    let len = padded.len();
    padded.extend([0xee; 6]);
    let packet = ah::Packet::check(&padded).unwrap();
    assert_eq!(packet.message(), &padded[44..len]);
    assert_eq!(packet.verify(&Password::new(b"secret")), Ok(()));
}
