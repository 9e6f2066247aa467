//! What is told, in the words of each way.

use crate::config::Config;
use crate::config::hooks::{Notify, Words};
use crate::engine::hooks::{Changed, Kind, Part};
use serde::Serialize;

/// Raised when a key changes its meaning or goes.
const SCHEMA: u32 = 1;
/// keepalived's readers take no longer line.
const MAX_LINE: usize = 1024;

/// What a hook learns: as JSON, and as its environment.
#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    schema: u32,
    hook: &'a str,
    node: &'a str,
    vip: &'a str,
    /// Without prefix length.
    addresses: Vec<String>,
    state: &'static str,
    old_owner: &'a str,
    new_owner: &'a str,
    epoch: u64,
    reason: &'a str,
}

impl<'a> Message<'a> {
    /// `None`: the VIP is configured no more.
    pub fn new(config: &'a Config, hook: &'a str, changed: &'a Changed) -> Option<Message<'a>> {
        let vip = config.all_vips().find(|vip| vip.name == changed.name)?;
        Some(Message {
            schema: SCHEMA,
            hook,
            node: &config.node.name,
            vip: &changed.name,
            addresses: vip.all().map(|address| address.ip().to_string()).collect(),
            state: changed.part.word(),
            old_owner: &changed.old_owner,
            new_owner: &changed.new_owner,
            epoch: changed.epoch,
            reason: &changed.reason,
        })
    }

    /// One line.
    pub fn json(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    pub fn environment(&self) -> Vec<(&'static str, String)> {
        [
            ("HACLUSTERD_HOOK", self.hook.to_owned()),
            ("HACLUSTERD_NODE", self.node.to_owned()),
            ("HACLUSTERD_VIP", self.vip.to_owned()),
            ("HACLUSTERD_ADDRESSES", self.addresses.join(" ")),
            ("HACLUSTERD_STATE", self.state.to_owned()),
            ("HACLUSTERD_OLD_OWNER", self.old_owner.to_owned()),
            ("HACLUSTERD_NEW_OWNER", self.new_owner.to_owned()),
            ("HACLUSTERD_EPOCH", self.epoch.to_string()),
            ("HACLUSTERD_REASON", self.reason.to_owned()),
        ]
        .map(|(key, value)| (key, value.replace('\0', " ")))
        .into()
    }
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Vip | Kind::Router => "INSTANCE",
        Kind::Group => "GROUP",
    }
}

/// keepalived's line, `INSTANCE "VI_1" MASTER 100`.
pub(super) fn fifo_line(changed: &Changed) -> String {
    let Changed { kind, name, part, priority, .. } = changed;
    let mut line = format!("{} \"{name}\" {} {priority}\n", kind_word(*kind), part.vrrp());
    line.truncate(MAX_LINE); // names are short
    line
}

/// The programs that keepalived would run, in its order.
pub(super) fn programs(notify: &Notify, changed: &Changed) -> Vec<Words> {
    let own = match changed.part {
        Part::Owner => &notify.master,
        Part::Backup => &notify.backup,
        Part::Fault => &notify.fault,
        Part::Stop => &notify.stop,
    };
    let more = [kind_word(changed.kind), &changed.name, changed.part.vrrp(), &changed.priority.to_string()]
        .map(str::to_owned);
    let any = notify.any.as_ref().map(|words| words.iter().cloned().chain(more).collect());
    own.iter().cloned().chain(any).collect()
}

/// Whose notifies are to be told of this.
pub(super) fn notify_of<'c>(config: &'c Config, changed: &Changed) -> Option<&'c Notify> {
    let named = |name: &String| *name == changed.name;
    match changed.kind {
        Kind::Vip => config.vips.iter().find(|vip| named(&vip.name)).map(|vip| &vip.notify),
        Kind::Router => config.routers.iter().find(|r| named(&r.vip.name)).map(|r| &r.vip.notify),
        Kind::Group => config.groups.iter().find(|group| named(&group.name)).map(|group| &group.notify),
    }
}

