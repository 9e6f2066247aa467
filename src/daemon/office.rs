//! Everything that may be slow: gossip, probes, the local socket, joins, signals, the disk.

use super::core::ANSWER;
use super::renewal::{self, Renewal};
use super::{DaemonError, Entrance, Lanes, Start, ToCore, ToOffice};
use crate::config::Config;
use crate::engine::Input;
use crate::io::events::Events;
use crate::io::gossip::{Gossip, Keys, Outbox, Settings};
use crate::io::hooks::{self, Hooks};
use crate::io::identity::Identity;
use crate::io::join::{JoinServer, Offer};
use crate::io::ports::Work;
use crate::io::probe::{self, Running};
use crate::io::quic::Transport;
use crate::io::signals::{Said, Signals};
use crate::io::{control, memory, state, systemd, tokens, web};
use futures::FutureExt;
use haclusterd_proto::NodeId;
use haclusterd_proto::cluster::SignedVoters;
use haclusterd_proto::control::{Order, Request, Response, Snapshot, VoterRequest};
use haclusterd_proto::member::MemberRecord;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

const GOSSIP_INTERVAL: Duration = Duration::from_secs(1);
/// Gossip messages that wait; each may be 64 KiB, and chitchat repeats what is lost.
const GOSSIP_QUEUE: usize = 64;
/// The answer to `leave` still has to reach the command, and the last set of voters whoever it removes.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Who restarts one node after the other waits for this: before, the voter here grants nothing, and the next one to stop
/// could leave too few.
async fn say_ready(silence: Duration) {
    tokio::time::sleep(silence).await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

struct Office {
    start: Start,
    transport: Transport,
    core: Entrance<ToCore>,
    gossip: Arc<Gossip>,
    gossip_in: mpsc::Sender<(NodeId, SocketAddr, Vec<u8>)>,
    directory: Arc<Directory>,
    joins: Arc<JoinServer>,
    shared: Arc<Mutex<String>>,
    probes: Running,
    hooks: Hooks,
    events: Arc<Events>,
    web: web::Running,
    renewal: Renewal,
    view: Option<web::View>,
    /// From the local socket.
    reloads: mpsc::Receiver<Reloaded>,
    reload: mpsc::Sender<Reloaded>,
}

/// Who wants to know what became of a reload.
type Reloaded = oneshot::Sender<Result<String, String>>;

/// The ways to the core and from it.
pub(super) struct Doors {
    pub core: Entrance<ToCore>,
    pub work: Lanes<ToOffice>,
    /// Resolves when the core has ended.
    pub ended: oneshot::Receiver<()>,
    pub signals: Signals,
}

pub(super) async fn run(
    start: Start,
    transport: Transport,
    doors: Doors,
    server: control::Server,
) -> Result<(), DaemonError> {
    let Doors { core, work, ended: core_ended, signals } = doors;
    let mut office = Office::open(start, transport, core).await?;
    // True once the core has ended, then the office's other tasks may.
    let (ended, end) = watch::channel(false);
    let desk = office.desk(end);
    office.view = Some(desk.view());
    office.show();
    let handler = handler(desk);
    let serving = tokio::spawn(server.run(handler));
    let ready = tokio::spawn(say_ready(office.start.config.cluster.timers.silence()));
    let leaving = office.directory.leaving.clone();
    office.serve(work, core_ended, signals).await?;
    let _ = ended.send(true);
    if leaving.load(std::sync::atomic::Ordering::Relaxed) {
        tokio::time::sleep(LAST_WORDS).await;
    }
    serving.abort();
    ready.abort();
    Ok(())
}

impl Office {
    async fn open(start: Start, transport: Transport, core: Entrance<ToCore>) -> Result<Office, DaemonError> {
        let directory = Arc::new(Directory::new(&start, transport.clone()));
        let (gossip_in, gossip_out) = mpsc::channel(GOSSIP_QUEUE);
        let settings = Settings {
            me: start.identity.node,
            cluster: start.identity.cluster,
            advertise: start.config.node.listen,
            generation: start.engine.record.generation,
            interval: GOSSIP_INTERVAL,
            seeds: directory.seeds.clone(),
        };
        let (inbox, book) = (core.clone(), directory.clone());
        let report = Arc::new(move |record: MemberRecord| {
            book.enter(&record);
            inbox.send(ToCore::Input(Input::Member(Box::new(record))));
        });
        let keys = Arc::new(Signer(start.identity.clone()));
        let outbox = Arc::new(Wire(transport.clone()));
        let gossip = Arc::new(Gossip::start(settings, outbox, keys, gossip_out, report).await?);
        let shared = Arc::new(Mutex::new(start.config.shared_toml()));
        let joins = join_server(&start, directory.clone(), shared.clone());
        let mut probes = Running::default();
        update_probes(&mut probes, &start.config, &core);
        let hooks = Hooks::start(&start.config, &start.options.state_dir);
        directory.dial();
        let events = Arc::new(Events::open(&start.options.state_dir));
        let renewal = Renewal {
            identity: start.identity.clone(),
            dir: start.options.state_dir.clone(),
            transport: transport.clone(),
            core: core.clone(),
        };
        let (reload, reloads) = mpsc::channel(1);
        Ok(Office {
            start,
            transport,
            core,
            gossip,
            gossip_in,
            directory,
            joins,
            shared,
            probes,
            hooks,
            events,
            web: web::Running::default(),
            renewal,
            view: None,
            reloads,
            reload,
        })
    }

    /// Until the core has ended.
    async fn serve(
        mut self,
        mut work: Lanes<ToOffice>,
        mut ended: oneshot::Receiver<()>,
        mut signals: Signals,
    ) -> Result<(), DaemonError> {
        let mut calendar = tokio::time::interval(renewal::PAUSE);
        loop {
            tokio::select! {
                _ = calendar.tick() => self.renewal.look(self.directory.issuers().into_iter()),
                Some(job) = work.recv() => self.perform(job),
                end = &mut ended => {
                    end.map_err(|_| DaemonError::CoreEnded)?;
                    break;
                }
                said = signals.next() => match said {
                    Said::End => self.end().await,
                    Said::Restart => self.restart(),
                    Said::Stop => self.stop(),
                    Said::Reload => if let Err(error) = self.reload() {
                        tracing::error!("{error}");
                    },
                },
                Some(answer) = self.reloads.recv() => drop(answer.send(self.reload())),
            }
        }
        // What the core said last.
        for job in work.said() {
            if let ToOffice::Work(Work::Changed(changed)) = job {
                self.hooks.changed(changed);
            }
        }
        if let Ok(gossip) = Arc::try_unwrap(self.gossip) {
            gossip.stop().await;
        }
        self.hooks.stop().await;
        Ok(())
    }

    /// A stop, or the first half of a restart.
    async fn end(&self) {
        match systemd::restarts().await {
            true => self.restart(),
            false => self.stop(),
        }
    }

    /// A successor that cannot start would leave every VIP without an owner for a lease.
    fn restart(&self) {
        match self.start.options.config.load() {
            Ok(_) => self.core.send(ToCore::Input(Input::Restart)),
            Err(error) => {
                tracing::error!("no run could follow this one, so the VIPs are handed over:\n{error}");
                self.stop();
            }
        }
    }

    fn stop(&self) {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        self.core.send(ToCore::Input(Input::Shutdown { leave: false }));
    }

    fn perform(&self, job: ToOffice) {
        match job {
            ToOffice::Work(Work::Publish(record)) => self.gossip.publish(*record),
            ToOffice::Work(Work::Sign(set)) => {
                let Some(signature) = self.start.identity.ca_sign(&set.signed_bytes()) else { return };
                self.core.send(ToCore::Input(Input::Voters(SignedVoters { set, signature })));
            }
            ToOffice::Work(Work::Store(signed)) => self.store(signed),
            ToOffice::Work(Work::Dismiss(nodes)) => self.dismiss(nodes),
            ToOffice::Work(Work::Remember(memory)) => {
                // On the spot, for the last one must win; it is not synced, and lies in memory as a rule.
                if let Err(error) = memory::store(&memory::place(&self.start.options.socket), &memory) {
                    tracing::warn!("a restart would not take over what is held: {error}");
                }
            }
            ToOffice::Work(Work::Changed(changed)) => self.hooks.changed(changed),
            ToOffice::Work(Work::Note(event)) => self.events.note(event.warning, &event.text),
            ToOffice::Stream { from, bytes, .. } if self.renewal.heard(from, &bytes) => {}
            ToOffice::Stream { from, addr, bytes } => drop(self.gossip_in.try_send((from, addr, bytes))),
            ToOffice::Join(connection) => drop(tokio::spawn(self.joins.clone().serve(connection))),
            ToOffice::Greet => self.gossip.greet(),
        }
    }

    fn store(&self, signed: SignedVoters) {
        let (dir, core) = (self.start.options.state_dir.clone(), self.core.clone());
        tokio::task::spawn_blocking(move || {
            let result = state::store_voters(&dir, &signed).map_err(|error| error.to_string());
            core.send(ToCore::Input(Input::VotersStored { stamp: signed.set.stamp(), result }));
        });
    }

    /// They are told first, if they can be.
    fn dismiss(&self, nodes: Vec<NodeId>) {
        self.directory.strike(&nodes);
        let transport = self.transport.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LAST_WORDS).await;
            nodes.into_iter().for_each(|node| transport.forbid(node));
        });
    }

    /// All of the new file, or nothing of it.
    fn reload(&mut self) -> Result<String, String> {
        let source = &self.start.options.config;
        let loaded = source.load().map_err(|error| format!("the configuration stays as it was:\n{error}"));
        let (config, advice) = loaded?;
        if let Some(key) = self.start.config.needs_restart(&config) {
            return Err(format!(
                "the configuration stays as it was: {}: {key} can only be changed by a restart",
                source.path().display()
            ));
        }
        advice.iter().for_each(|advice| tracing::warn!("{advice}"));
        self.core.send(ToCore::Reload(Box::new(config.clone())));
        update_probes(&mut self.probes, &config, &self.core);
        self.hooks.reconfigure(&config);
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = config.shared_toml();
        self.start.config = config;
        self.show();
        let advice = advice.iter().map(|advice| format!("\n{advice}")).collect::<String>();
        Ok(format!("{} is in force{advice}", self.start.options.config.path().display()))
    }

    /// What may be looked at over HTTP, by the configuration.
    fn show(&mut self) {
        if let Some(view) = &self.view {
            self.web.update(self.start.config.web.as_ref(), view);
        }
    }

    fn desk(&self, end: watch::Receiver<bool>) -> Arc<Desk> {
        Arc::new(Desk {
            core: self.core.clone(),
            transport: self.transport.clone(),
            gossip: Arc::downgrade(&self.gossip),
            directory: self.directory.clone(),
            state_dir: self.start.options.state_dir.clone(),
            issuer: self.start.identity.is_issuer(),
            hooks: self.hooks.counters(),
            events: self.events.clone(),
            reload: self.reload.clone(),
            end,
        })
    }
}

