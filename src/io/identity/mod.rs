//! Who this node is: its key, its certificate, and the CA of its cluster.
//!
//! ```text
//! <state dir>/identity.pem   the node's key, its certificate, the CA's certificate: one file, so never half of it
//! <state dir>/ca.key         the CA's key, only where certificates are issued
//! ```

mod ca;
mod names;
pub mod store;
pub mod tls;
pub mod trust;

pub use ca::LEAF_LIFE;
pub use names::SERVER_NAME;
pub use store::StoreError;
pub use trust::{CLOCK_TOLERANCE, CertError, MemberCert, Trust};

pub(in crate::io) use ca::RequestedKey;

use arc_swap::ArcSwap;
use ca::Ca;
use haclusterd_proto::units::{BadUnit, check_name};
use haclusterd_proto::{ClusterId, NodeId, Role};
use names::LeafNames;
use rcgen::{KeyPair, PublicKeyData};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use store::{StateDir, read_private};

const IDENTITY_FILE: &str = "identity.pem";
const CA_KEY_FILE: &str = "ca.key";

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(
        "this node has no identity in {}: run `haclusterd init` for a new cluster or `haclusterd join` for an \
         existing one",
        .0.display()
    )]
    Missing(PathBuf),
    #[error(
        "this node has an identity already: {} is kept as it is; to begin anew, stop the daemon and move {} away",
        path.display(), path.parent().unwrap_or(path).display()
    )]
    Exists { path: PathBuf },
    #[error("{} is damaged ({what}): restore it from a backup, or move it away and join again", path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("{}: {source}; to replace this node's certificate, join again with a new token", path.display())]
    Certificate { path: PathBuf, source: CertError },
    #[error(transparent)]
    Name(#[from] BadUnit),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cryptography failed (our fault): {0}")]
    Ours(String),
}

impl IdentityError {
    fn ours(error: impl fmt::Display) -> IdentityError {
        IdentityError::Ours(error.to_string())
    }
}

impl From<rcgen::Error> for IdentityError {
    fn from(error: rcgen::Error) -> IdentityError {
        IdentityError::ours(error)
    }
}

/// A node's own keys and what its certificate says.
pub struct Identity {
    pub node: NodeId,
    pub name: String,
    pub role: Role,
    pub cluster: ClusterId,
    /// Another one after a renewal.
    leaf: ArcSwap<Leaf>,
    key: KeyPair,
    ca: Option<Ca>,
    trust: Trust,
}

/// The certificate that this node shows, as long as it is good.
struct Leaf {
    not_after: SystemTime,
    certificate: CertificateDer<'static>,
    shown: Arc<CertifiedKey>,
}

/// Begins a cluster: a CA, and this node as its first member and issuer.
pub fn init(dir: &Path, name: &str, role: Role) -> Result<Identity, IdentityError> {
    check_name(name)?;
    let state = StateDir::lock(dir)?;
    refuse_existing(dir)?;
    let now = SystemTime::now();
    let ca = Ca::generate(now)?;
    let key = ca::new_key()?;
    let names = LeafNames {
        cluster: cluster_id(&ca.key.subject_public_key_info()),
        node: node_id(&key.subject_public_key_info()),
        name,
        role,
        issuer: true,
    };
    let certificate = ca.issue(&key, &names, now)?;
    let trust = Trust::new(&ca.certificate).map_err(IdentityError::ours)?;
    state.create(CA_KEY_FILE, ca.key.serialize_pem().as_bytes())?;
    let identity = Identity::new(key, certificate, trust, Some(ca)).map_err(IdentityError::ours)?;
    if let Err(error) = identity.save(&state) {
        state.remove(CA_KEY_FILE);
        return Err(error);
    }
    Ok(identity)
}

/// Says so before anything is done for which there would be no place.
pub fn refuse_existing(dir: &Path) -> Result<(), IdentityError> {
    for file in [IDENTITY_FILE, CA_KEY_FILE] {
        let path = dir.join(file);
        if path.symlink_metadata().is_ok() {
            return Err(IdentityError::Exists { path });
        }
    }
    Ok(())
}

