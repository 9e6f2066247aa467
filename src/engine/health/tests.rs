use super::*;

fn check(rise: u32, fall: u32, weight: i16) -> CheckConfig {
    CheckConfig::new("nginx", rise, fall, weight)
}

fn outcome(letter: char) -> Outcome {
    match letter {
        'p' => Outcome::Pass,
        'w' => Outcome::Warn("soon".into()),
        's' => Outcome::Saturated("full".into()),
        'f' => Outcome::Fail("no".into()),
        _ => Outcome::Certain("gone".into()),
    }
}

fn after(config: CheckConfig, results: &str) -> Health {
    let mut health = Health::new(&[config]);
    for letter in results.chars() {
        health.report("nginx", "", &outcome(letter));
    }
    health
}

fn priority(health: &Health) -> Option<u8> {
    health.effective(Priority(100)).map(|p| p.0)
}

/// The effective priority after each result of `p`ass, `f`ail or `c`ertain failure; base 100.
fn run(config: CheckConfig, results: &str) -> Vec<Option<u8>> {
    (1..=results.len()).map(|length| priority(&after(config.clone(), &results[..length]))).collect()
}

#[test]
fn the_first_result_decides_at_once() {
    assert_eq!(run(check(3, 3, 0), "p"), [Some(100)]);
    assert_eq!(run(check(3, 3, 0), "f"), [None]);
}

#[test]
fn before_any_result_a_node_is_no_candidate() {
    let health = after(check(1, 1, 0), "");
    assert_eq!((priority(&health), health.verdict()), (None, Verdict::Unknown));
}

#[test]
fn who_begins_down_needs_rise_passes_and_who_begins_up_fall_failures() {
    let begins = |initial| CheckConfig { initial, ..check(2, 2, 0) };
    assert_eq!(run(begins(Initial::Down), "ppff"), [None, Some(100), Some(100), None]);
    assert_eq!(run(begins(Initial::Up), "fpff"), [Some(100), Some(100), Some(100), None]);
    assert_eq!(priority(&after(begins(Initial::Up), "")), Some(100));
    assert_eq!(after(begins(Initial::Down), "").verdict(), Verdict::Failed);
}

#[test]
fn failures_and_successes_must_be_consecutive() {
    assert_eq!(run(check(1, 2, 0), "pfpff"), [Some(100), Some(100), Some(100), Some(100), None]);
    assert_eq!(run(check(2, 1, 0), "fpfpp"), [None, None, None, None, Some(100)]);
}

#[test]
fn what_is_certain_counts_at_once() {
    assert_eq!(run(check(1, 5, 0), "pc"), [Some(100), None]);
}

#[test]
fn weights_add_while_up_or_take_while_down_and_the_sum_is_clamped() {
    assert_eq!(run(check(1, 1, 20), "pf"), [Some(120), Some(100)]);
    assert_eq!(run(check(1, 1, -30), "pf"), [Some(100), Some(70)]);
    assert_eq!(run(check(1, 1, -253), "f"), [Some(1)]);
    assert_eq!(run(check(1, 1, 253), "p"), [Some(254)]);
}

#[test]
fn reverse_turns_each_of_them_round() {
    let reverse = |weight| CheckConfig { reverse: true, ..check(1, 1, weight) };
    assert_eq!(run(reverse(20), "pf"), [Some(100), Some(120)]);
    assert_eq!(run(reverse(-30), "pf"), [Some(70), Some(100)]);
    assert_eq!(run(reverse(0), "pf"), [None, Some(100)]);
    assert_eq!(priority(&after(reverse(0), "")), None, "without a result it is down as well");
}

#[test]
fn the_sum_is_clamped_once_and_not_at_each_weight() {
    let named = |name: &str, weight| CheckConfig { name: name.into(), ..check(1, 1, weight) };
    let mut health = Health::new(&[named("a", 200), named("b", -150)]);
    health.report("a", "", &Outcome::Pass);
    health.report("b", "", &outcome('f'));
    assert_eq!(priority(&health), Some(150), "100 + 200 - 150");
}

#[test]
fn a_number_counts_by_its_product_with_the_weight() {
    let with = |weight, reverse, number| {
        let mut health = Health::new(&[CheckConfig { reverse, numeric: true, ..check(1, 1, weight) }]);
        health.report("nginx", "", &Outcome::Number(number));
        priority(&health)
    };
    assert_eq!(with(1, false, 20), Some(120));
    assert_eq!(with(-2, false, 20), Some(60));
    assert_eq!(with(1, true, 20), Some(80));
    assert_eq!(with(1, false, -253), Some(1));
    assert_eq!(with(1, false, -254), None, "below -253 it takes the node out");
    assert_eq!(with(10, false, i32::MAX), Some(254), "above 253 it is cut");
    assert_eq!((with(0, false, 0), with(0, false, 1)), (Some(100), None));
    assert_eq!((with(0, true, 0), with(0, true, 1)), (None, Some(100)));
}

