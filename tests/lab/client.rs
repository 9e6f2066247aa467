//! A client that asks the VIP every 5 ms over a connection of its own each, whatever became of the ones before.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const PACE: Duration = Duration::from_millis(5);
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
    let mut stream = TcpStream::connect_timeout(&vip, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned());
    body.filter(|_| text.contains(" 200 ")).ok_or_else(|| std::io::Error::other(format!("answered {text:?}")))
}

#[derive(Debug)]
pub struct Report {
    /// The longest time between two answers.
    pub gap: Duration,
    pub failed: usize,
    pub asked: usize,
    /// Who answered, in the order of the questions, without repetitions.
    pub answered: Vec<String>,
}

pub fn report(all: &[Asked]) -> Report {
    let mut done: Vec<Instant> = all.iter().filter(|a| a.answer.is_ok()).map(|a| a.done).collect();
    done.sort_unstable();
    let gap = done.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(Duration::MAX);
    let mut answered: Vec<String> = all.iter().filter_map(|a| a.answer.clone().ok()).collect();
    answered.dedup();
    Report { gap, failed: all.iter().filter(|a| a.answer.is_err()).count(), asked: all.len(), answered }
}
