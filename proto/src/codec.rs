//! How messages become bytes: one version byte, then bincode. The only file that names bincode, which is
//! finished and unmaintained, so that another encoding would be a change to this file alone.
//!
//! Nothing is assumed of the bytes: lengths are checked against [`MAX`] before anything is allocated, and bytes
//! left over are an error. Message types must not be recursive: bincode has no limit of depth.

use bincode::config::{Configuration, Limit, LittleEndian, Varint, standard};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest message that is ever read. The largest that is sent, an accepted join, stays well below.
pub const MAX: usize = 256 * 1024;
/// The first byte of every message. Another encoding, or other messages, get another.
pub const VERSION: u8 = 1;

const FORMAT: Configuration<LittleEndian, Varint, Limit<MAX>> = standard().with_limit::<MAX>();

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("a message of {len} bytes is larger than its limit of {limit} (our fault)")]
    TooLong { len: usize, limit: usize },
    #[error("a message that cannot be encoded (our fault): {0}")]
    Unencodable(String),
}

/// Always the sender's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("an empty message")]
    Empty,
    #[error("a message of version {0}, this node speaks version {VERSION}: run one release on all nodes")]
    Version(u8),
    #[error("a message of {0} bytes, more than {MAX}")]
    TooLong(usize),
    #[error("a malformed message: {0}")]
    Malformed(String),
    #[error("{0} bytes too many after a message")]
    Trailing(usize),
}

