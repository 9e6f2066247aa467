//! VRRP's raw sockets (RFC 9568, and the authentication header of RFC 2338): the bytes of its messages, in and out.
//! What they mean, and whether they are right, is another's business.
//!
//! A socket belongs to an interface as the kernel numbers it, so it outlives a new name, and a link that goes down and
//! comes back (IPv6 up to a second after it, when the kernel has looked at the carrier). A deleted interface takes its
//! sockets along: a listener stays silent, a sender fails, and both are to be opened anew.

mod packet;

pub use packet::ip_header;

use super::{netlink, watch_descriptor};
use bytes::Bytes;
use haclusterd_proto::vrrp::ah::AH;
use haclusterd_proto::vrrp::{HOP_LIMIT as HOPS, PROTOCOL as VRRP};
use nix::libc::in6_pktinfo;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn6, sendmsg, setsockopt, sockopt};
use rustix::io::Errno;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinSet;

pub use haclusterd_proto::vrrp::{GROUP_V4, GROUP_V6};

/// Internetwork control, as routers mark what keeps them going.
const CLASS: u8 = 0xc0;

/// Some hundred messages. What comes faster than it is read is dropped, and counted.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// A read that fails is tried again after this.
const PAUSE: Duration = Duration::from_millis(100);

/// What a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wire {
    V4,
    /// VRRP behind an authentication header, which is part of the message here.
    V4Ah,
    V6,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    Multicast,
    Unicast(IpAddr),
}

impl To {
    /// Where a packet from that address goes.
    #[must_use]
    pub fn address(self, source: IpAddr) -> IpAddr {
        match (self, source) {
            (To::Unicast(address), _) => address,
            (To::Multicast, IpAddr::V4(_)) => GROUP_V4.into(),
            (To::Multicast, IpAddr::V6(_)) => GROUP_V6.into(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub ifindex: u32,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Time to live, or hop limit, as it arrived.
    pub hops: u8,
    pub ah: bool,
    /// IPv4 only, as it arrived: an authentication header covers it too.
    pub ip_header: Vec<u8>,
    pub message: Bytes,
}

/// Called by a reader task for every message: it must not block.
pub type Hears = Arc<dyn Fn(Heard) + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum VrrpError {
    #[error(
        "no raw socket: this process lacks CAP_NET_RAW; run it as root, or with AmbientCapabilities=CAP_NET_ADMIN \
         CAP_NET_RAW in its unit"
    )]
    Capability,
    #[error("{interface} is down or gone, or no route leads from it to {to}: nothing was sent")]
    Unreachable { interface: Interface, to: IpAddr },
    #[error("{interface} is gone")]
    Gone { interface: Interface },
    #[error("{address} does not belong to the {wire:?} socket of {interface}")]
    Family { interface: Interface, wire: Wire, address: IpAddr },
    #[error("cannot {verb} on {interface}: {source}")]
    Kernel { verb: &'static str, interface: Interface, source: io::Error },
}

/// Shown by the name that it has when it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface(pub u32);

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match netlink::name_of(self.0) {
            Some(name) => write!(f, "interface {name}"),
            None => write!(f, "the interface with index {}", self.0),
        }
    }
}

impl Wire {
    fn socket(self) -> io::Result<Socket> {
        let (domain, protocol) = match self {
            Wire::V4 => (Domain::IPV4, VRRP),
            Wire::V4Ah => (Domain::IPV4, AH),
            Wire::V6 => (Domain::IPV6, VRRP),
        };
        let protocol = Protocol::from(i32::from(protocol));
        Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))
    }
}

/// Hears what comes in on one interface, to VRRP's group or to the interface's own addresses, as long as it lives.
#[derive(Debug)]
pub struct Listener {
    counts: Arc<Counts>,
    _reader: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Counts {
    malformed: AtomicU64,
    dropped: AtomicU64,
}

impl Listener {
    pub fn open(ifindex: u32, wire: Wire, heard: Hears) -> Result<Listener, VrrpError> {
        let socket = listen(ifindex, wire).map_err(|source| VrrpError::of("listen", ifindex, source))?;
        let counts = Arc::new(Counts::default());
        let mut reader = JoinSet::new();
        reader.spawn(Reader { ifindex, wire, socket, counts: counts.clone(), heard }.run());
        Ok(Listener { counts, _reader: reader })
    }

    /// How many packets were no packets of the protocol.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.counts.malformed.load(Ordering::Relaxed)
    }

    /// How many packets the kernel threw away because they came faster than they were read.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }
}

fn listen(ifindex: u32, wire: Wire) -> io::Result<AsyncFd<Socket>> {
    let socket = wire.socket()?;
    bind(&socket, ifindex)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    setsockopt(&socket, sockopt::RxqOvfl, &1)?;
    match wire {
        Wire::V4 | Wire::V4Ah => {
            socket.set_multicast_all_v4(false)?;
            socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(ifindex))?;
        }
        Wire::V6 => {
            socket.set_multicast_all_v6(false)?;
            socket.join_multicast_v6(&GROUP_V6, ifindex)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        }
    }
    watch_descriptor(socket)
}

fn bind(socket: &Socket, ifindex: u32) -> io::Result<()> {
    let name = netlink::name_of(ifindex).ok_or(Errno::NODEV)?;
    socket.bind_device(Some(name.as_bytes()))
}

