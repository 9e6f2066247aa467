//! The fence: the kernel itself stops answering for a VIP when this daemon has not renewed in time, be it killed,
//! stopped or hung. [`super::netlink`]'s lifetimes do that too, but count in whole seconds.
//!
//! An nftables set holds the VIPs whose *gate* is open; its elements time out by themselves, to a jiffy. A second set
//! *guards* the addresses that need an open gate at all. Packets to and from a guarded address whose gate is not open
//! are dropped; [`table`] has the rules.
//!
//! The table is of the family netdev: there one set is good for ARP and IP, in one transaction, and its egress hook
//! also sees the frames of packet sockets, so that not even our own announcements come too late. A table of the
//! family arp alone would go on serving every client that has the address in its cache. It costs Linux 5.16; marking
//! addresses as ours needs 5.18 anyway.
//!
//! The table belongs to nobody (no owner flag): it has to outlive this process. So anybody may remove it, and each
//! renewal tells: it names the generation of the ruleset that it goes by, which the kernel compares, and if somebody
//! changed anything since, the table is looked at and rebuilt if it is not as it was.
//!
//! What the fence does not do: it stands on the interfaces that have VIPs, and not before others by which packets
//! for a VIP may come in. nftables' time is that of the kernel's ticks, which stand still while the host is suspended,
//! and may come late on a virtual machine whose processors are held back. And root can remove it.

pub mod deaf;
mod elements;
mod error;
pub mod mask;
mod plain;
mod rules;
mod socket;
mod table;
mod wire;

pub use error::FenceError;

use super::clock;
use crate::engine::time::Instant;
use rustix::io::Errno;
use socket::{Refusal, Socket};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use table::{Portrait, Set};
use wire::Batch;

/// A guard outlives its last renewal by this. When it ends, the kernel has long removed the address (its lifetime is
/// some seconds), and an operator who then sets it by hand does not find it dead.
const GUARD: Duration = Duration::from_secs(30);
/// Far longer than an address is quiet before it is removed, and nothing if it is not removed at all.
const QUIET: Duration = Duration::from_millis(100);
/// The longest jiffy there is (HZ=100), by which the kernel rounds. Before Linux 6.12, an element whose timeout was
/// rounded to nothing stayed for ever.
const JIFFY: Duration = Duration::from_millis(10);
/// How long a renewal may take from reading the clock to the kernel's answer: half of the guard by which a holder's
/// lease is shorter than the voter's. Longer, and it is sent again with what is left by then.
const TIMELY: Duration = Duration::from_millis(5);
const ATTEMPTS: u32 = 3;
/// Addresses in one transaction: some 2 ms of work.
const AT_ONCE: usize = 256;
/// Of the largest configuration, and of as many virtual routers.
const MAX_GUARDED: usize = 4096;
const LOOPBACK: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    pub ifindex: u32,
    pub addr: IpAddr,
    /// The kernel closes it up to two jiffies earlier (8 ms where HZ is 250), and not later.
    pub until: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Opened {
    /// Somebody had removed or changed the table, and it was built anew. From then to now it did not guard.
    pub repaired: bool,
    /// Not open: their time is over, or their interface is gone.
    pub closed: Vec<IpAddr>,
}

/// Every call returns within some microseconds, or [`ANSWER_WITHIN`] if the kernel loses an answer. Dropped, it
/// leaves the table: gates run out, and until then another [`Fence::start`] can go on with them.
#[derive(Debug)]
pub struct Fence {
    socket: Socket,
    guarded: BTreeMap<IpAddr, Guarded>,
    /// Gates that stay open as long as all of these do, and until when that is.
    kept: BTreeSet<IpAddr>,
    alive: Option<Instant>,
    /// The interfaces that have chains, by the name that the chains go by.
    devices: BTreeMap<u32, String>,
    /// As our last transaction left it; `None` if somebody else had a hand in.
    generation: Option<u32>,
    /// The table as it was built.
    built: Portrait,
}

#[derive(Debug, Clone, Copy)]
struct Guarded {
    ifindex: u32,
    /// `None`: the gate is closed.
    until: Option<Instant>,
}

impl Fence {
    /// Replaces what an earlier run left, in one transaction. `keep`: gates that stay open over it. An address of ours
    /// that is still on this host loses the guard that the earlier run gave it, unless it is named here, with a time
    /// that may be over.
    pub fn start(keep: &[Gate]) -> Result<Fence, FenceError> {
        let mut fence = Fence {
            socket: socket()?,
            guarded: BTreeMap::new(),
            kept: BTreeSet::new(),
            alive: None,
            devices: BTreeMap::new(),
            generation: None,
            built: Portrait::new(),
        };
        fence.note(keep)?;
        fence.build()?;
        Ok(fence)
    }

