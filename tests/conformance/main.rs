//! The state machine of VRRP, case by case, each named by its clause of RFC 9568 (version 3) or RFC 3768 (version 2).

#![allow(clippy::unwrap_used)]

mod groups;

use haclusterd::engine::time::Instant;
use haclusterd::engine::vrrp::{ADDRESS_OWNER, Advert, LEAVING, Router, Send, Settings, State, Version};
use std::net::IpAddr;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const ME: [u8; 4] = [10, 0, 0, 11];

fn settings(version: Version) -> Settings {
    Settings { version, interval: SECOND, preempt: true, preempt_delay: Duration::ZERO, eager: false }
}

/// A router, its clock, and what it has sent.
struct Case {
    router: Router,
    now: Instant,
    sent: Vec<u8>,
}

impl Case {
    fn of(settings: Settings, priority: u8) -> Case {
        let now = Instant::from_micros(1_000_000_000);
        let mut case = Case { router: Router::new(settings), now, sent: Vec::new() };
        let started = case.router.set_priority(Some(priority), now);
        case.note(started);
        case
    }

    fn v3(priority: u8) -> Case {
        Case::of(settings(Version::V3), priority)
    }

    fn master(priority: u8) -> Case {
        let mut case = Case::v3(priority);
        case.pass(SECOND * 4);
        assert_eq!(case.router.state(), State::Master);
        case.sent.clear();
        case
    }

    fn note(&mut self, sent: Option<Send>) {
        self.sent.extend(sent.map(|Send(priority)| priority));
    }

    /// Time goes on, and what is due is done.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(due) = self.router.deadline().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            let sent = self.router.expire(true, self.now);
            self.note(sent);
        }
        self.now = end;
    }

    fn hear_from(&mut self, host: u8, priority: u8, interval: Duration) {
        let advert = Advert { source: IpAddr::from([10, 0, 0, host]), priority, interval };
        let sent = self.router.heard(&advert, Some(ME.into()), self.now);
        self.note(sent);
    }

    fn hear(&mut self, priority: u8) {
        self.hear_from(12, priority, SECOND);
    }

    fn is(&self, state: State) {
        assert_eq!(self.router.state(), state);
    }

    /// How long until it takes over, if nobody is heard any more.
    fn takes_over_after(mut self) -> Duration {
        let begin = self.now;
        while self.router.state() == State::Backup {
            self.pass(MS);
        }
        self.now.since(begin)
    }
}

#[test]
fn rfc9568_6_4_3_an_advert_every_interval_also_when_one_is_late() {
    let mut case = Case::master(100);
    let due = case.router.deadline().unwrap();
    case.now = due + MS * 30;
    let sent = case.router.expire(true, case.now);
    case.note(sent);
    assert_eq!(case.router.deadline(), Some(due + SECOND), "the next is not late for it");
    case.now = due + SECOND * 5;
    let sent = case.router.expire(true, case.now);
    case.note(sent);
    assert_eq!(case.router.deadline(), Some(case.now + SECOND), "what was missed is not made up for");
    assert_eq!(case.sent, [100, 100]);
}

#[test]
fn rfc9568_6_1_skew_time_is_a_part_of_the_masters_interval() {
    // 3 × 1 s + (256 − 100) × 1 s / 256
    assert_eq!(Case::v3(100).takes_over_after(), MS * 3610);
    assert_eq!(Case::v3(254).takes_over_after(), MS * 3008);
    let fast = Settings { interval: MS * 10, ..settings(Version::V3) };
    assert_eq!(Case::of(fast, 254).takes_over_after(), MS * 31);
}

#[test]
fn rfc3768_6_1_skew_time_is_a_part_of_a_second_whatever_the_interval() {
    let slow = Settings { interval: SECOND * 3, ..settings(Version::V2) };
    assert_eq!(Case::of(slow, 100).takes_over_after(), MS * 9610);
}

#[test]
fn rfc9568_6_4_1_the_address_owner_is_master_at_once() {
    let case = Case::v3(ADDRESS_OWNER);
    case.is(State::Master);
    assert_eq!(case.sent, [ADDRESS_OWNER]);
}

#[test]
fn rfc9568_6_4_1_everybody_else_listens_first() {
    let case = Case::v3(254);
    case.is(State::Backup);
    assert!(case.sent.is_empty());
}

#[test]
fn keepalived_state_master_waits_one_interval_and_the_shortest_skew() {
    let eager = Settings { eager: true, ..settings(Version::V2) };
    assert_eq!(Case::of(eager, 100).takes_over_after(), MS * 1004);
}

#[test]
fn rfc9568_6_4_2_a_shutdown_as_backup_is_silent() {
    let mut case = Case::v3(100);
    assert_eq!(case.router.stop(), None);
    case.is(State::Init);
    assert_eq!(case.router.deadline(), None);
}

#[test]
fn rfc9568_6_4_2_when_the_master_is_silent_it_advertises_and_is_master() {
    let mut case = Case::v3(100);
    case.pass(MS * 3610);
    case.is(State::Master);
    assert_eq!(case.sent, [100]);
    case.pass(SECOND);
    assert_eq!(case.sent, [100, 100], "every Advertisement_Interval");
}

