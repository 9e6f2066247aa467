//! The new node's side of a join. Nothing is sent before the issuer has shown that it belongs to the cluster of
//! the token, and nothing is kept before all of its answer has been verified.

use super::{BUSY, DONE, exporter};
use crate::io::identity::store::StateDir;
use crate::io::identity::tls::{FirstSight, client_config_for_join, peer_chain};
use crate::io::identity::{
    Applicant, CertError, Identity, IdentityError, SERVER_NAME, Trust, refuse_existing,
};
use haclusterd_proto::Role;
use haclusterd_proto::codec;
use haclusterd_proto::join::{
    Accepted, JoinRefusal, JoinReply, JoinRequest, MAX_PEERS, MAX_REQUEST, MAX_SETTINGS,
};
use haclusterd_proto::token::Token;
use haclusterd_proto::units::check_name;
use rustls::pki_types::{CertificateDer, UnixTime};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

/// From the first packet to the answer. An issuer that is there answers within a second.
const PATIENCE: Duration = Duration::from_secs(10);
/// TLS alert `no_application_protocol` as QUIC carries it (RFC 9001 4.8).
const NO_SUCH_PROTOCOL: u64 = 0x100 + 120;

#[derive(Debug, Clone)]
pub struct NodeRequest {
    pub name: String,
    pub role: Role,
    /// Where the new node will answer its peers.
    pub listen: SocketAddr,
    pub state_dir: PathBuf,
}

/// The identity is on the disk.
#[derive(Debug)]
pub struct Joined {
    pub identity: Identity,
    pub cluster_name: Option<String>,
    pub peers: Vec<SocketAddr>,
    /// The cluster's shared settings as TOML, as the issuer sent them.
    pub settings: String,
}

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(
        "{peer} does not answer within {} s: is haclusterd running there, and does a firewall let UDP port {} through?",
        PATIENCE.as_secs(), peer.port()
    )]
    Unreachable { peer: SocketAddr },
    #[error("nothing listens on UDP {peer}: start haclusterd there, or check address and port")]
    NothingListens { peer: SocketAddr },
    #[error("cannot reach {peer} from {bind}: {what}; check the addresses")]
    NoPath { peer: SocketAddr, bind: SocketAddr, what: String },
    #[error("{peer} is not of the cluster that the token is for: check the address, or make a token there")]
    WrongCluster { peer: SocketAddr },
    #[error(
        "this host's clock and the cluster's differ by more than a day ({source}): set the clock and join again"
    )]
    Clock { source: CertError },
    #[error("{peer} shows a certificate that cannot be trusted: {source}")]
    Untrusted { peer: SocketAddr, source: CertError },
    #[error("{peer} does not speak our join protocol ({what}): is it haclusterd, and of the same release?")]
    NotHaclusterd { peer: SocketAddr, what: String },
    #[error("{peer} has too many joins at once: try again in a few seconds")]
    Busy { peer: SocketAddr },
    #[error("refused: {0}")]
    Refused(JoinRefusal),
    #[error(
        "the connection to {peer} was lost before its answer came ({what}): nothing was kept here, but the token \
         may have been used (`haclusterd token list` on the issuer)"
    )]
    Lost { peer: SocketAddr, what: String },
    #[error(
        "{peer} has sent an answer that is not as it must be ({what}): nothing was kept; run the same release on both"
    )]
    BadAnswer { peer: SocketAddr, what: String },
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl JoinError {
    /// 10 to 29, one for each cause that a script may want to tell from the others.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            JoinError::Unreachable { .. } | JoinError::NothingListens { .. } | JoinError::NoPath { .. } => 10,
            JoinError::WrongCluster { .. } => 11,
            JoinError::Clock { .. } => 12,
            JoinError::NotHaclusterd { .. } | JoinError::Untrusted { .. } => 13,
            JoinError::Busy { .. } => 14,
            JoinError::Lost { .. } | JoinError::BadAnswer { .. } => 15,
            JoinError::Identity(_) => 16,
            JoinError::Refused(refusal) => match refusal {
                JoinRefusal::UnknownToken => 20,
                JoinRefusal::Expired { .. } => 21,
                JoinRefusal::Used { .. } => 22,
                JoinRefusal::Revoked => 23,
                JoinRefusal::WrongName { .. } => 24,
                JoinRefusal::WrongRole { .. } => 25,
                JoinRefusal::NameTaken { .. } => 26,
                JoinRefusal::BadProof => 27,
                JoinRefusal::NotIssuer { .. } => 28,
                JoinRefusal::BadRequest(_)
                | JoinRefusal::StateNotWritable(_)
                | JoinRefusal::IssuerFailed(_) => 29,
            },
        }
    }
}

