//! An address and where it lies: `IP[/LENGTH] [dev INTERFACE] [label LABEL]`, in iproute2's words.

use super::error::Fault;
use super::parse::values::{interface, vip_address};
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

/// As the kernel bounds it (IFNAMSIZ less its end).
const MAX_LABEL: usize = 15;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub net: IpNet,
    /// `None`: where the others of its group are.
    pub interface: Option<String>,
    /// IPv4 only.
    pub label: Option<String>,
}

impl Address {
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.net.addr()
    }
}

/// In the form of the file.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.net)?;
        self.interface.iter().try_for_each(|dev| write!(f, " dev {dev}"))?;
        self.label.iter().try_for_each(|label| write!(f, " label {label}"))
    }
}

pub(in crate::config) fn address(text: &str) -> Result<Address, Fault> {
    let mut words = text.split_whitespace();
    let net = vip_address(words.next().unwrap_or_default())?;
    let mut address = Address { net, interface: None, label: None };
    while let Some(word) = words.next() {
        let place = match word {
            "dev" => &mut address.interface,
            "label" => &mut address.label,
            _ => {
                let remedy = "write IP/LENGTH, and after it only `dev INTERFACE` and `label LABEL`";
                return Err(Fault::new(format!("{text:?}: {word} is not known here"), remedy));
            }
        };
        let value = words.next().ok_or_else(|| {
            Fault::new(format!("{text:?}: {word} has no value"), format!("write one after {word}"))
        })?;
        if place.replace(value.to_owned()).is_some() {
            return Err(Fault::new(format!("{text:?}: {word} is there twice"), "write it once"));
        }
    }
    address.interface.as_deref().map(interface).transpose()?;
    if address.label.is_some() && net.addr().is_ipv6() {
        return Err(Fault::new(format!("{text:?}: IPv6 addresses have no label"), "remove it"));
    }
    Ok(address)
}

pub(super) fn checked_label(label: &str, interface: Option<&str>) -> Result<String, Fault> {
    let begins = interface.is_none_or(|interface| label.starts_with(interface));
    let ok =
        (1..=MAX_LABEL).contains(&label.len()) && begins && label.bytes().all(|byte| byte.is_ascii_graphic());
    ok.then(|| label.to_owned()).ok_or_else(|| {
        Fault::new(
            format!("{label:?} is no label"),
            "begin it with the interface's name, at most 15 characters, as in eth0:vip",
        )
    })
}