    /// Opens these, or keeps them open for longer. On an error, what was open closes in its time.
    pub fn open(&mut self, gates: &[Gate]) -> Result<Opened, FenceError> {
        let hooked = self.note(gates)?;
        let addrs: Vec<IpAddr> = gates.iter().map(|gate| gate.addr).collect();
        let intact = hooked && self.settle(&addrs)?;
        if !intact {
            self.build()?;
        }
        let now = clock::now();
        let closed = addrs.into_iter().filter(|addr| !self.is_open(*addr, now)).collect();
        Ok(Opened { repaired: hooked && !intact, closed })
    }

    /// Keeps all gates that are open now open until then, at the cost of one. On an error, they close in their time. True:
    /// somebody had removed or changed the table, and it was built anew.
    pub fn keep(&mut self, until: Instant) -> Result<bool, FenceError> {
        let open = self.guarded.iter().filter(|(_, guarded)| guarded.until.is_some());
        let new: Vec<IpAddr> = open.map(|(addr, _)| *addr).filter(|addr| !self.kept.contains(addr)).collect();
        self.kept.extend(&new);
        self.alive = Some(until);
        let outcome = in_time(clock::now, |now| self.send_kept(&new, now));
        match outcome {
            Ok(()) if self.generation.is_some() => Ok(false),
            // The table may stand and its sets be empty.
            Ok(()) if self.intact()? => {
                let kept: Vec<_> = self.kept.iter().copied().collect();
                self.write(&kept).map(|()| false)
            }
            Ok(()) | Err(FenceError::Refused { .. }) => self.build().map(|()| true),
            Err(late) => {
                self.alive = None;
                self.send_kept(&[], clock::now()).and(Err(late))
            }
        }
    }

    /// Closes these at once; they stay guarded. The first thing to do when a VIP is given up.
    pub fn close(&mut self, addrs: &[IpAddr]) -> Result<(), FenceError> {
        self.shut(addrs);
        if self.settle(addrs)? { Ok(()) } else { self.build() }
    }

    /// These take no new connections for a moment, within which they are to be closed.
    pub fn quiet(&mut self, addrs: &[IpAddr]) -> Result<(), FenceError> {
        let quiet: Vec<_> = addrs.iter().map(|addr| (*addr, QUIET)).collect();
        Ok(self.commit(|batch| elements::put(batch, Set::Quiet, addrs, &quiet))?)
    }

    /// These are off this host: neither gate nor guard is needed any more.
    pub fn forget(&mut self, addrs: &[IpAddr]) -> Result<(), FenceError> {
        let known: Vec<_> =
            addrs.iter().copied().filter(|addr| self.guarded.remove(addr).is_some()).collect();
        self.kept.retain(|addr| !known.contains(addr));
        let gone = self.commit(|batch| {
            elements::put(batch, Set::Lease, &known, &[]);
            elements::put(batch, Set::Guard, &known, &[]);
            elements::put(batch, Set::Quiet, &known, &[]);
            elements::put(batch, Set::Kept, &known, &[]);
        });
        match gone {
            // There is no table to take them out of; the next renewal builds it.
            Err(Refusal { errno: Errno::NOENT, .. }) => Ok(()),
            other => Ok(other?),
        }
    }

    /// What an earlier run left open, and until when at least.
    pub fn left_open() -> Result<Vec<(IpAddr, Instant)>, FenceError> {
        let mut socket = socket()?;
        for _ in 0..ATTEMPTS {
            let now = clock::now();
            if let Some(leases) = elements::leases(&mut socket)? {
                let mut open = BTreeMap::new();
                for (addr, left) in leases {
                    let until = open.entry(addr).or_insert(now);
                    *until = (*until).max(now + left.saturating_sub(JIFFY));
                }
                return Ok(open.into_iter().collect());
            }
        }
        Ok(Vec::new())
    }

    /// Removes the table: nothing of ours is left.
    pub fn remove(mut self) -> Result<(), FenceError> {
        let mut batch = self.socket.batch(None);
        table::remove(&mut batch);
        Ok(self.socket.commit(batch)?)
    }

