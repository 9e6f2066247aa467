//! A packet socket of a whole network namespace: what arrives at which interface, stamped by the kernel.
//!
//! The kernel's stamp tells when a frame left its host, whenever we are woken to read it: two hosts that answer one
//! after the other are never taken for two at a time because this machine is busy.

use super::question::Condition;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant, SystemTime};

/// Longest frame that is looked at.
const MAX_FRAME: usize = 64;
/// Some ten seconds of frames, for a machine that stands still.
const ROOM: usize = 16 << 20;
/// How long a look at the two clocks may take to tell how far they are apart.
const AT_ONCE: Duration = Duration::from_micros(20);

pub struct Frame {
    /// When it arrived.
    pub at: Instant,
    pub ifindex: u32,
    pub bytes: Vec<u8>,
}

pub struct Tap {
    socket: Socket,
    /// The same moment by both clocks.
    moment: (SystemTime, Instant),
}

impl Tap {
    /// Hears the frames that come in and meet all conditions of one of the kinds.
    pub fn open(kinds: &[Vec<Condition>]) -> Tap {
        // Protocol 0 hears nothing until the filter is there.
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).unwrap();
        socket.attach_filter(&filter(kinds)).unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, ROOM).unwrap();
        // A bridge's port hands its frames to those who listen to all protocols, and to nobody else.
        socket.bind(&address(0, libc::ETH_P_ALL as u16)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let tap = Tap { socket, moment: (SystemTime::now(), Instant::now()) };
        // The first question for a stamp makes the kernel take them.
        let _ = tap.stamp();
        tap
    }

    /// `None`: nothing for 50 ms.
    #[allow(unsafe_code)]
    pub fn read(&mut self) -> Option<Frame> {
        let mut buffer = [MaybeUninit::uninit(); MAX_FRAME];
        let (length, from) = self.socket.recv_from(&mut buffer).ok()?;
        let at = self.stamp();
        self.compare_clocks();
        // SAFETY: a packet socket's sender is a sockaddr_ll, and the kernel has initialised the bytes that it counted.
        let (ifindex, bytes) = unsafe {
            let from = from.as_ptr().cast::<libc::sockaddr_ll>().read();
            (from.sll_ifindex, buffer[..length].iter().map(|byte| byte.assume_init()).collect())
        };
        Some(Frame { at: self.instant(at), ifindex: ifindex.unsigned_abs(), bytes })
    }

    /// How many frames the kernel had no room for.
    #[allow(unsafe_code)]
    pub fn lost(&self) -> u32 {
        let mut statistics = [0_u32; 2];
        let mut length = size_of_val(&statistics) as libc::socklen_t;
        let (level, name) = (libc::SOL_PACKET, libc::PACKET_STATISTICS);
        // SAFETY: the kernel writes at most `length` bytes to the place that it is given.
        let done = unsafe {
            let place = statistics.as_mut_ptr().cast();
            libc::getsockopt(self.socket.as_raw_fd(), level, name, place, &mut length)
        };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        statistics[1]
    }

    /// The last frame's. By the wall clock, which is the only one that the kernel stamps with.
    #[allow(unsafe_code)]
    fn stamp(&self) -> SystemTime {
        const SIOCGSTAMPNS: libc::Ioctl = 0x8907;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the kernel writes one timespec to the place that it is given.
        let done = unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCGSTAMPNS, &mut time) };
        if done != 0 {
            return SystemTime::now();
        }
        SystemTime::UNIX_EPOCH + Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
    }

    fn compare_clocks(&mut self) {
        let before = Instant::now();
        let wall = SystemTime::now();
        if before.elapsed() < AT_ONCE {
            self.moment = (wall, before);
        }
    }

    fn instant(&self, at: SystemTime) -> Instant {
        let (wall, instant) = self.moment;
        match at.duration_since(wall) {
            Ok(later) => instant + later,
            Err(earlier) => instant - earlier.duration(),
        }
    }
}

fn filter(kinds: &[Vec<Condition>]) -> Vec<SockFilter> {
    let instruction = |code: u32, (yes, no), operand| SockFilter::new(code as u16, yes, no, operand);
    let load = |size, at| instruction(libc::BPF_LD | libc::BPF_ABS | size, (0, 0), at);
    let equal = |value, jumps| instruction(libc::BPF_JMP | libc::BPF_JEQ, jumps, value);
    let take = |length| instruction(libc::BPF_RET, (0, 0), length);
    let direction = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
    let mut program =
        vec![load(libc::BPF_B, direction), equal(libc::PACKET_OUTGOING.into(), (0, 1)), take(0)];
    for kind in kinds {
        // Past the conditions that are left, and past the taking.
        let ends = (0..kind.len()).map(|done| 2 * (kind.len() - done - 1) as u8 + 1);
        for ((size, at, value), end) in kind.iter().zip(ends) {
            let size = [libc::BPF_B, libc::BPF_H, libc::BPF_W][size.ilog2() as usize];
            program.extend([load(size, *at), equal(*value, (0, end))]);
        }
        program.push(take(MAX_FRAME as u32));
    }
    program.push(take(0));
    program
}

/// A socket that sends frames out of the interface.
pub fn sender(ifindex: u32) -> Socket {
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).unwrap();
    socket.bind(&address(ifindex, 0)).unwrap();
    socket
}

/// Interface 0 is all of them, and protocol 0 none.
#[allow(unsafe_code)]
fn address(ifindex: u32, ethertype: u16) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is one of the platform's socket addresses, it fits into the zeroed storage, and the
    // length handed on is its own.
    unsafe {
        let address: &mut libc::sockaddr_ll = storage.view_as();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ethertype.to_be();
        address.sll_ifindex = i32::try_from(ifindex).unwrap();
        SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as u32)
    }
}
