//! Spreads every member's record to every member: chitchat over our own QUIC transport.
//!
//! ```text
//! publish -> sign -> chitchat -> Outbox          inbox -> gate -> chitchat
//!                                                           \--> report
//! ```
//! chitchat spreads state and nothing else; who is alive and who owns an address is decided elsewhere. A change
//! is pushed to all peers at once, and again by chitchat's own rounds in case that was lost. What arrives is read
//! by `gate`, which verifies every record and rewrites every message, and reports a new record before chitchat
//! has it.
//!
//! chitchat's task should never end. If it does, it is started again under the same generation, with the numbers
//! that peers have of it carried on: a new generation would belong to a restart of the daemon.

mod chat;
mod counters;
mod gate;
mod wire;

pub use counters::Counters;

use chat::Chat;
use chitchat::Heartbeat;
use counters::{Fault, Tally};
use gate::{Gate, MAX_MEMBERS};
use haclusterd_proto::member::{MemberRecord, SignedRecord};
use haclusterd_proto::{ClusterId, NodeId};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use wire::Id;

/// Changes that come faster are pushed together, the first at once and the last surely: more than this helps
/// nobody, and chitchat takes each push for a sign of life that it then expects as often.
const PACE: Duration = Duration::from_millis(50);
/// From a push to the moment when the peers have the record it is a round trip and a half.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Between two starts of chitchat: doubles from the first to the second and never shrinks, so that whatever ends it
/// neither burns the processor nor fills the log.
const RESTART: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

#[derive(Debug, Clone)]
pub struct Settings {
    pub me: NodeId,
    pub cluster: ClusterId,
    /// Where other members reach this one.
    pub advertise: SocketAddr,
    /// Greater than at every earlier start of this node.
    pub generation: u64,
    pub interval: Duration,
    pub seeds: Vec<SocketAddr>,
}

/// The way to the peers. Neither function may block.
pub trait Outbox: Send + Sync {
    /// False if there is no connection or its queue is full. Never dials.
    fn send(&self, to: SocketAddr, bytes: Vec<u8>) -> bool;
    /// The addresses of all connected peers.
    fn peers(&self) -> Vec<SocketAddr>;
}

/// This node's key, and the trust in others'.
pub trait Keys: Send + Sync {
    fn sign(&self, bytes: &[u8]) -> Vec<u8>;
    /// DER of this node's leaf.
    fn certificate(&self) -> Vec<u8>;
    /// The author, if its certificate is the cluster's and its signature over `message` holds.
    fn verify(&self, certificate: &[u8], message: &[u8], signature: &[u8]) -> Result<NodeId, String>;
}

/// Called with each new record of another member. Must not block.
pub type Report = Arc<dyn Fn(MemberRecord) + Send + Sync>;
/// Who sent it (by its certificate), from where, and what: one message each.
pub type Inbox = mpsc::Receiver<(NodeId, SocketAddr, Vec<u8>)>;

#[derive(Debug, thiserror::Error)]
pub enum GossipError {
    #[error("the gossip interval is zero; set at least a millisecond")]
    Interval,
    #[error("chitchat did not start (our fault): {0}")]
    Start(String),
}

#[derive(Debug)]
pub struct Gossip {
    records: watch::Sender<Option<MemberRecord>>,
    greet: Arc<Notify>,
    tally: Arc<Tally>,
    task: JoinHandle<()>,
}

impl Gossip {
    pub async fn start(
        settings: Settings,
        outbox: Arc<dyn Outbox>,
        keys: Arc<dyn Keys>,
        inbox: Inbox,
        report: Report,
    ) -> Result<Gossip, GossipError> {
        if settings.interval.is_zero() {
            return Err(GossipError::Interval);
        }
        // Without a scope: it means nothing to others, and is not in what they send back.
        let addr = SocketAddr::new(settings.advertise.ip(), settings.advertise.port());
        let me = Id { node: settings.me, generation: settings.generation, addr };
        let tally = Arc::new(Tally::default());
        let (records, latest) = watch::channel(None);
        let greet = Arc::new(Notify::new());
        let chat = Chat::spawn(&settings, me, &outbox, &tally).await?;
        let talk = Talk {
            gate: Gate::new(me, settings.cluster, keys.clone(), report, tally.clone()),
            me,
            settings,
            outbox,
            keys,
            inbox,
            latest,
            greet: greet.clone(),
            tally: tally.clone(),
            chat: Some(chat),
            seq: 0,
            changed: false,
            pushed_at: None,
            push_at: None,
            restart_at: None,
            end_at: None,
            pause: RESTART.0,
            heartbeat: None,
        };
        Ok(Gossip { records, greet, tally, task: tokio::spawn(talk.run()) })
    }

    /// Makes this the node's record. Who, where, generation and number are filled in here.
    pub fn publish(&self, record: MemberRecord) {
        self.records.send_replace(Some(record.bounded()));
    }

    /// A connection has come up: exchange records with it now, not at the next round.
    pub fn greet(&self) {
        self.greet.notify_one();
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        self.tally.snapshot()
    }

