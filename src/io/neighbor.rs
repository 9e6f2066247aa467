//! What the neighbours of one interface believe about addresses: telling them (gratuitous ARP, unsolicited
//! neighbour advertisements), asking them (probes), and hearing what they claim.
//!
//! The schedule is the caller's: each call here is one round. When the link goes down, calls fail and the
//! sockets stay; they work again when it returns. A deleted interface takes them along.

use super::watch_descriptor;
use crate::engine::acks::Question;
use arc_swap::ArcSwap;
use haclusterd_proto::MacAddr;
use haclusterd_proto::arp::{self, Operation};
use haclusterd_proto::ethernet::BadFrame;
use haclusterd_proto::ndp::{self, Kind as NdpKind};
use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use std::collections::BTreeSet;
use std::io::{self, IoSlice, Read};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinSet;

/// Longest frame that is looked at: NDP with options enough. The rest of a longer one is cut off by the kernel,
/// which makes it a bad frame.
const MAX_FRAME: usize = 512;

/// Somebody else says that `addr` is at `mac`, or, with a probe, asks whether it is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub addr: IpAddr,
    pub mac: MacAddr,
    pub ifindex: u32,
    pub kind: ClaimKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimKind {
    /// An ARP reply to a question. What answers a probe of IPv6 goes to everybody and is an `Announcement`.
    Answer,
    /// Unasked, or in passing: the sender of an ARP request has the address that it asks from.
    Announcement,
    /// The asker does not have the address, and may be about to take it.
    Probe,
}

/// Called by a reader task for what is heard of watched addresses: none may block.
pub trait Ears: Send + Sync {
    fn claim(&self, claim: Claim);

    /// `peer` answers this interface's question, which was asked by a watched address.
    fn answer(&self, _asker: IpAddr, _peer: IpAddr) {}

    /// `peer`, which is at `mac`, wants to know where a watched address is.
    fn question(&self, _wanted: IpAddr, _peer: IpAddr, _mac: MacAddr) {}
}

/// Who is interested in nothing else.
impl<F: Fn(Claim) + Send + Sync> Ears for F {
    fn claim(&self, claim: Claim) {
        self(claim);
    }
}

#[derive(Debug, thiserror::Error)]
pub enum NeighborError {
    #[error("no packet socket: this process lacks CAP_NET_RAW")]
    Capability,
    #[error("interface {ifindex} is down or gone: nothing was sent")]
    Down { ifindex: u32 },
    #[error("cannot {verb} on interface {ifindex}: {source}")]
    Kernel { verb: &'static str, ifindex: u32, source: io::Error },
}

#[derive(Debug)]
pub struct Neighbor {
    ifindex: u32,
    mac: MacAddr,
    arp: Arc<AsyncFd<Socket>>,
    ndp: Arc<AsyncFd<Socket>>,
    watched: Arc<ArcSwap<BTreeSet<IpAddr>>>,
    malformed: Arc<AtomicU64>,
    readers: JoinSet<()>,
}

impl Neighbor {
    /// `mac` is the interface's own: what it claims is not reported.
    pub fn open(
        ifindex: u32,
        mac: MacAddr,
        watch: BTreeSet<IpAddr>,
        ears: Arc<dyn Ears>,
    ) -> Result<Neighbor, NeighborError> {
        let failed = |verb| move |source| NeighborError::of(verb, ifindex, source);
        let arp = tap(ifindex, arp::ETHERTYPE).map_err(failed("open ARP"))?;
        let ndp = tap(ifindex, ndp::ETHERTYPE).map_err(failed("open NDP"))?;
        let mut neighbor = Neighbor {
            ifindex,
            mac,
            arp: Arc::new(arp),
            ndp: Arc::new(ndp),
            watched: Arc::new(ArcSwap::from_pointee(watch)),
            malformed: Arc::default(),
            readers: JoinSet::new(),
        };
        for (tap, look) in [(&neighbor.arp, look_at_arp as Look), (&neighbor.ndp, look_at_ndp as Look)] {
            let reader = Reader {
                ifindex,
                mac,
                tap: tap.clone(),
                look,
                watched: neighbor.watched.clone(),
                malformed: neighbor.malformed.clone(),
                ears: ears.clone(),
            };
            neighbor.readers.spawn(reader.run());
        }
        Ok(neighbor)
    }

    /// From now on, what is heard of these is reported, and of no others.
    pub fn watch(&self, addresses: BTreeSet<IpAddr>) {
        self.watched.store(Arc::new(addresses));
    }

    /// How many frames were dropped because they were not what they seemed.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }

    /// Tells everybody that `addr` is here. For IPv4 as request and as reply: some hosts heed only one of them.
    pub fn announce(&self, addr: IpAddr) -> Result<(), NeighborError> {
        match addr {
            IpAddr::V4(addr) => {
                self.send(&self.arp, &arp::Repr::gratuitous_request(self.mac, addr).emit())?;
                self.send(&self.arp, &arp::Repr::gratuitous_reply(self.mac, addr).emit())
            }
            IpAddr::V6(addr) => self.send(&self.ndp, &ndp::Repr::unsolicited(self.mac, addr).emit()),
        }
    }

    /// Asks each; how many questions went out. Who is asked learns where the asker is, also inside the lock time, and its
    /// answer says so.
    #[must_use]
    pub fn ask(&self, questions: &[Question]) -> usize {
        let (mut arp, mut ndp) = (Vec::new(), Vec::new());
        for question in questions {
            match (question.from, question.to) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    let to_all = || arp::Repr::request(self.mac, from, to);
                    let to_one = |mac| arp::Repr::request_to(mac, self.mac, from, to);
                    arp.push(question.mac.map_or_else(to_all, to_one).emit().to_vec());
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    ndp.push(ndp::Repr::question(self.mac, from, to, question.mac).emit());
                }
                _ => {} // there is no such question
            }
        }
        send_all(&self.arp, &arp) + send_all(&self.ndp, &ndp)
    }

    /// Asks who has `addr`, without claiming it.
    pub fn probe(&self, addr: IpAddr) -> Result<(), NeighborError> {
        match addr {
            IpAddr::V4(addr) => self.send(&self.arp, &arp::Repr::probe(self.mac, addr).emit()),
            IpAddr::V6(addr) => self.send(&self.ndp, &ndp::Repr::probe(self.mac, addr).emit()),
        }
    }

    fn send(&self, tap: &AsyncFd<Socket>, frame: &[u8]) -> Result<(), NeighborError> {
        let sent = tap.get_ref().send(frame);
        sent.map(drop).map_err(|source| NeighborError::of("send", self.ifindex, source))
    }
}

impl NeighborError {
    fn of(verb: &'static str, ifindex: u32, source: io::Error) -> NeighborError {
        match Errno::from_io_error(&source) {
            Some(Errno::PERM) => NeighborError::Capability,
            Some(Errno::NETDOWN | Errno::NXIO | Errno::NODEV) => NeighborError::Down { ifindex },
            _ => NeighborError::Kernel { verb, ifindex, source },
        }
    }
}

type Look = fn(&[u8]) -> Result<Said, BadFrame>;

/// What a frame says: `addr` is at `mac`, and beside it something of another address.
struct Said {
    addr: IpAddr,
    mac: MacAddr,
    kind: ClaimKind,
    aside: Aside,
}

enum Aside {
    Nothing,
    /// It answers this address, which is at that hardware address.
    Answers(IpAddr, MacAddr),
    Asks(IpAddr),
}

struct Reader {
    ifindex: u32,
    mac: MacAddr,
    tap: Arc<AsyncFd<Socket>>,
    look: Look,
    watched: Arc<ArcSwap<BTreeSet<IpAddr>>>,
    malformed: Arc<AtomicU64>,
    ears: Arc<dyn Ears>,
}

impl Reader {
    async fn run(self) {
        let mut frame = [0; MAX_FRAME];
        // The news that the link went down is an error to be read; left unread, it would fail the first send after.
        let interest = Interest::READABLE | Interest::ERROR;
        loop {
            match self.tap.async_io(interest, |mut socket| socket.read(&mut frame)).await {
                Ok(len) => self.report(&frame[..len]),
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NETDOWN) => {}
                // The interface is gone for good; who follows links knows.
                Err(error) => return tracing::debug!(ifindex = self.ifindex, %error, "no longer listening"),
            }
        }
    }

    fn report(&self, frame: &[u8]) {
        let Ok(Said { addr, mac, kind, aside }) = (self.look)(frame) else {
            self.malformed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if mac == self.mac {
            return;
        }
        let watched = self.watched.load();
        if watched.contains(&addr) {
            self.ears.claim(Claim { addr, mac, ifindex: self.ifindex, kind });
        }
        match aside {
            Aside::Answers(asker, to) if to == self.mac && watched.contains(&asker) => {
                self.ears.answer(asker, addr);
            }
            Aside::Asks(wanted) if watched.contains(&wanted) => self.ears.question(wanted, addr, mac),
            _ => {}
        }
    }
}

fn look_at_arp(frame: &[u8]) -> Result<Said, BadFrame> {
    let packet = arp::Packet::check(frame)?;
    let (sender, target) = (packet.sender(), packet.target());
    let (addr, kind, aside) = match packet.operation() {
        _ if sender.is_unspecified() => (target, ClaimKind::Probe, Aside::Nothing),
        _ if sender == target => (sender, ClaimKind::Announcement, Aside::Nothing),
        Operation::Reply => (sender, ClaimKind::Answer, Aside::Answers(target.into(), packet.ethernet().to)),
        Operation::Request => (sender, ClaimKind::Announcement, Aside::Asks(target.into())),
    };
    Ok(Said { addr: addr.into(), mac: packet.sender_mac(), kind, aside })
}

