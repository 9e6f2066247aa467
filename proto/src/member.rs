//! What a member says about itself to everybody, and how it is signed.
//!
//! Gossip is relayed, so the link proves nothing about the author: a record travels with its author's
//! signature and certificate, and every reader verifies both. It travels as ASCII text, because that is what
//! chitchat's values are.

pub use crate::control::Health;

use crate::codec::{self, DecodeError, EncodeError};
use crate::units::{Incarnation, MacAddr, NodeId, Priority, Role, check_name};
use data_encoding::BASE64_NOPAD;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// One line of `members`, however long the probe's own words were.
pub const MAX_REASON: usize = 256;
/// One interface a VIP is already unusual.
pub const MAX_MACS: usize = 16;
/// A node runs no more checks than this.
pub const MAX_CHECKS: usize = 16;
/// Of a check; its reason may be as long.
pub const MAX_CHECK_NAME: usize = 32;
const MAX_CHECK_REASON: usize = 100;
/// A release number with a suffix.
pub const MAX_VERSION: usize = 32;
/// Every field at its bound makes about 3,100 bytes.
pub const MAX_RECORD: usize = 4096;
/// The certificates that the cluster's CA issues have about 600 bytes.
pub const MAX_CERTIFICATE: usize = 3072;
/// An ECDSA P-384 signature in DER has at most 104 bytes.
pub const MAX_SIGNATURE: usize = 128;
/// A signed record as text: the bounds above, four characters for three bytes.
pub const MAX_TEXT: usize = 10_240;

/// So that no signature over something else can pass as one over a record.
const DOMAIN: &[u8] = b"haclusterd member v1\0";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    pub node: NodeId,
    pub name: String,
    /// Where the cluster's other members reach it.
    pub addr: SocketAddr,
    pub role: Role,
    /// It holds the CA key, so tokens are spent there.
    pub issuer: bool,
    pub base_priority: u8,
    /// Effective priority. `None`: not a candidate now.
    pub priority: Option<u8>,
    pub health: Health,
    /// Why the health or the priority is what it is, in the operator's words.
    pub reason: String,
    pub checks: Vec<CheckState>,
    pub macs: Vec<MacAddr>,
    pub config_digest: u64,
    pub version: String,
    pub incarnation: Incarnation,
    /// Rises with every start of the node's daemon.
    pub generation: u64,
    /// Rises with every record of one generation.
    pub seq: u64,
    /// Unix seconds.
    pub cert_not_after: i64,
    pub leaving: bool,
    /// An operator wants it to own nothing.
    pub standby: bool,
}

/// What one check says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckState {
    pub name: String,
    pub health: Health,
    /// To the priority. None: the node is no candidate.
    pub adds: Option<i16>,
    /// Empty if all is well.
    pub reason: String,
}

/// A record as it travels. The bytes are kept exactly as they were signed: to encode a record again could give
/// others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRecord {
    pub record: Vec<u8>,
    pub signature: Vec<u8>,
    /// The author's leaf certificate, DER.
    pub certificate: Vec<u8>,
}

/// Always the author's or the relay's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    #[error("a member record of {0} characters, more than {MAX_TEXT}")]
    TooLong(usize),
    #[error("a member record that is not base64")]
    NotBase64,
    #[error("a member record: {0}")]
    Undecodable(#[from] DecodeError),
    #[error("a member record whose {0} is out of bounds")]
    Unsound(&'static str),
}

impl MemberRecord {
    /// Of a member that has said nothing of itself yet.
    #[must_use]
    pub fn new(node: NodeId, name: String, addr: SocketAddr, incarnation: Incarnation) -> MemberRecord {
        MemberRecord {
            node,
            name,
            addr,
            role: Role::Member,
            issuer: false,
            base_priority: Priority::DEFAULT.0,
            priority: None,
            health: Health::Unknown,
            reason: String::new(),
            checks: Vec::new(),
            macs: Vec::new(),
            config_digest: 0,
            version: String::new(),
            incarnation,
            generation: 0,
            seq: 0,
            cert_not_after: 0,
            leaving: false,
            standby: false,
        }
    }

    /// The first field that no honest author writes, if any.
    fn flaw(&self) -> Option<&'static str> {
        [
            (check_name(&self.name).is_ok(), "name"),
            (is_line(&self.reason, MAX_REASON), "reason"),
            (is_line(&self.version, MAX_VERSION), "version"),
            (
                self.checks.len() <= MAX_CHECKS && self.checks.iter().all(CheckState::is_sound),
                "list of checks",
            ),
            (self.macs.len() <= MAX_MACS, "list of MAC addresses"),
        ]
        .into_iter()
        .find_map(|(sound, what)| (!sound).then_some(what))
    }

    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.flaw().is_none()
    }

    /// Cuts to size what comes from outside (a probe's words) or grows with the configuration.
    #[must_use]
    pub fn bounded(mut self) -> MemberRecord {
        self.reason = line(&self.reason, MAX_REASON);
        self.version = line(&self.version, MAX_VERSION);
        self.checks.truncate(MAX_CHECKS);
        self.checks.iter_mut().for_each(CheckState::bound);
        self.macs.truncate(MAX_MACS);
        self
    }

    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        codec::encode(self, MAX_RECORD)
    }
}

impl CheckState {
    fn is_sound(&self) -> bool {
        is_line(&self.name, MAX_CHECK_NAME) && is_line(&self.reason, MAX_CHECK_REASON)
    }