/// `bind` is this node's own address; its port may be 0.
pub async fn join(
    peer: SocketAddr,
    bind: SocketAddr,
    token: &Token,
    request: NodeRequest,
) -> Result<Joined, JoinError> {
    check_name(&request.name).map_err(IdentityError::from)?;
    check_state_dir(&request)?;
    let deadline = Instant::now() + PATIENCE;
    let (config, first_sight) = client_config_for_join(token.ca_hash)?;
    let no_path = |what: String| JoinError::NoPath { peer, bind, what };
    let endpoint = quinn::Endpoint::client(bind).map_err(|error| no_path(error.to_string()))?;
    let connecting =
        endpoint.connect_with(config, peer, SERVER_NAME).map_err(|error| no_path(error.to_string()))?;
    let connection = tokio::select! {
        error = nothing_listens(peer, bind) => Err(error),
        connected = timeout_at(deadline, connecting) => match connected {
            Ok(connected) => connected.map_err(|error| not_connected(peer, &first_sight, error)),
            Err(_) => Err(JoinError::Unreachable { peer }),
        },
    }?;
    let joined = timeout_at(deadline, converse(&connection, token, request, &first_sight)).await;
    connection.close(DONE, b"done");
    endpoint.wait_idle().await;
    joined.map_err(|_| JoinError::Lost { peer, what: "no answer in time".into() })?
}

/// Before the token is used: what would fail afterwards fails now.
fn check_state_dir(request: &NodeRequest) -> Result<(), IdentityError> {
    refuse_existing(&request.state_dir)?;
    Ok(StateDir::lock(&request.state_dir)?.check_room()?)
}

async fn converse(
    connection: &quinn::Connection,
    token: &Token,
    node: NodeRequest,
    first_sight: &FirstSight,
) -> Result<Joined, JoinError> {
    let peer = connection.remote_address();
    let chain = peer_chain(connection);
    let untrusted = |source| JoinError::Untrusted { peer, source };
    let leaf = chain.first().ok_or(JoinError::WrongCluster { peer })?;
    let (trust, issuer) = first_sight.verify(leaf, &chain, UnixTime::now()).map_err(untrusted)?;

    let applicant = Applicant::new()?;
    let request = JoinRequest {
        version: env!("CARGO_PKG_VERSION").into(),
        name: node.name.clone(),
        role: node.role,
        listen: node.listen,
        csr: applicant.csr()?,
        token: token.id,
        proof: [0; 32],
    };
    let request = request.proven(&token.key(), &exporter(connection));
    let accepted = match ask(connection, &request).await? {
        JoinReply::Accepted(accepted) => accepted,
        JoinReply::Refused(refusal) => return Err(JoinError::Refused(refusal)),
    };
    if !issuer.issuer {
        return Err(JoinError::BadAnswer {
            peer,
            what: "its certificate does not let it accept nodes".into(),
        });
    }
    keep(peer, accepted, applicant, token, trust, node)
}