#[test]
fn a_number_makes_nobody_sick_but_who_is_out() {
    let mut health = Health::new(&[CheckConfig { numeric: true, ..check(1, 1, 1) }]);
    assert_eq!((priority(&health), health.verdict()), (Some(100), Verdict::Ok), "without a file it is 0");
    health.report("nginx", "", &Outcome::Number(-50));
    assert!(!health.is_sick());
    health.report("nginx", "", &Outcome::Number(-300));
    assert!(health.is_sick());
}

#[test]
fn whoever_has_a_check_that_is_down_is_sick_whatever_its_weight() {
    for weight in [0, -1, 1] {
        assert!(after(check(1, 1, weight), "f").is_sick());
        assert!(!after(check(1, 1, weight), "p").is_sick());
    }
}

#[test]
fn saturated_and_warned_pass_and_are_told() {
    let full = after(check(1, 1, 0), "fs");
    assert_eq!((priority(&full), full.verdict(), full.is_sick()), (Some(100), Verdict::Saturated, false));
    assert_eq!(full.reason(), "nginx: full");
    assert_eq!(after(check(1, 1, 0), "w").verdict(), Verdict::Warn);
    assert_eq!(after(check(1, 2, 0), "sf").verdict(), Verdict::Ok, "one failure of two is not told yet");
    assert_eq!(after(check(1, 1, 0), "wp").reason(), "");
}

#[test]
fn each_part_is_counted_apart_and_all_must_be_up() {
    let parts = vec!["process".into(), "http".into()];
    let mut health = Health::new(&[CheckConfig { parts, ..check(1, 2, -10) }]);
    health.report("nginx", "process", &Outcome::Pass);
    assert_eq!(health.verdict(), Verdict::Unknown);
    health.report("nginx", "http", &Outcome::Pass);
    assert_eq!(priority(&health), Some(100));
    health.report("nginx", "http", &outcome('f'));
    health.report("nginx", "process", &Outcome::Pass);
    assert_eq!(priority(&health), Some(100), "one failure of two");
    health.report("nginx", "http", &outcome('f'));
    health.report("nginx", "process", &outcome('c'));
    assert_eq!(priority(&health), Some(90), "the weight counts once");
    health.report("nginx", "elsewhere", &Outcome::Pass);
    assert_eq!(health.verdict(), Verdict::Failed);
}

#[test]
fn a_report_tells_what_it_changed() {
    let mut health = Health::new(&[check(1, 2, 0)]);
    assert_eq!(health.report("nginx", "", &Outcome::Pass).unwrap().health, Verdict::Ok);
    assert!(health.report("nginx", "", &Outcome::Pass).is_none());
    assert!(health.report("nginx", "", &outcome('f')).is_none());
    let state = health.report("nginx", "", &outcome('f')).unwrap();
    assert_eq!((state.health, state.adds, state.reason.as_str()), (Verdict::Failed, None, "nginx: no"));
    assert!(health.report("other", "", &Outcome::Pass).is_none());
}

#[test]
fn a_reload_keeps_what_is_known() {
    let mut health = after(check(1, 1, 0), "p");
    health.reconfigure(&[check(3, 3, 0)]);
    assert_eq!(health.verdict(), Verdict::Ok);
    health.report("nginx", "", &outcome('c'));
    health.reconfigure(&[check(1, 1, 0)]);
    assert_eq!((health.verdict(), health.reason().as_str()), (Verdict::Failed, "nginx: gone"));
}

#[test]
fn what_a_number_said_is_forgotten_when_the_check_has_another_kind() {
    let mut health = Health::new(&[CheckConfig { numeric: true, ..check(1, 1, 0) }]);
    health.report("nginx", "", &Outcome::Number(0));
    health.reconfigure(&[check(1, 1, 0)]);
    assert_eq!(health.verdict(), Verdict::Unknown);
    health.report("nginx", "", &outcome('f'));
    assert_eq!(priority(&health), None);
}

#[test]
fn a_virtual_router_counts_what_it_tracks_and_as_it_says() {
    let named = |name: &str, weight| CheckConfig { name: name.into(), ..check(1, 1, weight) };
    let mut health = Health::new(&[named("a", -30), named("b", 0)]);
    health.report("a", "", &outcome('f'));
    health.report("b", "", &outcome('f'));
    let by = |check: &str, weight, reverse| {
        let track = Track { check: check.into(), weight, reverse };
        health.effective_by(&[track], Priority(100)).map(|priority| priority.0)
    };
    assert_eq!(by("a", None, None), Some(70), "the other one does not count");
    assert_eq!((by("a", Some(-50), None), by("a", Some(-50), Some(true))), (Some(50), Some(100)));
    assert_eq!((by("b", None, None), by("b", Some(-20), None)), (None, Some(80)));
    assert_eq!(health.effective_by(&[], Priority(100)), Some(Priority(100)));
}
