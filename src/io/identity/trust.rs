//! Who belongs to the cluster: a certificate counts if the cluster's CA signed it, its names are of this cluster,
//! and the node id in it is that of its key.

use super::names::{Names, node_name};
use super::{cluster_id, node_id, sha256};
use haclusterd_proto::{ClusterId, NodeId, Role};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use webpki::{EndEntityCert, Error as WebPkiError, KeyUsage, anchor_from_trusted_cert};

/// How far a host's clock may be off, either way, before it stops to trust its peers' certificates. An expired
/// certificate therefore counts for one day more.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(24 * 3600);

/// DER of every P-256 SubjectPublicKeyInfo up to the uncompressed point.
const P256_SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// What is wrong with a certificate or a signature: the fault of whoever sent it, or of a clock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    #[error("the certificate is of another cluster")]
    OtherCluster,
    #[error(
        "the certificate has expired {} ago: if so, its node was off or without the issuer for long, and must join again; if not, set this host's clock",
        humantime::format_duration(*.0)
    )]
    Expired(Duration),
    #[error(
        "the certificate becomes valid only in {}: set the clock of this host, or of the issuer",
        humantime::format_duration(*.0)
    )]
    NotYetValid(Duration),
    #[error("the certificate does not name its node as ours do: {0}")]
    Names(&'static str),
    #[error("the certificate names node {} but its key is that of {}", named.short(), key.short())]
    OtherKey { named: NodeId, key: NodeId },
    #[error("the certificate is malformed: {0}")]
    Malformed(String),
    #[error("the signature does not hold")]
    BadSignature,
}

/// The CA that this node trusts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Trust(Arc<Anchor>);

#[derive(Debug)]
struct Anchor {
    cluster: ClusterId,
    certificate: CertificateDer<'static>,
    anchor: TrustAnchor<'static>,
    key: Key,
}

/// A certificate that has been verified, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberCert {
    pub node: NodeId,
    pub name: String,
    pub role: Role,
    /// May sign certificates of the cluster.
    pub issuer: bool,
    pub not_after: SystemTime,
    /// The node's public key (SubjectPublicKeyInfo, DER).
    pub spki: Vec<u8>,
}

/// A P-256 public key as an uncompressed point.
#[derive(Debug)]
struct Key([u8; 65]);

impl Trust {
    pub fn new(ca: &[u8]) -> Result<Trust, CertError> {
        let certificate = CertificateDer::from(ca).into_owned();
        let spki = spki_of(&certificate)?;
        let anchor = anchor_from_trusted_cert(&certificate).map_err(malformed)?.to_owned();
        let key = Key::of(&spki)?;
        Ok(Trust(Arc::new(Anchor { cluster: cluster_id(&spki), certificate, anchor, key })))
    }

