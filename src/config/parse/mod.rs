//! The whole file, section by section. Every mistake is noted, so that an operator mends them in one go.

mod check;
pub mod hooks;
mod section;
mod track;
pub mod values;
pub mod vrrp;
mod ways;

use super::error::{ConfigError, Fault, Problems};
use super::place::{self, checked_label};
use super::{Address, Cluster, Config, Node, Vip, Web};
use crate::engine::time::Timers;
use haclusterd_proto::cluster::{MAX_ADDRESSES, MAX_VIPS, MAX_VOTERS};
use haclusterd_proto::{Priority, Role, VipId};
use section::{Section, boolean, kind, number, text, texts};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::{DeTable, DeValue};

const SECOND: Duration = Duration::from_secs(1);
/// Beats within a lease: fewer, and one lost packet in each direction costs the VIP.
const BEATS: u32 = 4;
const MAX_SEEDS: usize = 16;
const MAX_NAME: usize = 63;

pub(super) fn config(source: &str, path: &Path) -> Result<Config, ConfigError> {
    let mut problems = Problems::new(source, path);
    let root = match DeTable::parse(source) {
        Ok(root) => root,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            problems.add(
                at,
                "syntax",
                Fault::new(error.message().to_owned(), "mend the line; the file is TOML"),
            );
            return problems.verdict(None);
        }
    };
    let mut file = Section::new("", 0, Some(root.get_ref()));
    let node = node(&mut table(&mut file, &mut problems, "node"), &mut problems);
    let cluster = cluster(&mut table(&mut file, &mut problems, "cluster"), &mut problems);
    let mut seen = Seen { listen: node.as_ref().map(|node| node.listen.ip()), ..Seen::default() };
    let vips = vips(&mut file, &mut problems, node.as_ref(), &mut seen);
    let routers = vrrp::routers(&mut file, &mut problems, node.as_ref(), &mut seen);
    let checks = check::checks(&mut file, &mut problems);
    track::judge(&mut problems, &seen.tracked, &checks);
    let groups = hooks::groups(&mut file, &mut problems);
    let fifo = hooks::fifo(&mut file, &mut problems);
    let names: Vec<String> =
        vips.iter().chain(routers.iter().map(|r| &r.vip)).map(|vip| vip.name.clone()).collect();
    let hooks = hooks::hooks(&mut file, &mut problems, &names);
    let mail = hooks::mail(&mut file, &mut problems);
    let web = web(&mut file, &mut problems);
    file.finish(&mut problems);
    let config = node.zip(cluster).map(|(node, cluster)| Config {
        node,
        cluster,
        vips,
        routers,
        checks,
        groups,
        fifo,
        hooks,
        mail,
        web,
    });
    problems.verdict(config)
}

fn web(file: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<Web> {
    if !file.has("web") {
        let _ = file.value("web");
        return None;
    }
    let mut s = table(file, problems, "web");
    let listen = s.demand(problems, "listen", "\"127.0.0.1:9746\"", text(socket_address));
    let page = s.read(problems, "page", boolean).unwrap_or(false);
    s.finish(problems);
    Some(Web { listen: listen?, page })
}

fn socket_address(text: &str) -> Result<SocketAddr, Fault> {
    text.parse()
        .map_err(|_| Fault::new(format!("{text:?} is no address with a port"), "write 127.0.0.1:9746, say"))
}

fn table<'a>(file: &mut Section<'a>, problems: &mut Problems<'_>, name: &'static str) -> Section<'a> {
    match file.value(name).map(|value| (value, value.get_ref())) {
        Some((value, DeValue::Table(table))) => Section::new(name, value.span().start, Some(table)),
        Some((value, other)) => {
            let what = format!("is {}", kind(other));
            problems.add(
                value.span().start,
                name,
                Fault::new(what, format!("write it as a table: [{name}]")),
            );
            Section::new(name, 0, None)
        }
        None => Section::new(name, 0, None),
    }
}

