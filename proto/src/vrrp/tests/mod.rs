mod authentic;
mod conformance;
mod props;
mod recorded;
mod tshark;

use super::*;
use data_encoding::HEXLOWER;

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const GROUP: IpAddr = IpAddr::V4(GROUP_V4);
const SOURCE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

fn bytes(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.replace(' ', "").as_bytes()).unwrap()
}

fn group(source: IpAddr) -> IpAddr {
    if source.is_ipv4() { GROUP } else { GROUP_V6.into() }
}

fn parse(message: &[u8]) -> Result<Repr, Flaw> {
    Repr::parse(message, SOURCE, GROUP)
}

fn repr(version: Version, addresses: &[&str]) -> Repr {
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Repr { version, vrid: Vrid::new(51).unwrap(), priority: VrrpPriority(100), addresses }
}

fn v2(auth: Auth) -> Repr {
    repr(Version::V2 { interval: Seconds::new(1).unwrap(), auth }, &["10.0.0.100"])
}

fn v3(coverage: Coverage) -> Repr {
    repr(Version::V3 { interval: Centis::new(100).unwrap(), coverage }, &["10.0.0.100"])
}

fn v3_ipv6() -> Repr {
    Repr { addresses: vec!["fe80::100".parse().unwrap()], ..v3(Coverage::PseudoHeader) }
}

/// One of each form, with who sends it.
fn every_form() -> Vec<(Repr, IpAddr)> {
    vec![
        (v2(Auth::None), SOURCE),
        (v2(Auth::Pass(Password::new(b"secret"))), SOURCE),
        (v2(Auth::Ah), SOURCE),
        (v3(Coverage::PseudoHeader), SOURCE),
        (v3(Coverage::Message), SOURCE),
        (v3_ipv6(), SOURCE_V6),
    ]
}

/// Puts the checksum right, so that a test reaches what comes after it.
fn mended(mut message: Vec<u8>, source: IpAddr) -> Vec<u8> {
    let v2 = message[0] >> 4 == 2 && source.is_ipv4();
    let coverage = if v2 { Coverage::Message } else { Coverage::PseudoHeader };
    let count = usize::from(message[3]) * if source.is_ipv4() { 4 } else { 16 };
    let len = (HEADER + count + if v2 { Password::LEN } else { 0 }).min(message.len());
    let checksum = coverage.checksum(&message[..len], source, group(source));
    message[6..8].copy_from_slice(&checksum.to_be_bytes());
    message
}
