//! Three hosts, their kernels and the network between them, in steps: whatever can happen next is a [`Step`].
//!
//! Time passes in ticks of one advert interval, in which everything else takes none. A packet that was sent arrives
//! in order unless it is held back; one that is held back may arrive at any later time, or never. How much of each
//! trouble a course may hold is its [`Budget`]; the course of a world whose budget is spent is the only one left.

use crate::mutation::{Memory, Mutation};
use crate::words::{Whose, Words, holder};
use haclusterd::engine::health::{CheckConfig, Outcome};
use haclusterd::engine::heir::{Inheritance, Memory as Legacy};
use haclusterd::engine::time::{Instant, Timers};
use haclusterd::engine::{Action, Config, Engine, Input, VipConfig};
use haclusterd_proto::cluster::{Grant, Message, SignedVoters, VoterSet};
use haclusterd_proto::member::MemberRecord;
use haclusterd_proto::{AddrId, ClusterId, Incarnation, MacAddr, NodeId, Role, VipId};
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

pub const TICK: Duration = Duration::from_millis(50);
/// Six ticks: a holder serves for five after its last renewal, and voters forget it at the sixth.
pub const TIMERS: Timers = Timers { advert: TICK, lease: Duration::from_millis(300) };
const CLUSTER: ClusterId = ClusterId([7; 16]);
pub const VIP: VipId = VipId(1000);
/// A and B may own the VIP; W is a witness. All three vote.
pub const HOSTS: usize = 3;
pub const WITNESS: usize = 2;
/// What waits for a host that is paused; a socket's buffer is bounded.
const WAITING: usize = 8;

/// How much may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Budget {
    /// Packets held back.
    pub late: u16,
    /// Packets that arrive twice.
    pub twice: u16,
    /// Directed links cut.
    pub cuts: u8,
    pub pauses: u8,
    pub restarts: u8,
    /// nginx dies at a host.
    pub deaths: u8,
}

/// Where a course begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A owns the VIP.
    Owned,
    /// nginx runs nowhere yet, so nobody does.
    Free,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub start: Start,
    pub budget: Budget,
    pub mutation: Option<Mutation>,
    /// A random walk goes on although it comes by the same state again.
    pub walk: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A tick passes; who runs does what is due.
    Tick,
    /// The next packet arrives.
    Arrives,
    /// The next packet arrives, and its copy is held back.
    Twice,
    /// The next packet is held back.
    Held,
    /// A packet that was held back arrives.
    Late(usize),
    Fault(Fault),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What the first sends to the second is lost.
    Cut(usize, usize),
    Mend(usize, usize),
    /// SIGSTOP: the daemon does not run, and what reaches it waits.
    Pause(usize),
    Continue(usize),
    /// SIGKILL and a new start: what the kernel still passes is taken over, all else that the daemon knew is lost.
    Restart(usize),
    NginxDies(usize),
    NginxRuns(usize),
}

#[derive(Clone, Debug)]
pub struct Packet {
    pub from: usize,
    pub to: usize,
    /// When the advert was sent that this is or answers.
    pub asked: Instant,
    pub message: Arc<Message>,
}

#[derive(Clone, Debug)]
pub struct Host {
    pub engine: Engine,
    pub paused: bool,
    waiting: Vec<Packet>,
    /// Until when the kernel passes the VIP's packets.
    pub kernel: Option<Instant>,
    /// What this run leaves to the next.
    legacy: Option<Legacy>,
    pub nginx: bool,
    run: u64,
    memory: Memory,
}

#[derive(Clone)]
pub struct World {
    pub now: Instant,
    pub hosts: [Arc<Host>; HOSTS],
    /// On their way, in order.
    pub flight: VecDeque<Packet>,
    pub held: Vec<Packet>,
    /// `cut[from][to]`.
    cut: [[bool; HOSTS]; HOSTS],
    pub left: Budget,
    pub mutation: Option<Mutation>,
    walked: Option<u32>,
    /// What the daemons said in the last step.
    pub said: Vec<(usize, String)>,
}

pub fn node(at: usize) -> NodeId {
    NodeId([u8::try_from(at).unwrap() + 1; 16])
}

