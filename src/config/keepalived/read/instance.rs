//! `vrrp_instance`.

use super::super::bfd;
use super::super::finding::{Findings, Kind};
use super::super::grammar::{AUTHENTICATION, INSTANCE, is_list, other, shape};
use super::super::model::{Instance, Model, Notify};
use super::super::tree::{Statement, Word};
use super::super::value::{address, boolean, invalid, number, parse_number, seconds, text};
use super::{address, all_comments, global, name, notify, tracking, way};

pub fn read(model: &mut Model, statement: &Statement, findings: &mut Findings) {
    if let Some(second) = statement.arg(1) {
        let what = format!("the name of a vrrp_instance is one word, and {second} is a second one");
        return invalid(
            findings,
            statement,
            what,
            "keepalived leaves the instance out: join them, or use quotes",
        );
    }
    let Some(name) = name(statement, findings) else { return };
    if model.instances.iter().any(|instance| instance.name == name) {
        let what = format!("the instance {name} is there already");
        return invalid(
            findings,
            statement,
            what,
            "keepalived leaves the second one out: give it another name",
        );
    }
    let mut instance = empty(statement, name);
    for inner in statement.inner() {
        let key = inner.key.as_str();
        if INSTANCE.read.contains(&key) && !shape(inner, is_block(key), findings) {
            continue;
        }
        match key {
            "track_interface" | "track_script" | "track_file" | "track_process" => {
                tracking::tracks(&mut instance.tracks, &model.trackers, inner, findings);
            }
            "track_bfd" => {
                bfd::tracked(&model.bfds, inner, findings);
                other(&INSTANCE, inner, findings);
            }
            _ => one(&mut instance, inner, findings),
        }
    }
    if instance.ah && instance.password.is_some() && instance.is_master() {
        instance.begins = Some(false);
        let what = format!("{}: with AH no instance begins as master", instance.name);
        findings.add(Kind::Invalid, &instance.at, what, "write state BACKUP, as keepalived takes it");
    }
    complete(&instance, statement, findings);
    model.instances.push(instance);
}

fn is_block(key: &str) -> bool {
    // Two that are no lists everywhere.
    is_list(key) || matches!(key, "authentication" | "track_file")
}

fn empty(statement: &Statement, name: &str) -> Instance {
    Instance {
        at: statement.at.clone(),
        comments: all_comments(statement),
        name: name.to_owned(),
        begins: None,
        unicast: None,
        xmit_base: None,
        ipvlan: None,
        interface: None,
        vrid: None,
        priority: None,
        version: None,
        advert_int: None,
        password: None,
        ah: false,
        authenticated: false,
        addresses: Vec::new(),
        excluded: Vec::new(),
        routes: Vec::new(),
        rules: Vec::new(),
        peers: Vec::new(),
        source: None,
        nopreempt: None,
        preempt_delay: None,
        accept: None,
        strict: None,
        vmac: None,
        plain_checksum: false,
        garp_refresh: None,
        tracks: Vec::new(),
        notify: Notify::default(),
    }
}

fn one(instance: &mut Instance, s: &Statement, findings: &mut Findings) {
    match s.key.as_str() {
        "state" => state(instance, s, findings),
        "interface" => {
            let name = text(findings, s).filter(|name| is_interface(name, s, findings));
            instance.interface = name.map(str::to_owned);
        }
        "virtual_router_id" => instance.vrid = byte(s, 1, findings).or(instance.vrid),
        "priority" => instance.priority = byte(s, 1, findings).or(instance.priority),
        "version" => instance.version = global::version(s, findings).or(instance.version),
        "advert_int" => {
            let seconds = seconds(findings, s, 0.01..=255.0);
            instance.advert_int =
                seconds.map(|seconds| (s.at.clone(), seconds)).or(instance.advert_int.take());
        }
        "authentication" => {
            for inner in s.inner() {
                match inner.key.as_str() {
                    "auth_type" => authentication(instance, inner, findings),
                    "auth_pass" => password(instance, inner, findings),
                    _ => other(&AUTHENTICATION, inner, findings),
                }
            }
            let typed = s.inner().iter().any(|inner| inner.key == "auth_type");
            if typed && instance.password.is_none() {
                let remedy = "keepalived goes on without: write auth_pass, or remove it";
                invalid(findings, s, "authentication without a password", remedy);
            }
        }
        "virtual_ipaddress" => addresses(instance, s, findings),
        "virtual_ipaddress_excluded" => {
            instance.excluded.extend(s.inner().iter().filter_map(|line| address::read(line, findings)));
        }
        "virtual_routes" => {
            instance.routes.extend(s.inner().iter().filter_map(|line| way::route(line, findings)))
        }
        "virtual_rules" => {
            instance.rules.extend(s.inner().iter().filter_map(|line| way::rule(line, findings)))
        }
        "unicast_peer" => {
            instance.unicast = Some(s.at.clone());
            s.inner().iter().for_each(|line| peer(instance, line, findings));
        }
        "unicast_src_ip" | "mcast_src_ip" | "vrrp_unicast_bind" => {
            if s.key != "mcast_src_ip" {
                instance.unicast = Some(s.at.clone());
            }
            let source = text(findings, s).and_then(|word| host(findings, s, word));
            instance.source = source.map(|source| (s.at.clone(), source)).or(instance.source.take());
        }
        "nopreempt" => instance.nopreempt = Some(s.at.clone()),
        "preempt" => instance.nopreempt = None,
        "preempt_delay" => {
            let seconds = seconds(findings, s, 0.0..=1000.0);
            instance.preempt_delay = seconds.map(|seconds| (s.at.clone(), seconds));
        }
        "accept" => instance.accept = Some(true),
        "no_accept" => instance.accept = Some(false),
        "strict_mode" => instance.strict = boolean(findings, s).or(instance.strict),
        "use_vmac" => vmac(instance, s, findings),
        "vmac_xmit_base" => {
            instance.xmit_base = Some(s.at.clone());
            let remedy = "adverts leave by the macvlan, as RFC 9568 7.3 wants";
            findings.add(Kind::Differs, &s.at, "vmac_xmit_base has no equivalent", remedy);
        }
        "use_ipvlan" => {
            instance.ipvlan = Some(s.at.clone());
            let remedy = "leave it out, or use a virtual MAC";
            findings.add(Kind::Missing, &s.at, "use_ipvlan has no equivalent", remedy);
        }
        "v3_checksum_as_v2" => instance.plain_checksum = boolean(findings, s).unwrap_or(false),
        _ => timers(instance, s, findings),
    }
}

