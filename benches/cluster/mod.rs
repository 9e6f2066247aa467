//! Engines that hear each other at once, until they have come to rest: what the benches measure.

use haclusterd::engine::elect::Elect;
use haclusterd::engine::health::{CheckConfig, Outcome};
use haclusterd::engine::time::{Instant, Timers};
use haclusterd::engine::{Action, Config, Engine, Input, VipConfig};
use haclusterd_proto::cluster::{Message, SignedVoters, VoterSet};
use haclusterd_proto::member::MemberRecord;
use haclusterd_proto::{AddrId, ClusterId, Incarnation, MacAddr, NodeId, VipId};
use std::collections::VecDeque;
use std::time::Duration;

const CLUSTER: ClusterId = ClusterId([7; 16]);
const TIMERS: Timers = Timers { advert: Duration::from_millis(50), lease: Duration::from_millis(500) };
const VOTERS: usize = 3;

#[derive(Debug)]
pub struct Cluster {
    pub engines: Vec<Engine>,
    pub now: Instant,
}

fn node(at: usize) -> NodeId {
    NodeId([u8::try_from(at + 1).expect("at most 254 nodes"); 16])
}

fn config(at: usize, vips: u64) -> Config {
    let addr = ([10, 0, 0, 1], 7946).into();
    let priority = if at == 0 { 150 } else { 100 };
    let vip = |id| VipConfig {
        id: VipId(id),
        name: format!("vip{id}"),
        addresses: vec![AddrId(id)],
        preempt: true,
        preempt_delay: Duration::ZERO,
        announce_refresh: Duration::from_secs(30),
    };
    Config {
        cluster: CLUSTER,
        record: MemberRecord {
            base_priority: priority,
            ..MemberRecord::new(node(at), format!("n{at}"), addr, Incarnation(at as u128 + 1))
        },
        timers: TIMERS,
        earlier_lease: Duration::ZERO,
        voters_max: VOTERS,
        strict_pair: false,
        gateway: false,
        standby: false,
        fenced: true,
        strict_health: true,
        vips: (1..=vips).map(vip).collect(),
        routers: Vec::new(),
        checks: vec![CheckConfig::new("nginx", 1, 1, 0)],
    }
}

impl Cluster {
    /// The first owns everything.
    pub fn at_rest(nodes: usize, vips: u64) -> Cluster {
        let now = Instant::from_micros(1_000_000_000);
        let set = VoterSet { voters: (0..VOTERS).map(node).collect(), ..VoterSet::first(CLUSTER, node(0)) };
        let signed = SignedVoters { set, signature: Vec::new() };
        let engine = |at| Engine::new(config(at, vips), Some(signed.clone()), now);
        let mut cluster = Cluster { engines: (0..nodes).map(engine).collect(), now };
        for at in 0..nodes {
            let link = (1..=vips).map(|id| (VipId(id), Ok(MacAddr([2; 6])))).collect();
            cluster.feed(at, Input::Interfaces(link));
            let (name, part) = ("nginx".to_owned(), String::new());
            cluster.feed(at, Input::Check { name, part, outcome: Outcome::Pass });
            for other in (0..nodes).filter(|other| *other != at) {
                let record = config(other, 0).record;
                cluster.feed(at, Input::Member(Box::new(record)));
            }
        }
        cluster.run(Duration::from_secs(20));
        cluster
    }

    /// Lets so much time pass.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some((at, next)) = self.next().filter(|(_, next)| *next < end) {
            self.now = self.now.max(next);
            self.feed(at, Input::Deadline);
        }
        self.now = end;
    }

    fn next(&self) -> Option<(usize, Instant)> {
        let deadlines = self.engines.iter().enumerate();
        deadlines.filter_map(|(at, engine)| Some((at, engine.deadline(self.now)?))).min_by_key(|(_, at)| *at)
    }

    /// And all that follows.
    fn feed(&mut self, at: usize, input: Input) {
        let mut todo = VecDeque::from([(at, input)]);
        while let Some((at, input)) = todo.pop_front() {
            let actions = self.engines[at].handle(input, self.now);
            todo.extend(actions.into_iter().filter_map(|action| follow(at, action)));
        }
    }

    /// The messages of the next advert interval of that node, with whom they are to.
    pub fn adverts(&mut self, at: usize) -> Vec<(usize, Message)> {
        self.run(TIMERS.advert * 2);
        loop {
            let (due, next) = self.next().expect("adverts are always due");
            self.now = self.now.max(next);
            if due == at {
                let actions = self.engines[at].handle(Input::Deadline, self.now);
                let sent: Vec<_> = actions.into_iter().filter_map(message).collect();
                if !sent.is_empty() {
                    return sent;
                }
            } else {
                self.feed(due, Input::Deadline);
            }
        }
    }

    pub fn input(from: usize, message: Message) -> Input {
        Input::Message { from: node(from), message }
    }
}

fn message(action: Action) -> Option<(usize, Message)> {
    match action {
        Action::Send { to, message } => Some((usize::from(to.0[0]) - 1, message)),
        _ => None,
    }
}

fn follow(at: usize, action: Action) -> Option<(usize, Input)> {
    match action {
        Action::Send { to, message } => {
            Some((usize::from(to.0[0]) - 1, Input::Message { from: node(at), message }))
        }
        Action::Install { vip, .. } => Some((at, Input::Installed(vec![(vip, Ok(()))]))),
        Action::Remove(vip) => Some((at, Input::Removed(vec![(vip, Ok(()))]))),
        _ => None,
    }
}
