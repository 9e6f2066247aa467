//! A client that asks the VIP every 5 ms over a connection of its own each, whatever became of the ones before.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const PACE: Duration = Duration::from_millis(5);
/// For a whole request; so at most 300 of them are under way.
const PATIENCE: Duration = Duration::from_millis(1500);

#[derive(Debug, Clone)]
pub struct Asked {
    pub sent: Instant,
    pub done: Instant,
    /// Who answered, or why nobody did.
    pub answer: Result<String, String>,
}

/// Asks until told to stop; to be called inside the client's network.
pub fn ask_until(stop: &Arc<AtomicBool>, vip: SocketAddr) -> Vec<Asked> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let mut threads = Vec::new();
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let all = all.clone();
        // A thread inherits the network of its maker.
        threads.push(std::thread::spawn(move || {
            let sent = Instant::now();
            let answer = ask(vip).map_err(|error| error.to_string());
            all.lock().unwrap().push(Asked { sent, done: Instant::now(), answer });
        }));
        threads.retain(|thread| !thread.is_finished());
        next += PACE;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let mut all = std::mem::take(&mut *all.lock().unwrap());
    all.sort_by_key(|asked: &Asked| asked.sent);
    all
}

fn ask(vip: SocketAddr) -> std::io::Result<String> {
    let until = Instant::now() + PATIENCE;
    let mut stream = TcpStream::connect_timeout(&vip, PATIENCE)?;
    // Zero would mean for ever.
    let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream.set_read_timeout(Some(left))?;
    stream.set_nodelay(true)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
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
}

/// `all`: in the order in which they were sent.
pub fn report(all: &[Asked]) -> Report {
    let mut moments: Vec<Instant> = all.iter().filter(|a| a.answer.is_ok()).map(|a| a.done).collect();
    // A service that never comes back has a gap too.
    moments.extend(all.first().into_iter().chain(all.last()).map(|a| a.sent));
    moments.sort_unstable();
    let gap = moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(Duration::MAX);
    let mut answered: Vec<String> = all.iter().filter_map(|a| a.answer.clone().ok()).collect();
    answered.dedup();
    Report { gap, failed: all.iter().filter(|a| a.answer.is_err()).count(), asked: all.len(), answered }
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
    fn a_service_that_stays_away_is_a_gap_to_the_end() {
        assert_eq!(report(&asked(&[Some("a"), None, None, None])).gap, Duration::from_millis(290));
        assert_eq!(report(&asked(&[None, None, None])).gap, Duration::from_millis(200));
    }
}
