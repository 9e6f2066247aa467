//! A client in the namespace `peer` that asks a VIP one question after the other, and notes which were answered.

use super::{V4, V6, index_in, vips};
use crate::netns::{PEERS, SOON};
use haclusterd::engine::time::Instant;
use haclusterd::io::clock;
use haclusterd::io::neighbor::{Claim, Neighbor};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// What has not been answered by now will not be. It takes 0.1 ms, or, where many want the processor, until it is our
/// turn.
const PATIENCE: Duration = Duration::from_millis(500);
pub const ECHO: u16 = 7;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Arp,
    /// By neighbour solicitations.
    Ndp,
    /// By datagrams, with the address's hardware address in its cache for good.
    Udp4,
    Udp6,
}

pub const EVERYHOW: [How; 4] = [How::Arp, How::Ndp, How::Udp4, How::Udp6];

#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub at: Instant,
    pub answered: bool,
}

#[derive(Debug)]
pub struct Client {
    pub how: How,
    stop: Arc<AtomicBool>,
    started: Receiver<()>,
    thread: JoinHandle<Vec<Asked>>,
}

impl Client {
    /// With a `pace` of nothing it asks as fast as it is answered.
    pub fn start(how: How, pace: Duration) -> Client {
        let stop = Arc::new(AtomicBool::new(false));
        let (start, started) = channel();
        let until = stop.clone();
        let thread = std::thread::spawn(move || {
            enter("peer");
            let mut ask = questions(how);
            let mut asked = Vec::new();
            while !until.load(Ordering::Relaxed) {
                start.send(()).unwrap_or(());
                let at = clock::now();
                asked.push(Asked { at, answered: ask() });
                std::thread::sleep(pace);
            }
            asked
        });
        Client { how, stop, started, thread }
    }

    pub fn wait(self) -> Client {
        self.started.recv().unwrap();
        self
    }

    /// Ends once its last question has been answered, or not.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub fn finish(self) -> Vec<Asked> {
        self.stop();
        self.thread.join().unwrap()
    }
}

pub fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

fn questions(how: How) -> Box<dyn FnMut() -> bool> {
    match how {
        How::Arp => Box::new(neighbor(V4)),
        How::Ndp => Box::new(neighbor(V6)),
        How::Udp4 => Box::new(datagram(V4, "10.9.0.2")),
        How::Udp6 => Box::new(datagram(V6, "fd00::2")),
    }
}

fn neighbor(vip: &str) -> impl FnMut() -> bool + use<> {
    let vip: IpAddr = vip.parse().unwrap();
    let (runtime, neighbor, mut claims) = listener(&[vip]);
    move || {
        while claims.try_recv().is_ok() {}
        neighbor.probe(vip).unwrap();
        runtime.block_on(async { tokio::time::timeout(PATIENCE, claims.recv()).await }).is_ok()
    }
}

/// Hears what is said of these addresses, in the peer's namespace, where the calling thread is.
fn listener(to: &[IpAddr]) -> (Runtime, Neighbor, UnboundedReceiver<IpAddr>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (tell, claims) = unbounded_channel();
    let heard = Arc::new(move |claim: Claim| tell.send(claim.addr).unwrap_or(()));
    let context = runtime.enter();
    let neighbor =
        Neighbor::open(index_in("peer", "v1"), PEERS, to.iter().copied().collect(), heard).unwrap();
    drop(context);
    (runtime, neighbor, claims)
}

fn datagram(vip: &str, own: &str) -> impl FnMut() -> bool + use<> {
    let socket = UdpSocket::bind((own, 0)).unwrap();
    socket.connect((vip, ECHO)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut number = 0_u64;
    move || {
        number += 1;
        socket.send(&number.to_be_bytes()).unwrap();
        let mut answer = [0; 8];
        loop {
            match socket.recv(&mut answer) {
                Ok(_) if u64::from_be_bytes(answer) == number => return true,
                // To an earlier question.
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }
}

/// What the peer hears said of the VIPs during `what`.
pub fn heard(what: impl FnOnce()) -> Vec<IpAddr> {
    let (ready, wait) = channel();
    let (done, end) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        enter("peer");
        let (runtime, _neighbor, mut claims) = listener(&vips());
        ready.send(()).unwrap();
        runtime.block_on(end).unwrap();
        std::iter::from_fn(|| claims.try_recv().ok()).collect()
    });
    wait.recv().unwrap();
    what();
    std::thread::sleep(SOON / 5);
    done.send(()).unwrap();
    thread.join().unwrap()
}

/// The peer says that it has this.
pub fn announce(vip: IpAddr) {
    let announced = std::thread::spawn(move || {
        enter("peer");
        let (_runtime, neighbor, _) = listener(&vips());
        neighbor.announce(vip).unwrap();
    });
    announced.join().unwrap();
}

/// Answers datagrams to both VIPs, as long as the process lives.
pub fn echo() {
    for vip in [V4, V6] {
        let socket = UdpSocket::bind((vip, ECHO)).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 8];
            while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                // Where the fence drops it, the kernel may say so.
                let _ = socket.send_to(&buffer[..len], from);
            }
        });
    }
}