    /// Lets what was published last go out first, for at most 150 ms.
    pub async fn stop(self) {
        let Gossip { records, task, .. } = self;
        drop(records);
        // It panics only if `report`, the outbox or the keys do.
        if let Err(error) = task.await {
            tracing::error!(%error, "gossip ended badly");
        }
    }
}

/// The task behind [`Gossip`].
struct Talk {
    settings: Settings,
    me: Id,
    outbox: Arc<dyn Outbox>,
    keys: Arc<dyn Keys>,
    inbox: Inbox,
    latest: watch::Receiver<Option<MemberRecord>>,
    greet: Arc<Notify>,
    tally: Arc<Tally>,
    gate: Gate,
    /// None between an end of chitchat and its next start. The gate works all the same.
    chat: Option<Chat>,
    /// Of the last record that was signed.
    seq: u64,
    /// The latest record is not in chitchat yet.
    changed: bool,
    pushed_at: Option<Instant>,
    push_at: Option<Instant>,
    restart_at: Option<Instant>,
    end_at: Option<Instant>,
    pause: Duration,
    /// Where the run of chitchat that has ended left off.
    heartbeat: Option<Heartbeat>,
}

impl Talk {
    async fn run(mut self) {
        loop {
            let deadline = [self.push_at, self.restart_at, self.end_at].into_iter().flatten().min();
            tokio::select! {
                received = self.inbox.recv() => match received {
                    Some((node, addr, bytes)) => self.receive(node, addr, &bytes),
                    None => break,
                },
                changed = self.latest.changed(), if self.end_at.is_none() => match changed {
                    Ok(()) => {
                        self.changed = true;
                        self.push_soon();
                    }
                    Err(_) => self.end_soon(),
                },
                () = self.greet.notified() => self.push_soon(),
                why = ended(&self.chat) => self.mourn(&why).await,
                () = at(deadline) => {
                    let now = Instant::now();
                    if due(&mut self.restart_at, now) {
                        self.restart().await;
                    }
                    if due(&mut self.push_at, now) {
                        self.push(now).await;
                    }
                    if due(&mut self.end_at, now) {
                        break;
                    }
                }
            }
        }
        if let Some(chat) = self.chat {
            chat.stop().await;
        }
    }

    fn receive(&mut self, node: NodeId, addr: SocketAddr, bytes: &[u8]) {
        let passed = self.gate.pass(node, bytes, Instant::now());
        let (Some(passed), Some(chat)) = (passed, &self.chat) else { return };
        if let Err(fault) = chat.feed(addr, &passed) {
            self.tally.add(fault);
        }
    }

    fn push_soon(&mut self) {
        let now = Instant::now();
        self.push_at.get_or_insert(self.pushed_at.map_or(now, |last| now.max(last + PACE)));
    }

    async fn push(&mut self, now: Instant) {
        let Some(chat) = &self.chat else { return };
        if self.changed {
            let Some(record) = self.latest.borrow_and_update().clone() else { return };
            self.changed = false;
            self.seq += 1;
            match self.sign(record) {
                Ok(text) => chat.set(self.seq, &text).await,
                Err(error) => tracing::error!(%error, "this node's own record cannot be published"),
            }
        }
        chat.push(self.outbox.peers().into_iter().take(MAX_MEMBERS));
        self.pushed_at = Some(now);
    }

    fn sign(&self, record: MemberRecord) -> Result<String, haclusterd_proto::codec::EncodeError> {
        let Id { node, generation, addr } = self.me;
        let record = MemberRecord { node, generation, addr, seq: self.seq, ..record }.encode()?;
        let signature = self.keys.sign(&SignedRecord::message(&record));
        SignedRecord { record, signature, certificate: self.keys.certificate() }.encode()
    }

    /// Time for the last record to arrive, if there is one under way.
    fn end_soon(&mut self) {
        let last = self.push_at.or(self.pushed_at).map(|last| last + LAST_WORDS);
        self.end_at = Some(last.unwrap_or_else(Instant::now));
    }

    async fn mourn(&mut self, why: &str) {
        tracing::error!(why, pause = ?self.pause, "chitchat ended (our fault); starting it again");
        self.tally.add(Fault::Restart);
        if let Some(chat) = self.chat.take() {
            self.heartbeat = Some(chat.heartbeat().await);
        }
        self.restart_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(RESTART.1);
    }

    async fn restart(&mut self) {
        match Chat::spawn(&self.settings, self.me, &self.outbox, &self.tally).await {
            Ok(chat) => {
                if let Some(heartbeat) = self.heartbeat.take() {
                    chat.resume(heartbeat).await;
                }
                self.chat = Some(chat);
                self.changed = self.latest.borrow().is_some();
                self.push_soon();
            }
            Err(error) => self.mourn(&error.to_string()).await,
        }
    }
}

async fn ended(chat: &Option<Chat>) -> String {
    match chat {
        Some(chat) => chat.ended().await,
        None => std::future::pending().await,
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn due(timer: &mut Option<Instant>, now: Instant) -> bool {
    timer.take_if(|at| *at <= now).is_some()
}
