//! Advertisements of VRRP, version 2 (RFC 3768, with the authentication of RFC 2338) and 3 (RFC 9568), as the
//! payload of an IP packet.
//!
//! ```text
//!  0         1      2          3       4            5           6          8           16+4n
//! +----+----+------+----------+-------+------------+-----------+----------+-----------+----------+
//! |  2 |  1 | VRID | priority | count | auth type  |  seconds  | checksum | addresses | password |
//! +----+----+------+----------+-------+------------+-----------+----------+-----------+----------+
//! |  3 |  1 | VRID | priority | count | 0 | centiseconds       | checksum | addresses |
//! +----+----+------+----------+-------+------------+-----------+----------+-----------+
//! ```
//! [`Packet`] shows a message, [`Repr`] means one. What parses, emits the bytes back, less what receivers ignore:
//! the four reserved bits of version 3, authentication data without a password, and bytes behind the message.

pub mod ah;
mod auth;
mod flaw;
#[cfg(test)]
mod tests;
mod units;

pub use auth::{Auth, Password};
pub use flaw::Flaw;
pub use units::{Centis, Seconds, Vrid, VrrpPriority};

use crate::checksum::Sum;
use crate::ethernet::octets;
use flaw::require;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Of an IPv4 packet, and next header of an IPv6 one.
pub const PROTOCOL: u8 = 112;
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// No router lowers it, so it proves that a packet comes from this link.
pub const HOP_LIMIT: u8 = 255;
/// The count of addresses is one byte.
pub const MAX_ADDRESSES: usize = 255;

const HEADER: usize = 8;
const ADVERTISEMENT: u8 = 1;

/// A message that no clause has its receiver discard.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    version: Version,
    vrid: Vrid,
    priority: VrrpPriority,
    addresses: &'a [u8],
    ipv4: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repr {
    pub version: Version,
    pub vrid: Vrid,
    pub priority: VrrpPriority,
    /// All of the family that carries the message.
    pub addresses: Vec<IpAddr>,
}

/// With what only this version has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V2 { interval: Seconds, auth: Auth },
    V3 { interval: Centis, coverage: Coverage },
}

/// What the checksum of version 3 is over. For IPv4 the texts can be read in both ways, so both are in use; for
/// IPv6 the pseudo-header belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// RFC 5798, 5.2.8, for both families; keepalived and FRR.
    PseudoHeader,
    /// As in version 2; keepalived's `v3_checksum_as_v2`.
    Message,
}

impl<'a> Packet<'a> {
    /// `payload` is what the IP packet carries, which may be more than the message; both addresses are of one
    /// family.
    pub fn check(payload: &'a [u8], source: IpAddr, destination: IpAddr) -> Result<Packet<'a>, Flaw> {
        require(payload.len() >= HEADER, Flaw::Short)?;
        let ipv4 = source.is_ipv4();
        let v2 = payload[0] >> 4 == 2 && ipv4;
        require(v2 || payload[0] >> 4 == 3, Flaw::Version)?;
        require(payload[0] & 0xf == ADVERTISEMENT, Flaw::Type)?;
        let end = HEADER + usize::from(payload[3]) * if ipv4 { 4 } else { 16 };
        let len = if v2 { end + Password::LEN } else { end };
        let message = payload.get(..len).ok_or(Flaw::Length)?;

        let coverage = Coverage::of(message, v2, source, destination).ok_or(Flaw::Checksum)?;
        let vrid = Vrid::new(message[1]).ok_or(Flaw::Vrid)?;
        let version = if v2 { Version::v2(message)? } else { Version::v3(message, coverage)? };
        Ok(Packet {
            version,
            vrid,
            priority: VrrpPriority(message[2]),
            addresses: &message[HEADER..end],
            ipv4,
        })
    }

    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    #[must_use]
    pub fn vrid(&self) -> Vrid {
        self.vrid
    }

    #[must_use]
    pub fn priority(&self) -> VrrpPriority {
        self.priority
    }

    /// In the order of the message.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<'a> {
        let ipv4 = self.ipv4;
        let each = self.addresses.chunks_exact(if ipv4 { 4 } else { 16 });
        each.map(move |bytes| if ipv4 { octets::<4>(bytes, 0).into() } else { octets::<16>(bytes, 0).into() })
    }
}

