//! One attempt to bring a dead nginx back, before its VIPs are given away.

use super::super::hand::Hand;
use super::super::http::Client;
use super::master::Master;
use crate::config::Restart;
use crate::io::command::{self, Account, End, Order};
use std::time::Duration;
use tokio::time::Instant;

/// An nginx that dies again so soon after an attempt has its VIPs given away at once.
const PROVEN: Duration = Duration::from_secs(60);

/// The run answers by itself when its time is over.
const SLACK: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(20);

pub(super) struct Reviver {
    restart: Restart,
    hand: Hand<(), Result<(), String>>,
    tried: Option<Instant>,
}

impl Reviver {
    pub fn new(name: &str, restart: &Restart) -> Reviver {
        let asked = restart.clone();
        let hand = Hand::new(&format!("{name} restart"), move |(), answer| {
            if let Err(reason) = command::refuse_foreign(&asked.command[0], Account::ROOT) {
                return drop(answer.send(Err(reason)));
            }
            let (result, straggler) = match command::run(&Order::new(&asked.command, None, asked.timeout)) {
                End::Exited { status, .. } if status.success() => (Ok(()), None),
                End::Exited { status, said } => (Err(format!("{} {said}", command::ended(status))), None),
                End::NotStarted(reason) => (Err(reason), None),
                End::Late(straggler) => (Err("it did not end in time".into()), Some(straggler)),
            };
            let _ = answer.send(result);
            if let Some(straggler) = straggler {
                straggler.end();
            }
        });
        Reviver { restart: restart.clone(), hand, tried: None }
    }

    pub fn may_try(&self) -> bool {
        self.tried.is_none_or(|at| at.elapsed() >= PROVEN)
    }

    /// Runs the command, and waits until nginx runs and answers.
    pub async fn attempt(&mut self, nginx: &mut Master, client: Option<&Client>) -> Result<(), String> {
        let until = Instant::now() + self.restart.timeout;
        self.tried = Some(Instant::now());
        let command = self.restart.command.join(" ");
        let ran = self.hand.run((), self.restart.timeout + SLACK).await;
        let ran = ran.unwrap_or_else(|stuck| Err(stuck.say("it hangs")));
        ran.map_err(|reason| format!("`{command}` failed: {reason}"))?;
        while let Err(reason) = is_back(nginx, client, until).await {
            if Instant::now() >= until {
                let span = humantime::format_duration(self.restart.timeout);
                return Err(format!("`{command}` did not bring it back within {span}: {reason}"));
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.tried = Some(Instant::now());
        Ok(())
    }
}

async fn is_back(nginx: &mut Master, client: Option<&Client>, until: Instant) -> Result<(), String> {
    if !nginx.look().await {
        return Err("it does not run".into());
    }
    let left = until.saturating_duration_since(Instant::now()).max(PAUSE);
    match client {
        Some(client) => client.ask(left).await.map(drop).map_err(|failure| failure.text),
        None => Ok(()),
    }
}
