//! Laws of the reader: it agrees with chitchat's own codec, and nothing makes it panic or swell.

use super::*;
use chitchat::{ChitchatMessage, Deserializable, Serializable};
use proptest::prelude::*;

fn id(n: u8) -> Id {
    let addr =
        if n.is_multiple_of(2) { format!("192.0.2.{n}:7400") } else { format!("[2001:db8::{n:x}]:7400") };
    Id { node: NodeId([n; 16]), generation: 1000 + u64::from(n), addr: addr.parse().unwrap() }
}

fn message(kind: u8, nodes: u8, text: &str) -> Message {
    let digest: Vec<Seen> =
        (0..nodes).map(|n| Seen { id: id(n), heartbeat: 5, version: u64::from(n) }).collect();
    let delta =
        (0..nodes).map(|n| Update { id: id(n), text: text.into(), version: 1 + u64::from(n) }).collect();
    match kind {
        0 => Message::Syn { cluster: "c".repeat(32), digest },
        1 => Message::SynAck { digest, delta },
        2 => Message::Ack { delta },
        _ => Message::BadCluster,
    }
}

/// The same message as chitchat writes it, packed.
fn packed(message: &Message) -> Vec<u8> {
    let mut bytes = encode(message);
    if let Message::Ack { .. } = message {
        let blocks = pack(&unpack(&mut Reader(&bytes[4..])).unwrap());
        bytes.truncate(4);
        bytes.extend(blocks);
    }
    bytes
}

fn pack(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in plain.chunks(MAX_BLOCK) {
        let packed = zstd::bulk::compress(block, 0).unwrap();
        out.push(1);
        out.extend((packed.len() as u16).to_le_bytes());
        out.extend(packed);
    }
    out.push(0);
    out
}

/// An ACK whose delta is the given operations.
fn ack(operations: &[u8]) -> Vec<u8> {
    let mut bytes = encode(&message(2, 0, ""));
    bytes.pop();
    bytes.extend(pack(operations));
    bytes
}

fn operations(key: &str, value: &str, status: u8) -> Vec<u8> {
    let mut out = vec![0];
    write_id(&mut out, &id(1));
    out.extend([0; 16]);
    out.push(1);
    write_str(&mut out, key);
    write_str(&mut out, value);
    out.extend(1u64.to_le_bytes());
    out.push(status);
    out
}

#[test]
fn chitchat_reads_what_we_write() {
    for kind in 0..4 {
        let bytes = encode(&message(kind, 9, &"a".repeat(5000)));
        let mut cursor = &bytes[..];
        let theirs = ChitchatMessage::deserialize(&mut cursor).unwrap();
        assert!(cursor.is_empty());
        assert_eq!(theirs.serialized_len(), bytes.len(), "{kind}");
    }
}

#[test]
fn we_read_what_we_and_chitchat_write() {
    for kind in 0..4 {
        let message = message(kind, 9, &"a".repeat(5000));
        assert_eq!(decode(&encode(&message)), Ok(message.clone()));
        assert_eq!(decode(&packed(&message)), Ok(message));
    }
}

#[test]
fn only_our_key_and_a_bounded_value_pass() {
    assert!(decode(&ack(&operations(KEY, "v", 0))).is_ok());
    for (key, value_len, status, fault) in [
        ("é", 1, 0, Fault::ForeignKey),
        ("", 1, 0, Fault::ForeignKey),
        ("records", 1, 0, Fault::ForeignKey),
        (KEY, 1, 1, Fault::ForeignKey),
        (KEY, 1, 2, Fault::ForeignKey),
        (KEY, MAX_TEXT + 1, 0, Fault::Oversize),
        (KEY, 65_535, 0, Fault::Oversize),
    ] {
        assert_eq!(decode(&ack(&operations(key, &"v".repeat(value_len), status))), Err(fault), "{key:?}");
    }
}

#[test]
fn a_version_that_goes_back_does_not_reach_chitchat() {
    let mut plain = operations(KEY, "v", 0);
    plain.push(2);
    plain.extend(0u64.to_le_bytes());
    let Ok(Message::Ack { delta }) = decode(&ack(&plain)) else { panic!("not read") };
    assert_eq!(delta, [Update { id: id(1), text: "v".into(), version: 1 }]);
}

#[test]
fn a_second_value_for_one_node_is_refused() {
    let mut plain = operations(KEY, "v", 0);
    plain.push(1);
    write_str(&mut plain, KEY);
    write_str(&mut plain, "w");
    plain.extend(2u64.to_le_bytes());
    plain.push(0);
    assert_eq!(decode(&ack(&plain)), Err(Fault::Undecodable));
}

#[test]
fn a_bomb_is_refused_before_it_swells() {
    let bomb = zstd::bulk::compress(&vec![0; 60_000], 0).unwrap();
    let mut one = encode(&message(2, 0, ""));
    one.pop();
    one.push(1);
    one.extend((bomb.len() as u16).to_le_bytes());
    one.extend(&bomb);
    one.push(0);
    assert_eq!(decode(&one), Err(Fault::Undecodable));

    let mut many = encode(&message(2, 0, ""));
    many.pop();
    let block = zstd::bulk::compress(&vec![2; MAX_BLOCK], 0).unwrap();
    while many.len() + block.len() + 4 < MAX_MESSAGE {
        many.push(1);
        many.extend((block.len() as u16).to_le_bytes());
        many.extend(&block);
    }
    many.push(0);
    assert_eq!(decode(&many), Err(Fault::Oversize));
}

#[test]
fn every_cut_and_every_extra_byte_is_an_error() {
    for kind in 0..4 {
        let mut bytes = packed(&message(kind, 3, "text"));
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "{kind} {cut}");
        }
        bytes.push(0);
        assert!(decode(&bytes).is_err());
    }
    assert_eq!(decode(&vec![0; MAX_MESSAGE + 1]), Err(Fault::Oversize));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), kind in 0u8..5) {
        let _ = decode(&bytes);
        let _ = decode(&[&[0x53, 0xb0, 0, kind][..], &bytes].concat());
    }

    /// What is still readable is written as it was read.
    #[test]
    fn damaged_messages_never_panic(
        kind in 0u8..3, nodes in 0u8..6, text in "[a-z]{0,40}",
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = packed(&message(kind, nodes, &text));
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(message) = decode(&bytes) {
            prop_assert_eq!(decode(&encode(&message)), Ok(message));
        }
    }
}
