//! What another dissector says of the packets.

use super::*;
use std::num::NonZeroU16;
use std::process::Command;

/// Of pcap: the packets begin with their IP header.
const LINKTYPE_RAW: u32 = 101;

fn ip(source: IpAddr, message: &[u8]) -> Vec<u8> {
    let length = message.len() as u16;
    match (source, group(source)) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut packet = vec![0x45, 0xc0, 0, 0, 0, 1, 0, 0, HOP_LIMIT, PROTOCOL, 0, 0];
            packet[2..4].copy_from_slice(&(20 + length).to_be_bytes());
            packet.extend([from.octets(), to.octets()].concat());
            let checksum = Sum::default().bytes(&packet).checksum();
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
            [&packet, message].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut packet = vec![0x6c, 0, 0, 0, 0, 0, PROTOCOL, HOP_LIMIT];
            packet[4..6].copy_from_slice(&length.to_be_bytes());
            packet.extend([from.octets(), to.octets()].concat());
            [&packet, message].concat()
        }
        _ => unreachable!("a group has its source's family"),
    }
}

fn authenticated(message: &[u8]) -> Vec<u8> {
    let source = Ipv4Addr::new(10, 0, 0, 1);
    let repr = ah::Repr { source, destination: GROUP_V4, id: NonZeroU16::MIN, sequence: 1, message };
    repr.emit(&Password::new(b"secret"))
}

fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let header: [u32; 6] = [0xa1b2_c3d4, 2 << 16 | 4, 0, 0, 65535, LINKTYPE_RAW];
    let mut file: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
    for packet in packets {
        let len = packet.len() as u32;
        file.extend([0, 0, len, len].iter().flat_map(|word: &u32| word.to_be_bytes()));
        file.extend(packet);
    }
    file
}

#[test]
#[ignore = "needs tshark"]
fn tshark_has_no_complaints() {
    // It reads version 3's checksum in one way only, so the other is bad to it.
    let unknown = v3(Coverage::Message);
    let packets: Vec<Vec<u8>> = every_form()
        .iter()
        .filter(|(repr, _)| *repr != unknown)
        .map(|(repr, source)| (repr, source, repr.emit(*source, group(*source))))
        .map(|(repr, source, message)| match repr.version {
            Version::V2 { auth: Auth::Ah, .. } => authenticated(&message),
            _ => ip(*source, &message),
        })
        .collect();
    let file = std::env::temp_dir().join(format!("haclusterd-vrrp-{}.pcap", std::process::id()));
    std::fs::write(&file, pcap(&packets)).unwrap();
    let checks = ["-o", "ip.check_checksum:TRUE", "-V", "-r"];
    let output = Command::new("tshark").args(checks).arg(&file).output().unwrap();
    std::fs::remove_file(&file).unwrap();

    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.matches("Virtual Router Redundancy Protocol").count(), packets.len(), "{text}");
    for complaint in ["[Expert Info", "Malformed", "incorrect", "Bad"] {
        assert!(!text.contains(complaint), "{complaint}: {text}");
    }
}
