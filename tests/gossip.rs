//! Several gossips in one process, joined by an in-memory outbox: they converge, and a hostile member, whose
//! certificate is good, neither lies to them nor stops them.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use chitchat::{ChitchatId, Serializable};
use haclusterd::io::gossip::{Counters, Gossip, Keys, Outbox, Settings};
use haclusterd_proto::member::{MemberRecord, SignedRecord};
use haclusterd_proto::{ClusterId, Incarnation, NodeId};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

#[path = "gossip/keys.rs"]
mod keys;
use keys::PlainKeys;

const CLUSTER: ClusterId = ClusterId([1; 16]);
/// So long that what the tests see within it was pushed.
const INTERVAL: Duration = Duration::from_secs(1);

type Received = (NodeId, SocketAddr, Vec<u8>);

/// The network: an inbox for each address, and the pairs of addresses that do not reach each other.
#[derive(Default)]
struct Hub {
    inboxes: Mutex<HashMap<SocketAddr, mpsc::Sender<Received>>>,
    cut: Mutex<HashSet<(SocketAddr, SocketAddr)>>,
}

impl Hub {
    fn attach(&self, addr: SocketAddr) -> mpsc::Receiver<Received> {
        let (sender, inbox) = mpsc::channel(256);
        self.inboxes.lock().unwrap().insert(addr, sender);
        inbox
    }

    fn cut(&self, a: u8, b: u8) {
        self.cut.lock().unwrap().extend([(address(a), address(b)), (address(b), address(a))]);
    }

    fn peers(&self, of: SocketAddr) -> Vec<SocketAddr> {
        let cut = self.cut.lock().unwrap();
        let inboxes = self.inboxes.lock().unwrap();
        inboxes.keys().copied().filter(|peer| *peer != of && !cut.contains(&(of, *peer))).collect()
    }

    fn send(&self, from: (NodeId, SocketAddr), to: SocketAddr, bytes: Vec<u8>) -> bool {
        if self.cut.lock().unwrap().contains(&(from.1, to)) {
            return false;
        }
        let inboxes = self.inboxes.lock().unwrap();
        inboxes.get(&to).is_some_and(|inbox| inbox.try_send((from.0, from.1, bytes)).is_ok())
    }
}

struct Link {
    hub: Arc<Hub>,
    me: (NodeId, SocketAddr),
    breaks: AtomicBool,
}

impl Outbox for Link {
    fn send(&self, to: SocketAddr, bytes: Vec<u8>) -> bool {
        assert!(!self.breaks.swap(false, Relaxed), "asked for, to end chitchat's task");
        self.hub.send(self.me, to, bytes)
    }

    fn peers(&self) -> Vec<SocketAddr> {
        self.hub.peers(self.me.1)
    }
}

struct Node {
    gossip: Gossip,
    keys: Arc<PlainKeys>,
    link: Arc<Link>,
    addr: SocketAddr,
    heard: Arc<Mutex<Vec<MemberRecord>>>,
}

impl Node {
    async fn start(hub: &Arc<Hub>, n: u8, keys: Arc<PlainKeys>, generation: u64) -> Node {
        let addr = address(n);
        let link =
            Arc::new(Link { hub: hub.clone(), me: (keys.node(), addr), breaks: AtomicBool::new(false) });
        let heard = Arc::new(Mutex::new(Vec::new()));
        let sink = heard.clone();
        let settings = Settings {
            me: keys.node(),
            cluster: CLUSTER,
            advertise: addr,
            generation,
            interval: INTERVAL,
            seeds: vec![address(1)],
        };
        let inbox = hub.attach(addr);
        let report = Arc::new(move |record| sink.lock().unwrap().push(record));
        let gossip = Gossip::start(settings, link.clone(), keys.clone(), inbox, report).await.unwrap();
        Node { gossip, keys, link, addr, heard }
    }

    fn say(&self, reason: &str) {
        self.gossip.publish(record(reason));
    }

    fn last_of(&self, node: NodeId) -> Option<MemberRecord> {
        self.heard.lock().unwrap().iter().rfind(|record| record.node == node).cloned()
    }

    fn knows(&self, node: NodeId, reason: &str) -> bool {
        self.last_of(node).is_some_and(|record| record.reason == reason)
    }
}

fn address(n: u8) -> SocketAddr {
    ([192, 0, 2, n], 7400).into()
}

fn record(reason: &str) -> MemberRecord {
    let new = MemberRecord::new(NodeId([0; 16]), "lb".into(), address(0), Incarnation(0));
    MemberRecord { reason: reason.into(), ..new }
}

async fn until(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}

/// Nodes that all know each other.
async fn cluster(hub: &Arc<Hub>, size: u8) -> Vec<Node> {
    let mut nodes = Vec::new();
    for n in 1..=size {
        nodes.push(Node::start(hub, n, Arc::new(PlainKeys::new()), 1).await);
    }
    nodes.iter().for_each(|node| node.say("started"));
    for node in &nodes {
        all_know(&nodes, node, "started", Duration::from_secs(5)).await;
    }
    nodes
}

