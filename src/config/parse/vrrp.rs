//! `[[vrrp]]`: a table a virtual router.

use super::section::{Section, boolean, number, text, texts};
use super::{SECOND, Seen, ip, time, track, values, vip_name, within};
use crate::config::error::{Fault, Problems};
use crate::config::{Address, Node, Vip, VirtualMac, Vrrp, place};
use crate::engine::vrrp::{ADDRESS_OWNER, Version};
use haclusterd_proto::vrrp::{Centis, Seconds, Vrid};
use std::net::IpAddr;
use std::time::Duration;

/// As many as there are VRIDs of both families.
const MAX_ROUTERS: usize = 510;
/// keepalived sends no more.
const MAX_PASSWORD: usize = 8;
const MAX_PEERS: usize = 64;
pub(in crate::config) const MAX_EXCLUDED: usize = 64;
/// What the fence has room for (see `io::fence`).
pub(in crate::config) const MAX_ADDRESSES: usize = 1024;

pub(super) fn routers(
    file: &mut Section<'_>,
    problems: &mut Problems<'_>,
    node: Option<&Node>,
    seen: &mut Seen,
) -> Vec<Vrrp> {
    let mut routers: Vec<Vrrp> = Vec::new();
    for mut section in file.tables(problems, "vrrp") {
        let router = router(&mut section, problems, node, seen);
        for router in router.map(by_family).unwrap_or_default() {
            alone_on_its_link(&section, problems, &routers, &router);
            same_place(&section, problems, seen, &router);
            one_interface_each(&section, problems, &routers, &router);
            judge(&section, problems, &router);
            routers.push(router);
        }
        section.finish(problems);
    }
    if routers.len() > MAX_ROUTERS {
        let fault = Fault::new(format!("are {}", routers.len()), format!("at most {MAX_ROUTERS}"));
        file.complain(problems, "vrrp", fault);
    }
    if seen.addresses.len() > MAX_ADDRESSES {
        let what = format!("have {} addresses with those of [[vip]]", seen.addresses.len());
        file.complain(problems, "vrrp", Fault::new(what, format!("at most {MAX_ADDRESSES}")));
    }
    routers
}

/// A virtual router has one family: what is written as one becomes two that keep step, the second named after the first.
fn by_family(router: Vrrp) -> Vec<Vrrp> {
    let of = |ipv6: bool| {
        let of_family = |all: &[Address]| -> Vec<Address> {
            all.iter().filter(|address| address.ip().is_ipv6() == ipv6).cloned().collect()
        };
        let (addresses, excluded) = (of_family(&router.vip.addresses), of_family(&router.vip.excluded));
        let peers = router.peers.iter().copied().filter(|peer| peer.is_ipv6() == ipv6).collect();
        let name = format!("{}{}", router.vip.name, if ipv6 { "-ipv6" } else { "" });
        let group = router.group.clone().or_else(|| Some(router.vip.name.clone()));
        let named = router
            .vip
            .virtual_mac
            .as_ref()
            .map(|own| virtual_mac(router.vrid, ipv6, None).unwrap_or(own.clone()));
        let id = super::id(&addresses, &excluded);
        let mut vip = Vip { id, name, addresses, excluded, virtual_mac: named, ..router.vip.clone() };
        vip.routes.retain(|route| route.to.addr().is_ipv6() == ipv6);
        vip.rules.retain(|rule| rule.ipv6 == ipv6);
        Vrrp { vip, peers, group, ..router.clone() }
    };
    let both = router.vip.ips().any(|ip| ip.is_ipv4()) && router.is_ipv6();
    if both { vec![of(false), of(true)] } else { vec![router] }
}

fn alone_on_its_link(section: &Section<'_>, problems: &mut Problems<'_>, others: &[Vrrp], router: &Vrrp) {
    let key = |router: &Vrrp| (router.vrid, router.is_ipv6(), router.vip.interface.clone());
    if let Some(other) = others.iter().find(|other| key(other) == key(router)) {
        let what = format!("{} is that of {} on the same interface already", other.vrid, other.vip.name);
        let remedy = "give each virtual router of a link its own VRID";
        section.complain(problems, "vrid", Fault::new(what, remedy));
    }
}

