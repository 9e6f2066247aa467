use super::*;
use proptest::prelude::*;

const RETRY: Policy = Policy { retry: true, again: None };

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1000)
}

fn failed() -> Result<(), String> {
    Err("exit code 1".into())
}

#[test]
fn what_is_told_while_another_runs_waits_and_the_last_wins() {
    let mut queue = Queue::default();
    queue.tell('a', 1, RETRY, at(0));
    assert_eq!(queue.start(9, at(0)), [('a', 1)]);
    queue.tell('a', 2, RETRY, at(1));
    queue.tell('a', 3, RETRY, at(2));
    assert_eq!(queue.start(9, at(3)), [], "never two at once");
    queue.end(&'a', Ok(()), at(4));
    assert_eq!(queue.start(9, at(4)), [('a', 3)]);
    queue.end(&'a', Ok(()), at(5));
    assert_eq!((queue.deadline(), queue.owes(&'a')), (None, false));
}

#[test]
fn what_failed_is_tried_again_after_pauses_that_double_up_to_a_minute() {
    let mut queue = Queue::default();
    queue.tell('a', 1, RETRY, at(0));
    let mut now = at(0);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        assert_eq!(queue.start(9, now), [('a', 1)]);
        queue.end(&'a', failed(), now);
        let due = queue.deadline().unwrap();
        pauses.push(due.since(now).as_secs());
        assert_eq!(queue.start(9, now), []);
        now = due;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(queue.troubles().next().map(|(_, t)| (t.since, t.failures)), Some((at(0), 9)));
    queue.tell('a', 2, RETRY, now);
    assert_eq!(queue.start(9, now), [('a', 2)], "what is new does not wait for what failed");
    queue.end(&'a', Ok(()), now);
    assert_eq!(queue.troubles().count(), 0);
}

#[test]
fn what_hangs_is_known_before_it_has_ended() {
    let mut queue = Queue::default();
    queue.tell('a', 1, RETRY, at(0));
    assert_eq!(queue.start(9, at(0)), [('a', 1)]);
    queue.hangs(&'a', "no end within 30s".into(), at(5));
    queue.tell('a', 2, RETRY, at(6));
    assert_eq!((queue.start(9, at(7)), queue.troubles().count()), (vec![], 1), "never two at once");
    queue.end(&'a', failed(), at(8));
    assert_eq!(
        queue.troubles().next().map(|(_, t)| (t.since, t.error.as_str())),
        Some((at(5), "exit code 1"))
    );
    assert_eq!(queue.start(9, at(8)), [('a', 2)]);
}

#[test]
fn what_is_not_to_be_tried_again_is_not() {
    let mut queue = Queue::default();
    queue.tell('a', 1, Policy::default(), at(0));
    assert_eq!(queue.start(9, at(0)), [('a', 1)]);
    queue.end(&'a', failed(), at(1));
    assert_eq!((queue.deadline(), queue.troubles().count(), queue.is_idle()), (None, 0, true));
}

#[test]
fn what_was_heard_is_said_again_at_its_interval_and_is_not_known_to_be_heard_while_it_is() {
    let mut queue = Queue::default();
    let policy = Policy { retry: true, again: Some(Duration::from_secs(5)) };
    queue.has_heard('a', 1, policy, at(0));
    assert_eq!((queue.start(9, at(4999)), queue.owes(&'a')), (vec![], false));
    assert_eq!((queue.start(9, at(5000)), queue.owes(&'a')), (vec![('a', 1)], true));
    queue.end(&'a', Ok(()), at(6000));
    assert_eq!((queue.deadline(), queue.owes(&'a')), (Some(at(11_000)), false));
    queue.tell('a', 2, RETRY, at(7000));
    assert_eq!(queue.start(9, at(7000)), [('a', 2)]);
    queue.end(&'a', Ok(()), at(8000));
    assert_eq!(queue.deadline(), None, "no owner any more");
}

#[test]
fn where_there_is_little_room_those_that_wait_longest_come_first() {
    let mut queue = Queue::default();
    for (ms, key) in [(2, 'a'), (1, 'b'), (0, 'c')] {
        queue.tell(key, ms, RETRY, at(ms));
    }
    assert_eq!(queue.start(2, at(2)), [('c', 0), ('b', 1)]);
    assert_eq!(queue.start(2, at(2)), [('a', 2)]);
}

#[test]
fn an_owner_of_another_epoch_is_another() {
    let news = |kind, part, epoch| Changed {
        kind,
        name: "web".into(),
        part,
        priority: 100,
        old_owner: String::new(),
        new_owner: String::new(),
        epoch,
        reason: String::new(),
    };
    let same = |kind, a: (Part, u64), b: (Part, u64)| news(kind, a.0, a.1).is_as(&news(kind, b.0, b.1));
    use Part::{Backup, Owner};
    assert!(same(Kind::Vip, (Owner, 7), (Owner, 7)) && same(Kind::Vip, (Backup, 7), (Backup, 0)));
    assert!(!same(Kind::Vip, (Owner, 7), (Owner, 8)) && !same(Kind::Vip, (Owner, 7), (Backup, 7)));
    assert!(!same(Kind::Router, (Owner, 0), (Owner, 0)), "VRRP counts no epochs");
}

#[derive(Clone, Debug)]
enum Step {
    Tell(u8),
    End { key: u8, well: bool },
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..3u8).prop_map(Step::Tell),
        (0..3u8, any::<bool>()).prop_map(|(key, well)| Step::End { key, well }),
        (0..90_000u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// Whatever happens: never two of a key at once, each starts in the order in which it was told, a pause is never
    /// longer than a minute, and once the programs do as they should, the last that was told is the last that ran.
    #[test]
    fn the_last_word_is_heard_in_any_course(steps in steps()) {
        let mut queue = Queue::default();
        let (mut now, mut number) = (0, 0);
        let mut running: BTreeMap<u8, u64> = BTreeMap::new();
        let (mut last_told, mut last_run) = (BTreeMap::new(), BTreeMap::new());
        let mut begin = |queue: &mut Queue<u8, u64>, running: &mut BTreeMap<u8, u64>, now| {
            for (key, news) in queue.start(2, at(now)) {
                assert_eq!(running.insert(key, news), None, "two at once");
                assert!(last_run.insert(key, news).is_none_or(|earlier| earlier <= news), "out of order");
            }
            last_run.clone()
        };
        for step in steps {
            match step {
                Step::Tell(key) => {
                    number += 1;
                    last_told.insert(key, number);
                    queue.tell(key, number, RETRY, at(now));
                }
                Step::End { key, well } => if running.remove(&key).is_some() {
                    queue.end(&key, if well { Ok(()) } else { failed() }, at(now));
                }
                Step::Pass(ms) => now += ms,
            }
            begin(&mut queue, &mut running, now);
            prop_assert!(queue.deadline().is_none_or(|due| due <= at(now) + LONGEST_PAUSE));
        }
        for _ in 0..9 {
            for (key, _) in std::mem::take(&mut running) {
                queue.end(&key, Ok(()), at(now));
            }
            now += 60_000;
            let ran = begin(&mut queue, &mut running, now);
            if running.is_empty() {
                prop_assert_eq!(&ran, &last_told);
            }
        }
        prop_assert!(running.is_empty() && queue.is_idle());
    }
}
