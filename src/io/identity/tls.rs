//! Who may speak to whom: TLS 1.3 in QUIC, both ends shown by certificates of the cluster.
//!
//! Two protocols share the port. `haclusterd/1` asks the client for a certificate and ends the handshake without
//! one. `hacl-join/1` is for nodes that have none yet; it asks for none, and nothing but a join may follow it.
//! Which of the two it is stands in the first message of the client, so each connection gets a configuration of
//! its own that waits for this message. No tickets, no resumption, no early data: every connection is verified.

use super::names::SERVER_NAME;
use super::trust::{CertError, MemberCert, Trust};
use super::{Identity, IdentityError};
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::crypto::{self, Keys, Session, UnsupportedVersion};
use rcgen::KeyPair;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The members' own protocol; its number changes with what they say to each other.
pub const CLUSTER_PROTOCOL: &[u8] = b"haclusterd/1";
pub const JOIN_PROTOCOL: &[u8] = b"hacl-join/1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Cluster,
    Join,
}

/// For the endpoint of a member. The caller sets the transport parameters.
pub fn server_config(identity: &Arc<Identity>) -> Result<quinn::ServerConfig, IdentityError> {
    let reception = Reception::new(identity.clone()).map_err(IdentityError::ours)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(reception));
    config.migration(false);
    Ok(config)
}

/// From member to member.
pub fn client_config(identity: &Arc<Identity>) -> Result<quinn::ClientConfig, IdentityError> {
    let config = client_builder(Arc::new(Members(identity.trust().clone())))
        .map_err(IdentityError::ours)?
        .with_client_cert_resolver(Arc::new(Own(identity.clone())));
    quic_client(config, CLUSTER_PROTOCOL)
}

/// From a node that knows nothing of the cluster but the hash of its CA's key.
pub fn client_config_for_join(
    ca_hash: [u8; 32],
) -> Result<(quinn::ClientConfig, Arc<FirstSight>), IdentityError> {
    let first_sight = Arc::new(FirstSight { ca_hash, failure: Mutex::new(None) });
    let config = client_builder(first_sight.clone()).map_err(IdentityError::ours)?.with_no_client_auth();
    Ok((quic_client(config, JOIN_PROTOCOL)?, first_sight))
}

/// The name to give to `quinn::Endpoint::connect`.
#[must_use]
pub fn server_name() -> &'static str {
    SERVER_NAME
}

/// Which protocol a connection has agreed on.
#[must_use]
pub fn protocol_of(connection: &quinn::Connection) -> Option<Protocol> {
    let data = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
    match data.protocol?.as_slice() {
        CLUSTER_PROTOCOL => Some(Protocol::Cluster),
        JOIN_PROTOCOL => Some(Protocol::Join),
        _ => None,
    }
}

/// The member at the other end. `None` on a connection of the join protocol: whoever that is, it is not a member.
#[must_use]
pub fn peer_of(connection: &quinn::Connection) -> Option<MemberCert> {
    if protocol_of(connection) != Some(Protocol::Cluster) {
        return None;
    }
    MemberCert::of_verified(peer_chain(connection).first()?)
}

/// The certificates that the other end has shown, its own first.
pub(crate) fn peer_chain(connection: &quinn::Connection) -> Vec<CertificateDer<'static>> {
    let chain =
        connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    chain.map(|chain| *chain).unwrap_or_default()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The CA goes along, because a joining node knows only its hash.
pub(super) fn certified_key(
    key: &KeyPair,
    certificate: &CertificateDer<'static>,
    trust: &Trust,
) -> Result<CertifiedKey, rustls::Error> {
    let chain = vec![certificate.clone(), trust.ca_der().clone()];
    let key =
        PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| rustls::Error::General(error.into()))?;
    CertifiedKey::from_der(chain, key, &provider())
}

