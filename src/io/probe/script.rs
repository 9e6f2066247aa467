//! A program of the operator's: exit code 0 passes.

use super::hand::{Answer, Hand};
use super::schedule;
use crate::config::{Check, Script};
use crate::engine::health::Outcome;
use crate::io::command::{self, Account, End, Order};
use std::time::Duration;
use tokio::time::Interval;

/// The run answers by itself when its time is over; this is for one that could not even be begun in time.
const SLACK: Duration = Duration::from_millis(100);

pub(super) struct Probe {
    hand: Hand<(), Outcome>,
    schedule: Interval,
    timeout: Duration,
}

impl Probe {
    pub fn new(check: &Check, script: Script) -> Probe {
        let timeout = check.timeout;
        let hand = Hand::new(&check.name, move |(), answer| run(&script, timeout, answer));
        Probe { hand, schedule: schedule(check), timeout }
    }
}

impl super::Probe for Probe {
    async fn next(&mut self) -> Outcome {
        self.schedule.tick().await;
        let ran = self.hand.run((), self.timeout + SLACK).await;
        ran.unwrap_or_else(|stuck| Outcome::Fail(stuck.say("an earlier run has not ended yet: it hangs")))
    }
}

fn run(script: &Script, timeout: Duration, answer: &Answer<Outcome>) {
    let account = Account::find(&script.user);
    let account =
        account.and_then(|account| command::refuse_foreign(&script.command[0], account).map(|()| account));
    let account = match account {
        Ok(account) => account,
        Err(reason) => return drop(answer.send(Outcome::Fail(reason))),
    };
    let (outcome, straggler) = match command::run(&Order::new(&script.command, Some(account), timeout)) {
        End::Exited { status, .. } if status.success() => (Outcome::Pass, None),
        End::Exited { status, said } if said.is_empty() => (Outcome::Fail(command::ended(status)), None),
        End::Exited { status, said } => (Outcome::Fail(format!("{}: {said}", command::ended(status))), None),
        End::NotStarted(reason) => (Outcome::Fail(reason), None),
        End::Late(straggler) => {
            let late = format!("no end within {}", humantime::format_duration(timeout));
            (Outcome::Fail(late), Some(straggler))
        }
    };
    // Told before it is tidied up, which may take for ever.
    let _ = answer.send(outcome);
    if let Some(straggler) = straggler {
        straggler.end();
    }
}
