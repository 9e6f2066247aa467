//! Virtual routers that keep step: keepalived's sync groups.

use haclusterd::engine::heed::Heard;
use haclusterd::engine::hooks::Changed;
use haclusterd::engine::routers::RouterConfig;
use haclusterd::engine::time::{Instant, Timers};
use haclusterd::engine::vrrp::{Settings, Version};
use haclusterd::engine::{Action, Config, Engine, Input};
use haclusterd_proto::cluster::{SignedVoters, VoterSet};
use haclusterd_proto::member::MemberRecord;
use haclusterd_proto::{ClusterId, Incarnation, MacAddr, NodeId, VipId};
use std::net::IpAddr;
use std::time::Duration;

const ME: NodeId = NodeId([1; 16]);
const SECOND: Duration = Duration::from_secs(1);
const V4: VipId = VipId(4);
const V6: VipId = VipId(6);

struct Node {
    config: Config,
    engine: Engine,
    now: Instant,
    /// Virtual routers and the priorities that they advertised.
    sent: Vec<(VipId, u8)>,
    installed: Vec<VipId>,
    /// How often the kernel was told of an address, or of its new end.
    installs: usize,
    /// What programs would have heard.
    told: Vec<Changed>,
}

fn router(vip: VipId, priority: u8, address: &str) -> RouterConfig {
    let settings = Settings {
        version: Version::V3,
        interval: SECOND,
        preempt: true,
        preempt_delay: Duration::ZERO,
        eager: false,
    };
    RouterConfig {
        vip,
        name: format!("r{}", vip.0),
        vrid: 51,
        settings,
        priority,
        addresses: vec![address.parse().unwrap()],
        peers: Vec::new(),
        group: Some("both".into()),
        track: None,
        announce_refresh: Duration::ZERO,
    }
}

impl Node {
    fn new(priorities: [u8; 2]) -> Node {
        let cluster = ClusterId([7; 16]);
        let now = Instant::from_micros(1_000_000_000);
        let config = Config {
            cluster,
            record: MemberRecord::new(ME, "lb1".into(), ([10, 0, 0, 11], 7946).into(), Incarnation(1)),
            timers: Timers { advert: SECOND / 20, lease: SECOND / 2 },
            earlier_lease: Duration::ZERO,
            voters_max: 3,
            strict_pair: false,
            gateway: false,
            standby: false,
            fenced: true,
            strict_health: true,
            vips: Vec::new(),
            routers: vec![router(V4, priorities[0], "10.0.0.100"), router(V6, priorities[1], "fd00::100")],
            checks: Vec::new(),
        };
        let voters = SignedVoters { set: VoterSet::first(cluster, ME), signature: Vec::new() };
        let engine = Engine::new(config.clone(), Some(voters), now);
        let mut node = Node {
            config,
            engine,
            now,
            sent: Vec::new(),
            installed: Vec::new(),
            installs: 0,
            told: Vec::new(),
        };
        for (vip, primary) in [(V4, "10.0.0.11"), (V6, "fe80::11")] {
            node.feed(Input::Interfaces(vec![(vip, Ok(MacAddr([2; 6])))]));
            node.feed(Input::Primary { vip, address: Some(primary.parse().unwrap()) });
        }
        node
    }

    fn feed(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for action in self.engine.handle(input, self.now) {
                match action {
                    Action::Vrrp { vip, priority } => self.sent.push((vip, priority)),
                    Action::Install { vip, .. } => {
                        self.installed.push(vip);
                        self.installs += 1;
                        inputs.push(Input::Installed(vec![(vip, Ok(()))]));
                    }
                    Action::Changed(changed) => self.told.push(*changed),
                    Action::Remove(vip) => {
                        self.installed.retain(|other| *other != vip);
                        inputs.push(Input::Removed(vec![(vip, Ok(()))]));
                    }
                    _ => {}
                }
            }
        }
        self.installed.sort_unstable();
        self.installed.dedup();
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now = self.now + Duration::from_millis(10);
            self.feed(Input::Deadline);
        }
    }

    fn hear(&mut self, vip: VipId, source: &str, priority: u8) {
        self.hear_of(vip, source, priority, if vip == V4 { "10.0.0.100" } else { "fd00::100" });
    }

    fn hear_of(&mut self, vip: VipId, source: &str, priority: u8, address: &str) {
        let addresses: Vec<IpAddr> = vec![address.parse().unwrap()];
        let heard = Heard {
            vip,
            source: source.parse().unwrap(),
            hops: 255,
            multicast: true,
            version: Version::V3,
            priority,
            interval: SECOND,
            addresses,
            authentic: true,
        };
        self.feed(Input::Vrrp(Box::new(heard)));
    }
}

#[test]
fn a_group_leads_together_although_one_of_them_could_have_led_sooner() {
    let mut node = Node::new([200, 100]);
    node.pass(SECOND * 3 + Duration::from_millis(300));
    assert!(node.installed.is_empty(), "200 alone would lead after 3.22 s");
    node.pass(SECOND);
    assert!(node.installed.contains(&V6), "{:?}", node.sent);
    node.pass(SECOND * 4);
    assert_eq!(node.installed, [V4, V6]);
}