async fn ask(connection: &quinn::Connection, request: &JoinRequest) -> Result<JoinReply, JoinError> {
    let peer = connection.remote_address();
    let bytes = codec::encode(request, MAX_REQUEST)
        .map_err(|error| JoinError::Identity(IdentityError::Ours(error.to_string())))?;
    let exchange = async {
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(&bytes).await?;
        send.finish()?;
        receive.read_to_end(codec::MAX).await.map_err(io::Error::other)
    };
    match exchange.await {
        Ok(reply) => {
            codec::decode(&reply).map_err(|error| JoinError::BadAnswer { peer, what: error.to_string() })
        }
        Err(error) => Err(match connection.close_reason() {
            Some(quinn::ConnectionError::ApplicationClosed(close)) if close.error_code == BUSY => {
                JoinError::Busy { peer }
            }
            Some(reason) => JoinError::Lost { peer, what: reason.to_string() },
            None => JoinError::Lost { peer, what: error.to_string() },
        }),
    }
}

/// Verifies the whole answer, then writes the identity.
fn keep(
    peer: SocketAddr,
    accepted: Accepted,
    applicant: Applicant,
    token: &Token,
    trust: Trust,
    node: NodeRequest,
) -> Result<Joined, JoinError> {
    let bad = |what: &str| JoinError::BadAnswer { peer, what: what.into() };
    let Accepted { cluster, cluster_name, certificate, ca, peers, settings } = accepted;
    let ca: Vec<CertificateDer<'_>> = ca.into_iter().map(CertificateDer::from).collect();
    if cluster != trust.cluster() || Trust::by_hash(&ca, &token.ca_hash).is_err() {
        return Err(bad("another cluster than the token's"));
    }
    if peers.len() > MAX_PEERS || settings.len() > MAX_SETTINGS {
        return Err(bad("more peers or settings than there may be"));
    }
    let identity = applicant.accept(&certificate, trust).map_err(|source| match source {
        CertError::Expired(_) | CertError::NotYetValid(_) => JoinError::Clock { source },
        other => bad(&other.to_string()),
    })?;
    if identity.name != node.name || identity.role != node.role {
        return Err(bad("a certificate for another name or role"));
    }
    let state = StateDir::lock(&node.state_dir).map_err(IdentityError::from)?;
    refuse_existing(&node.state_dir)?;
    identity.save(&state)?;
    Ok(Joined { identity, cluster_name, peers, settings })
}

/// QUIC alone would wait: it does not see that the port is closed. A connected socket does, if the host says so.
async fn nothing_listens(peer: SocketAddr, bind: SocketAddr) -> JoinError {
    let refused = async {
        let socket = UdpSocket::bind((bind.ip(), 0)).await.ok()?;
        socket.connect(peer).await.ok()?;
        // One byte is no QUIC packet, so a peer that listens ignores it.
        socket.send(&[0]).await.ok()?;
        let error = socket.recv(&mut [0; 1]).await.err()?;
        (error.kind() == io::ErrorKind::ConnectionRefused).then_some(())
    };
    if refused.await.is_none() {
        std::future::pending::<()>().await;
    }
    JoinError::NothingListens { peer }
}

fn not_connected(
    peer: SocketAddr,
    first_sight: &Arc<FirstSight>,
    error: quinn::ConnectionError,
) -> JoinError {
    use quinn::ConnectionError::{ApplicationClosed, ConnectionClosed, TimedOut, VersionMismatch};
    match (first_sight.failure(), error) {
        (Some(CertError::OtherCluster), _) => JoinError::WrongCluster { peer },
        (Some(source @ (CertError::Expired(_) | CertError::NotYetValid(_))), _) => {
            JoinError::Clock { source }
        }
        (Some(source), _) => JoinError::Untrusted { peer, source },
        (None, TimedOut) => JoinError::Unreachable { peer },
        (None, VersionMismatch) => JoinError::NotHaclusterd { peer, what: "another QUIC version".into() },
        (None, ConnectionClosed(close)) if u64::from(close.error_code) == NO_SUCH_PROTOCOL => {
            JoinError::NotHaclusterd { peer, what: "no such protocol".into() }
        }
        (None, ApplicationClosed(close)) if close.error_code == BUSY => JoinError::Busy { peer },
        (None, other) => JoinError::NotHaclusterd { peer, what: other.to_string() },
    }
}