/// The client's side shows what is good when it is asked: a certificate may have been renewed.
#[derive(Debug)]
struct Own(Arc<Identity>);

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.shown())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn client_builder(
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert>, rustls::Error> {
    let builder = rustls::ClientConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

fn quic_client(
    mut config: rustls::ClientConfig,
    protocol: &[u8],
) -> Result<quinn::ClientConfig, IdentityError> {
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_early_data = false;
    let quic = QuicClientConfig::try_from(config).map_err(IdentityError::ours)?;
    Ok(quinn::ClientConfig::new(Arc::new(quic)))
}

/// Makes the TLS configuration of each incoming connection.
struct Reception {
    identity: Arc<Identity>,
    /// For what is the same for every connection.
    common: Arc<QuicServerConfig>,
}

impl Reception {
    fn new(identity: Arc<Identity>) -> Result<Reception, rustls::Error> {
        let common = Arc::new(session_config(&identity)?);
        Ok(Reception { identity, common })
    }
}

fn session_config(identity: &Identity) -> Result<QuicServerConfig, rustls::Error> {
    let members = Members(identity.trust().clone());
    let door = Arc::new(Door { key: identity.shown(), members, joining: AtomicBool::new(false) });
    let builder = rustls::ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = builder.with_client_cert_verifier(door.clone()).with_cert_resolver(door);
    config.alpn_protocols = vec![CLUSTER_PROTOCOL.to_vec(), JOIN_PROTOCOL.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    QuicServerConfig::try_from(config).map_err(|error| rustls::Error::General(error.to_string()))
}

impl crypto::ServerConfig for Reception {
    fn initial_keys(&self, version: u32, id: &quinn::ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.common.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, id: &quinn::ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.common.retry_tag(version, id, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &quinn_proto::transport_parameters::TransportParameters,
    ) -> Box<dyn Session> {
        let config = session_config(&self.identity).expect("the same was built at start");
        Arc::new(config).start_session(version, params)
    }
}

/// The same for all verifiers: TLS 1.3 only, and all our keys are of one kind.
macro_rules! handshake_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Err(rustls::Error::General("TLS 1.2 is not spoken here".into()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
            verify_tls13_signature(message, certificate, signature, &algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ECDSA_NISTP256_SHA256]
        }
    };
}

/// The server's side of one handshake.
#[derive(Debug)]
struct Door {
    key: Arc<CertifiedKey>,
    members: Members,
    /// The client offers the join protocol and no other, so that no other can be agreed on.
    joining: AtomicBool,
}

impl ResolvesServerCert for Door {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let joining =
            hello.alpn().is_some_and(|mut offered| offered.all(|protocol| protocol == JOIN_PROTOCOL));
        self.joining.store(joining, Ordering::Relaxed);
        Some(self.key.clone())
    }
}

impl ClientCertVerifier for Door {
    fn offer_client_auth(&self) -> bool {
        !self.joining.load(Ordering::Relaxed)
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.members.0.verify_member_at(end_entity, now).map_err(tls_error)?;
        Ok(ClientCertVerified::assertion())
    }

    handshake_signatures!();
}

/// The client's side: the server must be a member.
#[derive(Debug)]
struct Members(Trust);

impl ServerCertVerifier for Members {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.verify_member_at(end_entity, now).map_err(tls_error)?;
        Ok(ServerCertVerified::assertion())
    }

    handshake_signatures!();
}

/// The joining client's side: the server must be a member of the cluster whose CA key has this hash.
#[derive(Debug)]
pub struct FirstSight {
    ca_hash: [u8; 32],
    failure: Mutex<Option<CertError>>,
}

impl FirstSight {
    /// Why the server was not trusted; QUIC itself says only that the handshake failed.
    #[must_use]
    pub fn failure(&self) -> Option<CertError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn verify(
        &self,
        end_entity: &[u8],
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(Trust, MemberCert), CertError> {
        let trust = Trust::by_hash(chain, &self.ca_hash)?;
        let member = trust.verify_member_at(end_entity, now)?;
        Ok((trust, member))
    }
}

impl ServerCertVerifier for FirstSight {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, now).map_err(|error| {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
            tls_error(error)
        })?;
        Ok(ServerCertVerified::assertion())
    }

    handshake_signatures!();
}

fn tls_error(error: CertError) -> rustls::Error {
    match error {
        CertError::OtherCluster => CertificateError::UnknownIssuer.into(),
        CertError::Expired(_) => CertificateError::Expired.into(),
        CertError::NotYetValid(_) => CertificateError::NotValidYet.into(),
        other => CertificateError::Other(OtherError(Arc::new(other))).into(),
    }
}