struct Reader {
    ifindex: u32,
    wire: Wire,
    socket: AsyncFd<Socket>,
    counts: Arc<Counts>,
    heard: Hears,
}

impl Reader {
    async fn run(self) {
        let mut buffer = vec![0; packet::LONGEST];
        loop {
            let read = |socket: &Socket| packet::receive(socket, self.wire, &mut buffer);
            match self.socket.async_io(Interest::READABLE, read).await {
                Ok(received) => self.report(received),
                Err(error) => {
                    tracing::debug!(interface = %Interface(self.ifindex), %error, "cannot read a VRRP packet");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn report(&self, received: packet::Received) {
        if let Some(dropped) = received.dropped {
            self.counts.dropped.store(dropped.into(), Ordering::Relaxed);
        }
        match received.heard {
            Some(heard) => (self.heard)(Heard { ifindex: self.ifindex, ..heard }),
            None => {
                self.counts.malformed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Speaks on one interface, which may be another than the one that is listened on (a virtual MAC's), and from any
/// address, also one that the interface does not have.
#[derive(Debug)]
pub struct Sender {
    ifindex: u32,
    wire: Wire,
    socket: Socket,
}

impl Sender {
    pub fn open(ifindex: u32, wire: Wire) -> Result<Sender, VrrpError> {
        let socket = speak(ifindex, wire).map_err(|source| VrrpError::of("speak", ifindex, source))?;
        Ok(Sender { ifindex, wire, socket })
    }

    /// The message goes out as it is: its checksum, and for [`Wire::V4Ah`] the authentication header before it, are the
    /// caller's; [`ip_header`] shows what that one must cover. RFC 9568 wants a link-local source for IPv6 multicast.
    pub fn send(&self, source: IpAddr, to: To, message: &[u8]) -> Result<(), VrrpError> {
        let interface = Interface(self.ifindex);
        let foreign = |address| VrrpError::Family { interface, wire: self.wire, address };
        let destination = to.address(source);
        let sent = match (self.wire, source, destination) {
            (Wire::V4 | Wire::V4Ah, IpAddr::V4(source), IpAddr::V4(to)) => self.send_v4(source, to, message),
            (Wire::V6, IpAddr::V6(source), IpAddr::V6(to)) => self.send_v6(source, to, message),
            (Wire::V4 | Wire::V4Ah, IpAddr::V4(_), other) | (Wire::V6, IpAddr::V6(_), other) => {
                return Err(foreign(other));
            }
            (_, other, _) => return Err(foreign(other)),
        };
        sent.map_err(|error| VrrpError::of_send(self.ifindex, destination, error))
    }

    fn send_v4(&self, source: Ipv4Addr, to: Ipv4Addr, message: &[u8]) -> io::Result<()> {
        let mut packet = ip_header(self.wire, source, to, message.len()).to_vec();
        packet.extend(message);
        self.socket.send_to(&packet, &SocketAddrV4::new(to, 0).into()).map(drop)
    }

    fn send_v6(&self, source: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        let source = libc::in6_addr { s6_addr: source.octets() };
        let from = in6_pktinfo { ipi6_addr: source, ipi6_ifindex: self.ifindex };
        let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, self.ifindex));
        let control = [ControlMessage::Ipv6PacketInfo(&from)];
        let bytes = [IoSlice::new(message)];
        sendmsg(self.socket.as_raw_fd(), &bytes, &control, MsgFlags::empty(), Some(&to))?;
        Ok(())
    }
}

fn speak(ifindex: u32, wire: Wire) -> io::Result<Socket> {
    let socket = wire.socket()?;
    // What comes in is not for this socket, and would fill its buffer.
    socket.attach_filter(&[socket2::SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0)])?;
    bind(&socket, ifindex)?;
    match wire {
        Wire::V4 | Wire::V4Ah => {
            socket.set_header_included_v4(true)?;
            socket.set_multicast_loop_v4(false)?;
        }
        Wire::V6 => {
            socket.set_multicast_if_v6(ifindex)?;
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_hops_v6(HOPS.into())?;
            socket.set_unicast_hops_v6(HOPS.into())?;
            socket.set_tclass_v6(CLASS.into())?;
            // The source is often an address of the parent interface.
            socket.set_freebind_v6(true)?;
        }
    }
    Ok(socket)
}

impl VrrpError {
    fn of(verb: &'static str, ifindex: u32, source: io::Error) -> VrrpError {
        let interface = Interface(ifindex);
        match Errno::from_io_error(&source) {
            Some(Errno::PERM) => VrrpError::Capability,
            Some(Errno::NXIO | Errno::NODEV) => VrrpError::Gone { interface },
            _ => VrrpError::Kernel { verb, interface, source },
        }
    }

    fn of_send(ifindex: u32, to: IpAddr, source: io::Error) -> VrrpError {
        let interface = Interface(ifindex);
        match Errno::from_io_error(&source) {
            Some(Errno::NETDOWN | Errno::NETUNREACH | Errno::HOSTUNREACH) => {
                VrrpError::Unreachable { interface, to }
            }
            _ => VrrpError::of("send", ifindex, source),
        }
    }
}
