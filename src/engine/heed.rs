//! Which adverts a virtual router listens to, and what an operator must know of the others: two groups that share a VRID
//! by accident are VRRP's commonest trouble, and its quietest.

use super::routers::RouterConfig;
use super::vrrp::{ADDRESS_OWNER, Version};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// What came for a virtual router of ours, and is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    pub vip: haclusterd_proto::VipId,
    pub source: IpAddr,
    /// The TTL or hop limit that was left.
    pub hops: u8,
    pub multicast: bool,
    pub version: Version,
    pub priority: u8,
    pub interval: Duration,
    pub addresses: Vec<IpAddr>,
    /// By its password, or because none is wanted.
    pub authentic: bool,
}

/// Why an advert is not listened to: RFC 9568 7.1 and RFC 3768 7.1, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Refused {
    Ttl,
    Version,
    /// It came by the way that this router does not use, or from a host that is none of its peers.
    Sender,
    AddressOwner,
    Password,
    Interval,
}

impl Refused {
    pub(super) const ALL: [Refused; 6] = [
        Refused::Ttl,
        Refused::Version,
        Refused::Sender,
        Refused::AddressOwner,
        Refused::Password,
        Refused::Interval,
    ];

    /// Of its counter.
    pub(super) fn name(self) -> &'static str {
        match self {
            Refused::Ttl => "vrrp_bad_ttl",
            Refused::Version => "vrrp_bad_version",
            Refused::Sender => "vrrp_bad_sender",
            Refused::AddressOwner => "vrrp_own_addresses",
            Refused::Password => "vrrp_bad_password",
            Refused::Interval => "vrrp_bad_interval",
        }
    }
}

impl RouterConfig {
    /// RFC 9568 7.1; what concerns the message alone was looked at before.
    pub fn judge(&self, heard: &Heard) -> Result<(), Refused> {
        let wrong_way = match self.peers.is_empty() {
            true => !heard.multicast,
            false => heard.multicast || !self.peers.contains(&heard.source),
        };
        let other_interval = self.settings.version == Version::V2 && self.has_other_interval(heard);
        [
            (heard.multicast && heard.hops != 255, Refused::Ttl),
            (heard.version != self.settings.version, Refused::Version),
            (wrong_way, Refused::Sender),
            (self.priority == ADDRESS_OWNER, Refused::AddressOwner),
            (!heard.authentic, Refused::Password),
            (other_interval, Refused::Interval),
        ]
        .into_iter()
        .find_map(|(wrong, why)| wrong.then_some(why))
        .map_or(Ok(()), Err)
    }

    /// What an operator must know of an advert, refused or not, and what to do; `None`: it is as it should be.
    #[must_use]
    pub fn complaint(&self, heard: &Heard, verdict: Result<(), Refused>) -> Option<String> {
        let what = match verdict {
            Err(why) => self.refusal(heard, why)?,
            Ok(()) => self.difference(heard)?,
        };
        Some(format!("{}: the advert of {} for VRID {} {what}", self.name, heard.source, self.vrid))
    }

    fn refusal(&self, heard: &Heard, why: Refused) -> Option<String> {
        Some(match why {
            Refused::Ttl => {
                format!("came with TTL {}, so through a router: VRRP is for one link", heard.hops)
            }
            Refused::Version => {
                format!("is of version {}: set `version` to the same on both", heard.version.number())
            }
            Refused::Sender if heard.multicast => {
                "came by multicast: name unicast_peers on both, or on neither".into()
            }
            Refused::Sender => "came by unicast, and it is none of unicast_peers: name it there".into(),
            Refused::AddressOwner if heard.priority == ADDRESS_OWNER => {
                "says too that it has the addresses by itself (priority 255): only one may".into()
            }
            Refused::AddressOwner => return None,
            Refused::Password => {
                "has another password: set the same on both, or give one of them another VRID".into()
            }
            Refused::Interval => self.other_interval(heard),
        })
    }

    /// It counts all the same: to ignore it would make two masters.
    fn difference(&self, heard: &Heard) -> Option<String> {
        let theirs: BTreeSet<IpAddr> = heard.addresses.iter().copied().collect();
        let ours: BTreeSet<IpAddr> = self.addresses.iter().copied().collect();
        if theirs != ours && theirs.is_disjoint(&ours) {
            return Some(format!(
                "is for other addresses ({}), so another group uses this VRID and keeps {} from being taken: give one of \
                 them another VRID; `haclusterd doctor --vrid` proposes one",
                list(&theirs),
                list(&ours)
            ));
        }
        if theirs != ours {
            return Some(format!(
                "names {}, and ours are {}: make `addresses` the same on both",
                list(&theirs),
                list(&ours)
            ));
        }
        self.has_other_interval(heard).then(|| self.other_interval(heard))
    }

