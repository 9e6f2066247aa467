//! What a hostile member may try through messages that are well formed.

use super::*;
use haclusterd_proto::Incarnation;
use std::sync::Mutex;

#[path = "../../../tests/gossip/keys.rs"]
mod keys;
use keys::PlainKeys;

const CLUSTER: ClusterId = ClusterId([1; 16]);
const VICTIM: NodeId = NodeId([0; 16]);
const HOSTILE: NodeId = NodeId([0xee; 16]);

struct Bench {
    gate: Gate,
    reported: Arc<Mutex<Vec<MemberRecord>>>,
    tally: Arc<Tally>,
    now: Instant,
}

impl Bench {
    fn new() -> Bench {
        let (reported, tally) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Tally::default()));
        let sink = reported.clone();
        let me = Id { node: VICTIM, generation: 1, addr: ([192, 0, 2, 1], 7400).into() };
        let report: Report = Arc::new(move |record| sink.lock().unwrap().push(record));
        let gate = Gate::new(me, CLUSTER, Arc::new(PlainKeys::new()), report, tally.clone());
        Bench { gate, reported, tally, now: Instant::now() }
    }

    fn pass(&mut self, message: &Message) -> Option<Message> {
        let passed = self.gate.pass(HOSTILE, &wire::encode(message), self.now)?;
        Some(wire::decode(&passed).unwrap())
    }

    /// How much of a delta passes.
    fn tell(&mut self, delta: Vec<Update>) -> usize {
        let Some(Message::Ack { delta }) = self.pass(&Message::Ack { delta }) else { panic!("not passed") };
        delta.len()
    }

    fn digest(&mut self, sender: NodeId, id: Id, heartbeat: u64) -> Vec<Seen> {
        let digest = vec![Seen { id, heartbeat, version: 1 }];
        let syn = Message::Syn { cluster: CLUSTER.to_string(), digest };
        let passed = self.gate.pass(sender, &wire::encode(&syn), self.now).unwrap();
        let Message::Syn { digest, .. } = wire::decode(&passed).unwrap() else { panic!("no SYN") };
        digest
    }

    fn seqs(&self) -> Vec<(u64, u64)> {
        self.reported.lock().unwrap().iter().map(|record| (record.generation, record.seq)).collect()
    }
}

fn record(keys: &PlainKeys, generation: u64, seq: u64) -> MemberRecord {
    let addr = ([192, 0, 2, 2], 7400).into();
    MemberRecord { generation, seq, ..MemberRecord::new(keys.node(), "lb2".into(), addr, Incarnation(0)) }
}

fn sign(keys: &PlainKeys, record: &MemberRecord) -> SignedRecord {
    let bytes = record.encode().unwrap();
    let signature = keys.sign(&SignedRecord::message(&bytes));
    SignedRecord { record: bytes, signature, certificate: keys.certificate() }
}

fn file(record: &MemberRecord, signed: &SignedRecord) -> Update {
    let id = Id { node: record.node, generation: record.generation, addr: record.addr };
    Update { id, text: signed.encode().unwrap(), version: record.seq }
}

fn update(keys: &PlainKeys, generation: u64, seq: u64) -> Update {
    let record = record(keys, generation, seq);
    file(&record, &sign(keys, &record))
}

#[test]
fn a_new_record_is_reported_once_and_passes_again() {
    let (mut bench, keys) = (Bench::new(), PlainKeys::new());
    let first = update(&keys, 1, 1);
    assert_eq!(bench.tell(vec![first.clone()]), 1);
    assert_eq!(bench.tell(vec![first]), 1);
    assert_eq!(bench.tell(vec![update(&keys, 1, 2)]), 1);
    assert_eq!(bench.seqs(), [(1, 1), (1, 2)]);
    assert_eq!(bench.tally.snapshot(), Default::default());
}

#[test]
fn a_changed_record_does_not_pass() {
    let (mut bench, keys) = (Bench::new(), PlainKeys::new());
    let mut forged = record(&keys, 1, 1);
    let mut signed = sign(&keys, &forged);
    forged.priority = Some(254);
    signed.record = forged.encode().unwrap();
    assert_eq!(bench.tell(vec![file(&forged, &signed)]), 0);
    assert_eq!((bench.tally.snapshot().bad_signature, bench.seqs().len()), (1, 0));
}

#[test]
fn nobody_signs_for_another() {
    let (mut bench, keys, other) = (Bench::new(), PlainKeys::new(), PlainKeys::new());
    let record = record(&keys, 1, 1);
    assert_eq!(bench.tell(vec![file(&record, &sign(&other, &record))]), 0);
    let refiled = Update { id: Id { node: other.node(), ..update(&keys, 1, 1).id }, ..update(&keys, 1, 1) };
    assert_eq!(bench.tell(vec![refiled]), 0);
    assert_eq!((bench.tally.snapshot().wrong_author, bench.seqs().len()), (2, 0));
}

#[test]
fn an_older_record_is_dropped() {
    let (mut bench, keys) = (Bench::new(), PlainKeys::new());
    let old = update(&keys, 1, 1);
    bench.tell(vec![update(&keys, 1, 2)]);
    assert_eq!(bench.tell(vec![old]), 0);
    assert_eq!((bench.tally.snapshot().stale, bench.seqs()), (1, vec![(1, 2)]));
}

