//! `--mode cluster`: a VIP for each instance, or for each sync group; the cluster elects by one priority a node.
//! `--mode both`: VIPs on their way there, with the virtual routers that they come from.

use super::super::finding::Kind;
use super::super::model::{Group, Instance, Model, Notify, Track, Way};
use super::{Doc, MAX_NAME, is_vip_name, vrrp};
use haclusterd_proto::cluster::MAX_VIPS;
use std::time::Duration;

/// What the name of a virtual router ends with whose VIP is there as well.
const ON_THE_WAY: &str = "-vrrp";

pub fn write(doc: &mut Doc<'_>, model: &Model) {
    let (instances, mail) = begin(doc, model);
    for (at, vip) in together(doc, model, &instances).into_iter().enumerate() {
        if at == MAX_VIPS {
            doc.add(
                Kind::Missing,
                &vip.instances[0].at,
                format!("a cluster has at most {MAX_VIPS} VIPs; the rest is left out"),
                "write addresses that move together into one",
            );
            break;
        }
        write_vip(doc, &vip, mail && model.global.smtp_alert.unwrap_or(false));
    }
    let tracks: Vec<Track> = tracks(doc, model, &instances);
    doc.checks(model, tracks.iter(), true);
}

/// VRRP decides until it is taken away, so notifies are those of the virtual routers.
pub fn write_both(doc: &mut Doc<'_>, model: &Model) {
    let (instances, mail) = begin(doc, model);
    for instance in instances {
        let alone = model.groups.iter().all(|group| group.is_alone() || !group.has(&instance.name));
        let ways = !instance.routes.is_empty() || !instance.rules.is_empty();
        let whole = instance.excluded.is_empty() && !instance.addresses.is_empty() && !ways;
        if !alone || instance.vmac.is_some() || !whole {
            let what =
                format!("{} goes over with an outage, and is a virtual router until then", instance.name);
            let remedy = "without an outage go instances in no sync group, with no virtual MAC, excluded addresses, routes or rules";
            doc.add(Kind::Missing, &instance.at, what, remedy);
            continue;
        }
        let addresses = doc.addresses(&instance.addresses, instance.interface.as_deref());
        for address in &instance.addresses {
            doc.addresses.remove(&address.net.addr());
        }
        doc.table("[[vip]]", &[]);
        let name = doc.name(&instance.at, &instance.name, MAX_NAME - ON_THE_WAY.len(), is_vip_name);
        doc.key("name", name);
        doc.key("addresses", addresses);
        doc.key("interface", instance.interface.clone().unwrap_or_default());
    }
    vrrp::routers(doc, model, mail, ON_THE_WAY);
}

/// Everything above the VIPs; which instances they are made of, and whether there is a mail server.
fn begin<'m>(doc: &mut Doc<'_>, model: &'m Model) -> (Vec<&'m Instance>, bool) {
    doc.head(model);
    let instances: Vec<&Instance> = usable(doc, &model.instances);
    place(doc, &instances);
    let _ = std::fmt::Write::write_str(
        &mut doc.text,
        "\n# An advert each 50 ms, a lease of 500 ms. The same on every node, and so are the VIPs.\n[cluster]\nprofile = \"lan\"\n",
    );
    let mail = doc.mail(model);
    doc.fifo(model);
    (instances, mail)
}

fn usable<'m>(doc: &mut Doc<'_>, instances: &'m [Instance]) -> Vec<&'m Instance> {
    let (good, bad): (Vec<_>, Vec<_>) = instances.iter().partition(|instance| {
        instance.interface.is_some() && !(instance.addresses.is_empty() && instance.excluded.is_empty())
    });
    for instance in bad.into_iter().filter(|instance: &&Instance| instance.interface.is_none()) {
        doc.add(
            Kind::Invalid,
            &instance.at,
            format!("{} names no interface; it is left out", instance.name),
            "mend it in the keepalived.conf",
        );
    }
    good
}

/// The node's priority and interface.
fn place(doc: &mut Doc<'_>, instances: &[&Instance]) {
    let Some(first) = instances.first() else { return };
    let own = first.own_priority().min(254);
    doc.key("priority", i64::from(own));
    doc.key("interface", first.interface.clone().unwrap_or_default());
    for other in instances.iter().filter(|other| other.own_priority() != own) {
        let what = format!(
            "{} has the priority {}, and a node has one for all VIPs: {own}",
            other.name,
            other.own_priority()
        );
        doc.add(
            Kind::Differs,
            &other.at,
            what,
            "VIPs that are to be spread over the nodes: stay with --mode vrrp for now",
        );
    }
    for other in instances {
        let said = |what: &str| format!("{}: {what}", other.name);
        let at = &other.at;
        if other.password.is_some() {
            doc.add(
                Kind::Note,
                at,
                said("no password is needed"),
                "all is encrypted, and each node has a key of its own",
            );
        }
        if !other.peers.is_empty() || other.source.is_some() {
            doc.add(Kind::Note, at, said("no peers are named"), "nodes find each other: haclusterd join");
        }
        if other.advert_int.is_some() {
            doc.add(Kind::Note, at, said("advert_int is the cluster's"), "[cluster] profile");
        }
        if other.vmac.is_some() {
            doc.add(
                Kind::Missing,
                at,
                said("a VIP of the cluster has no virtual MAC"),
                "clients learn the new one by gratuitous ARP; or stay with --mode vrrp",
            );
        }
        if other.accept == Some(false) {
            doc.add(
                Kind::Missing,
                at,
                said("a VIP of the cluster always takes packets"),
                "filter them by the firewall",
            );
        }
    }
}

