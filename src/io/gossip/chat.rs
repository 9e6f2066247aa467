//! One run of chitchat's task, over our transport.

use super::counters::{Fault, Tally};
use super::wire::{Id, KEY};
use super::{GossipError, Outbox, Settings};
use anyhow::Context;
use async_trait::async_trait;
use chitchat::transport::{Socket, Transport};
use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, ChitchatMessage, Deserializable, FailureDetectorConfig,
    Heartbeat, Serializable, spawn_chitchat,
};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// A few messages of every member. chitchat empties it at once or not at all.
const MAX_QUEUE: usize = 256;
/// How long chitchat keeps, and for half of it passes on, what it has of a node that it no longer hears.
const GRACE: Duration = Duration::from_secs(15 * 60);

pub struct Chat {
    handle: ChitchatHandle,
    feed: mpsc::Sender<(SocketAddr, ChitchatMessage)>,
}

impl Chat {
    pub async fn spawn(
        settings: &Settings,
        me: Id,
        outbox: &Arc<dyn Outbox>,
        tally: &Arc<Tally>,
    ) -> Result<Chat, GossipError> {
        let (feed, inbox) = mpsc::channel(MAX_QUEUE);
        let socket = QuicSocket { inbox, outbox: outbox.clone(), tally: tally.clone() };
        let transport = Once(Mutex::new(Some(socket)));
        let config = ChitchatConfig {
            chitchat_id: ChitchatId::new(me.node.to_string(), me.generation, me.addr),
            cluster_id: settings.cluster.to_string(),
            gossip_interval: settings.interval,
            listen_addr: me.addr,
            seed_nodes: settings.seeds.iter().map(SocketAddr::to_string).collect(),
            // Housekeeping only: whether a member lives is judged by adverts.
            failure_detector_config: FailureDetectorConfig {
                initial_interval: settings.interval,
                dead_node_grace_period: GRACE,
                ..FailureDetectorConfig::default()
            },
            marked_for_deletion_grace_period: GRACE,
            catchup_callback: None,
            extra_liveness_predicate: None,
        };
        let handle = spawn_chitchat(config, Vec::new(), &transport)
            .await
            .map_err(|error| GossipError::Start(format!("{error:#}")))?;
        Ok(Chat { handle, feed })
    }

    /// Resolves when chitchat has ended, which it never should.
    pub async fn ended(&self) -> String {
        match self.handle.termination_watcher().await {
            Ok(()) => "it stopped".into(),
            Err(error) => format!("{error:#}"),
        }
    }

    /// Takes what the gate has written.
    pub fn feed(&self, from: SocketAddr, bytes: &[u8]) -> Result<(), Fault> {
        let message = ChitchatMessage::deserialize(&mut &bytes[..]).map_err(|error| {
            tracing::debug!(%error, "chitchat cannot read what we wrote (our fault)");
            Fault::Undecodable
        })?;
        self.feed.try_send((from, message)).map_err(|_| Fault::Overflow)
    }

    /// chitchat counts its versions itself; they must be the record's signed `seq`, also after a restart.
    pub async fn set(&self, seq: u64, text: &str) {
        let set = |chitchat: &mut chitchat::Chitchat| {
            let state = chitchat.self_node_state();
            state.set_max_version(seq - 1);
            state.set(KEY, text);
        };
        self.handle.with_chitchat(set).await;
    }

    pub fn push(&self, to: impl IntoIterator<Item = SocketAddr>) {
        // An error means that chitchat has ended; that is reported by `ended`.
        to.into_iter().for_each(|peer| _ = self.handle.gossip(peer));
    }

    pub async fn heartbeat(&self) -> Heartbeat {
        self.handle.with_chitchat(|chitchat| chitchat.self_node_state().heartbeat()).await
    }

    /// Goes on counting where the run before ended: a lower heartbeat than before is no sign of life.
    pub async fn resume(&self, heartbeat: Heartbeat) {
        let resume = |chitchat: &mut chitchat::Chitchat| {
            chitchat.self_node_state().try_set_heartbeat(heartbeat);
        };
        self.handle.with_chitchat(resume).await;
    }

    pub async fn stop(self) {
        // It only fails if chitchat has ended already.
        let _ = self.handle.shutdown().await;
    }
}

/// chitchat asks a transport to open sockets; each run gets the one that was made for it.
struct Once(Mutex<Option<QuicSocket>>);

#[async_trait]
impl Transport for Once {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(Box::new(socket.context("opened twice")?))
    }
}

struct QuicSocket {
    inbox: mpsc::Receiver<(SocketAddr, ChitchatMessage)>,
    outbox: Arc<dyn Outbox>,
    tally: Arc<Tally>,
}

#[async_trait]
impl Socket for QuicSocket {
    /// Never waits: chitchat does nothing else while it sends.
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        if !self.outbox.send(to, message.serialize_to_vec()) {
            self.tally.add(Fault::Unsent);
        }
        Ok(())
    }

    /// chitchat drops this future at each of its ticks; a message is taken only when it is handed over.
    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        self.inbox.recv().await.context("gossip has stopped")
    }
}
