//! What each member tells of itself. Gossip relays it through other members, so its author signs it and whoever
//! reads it checks the author's certificate and signature.
//!
//! Gossip carries text: a [`SignedRecord`] travels as base64 of its encoding.

use crate::codec;
use crate::control::Health;
use crate::{Incarnation, MacAddr, NodeId, Role, VipId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What the author signs begins with this, so that no signature serves two purposes.
pub const DOMAIN: &[u8] = b"haclusterd member v1\0";
/// A record with every field at its bound takes 1 KiB, a certificate as much.
pub const MAX_RECORD: usize = 4096;
/// Of the text that gossip carries.
pub const MAX_TEXT: usize = 8192;

const MAX_NAME: usize = 63;
const MAX_REASON: usize = 256;
const MAX_VERSION: usize = 32;
const MAX_MACS: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    pub node: NodeId,
    pub name: String,
    pub addr: SocketAddr,
    pub role: Role,
    /// Has the cluster's CA key.
    pub issuer: bool,
    pub base_priority: u8,
    /// Effective; `None`: no candidate.
    pub priority: Option<u8>,
    pub health: Health,
    /// Why it is not well.
    pub reason: String,
    /// What it holds.
    pub vips: Vec<VipId>,
    /// Of the interfaces that its VIPs are on.
    pub macs: Vec<MacAddr>,
    /// Of what must be the same on every node.
    pub config_digest: u64,
    pub version: String,
    pub incarnation: Incarnation,
    /// Rises with each start of the node.
    pub generation: u64,
    /// Rises with each record of a generation.
    pub seq: u64,
    /// Seconds since 1970.
    pub cert_not_after: i64,
    /// Goes for good.
    pub leaving: bool,
}

/// A record as its author signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRecord {
    /// The encoded [`MemberRecord`].
    pub record: Vec<u8>,
    pub signature: Vec<u8>,
    /// The author's, DER.
    pub certificate: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    #[error("it is not base64 of at most {MAX_TEXT} characters")]
    Text,
    #[error(transparent)]
    Bytes(#[from] codec::DecodeError),
    #[error("a field is longer than it may be")]
    Bounds,
}

impl MemberRecord {
    /// Makes what is too long short, so that the node's own record always passes [`MemberRecord::is_sound`].
    #[must_use]
    pub fn bounded(mut self) -> MemberRecord {
        let end = (0..=MAX_REASON).rev().find(|at| self.reason.is_char_boundary(*at)).unwrap_or(0);
        self.reason.truncate(end);
        self.macs.truncate(MAX_MACS);
        self.vips.truncate(crate::cluster::MAX_VIPS);
        self
    }

    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.name.len() <= MAX_NAME
            && crate::units::check_name(&self.name).is_ok()
            && self.reason.len() <= MAX_REASON
            && self.version.len() <= MAX_VERSION
            && self.vips.len() <= crate::cluster::MAX_VIPS
            && self.macs.len() <= MAX_MACS
    }

    /// Later records replace earlier ones.
    #[must_use]
    pub fn age(&self) -> (u64, u64) {
        (self.generation, self.seq)
    }
}

impl SignedRecord {
    pub fn sign(
        record: &MemberRecord,
        certificate: Vec<u8>,
        sign: impl FnOnce(&[u8]) -> Vec<u8>,
    ) -> Result<SignedRecord, codec::EncodeError> {
        let record = codec::encode(record, MAX_RECORD)?;
        let signature = sign(&signed_bytes(&record));
        Ok(SignedRecord { record, signature, certificate })
    }

    /// What the signature covers.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        signed_bytes(&self.record)
    }

    /// Read only once the signature is verified.
    pub fn open(&self) -> Result<MemberRecord, BadRecord> {
        let record: MemberRecord = codec::decode(&self.record)?;
        if record.is_sound() { Ok(record) } else { Err(BadRecord::Bounds) }
    }

    pub fn to_text(&self) -> Result<String, codec::EncodeError> {
        Ok(data_encoding::BASE64.encode(&codec::encode(self, MAX_TEXT / 4 * 3)?))
    }

    pub fn from_text(text: &str) -> Result<SignedRecord, BadRecord> {
        if text.len() > MAX_TEXT {
            return Err(BadRecord::Text);
        }
        let bytes = data_encoding::BASE64.decode(text.as_bytes()).map_err(|_| BadRecord::Text)?;
        Ok(codec::decode(&bytes)?)
    }
}

fn signed_bytes(record: &[u8]) -> Vec<u8> {
    [DOMAIN, record].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(reason: &str) -> MemberRecord {
        MemberRecord {
            node: NodeId([1; 16]),
            name: "lb1".into(),
            addr: "10.0.0.11:7946".parse().unwrap(),
            role: Role::Member,
            issuer: true,
            base_priority: 100,
            priority: Some(90),
            health: Health::Warn,
            reason: reason.into(),
            vips: vec![VipId(3)],
            macs: vec![MacAddr([2; 6])],
            config_digest: 7,
            version: "0.1.0".into(),
            incarnation: Incarnation(9),
            generation: 4,
            seq: 2,
            cert_not_after: 1_800_000_000,
            leaving: false,
        }
    }

    fn signed(record: &MemberRecord) -> SignedRecord {
        SignedRecord::sign(record, vec![1, 2, 3], <[u8]>::to_vec).unwrap()
    }

    #[test]
    fn a_record_survives_the_way_through_text() {
        let sent = record("slow");
        let read = SignedRecord::from_text(&signed(&sent).to_text().unwrap()).unwrap();
        assert_eq!((read.open(), read.message()), (Ok(sent), read.signature.clone()));
    }

    #[test]
    fn what_is_too_long_is_refused_and_never_sent() {
        let long = record(&"é".repeat(200));
        assert_eq!(signed(&long).open(), Err(BadRecord::Bounds));
        assert!(signed(&long.bounded()).open().is_ok());
        assert_eq!(SignedRecord::from_text(&"A".repeat(MAX_TEXT + 4)), Err(BadRecord::Text));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            let _ = SignedRecord::from_text(&text).map(|signed| signed.open());
        }
    }
}
