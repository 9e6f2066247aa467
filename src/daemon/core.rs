//! The loop: wait, ask the engine, perform. Nothing in it waits for a disk, a name or another process.

use super::lateness::Lateness;
use super::{DaemonError, Entrance, Lanes, ToCore, ToOffice, engine_config, heritage, verify_voters};
use crate::config::Config;
use crate::engine::elect::Elect;
use crate::engine::heir::Memory;
use crate::engine::{self, Action, Engine, Input};
use crate::io::clock::{self, Alarm};
use crate::io::fence::deaf;
use crate::io::gates::Gates;
use crate::io::identity::{self, Identity};
use crate::io::journal::{Header, Recorder};
use crate::io::lists::Unread;
use crate::io::netlink::Kernel;
use crate::io::ports::Ports;
use crate::io::quic::{self, Transport};
use crate::io::realtime;
use crate::io::virtual_macs::{self, VirtualMacs};
use haclusterd_proto::cluster::{Message, SignedVoters};
use haclusterd_proto::control::Snapshot;
use haclusterd_proto::{VipId, codec};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// What the core thread is given.
pub(super) struct Seat {
    /// Sent when the core has ended as it was told to; dropped without if it failed.
    pub alive: oneshot::Sender<()>,
    pub config: Config,
    pub identity: Arc<Identity>,
    pub engine: engine::Config,
    pub voters: Option<SignedVoters>,
    /// What an earlier run on this host left.
    pub memory: Option<Memory>,
    pub journal: Recorder,
    pub entrance: Entrance<ToCore>,
    pub office: Entrance<ToOffice>,
}

struct Core {
    alarm: Alarm,
    engine: Engine,
    journal: Recorder,
    ports: Ports,
    config: Config,
    identity: Arc<Identity>,
    entrance: Entrance<ToCore>,
    office: Entrance<ToOffice>,
    /// Messages that could not be read, or claimed what is not so.
    malformed: u64,
    /// Messages that left out a list that was not known here.
    unknown: u64,
    /// Other work on this host does not keep the core from running, and its memory is not written out.
    realtime: bool,
    resident: bool,
    lateness: Lateness,
    done: bool,
}