impl Identity {
    pub fn load(dir: &Path) -> Result<Identity, IdentityError> {
        let path = dir.join(IDENTITY_FILE);
        let damaged = |what: String| IdentityError::Damaged { path: path.clone(), what };
        let pem = read_private(&path)?.ok_or_else(|| IdentityError::Missing(dir.into()))?;
        let key = read_key(&path, &pem)?;
        let mut certificates = CertificateDer::pem_slice_iter(&pem);
        let mut next = |what: &str| match certificates.next() {
            Some(Ok(certificate)) => Ok(certificate),
            Some(Err(error)) => Err(damaged(format!("{what}: {error}"))),
            None => Err(damaged(format!("no {what}"))),
        };
        let (certificate, ca) = (next("certificate of the node")?, next("certificate of the CA")?);
        let trust = Trust::new(&ca).map_err(|error| damaged(error.to_string()))?;
        let ca = load_ca(dir, &trust)?;
        Identity::new(key, certificate, trust, ca).map_err(|error| match error {
            CertError::Expired(_) | CertError::NotYetValid(_) => {
                IdentityError::Certificate { path: path.clone(), source: error }
            }
            other => damaged(other.to_string()),
        })
    }

    /// What the certificate says, if it is this key's and this cluster's.
    fn new(
        key: KeyPair,
        certificate: CertificateDer<'static>,
        trust: Trust,
        ca: Option<Ca>,
    ) -> Result<Identity, CertError> {
        let (member, leaf) = leaf(&key, certificate, &trust)?;
        let MemberCert { node, name, role, .. } = member;
        let leaf = ArcSwap::from_pointee(leaf);
        Ok(Identity { node, name, role, cluster: trust.cluster(), leaf, key, ca, trust })
    }

    pub(in crate::io) fn save(&self, state: &StateDir) -> Result<(), IdentityError> {
        let pem = self.pem(&self.leaf.load().certificate);
        state.create(IDENTITY_FILE, pem.as_bytes()).map_err(|error| match error {
            StoreError::Exists(path) => IdentityError::Exists { path },
            other => other.into(),
        })
    }

    fn pem(&self, certificate: &[u8]) -> String {
        let mut pem = self.key.serialize_pem();
        for certificate in [certificate, self.trust.ca_der()] {
            pem.push_str(&certificate_pem(certificate));
        }
        pem
    }

    /// From then on a new certificate is wanted: at another part of its life for each node, so that not all come at once.
    #[must_use]
    pub fn renews_at(&self) -> SystemTime {
        let share = u32::from(self.node.0[0]) * 30 / 255;
        self.not_after() - LEAF_LIFE * (50 - share) / 100
    }

    /// On the issuer: the same certificate for another life. Whoever shows it is the one that it names.
    pub fn reissue(&self, certificate: &[u8]) -> Result<CertificateDer<'static>, IdentityError> {
        let ca = self.ca.as_ref().ok_or_else(|| IdentityError::ours("no CA key here"))?;
        let MemberCert { node, name, role, issuer, spki, .. } =
            self.trust.verify_member(certificate).map_err(IdentityError::ours)?;
        let key = rcgen::SubjectPublicKeyInfo::from_der(&spki)?;
        let names = LeafNames { cluster: self.cluster, node, name: &name, role, issuer };
        Ok(ca.issue(&key, &names, SystemTime::now())?)
    }

    /// Shows this certificate from now on, once it is on the disk. Until when it is good.
    pub fn renew(&self, dir: &Path, certificate: &[u8]) -> Result<SystemTime, IdentityError> {
        let certificate = CertificateDer::from(certificate).into_owned();
        let (member, leaf) = leaf(&self.key, certificate, &self.trust).map_err(IdentityError::ours)?;
        let same = (&member.name, member.role, member.issuer) == (&self.name, self.role, self.is_issuer());
        if !same || leaf.not_after <= self.not_after() {
            return Err(IdentityError::ours("the new certificate is another node's, or ends no later"));
        }
        let until = leaf.not_after;
        StateDir::lock(dir)?.replace(IDENTITY_FILE, self.pem(&leaf.certificate).as_bytes())?;
        self.leaf.store(Arc::new(leaf));
        Ok(until)
    }

    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.leaf.load().not_after
    }

    fn shown(&self) -> Arc<CertifiedKey> {
        self.leaf.load().shown.clone()
    }

    /// ECDSA P-256 with SHA-256, by the node's own key.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        ca::sign(&self.key, message)
    }

    /// The same by the CA's key, if it is here.
    #[must_use]
    pub fn ca_sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.ca.as_ref().map(|ca| ca::sign(&ca.key, message))
    }

    /// A secret that this node alone can make, and makes again after a restart; `purpose` tells it from others.
    #[must_use]
    pub fn secret(&self, purpose: &[u8]) -> [u8; 32] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.key.serialized_der());
        let mut secret = [0; 32];
        secret.copy_from_slice(ring::hmac::sign(&key, purpose).as_ref());
        secret
    }

    #[must_use]
    pub fn is_issuer(&self) -> bool {
        self.ca.is_some()
    }

    #[must_use]
    pub fn certificate_der(&self) -> CertificateDer<'static> {
        self.leaf.load().certificate.clone()
    }

    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    pub(in crate::io) fn issue(
        &self,
        key: &RequestedKey,
        name: &str,
        role: Role,
    ) -> Result<CertificateDer<'static>, IdentityError> {
        let ca = self.ca.as_ref().ok_or_else(|| IdentityError::ours("no CA key here"))?;
        let names = LeafNames { cluster: self.cluster, node: key.node, name, role, issuer: false };
        Ok(ca.issue(&key.key, &names, SystemTime::now())?)
    }
}