    fn has_other_interval(&self, heard: &Heard) -> bool {
        heard.interval != self.settings.interval
    }

    fn other_interval(&self, heard: &Heard) -> String {
        format!(
            "is sent every {:?}, and ours every {:?}: set advert_interval to the same on both",
            heard.interval, self.settings.interval
        )
    }
}

/// The first of many.
fn list(addresses: &BTreeSet<IpAddr>) -> String {
    const SHOWN: usize = 3;
    let first: Vec<String> = addresses.iter().take(SHOWN).map(ToString::to_string).collect();
    match addresses.len().saturating_sub(SHOWN) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::vrrp::Settings;
    use haclusterd_proto::VipId;

    const SECOND: Duration = Duration::from_secs(1);

    fn ours() -> RouterConfig {
        let settings = Settings {
            version: Version::V3,
            interval: SECOND,
            preempt: true,
            preempt_delay: Duration::ZERO,
            eager: false,
        };
        RouterConfig {
            vip: VipId(1),
            name: "web".into(),
            vrid: 51,
            settings,
            priority: 100,
            addresses: vec!["10.0.0.100".parse().unwrap()],
            peers: Vec::new(),
            group: None,
            track: None,
            announce_refresh: Duration::ZERO,
        }
    }

    fn theirs() -> Heard {
        Heard {
            vip: VipId(1),
            source: "10.0.0.12".parse().unwrap(),
            hops: 255,
            multicast: true,
            version: Version::V3,
            priority: 150,
            interval: SECOND,
            addresses: ours().addresses,
            authentic: true,
        }
    }

    /// What is said of an advert that differs in one thing.
    fn said(ours: &RouterConfig, differ: impl Fn(&mut Heard)) -> String {
        let mut heard = theirs();
        differ(&mut heard);
        ours.complaint(&heard, ours.judge(&heard)).unwrap_or_default()
    }

    #[test]
    fn each_difference_is_named_with_its_remedy() {
        let unicast = RouterConfig { peers: vec!["10.0.0.13".parse().unwrap()], ..ours() };
        let mut old = ours();
        old.settings.version = Version::V2;
        type Case<'a> = (&'a RouterConfig, fn(&mut Heard), &'a str);
        let cases: [Case<'_>; 9] = [
            (&ours(), |_| {}, ""),
            (&ours(), |heard| heard.hops = 254, "came with TTL 254"),
            (&ours(), |heard| heard.version = Version::V2, "is of version 2: set `version`"),
            (&ours(), |heard| heard.multicast = false, "and it is none of unicast_peers"),
            (&unicast, |_| {}, "came by multicast: name unicast_peers on both"),
            (&ours(), |heard| heard.authentic = false, "has another password"),
            (&ours(), |heard| heard.interval = SECOND * 2, "is sent every 2s, and ours every 1s"),
            (
                &ours(),
                |heard| heard.addresses = vec!["10.0.0.7".parse().unwrap()],
                "another group uses this VRID",
            ),
            (
                &ours(),
                |heard| heard.addresses.push("10.0.0.101".parse().unwrap()),
                "names 10.0.0.100, 10.0.0.101, and ours are 10.0.0.100: make `addresses` the same",
            ),
        ];
        for (ours, differ, part) in cases {
            let said = said(ours, differ);
            assert!(said.contains(part) && said.is_empty() == part.is_empty(), "{part:?} is not {said:?}");
        }
        old.settings.interval = SECOND * 3;
        let other = |heard: &mut Heard| heard.version = Version::V2;
        assert!(said(&old, other).contains("is sent every 1s, and ours every 3s"));
    }

    #[test]
    fn two_that_own_the_addresses_are_one_too_many() {
        let owner = RouterConfig { priority: ADDRESS_OWNER, ..ours() };
        assert!(
            said(&owner, |heard| heard.priority = 255)
                .contains("says too that it has the addresses by itself")
        );
        assert_eq!(said(&owner, |_| {}), "", "RFC 9568 7.1: it does not listen");
        assert_eq!(owner.judge(&theirs()), Err(Refused::AddressOwner));
    }
}
