//! Statements become the model: keepalived's words, ranges and defaults. What it refuses is noted and left out, as it
//! leaves it out.

mod address;
mod global;
mod instance;
mod tracking;
mod way;

use super::bfd;
use super::finding::{Findings, Kind};
use super::grammar::{self, GROUP, Level, ROOT, other, shape};
use super::lvs::{self, Target};
use super::model::{Group, Model, Notify};
use super::tree::Statement;
use super::value::{boolean, command, invalid};
use std::collections::BTreeSet;

pub fn model(mut statements: Vec<Statement>, findings: &mut Findings) -> Model {
    let mut model = Model::default();
    way::number(&mut statements, findings);
    for statement in &statements {
        let block = statement.key != "virtual_server" || statement.body.is_some();
        match statement.key.as_str() {
            _ if !ROOT.read.contains(&statement.key.as_str()) => {
                model.comments.extend(statement.comments.iter().cloned());
                other(&ROOT, statement, findings);
            }
            _ if !shape(statement, block, findings) => {}
            "global_defs" => global::read(&mut model.global, statement, findings),
            "vrrp_instance" => instance::read(&mut model, statement, findings),
            "vrrp_sync_group" => group(&mut model, statement, findings),
            "virtual_server" => {
                model.virtual_servers.extend(lvs::server(statement, findings));
                model.comments.extend(all_comments(statement));
            }
            "virtual_server_group" => {
                model.server_groups.extend(lvs::group(statement, findings));
                model.comments.extend(all_comments(statement));
            }
            "bfd_instance" => {
                bfd::check(statement, findings);
                model.bfds.extend(name(statement, findings).map(str::to_owned));
                let remedy = "watch the way out with a [[check]] of kind \"gateway\"";
                findings.add(Kind::Missing, &statement.at, "a bfd_instance has no equivalent", remedy);
            }
            _ => tracking::tracker(&mut model, statement, findings),
        }
    }
    settle(&mut model, findings);
    model
}

/// A block's own comments, and those of what is in it.
fn all_comments(statement: &Statement) -> Vec<String> {
    let inner = statement.inner().iter().flat_map(all_comments);
    statement.comments.iter().cloned().chain(inner).collect()
}

fn name<'s>(statement: &'s Statement, findings: &mut Findings) -> Option<&'s str> {
    if statement.arg(0).is_none() {
        let what = format!("{} has no name", statement.key);
        let spared = matches!(statement.key.as_str(), "vrrp_instance" | "vrrp_sync_group");
        let kind = if spared { Kind::Invalid } else { Kind::Fatal }; // keepalived does not start
        findings.add(kind, &statement.at, what, "write one after it, or remove the block");
    }
    statement.arg(0)
}

/// What only all of the file can tell.
fn settle(model: &mut Model, findings: &mut Findings) {
    for server in &model.virtual_servers {
        let Target::Group(name) = &server.target else { continue };
        let group = model.server_groups.iter().find(|group| group.name == *name);
        let other = |port: &u16| server.real_servers.iter().any(|real| real.port != *port);
        if let Some(port) = group.and_then(|group| group.ports().find(other)) {
            lvs::ports(server, port, findings);
        }
    }
    let Model { groups, instances, .. } = model;
    for group in groups.iter_mut() {
        group.members.retain(|(at, name)| {
            let known = instances.iter().any(|instance| instance.name == *name);
            if !known {
                let what = format!("the sync group {} names {name}, which is no instance", group.name);
                findings.add(Kind::Invalid, at, what, "it is left out: mend the name, or remove it");
            }
            known
        });
    }
    for at in 0..groups.len() {
        let (before, rest) = groups.split_at_mut(at);
        let Some(group) = rest.first_mut() else { continue };
        let mut own = BTreeSet::new();
        group.members.retain(|(at, name)| {
            let taken = !own.insert(name.clone())
                || before.iter().any(|other| other.members.iter().any(|(_, member)| member == name));
            if taken {
                let what = format!("{name} is in a sync group already");
                findings.add(Kind::Invalid, at, what, "an instance is in one group at most");
            }
            !taken
        });
        let (what, remedy) = match group.members.len() {
            0 => ("no instance", "it is left out: remove it, or name its instances"),
            1 => ("one instance alone", "what it tracks and notifies counts all the same: name the others"),
            _ => continue,
        };
        let what = format!("the sync group {} has {what}", group.name);
        findings.add(Kind::Invalid, &group.at, what, remedy);
    }
}

fn group(model: &mut Model, statement: &Statement, findings: &mut Findings) {
    let Some(name) = name(statement, findings) else { return };
    if model.groups.iter().any(|group| group.name == name) {
        let what = format!("the sync group {name} is there already");
        return invalid(
            findings,
            statement,
            what,
            "keepalived leaves the second one out: give it another name",
        );
    }
    let mut group = Group {
        at: statement.at.clone(),
        comments: all_comments(statement),
        name: name.to_owned(),
        members: Vec::new(),
        tracks: Vec::new(),
        notify: Notify::default(),
        weights: false,
    };
    for inner in statement.inner() {
        match inner.key.as_str() {
            "group" if shape(inner, true, findings) => {
                for member in inner.inner() {
                    let names = std::iter::once(member.key.as_str())
                        .chain(member.args.iter().map(|word| &*word.text));
                    group.members.extend(names.map(|name| (member.at.clone(), name.to_owned())));
                }
            }
            "group" => {}
            "track_bfd" => {
                bfd::tracked(&model.bfds, inner, findings);
                other(&GROUP, inner, findings);
            }
            "sync_group_tracking_weight" => group.weights = true,
            "track_interface" | "track_script" | "track_file" | "track_process" => {
                tracking::tracks(&mut group.tracks, &model.trackers, inner, findings);
            }
            _ => notify(&mut group.notify, &GROUP, inner, findings),
        }
    }
    model.groups.push(group);
}

/// The `notify_…` of instances and groups, and what they have no use for.
fn notify(notify: &mut Notify, level: &Level, statement: &Statement, findings: &mut Findings) {
    let place = match statement.key.as_str() {
        "notify_master" => &mut notify.master,
        "notify_backup" => &mut notify.backup,
        "notify_fault" => &mut notify.fault,
        "notify_stop" => &mut notify.stop,
        "notify" => &mut notify.any,
        "smtp_alert" => {
            notify.smtp_alert = boolean(findings, statement).or(notify.smtp_alert);
            return;
        }
        _ => return grammar::other(level, statement, findings),
    };
    if place.is_some() {
        return invalid(
            findings,
            statement,
            format!("{} is given twice", statement.key),
            "keepalived runs the first one: remove this one",
        );
    }
    *place = command(findings, statement);
}