fn node(section: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<Node> {
    let name = section.demand(problems, "name", "\"lb1\"", text(values::name));
    let listen = section.demand(problems, "listen", "\"10.0.0.11:7946\"", text(values::node_address));
    let role = section.read(problems, "role", text(values::role)).unwrap_or(Role::Member);
    let priority = section.read(problems, "priority", number(values::priority)).unwrap_or(Priority::DEFAULT);
    let interface = section.read(problems, "interface", text(values::interface));
    let seeds = section.read(problems, "seeds", texts(values::address)).unwrap_or_default();
    if seeds.len() > MAX_SEEDS {
        let what = format!("are {}", seeds.len());
        problems.add(
            section.place("seeds"),
            "node.seeds",
            Fault::new(what, format!("name at most {MAX_SEEDS}; one is enough")),
        );
    }
    let realtime = section.read(problems, "realtime", boolean).unwrap_or(true);
    take(section).finish(problems);
    Some(Node { name: name?, listen: listen?, role, priority, interface, seeds, realtime })
}

fn cluster(section: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<Cluster> {
    let voters_max = section.read(problems, "voters_max", number(odd_voters)).unwrap_or(3);
    let strict_pair = section.read(problems, "on_minority", text(on_minority)).unwrap_or(false);
    let profile = section.read(problems, "profile", text(profile));
    let advert = section.read(problems, "advert_interval", time(Duration::from_millis(5)..=SECOND * 10));
    let lease = section.read(problems, "lease", time(Duration::from_millis(50)..=SECOND * 60));
    let gateway = section.read(problems, "gateway", text(ip));
    let strict_health = section.read(problems, "strict_health", boolean).unwrap_or(true);
    let timers = timers(section, problems, profile, advert, lease);
    take(section).finish(problems);
    Some(Cluster { voters_max, strict_pair, timers, gateway, strict_health })
}

fn timers(
    section: &Section<'_>,
    problems: &mut Problems<'_>,
    profile: Option<Timers>,
    advert: Option<Duration>,
    lease: Option<Duration>,
) -> Timers {
    let place = section.place("lease");
    let lan = Timers { advert: Duration::from_millis(50), lease: Duration::from_millis(500) };
    let timers = match (profile, advert, lease) {
        (Some(profile), None, None) => return profile,
        (None, None, None) => return lan,
        (None, Some(advert), Some(lease)) => Timers { advert, lease },
        (Some(_), _, _) => {
            let remedy = "keep either profile, or advert_interval and lease";
            problems.add(
                section.place("profile"),
                "cluster.profile",
                Fault::new("is given with other timers", remedy),
            );
            return lan;
        }
        (None, _, _) => {
            problems.add(
                place,
                "cluster.lease",
                Fault::new("and advert_interval belong together", "give both, or a profile"),
            );
            return lan;
        }
    };
    if timers.lease < timers.advert * BEATS {
        let remedy = format!(
            "make it at least {BEATS} times advert_interval: {}",
            values::show(timers.advert * BEATS)
        );
        problems.add(
            place,
            "cluster.lease",
            Fault::new("is too short for a lost packet to be made up for", remedy),
        );
    }
    timers
}

fn vips(
    file: &mut Section<'_>,
    problems: &mut Problems<'_>,
    node: Option<&Node>,
    seen: &mut Seen,
) -> Vec<Vip> {
    let mut vips = Vec::new();
    for mut section in file.tables(problems, "vip") {
        vips.extend(vip(&mut section, problems, node, seen, SECOND * 30, Vec::new()));
        section.finish(problems);
    }
    let addresses: usize = vips.iter().map(|vip| vip.addresses.len()).sum();
    if vips.len() > MAX_VIPS || addresses > MAX_ADDRESSES {
        let what = format!("are {} with {addresses} addresses", vips.len());
        let remedy = format!(
            "one cluster carries {MAX_VIPS} VIPs and {MAX_ADDRESSES} addresses; group addresses that move together"
        );
        file.complain(problems, "vip", Fault::new(what, remedy));
    }
    seen.vips.clone_from(&vips);
    vips
}

/// What may be in the file only once.
#[derive(Default)]
struct Seen {
    listen: Option<IpAddr>,
    addresses: BTreeMap<IpAddr, String>,
    names: Vec<String>,
    /// What is the same of no two routes or rules.
    ways: BTreeMap<String, String>,
    /// Where, and which check.
    tracked: Vec<(usize, String)>,
    /// Once all are read: a virtual router may have the addresses of one, which is on its way to the cluster then.
    vips: Vec<Vip>,
}

/// What every group of addresses has, whoever elects its owner. `refresh`: unless the file says otherwise. `excluded`:
/// where there are any, no others are needed.
fn vip(
    section: &mut Section<'_>,
    problems: &mut Problems<'_>,
    node: Option<&Node>,
    seen: &mut Seen,
    refresh: Duration,
    mut excluded: Vec<Address>,
) -> Option<Vip> {
    let mut addresses = match section.has("addresses") || excluded.is_empty() {
        true => section.demand(problems, "addresses", "[\"10.0.0.100/24\"]", texts(place::address)),
        false => Some(Vec::new()),
    };
    addresses = addresses.filter(|all: &Vec<Address>| !all.is_empty() || !excluded.is_empty());
    let nets = |all: &[Address]| all.iter().map(|address| address.net).collect::<Vec<_>>();
    let own = addresses.as_deref().map(nets);
    let twin = seen.vips.iter().any(|vip| Some(nets(&vip.addresses)) == own);
    let first = addresses.iter().flatten().chain(&excluded).next();
    let first = first.map(|first| format!("{}{}", first.ip(), if twin { "-vrrp" } else { "" }));
    let name = section.read(problems, "name", text(vip_name)).or(first).unwrap_or_default();
    let own = section.read(problems, "interface", text(values::interface));
    let interface = own.or_else(|| node.and_then(|node| node.interface.clone()));
    let label = section.read(problems, "label", text(|label| checked_label(label, interface.as_deref())));
    for (key, all) in [("addresses", addresses.as_mut()), ("excluded", Some(&mut excluded))] {
        let settled = all.map_or(Ok(()), |all| place::settle(all, interface.as_deref(), label.as_ref()));
        settled.unwrap_or_else(|fault| section.complain(problems, key, fault));
    }
    let preempt = section.read(problems, "preempt", boolean).unwrap_or(true);
    let preempt_delay =
        section.read(problems, "preempt_delay", time(Duration::ZERO..=SECOND * 1000)).unwrap_or_default();
    let every = section.read(problems, "announce_refresh", time(Duration::ZERO..=SECOND * 3600));
    let announce_refresh = every.unwrap_or(refresh);
    let notify = hooks::notify(section, problems);
    let member = node.is_none_or(|node| node.role == Role::Member);
    if interface.is_none() && member {
        let remedy = "write interface = \"eth0\" here or in [node]";
        section.complain(problems, "interface", Fault::new("is missing", remedy));
    }
    if section.has("addresses") && addresses.is_none() {
        let fault = Fault::new("names no usable address", "write [\"10.0.0.100/24\"]");
        section.complain(problems, "addresses", fault);
    }
    for address in addresses.iter().flatten().filter(|_| !twin) {
        once(section, problems, seen, ("addresses", address.ip()), &name);
    }
    for address in &excluded {
        once(section, problems, seen, ("excluded", address.ip()), &name);
    }
    if seen.names.contains(&name) {
        let fault = Fault::new(format!("{name} is used twice"), "give each VIP its own name");
        section.complain(problems, "name", fault);
    }
    seen.names.push(name.clone());
    let addresses = addresses?;
    let mut vip = Vip {
        id: id(&addresses, &excluded),
        name,
        addresses,
        excluded,
        routes: Vec::new(),
        rules: Vec::new(),
        interface,
        virtual_mac: None,
        preempt,
        preempt_delay,
        announce_refresh: (!announce_refresh.is_zero()).then_some(announce_refresh),
        notify,
    };
    ways::read(section, problems, seen, &mut vip, twin);
    Some(vip)
}

/// What is not advertised makes no name while anything is.
fn id(addresses: &[Address], excluded: &[Address]) -> VipId {
    let named = if addresses.is_empty() { excluded } else { addresses };
    VipId::of(&named.iter().map(Address::ip).collect::<Vec<_>>())
}

fn once(
    section: &Section<'_>,
    problems: &mut Problems<'_>,
    seen: &mut Seen,
    (key, ip): (&str, IpAddr),
    name: &str,
) {
    if seen.listen == Some(ip) {
        let remedy = "a VIP must be an address that no host has of its own";
        section.complain(problems, key, Fault::new(format!("{ip} is node.listen"), remedy));
    }
    if let Some(other) = seen.addresses.insert(ip, name.to_owned()) {
        let what = format!("{ip} is in the VIP {other} already");
        section.complain(problems, key, Fault::new(what, "an address belongs to one VIP"));
    }
}

fn take<'a>(section: &mut Section<'a>) -> Section<'a> {
    std::mem::replace(section, Section::new("", 0, None))
}

