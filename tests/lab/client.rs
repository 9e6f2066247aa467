//! A client that asks the VIP again and again over a connection of its own each, whatever became of the ones before.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

pub const PACE: Duration = Duration::from_millis(5);
/// For a whole request; so at most 300 of them are under way at that pace.
const PATIENCE: Duration = Duration::from_millis(1500);

#[derive(Debug, Clone)]
pub struct Asked {
    pub sent: Instant,
    pub done: Instant,
    /// Who answered, or why nobody did.
    pub answer: Result<String, String>,
}

/// Asks until told to stop; to be called inside the client's network. One thread for all requests: hundreds of threads
/// that wait would be a load of their own.
pub fn ask_until(stop: &Arc<AtomicBool>, vip: SocketAddr, pace: Duration) -> Vec<Asked> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut all = runtime.block_on(async {
        let mut all = Vec::new();
        let mut under_way = JoinSet::new();
        let mut next = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            under_way.spawn(patiently(vip));
            while let Some(asked) = under_way.try_join_next() {
                all.push(asked.unwrap());
            }
            next += pace;
            tokio::time::sleep_until(next.into()).await;
        }
        all.extend(under_way.join_all().await);
        all
    });
    all.sort_by_key(|asked: &Asked| asked.sent);
    all
}

/// One request.
pub async fn patiently(vip: SocketAddr) -> Asked {
    let sent = Instant::now();
    let answer = match tokio::time::timeout(PATIENCE, ask(vip)).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    };
    Asked { sent, done: Instant::now(), answer }
}

async fn ask(vip: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(vip).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned());
    body.filter(|_| text.contains(" 200 ")).ok_or_else(|| std::io::Error::other(format!("answered {text:?}")))
}

#[derive(Debug)]
pub struct Report {
    /// The longest time without an answer, from the first question to the last.
    pub gap: Duration,
    pub failed: usize,
    pub asked: usize,
    /// Who answered, in the order of the questions, without repetitions.
    pub answered: Vec<String>,
    /// When each of them first answered.
    pub since: Vec<Instant>,
}

/// `all`: in the order in which they were sent.
pub fn report(all: &[Asked]) -> Report {
    let end = all.last().map(|a| a.sent);
    // What was lost in the gap is sent again a second later, when nobody asks any more.
    let in_time = |a: &&Asked| a.answer.is_ok() && Some(a.done) <= end;
    let mut moments: Vec<Instant> = all.iter().filter(in_time).map(|a| a.done).collect();
    // A service that never comes back has a gap too.
    moments.extend(all.first().map(|a| a.sent).into_iter().chain(end));
    moments.sort_unstable();
    let gap = moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(Duration::MAX);
    let mut turns: Vec<(String, Instant)> =
        all.iter().filter_map(|a| Some((a.answer.clone().ok()?, a.done))).collect();
    turns.dedup_by(|a, b| a.0 == b.0);
    let (answered, since) = turns.into_iter().unzip();
    Report {
        gap,
        failed: all.iter().filter(|a| a.answer.is_err()).count(),
        asked: all.len(),
        answered,
        since,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sent every 100 ms and done 10 ms later.
    fn asked(answers: &[Option<&str>]) -> Vec<Asked> {
        let begin = Instant::now();
        let sent = (0..).map(|n| begin + Duration::from_millis(100) * n);
        let one = |(sent, answer): (Instant, &Option<&str>)| Asked {
            sent,
            done: sent + Duration::from_millis(10),
            answer: answer.map(str::to_owned).ok_or_else(|| "refused".to_owned()),
        };
        sent.zip(answers).map(one).collect()
    }

    #[test]
    fn the_gap_is_the_longest_time_between_two_answers() {
        let report = report(&asked(&[Some("a"), Some("a"), None, None, Some("b"), Some("b")]));
        assert_eq!(report.gap, Duration::from_millis(300));
        assert_eq!((report.failed, report.asked), (2, 6));
        assert_eq!(report.answered, ["a", "b"]);
    }

    #[test]
    fn what_is_answered_after_the_last_question_is_no_gap() {
        let mut all = asked(&[Some("a"), Some("b"), Some("b")]);
        all[1].done += Duration::from_millis(900);
        assert_eq!(report(&all).gap, Duration::from_millis(190));
    }

    #[test]
    fn a_service_that_stays_away_is_a_gap_to_the_end() {
        assert_eq!(report(&asked(&[Some("a"), None, None, None])).gap, Duration::from_millis(290));
        assert_eq!(report(&asked(&[None, None, None])).gap, Duration::from_millis(200));
    }
}
