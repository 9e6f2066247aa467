//! One run, in a thread of its own: it blocks, as long as it takes.

use super::ledger::Ledger;
use super::message::Message;
use super::webhook;
use crate::config::hooks::{Deed, Hook, Webhook, Words};
use crate::io::command::{self, Account, End, Order};
use std::time::Duration;

/// keepalived waits for no program; ours come one after the other.
const PATIENCE: Duration = Duration::from_secs(60);
/// A disk that takes longer hangs, and a hook is not to wait for it.
const DISK_PATIENCE: Duration = Duration::from_secs(2);

pub(super) enum Run {
    /// keepalived's, one after the other.
    Programs {
        all: Vec<Words>,
        user: Option<String>,
    },
    Hook {
        order: Order,
        user: Option<String>,
        stored: Stored,
    },
    Webhook {
        webhook: Webhook,
        body: Vec<u8>,
        patience: Duration,
        stored: Stored,
    },
}

/// That it is to be run must be known to a later run of the daemon before it is.
pub(super) struct Stored {
    pub ledger: Ledger,
    pub number: u64,
}

impl Stored {
    fn wait(&self) {
        self.ledger.wait(self.number, DISK_PATIENCE);
    }
}

impl Run {
    pub fn of(hook: &Hook, message: &Message<'_>, stored: Stored) -> Run {
        let (body, patience) = (message.json(), hook.timeout);
        match &hook.deed {
            Deed::Webhook(webhook) => Run::Webhook { webhook: webhook.clone(), body, patience, stored },
            Deed::Command(words) => {
                let environment = message.environment();
                let order = Order { environment, input: body, ..Order::new(words, None, patience) };
                Run::Hook { order, user: hook.user.clone(), stored }
            }
        }
    }

    /// Returns once nothing of it runs any more. `late`: is told before, if it does not end in time.
    pub fn run(self, late: &dyn Fn(&str)) -> Result<(), String> {
        match self {
            Run::Programs { all, user } => programs(&all, user.as_deref(), late),
            Run::Hook { order, user, stored } => {
                stored.wait();
                program(order, user.as_deref(), late)
            }
            Run::Webhook { webhook, body, patience, stored } => {
                stored.wait();
                webhook::post(&webhook, body, patience)
            }
        }
    }
}

/// The failure of one does not keep the next from being run.
fn programs(all: &[Words], user: Option<&str>, late: &dyn Fn(&str)) -> Result<(), String> {
    let run = |words: &Words| {
        let order = Order { listen: false, ..Order::new(words, None, PATIENCE) };
        program(order, user, late).map_err(|reason| format!("{}: {reason}", words.join(" ")))
    };
    let failures: Vec<String> = all.iter().filter_map(|words| run(words).err()).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

fn program(order: Order, user: Option<&str>, late: &dyn Fn(&str)) -> Result<(), String> {
    let account = user.map(Account::find_with_group).transpose()?;
    command::refuse_foreign(&order.words[0], account.unwrap_or_else(Account::own))?;
    let order = Order { account, ..order };
    match command::run(&order) {
        End::Exited { status, .. } if status.success() => Ok(()),
        End::Exited { status, said } if said.is_empty() => Err(command::ended(status)),
        End::Exited { status, said } => Err(format!("{}: {said}", command::ended(status))),
        End::NotStarted(reason) => Err(reason),
        End::Late(straggler) => {
            let reason = format!("no end within {}", humantime::format_duration(order.patience));
            late(&reason);
            straggler.end(); // which may take for ever
            Err(reason)
        }
    }
}
