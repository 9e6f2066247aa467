//! The [`Fence`] of this host, in a thread of its own, or why it has none: then the address's own lifetime, in whole
//! seconds, is all that ends it when the daemon cannot.
//!
//! A thread, because whoever changes the ruleset has the kernel's lock on it meanwhile: a firewall that loads its
//! thousand rules, or a flush, would keep the core from its adverts for as long. What the core orders is carried out in
//! order, and each order names the moment until which it is good, so a late one opens nothing for longer.

use super::fence::{Fence, FenceError, Gate};
use super::realtime;
use crate::engine::time::Instant;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// Some seconds of renewals. Beyond them the thread is stuck, and what is dropped closes by itself.
const ORDERS: usize = 256;
/// How long an address waits for its fence: longer, and a VIP is better served without one for a moment than not at all.
const OPEN_WITHIN: Duration = Duration::from_millis(20);
/// And so much longer for each gate that is opened with it.
const OPEN_EACH: Duration = Duration::from_micros(100);

#[derive(Debug)]
pub struct Gates {
    thread: Result<Thread, String>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Thread {
    orders: SyncSender<Order>,
    handle: JoinHandle<Fence>,
}

#[derive(Debug, Default)]
struct Counters {
    repairs: AtomicU64,
    failures: AtomicU64,
}

#[derive(Debug)]
enum Order {
    Open(Vec<Gate>, Option<oneshot::Sender<Result<(), FenceError>>>),
    Keep(Instant),
    Quiet(Vec<IpAddr>),
    Close(Vec<IpAddr>),
    Forget(Vec<IpAddr>),
}

impl Gates {
    /// `keep`: what an earlier run left open and this one takes over.
    #[must_use]
    pub fn start(keep: &[Gate]) -> Gates {
        let counters: Arc<Counters> = Arc::default();
        let thread = Fence::start(keep).map_err(|error| error.to_string()).and_then(|fence| {
            let (orders, inbox) = sync_channel(ORDERS);
            let counters = counters.clone();
            let thread = std::thread::Builder::new().name("fence".into());
            let handle = thread.spawn(move || obey(fence, &inbox, &counters));
            handle.map(|handle| Thread { orders, handle }).map_err(|error| error.to_string())
        });
        if let Err(reason) = &thread {
            tracing::warn!("no fence: {reason}");
        }
        Gates { thread, counters }
    }

    /// Why there is none.
    #[must_use]
    pub fn missing(&self) -> Option<&str> {
        self.thread.as_ref().err().map(String::as_str)
    }

    /// How often somebody else had removed or changed the fence.
    #[must_use]
    pub fn repairs(&self) -> u64 {
        self.counters.repairs.load(Ordering::Relaxed)
    }

    /// Orders that were refused, or that the thread had no room or no time for.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.counters.failures.load(Ordering::Relaxed)
    }

    /// Before an address is added, and with each renewal of its lifetime.
    pub async fn open(&self, gates: Vec<Gate>) -> Result<(), String> {
        let (done, answer) = oneshot::channel();
        let patience = OPEN_WITHIN + OPEN_EACH * u32::try_from(gates.len()).unwrap_or(u32::MAX);
        if !self.order(Order::Open(gates, Some(done))) {
            return Ok(());
        }
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(outcome)) => outcome.map_err(|error| error.to_string()),
            _ => {
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("the fence is late: somebody keeps the kernel's ruleset locked");
                Ok(())
            }
        }
    }

    /// The lease is longer by now. Where this fails, the next [`Gates::open`] says so.
    pub fn extend(&self, gates: Vec<Gate>) {
        self.order(Order::Open(gates, None));
    }

    /// The same of all gates that are open.
    pub fn keep(&self, until: Instant) {
        self.order(Order::Keep(until));
    }

    /// No new connections for these, which are about to be closed.
    pub fn quiet(&self, addrs: &[IpAddr]) {
        self.order(Order::Quiet(addrs.to_vec()));
    }

    /// What cannot be closed closes by itself when its lease ends.
    pub fn close(&self, addrs: &[IpAddr]) {
        self.order(Order::Close(addrs.to_vec()));
    }

    pub fn forget(&self, addrs: &[IpAddr]) {
        self.order(Order::Forget(addrs.to_vec()));
    }

    /// False: there is no fence, or no room for the order.
    fn order(&self, order: Order) -> bool {
        let Ok(thread) = &self.thread else { return false };
        match thread.orders.try_send(order) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }

    /// Nothing of ours stays in the ruleset.
    pub fn remove(self) {
        let Ok(Thread { orders, handle }) = self.thread else { return };
        drop(orders);
        if let Ok(Err(error)) = handle.join().map(Fence::remove) {
            tracing::warn!("the fence stays (`nft delete table netdev haclusterd` removes it): {error}");
        }
    }
}

/// Until nobody can order any more.
fn obey(mut fence: Fence, inbox: &Receiver<Order>, counters: &Counters) -> Fence {
    realtime::raise();
    while let Ok(order) = inbox.recv() {
        let outcome = match order {
            Order::Open(gates, answer) => {
                let outcome = open(&mut fence, &gates, counters);
                match answer.map(|answer| answer.send(outcome)) {
                    None | Some(Ok(())) => Ok(()),
                    Some(Err(outcome)) => outcome, // nobody has waited for it
                }
            }
            Order::Keep(until) => fence.keep(until).map(|repaired| note(repaired, counters)),
            Order::Quiet(addrs) => fence.quiet(&addrs),
            Order::Close(addrs) => fence.close(&addrs),
            Order::Forget(addrs) => fence.forget(&addrs),
        };
        if let Err(error) = outcome {
            counters.failures.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("the fence: {error}");
        }
    }
    fence
}

fn open(fence: &mut Fence, gates: &[Gate], counters: &Counters) -> Result<(), FenceError> {
    let opened = fence.open(gates).inspect_err(|_| {
        counters.failures.fetch_add(1, Ordering::Relaxed);
    })?;
    note(opened.repaired, counters);
    Ok(())
}

fn note(repaired: bool, counters: &Counters) {
    if repaired {
        counters.repairs.fetch_add(1, Ordering::Relaxed);
        tracing::warn!("somebody removed or changed the fence (table netdev haclusterd); it stands again");
    }
}