    /// The CA out of a peer's chain whose key has this hash.
    pub fn by_hash(chain: &[CertificateDer<'_>], ca_hash: &[u8; 32]) -> Result<Trust, CertError> {
        let is_it = |certificate: &&CertificateDer<'_>| {
            spki_of(certificate).is_ok_and(|spki| sha256(&spki) == *ca_hash)
        };
        chain
            .iter()
            .find(is_it)
            .ok_or(CertError::OtherCluster)
            .and_then(|certificate| Trust::new(certificate))
    }

    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.0.cluster
    }

    #[must_use]
    pub fn ca_der(&self) -> &CertificateDer<'static> {
        &self.0.certificate
    }

    /// SHA-256 of the CA's public key, as a token carries it.
    #[must_use]
    pub fn ca_hash(&self) -> [u8; 32] {
        spki_of(&self.0.certificate).map_or([0; 32], |spki| sha256(&spki))
    }

    pub fn verify_member(&self, certificate: &[u8]) -> Result<MemberCert, CertError> {
        self.verify_member_at(certificate, UnixTime::now())
    }

    pub fn verify_member_at(&self, certificate: &[u8], now: UnixTime) -> Result<MemberCert, CertError> {
        let der = CertificateDer::from(certificate);
        let end_entity = EndEntityCert::try_from(&der).map_err(malformed)?;
        match self.verify_chain(&end_entity, now) {
            Err(WebPkiError::CertExpired { not_after, .. }) => {
                let late = Duration::from_secs(now.as_secs().saturating_sub(not_after.as_secs()));
                self.verify_at_edge(&end_entity, not_after, late, CertError::Expired)
            }
            Err(WebPkiError::CertNotValidYet { not_before, .. }) => {
                let early = Duration::from_secs(not_before.as_secs().saturating_sub(now.as_secs()));
                self.verify_at_edge(&end_entity, not_before, early, CertError::NotYetValid)
            }
            other => other.map_err(chain_error),
        }?;
        let member = MemberCert::parse(&end_entity, Some(self.0.cluster))?;
        Ok(member)
    }

    /// The one check for what a member has signed with its own key.
    pub fn verify_signature(
        &self,
        certificate: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<MemberCert, CertError> {
        let member = self.verify_member(certificate)?;
        member.verify_signature(message, signature)?;
        Ok(member)
    }

    pub fn verify_ca_signature(&self, message: &[u8], signature: &[u8]) -> Result<(), CertError> {
        self.0.key.verify(message, signature)
    }

    fn verify_chain(&self, certificate: &EndEntityCert<'_>, now: UnixTime) -> Result<(), WebPkiError> {
        let anchors = [self.0.anchor.clone()];
        // Our certificates serve both ends, so one usage is as good as the other.
        let usage = KeyUsage::client_auth();
        let path = certificate.verify_for_usage(
            &[webpki::ring::ECDSA_P256_SHA256],
            &anchors,
            &[],
            now,
            usage,
            None,
            None,
        );
        path.map(|_| ())
    }

    /// A clock that is off by no more than the tolerance stands at the nearest edge of the validity.
    fn verify_at_edge(
        &self,
        certificate: &EndEntityCert<'_>,
        edge: UnixTime,
        off: Duration,
        error: fn(Duration) -> CertError,
    ) -> Result<(), CertError> {
        if off > CLOCK_TOLERANCE {
            return Err(error(off));
        }
        self.verify_chain(certificate, edge).map_err(chain_error)
    }
}

impl MemberCert {
    /// Reads a certificate that the TLS handshake has verified already.
    pub(super) fn of_verified(certificate: &[u8]) -> Option<MemberCert> {
        let der = CertificateDer::from(certificate);
        MemberCert::parse(&EndEntityCert::try_from(&der).ok()?, None).ok()
    }

    pub fn verify_signature(&self, message: &[u8], signature: &[u8]) -> Result<(), CertError> {
        Key::of(&self.spki)?.verify(message, signature)
    }

    fn parse(certificate: &EndEntityCert<'_>, cluster: Option<ClusterId>) -> Result<MemberCert, CertError> {
        let spki = certificate.subject_public_key_info().to_vec();
        Key::of(&spki)?;
        let mut names = Names::default();
        for uri in certificate.valid_uri_names() {
            names.read_uri(uri)?;
        }
        let named = names.node.ok_or(CertError::Names("no node id"))?;
        if cluster.is_some() && names.cluster != cluster {
            return Err(CertError::OtherCluster);
        }
        let key = node_id(&spki);
        if named != key {
            return Err(CertError::OtherKey { named, key });
        }
        Ok(MemberCert {
            node: key,
            name: node_name(certificate)?,
            role: names.role.ok_or(CertError::Names("no role"))?,
            issuer: names.issuer,
            not_after: not_after(&certificate.der())?,
            spki,
        })
    }
}

impl Key {
    fn of(spki: &[u8]) -> Result<Key, CertError> {
        let point = spki.strip_prefix(&P256_SPKI_HEAD).and_then(|point| point.try_into().ok());
        point.map(Key).ok_or_else(|| CertError::Malformed("its key is not ECDSA P-256".into()))
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), CertError> {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.0);
        key.verify(message, signature).map_err(|_| CertError::BadSignature)
    }
}

fn not_after(certificate: &[u8]) -> Result<SystemTime, CertError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(malformed)?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).map_err(malformed)?;
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .ok_or_else(|| malformed("it ends beyond the end of time"))
}