fn handler(desk: Arc<Desk>) -> control::Handler {
    Arc::new(move |request| desk.clone().answer(request).boxed())
}

fn update_probes(probes: &mut Running, config: &Config, core: &Entrance<ToCore>) {
    let core = core.clone();
    let report: probe::Report = Arc::new(move |name: &str, part: &str, outcome| {
        core.send(ToCore::Input(Input::Check { name: name.to_owned(), part: part.to_owned(), outcome }));
    });
    probes.update(config, &report);
}

fn join_server(start: &Start, directory: Arc<Directory>, shared: Arc<Mutex<String>>) -> Arc<JoinServer> {
    let me = start.config.node.listen;
    let offer = move || Offer {
        cluster_name: None,
        peers: std::iter::once(me).chain(directory.addresses()).collect(),
        settings: shared.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        issuer: directory.issuer(),
    };
    Arc::new(JoinServer::new(start.options.state_dir.clone(), start.identity.clone(), offer))
}

/// Answers the local socket.
struct Desk {
    core: Entrance<ToCore>,
    transport: Transport,
    gossip: std::sync::Weak<Gossip>,
    directory: Arc<Directory>,
    state_dir: PathBuf,
    issuer: bool,
    hooks: Arc<hooks::Counters>,
    events: Arc<Events>,
    reload: mpsc::Sender<Reloaded>,
    end: watch::Receiver<bool>,
}

