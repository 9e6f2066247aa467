//! Each reason to discard, named by its clause.

use super::*;

/// The message of version 2 or 3 with one byte another, and its checksum right.
fn spoilt(message: &Repr, at: usize, byte: u8) -> Result<Repr, Flaw> {
    let mut bytes = message.emit(SOURCE, GROUP);
    bytes[at] = byte;
    parse(&mended(bytes, SOURCE))
}

fn both_versions() -> [Repr; 2] {
    [v2(Auth::None), v3(Coverage::PseudoHeader)]
}

#[test]
fn rfc_9568_7_1_fixed_fields() {
    for (repr, source) in every_form() {
        let message = repr.emit(source, group(source));
        for len in 0..HEADER {
            assert_eq!(Repr::parse(&message[..len], source, group(source)), Err(Flaw::Short));
        }
    }
}

#[test]
fn rfc_9568_7_1_complete_message() {
    for (repr, source) in every_form() {
        let message = repr.emit(source, group(source));
        for len in HEADER..message.len() {
            assert_eq!(Repr::parse(&message[..len], source, group(source)), Err(Flaw::Length));
        }
    }
}

#[test]
fn rfc_9568_7_1_and_rfc_3768_7_1_version() {
    for message in both_versions() {
        for version in (0..16).filter(|version| ![2, 3].contains(version)) {
            assert_eq!(spoilt(&message, 0, version << 4 | 1), Err(Flaw::Version));
        }
    }
}

#[test]
fn rfc_3768_1_version_2_is_for_ipv4_only() {
    let mut message = v3_ipv6().emit(SOURCE_V6, GROUP_V6.into());
    message[0] = 0x21;
    let message = mended(message, SOURCE_V6);
    assert_eq!(Repr::parse(&message, SOURCE_V6, GROUP_V6.into()), Err(Flaw::Version));
}

#[test]
fn rfc_9568_5_2_2_and_rfc_3768_5_3_2_type() {
    for message in both_versions() {
        let version = message.emit(SOURCE, GROUP)[0] & 0xf0;
        for kind in (0..16).filter(|&kind| kind != 1) {
            assert_eq!(spoilt(&message, 0, version | kind), Err(Flaw::Type));
        }
    }
}

#[test]
fn rfc_9568_5_2_8_and_rfc_3768_5_3_8_checksum() {
    for (repr, source) in every_form() {
        let mut message = repr.emit(source, group(source));
        message[7] ^= 1;
        assert_eq!(Repr::parse(&message, source, group(source)), Err(Flaw::Checksum));
    }
}

#[test]
fn rfc_5798_5_2_8_the_pseudo_header_counts() {
    let other = "10.0.0.2".parse().unwrap();
    let message = v3(Coverage::PseudoHeader).emit(SOURCE, GROUP);
    assert_eq!(Repr::parse(&message, other, GROUP), Err(Flaw::Checksum));
    assert_eq!(Repr::parse(&message, SOURCE, other), Err(Flaw::Checksum));
    let message = v3(Coverage::Message).emit(SOURCE, GROUP);
    assert_eq!(Repr::parse(&message, other, GROUP), Ok(v3(Coverage::Message)));
    // For IPv6 there is no reading without it.
    let message = v3_ipv6().emit(SOURCE_V6, GROUP_V6.into());
    assert_eq!(Repr::parse(&message, SOURCE_V6, SOURCE_V6), Err(Flaw::Checksum));
}

#[test]
fn rfc_3768_5_3_8_version_2_sums_no_pseudo_header() {
    let mut message = v2(Auth::None).emit(SOURCE, GROUP);
    let wrong = Coverage::PseudoHeader.checksum(&message, SOURCE, GROUP);
    message[6..8].copy_from_slice(&wrong.to_be_bytes());
    assert_eq!(parse(&message), Err(Flaw::Checksum));
}

