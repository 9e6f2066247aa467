//! The transport of one node: one QUIC endpoint on the node's own address, client and server at once.
//!
//! Short messages travel as datagrams, long ones as a stream each. Both directions of a pair of nodes may be
//! dialled; whatever is up is read, and [`links`] says which connection is written to. The daemon says whom to
//! keep a connection with ([`Transport::set_peers`]) and hears what happens as [`Event`]s; nothing here decides
//! anything about the cluster.
//!
//! * [`links`]: the connections that are up, by node.
//! * `link`: the life of one of them.
//! * `dial`: a task a peer that keeps it connected.
//! * `accept`: the endpoint, its supervision, and who may come in.
//! * `config`: the parameters of quinn.

mod accept;
mod config;
mod dial;
mod link;
mod links;
mod tally;

use bytes::Bytes;
use haclusterd_proto::NodeId;
use quinn::VarInt;
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tally::{Seldom, Tally};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

pub use tally::Counters;

pub use super::identity::tls::JOIN_PROTOCOL as JOIN_ALPN;
/// A gossip message is at most 65,507 bytes, and nothing longer is sent as one stream.
pub const STREAM_MAX: usize = 70_000;
/// Whom to dial: no cluster is this large, and each peer costs a task.
const PEERS_MAX: usize = 256;
/// The closing packet needs one turn of the runtime, not the three probe timeouts that quinn would linger.
const FAREWELL: Duration = Duration::from_millis(20);

/// Why a connection was closed, for the other side's log. Part of the protocol.
mod code {
    use super::VarInt;
    pub const LEAVING: VarInt = VarInt::from_u32(0);
    pub const NOT_A_MEMBER: VarInt = VarInt::from_u32(1);
    pub const FORBIDDEN: VarInt = VarInt::from_u32(2);
    pub const FULL: VarInt = VarInt::from_u32(3);
    pub const SAME_KEY: VarInt = VarInt::from_u32(4);
    pub const SUPERSEDED: VarInt = VarInt::from_u32(5);
    pub const ANOTHER_NODE: VarInt = VarInt::from_u32(6);
    pub const TOO_SLOW: VarInt = VarInt::from_u32(7);
}

/// Says which member is at the other end of a finished handshake; `None`: none.
pub type Identify = Arc<dyn Fn(&quinn::Connection) -> Option<NodeId> + Send + Sync>;

/// Called from the connections' own tasks, in order for each connection. It must not block: while it runs,
/// its connection is not read, and what the peer sends meanwhile beyond the receive buffer is lost.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;

pub struct Settings {
    /// The node's own address, never a wildcard: with one, the VIP could become the source of our packets.
    pub bind: SocketAddr,
    pub me: NodeId,
    /// Certificates and ALPN are set in these; the transport parameters are set here.
    pub server: quinn::ServerConfig,
    pub client: quinn::ClientConfig,
    /// The name that every member's certificate carries.
    pub server_name: &'static str,
    pub identify: Identify,
    /// The same after a restart, so that peers learn at once that their connections are gone.
    pub reset_secret: [u8; 32],
}

#[derive(Debug)]
pub enum Event {
    /// The first usable connection to this node.
    Up {
        node: NodeId,
        addr: SocketAddr,
    },
    /// The last one is gone.
    Down {
        node: NodeId,
        reason: String,
    },
    Datagram {
        from: NodeId,
        bytes: Bytes,
    },
    /// One whole stream of at most [`STREAM_MAX`] bytes.
    Stream {
        from: NodeId,
        addr: SocketAddr,
        bytes: Vec<u8>,
    },
    /// A node that wants to join. It is a stranger: at most 8 at a time, each for at most 30 s.
    Join(quinn::Connection),
    /// Another host uses this node's key.
    Clone {
        addr: SocketAddr,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error(
        "the listen address {0} is a wildcard: name this node's own address, for a VIP must never become the source of cluster packets"
    )]
    Wildcard(SocketAddr),
    #[error(
        "cannot listen on UDP {addr}: {source}; is the address on this host, and is no other daemon running?"
    )]
    Listen { addr: SocketAddr, source: std::io::Error },
}

/// Cheap to clone. The tasks behind it run until [`Transport::close`] or the end of the runtime.
#[derive(Clone)]
pub struct Transport(Arc<Shared>);

/// What the tasks of one transport share.
struct Shared {
    me: NodeId,
    server_name: &'static str,
    identify: Identify,
    events: Events,
    config: config::Config,
    /// Empty while a dead endpoint is being replaced.
    endpoint: Mutex<Option<quinn::Endpoint>>,
    links: links::Links,
    diallers: Mutex<HashMap<dial::Peer, AbortHandle>>,
    handshakes: Arc<Semaphore>,
    joins: Arc<Semaphore>,
    closing: AtomicBool,
    tally: Tally,
    seldom: Seldom,
    runtime: Handle,
}