    /// Takes down what is wanted. False if an interface has no chains yet, or none by its present name.
    fn note(&mut self, gates: &[Gate]) -> Result<bool, FenceError> {
        let new = gates.iter().filter(|gate| !self.guarded.contains_key(&gate.addr)).count();
        if self.guarded.len() + new > MAX_GUARDED {
            return Err(FenceError::TooMany(self.guarded.len() + new));
        }
        let devices = present(&self.socket, gates.iter().map(|gate| gate.ifindex));
        for Gate { ifindex, addr, until } in gates.iter().copied() {
            let until = devices.contains_key(&ifindex).then_some(until);
            self.guarded.insert(addr, Guarded { ifindex, until });
        }
        Ok(devices.iter().all(|(ifindex, name)| self.devices.get(ifindex) == Some(name)))
    }

    fn shut(&mut self, addrs: &[IpAddr]) {
        for addr in addrs {
            self.kept.remove(addr);
            if let Some(guarded) = self.guarded.get_mut(addr) {
                guarded.until = None;
            }
        }
    }

    /// How long the gate stays open, if it is worth opening.
    fn left(&self, addr: IpAddr, now: Instant) -> Option<Duration> {
        let left = self.guarded.get(&addr)?.until?.since(now);
        (left >= JIFFY).then_some(left)
    }

    fn left_alive(&self, now: Instant) -> Option<Duration> {
        Some(self.alive?.since(now)).filter(|left| *left >= JIFFY)
    }

    fn is_open(&self, addr: IpAddr, now: Instant) -> bool {
        self.left(addr, now).is_some() || (self.kept.contains(&addr) && self.left_alive(now).is_some())
    }

    fn send_kept(&mut self, new: &[IpAddr], now: Instant) -> Result<(), FenceError> {
        let left = self.left_alive(now);
        let new: Vec<_> = new.iter().map(|addr| (*addr, GUARD)).collect();
        Ok(self.commit(|batch| {
            elements::put(batch, Set::Kept, &[], &new);
            elements::keep_alive(batch, left);
        })?)
    }