#[test]
fn rfc_9568_5_2_3_and_rfc_3768_5_3_3_vrid() {
    for message in both_versions() {
        assert_eq!(spoilt(&message, 1, 0), Err(Flaw::Vrid));
        assert_eq!(spoilt(&message, 1, 255).unwrap().vrid, Vrid::new(255).unwrap());
    }
}

#[test]
fn rfc_9568_5_2_4_every_priority_has_a_meaning() {
    for message in both_versions() {
        for priority in 0..=255 {
            assert_eq!(spoilt(&message, 2, priority).unwrap().priority, VrrpPriority(priority));
        }
    }
}

#[test]
fn rfc_9568_5_2_5_count_of_addresses() {
    for message in both_versions() {
        assert_eq!(spoilt(&message, 3, 2), Err(Flaw::Length));
    }
}

#[test]
fn rfc_9568_5_2_7_and_rfc_3768_5_3_7_interval() {
    for message in both_versions() {
        let mut bytes = message.emit(SOURCE, GROUP);
        bytes[5] = 0;
        assert_eq!(parse(&mended(bytes, SOURCE)), Err(Flaw::Interval));
    }
    // 4095 is the longest, and the reserved bits above it are no part of it.
    let mut bytes = v3(Coverage::PseudoHeader).emit(SOURCE, GROUP);
    bytes[4..6].fill(0xff);
    let parsed = parse(&mended(bytes, SOURCE)).unwrap();
    assert_eq!(parsed.version.interval(), Duration::from_millis(40_950));
}

#[test]
fn rfc_9568_5_2_6_reserved_bits_are_ignored_and_sent_as_zero() {
    let message = v3(Coverage::PseudoHeader);
    let parsed = spoilt(&message, 4, 0xf0).unwrap();
    assert_eq!(parsed, message);
    assert_eq!(parsed.emit(SOURCE, GROUP)[4], 0);
}

#[test]
fn rfc_3768_5_3_6_authentication_type() {
    let message = v2(Auth::None);
    assert_eq!(spoilt(&message, 4, 2), Ok(v2(Auth::Ah)));
    for kind in 3..=255 {
        assert_eq!(spoilt(&message, 4, kind), Err(Flaw::AuthType));
    }
}

#[test]
fn rfc_3768_5_3_10_authentication_data_without_a_password_is_ignored() {
    for message in [v2(Auth::None), v2(Auth::Ah)] {
        assert_eq!(spoilt(&message, 15, b'x'), Ok(message));
    }
}

#[test]
fn bytes_behind_the_message_are_no_part_of_it() {
    for (repr, source) in every_form() {
        let mut message = repr.emit(source, group(source));
        message.extend([0xee; 18]);
        assert_eq!(Repr::parse(&message, source, group(source)), Ok(repr));
    }
}

#[test]
fn what_cannot_be_counted_or_carried_is_not_sent() {
    let addresses = (0..300_u16).map(|n| IpAddr::from([10, 0, (n >> 8) as u8, n as u8])).collect();
    let crowded = Repr { addresses, ..v3(Coverage::PseudoHeader) };
    let parsed = parse(&crowded.emit(SOURCE, GROUP)).unwrap();
    assert_eq!(parsed.addresses, crowded.addresses[..MAX_ADDRESSES]);
    let mixed = repr(v2(Auth::None).version, &["fd00::1", "10.0.0.100"]);
    assert_eq!(parse(&mixed.emit(SOURCE, GROUP)), Ok(v2(Auth::None)));
}

/// Whoever reads it ignores it, unless he advertises none himself.
#[test]
fn a_message_without_addresses_is_told_as_such() {
    for message in both_versions() {
        let empty = Repr { addresses: Vec::new(), ..message };
        assert_eq!(parse(&empty.emit(SOURCE, GROUP)), Ok(empty));
    }
}

#[test]
fn every_flaw_is_counted_under_its_own_name() {
    let names: std::collections::BTreeSet<_> = Flaw::ALL.map(Flaw::name).into();
    assert_eq!(names.len(), Flaw::ALL.len());
    assert!(names.iter().all(|name| name.starts_with("vrrp_")));
}