fn spki_of(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, CertError> {
    Ok(EndEntityCert::try_from(certificate).map_err(malformed)?.subject_public_key_info().to_vec())
}

fn malformed(error: impl std::fmt::Display) -> CertError {
    CertError::Malformed(error.to_string())
}

fn chain_error(error: WebPkiError) -> CertError {
    match error {
        WebPkiError::UnknownIssuer | WebPkiError::InvalidSignatureForPublicKey => CertError::OtherCluster,
        other => malformed(other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ca::{Ca, LEAF_LIFE, new_key};
    use super::super::names::LeafNames;
    use super::*;
    use rcgen::PublicKeyData;

    const HOUR: Duration = Duration::from_secs(3600);

    struct Cluster {
        ca: Ca,
        trust: Trust,
        now: SystemTime,
    }

    impl Cluster {
        fn new() -> Cluster {
            let now = SystemTime::now();
            let ca = Ca::generate(now).unwrap();
            let trust = Trust::new(&ca.certificate).unwrap();
            Cluster { ca, trust, now }
        }

        fn leaf(&self, cluster: ClusterId, node: Option<NodeId>) -> CertificateDer<'static> {
            let key = new_key().unwrap();
            let node = node.unwrap_or_else(|| node_id(&key.subject_public_key_info()));
            let names = LeafNames { cluster, node, name: "lb2", role: Role::Witness, issuer: false };
            self.ca.issue(&key, &names, self.now).unwrap()
        }

        fn verify(&self, leaf: &CertificateDer<'_>, now: SystemTime) -> Result<MemberCert, CertError> {
            let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap();
            self.trust.verify_member_at(leaf, UnixTime::since_unix_epoch(since))
        }
    }

    #[test]
    fn a_certificate_says_who_its_node_is() {
        let cluster = Cluster::new();
        let member = cluster.trust.verify_member(&cluster.leaf(cluster.trust.cluster(), None)).unwrap();
        assert_eq!((member.name.as_str(), member.role, member.issuer), ("lb2", Role::Witness, false));
        assert_eq!(member.node, node_id(&member.spki));
        let left = member.not_after.duration_since(cluster.now + LEAF_LIFE - HOUR).unwrap();
        assert!(left <= HOUR);
    }

    #[test]
    fn another_ca_and_another_cluster_of_the_same_ca_are_refused() {
        let (ours, theirs) = (Cluster::new(), Cluster::new());
        let foreign = theirs.leaf(ours.trust.cluster(), None);
        assert_eq!(ours.trust.verify_member(&foreign), Err(CertError::OtherCluster));
        let staging = ours.leaf(theirs.trust.cluster(), None);
        assert_eq!(ours.trust.verify_member(&staging), Err(CertError::OtherCluster));
    }

    #[test]
    fn the_node_id_must_be_that_of_the_key() {
        let cluster = Cluster::new();
        let lying = cluster.leaf(cluster.trust.cluster(), Some(NodeId([7; 16])));
        assert!(matches!(cluster.trust.verify_member(&lying), Err(CertError::OtherKey { .. })));
    }

    #[test]
    fn a_clock_may_be_a_day_off_and_no_more() {
        let cluster = Cluster::new();
        let leaf = cluster.leaf(cluster.trust.cluster(), None);
        let (begin, end) = (cluster.now - HOUR, cluster.now + LEAF_LIFE);
        for good in [begin - CLOCK_TOLERANCE + HOUR, begin, end, end + CLOCK_TOLERANCE - HOUR] {
            cluster.verify(&leaf, good).unwrap();
        }
        assert!(matches!(cluster.verify(&leaf, end + CLOCK_TOLERANCE + HOUR), Err(CertError::Expired(_))));
        assert!(matches!(
            cluster.verify(&leaf, begin - CLOCK_TOLERANCE - HOUR),
            Err(CertError::NotYetValid(_))
        ));
    }

    #[test]
    fn tolerance_of_the_clock_is_no_tolerance_of_the_signer() {
        let (ours, theirs) = (Cluster::new(), Cluster::new());
        let foreign = theirs.leaf(ours.trust.cluster(), None);
        let late = ours.now + LEAF_LIFE + HOUR;
        assert_eq!(ours.verify(&foreign, late), Err(CertError::OtherCluster));
    }

    #[test]
    fn the_ca_is_no_member_and_garbage_is_nothing() {
        let cluster = Cluster::new();
        assert!(cluster.trust.verify_member(&cluster.ca.certificate).is_err());
        let leaf = cluster.leaf(cluster.trust.cluster(), None);
        for cut in (0..leaf.len()).step_by(7) {
            assert!(cluster.trust.verify_member(&leaf[..cut]).is_err());
            let mut flipped = leaf.to_vec();
            flipped[cut] ^= 1;
            assert!(cluster.trust.verify_member(&flipped).is_err(), "byte {cut}");
        }
    }
}