#[test]
fn a_better_master_of_one_is_the_master_of_all() {
    let mut node = Node::new([100, 100]);
    node.pass(SECOND * 8);
    assert_eq!(node.installed, [V4, V6]);
    node.hear(V6, "fe80::12", 200);
    assert!(node.installed.is_empty());
    assert!(!node.sent.contains(&(V4, 0)), "who is only torn along does not say that it leaves");
    for _ in 0..5 {
        node.pass(SECOND);
        node.hear(V6, "fe80::12", 200);
    }
    assert!(node.installed.is_empty(), "nobody is heard for IPv4, and yet it waits");
}

#[test]
fn a_fault_of_one_is_a_fault_of_all_and_is_said() {
    let mut node = Node::new([100, 100]);
    node.pass(SECOND * 8);
    node.sent.clear();
    node.feed(Input::Primary { vip: V6, address: None });
    assert_eq!(node.sent, [(V4, 0), (V6, 0)]);
    assert!(node.installed.is_empty());
    let status = node.engine.snapshot(0, node.now);
    assert!(
        status.vips[0].why.contains("r6 of its group: its interface has no address"),
        "{:?}",
        status.vips
    );
    node.feed(Input::Primary { vip: V6, address: Some("fe80::11".parse().unwrap()) });
    node.pass(SECOND * 8);
    assert_eq!(node.installed, [V4, V6]);
}

#[test]
fn another_vrid_is_another_virtual_router() {
    let mut node = Node::new([100, 100]);
    node.pass(SECOND * 8);
    node.sent.clear();
    let mut config = node.config.clone();
    config.routers[0].vrid = 52;
    node.feed(Input::Reconfigure(Box::new(config)));
    assert_eq!(node.sent.first(), Some(&(V4, 0)), "its old backups need not wait");
    assert!(!node.installed.contains(&V4));
}

#[test]
fn trouble_is_shown_until_it_is_mended() {
    let mut node = Node::new([100, 100]);
    let shown = |node: &Node| node.engine.snapshot(0, node.now).warnings.join("; ");
    node.hear_of(V4, "10.0.0.12", 200, "10.0.0.7");
    assert!(shown(&node).contains("r4: the advert of 10.0.0.12 for VRID 51 is for other addresses"));
    node.pass(SECOND * 16);
    assert_eq!(shown(&node), "");
}

#[test]
fn a_stop_says_so_and_takes_the_addresses_away_first() {
    let mut node = Node::new([100, 100]);
    node.pass(SECOND * 8);
    node.sent.clear();
    node.feed(Input::Shutdown { leave: false });
    assert_eq!(node.sent, [(V4, 0), (V6, 0)]);
    assert!(node.installed.is_empty());
}

#[test]
fn programs_hear_what_keepalived_would_tell_them_and_nothing_twice() {
    let mut node = Node::new([100, 100]);
    let heard = |node: &mut Node, part: &str| {
        let words = |c: &Changed| format!("{} {} {}", c.name, c.part.vrrp(), c.priority);
        let mut all: Vec<String> = std::mem::take(&mut node.told).iter().map(words).collect();
        assert_eq!(all.pop(), Some(format!("both {part} 0")));
        all.sort();
        assert_eq!(all, [format!("r4 {part} 100"), format!("r6 {part} 100")]);
    };
    heard(&mut node, "BACKUP");
    node.pass(SECOND * 8);
    heard(&mut node, "MASTER");
    node.feed(Input::Primary { vip: V6, address: None });
    heard(&mut node, "FAULT");
    node.feed(Input::Primary { vip: V6, address: Some("fe80::11".parse().unwrap()) });
    heard(&mut node, "BACKUP");
    node.pass(SECOND * 8);
    heard(&mut node, "MASTER");
    node.feed(Input::Shutdown { leave: false });
    heard(&mut node, "STOP");
    node.pass(SECOND * 4);
    assert!(node.told.is_empty(), "{:?}", node.told);
}

#[test]
fn programs_hear_from_whom_to_whom() {
    let mut node = Node::new([100, 100]);
    let told = |node: &mut Node| {
        let all = std::mem::take(&mut node.told);
        let own = all.into_iter().rfind(|changed| changed.name == "r4").unwrap();
        [own.part.word().to_owned(), own.old_owner, own.new_owner]
    };
    for _ in 0..3 {
        node.hear(V4, "10.0.0.12", 200);
        node.hear(V6, "fe80::12", 200);
        node.pass(SECOND);
    }
    assert_eq!(told(&mut node), ["backup", "", ""], "at the start nobody had been heard");
    node.pass(SECOND * 8);
    assert_eq!(told(&mut node), ["owner", "10.0.0.12", "lb1"]);
    node.feed(Input::Primary { vip: V4, address: None });
    assert_eq!(told(&mut node), ["fault", "lb1", ""], "who was silent is no owner");
    node.feed(Input::Primary { vip: V4, address: Some("10.0.0.11".parse().unwrap()) });
    node.pass(SECOND * 8);
    node.hear(V4, "10.0.0.13", 200);
    assert_eq!(told(&mut node), ["backup", "lb1", "10.0.0.13"]);
}

/// Each time the kernel lists all of its addresses: with hundreds of virtual routers, that is what costs.
#[test]
fn an_address_is_renewed_once_an_advert_and_not_more_often() {
    let mut node = Node::new([100, 100]);
    node.pass(SECOND * 8);
    node.installs = 0;
    node.pass(SECOND * 10);
    assert_eq!(node.installs, 2 * 10);
}