/// A `[[vrrp]]` of both families is a group that nobody has named.
pub(super) fn is_unnamed(config: &Config, changed: &Changed) -> bool {
    let same = |name: &String| *name == changed.name;
    changed.kind == Kind::Group
        && config.routers.iter().any(|router| same(&router.vip.name))
        && !config.groups.iter().any(|group| same(&group.name))
}

/// keepalived's subject, and a text.
pub(super) fn mail(router_id: &str, node: &str, changed: &Changed) -> (String, String) {
    let Changed { kind, name, part, reason, .. } = changed;
    let what = if *kind == Kind::Group { "Group" } else { "Instance" };
    let subject = format!("[{router_id}] VRRP {what} {name} - Entering {} state", part.vrrp());
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    (subject, format!("{name} is {} on {node}{why}\r\n", part.vrrp()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn changed(kind: Kind, name: &str, part: Part) -> Changed {
        Changed {
            kind,
            name: name.into(),
            part,
            priority: 100,
            old_owner: "lb2".into(),
            new_owner: "lb1".into(),
            epoch: 7,
            reason: "priority 100 > 90".into(),
        }
    }

    fn config() -> Config {
        let text = "[node]\nname = 'lb1'\nlisten = '10.0.0.1'\ninterface = 'eth0'\n\
                    [[vip]]\nname = 'web'\naddresses = ['10.0.0.9/24', 'fd00::9']\nnotify_master = ['/m', 'a']\nnotify = ['/n', 'b c']\n\
                    [[vrrp]]\nname = 'both'\nvrid = 1\naddresses = ['10.0.0.8', 'fd00::8']";
        Config::parse(text, Path::new("t")).unwrap()
    }

    #[test]
    fn programs_get_keepaliveds_words() {
        let config = config();
        let words = |kind, part| {
            let changed = changed(kind, "web", part);
            let all = programs(&config.vips[0].notify, &changed);
            (all.iter().map(|words| words.join("|")).collect::<Vec<_>>(), fifo_line(&changed))
        };
        let (all, line) = words(Kind::Vip, Part::Owner);
        assert_eq!(all, ["/m|a", "/n|b c|INSTANCE|web|MASTER|100"]);
        assert_eq!(line, "INSTANCE \"web\" MASTER 100\n");
        let (all, line) = words(Kind::Group, Part::Fault);
        assert_eq!(all, ["/n|b c|GROUP|web|FAULT|100"]);
        assert_eq!(line, "GROUP \"web\" FAULT 100\n");
    }

    #[test]
    fn a_hook_learns_the_same_by_json_and_by_its_environment() {
        let config = config();
        let changed = changed(Kind::Vip, "web", Part::Owner);
        let message = Message::new(&config, "cloud", &changed).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&message.json()).unwrap();
        for (key, value) in message.environment() {
            let key = key.trim_start_matches("HACLUSTERD_").to_lowercase();
            let shown = match &json[&key] {
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Array(all) => {
                    all.iter().map(|one| one.as_str().unwrap()).collect::<Vec<_>>().join(" ")
                }
                other => other.to_string(),
            };
            assert_eq!(shown, value, "{key}");
        }
        assert_eq!(
            (&json["schema"], &json["addresses"][1], &json["state"]),
            (&1.into(), &"fd00::9".into(), &"owner".into())
        );
        assert_eq!(json.as_object().unwrap().len(), message.environment().len() + 1);
    }

    #[test]
    fn a_group_that_nobody_named_is_not_told_of() {
        assert!(is_unnamed(&config(), &changed(Kind::Group, "both", Part::Owner)));
        assert!(!is_unnamed(&config(), &changed(Kind::Router, "both", Part::Owner)));
    }

    #[test]
    fn a_mail_has_keepaliveds_subject() {
        let (subject, text) = mail("R1", "lb1", &changed(Kind::Router, "VI_1", Part::Owner));
        assert_eq!(subject, "[R1] VRRP Instance VI_1 - Entering MASTER state");
        assert_eq!(text, "VI_1 is MASTER on lb1: priority 100 > 90\r\n");
        let (subject, _) = mail("R1", "lb1", &changed(Kind::Group, "G1", Part::Fault));
        assert_eq!(subject, "[R1] VRRP Group G1 - Entering FAULT state");
    }
}
