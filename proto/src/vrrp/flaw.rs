//! Why an advertisement is discarded, as far as its bytes tell.
//!
//! What needs more than the bytes is judged elsewhere: the hop limit of 255, whether the VRID is configured here,
//! whether the list of addresses, the interval and the password are ours.

/// Always the sender's fault. Each is a "MUST discard" or, where the clause says so, what makes one unavoidable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Flaw {
    /// RFC 9568, 7.1: the fixed fields are there. RFC 3768, 7.1: at least the length of the header.
    #[error("the message is shorter than its header")]
    Short,
    /// RFC 9568, 7.1: the version is 3; RFC 3768, 7.1: the version is 2, which IPv6 never had.
    #[error("the version is unknown")]
    Version,
    /// RFC 9568, 5.2.2 and 7.1; RFC 3768, 5.3.2: only type 1, ADVERTISEMENT, is defined.
    #[error("the type is unknown")]
    Type,
    /// RFC 9568, 7.1: complete with all the addresses that it counts. RFC 2338, 7.1: and the authentication data.
    #[error("the message ends before the addresses that it counts")]
    Length,
    /// RFC 9568, 7.1 and 5.2.8; RFC 3768, 7.1 and 5.3.8.
    #[error("the checksum is wrong")]
    Checksum,
    /// RFC 9568, 5.2.3; RFC 3768, 5.3.3: 1 to 255. So none that is configured (7.1) can match.
    #[error("the virtual router is 0")]
    Vrid,
    /// RFC 9568, 5.2.5 (erratum 8299): with a count of 0, ignored; by who reads it, for keepalived's users have virtual
    /// routers that advertise nothing.
    #[error("the message has no addresses")]
    Count,
    /// RFC 9568, 5.2.7; RFC 3768, 5.3.7. A receiver of version 2 discards what is not its own interval (7.1), and
    /// in version 3 it would make the master down interval 0 (6.1).
    #[error("the interval is 0")]
    Interval,
    /// RFC 3768, 5.3.6: an unknown authentication type.
    #[error("the authentication type is unknown")]
    AuthType,
    /// RFC 4302, 2: no authentication header of 96 bits of ICV before a VRRP message.
    #[error("the authentication header is malformed")]
    AuthHeader,
    /// RFC 4302, 3.4.4: the integrity check value is not what the key makes of the packet.
    #[error("the packet was not authenticated with our key")]
    Integrity,
}

impl Flaw {
    pub const ALL: [Flaw; 11] = [
        Flaw::Short,
        Flaw::Version,
        Flaw::Type,
        Flaw::Length,
        Flaw::Checksum,
        Flaw::Vrid,
        Flaw::Count,
        Flaw::Interval,
        Flaw::AuthType,
        Flaw::AuthHeader,
        Flaw::Integrity,
    ];

    /// Under which it is counted.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Flaw::Short => "vrrp_too_short",
            Flaw::Version => "vrrp_bad_version",
            Flaw::Type => "vrrp_bad_type",
            Flaw::Length => "vrrp_bad_length",
            Flaw::Checksum => "vrrp_bad_checksum",
            Flaw::Vrid => "vrrp_bad_vrid",
            Flaw::Count => "vrrp_no_addresses",
            Flaw::Interval => "vrrp_bad_interval",
            Flaw::AuthType => "vrrp_bad_auth_type",
            Flaw::AuthHeader => "vrrp_bad_auth_header",
            Flaw::Integrity => "vrrp_bad_integrity",
        }
    }
}

pub(super) fn require(holds: bool, flaw: Flaw) -> Result<(), Flaw> {
    if holds { Ok(()) } else { Err(flaw) }
}
