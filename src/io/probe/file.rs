//! A number that an operator, or a program of his, writes into a file: keepalived's track_file.

use super::hand::Hand;
use super::schedule;
use crate::config::Check;
use crate::engine::health::Outcome;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Interval;

/// A number, its sign and some blanks.
const MAX: u64 = 64;

pub(super) struct Probe {
    hand: Hand<(), Outcome>,
    schedule: Interval,
    timeout: Duration,
}

impl Probe {
    pub fn new(check: &Check, path: PathBuf) -> Probe {
        let hand = Hand::new(&check.name, move |(), answer| drop(answer.send(read(&path))));
        Probe { hand, schedule: schedule(check), timeout: check.timeout }
    }
}

impl super::Probe for Probe {
    async fn next(&mut self) -> Outcome {
        self.schedule.tick().await;
        let read = self.hand.run((), self.timeout).await;
        let late = "it cannot be read in time, so what it said last still counts";
        read.unwrap_or_else(|stuck| Outcome::Warn(stuck.say(late)))
    }
}

/// Without a file there is nothing to add.
fn read(path: &Path) -> Outcome {
    let mut text = String::new();
    let shown = path.display();
    match File::open(path).and_then(|file| file.take(MAX).read_to_string(&mut text)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Outcome::Number(0),
        Err(error) => return Outcome::Warn(format!("{shown}: {error}: what it said last still counts")),
        Ok(_) => {}
    }
    match text.trim().parse() {
        Ok(number) => Outcome::Number(number),
        Err(_) if text.trim().is_empty() => Outcome::Number(0),
        Err(_) => Outcome::Warn(format!("{shown} holds no whole number: what it said last still counts")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_number_leaves_the_last_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("weight");
        assert_eq!(read(&file), Outcome::Number(0));
        for (text, number) in [("-30\n", -30), ("", 0), (" 7 ", 7)] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read(&file), Outcome::Number(number));
        }
        std::fs::write(&file, "maintenance").unwrap();
        assert!(matches!(read(&file), Outcome::Warn(why) if why.contains("no whole number")));
    }
}
