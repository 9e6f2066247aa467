//! The cluster's certificate authority: how long and for what a certificate is good, and the key that signs it.

use super::names::LeafNames;
use super::{cluster_id, node_id};
use haclusterd_proto::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SerialNumber, SigningKey,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use std::time::{Duration, SystemTime};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// A stolen key is worth something for this long.
pub const LEAF_LIFE: Duration = DAY.saturating_mul(30);
/// A CA outlives the machines. Nobody reads these dates: trust in it is by its key.
const CA_LIFE: Duration = DAY.saturating_mul(20 * 365);
/// For peers whose clocks are behind the issuer's.
const BACKDATED: Duration = HOUR;

pub(super) struct Ca {
    pub certificate: CertificateDer<'static>,
    pub key: KeyPair,
}

/// The key of a CSR whose own signature holds. Its other wishes are not heard.
pub(in crate::io) struct RequestedKey {
    pub node: NodeId,
    pub key: rcgen::PublicKey,
}

pub(super) fn new_key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

pub(super) fn certificate_request(key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    Ok(CertificateParams::default().serialize_request(key)?.der().to_vec())
}

/// Our key signs what is not a certificate. Only the kernel's random source could fail here, and it does not.
pub(super) fn sign(key: &KeyPair, message: &[u8]) -> Vec<u8> {
    key.sign(message).expect("the kernel has random bytes after boot")
}

impl Ca {
    pub fn generate(now: SystemTime) -> Result<Ca, rcgen::Error> {
        let key = new_key()?;
        let cluster = cluster_id(&key.subject_public_key_info());
        let mut params = params(&format!("haclusterd cluster {cluster}"), now, CA_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Ca { certificate, key })
    }

    pub fn issue(
        &self,
        key: &impl PublicKeyData,
        names: &LeafNames<'_>,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>, rcgen::Error> {
        let mut params = params(names.name, now, LEAF_LIFE)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = names.subject_alt_names()?;
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key)?;
        Ok(params.signed_by(key, &issuer)?.der().clone())
    }
}

impl RequestedKey {
    pub fn parse(csr: &[u8]) -> Result<RequestedKey, String> {
        let csr = CertificateSigningRequestDer::from(csr);
        let parsed =
            CertificateSigningRequestParams::from_der(&csr).map_err(|error| format!("bad CSR: {error}"))?;
        let key = parsed.public_key;
        if *PublicKeyData::algorithm(&key) != PKCS_ECDSA_P256_SHA256 {
            return Err("the CSR's key is not ECDSA P-256".into());
        }
        Ok(RequestedKey { node: node_id(&key.subject_public_key_info()), key })
    }
}

fn params(common_name: &str, now: SystemTime, life: Duration) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + life).into();
    let mut serial: [u8; 16] = super::random()?;
    serial[0] &= 0x7f; // a positive number
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}
