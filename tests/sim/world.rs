//! Hosts, a network and a clock made of one seed: the whole of a run follows from it.
//!
//! The kernel of a host drops an address at the end that the engine gave with it, also when the daemon is paused
//! or dead: the engine's promise rests on that. A dead daemon's address stays until then.

use crate::journals::Journals;
use haclusterd::engine::elect::{Elect, Owner};
use haclusterd::engine::health::{CheckConfig, Outcome};
use haclusterd::engine::heir::{Inheritance, Memory};
use haclusterd::engine::time::{Instant, Timers};
use haclusterd::engine::{Action, Config, Engine, Input, VipConfig};
use haclusterd::io::journal::Header;
use haclusterd_proto::cluster::{Message, SignedVoters, VoterSet};
use haclusterd_proto::control::{Mode, VoterRequest};
use haclusterd_proto::member::MemberRecord;
use haclusterd_proto::{ClusterId, Incarnation, MacAddr, NodeId, Role, VipId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

pub const LAN: Timers = Timers { advert: Duration::from_millis(50), lease: Duration::from_millis(500) };
/// Real time, in microseconds.
pub type Micros = u64;
pub const MS: Micros = 1000;
pub const SECOND: Micros = 1_000_000;
const CLUSTER: ClusterId = ClusterId([7; 16]);
const GOSSIP: Micros = 250 * MS;

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    pub vips: u64,
    pub witness: bool,
    /// Of each datagram, in percent.
    pub loss: u8,
    pub duplicates: u8,
    /// At most, one way.
    pub delay: Micros,
    pub preempt: bool,
    /// Two voters need each other.
    pub strict_pair: bool,
    pub timers: Timers,
    /// Of the nodes' check.
    pub weight: i16,
    pub strict_health: bool,
}

pub struct Host {
    pub engine: Option<Engine>,
    /// The daemon does not run although it lives; what reaches it waits.
    pub paused: bool,
    waiting: Vec<Input>,
    /// Local time is `offset + real * (1e6 + ppm) / 1e6`.
    offset: u64,
    ppm: i64,
    /// Until when, in local time, the kernel keeps an address: it counts in whole seconds, and may be late.
    pub kernel: BTreeMap<VipId, Instant>,
    /// Until when, in local time, the fence lets a VIP's packets pass.
    pub gate: BTreeMap<VipId, Instant>,
    disk: Option<SignedVoters>,
    /// What a run leaves to its successor; it does not outlive the host.
    memory: Option<Memory>,
    pub mode: Mode,
    run: u64,
    generation: u64,
    record: Option<MemberRecord>,
    pub healthy: bool,
    pub link: bool,
    pub left: bool,
    wake: u64,
    /// Calls of the engine in the present second, and which second that is.
    calls: (Micros, u32),
}

enum Happening {
    Input(usize, u64, Box<Input>),
    Wake(usize, u64),
    /// A new run hears how its interfaces are.
    Links(usize, u64),
    /// Its first check has a result.
    Checks(usize, u64),
    Gossip,
    Expire(usize),
}

pub struct World {
    pub plan: Plan,
    pub rng: fastrand::Rng,
    pub now: Micros,
    pub hosts: Vec<Host>,
    /// Directed links that carry nothing.
    pub cut: BTreeSet<(usize, usize)>,
    queue: BinaryHeap<Reverse<(Micros, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    order: u64,
    pub log: Vec<String>,
    pub journals: Option<Journals>,
    pub violations: Vec<String>,
    /// Two holders that the two-node mode let happen, and when the first of them came under a quorum.
    splits: BTreeMap<VipId, Option<Micros>>,
    highest_term: BTreeMap<VipId, (u64, usize)>,
    /// Terms that were taken in the two-node mode, which promises nothing of them.
    pair_terms: BTreeSet<(usize, VipId, u64)>,
    /// A voter that restarted has forgotten its terms.
    pub forgot: bool,
}

pub fn node(at: usize) -> NodeId {
    NodeId([u8::try_from(at).unwrap() + 1; 16])
}

fn mac(at: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, u8::try_from(at).unwrap() + 1])
}

pub fn vip(n: u64) -> VipId {
    VipId(1000 + n)
}

