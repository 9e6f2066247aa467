//! Who has the VIP's address, on every host at every moment: a netlink monitor in each of them.

use crate::net::Net;
use haclusterd::io::netlink::{Event, Kernel};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy)]
struct Change {
    at: Instant,
    host: usize,
    has: bool,
}

pub struct Watch {
    changes: Arc<Mutex<Vec<Change>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
pub struct Holding {
    /// The time for which more than one host had it.
    pub overlap: Duration,
    /// Who has it at the end.
    pub holders: Vec<usize>,
    /// Who had it, in order.
    pub order: Vec<usize>,
}

impl Watch {
    pub fn new(net: &Net, hosts: impl Iterator<Item = usize>, vip: IpAddr) -> Watch {
        let changes: Arc<Mutex<Vec<Change>>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let threads = hosts.map(|host| {
            let (changes, stop) = (changes.clone(), stop.clone());
            net.inside(host, move || monitor(host, vip, changes, &stop))
        });
        Watch { threads: threads.collect(), changes, stop }
    }

    pub fn end(mut self) -> Holding {
        // What has just happened is still on its way.
        std::thread::sleep(Duration::from_millis(50));
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
        let mut changes = std::mem::take(&mut *self.changes.lock().unwrap());
        changes.sort_by_key(|change| change.at);
        holding(&changes)
    }
}

fn holding(changes: &[Change]) -> Holding {
    let (mut holders, mut order): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    let (mut overlap, mut since) = (Duration::ZERO, None);
    for change in changes {
        if let Some(since) = since.filter(|_| holders.len() > 1) {
            overlap += change.at - since;
        }
        since = Some(change.at);
        holders.retain(|host| *host != change.host);
        if change.has {
            holders.push(change.host);
            if order.last() != Some(&change.host) {
                order.push(change.host);
            }
        }
    }
    Holding { overlap, holders, order }
}

fn monitor(host: usize, vip: IpAddr, changes: Arc<Mutex<Vec<Change>>>, stop: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let note = move |event| {
            let at = Instant::now();
            let has = match event {
                Event::AddressAdded { net, .. } if net.addr() == vip => true,
                Event::AddressGone { net, .. } if net.addr() == vip => false,
                _ => return,
            };
            changes.lock().unwrap().push(Change { at, host, has });
        };
        let _kernel = Kernel::start(Arc::new(note)).await.unwrap();
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}
