//! The small types that every floor shares. A unit lives in a type, never in a bare integer.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;
use std::str::FromStr;

/// Who a node is: the first 128 bits of the SHA-256 of its certificate's public key (SPKI, DER).
/// It outlives certificates and restarts, because the key does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub [u8; 16]);

/// Which cluster: the first 128 bits of the SHA-256 of the first CA's public key (SPKI, DER).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

/// One run of the daemon: 128 random bits drawn at process start.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u128);

/// Counts the owners of a VIP: each new owner's term is greater than all before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Term(pub u64);

/// One address, as the lease messages name it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AddrId(pub u64);

/// One VIP: a set of addresses that always moves together. The same set has the same id on every node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VipId(pub u64);

/// 1..=254 as in RFC 9568; 255 is the VRRP address owner and 0 means "I am leaving", both for VRRP only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Priority(pub u8);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MacAddr(pub [u8; 6]);

/// A member votes and may own addresses; a witness only votes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Member,
    Witness,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}")]
pub struct BadUnit {
    pub what: &'static str,
    pub text: String,
}

impl Priority {
    pub const DEFAULT: Priority = Priority(100);
}

impl MacAddr {
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);
    pub const ZERO: MacAddr = MacAddr([0; 6]);
}

impl Term {
    /// Nobody changes owners so often; what claims more is a lie.
    pub const MAX: Term = Term(1 << 48);

    #[must_use]
    pub fn next(self) -> Term {
        Term(self.0 + 1).min(Term::MAX)
    }
}

impl AddrId {
    #[must_use]
    pub fn of(address: IpAddr) -> AddrId {
        let mut hash = siphasher::sip::SipHasher13::new();
        match address {
            IpAddr::V4(v4) => hash.write(&v4.octets()),
            IpAddr::V6(v6) => hash.write(&v6.octets()),
        }
        // Two addresses that met here would only refuse each other, never both be owned.
        AddrId(hash.finish())
    }
}

impl VipId {
    /// The order in which the configuration lists the addresses does not matter.
    #[must_use]
    pub fn of(addresses: &[IpAddr]) -> VipId {
        let mut sorted = addresses.to_vec();
        sorted.sort_unstable();
        let mut hash = siphasher::sip::SipHasher13::new();
        for address in sorted {
            match address {
                IpAddr::V4(v4) => hash.write(&v4.octets()),
                IpAddr::V6(v6) => hash.write(&v6.octets()),
            }
        }
        VipId(hash.finish())
    }
}

impl Role {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Witness => "witness",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Role, BadUnit> {
        match text {
            "member" => Ok(Role::Member),
            "witness" => Ok(Role::Witness),
            _ => Err(BadUnit { what: "a role (member or witness)", text: text.into() }),
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Display for VipId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

macro_rules! hex_id {
    ($type:ident, $what:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl FromStr for $type {
            type Err = BadUnit;

            fn from_str(text: &str) -> Result<Self, BadUnit> {
                let bad = || BadUnit { what: $what, text: text.into() };
                let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| bad())?;
                bytes.try_into().map($type).map_err(|_| bad())
            }
        }
    };
}
hex_id!(NodeId, "a node id (32 hexadecimal digits)");
hex_id!(ClusterId, "a cluster id (32 hexadecimal digits)");

impl NodeId {
    /// Enough to tell nodes apart in a log line.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().chars().take(8).collect()
    }
}

macro_rules! debug_as_display {
    ($($type:ident),*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self)
            }
        }
    )*};
}
debug_as_display!(NodeId, ClusterId, Incarnation, Term, VipId, Priority, MacAddr);

impl fmt::Debug for AddrId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AddrId({:016x})", self.0)
    }
}

/// A node name is one DNS label in lower case, because it stands in the certificate as one.
pub fn check_name(name: &str) -> Result<(), BadUnit> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let ok = (1..=63).contains(&name.len())
        && name.chars().all(legal)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if ok {
        return Ok(());
    }
    Err(BadUnit { what: "a node name (1 to 63 of a-z, 0-9 and -, not first or last -)", text: name.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = NodeId([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("abc".parse::<NodeId>().is_err());
        assert!("zz".repeat(16).parse::<NodeId>().is_err());
    }

    #[test]
    fn a_vip_is_its_set_of_addresses() {
        let a: IpAddr = "10.0.0.1".parse().unwrap();
        let b: IpAddr = "fd00::1".parse().unwrap();
        assert_eq!(VipId::of(&[a, b]), VipId::of(&[b, a]));
        assert_ne!(VipId::of(&[a]), VipId::of(&[a, b]));
        assert_ne!(AddrId::of(a), AddrId::of(b));
    }

    #[test]
    fn names_are_dns_labels() {
        for good in ["lb1", "a", "edge-7"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "LB1", "a.b", "é", &"x".repeat(64)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