/// A VIP that is on its way to the cluster must not have to move for it.
fn same_place(section: &Section<'_>, problems: &mut Problems<'_>, seen: &Seen, router: &Vrrp) {
    let shares = |vip: &&Vip| vip.ips().any(|ip| router.vip.ips().any(|own| own == ip));
    let Some(vip) = seen.vips.iter().find(shares) else { return };
    if vip.id != router.vip.id {
        let what = format!("are not all of the VIP {}", vip.name);
        let remedy = "a VIP goes over to the cluster as one: write a [[vip]] for each family";
        return section.complain(problems, "addresses", Fault::new(what, remedy));
    }
    let places = [
        ("interface", vip.interface != router.vip.interface),
        ("addresses", vip.addresses != router.vip.addresses),
        ("routes", vip.routes != router.vip.routes),
        ("rules", vip.rules != router.vip.rules),
        ("excluded", !router.vip.excluded.is_empty()),
        ("virtual_mac", router.vip.virtual_mac.is_some()),
    ];
    for (key, _) in places.into_iter().filter(|(_, differs)| *differs) {
        let what = format!("is not that of the VIP {}, which has the same addresses", vip.name);
        let remedy =
            "a VIP that goes over to the cluster stays where it is: make both the same, without virtual_mac";
        section.complain(problems, key, Fault::new(what, remedy));
    }
}

/// A link is one interface, so the same VRID on two links makes two of the same name.
fn one_interface_each(section: &Section<'_>, problems: &mut Problems<'_>, others: &[Vrrp], router: &Vrrp) {
    let name = |router: &Vrrp| router.vip.virtual_mac.as_ref().map(|own| own.interface.clone());
    let Some(own) = name(router) else { return };
    let what = if router.vip.interface.as_ref() == Some(&own) {
        format!("{own} is the interface that it is to be made on")
    } else if let Some(other) = others.iter().find(|other| name(other).as_ref() == Some(&own)) {
        format!("{own} is that of {} already", other.vip.name)
    } else {
        return;
    };
    let remedy = "give it a name of its own, as in virtual_mac_interface = \"vrrp.51b\"";
    section.complain(problems, "virtual_mac_interface", Fault::new(what, remedy));
}