fn timers(instance: &mut Instance, s: &Statement, findings: &mut Findings) {
    match s.key.as_str() {
        key if key.starts_with("garp_") && INSTANCE.read.contains(&key) || key == "down_timer_adverts" => {
            instance.garp_refresh = global::announcing(s, key, findings).or(instance.garp_refresh);
        }
        "unicast_ttl" => {
            instance.unicast = Some(s.at.clone());
            if number(findings, s, 0..=255).is_some_and(|ttl| ttl != 255) {
                findings.add(
                    Kind::Differs,
                    &s.at,
                    "adverts are sent with TTL 255, as RFC 9568 5.1.1.3 wants",
                    "remove it; a peer's max_ttl must allow 255",
                );
            }
        }
        "unicast_fault_no_peer" => {}
        _ => notify(&mut instance.notify, &INSTANCE, s, findings),
    }
}

fn byte(s: &Statement, least: i64, findings: &mut Findings) -> Option<u8> {
    number(findings, s, least..=255).and_then(|n| u8::try_from(n).ok())
}

fn state(instance: &mut Instance, s: &Statement, findings: &mut Findings) {
    let begins = match text(findings, s) {
        Some("MASTER") => Some(true),
        Some("BACKUP") => Some(false),
        None => None,
        Some(word) => {
            let remedy = "write MASTER or BACKUP; keepalived takes it for BACKUP";
            invalid(findings, s, format!("{word} is no state"), remedy);
            None
        }
    };
    if instance.begins.is_some() && begins.is_some() && begins != instance.begins {
        let remedy = "keepalived takes the first one: remove this one";
        return invalid(findings, s, "the state is given twice", remedy);
    }
    instance.begins = instance.begins.or(begins);
}

fn authentication(instance: &mut Instance, s: &Statement, findings: &mut Findings) {
    instance.authenticated |= matches!(s.arg(0), Some("PASS" | "AH"));
    match text(findings, s) {
        Some("AH") => instance.ah = true,
        Some("PASS") | None => {}
        Some(word) => invalid(
            findings,
            s,
            format!("{word} is no auth_type"),
            "write PASS or AH; keepalived goes on without",
        ),
    }
}

fn password(instance: &mut Instance, s: &Statement, findings: &mut Findings) {
    let Some(word) = text(findings, s) else { return };
    if word.len() > 8 {
        let remedy = "keepalived cuts it as well: write 8 characters at most";
        invalid(findings, s, "of auth_pass the first 8 characters count", remedy);
    }
    let end = (0..=8).rev().find(|end| word.is_char_boundary(*end)).unwrap_or(0);
    instance.password = Some(word[..end].to_owned());
}

/// All are of the family of the first.
fn addresses(instance: &mut Instance, s: &Statement, findings: &mut Findings) {
    for line in s.inner() {
        let Some(address) = address::read(line, findings) else { continue };
        let first = instance.addresses.first().map(|first| first.net.addr().is_ipv6());
        if first.is_some_and(|ipv6| ipv6 != address.net.addr().is_ipv6()) {
            let what = format!("{} is not of the family of the first address", address.net.addr());
            invalid(
                findings,
                line,
                what,
                "keepalived leaves it out: write it into virtual_ipaddress_excluded",
            );
            continue;
        }
        instance.addresses.push(address);
    }
}