impl World {
    pub fn new(plan: Plan) -> World {
        let mut rng = fastrand::Rng::with_seed(plan.seed);
        let hosts = (0..plan.nodes)
            .map(|_| Host {
                engine: None,
                paused: false,
                waiting: Vec::new(),
                offset: rng.u64(0..1_000_000_000),
                ppm: rng.i64(-1000..=1000),
                kernel: BTreeMap::new(),
                gate: BTreeMap::new(),
                disk: None,
                memory: None,
                mode: Mode::Joining,
                run: 0,
                generation: 0,
                record: None,
                healthy: true,
                link: true,
                left: false,
                wake: 0,
                calls: (0, 0),
            })
            .collect();
        let mut world = World {
            plan,
            rng,
            now: 0,
            hosts,
            cut: BTreeSet::new(),
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            order: 0,
            log: Vec::new(),
            journals: None,
            violations: Vec::new(),
            splits: BTreeMap::new(),
            highest_term: BTreeMap::new(),
            pair_terms: BTreeSet::new(),
            forgot: false,
        };
        let first = VoterSet::first(CLUSTER, node(0));
        world.hosts[0].disk = Some(SignedVoters { set: first, signature: Vec::new() });
        world.at(GOSSIP, Happening::Gossip);
        world
    }

    pub fn vips(&self) -> Vec<VipId> {
        (0..self.plan.vips).map(vip).collect()
    }

    pub fn note(&mut self, text: &str) {
        self.log.push(format!("{:>9.3} {text}", self.now as f64 / 1000.0));
    }

    // ---- faults

    pub fn start(&mut self, at: usize) {
        if self.hosts[at].engine.is_some() || self.hosts[at].left {
            return;
        }
        self.note(&format!("n{at} starts"));
        self.hosts[at].generation += 1;
        self.hosts[at].run += 1;
        let config = self.config(at);
        let now = self.local(at);
        let heritage = self.heritage(at);
        let keeps = |vip: &VipId| heritage.gates.iter().any(|(kept, _)| kept == vip);
        self.hosts[at].kernel.retain(|vip, _| keeps(vip)); // the sweep
        self.hosts[at].gate.retain(|vip, _| keeps(vip));
        let header = Header::new(config, self.hosts[at].disk.clone(), heritage, now);
        if let Some(journals) = &mut self.journals {
            journals.begin(at, self.hosts[at].generation, &header);
        }
        self.hosts[at].engine = Some(header.engine());
        self.hosts[at].wake += 1;
        let run = self.hosts[at].run;
        let (links, checks) = (self.rng.u64(100..20 * MS), self.rng.u64(100..300 * MS));
        self.at(self.now + links, Happening::Links(at, run));
        self.at(self.now + checks, Happening::Checks(at, run));
        self.feed(at, Input::Deadline);
    }

    /// What the last run left, as far as this host still serves it.
    fn heritage(&self, at: usize) -> Inheritance {
        let memory = self.hosts[at].memory.clone().unwrap_or_default();
        let stamp = self.hosts[at].disk.as_ref().map(|signed| signed.set.stamp()).unwrap_or_default();
        let memory = if memory.voters == stamp { memory } else { Memory::default() };
        let served = memory.held.iter().map(|(vip, _)| *vip).filter(|vip| self.serves(at, *vip));
        // The kernel tells what is left in milliseconds.
        let rounded = |until: Instant| Instant::from_micros(until.micros() / 1000 * 1000);
        let gates = served.map(|vip| (vip, rounded(self.hosts[at].gate[&vip]))).collect();
        Inheritance { memory, gates }
    }

