//! How a new node joins: one stream on a connection of its own protocol, a request and a reply.
//!
//! ```text
//! joiner                                   issuer
//!    | <=== TLS 1.3, ALPN hacl-join/1 ===>  |   the joiner goes on only if the CA's hash is the token's
//!    | JoinRequest{csr, token, proof}  ---> |   proof = HMAC(key of the token, TLS exporter, request)
//!    | <--- Accepted{certificate, ..}       |   the use of the token is on the disk before the CA signs
//!    | <--- or Refused(why)                 |
//! ```
//! The secret never crosses. The proof holds on one connection only, so that nobody can pass it on.

use crate::token::{TokenId, TokenKey};
use crate::units::{ClusterId, NodeId, Role};
use ring::hmac;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Room for a CSR of an ordinary key; the issuer reads no more.
pub const MAX_REQUEST: usize = 16 * 1024;
/// The shared settings inside a reply, so that the reply stays within the codec's limit.
pub const MAX_SETTINGS: usize = 192 * 1024;
/// A new node needs only one peer that lives; more come by gossip.
pub const MAX_PEERS: usize = 64;
/// The label of the TLS exporter that binds a proof to its connection.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-haclusterd-join-v1";

pub type Exporter = [u8; 32];
pub type Proof = [u8; 32];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The release that asks, for the issuer's log.
    pub version: String,
    pub name: String,
    pub role: Role,
    /// Where the new node will answer its peers.
    pub listen: SocketAddr,
    /// The node's public key, signed by itself (PKCS#10). Only the key is taken from it.
    pub csr: Vec<u8>,
    pub token: TokenId,
    pub proof: Proof,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinReply {
    Accepted(Accepted),
    Refused(JoinRefusal),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    pub cluster: ClusterId,
    pub cluster_name: Option<String>,
    /// The node's certificate, DER.
    pub certificate: Vec<u8>,
    /// The cluster's CA certificates, DER. The first is the one that signed.
    pub ca: Vec<Vec<u8>>,
    pub peers: Vec<SocketAddr>,
    /// The cluster's shared settings as TOML.
    pub settings: String,
}

/// Why an issuer refuses, said to the operator of the new node: the cause, and what helps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum JoinRefusal {
    #[error(
        "the issuer does not know this token: it was made on another node, or ended more than a day ago; \
         make a new one with `haclusterd token create`"
    )]
    UnknownToken,
    #[error(
        "the token has expired {ago_s} s ago by the issuer's clock: make a new one with `haclusterd token create`"
    )]
    Expired { ago_s: u64 },
    #[error(
        "the token has been used already{}: if that was not you, somebody else has joined with it \
         (see `haclusterd members`); make a new one with `haclusterd token create`",
        by.as_ref().map(|by| format!(" by {by:?}")).unwrap_or_default()
    )]
    Used { by: Option<String> },
    #[error("the token was revoked on the issuer: make a new one with `haclusterd token create`")]
    Revoked,
    #[error(
        "the token is only for a node named {bound_to:?}: join with `--name {bound_to}`, or make another token"
    )]
    WrongName { bound_to: String },
    #[error("the token is only for a {allowed}: join as one, or make a token with `--role`")]
    WrongRole { allowed: Role },
    #[error(
        "the name is taken by node {}: choose another `--name`, or, if that node is gone for good, free the name \
         on the issuer with `haclusterd token release NAME`",
        by.short()
    )]
    NameTaken { by: NodeId },
    #[error(
        "the token's secret is wrong, or somebody stands between this node and the issuer: copy the token again"
    )]
    BadProof,
    #[error("the issuer does not understand the request: {0}; run the same release on both nodes")]
    BadRequest(String),
    #[error(
        "this member does not issue certificates: join {} instead, where the token was made",
        issuer.as_ref().map_or("the node".into(), |name| format!("{name:?}"))
    )]
    NotIssuer { issuer: Option<String> },
    #[error(
        "the issuer cannot write its state ({0}): the token was not used; make room or repair it, then join again"
    )]
    StateNotWritable(String),
    #[error("the issuer failed to make a certificate ({0}): see its log")]
    IssuerFailed(String),
}

