//! The issuer's side of a join. Any member answers, but one without the CA's key only says where to go.

use super::{BROKEN, BUSY, DONE, exporter};
use crate::io::identity::{Identity, RequestedKey};
use crate::io::tokens::{Desk, TokensError};
use haclusterd_proto::codec;
use haclusterd_proto::join::{
    Accepted, Exporter, JoinRefusal, JoinReply, JoinRequest, MAX_PEERS, MAX_REQUEST, MAX_SETTINGS,
};
use haclusterd_proto::units::check_name;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// A request is one small message, sent at once; and a reply is read at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// Joins are rare. Everybody who reaches the port may begin one, so their number is bounded.
const MAX_AT_ONCE: usize = 8;

/// What a new node is told of the cluster.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    pub cluster_name: Option<String>,
    /// At most [`MAX_PEERS`] are told.
    pub peers: Vec<SocketAddr>,
    /// The shared settings as TOML, at most [`MAX_SETTINGS`] bytes.
    pub settings: String,
    /// The member that issues certificates, if it is another.
    pub issuer: Option<String>,
}

pub struct JoinServer {
    dir: PathBuf,
    identity: Arc<Identity>,
    offer: Box<dyn Fn() -> Offer + Send + Sync>,
    slots: Semaphore,
    pub counters: JoinCounters,
}

#[derive(Debug, Default)]
pub struct JoinCounters {
    pub accepted: AtomicU64,
    /// A proper request, and the answer was no.
    pub refused: AtomicU64,
    /// Too many at once.
    pub busy: AtomicU64,
    /// No request, or not one that can be read.
    pub broken: AtomicU64,
}

impl JoinServer {
    pub fn new(
        dir: PathBuf,
        identity: Arc<Identity>,
        offer: impl Fn() -> Offer + Send + Sync + 'static,
    ) -> JoinServer {
        let slots = Semaphore::new(MAX_AT_ONCE);
        JoinServer { dir, identity, offer: Box::new(offer), slots, counters: JoinCounters::default() }
    }

    /// Serves a connection that has agreed on the join protocol, to its end.
    pub async fn serve(self: Arc<Self>, connection: quinn::Connection) {
        let Ok(_slot) = self.slots.try_acquire() else {
            self.counters.busy.fetch_add(1, Relaxed);
            return connection.close(BUSY, b"too many joins at once");
        };
        match self.converse(&connection).await {
            Ok(()) => connection.close(DONE, b"done"),
            Err(what) => {
                self.counters.broken.fetch_add(1, Relaxed);
                // Everybody can cause this line, so it is not for the ordinary log.
                tracing::debug!(peer = %connection.remote_address(), what, "broken join");
                connection.close(BROKEN, what.as_bytes());
            }
        }
    }

    async fn converse(self: &Arc<Self>, connection: &quinn::Connection) -> Result<(), String> {
        let receive = async {
            let (send, mut receive) = connection.accept_bi().await.map_err(|error| error.to_string())?;
            let bytes = receive.read_to_end(MAX_REQUEST).await.map_err(|error| error.to_string())?;
            Ok::<_, String>((send, bytes))
        };
        let (mut send, bytes) = timeout(PATIENCE, receive).await.map_err(|_| "no request in time")??;
        let reply = self.reply(connection, bytes).await?;
        let bytes = codec::encode(&reply, codec::MAX).map_err(|error| error.to_string())?;
        let deliver = async {
            send.write_all(&bytes).await.map_err(|error| error.to_string())?;
            send.finish().map_err(|error| error.to_string())?;
            // The other end has it all, or is gone.
            let _ = send.stopped().await;
            Ok::<_, String>(())
        };
        timeout(PATIENCE, deliver).await.map_err(|_| "the reply was not read in time")?
    }