    fn bound(&mut self) {
        self.name = line(&self.name, MAX_CHECK_NAME);
        self.reason = line(&self.reason, MAX_CHECK_REASON);
    }
}

/// A terminal shows these words, so a member must not be able to put control characters into them.
fn is_line(text: &str, max: usize) -> bool {
    text.len() <= max && !text.contains(char::is_control)
}

fn line(text: &str, max: usize) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.truncate((0..=max.min(line.len())).rev().find(|&at| line.is_char_boundary(at)).unwrap_or(0));
    line
}

impl SignedRecord {
    /// What the author's key signs.
    #[must_use]
    pub fn message(record: &[u8]) -> Vec<u8> {
        [DOMAIN, record].concat()
    }

    /// Looks inside. Says nothing about who wrote it: that is the signature's part.
    pub fn open(&self) -> Result<MemberRecord, MemberError> {
        let record: MemberRecord = codec::decode(&self.record)?;
        record.flaw().map_or(Ok(record), |what| Err(MemberError::Unsound(what)))
    }

    pub fn encode(&self) -> Result<String, EncodeError> {
        Ok(BASE64_NOPAD.encode(&codec::encode(self, MAX_TEXT / 4 * 3)?))
    }

    pub fn decode(text: &str) -> Result<SignedRecord, MemberError> {
        if text.len() > MAX_TEXT {
            return Err(MemberError::TooLong(text.len()));
        }
        let bytes = BASE64_NOPAD.decode(text.as_bytes()).map_err(|_| MemberError::NotBase64)?;
        let signed: SignedRecord = codec::decode(&bytes)?;
        [
            (signed.record.len() <= MAX_RECORD, "length"),
            (signed.signature.len() <= MAX_SIGNATURE, "signature"),
            (signed.certificate.len() <= MAX_CERTIFICATE, "certificate"),
        ]
        .into_iter()
        .find_map(|(sound, what)| (!sound).then_some(what))
        .map_or(Ok(signed), |what| Err(MemberError::Unsound(what)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> MemberRecord {
        MemberRecord {
            node: NodeId([7; 16]),
            name: "lb1".into(),
            addr: "192.0.2.1:7400".parse().unwrap(),
            role: Role::Member,
            issuer: true,
            base_priority: 100,
            priority: Some(90),
            health: Health::Warn,
            reason: "one of two workers answers".into(),
            checks: vec![check("slow", "no answer")],
            macs: vec![MacAddr([2; 6])],
            config_digest: 5,
            version: "0.1.0".into(),
            incarnation: Incarnation(3),
            generation: 4,
            seq: 9,
            cert_not_after: 1_800_000_000,
            leaving: false,
            standby: false,
        }
    }

    fn check(name: &str, reason: &str) -> CheckState {
        CheckState { name: name.into(), health: Health::Warn, adds: Some(-10), reason: reason.into() }
    }

    fn signed(record: &MemberRecord) -> SignedRecord {
        let record = codec::encode(record, codec::MAX).unwrap();
        SignedRecord { record, signature: vec![1; 72], certificate: vec![2; 600] }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let sent = signed(&record());
        let text = sent.encode().unwrap();
        assert!(text.is_ascii() && text.len() < MAX_TEXT);
        let read = SignedRecord::decode(&text).unwrap();
        assert_eq!(read, sent);
        assert_eq!(read.open().unwrap(), record());
    }

    #[test]
    fn the_largest_record_fits() {
        let mut large = record();
        large.name = "x".repeat(63);
        large.addr = "[2001:db8::1]:65535".parse().unwrap();
        large.reason = "\u{10ffff}".repeat(64);
        large.checks = vec![check(&"x".repeat(MAX_CHECK_NAME), &"x".repeat(MAX_CHECK_REASON)); MAX_CHECKS];
        large.macs = vec![MacAddr::BROADCAST; MAX_MACS];
        large.version = "v".repeat(MAX_VERSION);
        (large.generation, large.seq) = (u64::MAX, u64::MAX);
        let record = large.encode().unwrap();
        let signed =
            SignedRecord { record, signature: vec![0; MAX_SIGNATURE], certificate: vec![0; MAX_CERTIFICATE] };
        let text = signed.encode().unwrap();
        assert_eq!(SignedRecord::decode(&text).unwrap().open().unwrap(), large);
    }

    #[test]
    fn what_no_honest_author_writes_is_refused() {
        let broken: [fn(&mut MemberRecord); 5] = [
            |r| r.name = "Not A Name".into(),
            |r| r.reason = "r".repeat(MAX_REASON + 1),
            |r| r.reason = "\x1b[2J".into(),
            |r| r.macs = vec![MacAddr::ZERO; MAX_MACS + 1],
            |r| r.version = "v".repeat(MAX_VERSION + 1),
        ];
        for (n, breakage) in broken.iter().enumerate() {
            let mut record = record();
            breakage(&mut record);
            assert!(matches!(signed(&record).open(), Err(MemberError::Unsound(_))), "{n}");
            if n > 0 {
                assert!(record.bounded().is_sound(), "{n}");
            }
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut long = record();
        long.reason = "é".repeat(200);
        assert_eq!(long.bounded().reason, "é".repeat(128));
    }

    #[test]
    fn the_signature_is_over_the_domain_too() {
        assert!(SignedRecord::message(b"x").starts_with(b"haclusterd member v1\0"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,300}", bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = SignedRecord::decode(&text);
            if let Ok(signed) = SignedRecord::decode(&BASE64_NOPAD.encode(&bytes)) {
                let _ = signed.open();
            }
        }
    }
}
