//! The endpoint: kept open, and who may come in through it.

use super::{Event, JOIN_ALPN, Shared, code, link, locked};
use haclusterd_proto::NodeId;
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, ConnectionError, Endpoint, Incoming};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

/// Handshakes at a time, for they cost signatures and nobody knows yet who it is.
pub(super) const HANDSHAKES: usize = 16;
/// With fewer places than this left, a client must first show that its address is not forged.
const HANDSHAKES_RESERVED: usize = 8;
/// Nodes that are joining at a time. They are strangers, and each holds a connection.
pub(super) const JOINS: usize = 8;
const HANDSHAKE_TIME: Duration = Duration::from_secs(2);
/// Longer than a joining node waits.
const JOIN_TIME: Duration = Duration::from_secs(30);
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

/// Ends only with the transport. No error of the network ends an endpoint, but a defect may.
pub(super) async fn supervise(shared: Arc<Shared>, mut endpoint: Endpoint) {
    loop {
        while let Some(incoming) = endpoint.accept().await {
            receive(&shared, incoming);
        }
        if shared.closing() {
            return;
        }
        tracing::error!(bind = %shared.config.bind, "the endpoint has died; opening it anew");
        shared.tally.restarts.add();
        locked(&shared.endpoint).take();
        drop(endpoint);
        endpoint = loop {
            sleep(REOPEN_PAUSE).await;
            if shared.closing() {
                return;
            }
            match shared.config.reopen() {
                Ok(endpoint) => break endpoint,
                Err(error) if shared.seldom.reopening.may_log() => tracing::error!("{error}"),
                Err(_) => {}
            }
        };
        *locked(&shared.endpoint) = Some(endpoint.clone());
    }
}

fn receive(shared: &Arc<Shared>, incoming: Incoming) {
    let Ok(place) = shared.handshakes.clone().try_acquire_owned() else {
        shared.tally.refused.add();
        if shared.seldom.crowd.may_log() {
            tracing::warn!(addr = %incoming.remote_address(), "refused: too many handshakes at a time");
        }
        return incoming.refuse();
    };
    if shared.handshakes.available_permits() < HANDSHAKES_RESERVED && incoming.may_retry() {
        // Fails only for what may not be retried.
        return drop(incoming.retry());
    }
    tokio::spawn(admit(shared.clone(), incoming, place));
}

async fn admit(shared: Arc<Shared>, incoming: Incoming, place: OwnedSemaphorePermit) {
    let addr = incoming.remote_address();
    let handshake = timeout(HANDSHAKE_TIME, incoming.into_future()).await;
    drop(place);
    let connection = match handshake.unwrap_or(Err(ConnectionError::TimedOut)) {
        Ok(connection) => connection,
        Err(error) => {
            shared.tally.handshakes_failed.add();
            if shared.seldom.strangers.may_log() {
                tracing::warn!("{addr} was not let in: {error}");
            }
            return;
        }
    };
    if wants_to_join(&connection) {
        return join(shared, connection).await;
    }
    if let Some(node) = identify(&shared, &connection) {
        let _ = link::start(&shared, connection, node, node);
    }
}

fn wants_to_join(connection: &Connection) -> bool {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    data.is_some_and(|data| data.protocol.as_deref() == Some(JOIN_ALPN))
}

async fn join(shared: Arc<Shared>, connection: Connection) {
    let Ok(_place) = shared.joins.try_acquire() else {
        shared.tally.refused.add();
        return connection.close(code::FULL, b"too many nodes are joining; try again");
    };
    shared.tell(Event::Join(connection.clone()));
    if timeout(JOIN_TIME, connection.closed()).await.is_err() {
        connection.close(code::TOO_SLOW, b"joining took too long");
    }
}

/// Whoever is not another member is closed, counted and reported here, whichever side has dialled.
pub(super) fn identify(shared: &Shared, connection: &Connection) -> Option<NodeId> {
    let addr = connection.remote_address();
    match (shared.identify)(connection) {
        Some(node) if node != shared.me => Some(node),
        Some(_) => {
            shared.tally.clones.add();
            connection.close(code::SAME_KEY, b"we have the same key");
            if shared.seldom.clones.may_log() {
                tracing::error!(
                    "another host uses this node's key: {addr}; stop it and let it join on its own"
                );
            }
            shared.tell(Event::Clone { addr });
            None
        }
        None => {
            shared.tally.unknown.add();
            connection.close(code::NOT_A_MEMBER, b"not a member of this cluster");
            if shared.seldom.strangers.may_log() {
                tracing::warn!("{addr} is not a member of this cluster");
            }
            None
        }
    }
}
