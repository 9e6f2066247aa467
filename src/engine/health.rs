//! Checks become an effective priority: rise, fall, weight and reverse as keepalived counts them.
//!
//! The priority is the base and the weights, clamped to 1..=254. Weight 0 means that a check that is down takes the
//! node out of the election. Beyond keepalived, who has a check that is down is *sick*: it comes after every healthy
//! candidate, however the weights add up.

mod check;

pub use check::{CheckConfig, Effect, Initial, Outcome};

use check::Check;
use haclusterd_proto::Priority;
use haclusterd_proto::control::Health as Verdict;
use haclusterd_proto::member::CheckState;
use serde::{Deserialize, Serialize};

/// A check that counts for one virtual router, with what that one makes of it instead of the check's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    pub check: String,
    pub weight: Option<i16>,
    pub reverse: Option<bool>,
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
        let known = |config: &CheckConfig| old.iter().find(|check| check.name() == config.name);
        let renew = |config: &CheckConfig| match known(config) {
            Some(check) => check.with(config.clone()),
            None => Check::new(config.clone()),
        };
        self.checks = configs.iter().map(renew).collect();
    }

    /// Results of checks that are not configured (any more) are ignored. The check's state, if it has changed.
    pub fn report(&mut self, name: &str, part: &str, outcome: &Outcome) -> Option<CheckState> {
        let check = self.checks.iter_mut().find(|check| check.name() == name)?;
        let before = check.verdict();
        check.report(part, outcome);
        (check.verdict() != before).then(|| check.state())
    }

    /// `None`: a check of weight 0 is down or has not answered yet.
    #[must_use]
    pub fn effective(&self, base: Priority) -> Option<Priority> {
        sum(base, self.checks.iter().map(Check::effect))
    }

    /// The same by these checks alone.
    #[must_use]
    pub fn effective_by(&self, tracks: &[Track], base: Priority) -> Option<Priority> {
        let effect = |track: &Track| {
            let check = self.checks.iter().find(|check| check.name() == track.check)?;
            Some(check.effect_as(track.weight, track.reverse))
        };
        sum(base, tracks.iter().filter_map(effect))
    }

    /// Is any check down?
    #[must_use]
    pub fn is_sick(&self) -> bool {
        self.checks.iter().any(|check| check.verdict() == Verdict::Failed)
    }

    /// What the checks say in all: the worst of them.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.worst().map_or(Verdict::Unchecked, Check::verdict)
    }

    /// Why the verdict is not `Ok`, in the worst check's own words.
    #[must_use]
    pub fn reason(&self) -> String {
        self.worst().map(Check::reason).unwrap_or_default()
    }

    /// Every check, what it says and what that does to the priority.
    #[must_use]
    pub fn states(&self) -> Vec<CheckState> {
        self.checks.iter().map(Check::state).collect()
    }

    /// The first of those that are worst.
    fn worst(&self) -> Option<&Check> {
        self.checks.iter().min_by_key(|check| match check.verdict() {
            Verdict::Failed => 0,
            Verdict::Unknown => 1,
            Verdict::Saturated => 2,
            Verdict::Warn => 3,
            Verdict::Ok | Verdict::Unchecked => 4,
        })
    }
}

fn sum(base: Priority, effects: impl Iterator<Item = Effect>) -> Option<Priority> {
    let mut sum = i32::from(base.0);
    for effect in effects {
        match effect {
            Effect::Out => return None,
            Effect::Adds(weight) => sum = sum.saturating_add(weight.into()),
        }
    }
    u8::try_from(sum.clamp(1, 254)).ok().map(Priority)
}

#[cfg(test)]
mod tests;
