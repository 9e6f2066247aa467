//! `--mode vrrp`: a virtual router for each instance, which speaks as keepalived did.

use super::super::finding::Kind;
use super::super::model::{Global, Instance, Model, Track, TrackKind};
use super::checks::{Names, weight};
use super::{Doc, MAX_NAME, is_vip_name};
use crate::config::parse::vrrp::{MAX_ADDRESSES, MAX_EXCLUDED};
use std::time::Duration;

pub fn write(doc: &mut Doc<'_>, model: &Model) {
    doc.head(model);
    let mail = doc.mail(model);
    doc.fifo(model);
    routers(doc, model, mail, "");
}

/// `end`: of their names.
pub fn routers(doc: &mut Doc<'_>, model: &Model, mail: bool, end: &str) {
    let instances: Vec<&Instance> = usable(doc, &model.instances);
    let tracks: Vec<Vec<Track>> = instances.iter().map(|instance| tracks(doc, model, instance)).collect();
    let names = doc.checks(model, tracks.iter().flatten(), false);
    let alert = mail && model.global.smtp_alert.unwrap_or(false);
    for group in model.groups.iter().filter(|group| !group.members.is_empty()) {
        let notify = &group.notify;
        if notify.programs().next().is_some() || notify.smtp_alert == Some(true) {
            doc.table("[[group]]", &group.comments);
            doc.key("name", group.name.clone());
            doc.notify(notify, false);
        }
    }
    for (instance, tracks) in instances.into_iter().zip(&tracks) {
        router(doc, model, instance, (tracks, &names), alert, end);
    }
}

/// The address owner's priority never changes, so nothing with a weight counts for it.
fn tracks(doc: &mut Doc<'_>, model: &Model, instance: &Instance) -> Vec<Track> {
    let mut tracks = doc.tracks(model, instance);
    if instance.own_priority() == 255 {
        tracks.retain(|track| {
            let counts = track.kind == TrackKind::Process || weight(model, track) == 0;
            if !counts {
                let what = format!("{}: {} is not tracked, for 255 is no sum", instance.name, track.name);
                let remedy = "keepalived overlooks it as well: write priority 254, or weight 0";
                doc.add(Kind::Invalid, &track.at, what, remedy);
            }
            counts
        });
    }
    tracks
}

/// What keepalived would run as well.
fn usable<'m>(doc: &mut Doc<'_>, instances: &'m [Instance]) -> Vec<&'m Instance> {
    let mut kept: Vec<&Instance> = Vec::new();
    for instance in instances {
        let key = |instance: &Instance| (instance.vrid, instance.is_ipv6(), instance.interface.clone());
        let what = if instance.vrid.is_none() {
            continue; // told already
        } else if instance.interface.is_none() {
            format!("{} names no interface", instance.name)
        } else if instance.addresses.is_empty() && instance.excluded.is_empty() {
            continue;
        } else if let Some(other) = kept.iter().find(|other| key(other) == key(instance)) {
            format!("{} has the VRID of {} on the same interface", instance.name, other.name)
        } else {
            kept.push(instance);
            continue;
        };
        doc.add(
            Kind::Invalid,
            &instance.at,
            format!("{what}; it is left out"),
            "mend it in the keepalived.conf",
        );
    }
    kept
}

impl Instance {
    pub fn is_ipv6(&self) -> bool {
        self.addresses.first().or(self.excluded.first()).is_some_and(|address| address.net.addr().is_ipv6())
    }
}

fn router(
    doc: &mut Doc<'_>,
    model: &Model,
    i: &Instance,
    (tracks, names): (&[Track], &Names),
    alert: bool,
    end: &str,
) {
    let global = &model.global;
    let interface = i.interface.as_deref();
    if doc.addresses.len() + i.addresses.len() + i.excluded.len() > MAX_ADDRESSES {
        let what = format!("{} is left out: with its addresses there are more than {MAX_ADDRESSES}", i.name);
        return doc.add(Kind::Missing, &i.at, what, "that many are guarded on one host: use a second one");
    }
    let (excluded, more) = i.excluded.split_at(i.excluded.len().min(MAX_EXCLUDED));
    if let Some(first) = more.first() {
        let what = format!("{} and those after it are left out", first.net.addr());
        let remedy =
            format!("at most {MAX_EXCLUDED} are excluded: give the others a virtual router of their own");
        doc.add(Kind::Missing, &first.at, what, remedy);
    }
    let addresses = doc.addresses(&i.addresses, interface);
    let excluded = doc.addresses(excluded, interface);
    if addresses.is_empty() && excluded.is_empty() {
        return doc.add(
            Kind::Missing,
            &i.at,
            format!("{} is left out: no address is left", i.name),
            "give it an address of its own",
        );
    }
    doc.table("[[vrrp]]", &i.comments);
    let name = match end {
        "" => doc.name(&i.at, &i.name, MAX_NAME, is_vip_name),
        end => doc.derived(&i.name, end),
    };
    doc.key("name", name);
    doc.key("interface", interface.unwrap_or_default());
    doc.key("vrid", i64::from(i.vrid.unwrap_or_default()));
    let version = version(doc, global, i);
    doc.key("version", i64::from(version));
    let priority = i.own_priority();
    doc.key("priority", i64::from(priority));
    let interval = interval(doc, i, version);
    doc.span("advert_interval", interval);
    if i.is_master() {
        doc.key("state", "master");
    }
    doc.texts("addresses", addresses);
    doc.texts("excluded", excluded);
    secrets(doc, i, version, i.strict.unwrap_or(global.strict));
    peers(doc, i);
    preemption(doc, i, global, priority);
    let strict = i.strict.unwrap_or(global.strict);
    if !i.accept.unwrap_or(!strict) && priority != 255 {
        doc.key("accept", false);
        if strict && i.accept.is_none() {
            let what = format!(
                "{}: strict mode takes no packets for the addresses, so nginx cannot serve them",
                i.name
            );
            doc.add(Kind::Differs, &i.at, what, "carried as it is: write accept = true if clients ask them");
        }
    }
    if i.plain_checksum && version == 3 {
        doc.key("checksum_pseudo_header", false);
    }
    if let Some(own) = &i.vmac {
        doc.key("virtual_mac", true);
        if let Some(own) = own {
            doc.key("virtual_mac_interface", own.clone());
        }
    }
    if let Some(group) = model.groups.iter().find(|group| group.has(&i.name)) {
        doc.key("group", group.name.clone());
    }
    if let Some(refresh) = i.garp_refresh.or(global.garp_refresh).filter(|refresh| !refresh.is_zero()) {
        doc.span("announce_refresh", refresh.min(Duration::from_secs(3600)));
    }
    doc.key("track", names.list(tracks));
    doc.ways(&i.routes, &i.rules, i.is_ipv6());
    doc.notify(&i.notify, alert);
}

