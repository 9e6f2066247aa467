//! A thread for what may hang: a disk that is gone, a script that sleeps for ever. Whoever waits for it waits no longer
//! than he wants to, and while it hangs nothing else is begun.

use std::time::Duration;
use tokio::sync::mpsc;

/// Where a run says what came out. It may say so before it has tidied up.
pub(super) type Answer<T> = mpsc::UnboundedSender<T>;

pub(super) struct Hand<Q, T> {
    /// Or why there is no thread.
    ask: Result<std::sync::mpsc::Sender<Q>, String>,
    answers: mpsc::UnboundedReceiver<T>,
    /// Asked, and not answered yet.
    owes: bool,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stuck {
    NoThread(String),
    /// In this run or in an earlier one.
    Hangs,
}

impl Stuck {
    /// `hangs`: what it means that it does.
    pub fn say(self, hangs: impl Into<String>) -> String {
        match self {
            Stuck::NoThread(reason) => reason,
            Stuck::Hangs => hangs.into(),
        }
    }
}

impl<Q: Send + 'static, T: Send + 'static> Hand<Q, T> {
    /// The thread ends with the handle, or when what it hangs in lets go of it.
    pub fn new(name: &str, mut work: impl FnMut(Q, &Answer<T>) + Send + 'static) -> Hand<Q, T> {
        let (ask, asked) = std::sync::mpsc::channel::<Q>();
        let (answer, answers) = mpsc::unbounded_channel();
        // The kernel keeps 15 characters of a thread's name.
        let builder = std::thread::Builder::new().name(name.chars().take(15).collect());
        let thread = builder.spawn(move || asked.iter().for_each(|question| work(question, &answer)));
        let ask = thread.map(|_| ask).map_err(|error| format!("no thread could be started for it: {error}"));
        Hand { ask, answers, owes: false }
    }

    /// What comes too late is the next run's answer.
    pub async fn run(&mut self, question: Q, patience: Duration) -> Result<T, Stuck> {
        let ask = self.ask.as_ref().map_err(|reason| Stuck::NoThread(reason.clone()))?;
        if !self.owes {
            ask.send(question).map_err(|_| Stuck::Hangs)?;
            self.owes = true;
        }
        let answer = tokio::time::timeout(patience, self.answers.recv()).await;
        let answer = answer.ok().flatten().ok_or(Stuck::Hangs)?;
        self.owes = false;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_hangs_is_not_begun_a_second_time_and_its_late_answer_counts() {
        let (open, gate) = std::sync::mpsc::channel();
        let mut number = 0;
        let mut hand = Hand::new("test", move |(), answer| {
            gate.recv().unwrap();
            number += 1;
            let _ = answer.send(number);
        });
        open.send(()).unwrap();
        let second = Duration::from_secs(5);
        assert_eq!(hand.run((), second).await, Ok(1));
        for _ in 0..3 {
            assert_eq!(hand.run((), Duration::from_millis(20)).await, Err(Stuck::Hangs));
        }
        open.send(()).unwrap();
        assert_eq!(hand.run((), second).await, Ok(2), "begun once");
        assert_eq!(hand.run((), Duration::from_millis(20)).await, Err(Stuck::Hangs));
    }
}