impl Transport {
    /// Must be called inside a tokio runtime, on which everything then runs.
    pub fn start(settings: Settings, events: Events) -> Result<Transport, TransportError> {
        let (config, endpoint) =
            config::Config::open(settings.bind, settings.server, settings.client, &settings.reset_secret)?;
        let shared = Arc::new(Shared {
            me: settings.me,
            server_name: settings.server_name,
            identify: settings.identify,
            events,
            config,
            endpoint: Mutex::new(Some(endpoint.clone())),
            links: links::Links::default(),
            diallers: Mutex::default(),
            handshakes: Arc::new(Semaphore::new(accept::HANDSHAKES)),
            joins: Arc::new(Semaphore::new(accept::JOINS)),
            closing: AtomicBool::new(false),
            tally: Tally::default(),
            seldom: Seldom::default(),
            runtime: Handle::current(),
        });
        tokio::spawn(accept::supervise(shared.clone(), endpoint));
        Ok(Transport(shared))
    }

    /// Whom to dial and keep; without an id it is an address where some member should be. Others are not dialled,
    /// but may connect to us. A connection to who is no longer listed stays.
    pub fn set_peers(&self, peers: &[(Option<NodeId>, SocketAddr)]) {
        let shared = &self.0;
        let mut diallers = locked(&shared.diallers);
        if shared.closing() {
            return;
        }
        let wanted = peers.iter().map(|&(node, addr)| dial::Peer { node, addr });
        let others = wanted.filter(|peer| peer.addr != shared.config.bind && peer.node != Some(shared.me));
        let mut kept: HashMap<_, _> = HashMap::new();
        for peer in others.take(PEERS_MAX) {
            let running = diallers.remove(&peer);
            let task = || shared.runtime.spawn(dial::keep(shared.clone(), peer)).abort_handle();
            kept.entry(peer).or_insert_with(|| running.unwrap_or_else(task));
        }
        let dropped = std::mem::replace(&mut *diallers, kept);
        dropped.values().for_each(AbortHandle::abort);
    }

    /// Closes every connection to this node and refuses new ones, for as long as the daemon runs.
    pub fn forbid(&self, node: NodeId) {
        self.0.links.forbid(node);
    }

    /// Never blocks. False if there is no connection or the datagram is too large; true is no promise.
    #[must_use]
    pub fn datagram(&self, to: NodeId, bytes: Bytes) -> bool {
        use quinn::SendDatagramError::{ConnectionLost, Disabled, TooLarge, UnsupportedByPeer};
        let tally = &self.0.tally;
        let Some(link) = self.0.links.to_node(to) else {
            return tally.datagrams_dropped.add();
        };
        match link.connection.send_datagram(bytes) {
            Ok(()) => true,
            Err(TooLarge) => tally.oversize.add(),
            Err(ConnectionLost(_) | Disabled | UnsupportedByPeer) => tally.datagrams_dropped.add(),
        }
    }

    /// Never blocks and never dials. False if there is no connection, its queue is full, or it is too much.
    #[must_use]
    pub fn stream(&self, to: SocketAddr, bytes: Vec<u8>) -> bool {
        self.send_stream(self.0.links.to_addr(to), bytes)
    }

    /// The same to a member.
    #[must_use]
    pub fn stream_to(&self, node: NodeId, bytes: Vec<u8>) -> bool {
        self.send_stream(self.0.links.to_node(node), bytes)
    }

    fn send_stream(&self, link: Option<link::Link>, bytes: Vec<u8>) -> bool {
        let tally = &self.0.tally;
        if bytes.len() > STREAM_MAX {
            return tally.oversize.add();
        }
        match link {
            Some(link) if link.outbox.try_send(link::Outgoing::Message(bytes)).is_ok() => true,
            _ => tally.streams_dropped.add(),
        }
    }

    #[must_use]
    pub fn rtt(&self, node: NodeId) -> Option<Duration> {
        self.0.links.to_node(node).map(|link| link.connection.rtt())
    }

    #[must_use]
    pub fn connected(&self) -> Vec<(NodeId, SocketAddr)> {
        self.0.links.connected()
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.tally.read()
    }

    /// Sends what is queued, until the peers have it or are out of `patience`, and says goodbye.
    pub async fn close(&self, patience: Duration) {
        let shared = &self.0;
        let deadline = Instant::now() + patience;
        shared.closing.store(true, Ordering::Relaxed);
        locked(&shared.diallers).drain().for_each(|(_, task)| task.abort());
        let links = shared.links.all();
        let _ = timeout_at(deadline, futures::future::join_all(links.iter().map(link::Link::flush))).await;
        let endpoint = locked(&shared.endpoint).take();
        if let Some(endpoint) = endpoint {
            endpoint.close(code::LEAVING, b"this node leaves");
            let _ = timeout_at(Instant::now() + FAREWELL, endpoint.wait_idle()).await;
        }
    }
}

impl Shared {
    fn closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    fn tell(&self, event: Event) {
        (self.events)(event);
    }
}

/// A panic under one of these locks leaves nothing half-done, so that the others may go on.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("bind", &self.0.config.bind).finish_non_exhaustive()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("bind", &self.bind).field("me", &self.me).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
