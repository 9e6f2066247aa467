//! A short run of a node that is alone, for the tests of what reads journals.

use super::{Header, Recorder, record};
use crate::engine::elect::Elect;
use crate::engine::health::{CheckConfig, Outcome};
use crate::engine::heir::Inheritance;
use crate::engine::time::{Instant, Timers};
use crate::engine::{Action, Config, Engine, Input, VipConfig};
use haclusterd_proto::cluster::{SignedVoters, VoterSet};
use haclusterd_proto::member::MemberRecord;
use haclusterd_proto::{AddrId, ClusterId, Incarnation, MacAddr, NodeId, VipId};
use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

pub const STARTED: Instant = Instant::from_micros(81_234_567);
pub const WEB: VipId = VipId(u64::MAX);
const ME: NodeId = NodeId([0xab; 16]);
const CLUSTER: ClusterId = ClusterId([7; 16]);

fn config() -> Config {
    let record = MemberRecord {
        issuer: true,
        base_priority: 150,
        config_digest: u64::MAX,
        version: "0.1.0".into(),
        generation: 1,
        ..MemberRecord::new(ME, "lb1".into(), ([10, 0, 0, 11], 7946).into(), Incarnation(u128::MAX))
    };
    let vip = VipConfig {
        id: WEB,
        name: "web".into(),
        addresses: vec![AddrId(1)],
        preempt: true,
        preempt_delay: Duration::ZERO,
        announce_refresh: Duration::from_secs(30),
    };
    Config {
        cluster: CLUSTER,
        record,
        timers: Timers { advert: Duration::from_millis(50), lease: Duration::from_millis(500) },
        earlier_lease: Duration::ZERO,
        voters_max: 3,
        gateway: false,
        standby: false,
        fenced: true,
        strict_health: true,
        strict_pair: false,
        vips: vec![vip],
        routers: Vec::new(),
        checks: vec![CheckConfig::new("nginx", 1, 1, 0)],
    }
}

fn voters() -> SignedVoters {
    SignedVoters { set: VoterSet::first(CLUSTER, ME), signature: vec![1, 2, 3] }
}

pub fn header() -> Header {
    Header::new(config(), Some(voters()), Inheritance::default(), STARTED)
}

/// Three seconds, in which the node takes its VIP; how many inputs there were.
pub fn run(path: &Path) -> usize {
    let (mut recorder, writing) = record(path).unwrap();
    recorder.begin(&header());
    let mut engine = header().engine();
    let mut todo = VecDeque::from([
        Input::Interfaces(vec![(WEB, Ok(MacAddr([2, 0, 0, 0, 0, 1])))]),
        Input::Check { name: "nginx".into(), part: String::new(), outcome: Outcome::Pass },
    ]);
    let (mut now, mut inputs) = (STARTED, 0);
    while now.since(STARTED) < Duration::from_secs(3) {
        let input = todo.pop_front().unwrap_or_else(|| {
            now = engine.deadline(now).unwrap().max(now + Duration::from_micros(1));
            Input::Deadline
        });
        inputs += 1;
        todo.extend(feed(&mut recorder, &mut engine, input, now));
    }
    drop(recorder);
    writing.finish();
    inputs
}

fn feed(recorder: &mut Recorder, engine: &mut Engine, input: Input, now: Instant) -> Vec<Input> {
    recorder.input(now, &input);
    let actions = engine.handle(input, now);
    recorder.actions(&actions);
    let answer = |action| match action {
        Action::Install { vip, .. } => Some(Input::Installed(vec![(vip, Ok(()))])),
        _ => None,
    };
    actions.into_iter().filter_map(answer).collect()
}