fn record(at: usize, run: u64) -> MemberRecord {
    let addr = ([10, 0, 0, 1 + u8::try_from(at).unwrap()], 7946).into();
    let incarnation = Incarnation(u128::from(run) << 64 | at as u128);
    MemberRecord {
        role: if at == WITNESS { Role::Witness } else { Role::Member },
        base_priority: [150, 100, 100][at],
        config_digest: 1,
        generation: run,
        ..MemberRecord::new(node(at), ["A", "B", "W"][at].into(), addr, incarnation)
    }
}

fn engine(at: usize, run: u64, timers: Timers, now: Instant) -> Engine {
    let vip = VipConfig {
        id: VIP,
        name: "vip".into(),
        addresses: vec![AddrId(1)],
        preempt: true,
        // At once, and a second owner would be gone before anybody looked.
        preempt_delay: TICK,
        announce_refresh: Duration::ZERO,
    };
    let check = CheckConfig::new("nginx", 1, 1, 0);
    let config = Config {
        cluster: CLUSTER,
        record: record(at, run),
        timers,
        earlier_lease: Duration::ZERO,
        voters_max: HOSTS,
        strict_pair: false,
        gateway: false,
        standby: false,
        fenced: true,
        strict_health: true,
        vips: vec![vip],
        routers: Vec::new(),
        checks: if at == WITNESS { Vec::new() } else { vec![check] },
    };
    let set = VoterSet { voters: (0..HOSTS).map(node).collect(), ..VoterSet::first(CLUSTER, node(0)) };
    Engine::new(config, Some(SignedVoters { set, signature: Vec::new() }), now)
}

impl World {
    /// Everybody is up and has a session with every voter, and the voters' silence is over.
    pub fn new(plan: &Plan) -> World {
        let now = Instant::from_micros(1_000_000_000);
        let host = |at| {
            Arc::new(Host {
                engine: engine(at, 1, Mutation::timers(plan.mutation, at), now),
                paused: false,
                waiting: Vec::new(),
                kernel: None,
                legacy: None,
                nginx: plan.start == Start::Owned,
                run: 1,
                memory: Memory::default(),
            })
        };
        let mut world = World {
            now,
            hosts: [host(0), host(1), host(WITNESS)],
            flight: VecDeque::new(),
            held: Vec::new(),
            cut: Default::default(),
            left: plan.budget,
            mutation: None,
            walked: plan.walk.then_some(0),
            said: Vec::new(),
        };
        (0..HOSTS).for_each(|at| world.boot(at));
        for _ in 0..40 {
            world.tick();
            while !world.flight.is_empty() {
                world.arrive(false);
            }
        }
        world.mutation = plan.mutation;
        world
    }

    /// What can happen next.
    pub fn steps(&self, steps: &mut Vec<Step>) {
        match self.flight.is_empty() {
            true => steps.push(Step::Tick),
            false => {
                steps.push(Step::Arrives);
                steps.extend((self.left.twice > 0).then_some(Step::Twice));
                steps.extend((self.left.late > 0).then_some(Step::Held));
            }
        }
        // What concerns another host than the one that acts next may as well happen when that one does.
        let acts = |at: usize| self.flight.front().is_none_or(|packet| packet.to == at);
        let late = self.held.iter().enumerate().filter(|(_, p)| acts(p.to) && !self.hosts[p.to].paused);
        steps.extend(late.map(|(at, _)| Step::Late(at)));
        let mut faults = Vec::new();
        for at in (0..HOSTS).filter(|at| acts(*at)) {
            self.faults(at, &mut faults);
        }
        steps.extend(faults.into_iter().map(Step::Fault));
    }