async fn all_know(nodes: &[Node], author: &Node, reason: &str, limit: Duration) -> Duration {
    let id = author.keys.node();
    let others = || nodes.iter().filter(|node| node.addr != author.addr);
    until(limit, reason, || others().all(|node| node.knows(id, reason))).await
}

/// Still at work: a change comes through.
async fn still_gossip(nodes: &[Node]) {
    nodes[0].say("still here");
    all_know(nodes, &nodes[0], "still here", Duration::from_secs(1)).await;
    assert!(nodes.iter().all(|node| node.gossip.counters().restarts == 0));
}

const HOSTILE: (NodeId, u8) = (NodeId([0xee; 16]), 9);

/// An ACK needs nothing before it: what the hostile member tells of a node is up to it alone.
fn tell(hub: &Hub, to: &Node, about: &MemberRecord, key: &str, value: &str, version: u64) {
    let mut plain = vec![0];
    ChitchatId::new(about.node.to_string(), about.generation, about.addr).serialize(&mut plain);
    plain.extend([0; 16]);
    plain.push(1);
    key.serialize(&mut plain);
    value.serialize(&mut plain);
    plain.extend(version.to_le_bytes());
    plain.push(0);
    let mut ack = vec![0x53, 0xb0, 0, 2];
    for block in plain.chunks(16_384) {
        let block = zstd::bulk::compress(block, 0).unwrap();
        ack.push(1);
        ack.extend((block.len() as u16).to_le_bytes());
        ack.extend(block);
    }
    ack.push(0);
    assert!(hub.send((HOSTILE.0, address(HOSTILE.1)), to.addr, ack));
}

/// A record with the signature that the author gave to `signed`.
fn text(keys: &PlainKeys, signed: &MemberRecord, says: &MemberRecord) -> String {
    let signature = keys.sign(&SignedRecord::message(&signed.encode().unwrap()));
    let record = says.encode().unwrap();
    SignedRecord { record, signature, certificate: keys.certificate() }.encode().unwrap()
}