    async fn reply(
        self: &Arc<Self>,
        connection: &quinn::Connection,
        bytes: Vec<u8>,
    ) -> Result<JoinReply, String> {
        let request: JoinRequest = match codec::decode(&bytes) {
            Ok(request) => request,
            Err(error) => return Ok(self.refused(JoinRefusal::BadRequest(error.to_string()))),
        };
        let (this, peer, exporter) = (self.clone(), connection.remote_address(), exporter(connection));
        // The disk may be slow; the runtime has other things to do.
        let answer = tokio::task::spawn_blocking(move || {
            let answer = this.answer(&request, &exporter);
            log(&request, peer, &answer);
            answer
        });
        Ok(match answer.await.map_err(|error| error.to_string())? {
            Ok(accepted) => {
                self.counters.accepted.fetch_add(1, Relaxed);
                JoinReply::Accepted(accepted)
            }
            Err(refusal) => self.refused(refusal),
        })
    }

    fn refused(&self, refusal: JoinRefusal) -> JoinReply {
        self.counters.refused.fetch_add(1, Relaxed);
        JoinReply::Refused(refusal)
    }

    /// Everything that can be refused is refused before the token is used; everything that costs more than a
    /// look-up comes after the proof.
    fn answer(&self, request: &JoinRequest, exporter: &Exporter) -> Result<Accepted, JoinRefusal> {
        let offer = (self.offer)();
        if !self.identity.is_issuer() {
            return Err(JoinRefusal::NotIssuer { issuer: offer.issuer });
        }
        if offer.settings.len() > MAX_SETTINGS {
            let what = format!("its shared settings are larger than {MAX_SETTINGS} bytes");
            return Err(JoinRefusal::IssuerFailed(what));
        }
        let desk = Desk::open(&self.dir).map_err(unwritable)?;
        let key = desk.key(request.token).ok_or(JoinRefusal::UnknownToken)?;
        if !request.proof_holds(&key, exporter) {
            return Err(JoinRefusal::BadProof);
        }
        check_name(&request.name).map_err(|error| JoinRefusal::BadRequest(error.to_string()))?;
        if request.name == self.identity.name {
            return Err(JoinRefusal::NameTaken { by: self.identity.node });
        }
        let key = RequestedKey::parse(&request.csr).map_err(JoinRefusal::BadRequest)?;
        desk.redeem(request.token, &request.name, request.role, key.node)?;
        let certificate = self
            .identity
            .issue(&key, &request.name, request.role)
            .map_err(|error| JoinRefusal::IssuerFailed(error.to_string()))?;
        Ok(self.accepted(&certificate, offer))
    }

    fn accepted(&self, certificate: &[u8], offer: Offer) -> Accepted {
        Accepted {
            cluster: self.identity.cluster,
            cluster_name: offer.cluster_name,
            certificate: certificate.to_vec(),
            ca: vec![self.identity.trust().ca_der().to_vec()],
            peers: offer.peers.into_iter().take(MAX_PEERS).collect(),
            settings: offer.settings,
        }
    }
}

impl std::fmt::Debug for JoinServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinServer({:?}, {:?})", self.identity, self.counters)
    }
}

fn unwritable(error: TokensError) -> JoinRefusal {
    JoinRefusal::StateNotWritable(error.to_string())
}

/// Only who has proven a token's secret gets a line in the ordinary log: there are at most as many as joins.
fn log(request: &JoinRequest, peer: SocketAddr, answer: &Result<Accepted, JoinRefusal>) {
    let JoinRequest { name, role, listen, version, token, .. } = request;
    match answer {
        Ok(_) => tracing::info!(%peer, name, %role, %listen, version, %token, "a node has joined"),
        Err(why @ (JoinRefusal::UnknownToken | JoinRefusal::BadProof | JoinRefusal::NotIssuer { .. })) => {
            tracing::debug!(%peer, %token, %why, "join refused")
        }
        Err(why) => tracing::warn!(%peer, name, version, %token, %why, "join refused"),
    }
}