/// IPv6 knows no version 2.
fn version(doc: &mut Doc<'_>, global: &Global, i: &Instance) -> u8 {
    let asked = i.version.or(global.version);
    if i.is_ipv6() {
        if i.version == Some(2) {
            doc.add(
                Kind::Differs,
                &i.at,
                format!("{}: IPv6 takes version 3", i.name),
                "keepalived does so as well",
            );
        }
        return 3;
    }
    asked.unwrap_or(2)
}

fn interval(doc: &mut Doc<'_>, i: &Instance, version: u8) -> Duration {
    let Some((at, asked)) = &i.advert_int else { return Duration::from_secs(1) };
    let millis = u64::try_from(asked.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
    let can = match version {
        2 => Duration::from_secs((millis + 500).div_euclid(1000).clamp(1, 255)),
        _ => Duration::from_millis((millis.div_ceil(10) * 10).clamp(10, 40_950)),
    };
    if can != *asked {
        let what =
            format!("{}: advert_int becomes {} s, what version {version} can say", i.name, can.as_secs_f64());
        doc.add(Kind::Invalid, at, what, "write whole seconds (version 2), or 0.01 to 40.95 (version 3)");
    }
    can
}

fn secrets(doc: &mut Doc<'_>, i: &Instance, version: u8, strict: bool) {
    let Some(password) = &i.password else { return };
    let remedy = "keepalived sends none either; the hosts of a group must agree";
    if !i.authenticated {
        let what = format!("{}: its password is left out, for no known auth_type stands beside it", i.name);
        return doc.add(Kind::Differs, &i.at, what, remedy);
    }
    if strict && version == 2 {
        let what = format!("{}: its password is left out, for strict mode has no authentication", i.name);
        return doc.add(Kind::Differs, &i.at, what, remedy);
    }
    if version == 3 {
        let what = format!("{}: version 3 has no authentication", i.name);
        return doc.add(Kind::Invalid, &i.at, what, "keepalived leaves it out as well: remove it");
    }
    if !password.is_ascii() || password.is_empty() {
        let what = format!("{}: its auth_pass is not ASCII", i.name);
        return doc.add(Kind::Missing, &i.at, what, "choose another on all hosts");
    }
    doc.key("password", password.clone());
    if i.ah {
        doc.key("authentication", "ah");
    }
}

fn peers(doc: &mut Doc<'_>, i: &Instance) {
    let fits = |ip: &std::net::IpAddr| ip.is_ipv6() == i.is_ipv6();
    let mut kept = Vec::new();
    for (at, peer) in &i.peers {
        match fits(peer) {
            true => kept.push(peer.to_string()),
            false => doc.add(
                Kind::Invalid,
                at,
                format!("{peer} is not of the addresses' family"),
                "it is left out",
            ),
        }
    }
    doc.texts("unicast_peers", kept);
    match &i.source {
        Some((_, source)) if fits(source) => doc.key("source", source.to_string()),
        Some((at, source)) => {
            doc.add(Kind::Invalid, at, format!("{source} is not of the addresses' family"), "it is left out")
        }
        None => {}
    }
}

/// Each of them needs an instance that begins as backup.
fn preemption(doc: &mut Doc<'_>, i: &Instance, global: &Global, priority: u8) {
    let eager = i.is_master() || priority == 255;
    match &i.nopreempt {
        Some(at) if eager => {
            let what = format!("{}: nopreempt does nothing with state MASTER or priority 255", i.name);
            doc.add(
                Kind::Invalid,
                at,
                what,
                "write state BACKUP on all hosts; keepalived overlooks nopreempt as well",
            );
        }
        Some(_) => doc.key("preempt", false),
        None => {}
    }
    let strict = i.strict.unwrap_or(global.strict);
    match &i.preempt_delay {
        Some((at, delay)) if !delay.is_zero() && (eager || strict || i.nopreempt.is_some()) => {
            let what =
                format!("{}: preempt_delay does nothing with MASTER, nopreempt or strict mode", i.name);
            doc.add(Kind::Invalid, at, what, "remove it; keepalived overlooks it as well");
        }
        Some((_, delay)) if !delay.is_zero() => doc.span("preempt_delay", *delay),
        _ => {}
    }
}