async fn counted(node: &Node, what: &str, count: impl Fn(Counters) -> u64) {
    until(Duration::from_secs(3), what, || count(node.gossip.counters()) > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_known_everywhere_within_100_ms() {
    let hub = Arc::new(Hub::default());
    let nodes = cluster(&hub, 5).await;
    // The push before has been; what follows is not held back.
    sleep(Duration::from_millis(60)).await;
    let mut slowest = Duration::ZERO;
    for n in 0..20 {
        let reason = format!("change {n}");
        let author = &nodes[n % nodes.len()];
        author.say(&reason);
        slowest = slowest.max(all_know(&nodes, author, &reason, Duration::from_millis(100)).await);
        sleep(Duration::from_millis(10)).await;
    }
    println!("slowest of 20 changes: {slowest:?}");
    for node in &nodes {
        assert_eq!(
            node.gossip.counters(),
            Counters::default(),
            "nothing of what honest members do is a fault"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_not_reached_is_heard_of_by_the_others() {
    let hub = Arc::new(Hub::default());
    hub.cut(2, 3);
    let nodes = cluster(&hub, 3).await;
    nodes[2].say("changed");
    all_know(&nodes, &nodes[2], "changed", Duration::from_secs(3)).await;
    nodes[1].say("changed too");
    all_know(&nodes, &nodes[1], "changed too", Duration::from_secs(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_changes_is_pushed_at_its_start_and_its_end() {
    let hub = Arc::new(Hub::default());
    let nodes = cluster(&hub, 2).await;
    let before = nodes[1].heard.lock().unwrap().len();
    sleep(Duration::from_millis(60)).await;
    for n in 0..100 {
        nodes[0].say(&format!("change {n}"));
        sleep(Duration::from_millis(1)).await;
    }
    all_know(&nodes, &nodes[0], "change 99", Duration::from_millis(100)).await;
    let heard = nodes[1].heard.lock().unwrap()[before..].to_vec();
    assert!(heard.len() <= 8, "{} pushes in some 150 ms", heard.len());
    assert!(heard.iter().is_sorted_by_key(|record| record.seq));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_is_seen_at_once() {
    let hub = Arc::new(Hub::default());
    let mut nodes = cluster(&hub, 3).await;
    let Node { gossip, keys, .. } = nodes.pop().unwrap();
    gossip.stop().await;
    let again = Node::start(&hub, 3, keys, 2).await;
    again.say("restarted");
    all_know(&nodes, &again, "restarted", Duration::from_millis(100)).await;
    let record = nodes[0].last_of(again.keys.node()).unwrap();
    assert_eq!((record.generation, record.seq), (2, 1));
    // It learns of the others by the same exchange.
    until(Duration::from_millis(100), "greeted", || again.knows(nodes[0].keys.node(), "started")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_words_arrive() {
    let hub = Arc::new(Hub::default());
    let mut nodes = cluster(&hub, 3).await;
    let leaver = nodes.pop().unwrap();
    let id = leaver.keys.node();
    leaver.gossip.publish(MemberRecord { leaving: true, ..record("leaving") });
    leaver.gossip.stop().await;
    assert!(nodes.iter().all(|node| node.last_of(id).is_some_and(|record| record.leaving)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_greeting_brings_both_up_to_date() {
    let hub = Arc::new(Hub::default());
    let first = Node::start(&hub, 1, Arc::new(PlainKeys::new()), 1).await;
    first.say("alone");
    sleep(Duration::from_millis(60)).await;
    let second = Node::start(&hub, 2, Arc::new(PlainKeys::new()), 1).await;
    second.say("new");
    first.gossip.greet();
    let both = || first.knows(second.keys.node(), "new") && second.knows(first.keys.node(), "alone");
    until(Duration::from_millis(200), "greeted", both).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chitchat_is_started_again_and_the_others_go_on_hearing_it() {
    let hub = Arc::new(Hub::default());
    let nodes = cluster(&hub, 3).await;
    nodes[1].link.breaks.store(true, Relaxed);
    counted(&nodes[1], "a restart", |counters| counters.restarts).await;
    nodes[1].say("back");
    all_know(&nodes, &nodes[1], "back", Duration::from_millis(500)).await;
    nodes[0].say("heard?");
    all_know(&nodes, &nodes[0], "heard?", Duration::from_millis(500)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_record_is_dropped() {
    let hub = Arc::new(Hub::default());
    let nodes = cluster(&hub, 3).await;
    let (keys, honest) = (&nodes[2].keys, nodes[0].last_of(nodes[2].keys.node()).unwrap());
    let forged = MemberRecord { priority: Some(254), seq: honest.seq + 1, ..honest.clone() };
    tell(&hub, &nodes[0], &forged, "record", &text(keys, &honest, &forged), forged.seq);
    counted(&nodes[0], "a false signature", |counters| counters.bad_signature).await;
    // The honest one, numbered so high that no later one would ever be taken.
    tell(&hub, &nodes[0], &honest, "record", &text(keys, &honest, &honest), u64::MAX);
    counted(&nodes[0], "a wrong number", |counters| counters.wrong_author).await;
    assert_eq!(nodes[0].last_of(honest.node), Some(honest));
    nodes[2].say("goes on");
    all_know(&nodes, &nodes[2], "goes on", Duration::from_millis(500)).await;
    still_gossip(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_record_is_dropped() {
    let hub = Arc::new(Hub::default());
    let nodes = cluster(&hub, 3).await;
    let (keys, old) = (&nodes[2].keys, nodes[0].last_of(nodes[2].keys.node()).unwrap());
    nodes[2].say("newer");
    all_know(&nodes, &nodes[2], "newer", Duration::from_millis(500)).await;
    tell(&hub, &nodes[0], &old, "record", &text(keys, &old, &old), old.seq);
    counted(&nodes[0], "a replay", |counters| counters.stale).await;
    assert!(nodes[0].knows(old.node, "newer"));
    still_gossip(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_chitchat_chokes_on_is_dropped() {
    let hub = Arc::new(Hub::default());
    let nodes = cluster(&hub, 3).await;
    let about = nodes[0].last_of(nodes[2].keys.node()).unwrap();
    tell(&hub, &nodes[0], &about, "é", "v", 100);
    counted(&nodes[0], "a key that is not ASCII", |counters| counters.foreign_key).await;
    tell(&hub, &nodes[0], &about, "record", &"v".repeat(65_000), 100);
    counted(&nodes[0], "a large value", |counters| counters.oversize).await;
    // chitchat writes this one's length as 0, so that what follows is misread.
    tell(&hub, &nodes[0], &about, "record", &"v".repeat(65_536), 100);
    until(Duration::from_secs(1), "64 KiB", || nodes[0].gossip.counters().foreign_key > 1).await;
    still_gossip(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_and_swelling_messages_are_dropped() {
    let hub = Arc::new(Hub::default());
    let nodes = cluster(&hub, 3).await;
    let from = (HOSTILE.0, address(HOSTILE.1));
    let mut tap = hub.attach(from.1);
    nodes[1].say("tapped");
    let (_, _, real) = timeout(Duration::from_secs(2), tap.recv()).await.unwrap().unwrap();
    for n in 0..real.len() {
        let mut damaged = real.clone();
        damaged[n] ^= 0xff;
        while !hub.send(from, address(1), real[..n].to_vec()) || !hub.send(from, address(1), damaged.clone())
        {
            sleep(Duration::from_millis(1)).await;
        }
    }
    let mut bomb = vec![0x53, 0xb0, 0, 2];
    let block = zstd::bulk::compress(&vec![2; 65_000], 0).unwrap();
    while bomb.len() + block.len() + 3 < 65_000 {
        bomb.push(1);
        bomb.extend((block.len() as u16).to_le_bytes());
        bomb.extend(&block);
    }
    bomb.push(0);
    let before = nodes[0].gossip.counters().undecodable;
    assert!(hub.send(from, address(1), bomb));
    until(Duration::from_secs(1), "the bomb", || nodes[0].gossip.counters().undecodable > before).await;
    assert!(before > 100, "{before}");
    still_gossip(&nodes).await;
}