#[test]
fn an_old_record_cannot_be_numbered_as_a_new_one() {
    let (mut bench, keys) = (Bench::new(), PlainKeys::new());
    let numbered = Update { version: u64::MAX, ..update(&keys, 1, 1) };
    assert_eq!(bench.tell(vec![numbered]), 0);
    assert_eq!(bench.tell(vec![update(&keys, 1, 1)]), 1);
    assert_eq!(bench.tally.snapshot().wrong_author, 1);
}

#[test]
fn a_restart_is_news_and_the_run_before_is_not() {
    let (mut bench, keys) = (Bench::new(), PlainKeys::new());
    bench.tell(vec![update(&keys, 1, 9)]);
    bench.tell(vec![update(&keys, 2, 1)]);
    bench.tell(vec![update(&keys, 1, 10)]);
    assert_eq!((bench.seqs(), bench.tally.snapshot().stale), (vec![(1, 9), (2, 1)], 1));
}

#[test]
fn a_record_of_this_node_is_not_taken_from_others() {
    let keys = PlainKeys::new();
    let mut bench = Bench::new();
    bench.gate.me.node = keys.node();
    assert_eq!(bench.tell(vec![update(&keys, 9, 9)]), 0);
    assert!(bench.seqs().is_empty());
}

#[test]
fn an_id_that_nobody_vouches_for_does_not_reach_chitchat() {
    let (mut bench, keys) = (Bench::new(), PlainKeys::new());
    let id = update(&keys, 1, 1).id;
    assert!(bench.digest(HOSTILE, id, 5).is_empty());
    bench.tell(vec![update(&keys, 1, 1)]);
    assert_eq!(bench.digest(HOSTILE, id, 5).len(), 1);
    assert!(bench.digest(HOSTILE, Id { generation: 2, ..id }, 5).is_empty());
}

#[test]
fn a_records_id_passes_in_the_digest_of_the_same_message() {
    let (mut bench, keys) = (Bench::new(), PlainKeys::new());
    let delta = vec![update(&keys, 1, 1)];
    let digest = vec![Seen { id: delta[0].id, heartbeat: HEARSAY, version: 1 }];
    let message = Message::SynAck { digest, delta };
    assert_eq!(bench.pass(&message), Some(message));
}

#[test]
fn only_the_node_itself_moves_its_heartbeat() {
    let (mut bench, keys) = (Bench::new(), PlainKeys::new());
    bench.tell(vec![update(&keys, 1, 1)]);
    let id = update(&keys, 1, 1).id;
    assert_eq!(bench.digest(HOSTILE, id, u64::MAX)[0].heartbeat, HEARSAY);
    assert_eq!(bench.digest(keys.node(), id, 7)[0].heartbeat, 7);
    bench.tell(vec![update(&keys, 2, 1)]);
    assert_eq!(bench.digest(keys.node(), id, 8)[0].heartbeat, HEARSAY, "an earlier run is over");
}

#[test]
fn another_cluster_is_refused() {
    let mut bench = Bench::new();
    assert!(bench.pass(&Message::Syn { cluster: "other".into(), digest: Vec::new() }).is_none());
    assert!(bench.pass(&Message::BadCluster).is_none());
    assert_eq!(bench.tally.snapshot().other_cluster, 2);
}

#[test]
fn an_id_named_twice_is_dropped_before_chitchat_refuses_the_message() {
    let (mut bench, keys) = (Bench::new(), PlainKeys::new());
    assert_eq!(bench.tell(vec![update(&keys, 1, 1), update(&keys, 1, 2)]), 1);
}

#[test]
fn members_and_runs_are_bounded_until_the_silent_are_forgotten() {
    let (mut bench, keys) = (Bench::new(), PlainKeys::new());
    for generation in 1..=MAX_RUNS as u64 {
        bench.tell(vec![update(&keys, generation, 1)]);
    }
    assert_eq!(bench.tell(vec![update(&keys, 1000, 1)]), 0);
    for _ in 1..MAX_MEMBERS {
        assert_eq!(bench.tell(vec![update(&PlainKeys::new(), 1, 1)]), 1);
    }
    assert_eq!(bench.tell(vec![update(&PlainKeys::new(), 1, 1)]), 0);
    assert_eq!(bench.tally.snapshot().full, 2);
    bench.now += FORGET;
    assert_eq!(bench.tell(vec![update(&PlainKeys::new(), 1, 1)]), 1);
    assert_eq!(bench.tell(vec![update(&keys, 1000, 1)]), 1);
}

#[test]
fn a_message_full_of_false_signatures_is_given_up() {
    let (mut bench, keys) = (Bench::new(), PlainKeys::new());
    let forged = (0..100).map(|n| {
        let record = record(&keys, n, 1);
        let signed = sign(&keys, &record);
        file(&record, &SignedRecord { signature: vec![0; 70], ..signed })
    });
    assert_eq!(bench.tell(forged.collect()), 0);
    assert_eq!(bench.tally.snapshot().bad_signature, MAX_FALSE as u64);
}
