//! `vrrp_instance`.

use super::super::finding::{Findings, Kind};
use super::super::grammar::{INSTANCE, shape};
use super::super::model::{Instance, Model, Notify};
use super::super::tree::Statement;
use super::super::value::{address, boolean, invalid, number, seconds, text};
use super::{address, all_comments, global, name, notify, tracking};

const BLOCKS: [&str; 10] = [
    "authentication",
    "virtual_ipaddress",
    "virtual_ipaddress_excluded",
    "virtual_routes",
    "virtual_rules",
    "unicast_peer",
    "track_interface",
    "track_script",
    "track_file",
    "track_process",
];

pub fn read(model: &mut Model, statement: &Statement, findings: &mut Findings) {
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
        if INSTANCE.read.contains(&key) && !shape(inner, BLOCKS.contains(&key), findings) {
            continue;
        }
        match key {
            "track_interface" | "track_script" | "track_file" | "track_process" => {
                tracking::tracks(&mut instance.tracks, &model.trackers, inner, findings);
            }
            _ => one(&mut instance, inner, findings),
        }
    }
    complete(&instance, statement, findings);
    model.instances.push(instance);
}

fn empty(statement: &Statement, name: &str) -> Instance {
    Instance {
        at: statement.at.clone(),
        comments: all_comments(statement),
        name: name.to_owned(),
        master: false,
        interface: None,
        vrid: None,
        priority: None,
        version: None,
        advert_int: None,
        password: None,
        ah: false,
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
        "interface" => instance.interface = text(findings, s).map(str::to_owned),
        "virtual_router_id" => instance.vrid = byte(s, 1, findings).or(instance.vrid),
        "priority" => instance.priority = byte(s, 1, findings).or(instance.priority),
        "version" => instance.version = global::version(s, findings).or(instance.version),
        "advert_int" => {
            let seconds = seconds(findings, s, 0.01..=255.0);
            instance.advert_int =
                seconds.map(|seconds| (s.at.clone(), seconds)).or(instance.advert_int.take());
        }
        "authentication" => s.inner().iter().for_each(|inner| one(instance, inner, findings)),
        "auth_type" => authentication(instance, s, findings),
        "auth_pass" => password(instance, s, findings),
        "virtual_ipaddress" => addresses(instance, s, findings),
        "virtual_ipaddress_excluded" => {
            instance.excluded.extend(s.inner().iter().filter_map(|line| address::read(line, findings)));
        }
        "virtual_routes" => {
            instance.routes.extend(s.inner().iter().map(|line| address::route(line, findings)))
        }
        "virtual_rules" => instance.rules.extend(s.inner().iter().map(address::rule)),
        "unicast_peer" => s.inner().iter().for_each(|line| peer(instance, line, findings)),
        "unicast_src_ip" | "mcast_src_ip" | "vrrp_unicast_bind" => {
            let source = text(findings, s).and_then(|word| address(findings, s, word));
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
        "use_vmac" => instance.vmac = Some(s.arg(0).filter(|word| !word.contains(':')).map(str::to_owned)),
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
    match text(findings, s) {
        Some("MASTER") => instance.master = true,
        Some("BACKUP") | None => {}
        Some(word) => {
            let remedy = "write MASTER or BACKUP; keepalived takes it for BACKUP";
            invalid(findings, s, format!("{word} is no state"), remedy);
        }
    }
}

fn authentication(instance: &mut Instance, s: &Statement, findings: &mut Findings) {
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
        let what = "of auth_pass the first 8 characters count".to_owned();
        findings.add(Kind::Note, &s.at, what, "keepalived cuts it as well");
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

fn peer(instance: &mut Instance, line: &Statement, findings: &mut Findings) {
    let Some(peer) = address(findings, line, &line.key) else { return };
    if !line.args.is_empty() {
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
    if instance.addresses.is_empty() {
        invalid(
            findings,
            s,
            format!("{name} has no address in virtual_ipaddress"),
            "write one; those in virtual_ipaddress_excluded are not advertised",
        );
    }
}
