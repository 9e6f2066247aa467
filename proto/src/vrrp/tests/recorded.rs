//! What other daemons send is understood, and sent in the same way.

use super::*;

macro_rules! recorded {
    ($name:literal) => {
        packets(include_str!(concat!("../../../../tests/fixtures/vrrp/", $name, ".hex")))
    };
}
pub(super) use recorded;

pub(super) fn packets(fixture: &str) -> Vec<Vec<u8>> {
    fixture.lines().filter(|line| !line.starts_with('#')).map(bytes).collect()
}

/// Parses each packet's message, has it emitted back, and returns what the first means.
fn meaning(packets: &[Vec<u8>]) -> Repr {
    let parsed: Vec<Repr> = packets.iter().map(|packet| and_back(packet)).collect();
    assert_eq!(parsed[0], parsed[1]);
    let farewell = Repr { priority: VrrpPriority::LEAVING, ..parsed[0].clone() };
    assert_eq!(parsed[2], farewell);
    parsed[0].clone()
}

fn and_back(packet: &[u8]) -> Repr {
    let (source, destination, message): (IpAddr, IpAddr, _) = if packet[0] == 0x45 {
        let at = if packet[9] == ah::AH { 44 } else { 20 };
        (octets::<4>(packet, 12).into(), octets::<4>(packet, 16).into(), &packet[at..])
    } else {
        (octets::<16>(packet, 8).into(), octets::<16>(packet, 24).into(), &packet[40..])
    };
    let repr = Repr::parse(message, source, destination).unwrap();
    assert_eq!(repr.emit(source, destination), message);
    repr
}

fn with(priority: u8, repr: Repr) -> Repr {
    Repr { priority: VrrpPriority(priority), ..repr }
}

#[test]
fn keepalived_version_2() {
    assert_eq!(meaning(&recorded!("keepalived-v2")), v2(Auth::None));
    let two = repr(v2(Auth::None).version, &["10.0.0.100", "10.0.0.101"]);
    assert_eq!(meaning(&recorded!("keepalived-v2-two")), with(200, two));
}

#[test]
fn keepalived_version_2_with_authentication() {
    let pass = |text: &[u8]| v2(Auth::Pass(Password::new(text)));
    assert_eq!(meaning(&recorded!("keepalived-v2-pass")), pass(b"secret"));
    assert_eq!(meaning(&recorded!("keepalived-v2-pass-long")), pass(b"longersecret"));
    assert_eq!(meaning(&recorded!("keepalived-v2-ah")), v2(Auth::Ah));
    assert_eq!(meaning(&recorded!("keepalived-v2-ah-unicast")), v2(Auth::Ah));
}

#[test]
fn keepalived_version_3_sums_the_pseudo_header_too() {
    let expected = with(200, v3(Coverage::PseudoHeader));
    assert_eq!(meaning(&recorded!("keepalived-v3-ipv4")), expected);
    assert_eq!(meaning(&recorded!("keepalived-v3-ipv4-unicast")), expected);
    let fast = meaning(&recorded!("keepalived-v3-ipv4-200ms"));
    assert_eq!((fast.version.interval(), fast.vrid.get()), (Duration::from_millis(200), 52));
}

#[test]
fn keepalived_version_3_for_ipv6() {
    let addresses = ["fe80::100".parse().unwrap(), "fd00::100".parse().unwrap()];
    let expected = with(200, Repr { addresses: addresses.to_vec(), ..v3(Coverage::PseudoHeader) });
    assert_eq!(meaning(&recorded!("keepalived-v3-ipv6")), expected);
    assert_eq!(meaning(&recorded!("keepalived-v3-ipv6-unicast")), expected);
}

#[test]
fn frr() {
    assert_eq!(meaning(&recorded!("frr-v2")), with(200, v2(Auth::None)));
    assert_eq!(meaning(&recorded!("frr-v3-ipv4")), with(200, v3(Coverage::PseudoHeader)));
    // Unlike RFC 9568, 5.2.9, it sends no link-local address first.
    let v6 = meaning(&recorded!("frr-v3-ipv6"));
    assert_eq!(v6, with(200, repr(v3(Coverage::PseudoHeader).version, &["fd00::100"])));
}

/// The two ways to read version 3's checksum, on one message of keepalived's.
#[test]
fn both_checksums_of_version_3_are_accepted_and_told_apart() {
    let message = |checksum| bytes(&format!("3134c8010014{checksum}0a000065"));
    for (checksum, coverage) in [("11c1", Coverage::PseudoHeader), ("fc50", Coverage::Message)] {
        let parsed = parse(&message(checksum)).unwrap();
        assert_eq!(parsed.version, Version::V3 { interval: Centis::new(20).unwrap(), coverage });
        assert_eq!(parsed.emit(SOURCE, GROUP), message(checksum));
    }
}

#[test]
fn the_shortest_form_of_version_2() {
    let message = bytes("2133640100017066 0a000064 0000000000000000");
    assert_eq!(v2(Auth::None).emit(SOURCE, GROUP), message);
    assert_eq!(parse(&message), Ok(v2(Auth::None)));
}