/// `interface`, `label`: of those that have none of their own.
pub(super) fn settle(
    addresses: &mut [Address],
    interface: Option<&str>,
    label: Option<&String>,
) -> Result<(), Fault> {
    for address in addresses {
        if address.interface.is_none() && address.label.is_none() && address.ip().is_ipv4() {
            address.label = label.cloned();
        }
        let place = address.interface.as_deref().or(interface);
        address.label.as_deref().map(|label| checked_label(label, place)).transpose()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Vip};
    use std::path::Path;

    #[test]
    fn an_address_says_where_it_lies() {
        for text in ["10.0.0.9/24", "10.0.0.9/24 dev eth1 label eth1:web", "fd00::9/64 dev eth1"] {
            assert_eq!(address(text).unwrap().to_string(), text);
        }
        let turned = address(" 10.0.0.9  label eth1:web dev eth1").unwrap();
        assert_eq!(turned.to_string(), "10.0.0.9/32 dev eth1 label eth1:web");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("", "is no address"),
            ("10.0.0.9/24 brd +", "brd is not known here"),
            ("10.0.0.9/24 dev", "dev has no value"),
            ("10.0.0.9/24 dev a dev b", "dev is there twice"),
            ("10.0.0.9/24 dev a/b", "is no interface name"),
            ("fd00::9 label eth0:x", "IPv6 addresses have no label"),
        ] {
            let said = format!("{:?}", address(text).unwrap_err());
            assert!(said.contains(part), "{text}: {said}");
        }
        let mut elsewhere = [address("10.0.0.9/24 dev eth1 label eth0:x").unwrap()];
        assert!(settle(&mut elsewhere, Some("eth0"), None).is_err());
        let mut plain = [address("10.0.0.9/24").unwrap(), address("fd00::9").unwrap()];
        settle(&mut plain, Some("eth0"), Some(&"eth0:x".to_owned())).unwrap();
        assert_eq!((plain[0].label.as_deref(), &plain[1].label), (Some("eth0:x"), &None));
    }

    fn router(keys: &str) -> Result<Vec<Vip>, String> {
        let text = format!(
            "[node]\nname = 'n'\nlisten = '10.0.0.1'\ninterface = 'eth0'\n[[vrrp]]\nvrid = 51\n{keys}"
        );
        let config = Config::parse(&text, Path::new("t.toml"));
        config
            .map(|config| config.routers.into_iter().map(|r| r.vip).collect())
            .map_err(|error| error.to_string())
    }

    fn shown(addresses: &[Address]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_excluded_moves_along_whatever_its_family() {
        let both = router(
            "addresses = ['10.0.0.9/24', '10.1.0.9 dev eth1']\nlabel = 'eth0:v'\nexcluded = ['fd00::9/64', '10.0.0.8/24']",
        );
        let [vip] = &both.unwrap()[..] else { panic!("one family") };
        assert_eq!(shown(&vip.addresses), ["10.0.0.9/24 label eth0:v", "10.1.0.9/32 dev eth1"]);
        assert_eq!(shown(&vip.excluded), ["fd00::9/64", "10.0.0.8/24 label eth0:v"]);
        assert!(!vip.is_ipv6() && vip.ips().count() == 2 && vip.all().count() == 4);
        let alone = router("excluded = ['fd00::9/64', '10.0.0.8/24']").unwrap();
        assert!(alone.len() == 1 && alone[0].is_ipv6() && alone[0].name == "fd00::9");
        let split =
            router("addresses = ['10.0.0.9', 'fd00::9']\nexcluded = ['fd00::8', '10.0.0.8']").unwrap();
        let excluded: Vec<_> = split.iter().flat_map(|vip| shown(&vip.excluded)).collect();
        assert_eq!(excluded, ["10.0.0.8/32", "fd00::8/128"]);
    }

    #[test]
    fn what_is_excluded_is_as_bounded_as_the_rest() {
        let many = (0..65).map(|n| format!("'10.2.0.{}'", n + 1)).collect::<Vec<_>>().join(",");
        for (keys, part) in [
            ("", "vrrp.addresses: is missing"),
            ("addresses = []", "vrrp.addresses: names no usable address"),
            ("excluded = []", "vrrp.addresses: is missing"),
            ("addresses = ['10.0.0.9']\nexcluded = ['10.0.0.9']", "vrrp.excluded: 10.0.0.9 is in the VIP"),
            ("excluded = ['10.0.0.1']", "vrrp.excluded: 10.0.0.1 is node.listen"),
            ("excluded = ['10.0.0.9 label eth1:x']", "vrrp.excluded: \"eth1:x\" is no label"),
            (&format!("excluded = [{many}]"), "vrrp.excluded: are 65"),
            (
                "addresses = ['10.0.0.9']\n[[vip]]\naddresses = ['10.0.0.9']\nexcluded = ['10.0.0.8']",
                "vip.excluded",
            ),
            (
                "addresses = ['10.0.0.9']\nexcluded = ['10.0.0.8']\n[[vip]]\naddresses = ['10.0.0.9']",
                "vrrp.excluded: is not that of the VIP",
            ),
            (
                "addresses = ['10.0.0.9 dev eth1']\n[[vip]]\naddresses = ['10.0.0.9']",
                "vrrp.addresses: is not that of the VIP",
            ),
        ] {
            let said = router(keys).unwrap_err();
            assert!(said.contains(part), "{keys}: {said}");
        }
    }
}