fn router(
    s: &mut Section<'_>,
    problems: &mut Problems<'_>,
    node: Option<&Node>,
    seen: &mut Seen,
) -> Option<Vrrp> {
    let excluded = s.read(problems, "excluded", texts(place::address)).unwrap_or_default();
    if excluded.len() > MAX_EXCLUDED {
        let what = format!("are {}", excluded.len());
        s.complain(
            problems,
            "excluded",
            Fault::new(what, format!("at most {MAX_EXCLUDED} of a virtual router")),
        );
    }
    let vip = super::vip(s, problems, node, seen, Duration::ZERO, excluded);
    let vrid = s.demand(problems, "vrid", "51", number(|n| within(n, 1..=255)));
    let own = node.map_or(100, |node| i32::from(node.priority.0));
    let priority = s.read(problems, "priority", number(|n| within(n, 1..=255))).unwrap_or(own);
    let ipv6 = vip.as_ref().is_some_and(Vip::is_ipv6);
    let version = s.read(problems, "version", number(version)).unwrap_or(Version::V3);
    let interval = s.read(problems, "advert_interval", time(Duration::from_millis(10)..=SECOND * 255));
    let eager = s.read(problems, "state", text(state)).unwrap_or(false);
    let password = s.read(problems, "password", text(password));
    let ah = s.read(problems, "authentication", text(authentication)).unwrap_or(false);
    let peers = s.read(problems, "unicast_peers", texts(ip)).unwrap_or_default();
    let source = s.read(problems, "source", text(ip));
    let pseudo_header = s.read(problems, "checksum_pseudo_header", boolean).unwrap_or(true);
    let accept = s.read(problems, "accept", boolean).unwrap_or(true);
    let group = s.read(problems, "group", text(vip_name));
    let track = s.read(problems, "track", track::list);
    seen.tracked.extend(track.iter().flatten().map(|track| (s.place("track"), track.check.clone())));
    let own = s.read(problems, "virtual_mac", boolean).unwrap_or(false);
    let named = s.read(problems, "virtual_mac_interface", text(values::interface));
    if named.is_some() && !own {
        let remedy = "write virtual_mac = true as well, or remove it";
        s.complain(
            problems,
            "virtual_mac_interface",
            Fault::new("has no meaning without virtual_mac", remedy),
        );
    }
    let vrid = u8::try_from(vrid?).ok()?;
    let mut vip = vip?;
    if ipv6 && vip.ips().any(|ip| ip.is_ipv4()) && (source.is_some() || named.is_some()) {
        let key = if source.is_some() { "source" } else { "virtual_mac_interface" };
        let remedy = "leave it out, or write one [[vrrp]] for each family, with the same `group`";
        s.complain(problems, key, Fault::new("is one for two families", remedy));
    }
    let peers_of = |v6: bool| peers.iter().any(|peer| peer.is_ipv6() == v6);
    if ipv6 && vip.ips().any(|ip| ip.is_ipv4()) && peers_of(true) != peers_of(false) {
        let remedy = "name each peer by an address of both";
        s.complain(problems, "unicast_peers", Fault::new("are of one of two families", remedy));
    }
    vip.virtual_mac = own.then(|| virtual_mac(vrid, ipv6, named)).flatten();
    let router = Vrrp {
        vip,
        vrid,
        version,
        priority: u8::try_from(priority).ok()?,
        interval: interval.unwrap_or(SECOND),
        eager: eager || priority == i32::from(ADDRESS_OWNER),
        password,
        ah,
        peers,
        source,
        pseudo_header,
        accept: accept || priority == i32::from(ADDRESS_OWNER),
        group,
        track,
    };
    Some(router)
}

/// Named as keepalived names them; for IPv6 it has no name of its own.
fn virtual_mac(vrid: u8, ipv6: bool, named: Option<String>) -> Option<VirtualMac> {
    let interface = named.unwrap_or_else(|| format!("vrrp{}.{vrid}", if ipv6 { "6" } else { "" }));
    Some(VirtualMac { interface, mac: Vrid::new(vrid)?.mac(ipv6) })
}

/// What does not go together.
fn judge(s: &Section<'_>, problems: &mut Problems<'_>, router: &Vrrp) {
    let ipv6 = router.is_ipv6();
    let mut refuse = |key: &'static str, what: &str, remedy: &str| {
        s.complain(problems, key, Fault::new(what, remedy));
    };
    let Vip { preempt, preempt_delay, .. } = &router.vip;
    if ipv6 && router.version == Version::V2 {
        refuse("version", "2 knows no IPv6", "write version = 3");
    }
    let untold = match router.version {
        Version::V2 => Seconds::try_from(router.interval).is_err(),
        Version::V3 => Centis::try_from(router.interval).is_err(),
    };
    if untold {
        let remedy = "write whole seconds (version 2), or 10ms to 40.95s in steps of 10ms (version 3)";
        refuse("advert_interval", "cannot be said in an advert", remedy);
    }
    if router.password.is_some() && router.version == Version::V3 {
        refuse("password", "is for version 2 only", "remove it; version 3 has no authentication");
    }
    if router.ah && router.password.is_none() {
        refuse("authentication", "has no key", "write password = \"…\", of at most 8 characters");
    }
    let family = |ip: &IpAddr| ip.is_ipv6() == ipv6;
    if !router.peers.iter().all(family) || router.peers.len() > MAX_PEERS {
        refuse(
            "unicast_peers",
            "are not of the addresses' family, or too many",
            "name at most 64 of the same family",
        );
    }
    if !router.source.iter().all(family) {
        refuse(
            "source",
            "is not of the addresses' family",
            "name an address of this host of the same family",
        );
    }
    if !preempt_delay.is_zero() && !preempt {
        refuse("preempt_delay", "has no meaning without preempt", "remove it, or preempt = false");
    }
}