    fn faults(&self, at: usize, faults: &mut Vec<Fault>) {
        let (host, left) = (&self.hosts[at], &self.left);
        faults.extend((left.restarts > 0).then_some(Fault::Restart(at)));
        if host.paused {
            return faults.push(Fault::Continue(at));
        }
        faults.extend((left.pauses > 0).then_some(Fault::Pause(at)));
        if at != WITNESS {
            match host.nginx {
                true => faults.extend((left.deaths > 0).then_some(Fault::NginxDies(at))),
                false => faults.push(Fault::NginxRuns(at)),
            }
        }
        for to in (0..HOSTS).filter(|to| *to != at) {
            match self.cut[at][to] {
                true => faults.push(Fault::Mend(at, to)),
                false => faults.extend((left.cuts > 0).then_some(Fault::Cut(at, to))),
            }
        }
    }

    pub fn take(&mut self, step: &Step) {
        self.said.clear();
        self.walked = self.walked.map(|steps| steps + 1);
        match step {
            Step::Tick => self.tick(),
            Step::Arrives => self.arrive(false),
            Step::Twice => {
                self.left.twice -= 1;
                self.arrive(true);
            }
            Step::Held => {
                self.left.late -= 1;
                let packet = self.flight.pop_front().unwrap();
                self.hold(packet);
            }
            Step::Late(at) => {
                let packet = self.held.remove(*at);
                self.deliver(packet);
            }
            Step::Fault(fault) => self.suffer(*fault),
        }
    }

    fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::Cut(from, to) => {
                self.left.cuts -= 1;
                self.cut[from][to] = true;
            }
            Fault::Mend(from, to) => self.cut[from][to] = false,
            Fault::Pause(at) => {
                self.left.pauses -= 1;
                self.host(at).paused = true;
                let (waits, flies): (Vec<_>, Vec<_>) =
                    self.flight.drain(..).partition(|packet| packet.to == at);
                self.flight = flies.into();
                self.host(at).waiting = waits;
            }
            Fault::Continue(at) => {
                self.host(at).paused = false;
                let waiting = std::mem::take(&mut self.host(at).waiting);
                self.flight.extend(waiting);
            }
            Fault::Restart(at) => {
                self.left.restarts -= 1;
                self.restart(at);
            }
            Fault::NginxDies(at) => {
                self.left.deaths -= 1;
                self.set_nginx(at, false);
            }
            Fault::NginxRuns(at) => self.set_nginx(at, true),
        }
    }

    /// A new run takes over what the kernel still passes, and sweeps the rest.
    fn restart(&mut self, at: usize) {
        let run = self.hosts[at].run + 1;
        let since = Mutation::born(self.mutation, self.now);
        let timers = Mutation::timers(self.mutation, at);
        let (now, mutation) = (self.now, self.mutation);
        let host = self.host(at);
        let memory = host.legacy.take().unwrap_or_default();
        let held = memory.held.iter().any(|(vip, _)| *vip == VIP);
        let gate = host.kernel.filter(|_| held).map(|until| (VIP, Mutation::inherited(mutation, until, now)));
        host.kernel = host.kernel.filter(|_| held);
        let heritage = Inheritance { memory, gates: gate.into_iter().collect() };
        host.engine = engine(at, run, timers, since).inherit(&heritage, now);
        (host.run, host.paused) = (run, false);
        host.waiting.clear();
        self.boot(at);
    }

    /// What a daemon hears first. What it says before it has heard all of it is lost.
    fn boot(&mut self, at: usize) {
        let flight = self.flight.clone();
        if at != WITNESS {
            let state = Ok(MacAddr([2, 0, 0, 0, 0, u8::try_from(at).unwrap()]));
            self.feed(at, Input::Interfaces(vec![(VIP, state)]));
            self.set_nginx(at, self.hosts[at].nginx);
        }
        for other in (0..HOSTS).filter(|other| *other != at) {
            self.feed(at, Input::Member(Box::new(record(other, self.hosts[other].run))));
        }
        self.flight = flight;
    }

    fn set_nginx(&mut self, at: usize, runs: bool) {
        self.host(at).nginx = runs;
        let outcome = if runs { Outcome::Pass } else { Outcome::Certain("killed".into()) };
        self.feed(at, Input::Check { name: "nginx".into(), part: String::new(), outcome });
    }

    fn tick(&mut self) {
        self.now = self.now + TICK;
        for at in 0..HOSTS {
            let host = &self.hosts[at];
            let kept = host.paused && self.mutation == Some(Mutation::NoGate);
            if host.kernel.is_some_and(|until| until <= self.now) && !kept {
                self.host(at).kernel = None;
            }
            if !self.hosts[at].paused {
                self.feed(at, Input::Deadline);
            }
        }
    }

    fn arrive(&mut self, again: bool) {
        let packet = self.flight.pop_front().unwrap();
        if again {
            self.hold(packet.clone());
        }
        self.deliver(packet);
    }

    fn hold(&mut self, packet: Packet) {
        self.held.push(packet);
        self.held.sort_by_key(Packet::order);
    }

    fn deliver(&mut self, packet: Packet) {
        if self.mutation != Some(Mutation::StaleAdverts) {
            // Whatever is older is stale (V1): no need to look at what its arrival would do.
            self.held.retain(|held| !packet.outdates(held));
        }
        let message = Mutation::received(self.mutation, &packet, &mut self.host(packet.to).memory);
        let sent = self.flight.len();
        self.feed(packet.to, Input::Message { from: node(packet.from), message });
        for answer in self.flight.range_mut(sent..) {
            Mutation::answered(self.mutation, &packet, answer);
        }
    }

    fn host(&mut self, at: usize) -> &mut Host {
        Arc::make_mut(&mut self.hosts[at])
    }

    /// The daemon's loop: the kernel's answers are taken in before anything else.
    fn feed(&mut self, at: usize, input: Input) {
        let now = self.now;
        let mut todo = VecDeque::from([input]);
        while let Some(input) = todo.pop_front() {
            for action in self.host(at).engine.handle(input, now) {
                match action {
                    Action::Send { to, message } => self.send(at, to, message),
                    Action::Extend(ends) => self.host(at).kernel = ends.first().map(|(_, until)| *until),
                    Action::ExtendAll(until) => {
                        let kernel = &mut self.host(at).kernel;
                        *kernel = kernel.map(|_| until);
                    }
                    Action::Remember(memory) => self.host(at).legacy = Some(*memory),
                    Action::Install { vip, until, .. } => {
                        self.host(at).kernel = Some(until);
                        todo.push_back(Input::Installed(vec![(vip, Ok(()))]));
                    }
                    Action::Remove(vip) => {
                        self.host(at).kernel = None;
                        todo.push_back(Input::Removed(vec![(vip, Ok(()))]));
                    }
                    Action::Log(event) => self.said.push((at, event.text)),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, from: usize, to: NodeId, message: Message) {
        let to = usize::from(to.0[0]) - 1;
        if let Message::Advert(advert) = &message {
            let now = self.now;
            self.host(from).memory.sent(advert, now);
            if from == WITNESS {
                return; // it wants nothing, and nobody asks whether it lives
            }
        }
        if self.cut[from][to] {
            return;
        }
        let packet = Packet { from, to, asked: self.now, message: Arc::new(message) };
        match self.hosts[to].paused {
            true if self.hosts[to].waiting.len() < WAITING => self.host(to).waiting.push(packet),
            true => {}
            false => self.flight.push_back(packet),
        }
    }

    pub fn holders(&self) -> usize {
        self.hosts.iter().filter(|host| host.kernel.is_some()).count()
    }

    /// In the last step.
    pub fn was_said(&self, what: &str) -> bool {
        self.said.iter().any(|(_, text)| text.contains(what))
    }

    /// For the reader of a counterexample.
    pub fn describe_hosts(&self) -> String {
        let host = |(at, host): (usize, &Arc<Host>)| {
            let name = ["A", "B", "W"][at];
            let state = if host.paused {
                " paused"
            } else if host.nginx {
                ""
            } else {
                " without nginx"
            };
            let serves =
                host.kernel.map(|until| format!(" SERVES for {} ms", until.since(self.now).as_millis()));
            let grants =
                holder(&host.engine).map(|to| format!(" grants {}", ["A", "B", "W"][to as usize - 1]));
            format!("{name}{state}{}{}", serves.unwrap_or_default(), grants.unwrap_or_default())
        };
        let hosts: Vec<String> = self.hosts.iter().enumerate().map(host).collect();
        let said: Vec<String> = self.said.iter().map(|(_, text)| text.clone()).collect();
        format!("{:>6} ms  {}  {}", self.now.micros() / 1000 - 1_000_000, hosts.join(" | "), said.join("; "))
    }

    pub fn describe(&self, step: &Step) -> String {
        let first = self.flight.front().map(Packet::describe).unwrap_or_default();
        match step {
            Step::Tick => "a tick passes".into(),
            Step::Arrives => format!("{first} arrives"),
            Step::Twice => format!("{first} arrives, and its copy is held back"),
            Step::Held => format!("{first} is held back"),
            Step::Late(at) => format!("late: {}", self.held[*at].describe()),
            Step::Fault(fault) => format!("{fault:?}"),
        }
    }

    fn words(&self) -> Vec<u64> {
        let mut words = Words::new(self.now);
        for (at, host) in self.hosts.iter().enumerate() {
            let whose = Whose { adverts: at, sessions: at };
            words.add(whose, &host.engine);
            words.add(whose, &(host.paused, &host.legacy, host.nginx, host.run, host.kernel));
            host.waiting.iter().for_each(|packet| packet.tell(&mut words));
        }
        self.flight.iter().chain(&self.held).for_each(|packet| packet.tell(&mut words));
        words.add(Whose { adverts: 0, sessions: 0 }, &(self.flight.len(), self.held.len(), self.cut));
        words.finish()
    }
}

impl Packet {
    fn number(&self) -> (u8, u64) {
        match &*self.message {
            Message::Advert(advert) => (0, advert.seq),
            Message::Answer(answer) => (1, answer.seq),
            Message::Freed(_) | Message::Voters(_) | Message::Move(_) => (2, 0),
        }
    }

    /// An answer to that host, of any kind or one that grants it the VIP.
    pub fn is_answer_to(&self, to: usize, any: bool) -> bool {
        let Message::Answer(answer) = &*self.message else { return false };
        self.to == to && (any || answer.verdicts.iter().any(|verdict| verdict.grant == Grant::Granted))
    }

    /// The host wants the VIP and has it not.
    pub fn asks(&self, from: usize) -> bool {
        let Message::Advert(advert) = &*self.message else { return false };
        self.from == from && advert.bids.iter().any(|bid| bid.want && bid.holds.is_none())
    }

    fn describe(&self) -> String {
        let name = |at: usize| ["A", "B", "W"][at];
        let what = match &*self.message {
            Message::Advert(advert) => {
                let bid = &advert.bids[0];
                format!(
                    "advert {} (wants: {}, holds: {:?})",
                    advert.seq,
                    bid.want,
                    bid.holds.map(|term| term.0)
                )
            }
            Message::Answer(answer) => {
                let verdict = answer.verdicts.first().map(|verdict| (verdict.grant, verdict.term.0));
                format!("answer to {} ({:?} {:?})", answer.seq, answer.refusal, verdict)
            }
            Message::Freed(_) => "freed".into(),
            Message::Voters(_) => "voters".into(),
            Message::Move(_) => "move".into(),
        };
        format!("{} to {}: {what}", name(self.from), name(self.to))
    }

    fn order(&self) -> (usize, usize, (u8, u64)) {
        (self.from, self.to, self.number())
    }

    fn outdates(&self, other: &Packet) -> bool {
        let ((kind, number), (other_kind, other_number)) = (self.number(), other.number());
        (self.from, self.to, kind) == (other.from, other.to, other_kind) && other_number < number
    }

    fn tell(&self, words: &mut Words) {
        let whose = match &*self.message {
            Message::Answer(_) => Whose { adverts: self.to, sessions: self.from },
            _ => Whose { adverts: self.from, sessions: self.to },
        };
        words.add(whose, &(self.from, self.to, self.asked));
        words.add(whose, &*self.message);
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        match self.walked {
            Some(steps) => steps.hash(hasher),
            None => (self.words(), self.left).hash(hasher),
        }
    }
}

impl PartialEq for World {
    fn eq(&self, other: &World) -> bool {
        (self.words(), self.left) == (other.words(), other.left)
    }
}