/// The whole thread.
pub(super) fn run(seat: Seat, inbox: Lanes<ToCore>, ready: oneshot::Sender<Result<Transport, DaemonError>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error.into()))),
    };
    let wanted = seat.config.node.realtime;
    let (realtime, resident) = (wanted && realtime::raise(), wanted && realtime::stay_resident());
    runtime.block_on(async {
        match open(seat, realtime, resident).await {
            Ok((core, transport, alive)) => {
                let _ = ready.send(Ok(transport.clone()));
                let core = core.run(inbox).await;
                let _ = alive.send(());
                let successor = !core.engine.drains();
                if !successor {
                    // Gossip's last words still need the transport.
                    tokio::time::sleep(LAST_WORDS).await;
                }
                // Not before: it takes the kernel tens of milliseconds, and who succeeds waits for the last advert.
                core.ports.close();
                if !successor {
                    transport.close(FLUSH).await;
                }
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
}

async fn open(
    seat: Seat,
    realtime: bool,
    resident: bool,
) -> Result<(Core, Transport, oneshot::Sender<()>), DaemonError> {
    let Seat { alive, config, identity, engine, voters, memory, mut journal, entrance, office } = seat;
    let news = entrance.clone();
    // First: a second daemon on this host must fail before it sweeps the first one's addresses.
    let transport = start_transport(&config, &identity, &entrance, &office)?;
    let kernel = Kernel::start(Arc::new(move |event| news.send(ToCore::Kernel(event)))).await?;
    let stamp = voters.as_ref().map(|signed| signed.set.stamp()).unwrap_or_default();
    let heritage = heritage::find(&config, memory.unwrap_or_default(), stamp);
    // First, as at a release: no route is to lead to an address that is gone.
    match kernel.sweep_ways(&heritage.ways).await {
        Ok((0, 0)) => {}
        Ok((routes, rules)) => {
            tracing::warn!(
                "{routes} routes and {rules} rules were left behind by an earlier run and are removed"
            );
        }
        Err(error) => tracing::warn!("routes and rules that an earlier run may have left: {error}"),
    }
    for (_, net) in kernel.sweep(&heritage.addresses()).await? {
        tracing::warn!("{net} was left behind by an earlier run and is removed");
    }
    // What an earlier run with another configuration refused; what this one does, it says when it knows the interfaces.
    let _ = deaf::turn(&[]);
    virtual_macs::sweep(&heritage.virtual_macs).await?;
    // Not before: what is swept is to stay guarded until it is gone.
    let gates = Gates::start(&heritage.gates);
    let gates_stand = gates.missing().is_none();
    let (inputs, makers) = (entrance.clone(), entrance.clone());
    let work = office.clone();
    let ports = Ports::new(
        &config,
        transport.clone(),
        kernel,
        gates,
        VirtualMacs::new(heritage.virtual_macs, Arc::new(move |made| makers.send(ToCore::Made(made)))),
        Arc::new(move |input| inputs.offer(ToCore::Input(input))),
        Box::new(move |job| work.send(ToOffice::Work(job))),
    );
    let engine = engine::Config { fenced: gates_stand, ..engine };
    let header = Header::new(engine, voters, heritage.inheritance, clock::now());
    journal.begin(&header);
    let engine = header.engine();
    Ok((
        Core {
            alarm: Alarm::new()?,
            engine,
            journal,
            ports,
            config,
            identity,
            entrance,
            office,
            malformed: 0,
            unknown: 0,
            realtime,
            resident,
            lateness: Lateness::new(clock::now()),
            done: false,
        },
        transport,
        alive,
    ))
}

fn start_transport(
    config: &Config,
    identity: &Arc<Identity>,
    entrance: &Entrance<ToCore>,
    office: &Entrance<ToOffice>,
) -> Result<Transport, DaemonError> {
    let settings = quic::Settings {
        bind: config.node.listen,
        me: identity.node,
        server: identity::tls::server_config(identity)?,
        client: identity::tls::client_config(identity)?,
        server_name: identity::tls::server_name(),
        identify: Arc::new(|connection| identity::tls::peer_of(connection).map(|member| member.node)),
        reset_secret: identity.secret(b"haclusterd stateless reset v1"),
    };
    let (core, office) = (entrance.clone(), office.clone());
    let events = move |event| match event {
        quic::Event::Up { node, .. } => {
            core.send(ToCore::Input(Input::Connected(node)));
            office.offer(ToOffice::Greet);
        }
        quic::Event::Down { node, reason } => {
            tracing::debug!("no connection to {} any more: {reason}", node.short())
        }
        quic::Event::Datagram { from, bytes } => core.offer(ToCore::Message { from, bytes }),
        quic::Event::Stream { from, bytes, .. } if bytes.first() == Some(&codec::VERSION) => {
            core.offer(ToCore::Message { from, bytes: bytes.into() });
        }
        // Gossip's begin with another byte.
        quic::Event::Stream { from, addr, bytes } => office.offer(ToOffice::Stream { from, addr, bytes }),
        quic::Event::Join(connection) => office.offer(ToOffice::Join(connection)),
        quic::Event::Clone { addr } => core.offer(ToCore::Input(Input::Clone(addr.to_string()))),
    };
    Ok(Transport::start(settings, Arc::new(events))?)
}

impl Core {
    /// Until its engine has ended.
    async fn run(mut self, mut inbox: Lanes<ToCore>) -> Core {
        self.look_around(&mut inbox).await;
        let mut listened = clock::now();
        let mut looked = listened;
        let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 3);
        let mut fed = clock::now();
        while !self.done {
            let deadline = self.engine.deadline(clock::now());
            let message = tokio::select! {
                biased;
                () = self.alarm.ring(deadline) => ToCore::Input(Input::Deadline),
                Some(message) = inbox.recv() => message,
            };
            let now = clock::now();
            // What was due before the last look was done then.
            if let Some(due) = deadline.map(|at| at.max(looked)).filter(|due| *due <= now) {
                self.lateness.note(now.since(due), now);
            }
            looked = now;
            self.take(message).await;
            if clock::now().since(listened) >= LISTEN_AGAIN {
                listened = clock::now();
                for input in self.ports.listen_again() {
                    self.decide(input).await;
                }
            }
            if watchdog.is_some_and(|pause| clock::now().since(fed) >= pause) {
                fed = clock::now();
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            }
        }
        self
    }

    /// Before anything is decided: an heir must not find its interfaces missing because it has not heard of them yet.
    async fn look_around(&mut self, inbox: &mut Lanes<ToCore>) {
        let (mut inputs, mut others) = (Vec::new(), Vec::new());
        for message in inbox.said() {
            match message {
                ToCore::Kernel(event) => inputs.extend(self.ports.kernel_event(event)),
                other => others.push(other),
            }
        }
        for input in inputs {
            self.decide(input).await;
        }
        for message in others {
            self.take(message).await;
        }
    }

    async fn take(&mut self, message: ToCore) {
        match message {
            ToCore::Input(input) => self.decide(input).await,
            ToCore::Message { from, bytes } => match self.ports.read(from, &bytes) {
                // A voter set is not the engine's business before its signature is checked.
                Ok(Message::Voters(signed)) => match verify_voters(&self.identity, &signed) {
                    Ok(()) => self.decide(Input::Voters(signed)).await,
                    Err(_) => self.malformed += 1,
                },
                Ok(message) => self.decide(Input::Message { from, message }).await,
                Err(Unread::Unknown) => self.unknown += 1,
                Err(Unread::Malformed(_)) => self.malformed += 1,
            },
            ToCore::Kernel(event) => {
                for input in self.ports.kernel_event(event) {
                    self.decide(input).await;
                }
            }
            ToCore::Made(made) => {
                if let Some(input) = self.ports.made(made).await {
                    self.decide(input).await;
                }
            }
            ToCore::Ask(answer) => drop(answer.send(self.snapshot())),
            ToCore::Voters(request, answer) => {
                let verdict = self.engine.judge_voters(&request, clock::now()).map(|(_, text)| text);
                let granted = verdict.is_ok();
                let _ = answer.send(verdict);
                if granted {
                    self.decide(Input::ChangeVoters(request)).await;
                }
            }
            ToCore::Order(order, answer) => {
                let verdict = self.engine.judge_order(&order, clock::now());
                let granted = verdict.is_ok();
                let _ = answer.send(verdict);
                if granted {
                    self.decide(Input::Order(order)).await;
                }
            }
            ToCore::Forecast(down, answer) => drop(answer.send(self.engine.forecast(&down, clock::now()))),
            ToCore::Reload(config) => self.reload(*config).await,
        }
    }

    async fn decide(&mut self, input: Input) {
        let mut todo = VecDeque::from([input]);
        while let Some(input) = todo.pop_front() {
            let now = clock::now();
            self.journal.input(now, &input);
            let actions = tracing::debug_span!("decide").in_scope(|| self.engine.handle(input, now));
            self.journal.actions(&actions);
            self.done |= actions.contains(&Action::Exit);
            todo.extend(self.ports.perform(actions).await);
        }
        self.ports.verify();
    }

    async fn reload(&mut self, config: Config) {
        if self.engine.drains() {
            return;
        }
        // A VIP that is to lie elsewhere is taken off its old place first.
        let places = |config: &Config| -> Vec<_> {
            config
                .all_vips()
                .map(|v| {
                    (
                        v.id,
                        v.interface.clone(),
                        v.virtual_mac.clone(),
                        v.addresses.clone(),
                        v.excluded.clone(),
                    )
                })
                .collect()
        };
        let kept: BTreeMap<VipId, _> = places(&config).into_iter().map(|place| (place.0, place)).collect();
        let gone = places(&self.config).into_iter().filter(|old| kept.get(&old.0) != Some(old));
        let moved: Vec<_> = gone
            .map(|place| (place.0, Err("its place in the configuration has changed".to_owned())))
            .collect();
        if !moved.is_empty() {
            self.decide(Input::Interfaces(moved)).await;
        }
        let record = self.engine.record();
        let mut engine = engine_config(&config, &self.identity, record.incarnation, record.generation);
        engine.fenced = self.ports.gates().missing().is_none();
        self.decide(Input::Reconfigure(Box::new(engine))).await;
        self.ports.reconfigure(&config);
        self.config = config;
        for input in self.ports.all_interface_states() {
            self.decide(input).await;
        }
    }

    fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.engine.snapshot(clock::wall(), clock::now());
        let configs: BTreeMap<String, _> =
            self.config.all_vips().map(|config| (config.id.to_string(), config)).collect();
        for vip in &mut snapshot.vips {
            let Some(config) = configs.get(&vip.id) else { continue };
            vip.addresses = config.all().map(|address| address.net.to_string()).collect();
            vip.interface = config.seat().unwrap_or_default().to_owned();
            if let Some(verdict) = self.ports.acknowledged(config.id) {
                vip.neighbors_asked = Some(verdict.asked);
                vip.neighbors_acked = Some(verdict.acked);
                vip.neighbors_silent = verdict.silent.iter().map(ToString::to_string).collect();
            }
        }
        let gates = self.ports.gates();
        snapshot.cluster.fence = gates.missing().is_none();
        if let Some(reason) = gates.missing().filter(|_| self.config.all_vips().next().is_some()) {
            snapshot.warnings.push(format!("no fence: {reason}"));
        }
        snapshot.warnings.extend(self.ports.refused_ways().cloned());
        let late = self.lateness.p999().unwrap_or_default();
        let most = self.config.cluster.timers.lateness();
        if late > most {
            snapshot.warnings.push(super::too_late(late, most, self.realtime));
        }
        let (asked, dropped) = self.ports.verify_counts();
        let counters = [
            ("core_queue_dropped", self.entrance.dropped.load(Ordering::Relaxed)),
            ("office_queue_dropped", self.office.dropped.load(Ordering::Relaxed)),
            ("journal_dropped", self.journal.dropped()),
            ("messages_malformed", self.malformed),
            ("messages_unknown_list", self.unknown),
            ("core_realtime", u64::from(self.realtime)),
            ("core_resident", u64::from(self.resident)),
            ("core_late_p999_us", micros(late)),
            ("core_late_max_us", micros(self.lateness.most())),
            ("fence_repairs", gates.repairs()),
            ("fence_failures", gates.failures()),
            ("messages_oversize", self.ports.counters.oversize.load(Ordering::Relaxed)),
            ("frames_unsent", self.ports.counters.unsent.load(Ordering::Relaxed)),
            ("neighbors_asked", asked.asked),
            ("neighbors_acked", asked.acked),
            ("neighbors_silent", asked.silent),
            ("neighbors_left_out", asked.left_out),
            ("neighbors_answers_dropped", dropped),
        ];
        snapshot.counters.extend(counters.map(|(name, count)| (name.to_owned(), count)));
        for (name, count) in self.ports.vrrp_counters() {
            *snapshot.counters.entry(name).or_default() += count;
        }
        snapshot
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

const LISTEN_AGAIN: Duration = Duration::from_secs(1);
const LAST_WORDS: Duration = Duration::from_millis(200);
/// What a handover needs to leave the host; a peer that takes longer is lost anyway.
const FLUSH: Duration = Duration::from_millis(200);
/// How long the office waits for the core to answer a question.
pub(super) const ANSWER: Duration = Duration::from_secs(2);