fn version(text: &str) -> Result<Version, Fault> {
    match text {
        "2" => Ok(Version::V2),
        "3" => Ok(Version::V3),
        _ => Err(Fault::new(format!("{text} is no version of VRRP"), "write 2 or 3")),
    }
}

/// True: AH.
fn authentication(text: &str) -> Result<bool, Fault> {
    match text {
        "pass" => Ok(false),
        "ah" => Ok(true),
        _ => Err(Fault::new(format!("{text:?} is not known"), "write pass or ah, with a password")),
    }
}

/// True: begins as if it were the master.
fn state(text: &str) -> Result<bool, Fault> {
    match text {
        "master" => Ok(true),
        "backup" => Ok(false),
        _ => Err(Fault::new(format!("{text:?} is not known"), "write master or backup")),
    }
}

fn password(text: &str) -> Result<String, Fault> {
    let ok = (1..=MAX_PASSWORD).contains(&text.len()) && text.is_ascii();
    ok.then(|| text.to_owned()).ok_or_else(|| {
        let remedy = format!("write 1 to {MAX_PASSWORD} ASCII characters: more are not sent");
        Fault::new(format!("has {} bytes", text.len()), remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    fn parse(text: &str) -> Result<Vec<Vrrp>, String> {
        let node = "[node]\nname = 'n'\nlisten = '10.0.0.1'\ninterface = 'eth0'\npriority = 120\n";
        let config = Config::parse(&format!("{node}{text}"), Path::new("t.toml"));
        config.map(|config| config.routers).map_err(|error| error.to_string())
    }

    const WEB: &str = "[[vrrp]]\nvrid = 51\naddresses = ['10.0.0.100/24']\n";

    #[test]
    fn a_vrid_and_an_address_are_enough() {
        let router = parse(WEB).unwrap().remove(0);
        assert_eq!((router.version, router.priority, router.interval), (Version::V3, 120, SECOND));
        assert_eq!((router.vip.announce_refresh, router.pseudo_header), (None, true));
        assert_eq!(router.vip.virtual_mac, None);
    }

    #[test]
    fn a_password_in_clear_text_is_warned_of() {
        let advice = |more: &str| {
            let text = format!(
                "[node]\nname = 'n'\nlisten = '10.0.0.1'\ninterface = 'eth0'\n{WEB}version = 2\n{more}"
            );
            Config::parse(&text, Path::new("t.toml")).unwrap().advice()
        };
        assert!(advice("password = 'x'")[0].starts_with("10.0.0.100: its password is sent in clear text"));
        assert_eq!(advice("password = 'x'\nauthentication = 'ah'"), [""; 0]);
    }

    #[test]
    fn both_families_in_one_are_two_that_keep_step() {
        let both = "[[vrrp]]\nname = 'web'\nvrid = 51\naddresses = ['10.0.0.100/24', 'fd00::100/64']\nvirtual_mac = true\n\
                    unicast_peers = ['10.0.0.12', 'fd00::12']";
        let routers = parse(both).unwrap();
        let shown: Vec<_> = routers
            .iter()
            .map(|r| {
                (r.vip.name.as_str(), r.vip.addresses.len(), r.peers.len(), r.group.as_deref(), r.vip.seat())
            })
            .collect();
        let group = Some("web");
        assert_eq!(
            shown,
            [("web", 1, 1, group, Some("vrrp.51")), ("web-ipv6", 1, 1, group, Some("vrrp6.51"))]
        );
    }

    #[test]
    fn a_vip_on_its_way_to_the_cluster_is_in_both() {
        let routers = parse(&format!("{WEB}[[vip]]\naddresses = ['10.0.0.100/24']\n")).unwrap();
        assert_eq!(routers[0].vip.name, "10.0.0.100-vrrp");
    }

    #[test]
    fn a_virtual_mac_has_an_interface_of_its_own() {
        let own = |text: &str| parse(text).unwrap().remove(0).vip.virtual_mac.unwrap();
        let four = own(&format!("{WEB}virtual_mac = true"));
        assert_eq!(
            (four.interface.as_str(), four.mac.to_string().as_str()),
            ("vrrp.51", "00:00:5e:00:01:33")
        );
        let six = own("[[vrrp]]\nvrid = 51\naddresses = ['fd00::1']\nvirtual_mac = true");
        assert_eq!((six.interface.as_str(), six.mac.to_string().as_str()), ("vrrp6.51", "00:00:5e:00:02:33"));
    }

    #[test]
    fn each_mistake_says_what_would_be_right() {
        for (more, said) in [
            ("version = 4", "vrrp.version: 4 is no version of VRRP; write 2 or 3"),
            ("version = 2\nadvert_interval = '100ms'", "vrrp.advert_interval: cannot be said in an advert"),
            ("advert_interval = '15ms'", "cannot be said in an advert"),
            ("password = 'x'", "for version 2 only"),
            ("version = 2\npassword = '123456789'", "has 9 bytes"),
            ("version = 2\nauthentication = 'ah'", "vrrp.authentication: has no key"),
            ("unicast_peers = ['fd00::2']", "not of the addresses' family"),
            ("preempt = false\npreempt_delay = '3s'", "no meaning without preempt"),
            (
                "[[vrrp]]\nvrid = 51\naddresses = ['10.0.0.101']",
                "vrrp.vrid: 51 is that of 10.0.0.100 on the same",
            ),
            ("[[vrrp]]\nvrid = 52\naddresses = ['10.0.0.101', 'fd00::1']\nversion = 2", "2 knows no IPv6"),
            (
                "[[vrrp]]\nvrid = 52\naddresses = ['10.0.0.101', 'fd00::1']\nsource = '10.0.0.1'",
                "vrrp.source: is one for two families",
            ),
            (
                "[[vrrp]]\nvrid = 52\naddresses = ['10.0.0.101', 'fd00::1']\nunicast_peers = ['10.0.0.2']",
                "vrrp.unicast_peers: are of one of two families",
            ),
            (
                "[[vrrp]]\nvrid = 52\naddresses = ['10.0.0.101', 'fd00::1']\n[[vip]]\naddresses = ['10.0.0.101', 'fd00::1']",
                "vrrp.addresses: are not all of the VIP 10.0.0.101",
            ),
            ("[[vrrp]]\nvrid = 0\naddresses = ['10.0.0.101']", "vrrp.vrid: 0 is out of range"),
            ("[[vip]]\naddresses = ['10.0.0.100', '10.0.0.101']", "is in the VIP"),
            (
                "virtual_mac = true\n[[vip]]\naddresses = ['10.0.0.100/24']",
                "vrrp.virtual_mac: is not that of the VIP 10.0.0.100, which has the same addresses",
            ),
            (
                "interface = 'eth1'\n[[vip]]\naddresses = ['10.0.0.100/24']",
                "vrrp.interface: is not that of the VIP 10.0.0.100",
            ),
            ("virtual_mac_interface = 'vrrp.51'", "no meaning without virtual_mac"),
            (
                "virtual_mac = true\nvirtual_mac_interface = 'eth0'",
                "is the interface that it is to be made on",
            ),
            (
                "virtual_mac = true\n[[vrrp]]\nvrid = 51\naddresses = ['10.1.0.1']\ninterface = 'eth1'\nvirtual_mac = true",
                "vrrp.virtual_mac_interface: vrrp.51 is that of 10.0.0.100 already",
            ),
        ] {
            let error = parse(&format!("{WEB}{more}")).unwrap_err();
            assert!(error.contains(said), "{said} is not in\n{error}");
        }
    }
}
