//! Keeps one peer connected: one task, which dials when there is no connection and sleeps otherwise.

use super::links::Refusal;
use super::{Shared, accept, code, link, locked};
use haclusterd_proto::NodeId;
use quinn::{ConnectError, Connection, ConnectionError};
use std::hash::Hasher;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// From the first packet until the other side has accepted us.
const DIAL_TIME: Duration = Duration::from_secs(2);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// The node with the larger id lets the other begin, which spares most pairs the second connection.
const COURTESY: Duration = Duration::from_millis(50);
/// A connection that lasted less does not count as a success: who accepts and then closes is not dialled faster.
const LASTING: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    /// `None`: some member should be there, whoever it is.
    pub node: Option<NodeId>,
    pub addr: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("no answer within {DIAL_TIME:?}: its daemon does not run, or UDP to it is blocked")]
    Silent,
    #[error("cannot dial: {0}")]
    Cannot(#[from] ConnectError),
    #[error(transparent)]
    Lost(#[from] ConnectionError),
    #[error("it is not another member of this cluster")]
    NotAMember,
    #[error("it is {0}, another node than expected: the address has changed hands")]
    AnotherNode(NodeId),
    #[error("our own endpoint is being opened anew")]
    NoEndpoint,
    #[error("we do not want it: {0:?}")]
    Unwanted(Refusal),
}

pub(super) async fn keep(shared: Arc<Shared>, peer: Peer) {
    let mut changes = shared.links.changes();
    let mut attempt = 0;
    loop {
        if connected(&shared, peer) {
            let since = Instant::now();
            while connected(&shared, peer) {
                // The sender lives as long as `shared`.
                let _ = changes.changed().await;
            }
            attempt = if since.elapsed() < LASTING { attempt.max(1) + 1 } else { 0 };
        }
        // Ends early at any change: it may be that the peer has connected to us.
        let wait = tokio::time::sleep(pause(shared.me, peer, attempt));
        tokio::pin!(wait);
        while !connected(&shared, peer) {
            tokio::select! {
                () = &mut wait => break,
                _ = changes.changed() => {}
            }
        }
        if connected(&shared, peer) {
            continue;
        }
        attempt += 1;
        if let Err(error) = dial(&shared, peer).await {
            shared.tally.dials_failed.add();
            report(peer, attempt, &error);
        }
    }
}

fn connected(shared: &Shared, peer: Peer) -> bool {
    match peer.node {
        Some(node) => shared.links.to_node(node).is_some(),
        None => shared.links.to_addr(peer.addr).is_some(),
    }
}

/// Once aloud for each time that a peer is lost.
fn report(peer: Peer, attempt: u32, error: &DialError) {
    let addr = peer.addr;
    if attempt == 1 {
        tracing::warn!("no connection to {addr}: {error}; going on to try");
    } else {
        tracing::debug!("no connection to {addr}: {error}");
    }
}

pub(super) async fn dial(shared: &Arc<Shared>, peer: Peer) -> Result<(), DialError> {
    let endpoint = locked(&shared.endpoint).clone().ok_or(DialError::NoEndpoint)?;
    let client = shared.config.client.clone();
    let connecting = endpoint.connect_with(client, peer.addr, shared.server_name)?;
    let dialled = async {
        let connection = connecting.await?;
        let node = whom(shared, peer, &connection)?;
        // The server's empty stream: only now has it accepted our certificate.
        drop(connection.accept_uni().await?);
        Ok((connection, node))
    };
    let (connection, node) = timeout(DIAL_TIME, dialled).await.unwrap_or(Err(DialError::Silent))?;
    link::start(shared, connection, node, shared.me).map_err(DialError::Unwanted)
}

fn whom(shared: &Shared, peer: Peer, connection: &Connection) -> Result<NodeId, DialError> {
    let node = accept::identify(shared, connection).ok_or(DialError::NotAMember)?;
    if peer.node.is_some_and(|expected| expected != node) {
        connection.close(code::ANOTHER_NODE, b"another node was expected at this address");
        return Err(DialError::AnotherNode(node));
    }
    Ok(node)
}

/// Before the attempt of this number: at once, then 100 ms doubling up to 2 s, less up to a quarter that differs
/// from pair to pair, so that nodes that lost each other together do not return together.
fn pause(me: NodeId, peer: Peer, attempt: u32) -> Duration {
    if attempt == 0 {
        return if peer.node.is_some_and(|node| node < me) { COURTESY } else { Duration::ZERO };
    }
    let pause = PAUSE_MIN.saturating_mul(1 << (attempt - 1).min(10)).min(PAUSE_MAX);
    let mut hash = siphasher::sip::SipHasher13::new();
    hash.write(&me.0);
    hash.write(&peer.node.map_or([0; 16], |node| node.0));
    hash.write_u16(peer.addr.port());
    hash.write_u32(attempt);
    pause - pause.mul_f64((hash.finish() % 1024) as f64 / 4096.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(node: u8) -> Peer {
        Peer { node: Some(NodeId([node; 16])), addr: ([127, 0, 0, 1], 1).into() }
    }

    #[test]
    fn pauses_grow_to_two_seconds_and_stay_there() {
        let me = NodeId([1; 16]);
        assert_eq!(pause(me, peer(2), 0), Duration::ZERO);
        assert_eq!(pause(me, peer(0), 0), COURTESY);
        for (attempt, ms) in [(1, 100), (2, 200), (3, 400), (6, 2000), (40, 2000), (u32::MAX, 2000)] {
            let pause = pause(me, peer(2), attempt).as_millis();
            assert!((ms * 3 / 4..=ms).contains(&pause), "{attempt}: {pause}");
        }
    }

    #[test]
    fn pairs_do_not_return_together() {
        let me = NodeId([1; 16]);
        assert_ne!(pause(me, peer(2), 9), pause(me, peer(3), 9));
    }
}
