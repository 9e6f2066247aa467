//! Laws that hold for all bytes.

use super::*;
use proptest::prelude::*;

/// What receivers ignore, as a sender must have it.
fn as_sent(mut message: Vec<u8>, repr: &Repr, source: IpAddr) -> Vec<u8> {
    match repr.version {
        Version::V2 { auth, .. } => {
            let at = message.len() - Password::LEN;
            message[at..].copy_from_slice(&auth.data());
        }
        Version::V3 { .. } => message[4] &= 0xf,
    }
    let coverage = if source.is_ipv6() { Coverage::PseudoHeader } else { repr.version.coverage() };
    let checksum = coverage.checksum(&message, source, group(source));
    message[6..8].copy_from_slice(&checksum.to_be_bytes());
    message
}

fn any_source() -> impl Strategy<Value = IpAddr> {
    prop::sample::select(vec![SOURCE, SOURCE_V6])
}

/// Mostly well-formed at the beginning, so that the end is reached too.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let head = (prop::sample::select(vec![0x21, 0x31]), 0..3_u8, any::<u8>(), 0..5_u8, 0..4_u8, 0..3_u8);
    (head, prop::collection::vec(any::<u8>(), 0..100)).prop_map(|(head, tail)| {
        let (kind, vrid, priority, count, high, low) = head;
        [vec![kind, vrid, priority, count, high, low, 0, 0], tail].concat()
    })
}

proptest! {
    #[test]
    fn what_parses_emits_the_bytes_back(message in any_message(), source in any_source()) {
        let message = mended(message, source);
        if let Ok(repr) = Repr::parse(&message, source, group(source)) {
            let emitted = repr.emit(source, group(source));
            let message = message[..emitted.len()].to_vec();
            prop_assert_eq!(as_sent(message, &repr, source), emitted.clone());
            prop_assert_eq!(Repr::parse(&emitted, source, group(source)), Ok(repr));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(payload in prop::collection::vec(any::<u8>(), 0..200), source in any_source()) {
        let _ = Repr::parse(&payload, source, group(source));
        let _ = ah::Packet::check(&payload).map(|packet| packet.verify(&Password::new(b"secret")));
    }

    /// Nor do two addresses of different families, which no IP packet has.
    #[test]
    fn no_addresses_make_it_panic(message in any_message(), source: IpAddr, destination: IpAddr) {
        let _ = Repr::parse(&message, source, destination);
        let _ = v2(Auth::None).emit(source, destination);
    }
}

/// One bit is always noticed: by a check, or because it means something else.
#[test]
fn no_flipped_bit_goes_unnoticed() {
    for (repr, source) in every_form() {
        let message = repr.emit(source, group(source));
        for bit in 0..message.len() * 8 {
            let mut flipped = message.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let parsed = Repr::parse(&flipped, source, group(source));
            assert_ne!(parsed, Ok(repr.clone()), "bit {bit}");
        }
    }
}

#[test]
fn no_truncated_payload_parses() {
    let many: Vec<IpAddr> = (0..20).map(|n| IpAddr::from([10, 0, 0, n])).collect();
    for (repr, source) in every_form() {
        let addresses = if source.is_ipv4() { many.clone() } else { vec![SOURCE_V6; 4] };
        let message = Repr { addresses, ..repr }.emit(source, group(source));
        for len in 0..=64 {
            assert!(Repr::parse(&message[..len], source, group(source)).is_err(), "{len} bytes");
        }
    }
}