/// What the certificate says, and how it is shown, if it is this key's and this cluster's.
fn leaf(
    key: &KeyPair,
    certificate: CertificateDer<'static>,
    trust: &Trust,
) -> Result<(MemberCert, Leaf), CertError> {
    let member = trust.verify_member(&certificate)?;
    let own = node_id(&key.subject_public_key_info());
    if member.node != own {
        return Err(CertError::OtherKey { named: member.node, key: own });
    }
    let shown = tls::certified_key(key, &certificate, trust)
        .map_err(|error| CertError::Malformed(error.to_string()))?;
    let leaf = Leaf { not_after: member.not_after, certificate, shown: Arc::new(shown) };
    Ok((member, leaf))
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?}, node {}, cluster {}, keys hidden)", self.name, self.node, self.cluster)
    }
}

/// A node's key before it has a certificate.
pub(in crate::io) struct Applicant(KeyPair);

impl Applicant {
    pub fn new() -> Result<Applicant, IdentityError> {
        Ok(Applicant(ca::new_key()?))
    }

    pub fn csr(&self) -> Result<Vec<u8>, IdentityError> {
        Ok(ca::certificate_request(&self.0)?)
    }

    /// The identity that this certificate makes of the key. It is on no disk yet.
    pub fn accept(self, certificate: &[u8], trust: Trust) -> Result<Identity, CertError> {
        Identity::new(self.0, CertificateDer::from(certificate).into_owned(), trust, None)
    }
}

fn load_ca(dir: &Path, trust: &Trust) -> Result<Option<Ca>, IdentityError> {
    let path = dir.join(CA_KEY_FILE);
    let Some(pem) = read_private(&path)? else { return Ok(None) };
    let key = read_key(&path, &pem)?;
    if cluster_id(&key.subject_public_key_info()) != trust.cluster() {
        let what = format!("it is not the key of the CA in {IDENTITY_FILE}");
        return Err(IdentityError::Damaged { path, what });
    }
    Ok(Some(Ca { certificate: trust.ca_der().clone(), key }))
}

fn read_key(path: &Path, pem: &[u8]) -> Result<KeyPair, IdentityError> {
    let damaged = |what: String| IdentityError::Damaged { path: path.into(), what };
    let der =
        rustls::pki_types::PrivateKeyDer::from_pem_slice(pem).map_err(|error| damaged(error.to_string()))?;
    KeyPair::try_from(&der).map_err(|error| damaged(error.to_string()))
}

fn certificate_pem(certificate: &[u8]) -> String {
    let base64 = data_encoding::BASE64.encode(certificate);
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    hash
}

fn half_hash(spki: &[u8]) -> [u8; 16] {
    let mut head = [0; 16];
    head.copy_from_slice(&sha256(spki)[..16]);
    head
}

fn node_id(spki: &[u8]) -> NodeId {
    NodeId(half_hash(spki))
}

fn cluster_id(spki: &[u8]) -> ClusterId {
    ClusterId(half_hash(spki))
}

