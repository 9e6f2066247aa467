//! Checks become an effective priority: rise, fall and weight as keepalived counts them.
//!
//! A check's counter runs from 0 to rise + fall - 1 and the check is up from `rise` on. It starts at rise - 1, so
//! the first result decides at once. Weight 0 means that a check that is down takes the node out of the election;
//! a positive weight is added while the check is up, a negative one while it is down.

use haclusterd_proto::Priority;
use haclusterd_proto::control::Health as Verdict;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckConfig {
    pub name: String,
    pub rise: u32,
    pub fall: u32,
    pub weight: i16,
}

/// One result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Pass,
    /// Counts towards `fall`.
    Fail(String),
    /// Certain: the process has exited. Counts at once.
    Dead(String),
}

#[derive(Clone, Debug, Serialize)]
struct Check {
    config: CheckConfig,
    counter: u32,
    seen: bool,
    reason: String,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Health {
    checks: Vec<Check>,
}

impl Health {
    #[must_use]
    pub fn new(configs: &[CheckConfig]) -> Health {
        Health { checks: configs.iter().cloned().map(Check::new).collect() }
    }

    /// Takes over new settings; a check that keeps its name keeps what it knows.
    pub fn reconfigure(&mut self, configs: &[CheckConfig]) {
        let old = std::mem::take(&mut self.checks);
        self.checks = configs
            .iter()
            .map(|config| match old.iter().find(|c| c.config.name == config.name) {
                Some(known) => known.with(config.clone()),
                None => Check::new(config.clone()),
            })
            .collect();
    }

    /// Results of checks that are not configured (any more) are ignored.
    pub fn report(&mut self, name: &str, outcome: &Outcome) {
        if let Some(check) = self.checks.iter_mut().find(|c| c.config.name == name) {
            check.report(outcome);
        }
    }

    /// `None`: a check of weight 0 is down or has not answered yet.
    #[must_use]
    pub fn effective(&self, base: Priority) -> Option<Priority> {
        let mut sum = i32::from(base.0);
        for check in &self.checks {
            let weight = i32::from(check.config.weight);
            match (weight, check.is_up()) {
                (0, false) => return None,
                (1.., true) | (..0, false) => sum += weight,
                _ => {}
            }
        }
        u8::try_from(sum.clamp(1, 254)).ok().map(Priority)
    }

    /// What the checks say in all.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let fatal = |c: &&Check| c.config.weight == 0;
        if self.checks.is_empty() {
            Verdict::Unchecked
        } else if self.checks.iter().filter(fatal).any(|c| c.seen && !c.is_up()) {
            Verdict::Failed
        } else if self.checks.iter().filter(fatal).any(|c| !c.seen) {
            Verdict::Unknown
        } else if self.checks.iter().any(|c| !c.is_up()) {
            Verdict::Warn
        } else {
            Verdict::Ok
        }
    }

    /// Why the verdict is not `Ok`: the first check that is down, with its own words.
    #[must_use]
    pub fn reason(&self) -> String {
        self.checks
            .iter()
            .find(|c| !c.is_up())
            .map(|c| match c.seen {
                true => format!("{}: {}", c.config.name, c.reason),
                false => format!("{}: no result yet", c.config.name),
            })
            .unwrap_or_default()
    }
}

impl Check {
    fn new(config: CheckConfig) -> Check {
        let counter = config.rise.saturating_sub(1);
        Check { config, counter, seen: false, reason: String::new() }
    }

    fn with(&self, config: CheckConfig) -> Check {
        let top = (config.rise + config.fall).saturating_sub(1);
        let counter = if self.is_up() { top } else { self.counter.min(config.rise.saturating_sub(1)) };
        Check { config, counter, ..self.clone() }
    }

    fn is_up(&self) -> bool {
        self.seen && self.counter >= self.config.rise
    }

    fn report(&mut self, outcome: &Outcome) {
        let CheckConfig { rise, fall, .. } = self.config;
        let was_up = self.counter >= rise;
        self.seen = true;
        let reason = match outcome {
            Outcome::Pass => {
                self.counter = if was_up { rise + fall - 1 } else { self.counter + 1 };
                if self.counter == rise {
                    self.counter = rise + fall - 1;
                }
                return;
            }
            Outcome::Dead(reason) => {
                self.counter = 0;
                reason
            }
            Outcome::Fail(reason) => {
                self.counter = if was_up { self.counter - 1 } else { 0 };
                if self.counter < rise {
                    self.counter = 0;
                }
                reason
            }
        };
        self.reason.clone_from(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rise: u32, fall: u32, weight: i16) -> CheckConfig {
        CheckConfig { name: "nginx".into(), rise, fall, weight }
    }

    /// The effective priority after each result of `p`ass, `f`ail or `d`ead; base 100.
    fn run(config: CheckConfig, results: &str) -> Vec<Option<u8>> {
        let mut health = Health::new(&[config]);
        let mut after = Vec::new();
        for result in results.chars() {
            let outcome = match result {
                'p' => Outcome::Pass,
                'f' => Outcome::Fail("no".into()),
                _ => Outcome::Dead("gone".into()),
            };
            health.report("nginx", &outcome);
            after.push(health.effective(Priority(100)).map(|p| p.0));
        }
        after
    }

    #[test]
    fn the_first_result_decides_at_once() {
        assert_eq!(run(check(3, 3, 0), "p"), [Some(100)]);
        assert_eq!(run(check(3, 3, 0), "f"), [None]);
    }

    #[test]
    fn before_any_result_a_node_is_no_candidate() {
        let health = Health::new(&[check(1, 1, 0)]);
        assert_eq!((health.effective(Priority(100)), health.verdict()), (None, Verdict::Unknown));
    }

    #[test]
    fn failures_and_successes_must_be_consecutive() {
        assert_eq!(run(check(1, 2, 0), "pfpff"), [Some(100), Some(100), Some(100), Some(100), None]);
        assert_eq!(run(check(2, 1, 0), "fpfpp"), [None, None, None, None, Some(100)]);
    }

    #[test]
    fn a_dead_process_counts_at_once() {
        assert_eq!(run(check(1, 5, 0), "pd"), [Some(100), None]);
    }

    #[test]
    fn weights_add_and_clamp() {
        assert_eq!(run(check(1, 1, 20), "pf"), [Some(120), Some(100)]);
        assert_eq!(run(check(1, 1, -30), "pf"), [Some(100), Some(70)]);
        assert_eq!(run(check(1, 1, -253), "f"), [Some(1)]);
        assert_eq!(run(check(1, 1, 253), "p"), [Some(254)]);
    }

    #[test]
    fn a_reload_keeps_what_is_known() {
        let mut health = Health::new(&[check(1, 1, 0)]);
        health.report("nginx", &Outcome::Pass);
        health.reconfigure(&[check(3, 3, 0)]);
        assert_eq!(health.verdict(), Verdict::Ok);
    }
}