impl Desk {
    async fn answer(self: Arc<Desk>, request: Request) -> Response {
        match request {
            Request::Snapshot => match self.snapshot().await {
                Some(snapshot) => Response::Snapshot(Box::new(snapshot)),
                None => {
                    Response::Error("the core does not answer: the daemon is stopping or overloaded".into())
                }
            },
            Request::Leave => self.leave().await,
            Request::Voters(request) => self.voters(request).await,
            Request::Order(order) => self.order(order).await,
            Request::Forecast { down } => match self.put(|ask| ToCore::Forecast(down, ask)).await {
                Ok(forecast) => Response::Forecast(forecast),
                Err(reason) => Response::Error(reason),
            },
            Request::Reload => self.reload().await,
            Request::Events { after } => Response::Events(self.events.after(after)),
        }
    }

    /// For those who may only look.
    fn view(self: &Arc<Desk>) -> web::View {
        let (desk, events) = (self.clone(), self.events.clone());
        let ask = move || {
            let desk = desk.clone();
            async move { desk.snapshot().await }.boxed()
        };
        web::View { ask: Arc::new(ask), events }
    }

    async fn ask(&self) -> Option<Snapshot> {
        let (ask, answer) = oneshot::channel();
        self.core.send(ToCore::Ask(ask));
        tokio::time::timeout(ANSWER, answer).await.ok()?.ok()
    }

