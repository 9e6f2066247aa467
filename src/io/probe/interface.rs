//! Is the interface up, and its link with it? A change is known at once.

use super::links::Links;
use super::schedule;
use crate::config::Check;
use crate::engine::health::Outcome;
use tokio::time::Interval;

pub(super) struct Probe {
    name: String,
    /// Between two attempts to begin.
    schedule: Interval,
    links: Option<Links>,
    told: Option<Option<bool>>,
}

impl Probe {
    pub fn new(check: &Check, name: String) -> Probe {
        Probe { name, schedule: schedule(check), links: None, told: None }
    }
}

impl super::Probe for Probe {
    async fn next(&mut self) -> Outcome {
        loop {
            let links = match &mut self.links {
                Some(links) => {
                    links.changed().await;
                    links
                }
                none => {
                    self.schedule.tick().await;
                    match Links::watch().await {
                        Ok(links) => none.insert(links),
                        Err(reason) => return Outcome::Fail(reason),
                    }
                }
            };
            let state = links.is_up(&self.name);
            if self.told.replace(state) != Some(state) {
                return judge(&self.name, state);
            }
        }
    }
}

/// Nothing to count: the kernel knows for certain.
fn judge(name: &str, state: Option<bool>) -> Outcome {
    match state {
        Some(true) => Outcome::Pass,
        Some(false) => Outcome::Certain(format!("{name} is down, or has no carrier")),
        None => Outcome::Certain(format!("there is no interface {name}")),
    }
}