#[test]
fn rfc9568_6_4_2_priority_zero_leaves_only_the_skew() {
    let mut case = Case::v3(100);
    case.hear(LEAVING);
    assert_eq!(case.takes_over_after(), MS * 610);
}

#[test]
fn rfc9568_6_4_2_a_better_or_equal_master_starts_the_timer_again() {
    for priority in [100, 101, ADDRESS_OWNER] {
        let mut case = Case::v3(100);
        case.pass(SECOND * 3);
        case.hear(priority);
        assert_eq!(case.takes_over_after(), MS * 3610);
    }
}

#[test]
fn rfc9568_6_4_2_the_masters_interval_is_learned() {
    let mut case = Case::v3(100);
    case.hear_from(12, 200, MS * 100);
    // 3 × 100 ms + 156 × 100 ms / 256
    assert_eq!(case.takes_over_after(), MS * 361);
}

#[test]
fn rfc9568_6_4_2_with_preemption_a_worse_master_is_not_listened_to() {
    let mut case = Case::v3(100);
    case.pass(SECOND * 3);
    case.hear(99);
    assert_eq!(case.takes_over_after(), MS * 610);
}

#[test]
fn rfc9568_6_4_2_without_preemption_a_worse_master_is_followed() {
    let mut case = Case::of(Settings { preempt: false, ..settings(Version::V3) }, 200);
    case.pass(SECOND * 3);
    case.hear(1);
    assert_eq!(case.takes_over_after(), MS * 3219);
}

#[test]
fn keepalived_preempt_delay_runs_from_the_first_worse_advert() {
    let mut case = Case::of(Settings { preempt_delay: SECOND * 2, ..settings(Version::V3) }, 200);
    for _ in 0..3 {
        case.hear(100);
        case.is(State::Backup);
        case.pass(SECOND);
    }
    // The third came when the delay was over, and was not listened to.
    assert!(case.takes_over_after() < SECOND * 2);
}

#[test]
fn rfc9568_6_4_3_a_shutdown_as_master_says_so() {
    let mut case = Case::master(100);
    let said = case.router.stop();
    case.note(said);
    assert_eq!(case.sent, [LEAVING]);
    case.is(State::Init);
}

#[test]
fn rfc9568_6_4_3_priority_zero_is_answered_at_once() {
    let mut case = Case::master(100);
    case.hear(LEAVING);
    case.is(State::Master);
    assert_eq!(case.sent, [100]);
}

#[test]
fn rfc9568_6_4_3_a_better_master_is_followed() {
    let mut case = Case::master(100);
    case.hear_from(12, 101, MS * 100);
    case.is(State::Backup);
    assert!(case.sent.is_empty());
    assert_eq!(case.takes_over_after(), MS * 361, "by its interval");
}

#[test]
fn rfc9568_6_4_3_of_equals_the_larger_address_is_master() {
    let mut case = Case::master(100);
    case.hear_from(10, 100, SECOND);
    case.is(State::Master);
    assert_eq!(case.sent, [100]);
    case.hear_from(12, 100, SECOND);
    case.is(State::Backup);
}

#[test]
fn rfc9568_6_4_3_a_worse_master_is_told_at_once() {
    let mut case = Case::master(100);
    case.hear(99);
    case.is(State::Master);
    assert_eq!(case.sent, [100]);
}

#[test]
fn a_master_that_is_not_fit_any_more_gives_up_and_begins_again_as_backup() {
    let mut case = Case::master(100);
    let said = case.router.set_priority(None, case.now);
    case.note(said);
    assert_eq!(case.sent, [LEAVING]);
    case.pass(SECOND * 10);
    case.is(State::Init);
    let said = case.router.set_priority(Some(100), case.now);
    case.note(said);
    assert_eq!(case.sent, [LEAVING]);
    assert_eq!(case.takes_over_after(), MS * 3610);
}

#[test]
fn who_may_not_lead_yet_waits_once_more() {
    let mut case = Case::v3(100);
    case.now = case.now + MS * 3610;
    assert!(case.router.wants(case.now));
    assert_eq!(case.router.expire(false, case.now), None);
    assert!(case.router.wants(case.now + MS), "those that it waits for are to see it");
    case.hear(100);
    assert!(!case.router.wants(case.now + MS));
    assert_eq!(case.takes_over_after(), MS * 3610);
}

#[test]
fn the_heir_of_a_master_is_master_at_once_while_its_backups_wait() {
    for (left, state) in [(MS * 10, State::Master), (Duration::ZERO, State::Backup)] {
        let now = Instant::from_micros(1_000_000_000);
        let mut router = Router::new(settings(Version::V2));
        router.inherit(now + left);
        let sent = router.set_priority(Some(100), now);
        assert_eq!((router.state(), sent.is_some()), (state, state == State::Master));
    }
}

/// Nobody takes over before three intervals have passed since the last advert, so until then, and no longer, may a host
/// answer whose daemon hangs.
#[test]
fn a_master_answers_no_longer_than_its_backups_are_sure_to_wait() {
    let mut case = Case::master(100);
    case.pass(SECOND / 2);
    let until = case.router.until().unwrap();
    case.pass(SECOND);
    assert_eq!(case.router.until().unwrap(), until + SECOND);
    case.hear(200);
    assert_eq!(case.router.until(), None);
}