    async fn snapshot(&self) -> Option<Snapshot> {
        let mut snapshot = self.ask().await?;
        let t = self.transport.counters();
        let g = self.gossip.upgrade().map(|gossip| gossip.counters()).unwrap_or_default();
        let counters = [
            ("transport_datagrams_dropped", t.datagrams_dropped),
            ("transport_streams_dropped", t.streams_dropped),
            ("transport_oversize", t.oversize),
            ("transport_unfinished", t.unfinished),
            ("transport_handshakes_failed", t.handshakes_failed),
            ("transport_dials_failed", t.dials_failed),
            ("transport_unknown", t.unknown),
            ("transport_refused", t.refused),
            ("transport_clones", t.clones),
            ("transport_restarts", t.restarts),
            ("gossip_undecodable", g.undecodable),
            ("gossip_foreign_key", g.foreign_key),
            ("gossip_oversize", g.oversize),
            ("gossip_other_cluster", g.other_cluster),
            ("gossip_bad_signature", g.bad_signature),
            ("gossip_wrong_author", g.wrong_author),
            ("gossip_stale", g.stale),
            ("gossip_full", g.full),
            ("gossip_unsent", g.unsent),
            ("gossip_overflow", g.overflow),
            ("gossip_restarts", g.restarts),
        ];
        let counters = counters.into_iter().chain(self.hooks.all());
        snapshot.counters.extend(counters.map(|(name, count)| (name.to_owned(), count)));
        snapshot.counters.insert("events_unwritten".into(), self.events.unwritten());
        snapshot.warnings.extend(self.hooks.warnings());
        Some(snapshot)
    }

    /// A question to the core.
    async fn put<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<Result<T, String>>) -> ToCore,
    ) -> Result<T, String> {
        let (ask, answer) = oneshot::channel();
        self.core.send(question(ask));
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(Ok(verdict)) => verdict,
            _ => Err("the core does not answer: the daemon is stopping or overloaded".into()),
        }
    }

    async fn order(&self, order: Order) -> Response {
        let standby = match &order {
            Order::Standby { on, .. } => Some(*on),
            Order::Move { .. } => None,
        };
        let verdict = self.put(|ask| ToCore::Order(order, ask)).await;
        let (Ok(_), Some(on)) = (&verdict, standby) else {
            return verdict.map_or_else(Response::Error, Response::Done);
        };
        let dir = self.state_dir.clone();
        match tokio::task::spawn_blocking(move || state::store_standby(&dir, on)).await {
            Ok(Ok(())) => verdict.map_or_else(Response::Error, Response::Done),
            Ok(Err(error)) => {
                Response::Error(format!("it is so now, and a restart will not know of it: {error}"))
            }
            Err(error) => Response::Error(error.to_string()),
        }
    }

    async fn reload(&self) -> Response {
        let (ask, answer) = oneshot::channel();
        let _ = self.reload.send(ask).await;
        let verdict = answer.await.unwrap_or_else(|_| Err("the daemon is stopping".into()));
        verdict.map_or_else(Response::Error, Response::Done)
    }

    async fn voters(&self, request: VoterRequest) -> Response {
        let verdict = self.put(|ask| ToCore::Voters(request.clone(), ask)).await;
        if let (Ok(_), VoterRequest::Expel { name, .. }) = (&verdict, request) {
            // Whoever joins next may have its name.
            let dir = self.state_dir.clone();
            tokio::task::spawn_blocking(move || drop(tokens::release_name(&dir, &name)));
        }
        verdict.map_or_else(Response::Error, Response::Done)
    }

    async fn leave(&self) -> Response {
        if self.issuer {
            return Response::Error(
                "this node has the cluster's CA key: without it nobody can join any more. To end the cluster, let all \
                 others leave, stop this node, and remove its state directory; to stop it for a while, stop the daemon"
                    .into(),
            );
        }
        let dir = self.state_dir.clone();
        let marked = tokio::task::spawn_blocking(move || state::mark_left(&dir)).await;
        match marked {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Response::Error(format!("{error}; this node stays as it is")),
            Err(error) => return Response::Error(error.to_string()),
        }
        self.directory.leaving.store(true, std::sync::atomic::Ordering::Relaxed);
        self.core.send(ToCore::Input(Input::Shutdown { leave: true }));
        let mut end = self.end.clone();
        if end.wait_for(|ended| *ended).await.is_err() {
            return Response::Error("the daemon failed before it had left; see its log".into());
        }
        match state::retire(&self.state_dir) {
            Ok(()) => Response::Done(
                "this node has handed its VIPs over and left the cluster; the daemon has ended".into(),
            ),
            Err(error) => {
                Response::Error(format!("this node has left, but its identity could not be removed: {error}"))
            }
        }
    }
}

