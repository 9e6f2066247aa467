//! What VRRP counts, each in a type that holds only legal values.

use crate::units::{BadUnit, MacAddr, Priority};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU8;
use std::time::Duration;

/// Which virtual router: 1..=255 (RFC 9568, 5.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vrid(NonZeroU8);

/// Version 2 counts its interval in whole seconds, 1..=255 (RFC 3768, 5.3.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seconds(NonZeroU8);

/// Version 3 counts its interval in hundredths of a second, 1..=4095 (RFC 9568, 5.2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Centis(u16);

/// Unlike a cluster's priority it has two values with a meaning of their own (RFC 9568, 5.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VrrpPriority(pub u8);

impl Vrid {
    #[must_use]
    pub fn new(id: u8) -> Option<Vrid> {
        NonZeroU8::new(id).map(Vrid)
    }

    #[must_use]
    pub fn get(self) -> u8 {
        self.0.get()
    }

    /// Of whoever is the master (RFC 9568, 7.3).
    #[must_use]
    pub fn mac(self, ipv6: bool) -> MacAddr {
        MacAddr([0x00, 0x00, 0x5e, 0x00, if ipv6 { 2 } else { 1 }, self.get()])
    }
}

impl Seconds {
    #[must_use]
    pub fn new(seconds: u8) -> Option<Seconds> {
        NonZeroU8::new(seconds).map(Seconds)
    }

    #[must_use]
    pub fn get(self) -> u8 {
        self.0.get()
    }
}

impl Centis {
    pub const MAX: Centis = Centis(4095);

    #[must_use]
    pub fn new(centis: u16) -> Option<Centis> {
        (1..=Centis::MAX.0).contains(&centis).then_some(Centis(centis))
    }

    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

impl VrrpPriority {
    /// "I am leaving": whoever is next need not wait.
    pub const LEAVING: VrrpPriority = VrrpPriority(0);
    /// The addresses are the router's own.
    pub const ADDRESS_OWNER: VrrpPriority = VrrpPriority(255);
}

impl From<Priority> for VrrpPriority {
    fn from(priority: Priority) -> VrrpPriority {
        VrrpPriority(priority.0)
    }
}

impl From<Seconds> for Duration {
    fn from(seconds: Seconds) -> Duration {
        Duration::from_secs(seconds.get().into())
    }
}

impl From<Centis> for Duration {
    fn from(centis: Centis) -> Duration {
        Duration::from_millis(u64::from(centis.0) * 10)
    }
}

/// What the field cannot say exactly is refused: both ends derive their timers from it.
impl TryFrom<Duration> for Seconds {
    type Error = BadUnit;

    fn try_from(duration: Duration) -> Result<Seconds, BadUnit> {
        let exact = u8::try_from(duration.as_secs()).ok().filter(|_| duration.subsec_nanos() == 0);
        exact.and_then(Seconds::new).ok_or_else(|| BadUnit {
            what: "an interval of VRRP version 2 (1 to 255 whole seconds)",
            text: format!("{duration:?}"),
        })
    }
}

impl TryFrom<Duration> for Centis {
    type Error = BadUnit;

    fn try_from(duration: Duration) -> Result<Centis, BadUnit> {
        const CENTI: u128 = 10_000_000;
        let nanos = duration.as_nanos();
        let exact = u16::try_from(nanos / CENTI).ok().filter(|_| nanos.is_multiple_of(CENTI));
        exact.and_then(Centis::new).ok_or_else(|| BadUnit {
            what: "an interval of VRRP version 3 (10 ms to 40.95 s, in steps of 10 ms)",
            text: format!("{duration:?}"),
        })
    }
}

impl TryFrom<u16> for Centis {
    type Error = BadUnit;

    fn try_from(centis: u16) -> Result<Centis, BadUnit> {
        let bad = || BadUnit { what: "a number of centiseconds (1 to 4095)", text: centis.to_string() };
        Centis::new(centis).ok_or_else(bad)
    }
}

impl From<Centis> for u16 {
    fn from(centis: Centis) -> u16 {
        centis.0
    }
}

impl fmt::Display for Vrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for VrrpPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_legal_values_exist() {
        assert_eq!((Vrid::new(0), Seconds::new(0)), (None, None));
        assert_eq!((Centis::new(0), Centis::new(4096)), (None, None));
        assert_eq!(Centis::new(4095), Some(Centis::MAX));
        assert!(serde_json::from_str::<Vrid>("0").is_err());
        assert!(serde_json::from_str::<Centis>("4096").is_err());
    }

    #[test]
    fn durations_are_exact_or_refused() {
        let centis = |millis| Centis::try_from(Duration::from_millis(millis)).ok().map(Centis::get);
        assert_eq!([10, 1000, 40_950].map(centis), [Some(1), Some(100), Some(4095)]);
        assert_eq!([0, 5, 15, 40_960, u64::MAX].map(centis), [None; 5]);
        let seconds = |millis| Seconds::try_from(Duration::from_millis(millis)).ok().map(Seconds::get);
        assert_eq!([1000, 255_000].map(seconds), [Some(1), Some(255)]);
        assert_eq!([0, 400, 1500, 256_000].map(seconds), [None; 4]);
    }

    #[test]
    fn durations_come_back() {
        for centis in 1..=4095 {
            let centis = Centis::new(centis).unwrap();
            assert_eq!(Centis::try_from(Duration::from(centis)), Ok(centis));
        }
    }
}