fn look_at_ndp(frame: &[u8]) -> Result<Said, BadFrame> {
    let packet = ndp::Packet::check(frame)?;
    let (ethernet, target) = (packet.ethernet(), packet.target());
    let (addr, mac, kind, aside) = match packet.kind() {
        NdpKind::Advertisement if packet.solicited() => {
            let aside = Aside::Answers(packet.to().into(), ethernet.to);
            (target, packet.target_mac(), ClaimKind::Answer, aside)
        }
        NdpKind::Advertisement => (target, packet.target_mac(), ClaimKind::Announcement, Aside::Nothing),
        NdpKind::Solicitation if packet.from().is_unspecified() => {
            (target, ethernet.from, ClaimKind::Probe, Aside::Nothing)
        }
        NdpKind::Solicitation => {
            (packet.from(), ethernet.from, ClaimKind::Announcement, Aside::Asks(target.into()))
        }
    };
    Ok(Said { addr: addr.into(), mac, kind, aside })
}

/// In one call of the kernel. What it does not take is not tried again: how many went out.
fn send_all(tap: &AsyncFd<Socket>, frames: &[Vec<u8>]) -> usize {
    if frames.is_empty() {
        return 0;
    }
    let slices: Vec<[IoSlice<'_>; 1]> = frames.iter().map(|frame| [IoSlice::new(frame)]).collect();
    let mut controls: Vec<_> = frames.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let parts = slices.iter().zip(&mut controls);
    let mut messages: Vec<MMsgHdr<'_>> = parts.map(|(slice, control)| MMsgHdr::new(slice, control)).collect();
    sendmmsg(tap.get_ref(), &mut messages, SendFlags::empty()).unwrap_or(0)
}

/// A socket for the frames of one protocol that come in on one interface. It is bound to the protocol, so that
/// the kernel does not copy the traffic of nginx past it, and sees nothing that this host sends.
fn tap(ifindex: u32, ethertype: u16) -> io::Result<AsyncFd<Socket>> {
    // Protocol 0 hears nothing until the filter is there.
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), Some(Protocol::from(0)))?;
    socket.attach_filter(&filter(ifindex, ethertype))?;
    socket.bind(&link_address(ifindex, ethertype)?)?;
    watch_descriptor(socket)
}

/// Classic BPF: keeps this interface's own frames, not those of a VLAN on top of it, and of IPv6 only neighbour
/// solicitations and advertisements.
fn filter(ifindex: u32, ethertype: u16) -> Vec<SockFilter> {
    const META: u32 = libc::SKF_AD_OFF as u32;
    let mut program = require(libc::BPF_W, META + libc::SKF_AD_IFINDEX as u32, &[ifindex]);
    program.extend(require(libc::BPF_W, META + libc::SKF_AD_VLAN_TAG_PRESENT as u32, &[0]));
    if ethertype == ndp::ETHERTYPE {
        program.extend(require(libc::BPF_B, ndp::NEXT_HEADER_AT, &[ndp::ICMPV6.into()]));
        program.extend(require(
            libc::BPF_B,
            ndp::TYPE_AT,
            &[ndp::SOLICITATION.into(), ndp::ADVERTISEMENT.into()],
        ));
    }
    program.push(instruction(libc::BPF_RET, MAX_FRAME as u32, 0));
    program
}

/// Loads what is at `at`, and drops the frame unless it is one of `values`.
fn require(size: u32, at: u32, values: &[u32]) -> Vec<SockFilter> {
    let mut program = vec![instruction(libc::BPF_LD | libc::BPF_ABS | size, at, 0)];
    // A match jumps over the remaining values and the drop.
    let tests = values.iter().zip((1..=values.len() as u8).rev());
    program.extend(tests.map(|(value, jump)| instruction(libc::BPF_JMP | libc::BPF_JEQ, *value, jump)));
    program.push(instruction(libc::BPF_RET, 0, 0));
    program
}

fn instruction(code: u32, operand: u32, jump_if_true: u8) -> SockFilter {
    SockFilter::new(code as u16, jump_if_true, 0, operand)
}

#[allow(unsafe_code)]
fn link_address(ifindex: u32, ethertype: u16) -> io::Result<SockAddr> {
    let index = i32::try_from(ifindex).map_err(|_| io::Error::from(Errno::NODEV))?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is one of the platform's socket addresses, it fits into the zeroed storage, and the
    // length handed on is its own.
    unsafe {
        let address: &mut libc::sockaddr_ll = storage.view_as();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ethertype.to_be();
        address.sll_ifindex = index;
        Ok(SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as u32))
    }
}