fn time(range: RangeInclusive<Duration>) -> impl Fn(&DeValue<'_>) -> Result<Duration, Fault> {
    text(move |text| values::duration(text, &range))
}

fn within(text: &str, range: RangeInclusive<i32>) -> Result<i32, Fault> {
    text.parse().ok().filter(|n| range.contains(n)).ok_or_else(|| {
        Fault::new(
            format!("{text} is out of range"),
            format!("write a number from {} to {}", range.start(), range.end()),
        )
    })
}

fn odd_voters(text: &str) -> Result<usize, Fault> {
    let number = text.parse::<usize>().ok().filter(|n| n % 2 == 1 && *n <= MAX_VOTERS);
    number.ok_or_else(|| {
        Fault::new(format!("{text} is no number of voters"), "write 1, 3, 5 or 7; 3 suits most clusters")
    })
}

/// True: release.
fn on_minority(text: &str) -> Result<bool, Fault> {
    match text {
        "hold" => Ok(false),
        "release" => Ok(true),
        _ => Err(Fault::new(format!("{text:?} is not known"), "write hold or release")),
    }
}

fn profile(text: &str) -> Result<Timers, Fault> {
    let (advert, lease) = match text {
        "lan" => (50, 500),
        "fast" => (15, 150),
        "aggressive" => (5, 50),
        "wan" => (200, 2000),
        _ => return Err(Fault::new(format!("{text:?} is no profile"), "write lan, fast, aggressive or wan")),
    };
    Ok(Timers { advert: Duration::from_millis(advert), lease: Duration::from_millis(lease) })
}