impl Repr {
    pub fn parse(payload: &[u8], source: IpAddr, destination: IpAddr) -> Result<Repr, Flaw> {
        let packet = Packet::check(payload, source, destination)?;
        Ok(Repr {
            version: packet.version(),
            vrid: packet.vrid(),
            priority: packet.priority(),
            addresses: packet.addresses().collect(),
        })
    }

    /// Only addresses of the source's family are sent, and no more than can be counted.
    #[must_use]
    pub fn emit(&self, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        let sent = self.addresses.iter().filter(|address| address.is_ipv4() == source.is_ipv4());
        let sent: Vec<&IpAddr> = sent.take(MAX_ADDRESSES).collect();
        let [first, high, low] = self.version.emit();
        let mut message = vec![first, self.vrid.get(), self.priority.0, sent.len() as u8, high, low, 0, 0];
        for address in sent {
            match address {
                IpAddr::V4(v4) => message.extend(v4.octets()),
                IpAddr::V6(v6) => message.extend(v6.octets()),
            }
        }
        if let Version::V2 { auth, .. } = self.version {
            message.extend(auth.data());
        }
        let coverage = if source.is_ipv6() { Coverage::PseudoHeader } else { self.version.coverage() };
        let checksum = coverage.checksum(&message, source, destination);
        message[6..8].copy_from_slice(&checksum.to_be_bytes());
        message
    }
}

impl Version {
    fn v2(message: &[u8]) -> Result<Version, Flaw> {
        let interval = Seconds::new(message[5]).ok_or(Flaw::Interval)?;
        let auth = match message[4] {
            0 => Auth::None,
            1 => Auth::Pass(Password::new(&message[message.len() - Password::LEN..])),
            2 => Auth::Ah,
            _ => return Err(Flaw::AuthType),
        };
        Ok(Version::V2 { interval, auth })
    }

    fn v3(message: &[u8], coverage: Coverage) -> Result<Version, Flaw> {
        let interval = u16::from_be_bytes(octets(message, 4)) & Centis::MAX.get();
        let interval = Centis::new(interval).ok_or(Flaw::Interval)?;
        Ok(Version::V3 { interval, coverage })
    }

    /// How long until the next advertisement.
    #[must_use]
    pub fn interval(&self) -> Duration {
        match *self {
            Version::V2 { interval, .. } => interval.into(),
            Version::V3 { interval, .. } => interval.into(),
        }
    }

    fn coverage(&self) -> Coverage {
        match *self {
            Version::V2 { .. } => Coverage::Message,
            Version::V3 { coverage, .. } => coverage,
        }
    }

    /// Byte 0, and bytes 4 and 5.
    fn emit(&self) -> [u8; 3] {
        match *self {
            Version::V2 { interval, auth } => [2 << 4 | ADVERTISEMENT, auth.code(), interval.get()],
            Version::V3 { interval, .. } => {
                let [high, low] = interval.get().to_be_bytes();
                [3 << 4 | ADVERTISEMENT, high, low]
            }
        }
    }
}

impl Coverage {
    /// The first that makes the message's checksum right.
    fn of(message: &[u8], v2: bool, source: IpAddr, destination: IpAddr) -> Option<Coverage> {
        let allowed: &[Coverage] = match (v2, source) {
            (true, _) => &[Coverage::Message],
            (false, IpAddr::V4(_)) => &[Coverage::PseudoHeader, Coverage::Message],
            (false, IpAddr::V6(_)) => &[Coverage::PseudoHeader],
        };
        let found = u16::from_be_bytes(octets(message, 6));
        allowed.iter().copied().find(|coverage| coverage.checksum(message, source, destination) == found)
    }

    /// As if the checksum field were zero.
    fn checksum(self, message: &[u8], source: IpAddr, destination: IpAddr) -> u16 {
        let sum = match self {
            Coverage::PseudoHeader => {
                Sum::default().pseudo_header(source, destination, PROTOCOL, message.len())
            }
            Coverage::Message => Sum::default(),
        };
        sum.bytes(&message[..6]).bytes(&message[HEADER..]).checksum()
    }
}
