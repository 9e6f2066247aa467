//! Clients that begin a request and never end it, until nginx has no connection left for anybody.

use crate::net::{CLIENT, Net};
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

const PACE: Duration = Duration::from_millis(5);
/// So many are turned away one after another: no request of somebody else's was in the way.
const FULL: u32 = 20;
const PATIENCE: Duration = Duration::from_secs(5);

/// They stay until it is dropped; who is sent away comes again.
pub struct Crowd {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Until nobody else gets in.
    pub fn gather(net: Net, web: SocketAddr) -> Crowd {
        let stop: Arc<AtomicBool> = Arc::default();
        let (full, told) = sync_channel(1);
        let until = stop.clone();
        let thread = net.inside(CLIENT, move || press(web, &until, &full));
        let crowd = Crowd { stop, thread: Some(thread) };
        told.recv_timeout(PATIENCE).expect("nginx turns clients away");
        crowd
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn press(web: SocketAddr, stop: &AtomicBool, full: &SyncSender<()>) {
    let mut inside: Vec<TcpStream> = Vec::new();
    let mut turned_away = 0;
    while !stop.load(Ordering::Relaxed) {
        let before = inside.len();
        inside.extend(begin(web));
        sleep(PACE);
        inside.retain(is_open);
        turned_away = if inside.len() > before { 0 } else { turned_away + 1 };
        if turned_away == FULL {
            let _ = full.try_send(());
        }
    }
}

fn begin(web: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&web, PATIENCE)?;
    // Before its first line has come, nginx would send it away for somebody else.
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n")?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

fn is_open(stream: &TcpStream) -> bool {
    stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}