fn ip(text: &str) -> Result<IpAddr, Fault> {
    text.parse().map_err(|_| Fault::new(format!("{text:?} is no address"), "write it as 10.0.0.1"))
}

fn absolute(text: &str) -> Result<PathBuf, Fault> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(Fault::new(format!("{text:?} is no absolute path"), "begin it with /"))
    }
}

fn vip_name(text: &str) -> Result<String, Fault> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    let ok = (1..=MAX_NAME).contains(&text.len()) && text.chars().all(legal);
    ok.then(|| text.to_owned()).ok_or_else(|| {
        Fault::new(
            format!("{text:?} is no name"),
            format!("use 1 to {MAX_NAME} letters, digits, and any of - _ . :"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn errors(text: &str) -> String {
        Config::parse(text, Path::new("h.toml")).unwrap_err().to_string()
    }

    #[test]
    fn each_mistake_names_its_line_its_key_and_its_remedy() {
        let text = "[node]\nname = 'LB 1'\nlisten = '0.0.0.0'\nprioritty = 3\n[cluster]\nvoters_max = 4\n";
        let said = errors(text);
        for part in [
            "h.toml:2: node.name: ",
            "h.toml:3: node.listen: 0.0.0.0 is not the address of one host; ",
            "h.toml:4: node.prioritty: is no key that is known here; did you mean priority?",
            "h.toml:6: cluster.voters_max: 4 is no number of voters; ",
        ] {
            assert!(said.contains(part), "{part} is not in\n{said}");
        }
    }

    #[test]
    fn what_may_be_there_once_is_refused_twice() {
        let node = "[node]\nname = 'a'\nlisten = '10.0.0.1'\ninterface = 'eth0'\n";
        let vip = "[[vip]]\naddresses = ['10.0.0.9']\n";
        assert!(errors(&format!("{node}{vip}{vip}")).contains("is in the VIP 10.0.0.9 already"));
        assert!(errors(&format!("{node}[[vip]]\naddresses = ['10.0.0.1']")).contains("is node.listen"));
        assert!(
            errors("[node]\nname = 'a'\nlisten = '10.0.0.1'\n[[vip]]\naddresses = ['10.0.0.9']")
                .contains("vip.interface: is missing")
        );
    }

    #[test]
    fn a_lease_leaves_room_for_lost_packets() {
        let node = "[node]\nname = 'a'\nlisten = '10.0.0.1'\n";
        assert!(
            errors(&format!("{node}[cluster]\nadvert_interval = '100ms'\nlease = '300ms'"))
                .contains("at least 4 times")
        );
        assert!(errors(&format!("{node}[cluster]\nlease = '300ms'")).contains("belong together"));
        assert!(
            errors(&format!("{node}[cluster]\nprofile = 'lan'\nlease = '300ms'")).contains("keep either")
        );
    }

    #[test]
    fn a_file_that_is_no_toml_names_the_line() {
        assert!(errors("[node]\nname = \n").starts_with("h.toml:2: syntax: "));
        assert!(errors("").contains("node.name: is missing"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\[|\\]|node|vip|cluster|check|kind|nginx|=|'|\"|\n|[a-z0-9./:-]| ){0,80}") {
            let _ = Config::parse(&text, Path::new("x"));
        }
    }
}