impl JoinRequest {
    /// Fills in the proof; the last thing to do.
    #[must_use]
    pub fn proven(mut self, key: &TokenKey, exporter: &Exporter) -> JoinRequest {
        let tag = hmac::sign(&mac_key(key), &self.proven_bytes(exporter));
        self.proof.copy_from_slice(tag.as_ref());
        self
    }

    /// Takes the same time whatever the proof is.
    #[must_use]
    pub fn proof_holds(&self, key: &TokenKey, exporter: &Exporter) -> bool {
        hmac::verify(&mac_key(key), &self.proven_bytes(exporter), &self.proof).is_ok()
    }

    /// Everything but the proof, each part with its length, so that no two requests look alike.
    fn proven_bytes(&self, exporter: &Exporter) -> Vec<u8> {
        // A SocketAddr prints a scope that the codec does not carry.
        let listen = format!("{} {}", self.listen.ip(), self.listen.port());
        let parts: [&[u8]; 7] = [
            exporter,
            &self.csr,
            self.name.as_bytes(),
            self.role.as_str().as_bytes(),
            listen.as_bytes(),
            self.version.as_bytes(),
            &self.token.0,
        ];
        let mut bytes = b"haclusterd join v1\0".to_vec();
        for part in parts {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(part);
        }
        bytes
    }
}

fn mac_key(key: &TokenKey) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &key.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{MAX, decode, encode};

    fn request() -> JoinRequest {
        JoinRequest {
            version: "0.1.0".into(),
            name: "lb2".into(),
            role: Role::Witness,
            listen: "10.0.0.2:7946".parse().unwrap(),
            csr: vec![0x30, 0],
            token: TokenId([1, 2, 3, 4, 5]),
            proof: [0; 32],
        }
    }

    #[test]
    fn the_bytes_do_not_change_between_releases() {
        let mut golden = vec![1, 5];
        golden.extend(b"0.1.0\x03lb2\x01\x00");
        golden.extend([10, 0, 0, 2, 251, 0x0a, 0x1f, 2, 0x30, 0, 1, 2, 3, 4, 5]);
        golden.extend([0; 32]);
        assert_eq!(encode(&request(), MAX_REQUEST).unwrap(), golden);
        let refused = JoinReply::Refused(JoinRefusal::WrongName { bound_to: "lb3".into() });
        assert_eq!(encode(&refused, MAX).unwrap(), b"\x01\x01\x04\x03lb3");
    }

    #[test]
    fn a_proof_holds_for_its_request_key_and_connection_only() {
        let (key, exporter) = (TokenKey([7; 32]), [9; 32]);
        let good = request().proven(&key, &exporter);
        assert!(good.proof_holds(&key, &exporter));
        assert!(!good.proof_holds(&key, &[8; 32]) && !good.proof_holds(&TokenKey([6; 32]), &exporter));
        let changes: [fn(&mut JoinRequest); 6] = [
            |r| r.name = "lb3".into(),
            |r| r.role = Role::Member,
            |r| r.csr.push(0),
            |r| r.listen.set_port(1),
            |r| r.token.0[0] ^= 1,
            |r| r.proof[31] ^= 1,
        ];
        for change in changes {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(!bad.proof_holds(&key, &exporter), "{bad:?}");
        }
    }

    #[test]
    fn the_largest_reply_fits() {
        let reply = JoinReply::Accepted(Accepted {
            cluster: ClusterId([0; 16]),
            cluster_name: Some("x".repeat(63)),
            certificate: vec![0; 2048],
            ca: vec![vec![0; 2048]; 2],
            peers: vec!["[2001:db8::1]:7946".parse().unwrap(); MAX_PEERS],
            settings: "x".repeat(MAX_SETTINGS),
        });
        let bytes = encode(&reply, MAX).unwrap();
        assert_eq!(decode::<JoinReply>(&bytes), Ok(reply));
    }

    #[test]
    fn a_refusal_names_the_remedy() {
        for refusal in [
            JoinRefusal::UnknownToken,
            JoinRefusal::Expired { ago_s: 5 },
            JoinRefusal::Used { by: Some("lb2".into()) },
            JoinRefusal::Revoked,
        ] {
            assert!(refusal.to_string().contains("`haclusterd token create`"), "{refusal}");
        }
    }
}