    /// Has the kernel's table say of these what is noted of them. False if there is no such table any more.
    fn settle(&mut self, addrs: &[IpAddr]) -> Result<bool, FenceError> {
        match self.write(addrs) {
            Ok(()) => self.intact(),
            Err(FenceError::Refused { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// In as many transactions as it takes for each to be timely; all of them, whatever becomes of one.
    fn write(&mut self, addrs: &[IpAddr]) -> Result<(), FenceError> {
        let mut outcome = Ok(());
        for part in addrs.chunks(AT_ONCE) {
            let next = self.write_part(part);
            outcome = outcome.and(next);
        }
        outcome
    }

    fn write_part(&mut self, addrs: &[IpAddr]) -> Result<(), FenceError> {
        let known: Vec<_> = addrs.iter().copied().filter(|addr| self.guarded.contains_key(addr)).collect();
        let outcome = in_time(clock::now, |now| self.send(&known, now));
        if let Err(FenceError::Late { .. }) = outcome {
            self.shut(&known);
            self.send(&known, clock::now())?;
        }
        outcome
    }

    fn send(&mut self, known: &[IpAddr], now: Instant) -> Result<(), FenceError> {
        let open: Vec<_> = known.iter().filter_map(|addr| Some((*addr, self.left(*addr, now)?))).collect();
        let guards: Vec<_> = known.iter().map(|addr| (*addr, GUARD)).collect();
        let kept: Vec<_> = guards.iter().copied().filter(|(addr, _)| self.kept.contains(addr)).collect();
        Ok(self.commit(|batch| {
            elements::put(batch, Set::Kept, known, &kept);
            elements::put(batch, Set::Guard, known, &guards);
            elements::put(batch, Set::Lease, known, &open);
        })?)
    }

    /// A transaction on the table as we know it; and if somebody changed the ruleset, on whatever there is: a renewal
    /// does not wait for [`Fence::intact`].
    fn commit(&mut self, fill: impl Fn(&mut Batch)) -> Result<(), Refusal> {
        for generation in [self.generation, None] {
            let mut batch = self.socket.batch(generation);
            fill(&mut batch);
            if batch.is_empty() {
                return Ok(());
            }
            match self.socket.commit(batch) {
                Err(Refusal { errno: Errno::RESTART, .. }) if generation.is_some() => {}
                outcome => {
                    self.generation = outcome.is_ok().then_some(generation).flatten().map(next);
                    return outcome;
                }
            }
        }
        Ok(())
    }

    /// Whether the table is as it was built, if there is reason to doubt it.
    fn intact(&mut self) -> Result<bool, FenceError> {
        if self.generation.is_some() {
            return Ok(true);
        }
        for _ in 0..ATTEMPTS {
            let generation = self.socket.generation()?;
            let portrait = table::portrait(&mut self.socket)?;
            if generation == self.socket.generation()? {
                let intact = portrait.as_ref() == Some(&self.built);
                self.generation = intact.then_some(generation);
                return Ok(intact);
            }
        }
        // Somebody is at it just now. The next renewal looks again.
        Ok(true)
    }

    /// Makes the whole table anew, in place of whatever is there.
    fn build(&mut self) -> Result<(), FenceError> {
        // Until this is known to have gone well, the next renewal builds again.
        (self.generation, self.built) = (None, Portrait::new());
        let before = self.socket.generation()?;
        self.replace()?;
        let portrait = table::portrait(&mut self.socket)?;
        // Otherwise somebody was at it meanwhile, and what we saw may be his work.
        if self.socket.generation()? == next(before) {
            self.generation = Some(next(before));
            self.built = portrait.unwrap_or_default();
        }
        // All that took its time, which the gates must not have.
        let all: Vec<_> = self.guarded.keys().copied().collect();
        self.write(&all)
    }

    fn replace(&mut self) -> Result<(), FenceError> {
        let mut attempt = 1;
        loop {
            self.devices = present(&self.socket, self.guarded.values().map(|guarded| guarded.ifindex));
            let batch = self.whole(clock::now());
            match self.socket.commit(batch) {
                // An interface went away since we looked.
                Err(Refusal { errno: Errno::NOENT | Errno::NODEV, .. }) if attempt < ATTEMPTS => attempt += 1,
                outcome => return Ok(outcome?),
            }
        }
    }

    fn whole(&self, now: Instant) -> Batch {
        let mut batch = self.socket.batch(None);
        if self.devices.is_empty()
            && let Some(loopback) = self.socket.device(LOOPBACK)
        {
            table::try_hooks(&mut batch, &loopback);
        }
        table::remove(&mut batch);
        table::make(&mut batch);
        for (ifindex, name) in &self.devices {
            table::hook(&mut batch, *ifindex, name);
        }
        let guards: Vec<_> = self.guarded.keys().map(|addr| (*addr, GUARD)).collect();
        let open: Vec<_> =
            self.guarded.keys().filter_map(|addr| Some((*addr, self.left(*addr, now)?))).collect();
        let kept: Vec<_> = guards.iter().copied().filter(|(addr, _)| self.kept.contains(addr)).collect();
        elements::put(&mut batch, Set::Guard, &[], &guards);
        elements::put(&mut batch, Set::Kept, &[], &kept);
        elements::keep_alive(&mut batch, self.left_alive(now));
        elements::put(&mut batch, Set::Lease, &[], &open);
        batch
    }
}

/// Sends until a sending was so quick that what it said of the time is true.
fn in_time(
    clock: impl Fn() -> Instant,
    mut send: impl FnMut(Instant) -> Result<(), FenceError>,
) -> Result<(), FenceError> {
    let mut took = Duration::ZERO;
    for _ in 0..ATTEMPTS {
        let now = clock();
        send(now)?;
        took = clock().since(now);
        if took <= TIMELY {
            return Ok(());
        }
    }
    Err(FenceError::Late { took })
}

/// The kernel skips 0, which would mean any.
fn next(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

fn present(socket: &Socket, ifindexes: impl Iterator<Item = u32>) -> BTreeMap<u32, String> {
    let distinct: BTreeSet<u32> = ifindexes.collect();
    distinct.into_iter().filter_map(|ifindex| Some((ifindex, socket.device(ifindex)?))).collect()
}

fn socket() -> Result<Socket, FenceError> {
    Socket::open().map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        Refusal { errno, step: "open a netfilter socket", text: None }.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A clock that moves on by the next of `spans` with each sending.
    fn sendings(spans: &[u64]) -> (Result<(), FenceError>, usize) {
        let (now, sent) = (Cell::new(Instant::from_micros(0)), Cell::new(0));
        let outcome = in_time(
            || now.get(),
            |at| {
                assert_eq!(at, now.get(), "every sending has a time of its own");
                now.set(now.get() + Duration::from_millis(spans[sent.get()]));
                sent.set(sent.get() + 1);
                Ok(())
            },
        );
        (outcome, sent.get())
    }

    #[test]
    fn a_renewal_that_took_too_long_is_sent_again_with_what_is_left() {
        assert!(matches!(sendings(&[5]), (Ok(()), 1)));
        assert!(matches!(sendings(&[6, 5000, 1]), (Ok(()), 3)));
        let (outcome, sent) = sendings(&[6, 6, 7]);
        assert!(matches!(outcome, Err(FenceError::Late { took }) if took.as_millis() == 7));
        assert_eq!(sent, 3);
    }

    #[test]
    fn generations_skip_zero() {
        assert_eq!(next(7), 8);
        assert_eq!(next(u32::MAX), 1);
    }
}
