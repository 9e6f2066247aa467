//! What the neighbours of one interface believe about addresses: telling them (gratuitous ARP, unsolicited
//! neighbour advertisements), asking them (probes), and hearing what they claim.
//!
//! The schedule is the caller's: each call here is one round. When the link goes down, calls fail and the
//! sockets stay; they work again when it returns. A deleted interface takes them along.

use super::watch_descriptor;
use arc_swap::ArcSwap;
use haclusterd_proto::MacAddr;
use haclusterd_proto::arp::{self, Operation};
use haclusterd_proto::ethernet::BadFrame;
use haclusterd_proto::ndp::{self, Kind as NdpKind};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
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

/// Called by a reader task for every claim on a watched address: it must not block.
pub type Claims = Arc<dyn Fn(Claim) + Send + Sync>;

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
        claims: Claims,
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
        for (tap, look) in [(&neighbor.arp, arp_claim as Look), (&neighbor.ndp, ndp_claim as Look)] {
            let reader = Reader {
                ifindex,
                mac,
                tap: tap.clone(),
                look,
                watched: neighbor.watched.clone(),
                malformed: neighbor.malformed.clone(),
                claims: claims.clone(),
            };
            neighbor.readers.spawn(reader.run());
        }
        Ok(neighbor)
    }

    /// From now on, claims on these are reported, and on no others.
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

    /// Asks `peer` in the name of `vip`. A peer that answers has learnt where `vip` is; watch its address to hear
    /// the answer.
    pub fn announce_to(&self, vip: Ipv4Addr, peer: Ipv4Addr) -> Result<(), NeighborError> {
        self.send(&self.arp, &arp::Repr::request(self.mac, vip, peer).emit())
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

type Look = fn(&[u8]) -> Result<(IpAddr, MacAddr, ClaimKind), BadFrame>;

struct Reader {
    ifindex: u32,
    mac: MacAddr,
    tap: Arc<AsyncFd<Socket>>,
    look: Look,
    watched: Arc<ArcSwap<BTreeSet<IpAddr>>>,
    malformed: Arc<AtomicU64>,
    claims: Claims,
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
        let Ok((addr, mac, kind)) = (self.look)(frame) else {
            self.malformed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if mac != self.mac && self.watched.load().contains(&addr) {
            (self.claims)(Claim { addr, mac, ifindex: self.ifindex, kind });
        }
    }
}

fn arp_claim(frame: &[u8]) -> Result<(IpAddr, MacAddr, ClaimKind), BadFrame> {
    let packet = arp::Packet::check(frame)?;
    let (sender, target) = (packet.sender(), packet.target());
    let (addr, kind) = match packet.operation() {
        _ if sender.is_unspecified() => (target, ClaimKind::Probe),
        Operation::Reply if sender != target => (sender, ClaimKind::Answer),
        _ => (sender, ClaimKind::Announcement),
    };
    Ok((addr.into(), packet.sender_mac(), kind))
}

fn ndp_claim(frame: &[u8]) -> Result<(IpAddr, MacAddr, ClaimKind), BadFrame> {
    let packet = ndp::Packet::check(frame)?;
    let from = packet.ethernet().from;
    let (addr, mac, kind) = match packet.kind() {
        NdpKind::Advertisement if packet.solicited() => {
            (packet.target(), packet.target_mac(), ClaimKind::Answer)
        }
        NdpKind::Advertisement => (packet.target(), packet.target_mac(), ClaimKind::Announcement),
        NdpKind::Solicitation if packet.from().is_unspecified() => (packet.target(), from, ClaimKind::Probe),
        NdpKind::Solicitation => (packet.from(), from, ClaimKind::Announcement),
    };
    Ok((addr.into(), mac, kind))
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