    fn config(&mut self, at: usize) -> Config {
        let host = &self.hosts[at];
        let witness = self.plan.witness && at + 1 == self.plan.nodes;
        let addr = ([10, 0, 0, u8::try_from(at).unwrap()], 7946).into();
        let incarnation = Incarnation(u128::from(host.run) << 64 | at as u128);
        let record = MemberRecord {
            role: if witness { Role::Witness } else { Role::Member },
            issuer: at == 0,
            base_priority: [150, 100, 100, 90, 80, 70, 60][at],
            config_digest: 1,
            generation: host.generation,
            ..MemberRecord::new(node(at), format!("n{at}"), addr, incarnation)
        };
        let vips = self.vips().into_iter().map(|id| VipConfig {
            id,
            name: format!("vip{}", id.0),
            addresses: vec![haclusterd_proto::AddrId(id.0)],
            preempt: self.plan.preempt,
            preempt_delay: Duration::ZERO,
            announce_refresh: Duration::from_secs(30),
        });
        let check = CheckConfig::new("nginx", 1, 1, self.plan.weight);
        Config {
            cluster: CLUSTER,
            record,
            timers: self.plan.timers,
            earlier_lease: Duration::ZERO,
            voters_max: 3,
            strict_pair: self.plan.strict_pair,
            gateway: false,
            standby: false,
            fenced: true,
            strict_health: self.plan.strict_health,
            vips: vips.collect(),
            routers: Vec::new(),
            checks: vec![check],
        }
    }

    /// The daemon is gone at once; what the kernel has, stays.
    pub fn kill(&mut self, at: usize) {
        if self.hosts[at].engine.take().is_some() {
            self.note(&format!("n{at} killed"));
            self.hosts[at].run += 1;
            self.hosts[at].paused = false;
            self.hosts[at].waiting.clear();
            self.forgot = true;
        }
    }

    pub fn power_off(&mut self, at: usize) {
        self.kill(at);
        self.hosts[at].kernel.clear();
        self.hosts[at].gate.clear();
        self.hosts[at].memory = None;
    }

    /// The configuration is read again; another rule of preemption is all that has changed.
    pub fn reload(&mut self, at: usize) {
        if self.hosts[at].engine.is_some() {
            self.note(&format!("n{at} reloads"));
            let mut config = self.config(at);
            config
                .vips
                .iter_mut()
                .for_each(|vip| vip.preempt_delay = Duration::from_millis(self.rng.u64(0..300)));
            self.feed(at, Input::Reconfigure(Box::new(config)));
        }
    }

    /// Killed, or told to restart, and started again after a moment.
    pub fn restart(&mut self, at: usize, pause: Micros) {
        if self.hosts[at].paused || self.hosts[at].engine.is_none() {
            return;
        }
        match self.rng.bool() {
            true => self.kill(at),
            false => {
                self.tell_to_restart(at);
            }
        }
        self.run_until(self.now + pause);
        self.start(at);
    }

    pub fn tell_to_restart(&mut self, at: usize) {
        self.note(&format!("n{at} is to restart"));
        self.feed(at, Input::Restart);
    }

    pub fn pause(&mut self, at: usize) {
        if self.hosts[at].engine.is_some() && !self.hosts[at].paused {
            self.note(&format!("n{at} paused"));
            self.hosts[at].paused = true;
        }
    }

    pub fn resume(&mut self, at: usize) {
        if self.hosts[at].paused {
            self.note(&format!("n{at} resumed"));
            self.hosts[at].paused = false;
            for input in std::mem::take(&mut self.hosts[at].waiting) {
                self.feed(at, input);
            }
            self.feed(at, Input::Deadline);
        }
    }

    /// An operator at the issuer, who may be refused.
    pub fn ask_voters(&mut self, request: VoterRequest) {
        if self.hosts[0].engine.is_some() && !self.hosts[0].paused {
            self.note(&format!("an operator asks {request:?}"));
            self.feed(0, Input::ChangeVoters(request));
        }
    }

    pub fn set_health(&mut self, at: usize, healthy: bool) {
        self.hosts[at].healthy = healthy;
        let outcome = if healthy { Outcome::Pass } else { Outcome::Certain("killed".into()) };
        self.feed(at, Input::Check { name: "nginx".into(), part: String::new(), outcome });
    }

    pub fn set_link(&mut self, at: usize, up: bool) {
        self.hosts[at].link = up;
        let state = if up { Ok(mac(at)) } else { Err("eth0 is down".to_string()) };
        for vip in self.vips() {
            self.feed(at, Input::Interfaces(vec![(vip, state.clone())]));
        }
    }

