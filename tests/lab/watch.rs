//! Who has the VIP's addresses, on every host at every moment: a netlink monitor in each of them.
//!
//! A host that has one address of a VIP holds it, so two hosts that share its addresses overlap. The monitor is the
//! daemon's own, so at the end iproute2 is asked the same. FRR's address never goes: its host has it while the macvlan
//! below it has a carrier.

use crate::frr::MACVLAN;
use crate::net::Net;
use haclusterd::io::netlink::{Event, Kernel};
use haclusterd::io::realtime;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy)]
pub struct Change {
    pub at: Instant,
    pub host: usize,
    address: IpAddr,
    pub has: bool,
}

pub struct Watch {
    addresses: Vec<IpAddr>,
    hosts: Vec<usize>,
    changes: Arc<Mutex<Vec<Change>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
pub struct Holding {
    /// The time for which more than one host had it.
    pub overlap: Duration,
    /// The time for which no host had it, after the first did.
    pub nobody: Duration,
    /// Who has it at the end.
    pub holders: Vec<usize>,
    /// Who got it, in order.
    pub order: Vec<usize>,
}

impl Watch {
    pub fn new(net: Net, hosts: &[usize], addresses: &[IpAddr]) -> Watch {
        let changes: Arc<Mutex<Vec<Change>>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let threads = hosts.iter().map(|&host| {
            let (addresses, changes, stop) = (addresses.to_vec(), changes.clone(), stop.clone());
            net.inside(host, move || monitor(host, addresses, changes, &stop))
        });
        let threads = threads.collect();
        Watch { addresses: addresses.to_vec(), hosts: hosts.to_vec(), changes, stop, threads }
    }

    pub fn end(self, net: Net) -> Holding {
        self.finish(net).0
    }

    /// With all changes, in order.
    pub fn finish(self, net: Net) -> (Holding, Vec<Change>) {
        // What has just happened is still on its way.
        std::thread::sleep(Duration::from_millis(50));
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        let mut changes = std::mem::take(&mut *self.changes.lock().unwrap());
        changes.sort_by_key(|change| change.at);
        let holding = holding(&changes, Instant::now());
        let has = |host: &usize| self.addresses.iter().any(|address| net.has(*host, *address));
        let kernel: Vec<usize> = self.hosts.iter().copied().filter(has).collect();
        assert_eq!(holding.holders, kernel, "the monitors and iproute2 disagree on who has the VIP");
        (holding, changes)
    }
}

fn holding(changes: &[Change], end: Instant) -> Holding {
    let mut present: BTreeSet<(usize, IpAddr)> = BTreeSet::new();
    let mut seen =
        Holding { overlap: Duration::ZERO, nobody: Duration::ZERO, holders: vec![], order: vec![] };
    let ends = changes.iter().skip(1).map(|change| change.at).chain([end]);
    for (change, until) in changes.iter().zip(ends) {
        let holding = (change.host, change.address);
        if change.has {
            present.insert(holding)
        } else {
            present.remove(&holding)
        };
        let before = std::mem::replace(&mut seen.holders, present.iter().map(|(host, _)| *host).collect());
        seen.holders.dedup();
        if change.has && !before.contains(&change.host) {
            seen.order.push(change.host);
        }
        match seen.holders.len() {
            0 => seen.nobody += until - change.at,
            1 => {}
            _ => seen.overlap += until - change.at,
        }
    }
    seen
}

fn monitor(host: usize, addresses: Vec<IpAddr>, changes: Arc<Mutex<Vec<Change>>>, stop: &AtomicBool) {
    // The daemons that it watches are: it would see two of them at once, and in the wrong order.
    realtime::raise();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let macvlan = AtomicU32::new(0);
        let note = move |event| {
            let at = Instant::now();
            let (address, has) = match event {
                Event::AddressAdded { index, .. } | Event::AddressGone { index, .. }
                    if index == macvlan.load(Ordering::Relaxed) =>
                {
                    return;
                }
                Event::AddressAdded { net, .. } => (net.addr(), true),
                Event::AddressGone { net, .. } => (net.addr(), false),
                Event::Link { index, name, up, .. } if name.starts_with(MACVLAN) => {
                    macvlan.store(index, Ordering::Relaxed);
                    (addresses[0], up)
                }
                Event::Link { .. } | Event::LinkGone { .. } => return,
            };
            if addresses.contains(&address) {
                changes.lock().unwrap().push(Change { at, host, address, has });
            }
        };
        let kernel = Kernel::start(Arc::new(note)).await.unwrap();
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(kernel.resyncs(), 0, "the monitor of lb{host} lost news, so what it saw is not all");
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(changes: &[(u64, usize, &str, bool)], end: u64) -> Holding {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let change = |&(ms, host, address, has): &(u64, usize, &str, bool)| {
            let address: IpAddr = address.parse().unwrap();
            Change { at: at(ms), host, address, has }
        };
        holding(&changes.iter().map(change).collect::<Vec<_>>(), at(end))
    }

    fn ms(holding: &Holding) -> (u128, u128) {
        (holding.overlap.as_millis(), holding.nobody.as_millis())
    }

    #[test]
    fn a_clean_move_leaves_the_vip_with_nobody_for_a_while() {
        let moved = seen(
            &[(0, 1, "10.0.0.100", true), (10, 1, "10.0.0.100", false), (14, 2, "10.0.0.100", true)],
            20,
        );
        assert_eq!((ms(&moved), moved.holders, moved.order), ((0, 4), vec![2], vec![1, 2]));
    }

    #[test]
    fn an_overlap_that_lasts_is_counted_to_the_end() {
        let both = seen(&[(0, 1, "10.0.0.100", true), (10, 2, "10.0.0.100", true)], 35);
        assert_eq!((ms(&both), both.holders), ((25, 0), vec![1, 2]));
    }

    #[test]
    fn one_address_here_and_another_there_is_an_overlap() {
        let changes = [
            (0, 1, "10.0.0.100", true),
            (0, 1, "fd00::100", true),
            (10, 1, "10.0.0.100", false),
            (11, 2, "10.0.0.100", true),
            (16, 1, "fd00::100", false),
            (17, 2, "fd00::100", true),
        ];
        let split = seen(&changes, 20);
        assert_eq!((ms(&split), split.holders, split.order), ((5, 0), vec![2], vec![1, 2]));
    }
}