/// keepalived overlooks a prefix length.
fn host(findings: &mut Findings, s: &Statement, word: &str) -> Option<std::net::IpAddr> {
    let host = address(findings, s, word.split('/').next().unwrap_or(word))?;
    if host.is_multicast() || host.is_unspecified() {
        let what = format!("{host} is no host's address, and is left out");
        findings.add(Kind::Missing, &s.at, what, "name a host by its own address");
        return None;
    }
    Some(host)
}

fn is_interface(name: &str, s: &Statement, findings: &mut Findings) -> bool {
    let legal = (1..=15).contains(&name.len()) && !name.contains('/');
    if !legal {
        let what = format!("{name} is no name of an interface");
        invalid(findings, s, what, "write at most 15 characters, none of them /");
    }
    legal
}

fn vmac(instance: &mut Instance, s: &Statement, findings: &mut Findings) {
    instance.vmac = Some(None);
    for word in s.args.iter().map(|word| &word.text) {
        if let Some(mac) = mac(word) {
            let remedy = "leave it out: the standard's is the same on all hosts, as clients need it";
            match mac[0] & 1 {
                1 => invalid(
                    findings,
                    s,
                    format!("{word} is a multicast MAC"),
                    "keepalived overlooks it as well: remove it",
                ),
                _ => findings.add(
                    Kind::Missing,
                    &s.at,
                    format!("a MAC of one's own ({word}) has no equivalent"),
                    remedy,
                ),
            }
        } else if is_interface(word, s, findings) {
            instance.vmac = Some(Some(word.clone()));
        }
    }
}

fn mac(word: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> =
        word.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect::<Option<_>>()?;
    bytes.try_into().ok()
}

fn peer(instance: &mut Instance, line: &Statement, findings: &mut Findings) {
    let Some(peer) = host(findings, line, &line.key) else { return };
    let limit = |pair: &[Word]| match pair {
        [word, value] => {
            matches!(&*word.text, "min_ttl" | "max_ttl")
                && parse_number(&value.text).is_some_and(|n| (0..=255).contains(&n))
        }
        _ => false,
    };
    if !line.args.chunks(2).all(limit) {
        let what = format!("{} is not as a peer is written", line.words());
        invalid(findings, line, what, "write ADDRESS [min_ttl N] [max_ttl N], one a line");
    } else if !line.args.is_empty() {
        let what = format!("limits of the TTL have no equivalent: {}", line.words());
        findings.add(Kind::Missing, &line.at, what, "limit who may send protocol 112 by the firewall");
    }
    instance.peers.push((line.at.clone(), peer));
}

fn complete(instance: &Instance, s: &Statement, findings: &mut Findings) {
    let name = &instance.name;
    if instance.vrid.is_none() {
        invalid(
            findings,
            s,
            format!("{name} has no virtual_router_id"),
            "keepalived leaves the instance out: write one from 1 to 255",
        );
    }
    if instance.interface.as_deref() == Some("lo") {
        let remedy = "VRRP needs a link with other hosts: name that interface";
        invalid(findings, s, format!("{name} is on the loopback interface"), remedy);
    }
    if let Some(at) = instance.unicast.as_ref().filter(|_| instance.peers.is_empty()) {
        let what = format!("{name} is unicast and names no unicast_peer, so its adverts go by multicast");
        findings.add(Kind::Invalid, at, what, "name the peers, or remove what is for unicast alone");
    }
    match (&instance.vmac, &instance.xmit_base) {
        (Some(_), None) if !instance.peers.is_empty() => {
            let remedy = "keepalived sends from the interface itself then: write vmac_xmit_base as well";
            invalid(findings, s, format!("{name} has a virtual MAC and unicast peers"), remedy);
        }
        (None, Some(at)) => {
            let what = format!("{name}: vmac_xmit_base is for a virtual MAC");
            findings.add(Kind::Invalid, at, what, "remove it, or write use_vmac");
        }
        _ => {}
    }
    let ipv4 = instance.addresses.first().is_some_and(|address| address.net.addr().is_ipv4());
    if let Some(at) = instance.ipvlan.as_ref().filter(|_| ipv4) {
        let what = format!("{name}: an ipvlan of IPv4 needs an address of its own");
        findings.add(
            Kind::Invalid,
            at,
            what,
            "keepalived does not run it: write its address after use_ipvlan",
        );
    }
    if instance.addresses.is_empty() {
        let (what, remedy) = match instance.excluded.is_empty() {
            false => ("", "it advertises none: those in virtual_ipaddress_excluded are not told"),
            true => (
                " and is left out, with what it tracks and notifies",
                "keepalived elects a master of nothing: give it an address",
            ),
        };
        invalid(findings, s, format!("{name} has no address in virtual_ipaddress{what}"), remedy);
    }
}