    pub fn stop(&mut self, at: usize, leave: bool) {
        if self.hosts[at].engine.is_some() {
            self.note(&format!("n{at} {}", if leave { "leaves" } else { "stops" }));
            self.hosts[at].left |= leave;
            self.feed(at, Input::Shutdown { leave });
        }
    }

    pub fn delete_by_hand(&mut self, at: usize, vip: VipId) {
        if self.hosts[at].kernel.remove(&vip).is_some() {
            self.feed(at, Input::AddressLost(vip));
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
        self.plan.loss = 0;
        for at in 0..self.hosts.len() {
            self.resume(at);
            self.hosts[at].link = true;
            self.hosts[at].healthy = true;
            match self.hosts[at].engine.is_some() {
                true => {
                    self.set_link(at, true);
                    self.set_health(at, true);
                }
                false => self.start(at),
            }
        }
    }

    // ---- the course of things

    pub fn run_until(&mut self, end: Micros) {
        while let Some(Reverse((at, id))) = self.queue.peek().copied() {
            if at > end {
                break;
            }
            self.queue.pop();
            self.now = at;
            match self.happenings.remove(&id) {
                Some(Happening::Input(host, run, input)) if self.hosts[host].run == run => {
                    self.feed(host, *input)
                }
                Some(Happening::Wake(host, wake)) if self.hosts[host].wake == wake => {
                    self.feed(host, Input::Deadline)
                }
                Some(Happening::Links(host, run)) if self.hosts[host].run == run => {
                    self.set_link(host, self.hosts[host].link)
                }
                Some(Happening::Checks(host, run)) if self.hosts[host].run == run => {
                    self.set_health(host, self.hosts[host].healthy)
                }
                Some(Happening::Gossip) => self.gossip(),
                Some(Happening::Expire(host)) => self.expire(host),
                _ => {}
            }
            self.check();
        }
        self.now = end;
    }

    fn at(&mut self, when: Micros, happening: Happening) {
        self.order += 1;
        self.happenings.insert(self.order, happening);
        self.queue.push(Reverse((when, self.order)));
    }

    fn soon(&mut self, host: usize, delay: Micros, input: Input) {
        let run = self.hosts[host].run;
        self.at(self.now + delay, Happening::Input(host, run, Box::new(input)));
    }

    pub fn local(&self, at: usize) -> Instant {
        let host = &self.hosts[at];
        let drift = (self.now as i128 * i128::from(host.ppm) / 1_000_000) as i64;
        Instant::from_micros((host.offset + self.now).saturating_add_signed(drift))
    }

    fn real(&self, at: usize, local: Instant) -> Micros {
        let host = &self.hosts[at];
        let since = i128::from(local.micros()) - i128::from(host.offset);
        let real = since * 1_000_000 / (1_000_000 + i128::from(host.ppm)) + 1;
        u64::try_from(real).unwrap_or(0).max(self.now)
    }

    pub fn feed(&mut self, at: usize, input: Input) {
        if self.hosts[at].paused {
            // A socket's buffer is bounded.
            if self.hosts[at].waiting.len() < 2000 {
                self.hosts[at].waiting.push(input);
            }
            return;
        }
        let now = self.local(at);
        let second = self.now / SECOND;
        let host = &mut self.hosts[at];
        host.calls = if host.calls.0 == second { (second, host.calls.1 + 1) } else { (second, 1) };
        let busy = host.calls.1 > 3000;
        let Some(engine) = &mut host.engine else { return };
        let fed = self.journals.is_some().then(|| input.clone());
        let actions = engine.handle(input, now);
        if let (Some(journals), Some(input)) = (&mut self.journals, fed) {
            journals.step(at, now, input, &actions);
        }
        host.mode = engine.mode();
        let deadline = engine.deadline(now);
        host.wake += 1;
        let wake = host.wake;
        if busy {
            self.violations.push(format!("n{at} is busy: over 3000 calls in second {second}"));
        }
        if let Some(deadline) = deadline {
            let when = self.real(at, deadline).max(self.now + 1);
            self.at(when, Happening::Wake(at, wake));
        }
        for action in actions {
            self.perform(at, action);
        }
        self.note_owner(at, now);
    }

    fn perform(&mut self, at: usize, action: Action) {
        match action {
            Action::Send { to, message } => self.send(at, to, message),
            Action::Install { vip, until, slack } => {
                self.open(at, vip, until);
                // Whole seconds, and up to 0.6 s more.
                let left = until.since(self.local(at)) + slack;
                let late = Duration::from_millis(self.rng.u64(0..600));
                let end = self.local(at) + Duration::from_secs(left.as_millis().div_ceil(1000) as u64) + late;
                self.hosts[at].kernel.insert(vip, end);
                let when = self.real(at, end);
                self.at(when, Happening::Expire(at));
                let delay = self.rng.u64(30..300);
                self.soon(at, delay, Input::Installed(vec![(vip, Ok(()))]));
            }
            Action::ExtendAll(until) => {
                let open: Vec<VipId> = self.hosts[at].gate.keys().copied().collect();
                open.into_iter().for_each(|vip| self.open(at, vip, until));
            }
            Action::Extend(ends) => ends.into_iter().for_each(|(vip, until)| self.open(at, vip, until)),
            Action::Remove(vip) => {
                self.hosts[at].gate.remove(&vip);
                self.hosts[at].kernel.remove(&vip);
                let delay = self.rng.u64(30..300);
                self.soon(at, delay, Input::Removed(vec![(vip, Ok(()))]));
            }
            Action::Probe(vip) => self.probe(at, vip),
            Action::Publish(record) => {
                self.hosts[at].record = Some(*record);
                self.gossip_from(at);
            }
            Action::SignVoters(set) => {
                self.soon(at, 300, Input::Voters(SignedVoters { set, signature: Vec::new() }));
            }
            Action::StoreVoters(signed) => {
                let stamp = signed.set.stamp();
                self.hosts[at].disk = Some(signed);
                let delay = self.rng.u64(500..20 * MS);
                self.soon(at, delay, Input::VotersStored { stamp, result: Ok(()) });
            }
            Action::Log(event) => self.note(&format!("n{at}: {}", event.text)),
            Action::Exit => {
                self.note(&format!("n{at} exits"));
                self.hosts[at].engine = None;
                self.hosts[at].run += 1;
                self.forgot = true;
            }
            Action::Dismiss(_) => {} // the engine does not listen to them either
            Action::Remember(memory) => self.hosts[at].memory = Some(*memory),
            Action::Changed(_) | Action::Announce(_) | Action::Quiet(_) | Action::Verify { .. } => {}
            Action::ProbeGateway | Action::Vrrp { .. } => {}
        }
    }

    fn open(&mut self, at: usize, vip: VipId, until: Instant) {
        self.hosts[at].gate.insert(vip, until);
        let when = self.real(at, until);
        self.at(when, Happening::Expire(at));
    }

    fn send(&mut self, from: usize, to: NodeId, message: Message) {
        let Some(to) = (0..self.hosts.len()).find(|at| node(*at) == to) else { return };
        if !self.reaches(from, to) || self.rng.u8(0..100) < self.plan.loss {
            return;
        }
        let copies = if self.rng.u8(0..100) < self.plan.duplicates { 2 } else { 1 };
        for _ in 0..copies {
            let delay = self.rng.u64(100..=self.plan.delay.max(200));
            let message = message.clone();
            let input = match message {
                Message::Voters(signed) => Input::Voters(signed),
                message => Input::Message { from: node(from), message },
            };
            self.soon(to, delay, input);
        }
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        let linked = self.hosts[from].link && self.hosts[to].link;
        linked && !self.cut.contains(&(from, to))
    }

    fn probe(&mut self, at: usize, vip: VipId) {
        for other in 0..self.hosts.len() {
            if other != at && self.serves(other, vip) && self.reaches(at, other) && self.reaches(other, at) {
                self.soon(at, 120, Input::Claim { vip, mac: mac(other) });
            }
        }
    }

    fn gossip(&mut self) {
        for at in 0..self.hosts.len() {
            self.gossip_from(at);
        }
        self.at(self.now + GOSSIP, Happening::Gossip);
    }

    fn gossip_from(&mut self, at: usize) {
        let Some(record) = self.hosts[at].record.clone().filter(|_| !self.hosts[at].paused) else { return };
        // What a node last said is passed on after its end, as gossip does.
        for to in (0..self.hosts.len()).filter(|to| *to != at) {
            if self.reaches(at, to) {
                let delay = self.rng.u64(500..30 * MS);
                self.soon(to, delay, Input::Member(Box::new(record.clone())));
            }
        }
    }

    fn expire(&mut self, at: usize) {
        let now = self.local(at);
        let gone: Vec<VipId> =
            self.hosts[at].kernel.iter().filter(|(_, until)| **until <= now).map(|(vip, _)| *vip).collect();
        for vip in gone {
            self.hosts[at].kernel.remove(&vip);
            self.feed(at, Input::AddressLost(vip));
        }
    }

    // ---- what must always hold

    pub fn holders(&self, vip: VipId) -> Vec<usize> {
        (0..self.hosts.len()).filter(|at| self.serves(*at, vip)).collect()
    }

    /// It has the address, and its fence is open.
    fn serves(&self, at: usize, vip: VipId) -> bool {
        let open = self.hosts[at].gate.get(&vip).is_some_and(|until| self.local(at) < *until);
        open && self.hosts[at].kernel.contains_key(&vip)
    }

    /// Holds no address, by its role or by an operator's word.
    pub fn is_witness(&self, at: usize) -> bool {
        let named = |signed: &SignedVoters| signed.set.witnesses.contains(&node(at));
        (self.plan.witness && at + 1 == self.hosts.len()) || self.hosts[0].disk.as_ref().is_some_and(named)
    }

    /// By the issuer's newest set.
    pub fn votes(&self, at: usize) -> bool {
        self.hosts[0].disk.as_ref().is_some_and(|signed| signed.set.contains(node(at)))
    }

    /// Has it failed so often that it comes last?
    pub fn is_held_down(&self, at: usize) -> bool {
        let Some(engine) = &self.hosts[at].engine else { return false };
        let members = engine.snapshot(0, self.local(at)).members;
        members.iter().any(|member| member.me && member.held_down_ms.is_some())
    }

    /// Is anybody who left still a voter by the issuer's set?
    pub fn votes_lost(&self) -> bool {
        let voters = self.hosts[0].disk.as_ref().map(|signed| signed.set.voters.clone()).unwrap_or_default();
        (0..self.hosts.len()).any(|at| self.hosts[at].left && voters.contains(&node(at)))
    }

    fn check(&mut self) {
        for vip in self.vips() {
            let holders = self.holders(vip);
            if holders.len() < 2 {
                self.splits.remove(&vip);
                continue;
            }
            let promised = holders.iter().any(|at| self.hosts[*at].mode == Mode::Quorum);
            // What the two-node mode let happen ends within a lease of its end.
            let inherited = match self.splits.get(&vip).copied() {
                None if promised => false,
                None | Some(None) => {
                    self.splits.insert(vip, promised.then_some(self.now));
                    true
                }
                Some(Some(since)) => self.now < since + 500 * MS,
            };
            if !inherited {
                self.violations
                    .push(format!("I1: {:.3} ms: {holders:?} hold {vip}", self.now as f64 / 1000.0));
            }
        }
    }

    /// I2: the terms of successive owners rise, of those that took a VIP under a quorum.
    fn note_owner(&mut self, at: usize, now: Instant) {
        for vip in self.vips() {
            let Some(engine) = &self.hosts[at].engine else { return };
            let Owner::Us { term, .. } = engine.owner(vip, now) else { continue };
            if self.hosts[at].mode != Mode::Quorum {
                self.pair_terms.insert((at, vip, term.0));
            }
            if self.forgot || self.pair_terms.contains(&(at, vip, term.0)) {
                continue;
            }
            let (highest, by) = self.highest_term.get(&vip).copied().unwrap_or((0, at));
            if by != at && term.0 <= highest {
                self.violations.push(format!("I2: n{at} holds {vip} under term {term}, n{by} had {highest}"));
            }
            if by == at || term.0 > highest {
                self.highest_term.insert(vip, (term.0, at));
            }
        }
    }
}