/// Who is where, and whom to keep a connection with.
struct Directory {
    me: SocketAddr,
    seeds: Vec<SocketAddr>,
    dir: PathBuf,
    issues: bool,
    transport: Transport,
    members: Mutex<BTreeMap<NodeId, Entry>>,
    leaving: Arc<std::sync::atomic::AtomicBool>,
}

struct Entry {
    addr: SocketAddr,
    /// The name of a member with the CA key.
    issuer: Option<String>,
}

impl Directory {
    fn new(start: &Start, transport: Transport) -> Directory {
        let known = state::load_peers(&start.options.state_dir);
        let members = known.into_iter().map(|(node, addr)| (node, Entry { addr, issuer: None })).collect();
        Directory {
            me: start.config.node.listen,
            seeds: start.config.node.seeds.clone(),
            dir: start.options.state_dir.clone(),
            issues: start.identity.is_issuer(),
            transport,
            members: Mutex::new(members),
            leaving: Arc::default(),
        }
    }

    fn members(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Entry>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.members().values().map(|entry| entry.addr).collect()
    }

    fn issuer(&self) -> Option<String> {
        self.members().values().find_map(|entry| entry.issuer.clone())
    }

    fn issuers(&self) -> Vec<NodeId> {
        let issues = |(node, entry): (&NodeId, &Entry)| entry.issuer.is_some().then_some(*node);
        self.members().iter().filter_map(issues).collect()
    }

    /// What a verified record says of where its author is.
    fn enter(&self, record: &MemberRecord) {
        let mut members = self.members();
        let old = members.get(&record.node).map(|entry| entry.addr);
        if record.leaving {
            if members.remove(&record.node).is_some() && self.issues {
                let (dir, name) = (self.dir.clone(), record.name.clone());
                // The name is free again for whoever joins next.
                tokio::task::spawn_blocking(move || drop(tokens::release_name(&dir, &name)));
            }
        } else {
            let issuer = record.issuer.then(|| record.name.clone());
            members.insert(record.node, Entry { addr: record.addr, issuer });
        }
        let changed = old != members.get(&record.node).map(|entry| entry.addr);
        drop(members);
        if changed {
            self.dial();
            self.remember();
        }
    }

    fn strike(&self, nodes: &[NodeId]) {
        self.members().retain(|node, _| !nodes.contains(node));
        self.dial();
        self.remember();
    }

    fn dial(&self) {
        let members = self.members();
        let known = members.iter().map(|(node, entry)| (Some(*node), entry.addr));
        let is_known =
            |seed: &SocketAddr| *seed != self.me && !members.values().any(|entry| entry.addr == *seed);
        let seeds = self.seeds.iter().copied().filter(is_known).map(|seed| (None, seed));
        let peers: Vec<_> = known.chain(seeds).collect();
        drop(members);
        self.transport.set_peers(&peers);
    }

    fn remember(&self) {
        let peers: Vec<(NodeId, SocketAddr)> =
            self.members().iter().map(|(node, entry)| (*node, entry.addr)).collect();
        let dir = self.dir.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = state::store_peers(&dir, &peers) {
                tracing::warn!("the members' addresses are not remembered: {error}");
            }
        });
    }
}

/// Gossip over the transport.
struct Wire(Transport);

impl Outbox for Wire {
    fn send(&self, to: SocketAddr, bytes: Vec<u8>) -> bool {
        self.0.stream(to, bytes)
    }

    fn peers(&self) -> Vec<SocketAddr> {
        self.0.connected().into_iter().map(|(_, addr)| addr).collect()
    }
}

struct Signer(Arc<Identity>);

impl Keys for Signer {
    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.0.sign(bytes)
    }

    fn certificate(&self) -> Vec<u8> {
        self.0.certificate_der().to_vec()
    }

    fn verify(&self, certificate: &[u8], message: &[u8], signature: &[u8]) -> Result<NodeId, String> {
        let verified = self.0.trust().verify_signature(certificate, message, signature);
        verified.map(|member| member.node).map_err(|error| error.to_string())
    }
}