/// `limit` counts the version byte too; it is the receiver's bound for this kind of message.
pub fn encode<T: Serialize>(message: &T, limit: usize) -> Result<Vec<u8>, EncodeError> {
    let limit = limit.min(MAX);
    let mut bytes = vec![VERSION];
    // Without a limit of its own: the length is what counts, and our own values are bounded already.
    bincode::serde::encode_into_std_write(message, &mut bytes, standard())
        .map_err(|error| EncodeError::Unencodable(error.to_string()))?;
    if bytes.len() > limit {
        return Err(EncodeError::TooLong { len: bytes.len(), limit });
    }
    Ok(bytes)
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if *version != VERSION {
        return Err(DecodeError::Version(*version));
    }
    if bytes.len() > MAX {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    let (message, used) = bincode::serde::decode_from_slice(body, FORMAT)
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    match body.len() - used {
        0 => Ok(message),
        left => Err(DecodeError::Trailing(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;
    use crate::cluster::{
        Advert, Answer, Bid, Grant, MAX_ADDRESSES, MAX_MESSAGE, MAX_REMOVED, MAX_VIPS, MAX_VOTERS, Message,
        SignedVoters, Verdict, VoterSet, VotersStamp,
    };
    use crate::join::{JoinReply, JoinRequest};
    use crate::units::{AddrId, ClusterId, Incarnation, Priority, Term, VipId};
    use proptest::prelude::*;

    fn advert(seq: u64, vips: Vec<u64>) -> Message {
        let bid = |vip| Bid {
            vip: VipId(vip),
            priority: Some(Priority(100)),
            ready: true,
            want: true,
            holds: None,
            pinned: false,
            term: Term(7),
            addresses: vec![AddrId(1)],
        };
        Message::Advert(Advert {
            incarnation: Incarnation(5),
            seq,
            voters: VotersStamp { version: 1, digest: 2 },
            session: 9,
            resumes: None,
            held_down_ms: 0,
            sick: false,
            bids: vips.into_iter().map(bid).collect(),
        })
    }

    #[test]
    fn the_bytes_do_not_change_between_releases() {
        let bytes = encode(&advert(300, vec![3]), 100).unwrap();
        assert_eq!(bytes, [1, 0, 5, 251, 44, 1, 1, 2, 9, 0, 0, 0, 1, 3, 1, 100, 1, 1, 0, 0, 7, 1, 1]);
    }

    /// The most that a node may say of its VIPs; of voters, it must fit one datagram.
    #[test]
    fn the_longest_messages_can_be_sent() {
        let many = u64::from(u32::MAX);
        let by = NodeId([0xff; 16]);
        let bid = |n: usize| Bid {
            vip: VipId(u64::MAX - n as u64),
            priority: Some(Priority(254)),
            ready: true,
            want: true,
            holds: Some(Term(many)),
            pinned: false,
            term: Term(many),
            addresses: vec![AddrId(u64::MAX); MAX_ADDRESSES / MAX_VIPS],
        };
        let advert = Message::Advert(Advert {
            incarnation: Incarnation(u128::MAX),
            seq: many,
            voters: VotersStamp { version: many, digest: u64::MAX },
            session: many,
            resumes: Some(Incarnation(u128::MAX)),
            held_down_ms: u32::MAX,
            sick: false,
            bids: (0..MAX_VIPS).map(bid).collect(),
        });
        let verdict = |_| Verdict { vip: VipId(u64::MAX), term: Term(many), grant: Grant::Held { by } };
        let answer = Message::Answer(Answer {
            seq: many,
            incarnation: Incarnation(u128::MAX),
            voters: VotersStamp { version: many, digest: u64::MAX },
            session: many,
            lease_us: many,
            refusal: None,
            verdicts: (0..MAX_VIPS).map(verdict).collect(),
        });
        for message in [advert, answer] {
            encode(&message, MAX_MESSAGE - 256).unwrap();
        }
        let some = |first: u8, count: usize| (0..count).map(|n| NodeId([first + n as u8; 16])).collect();
        let set = VoterSet {
            version: many,
            voters: some(0, MAX_VOTERS),
            confirm: some(0, 2),
            witnesses: some(0, MAX_VOTERS),
            removed: some(100, MAX_REMOVED),
            ..VoterSet::first(ClusterId([0xff; 16]), by)
        };
        assert!(set.is_sound());
        let voters = Message::Voters(SignedVoters { set, signature: vec![0xff; 72] });
        encode(&voters, 1100).unwrap();
    }

    #[test]
    fn nothing_may_be_missing_or_left_over() {
        let bytes = encode(&advert(300, vec![3]), 100).unwrap();
        for cut in 0..bytes.len() {
            assert!(decode::<Message>(&bytes[..cut]).is_err(), "{cut}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(decode::<Message>(&longer), Err(DecodeError::Trailing(1)));
    }

    #[test]
    fn another_version_is_named() {
        assert_eq!(decode::<Message>(&[2, 0, 0]), Err(DecodeError::Version(2)));
        assert_eq!(decode::<Message>(&[]), Err(DecodeError::Empty));
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let long = "x".repeat(MAX);
        assert!(matches!(encode(&long, 100), Err(EncodeError::TooLong { limit: 100, .. })));
        assert!(matches!(encode(&long, usize::MAX), Err(EncodeError::TooLong { limit: MAX, .. })));
        assert_eq!(decode::<String>(&vec![VERSION; MAX + 1]), Err(DecodeError::TooLong(MAX + 1)));
        // A list that claims 2^40 entries is refused before room is made for it.
        let claim = [&[VERSION, 253][..], &(1u64 << 40).to_le_bytes()].concat();
        assert!(matches!(decode::<Vec<u64>>(&claim), Err(DecodeError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..2000), ours: bool) {
            if let (true, Some(first)) = (ours, bytes.first_mut()) {
                *first = VERSION;
            }
            let _ = decode::<Message>(&bytes);
            let _ = decode::<JoinRequest>(&bytes);
            let _ = decode::<JoinReply>(&bytes);
        }

        #[test]
        fn what_was_encoded_is_decoded(seq: u64, vips in proptest::collection::vec(any::<u64>(), 0..32)) {
            let message = advert(seq, vips);
            prop_assert_eq!(decode::<Message>(&encode(&message, MAX).unwrap()), Ok(message));
        }
    }
}
