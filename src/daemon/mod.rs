//! The daemon: the only place that knows both sides.
//!
//! Two threads. The *core* runs the engine's loop, the transport, netlink and the packet sockets, and waits for
//! nothing else: a slow disk, a hanging probe or a busy operator cannot delay an advert. The *office* runs gossip,
//! probes, the local socket, joins, signals and everything that touches a disk. They talk through bounded queues.

mod core;
mod heritage;
mod lateness;
mod office;
mod renewal;

use crate::config::{Config, ConfigError, Source, Vrrp};
use crate::engine::heir::Memory;
use crate::engine::{self, VipConfig};
use crate::io::control::ControlError;
use crate::io::gossip::GossipError;
use crate::io::identity::{Identity, IdentityError};
use crate::io::journal::{self, Recorder, Writing};
use crate::io::netlink::macvlan::MacvlanError;
use crate::io::netlink::{self, KernelError};
use crate::io::ports::Work;
use crate::io::quic::{Transport, TransportError};
use crate::io::signals::Signals;
use crate::io::state::{self, StateError};
use crate::io::virtual_macs::Made;
use crate::io::{clock, memory, probe, realtime};
use bytes::Bytes;
use haclusterd_proto::cluster::SignedVoters;
use haclusterd_proto::control::{Forecast, Order, Snapshot, VoterRequest};
use haclusterd_proto::member::MemberRecord;
use haclusterd_proto::{Incarnation, NodeId};
use ring::rand::{SecureRandom, SystemRandom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The peers' lane to the core: some 50 ms of work. What is older than that is worth little, and is counted when dropped.
const CORE_QUEUE: usize = 1024;
/// This host's own: a change of each address, twice, of the largest configuration.
const CORE_OWN: usize = 8192;
/// Leases up to this one are short enough for the host to matter, and to be measured before the start.
const SHORT: Duration = Duration::from_millis(200);
/// What is still to be written when all else has ended.
const LAST_WRITES: Duration = Duration::from_secs(1);
/// The peers' lane to the office: gossip repeats what is lost.
const OFFICE_QUEUE: usize = 256;
/// The core's: when a link goes, each of hundreds of virtual routers and groups has something to tell, and says it once.
const OFFICE_WORK: usize = 4096;

#[derive(Debug, Clone)]
pub struct Options {
    pub config: Source,
    pub state_dir: PathBuf,
    pub socket: PathBuf,
    /// Where to record what the engine is fed.
    pub journal: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Macvlan(#[from] MacvlanError),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Gossip(#[from] GossipError),
    #[error(
        "{}: node.{key} is {file:?}, and this node's certificate says {certificate:?}: correct the file, or join again under the new {key}",
        path.display()
    )]
    OtherNode { path: PathBuf, key: &'static str, file: String, certificate: String },
    #[error("the lease of {} ms is too short for this host: {why}", lease.as_millis())]
    TooLate { lease: Duration, why: String },
    #[error("the runtime could not be started: {0}")]
    Runtime(#[from] std::io::Error),
    #[error("the core ended unexpectedly (our fault); see the log")]
    CoreEnded,
}

/// What the core hears.
enum ToCore {
    Input(engine::Input),
    Message {
        from: NodeId,
        bytes: Bytes,
    },
    Kernel(netlink::Event),
    Made(Made),
    Ask(oneshot::Sender<Snapshot>),
    /// An operator's wish, and what he is told.
    Voters(VoterRequest, oneshot::Sender<Result<String, String>>),
    Order(Order, oneshot::Sender<Result<String, String>>),
    Forecast(Vec<String>, oneshot::Sender<Result<Forecast, String>>),
    Reload(Box<Config>),
}

/// What the office hears from the core.
enum ToOffice {
    Work(Work),
    /// From one member, for gossip.
    Stream {
        from: NodeId,
        addr: SocketAddr,
        bytes: Vec<u8>,
    },
    Join(quinn::Connection),
    /// A connection came up: its other end may know more than this node.
    Greet,
}

/// The entrance of a queue of two lanes, which never blocks. What others send has a lane of its own, so that no flood of
/// theirs can push out what this host has to say and says only once.
struct Entrance<T> {
    own: mpsc::Sender<T>,
    peers: mpsc::Sender<T>,
    dropped: Arc<AtomicU64>,
}

/// Its exit.
struct Lanes<T> {
    own: mpsc::Receiver<T>,
    peers: mpsc::Receiver<T>,
}

impl<T> Clone for Entrance<T> {
    fn clone(&self) -> Self {
        Entrance { own: self.own.clone(), peers: self.peers.clone(), dropped: self.dropped.clone() }
    }
}

impl<T> Entrance<T> {
    fn new(own: usize, peers: usize) -> (Entrance<T>, Lanes<T>) {
        let (own, own_out) = mpsc::channel(own);
        let (peers, peers_out) = mpsc::channel(peers);
        (Entrance { own, peers, dropped: Arc::default() }, Lanes { own: own_out, peers: peers_out })
    }

    /// From this host.
    fn send(&self, message: T) {
        self.count(self.own.try_send(message).is_ok());
    }

    /// From others, who repeat what matters.
    fn offer(&self, message: T) {
        self.count(self.peers.try_send(message).is_ok());
    }

    fn count(&self, taken: bool) {
        if !taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<T> Lanes<T> {
    /// What this host has said so far.
    fn said(&mut self) -> Vec<T> {
        std::iter::from_fn(|| self.own.try_recv().ok()).collect()
    }

    /// Safe to cancel.
    async fn recv(&mut self) -> Option<T> {
        tokio::select! {
            biased;
            Some(message) = self.own.recv() => Some(message),
            Some(message) = self.peers.recv() => Some(message),
            else => None,
        }
    }
}

/// Everything that a run begins with, checked.
struct Start {
    options: Options,
    config: Config,
    identity: Arc<Identity>,
    voters: Option<SignedVoters>,
    engine: engine::Config,
    memory: Option<Memory>,
}

/// Runs until a signal, `leave`, or a failure that no waiting mends.
pub fn run(options: Options) -> Result<(), DaemonError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    let result = runtime.block_on(async {
        let signals = Signals::listen()?;
        let start = prepare(options)?;
        if start.memory.is_none() {
            judge_host(&start.config)?;
        }
        let (core, inbox) = Entrance::new(CORE_OWN, CORE_QUEUE);
        let (office, work) = Entrance::new(OFFICE_WORK, OFFICE_QUEUE);
        // Before anything is touched: a second daemon on this socket must not sweep the first one's addresses.
        let server = crate::io::control::Server::bind(&start.options.socket)?;
        let (ready, started) = oneshot::channel::<Result<Transport, DaemonError>>();
        let (alive, ended) = oneshot::channel();
        let (journal, writing) = start_journal(start.options.journal.as_deref());
        let seat = core::Seat {
            alive,
            config: start.config.clone(),
            identity: start.identity.clone(),
            engine: start.engine.clone(),
            voters: start.voters.clone(),
            memory: start.memory.clone(),
            journal,
            entrance: core.clone(),
            office,
        };
        let thread =
            std::thread::Builder::new().name("core".into()).spawn(move || core::run(seat, inbox, ready))?;
        let transport = started.await.map_err(|_| DaemonError::CoreEnded)??;
        let result =
            office::run(start, transport, office::Doors { core, work, ended, signals }, server).await;
        let core = thread.join();
        if let Some(writing) = writing {
            writing.finish();
        }
        core.map_err(|_| DaemonError::CoreEnded)?;
        result
    });
    // A write to a disk that hangs is not waited for.
    runtime.shutdown_timeout(LAST_WRITES);
    result
}

fn prepare(options: Options) -> Result<Start, DaemonError> {
    let (config, advice) = options.config.load()?;
    advice.iter().for_each(|advice| tracing::warn!("{advice}"));
    state::refuse_left(&options.state_dir)?;
    let identity = Identity::load(&options.state_dir)?;
    let other = |key, file: String, certificate: String| {
        (file != certificate).then(|| DaemonError::OtherNode {
            path: options.config.path().to_owned(),
            key,
            file,
            certificate,
        })
    };
    let mismatch = other("name", config.node.name.clone(), identity.name.clone())
        .or_else(|| other("role", config.node.role.to_string(), identity.role.to_string()));
    if let Some(error) = mismatch {
        return Err(error);
    }
    netlink::check_capabilities()?;
    let voters = state::load_voters(&options.state_dir, |signed| verify_voters(&identity, signed))?;
    if voters.is_none() && identity.is_issuer() {
        return Err(StateError::NoVoters(options.state_dir).into());
    }
    let generation = generation(&options);
    let mut engine = engine_config(&config, &identity, Incarnation(random_u128()), generation);
    engine.standby = state::stands_by(&options.state_dir);
    engine.earlier_lease = state::swap_lease(&options.state_dir, config.cluster.timers.lease)?;
    let memory = memory::load(&memory::place(&options.socket)).unwrap_or_else(|error| {
        tracing::warn!("what an earlier run held is not taken over: {error}");
        None
    });
    Ok(Start { config, identity: Arc::new(identity), voters, engine, memory, options })
}

/// Not for who succeeds a run: its lease would end meanwhile.
fn judge_host(config: &Config) -> Result<(), DaemonError> {
    let timers = config.cluster.timers;
    if timers.lease > SHORT {
        return Ok(());
    }
    let late = realtime::overrun(config.node.realtime);
    let most = timers.lateness();
    tracing::debug!("this host wakes a thread up to {} us late (p99.9)", late.as_micros());
    match late > most {
        true => {
            Err(DaemonError::TooLate { lease: timers.lease, why: too_late(late, most, config.node.realtime) })
        }
        false => Ok(()),
    }
}

fn too_late(late: Duration, most: Duration, realtime: bool) -> String {
    let right = match realtime {
        true => "take work off the host",
        false => "give the daemon CAP_SYS_NICE and leave node.realtime = true",
    };
    format!(
        "what is due is done up to {:.1} ms late (p99.9), and a quarter of the lease, {:.1} ms, is the most that is safe: {right}, or take a longer lease (cluster.profile, the same on all nodes)",
        late.as_secs_f64() * 1000.0,
        most.as_secs_f64() * 1000.0,
    )
}

/// A node that cannot be recorded runs all the same.
fn start_journal(path: Option<&Path>) -> (Recorder, Option<Writing>) {
    let Some(path) = path else { return (Recorder::default(), None) };
    match journal::record(path) {
        Ok((recorder, writing)) => (recorder, Some(writing)),
        Err(error) => {
            tracing::warn!(
                "{}: no journal is written: {error}; name a file in a directory that is there and has room",
                path.display()
            );
            (Recorder::default(), None)
        }
    }
}

/// A full disk must not keep a node from running; with a clock that was set back as well, its gossip is taken for old
/// news until the clock has caught up.
fn generation(options: &Options) -> u64 {
    let wall = clock::wall().unsigned_abs();
    state::next_generation(&options.state_dir, wall).unwrap_or_else(|error| {
        tracing::warn!("{error}; this node runs on, but cannot remember who votes until that is mended");
        wall
    })
}

fn random_u128() -> u128 {
    let mut bytes = [0; 16];
    // The kernel's generator does not fail once the system is up.
    let _ = SystemRandom::new().fill(&mut bytes);
    u128::from_be_bytes(bytes)
}

fn verify_voters(identity: &Identity, signed: &SignedVoters) -> Result<(), String> {
    if signed.set.cluster != identity.cluster {
        return Err("it is another cluster's".into());
    }
    let verified = identity.trust().verify_ca_signature(&signed.set.signed_bytes(), &signed.signature);
    verified.map_err(|_| "its signature is not the cluster's CA's".into())
}

fn engine_config(
    config: &Config,
    identity: &Identity,
    incarnation: Incarnation,
    generation: u64,
) -> engine::Config {
    let since = identity.not_after().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let record = MemberRecord {
        role: identity.role,
        issuer: identity.is_issuer(),
        base_priority: config.node.priority.0,
        config_digest: config.digest(),
        version: env!("CARGO_PKG_VERSION").into(),
        generation,
        cert_not_after: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        ..MemberRecord::new(identity.node, identity.name.clone(), config.node.listen, incarnation)
    };
    let vips = config.vips.iter().map(|vip| VipConfig {
        id: vip.id,
        name: vip.name.clone(),
        addresses: vip.addr_ids(),
        preempt: vip.preempt,
        preempt_delay: vip.preempt_delay,
        announce_refresh: vip.announce_refresh.unwrap_or_default(),
    });
    engine::Config {
        cluster: identity.cluster,
        record,
        timers: config.cluster.timers,
        earlier_lease: Duration::ZERO,
        voters_max: config.cluster.voters_max,
        strict_pair: config.cluster.strict_pair,
        gateway: config.cluster.gateway.is_some(),
        standby: false, // whoever starts it knows
        fenced: false,  // the core knows
        strict_health: config.cluster.strict_health,
        vips: vips.collect(),
        routers: config.routers.iter().map(Vrrp::for_engine).collect(),
        checks: probe::checks(&config.checks),
    }
}