pub(in crate::io) fn random<const N: usize>() -> Result<[u8; N], rcgen::Error> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| rcgen::Error::RingUnspecified)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn fresh() -> (tempfile::TempDir, Identity) {
        let dir = tempfile::tempdir().unwrap();
        let identity = init(dir.path(), "lb1", Role::Member).unwrap();
        (dir, identity)
    }

    #[test]
    fn what_init_makes_is_what_load_finds() {
        let (dir, made) = fresh();
        let loaded = Identity::load(dir.path()).unwrap();
        assert_eq!((loaded.node, &loaded.name, loaded.role), (made.node, &made.name, made.role));
        assert_eq!((loaded.cluster, loaded.not_after()), (made.cluster, made.not_after()));
        assert!(loaded.is_issuer());
        assert!(loaded.trust().verify_member(&loaded.certificate_der()).unwrap().issuer);
        for file in [IDENTITY_FILE, CA_KEY_FILE] {
            assert_eq!(fs::metadata(dir.path().join(file)).unwrap().permissions().mode() & 0o7777, 0o600);
        }
    }

    #[test]
    fn signatures_hold_for_their_key_and_message() {
        let (_dir, identity) = fresh();
        let trust = identity.trust();
        let signature = identity.sign(b"m");
        let certificate = &identity.certificate_der();
        assert_eq!(trust.verify_signature(certificate, b"m", &signature).unwrap().node, identity.node);
        assert_eq!(trust.verify_signature(certificate, b"n", &signature), Err(CertError::BadSignature));
        let by_ca = identity.ca_sign(b"m").unwrap();
        assert_eq!(trust.verify_ca_signature(b"m", &by_ca), Ok(()));
        assert_eq!(trust.verify_ca_signature(b"m", &signature), Err(CertError::BadSignature));
        assert_eq!(trust.verify_ca_signature(b"m", b""), Err(CertError::BadSignature));
    }

    #[test]
    fn a_renewed_certificate_is_the_same_for_another_life() {
        let (dir, identity) = fresh();
        let (before, until) = (identity.certificate_der(), identity.not_after());
        assert!(identity.renews_at() < until && identity.renews_at() + LEAF_LIFE / 2 >= until);
        // Validity counts in whole seconds.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let again = identity.reissue(&before).unwrap();
        assert!(identity.renew(dir.path(), &again).unwrap() > until);
        assert!(identity.renew(dir.path(), &before).is_err(), "an older one is none");
        let loaded = Identity::load(dir.path()).unwrap();
        assert_eq!((loaded.node, loaded.not_after()), (identity.node, identity.not_after()));
        assert!(loaded.trust().verify_member(&loaded.certificate_der()).unwrap().issuer);
        let (_, other) = fresh();
        assert!(identity.reissue(&other.certificate_der()).is_err(), "another cluster's");
    }

    #[test]
    fn an_identity_is_never_overwritten() {
        let (dir, made) = fresh();
        assert!(matches!(init(dir.path(), "lb2", Role::Member), Err(IdentityError::Exists { .. })));
        fs::remove_file(dir.path().join(IDENTITY_FILE)).unwrap();
        let error = init(dir.path(), "lb2", Role::Member).unwrap_err().to_string();
        assert!(error.contains("ca.key is kept"), "{error}");
        drop(made);
    }

    #[test]
    fn each_damage_names_its_file() {
        let empty = tempfile::tempdir().unwrap();
        let error = Identity::load(empty.path()).unwrap_err().to_string();
        assert!(error.contains("haclusterd init") && error.contains("haclusterd join"), "{error}");

        let (dir, _) = fresh();
        let (identity, ca_key) = (dir.path().join(IDENTITY_FILE), dir.path().join(CA_KEY_FILE));
        let good = fs::read_to_string(&identity).unwrap();
        let cut = good.rfind("-----BEGIN").unwrap();
        for (damage, part) in
            [("garbage", "damaged"), (&good[..cut], "no certificate of the CA"), ("", "damaged")]
        {
            fs::write(&identity, damage).unwrap();
            let error = Identity::load(dir.path()).unwrap_err().to_string();
            assert!(error.contains("identity.pem") && error.contains(part), "{error}");
        }
        fs::write(&identity, &good).unwrap();
        fs::write(&ca_key, fresh().1.key.serialize_pem()).unwrap();
        let error = Identity::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("ca.key is damaged"), "{error}");
        fs::set_permissions(&identity, Permissions::from_mode(0o644)).unwrap();
        let error = Identity::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("mode 0644") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn nothing_secret_is_printed() {
        let (_dir, identity) = fresh();
        assert!(format!("{identity:?}").ends_with("keys hidden)"));
    }
}
