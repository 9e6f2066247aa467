//! The interfaces that have VRRP's virtual MACs, made and removed in a thread of its own: the kernel takes some
//! milliseconds for one, and a loop that has adverts to send must not wait for them.
//!
//! Orders are carried out one after the other. A mask (see [`mask`]) goes on before the addresses come, and comes off
//! after they are gone.

use super::fence::mask::{self, Mask};
use super::netlink::macvlan::{self, MacvlanError};
use super::realtime;
use haclusterd_proto::{MacAddr, VipId};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Every virtual router there can be, made, removed, and made again.
const ORDERS: usize = 2048;

/// Orders for which the masks are written once: each writing takes milliseconds too.
const TOGETHER: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub vip: VipId,
    /// Index of the interface whose network it serves.
    pub parent: u32,
    pub name: String,
    pub mac: MacAddr,
    pub addrs: Vec<IpAddr>,
}

/// The answer to [`VirtualMacs::make`].
#[derive(Debug)]
pub struct Made {
    pub vip: VipId,
    /// That of the order.
    pub ticket: u64,
    /// The interface's index, or why there is none.
    pub result: Result<u32, String>,
}

pub type Tells = Arc<dyn Fn(Made) + Send + Sync>;

enum Order {
    Make(Wanted, u64),
    Remove(VipId),
}

pub struct VirtualMacs {
    tells: Tells,
    /// What an earlier run left to this one.
    kept: Vec<Wanted>,
    tickets: u64,
    thread: Option<Thread>,
}

struct Thread {
    orders: Sender<Order>,
    handle: JoinHandle<()>,
}

impl std::fmt::Debug for VirtualMacs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VirtualMacs").field("kept", &self.kept).finish_non_exhaustive()
    }
}

/// Removes what an earlier run left behind, but for what this one goes on with.
pub async fn sweep(kept: &[Wanted]) -> Result<(), MacvlanError> {
    let names: Vec<&str> = kept.iter().map(|wanted| wanted.name.as_str()).collect();
    let swept = macvlan::sweep(&names).await?;
    for name in &swept {
        tracing::warn!("the interface {name} was left behind by an earlier run and is removed");
    }
    if !swept.is_empty() {
        wear(kept.iter());
    }
    Ok(())
}

impl VirtualMacs {
    /// The thread starts with the first order: most hosts need none.
    #[must_use]
    pub fn new(kept: Vec<Wanted>, tells: Tells) -> VirtualMacs {
        VirtualMacs { tells, kept, tickets: 0, thread: None }
    }

    /// The ticket that the answer will bear.
    pub fn make(&mut self, wanted: Wanted) -> Result<u64, String> {
        self.tickets += 1;
        let ticket = self.tickets;
        if self.thread.is_none() {
            self.thread = Some(start(self.kept.clone(), self.tells.clone())?);
        }
        let sent = self.thread.as_ref().map(|thread| thread.orders.try_send(Order::Make(wanted, ticket)));
        match sent {
            Some(Ok(())) => Ok(ticket),
            _ => Err("no thread is there to make its virtual MAC: the kernel does not answer".into()),
        }
    }

    /// Once its addresses are gone. It is no error if there is none.
    pub fn remove(&mut self, vip: VipId) {
        if self.thread.is_none() && self.kept.iter().any(|wanted| wanted.vip == vip) {
            self.thread = start(self.kept.clone(), self.tells.clone()).ok();
        }
        if let Some(thread) = &self.thread
            && thread.orders.try_send(Order::Remove(vip)).is_err()
        {
            tracing::warn!("a virtual MAC stays (the next start removes it): its thread takes no orders");
        }
    }

    /// Returns when every order is carried out.
    pub fn close(self) {
        if let Some(Thread { orders, handle }) = self.thread {
            drop(orders);
            let _ = handle.join();
        }
    }
}

fn start(kept: Vec<Wanted>, tells: Tells) -> Result<Thread, String> {
    let failed = |error: std::io::Error| format!("no thread for virtual MACs: {error}");
    let (orders, inbox) = channel(ORDERS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let thread = std::thread::Builder::new().name("virtual-macs".into());
    let handle = thread.spawn(move || {
        realtime::raise();
        runtime.block_on(obey(kept, inbox, tells));
    });
    Ok(Thread { orders, handle: handle.map_err(failed)? })
}

async fn obey(kept: Vec<Wanted>, mut inbox: Receiver<Order>, tells: Tells) {
    let mut worn: BTreeMap<VipId, Wanted> = kept.into_iter().map(|wanted| (wanted.vip, wanted)).collect();
    let mut orders = Vec::new();
    while inbox.recv_many(&mut orders, TOGETHER).await > 0 {
        let before = worn.clone();
        let mut made = Vec::new();
        for order in orders.drain(..) {
            match order {
                Order::Make(wanted, ticket) => {
                    let result = macvlan::ensure(wanted.parent, &wanted.name, wanted.mac).await;
                    let result = result.map_err(|error| error.to_string());
                    made.push(Made { vip: wanted.vip, ticket, result });
                    worn.insert(wanted.vip, wanted);
                }
                Order::Remove(vip) => drop(worn.remove(&vip)),
            }
        }
        if worn != before {
            wear(worn.values());
        }
        made.into_iter().for_each(|made| tells(made));
        for gone in before.values().filter(|gone| !worn.contains_key(&gone.vip)) {
            if let Err(error) = macvlan::remove(&gone.name).await {
                tracing::warn!("{error}");
            }
        }
    }
}

/// Without, answers bear the MAC of the interface that they leave by, as keepalived's do: clients do not mind.
fn wear<'a>(wanted: impl Iterator<Item = &'a Wanted>) {
    let masks: Vec<Mask> = wanted
        .flat_map(|own| own.addrs.iter().map(|addr| Mask { ifindex: own.parent, addr: *addr, mac: own.mac }))
        .collect();
    if let Err(error) = mask::wear(&masks) {
        tracing::warn!("answers bear the interface's own MAC instead of the virtual one: {error}");
    }
}