struct Vip<'m> {
    name: String,
    instances: Vec<&'m Instance>,
    comments: Vec<String>,
    notify: Notify,
}

fn together<'m>(doc: &mut Doc<'_>, model: &Model, instances: &[&'m Instance]) -> Vec<Vip<'m>> {
    let mut vips: Vec<Vip<'m>> = Vec::new();
    for instance in instances {
        let group = model.groups.iter().find(|group| group.has(&instance.name));
        if let Some(group) = group.filter(|group| group.is_alone()) {
            vips.push(of_one(doc, instance, group));
            continue;
        }
        let name = group.map_or(&instance.name, |group| &group.name);
        match vips.iter_mut().find(|vip| vip.name == *name) {
            Some(vip) => vip.instances.push(instance),
            None => vips.push(Vip {
                name: name.clone(),
                instances: vec![instance],
                comments: group.map(|group| group.comments.clone()).unwrap_or_default(),
                notify: group.map_or(&instance.notify, |group| &group.notify).clone(),
            }),
        }
    }
    vips
}

/// It tells for its group as well.
fn of_one<'m>(doc: &mut Doc<'_>, instance: &'m Instance, group: &Group) -> Vip<'m> {
    let own: Vec<&str> = instance.notify.programs().map(|(key, _)| key).collect();
    for (key, command) in group.notify.programs().filter(|(key, _)| own.contains(key)) {
        let what =
            format!("{key} of the sync group {} is left out: {} has one too", group.name, instance.name);
        doc.add(Kind::Missing, &command.at, what, "let one program do both");
    }
    Vip {
        name: instance.name.clone(),
        instances: vec![instance],
        comments: group.comments.clone(),
        notify: instance.notify.clone().or(group.notify.clone()),
    }
}

fn write_vip(doc: &mut Doc<'_>, vip: &Vip<'_>, alert: bool) {
    let first = vip.instances[0];
    let interface = first.interface.as_deref();
    let mut addresses = Vec::new();
    for instance in &vip.instances {
        for address in instance.addresses.iter().chain(&instance.excluded) {
            let mut address = address.clone();
            address.interface = address.interface.or_else(|| instance.interface.clone());
            addresses.extend(doc.address(&address, interface));
        }
        let own = &instance.notify;
        if vip.instances.len() > 1 && own.programs().next().is_some() {
            let what =
                format!("{}: its own notifies are left out, those of the group are carried", instance.name);
            doc.add(Kind::Missing, &instance.at, what, "let the group's do both");
        }
    }
    if addresses.is_empty() {
        return doc.add(
            Kind::Missing,
            &first.at,
            format!("{} is left out: no address is left", vip.name),
            "give it an address of its own",
        );
    }
    let comments: Vec<String> =
        vip.comments.iter().chain(vip.instances.iter().flat_map(|i| &i.comments)).cloned().collect();
    doc.table("[[vip]]", &comments);
    let name = doc.name(&first.at, &vip.name, MAX_NAME, is_vip_name);
    doc.key("name", name);
    doc.key("addresses", addresses);
    doc.key("interface", interface.unwrap_or_default());
    if vip.instances.iter().any(|instance| instance.nopreempt.is_some() && !instance.is_master()) {
        doc.key("preempt", false);
    } else if let Some((_, delay)) =
        first.preempt_delay.as_ref().filter(|(_, delay)| !delay.is_zero() && !first.is_master())
    {
        doc.span("preempt_delay", *delay);
    }
    if let Some(refresh) = first.garp_refresh.filter(|refresh| !refresh.is_zero()) {
        doc.span("announce_refresh", refresh.min(Duration::from_secs(3600)));
    }
    let all = |of: fn(&Instance) -> &Vec<Way>| -> Vec<Way> {
        vip.instances.iter().flat_map(|instance| of(instance)).cloned().collect()
    };
    let ipv6 = vip.instances.iter().all(|instance| instance.is_ipv6());
    doc.ways(&all(|instance| &instance.routes), &all(|instance| &instance.rules), ipv6);
    doc.notify(&vip.notify, alert);
}

/// Every check counts for all VIPs; a weight that one instance gives it is not another's.
fn tracks(doc: &mut Doc<'_>, model: &Model, instances: &[&Instance]) -> Vec<Track> {
    let all: Vec<Track> = instances.iter().flat_map(|instance| doc.tracks(model, instance)).collect();
    for (at, track) in all.iter().enumerate() {
        let first = all[..at].iter().find(|first| first.kind == track.kind && first.name == track.name);
        if first.is_some_and(|first| (first.weight, first.reverse) != (track.weight, track.reverse)) {
            let what = format!("the weight that the first VIP gives {} is that for all", track.name);
            doc.add(Kind::Differs, &track.at, what, "set `weight` and `reverse` in its [[check]]");
        }
    }
    if let Some(track) = all.iter().find(|track| track.weight.is_some_and(|weight| weight != 0)) {
        let what = "who has a check that is down comes after all who are healthy, whatever the weights";
        doc.add(
            Kind::Note,
            &track.at,
            what,
            "[cluster] strict_health = false: sums decide, as with keepalived",
        );
    }
    let everywhere = |track: &Track| {
        instances.iter().all(|instance| {
            instance.tracks.iter().any(|own| own.kind == track.kind && own.name == track.name)
        })
    };
    for track in all.iter().filter(|track| !everywhere(track) && instances.len() > 1) {
        let what = format!("{} counts for all VIPs here", track.name);
        doc.add(Kind::Differs, &track.at, what, "a node that a check has taken out holds no VIP at all");
    }
    all
}
