//! `notify…`, `[[group]]`, `[notify]`, `[[hook]]` and `[mail]`.

use super::check::{command_line, phrase};
use super::section::{Section, boolean, text, texts};
use super::{SECOND, absolute, table, take, time, vip_name};
use crate::config::error::{Fault, Problems};
use crate::config::hint;
use crate::config::hooks::{Deed, Fifo, Group, Hook, Mail, Notify, Security, Webhook, Words};
use std::time::Duration;
use toml::de::DeValue;

/// Each VIP may have a run of each.
const MAX_HOOKS: usize = 16;
const MAX_RECEIVERS: usize = 16;
const DAY: Duration = Duration::from_secs(24 * 3600);
const USUAL: Duration = Duration::from_secs(30);

type Parsed<T> = Result<T, Fault>;

pub(super) fn notify(s: &mut Section<'_>, problems: &mut Problems<'_>) -> Notify {
    Notify {
        master: s.read(problems, "notify_master", program),
        backup: s.read(problems, "notify_backup", program),
        fault: s.read(problems, "notify_fault", program),
        stop: s.read(problems, "notify_stop", program),
        any: s.read(problems, "notify", program),
        user: s.read(problems, "notify_user", text(phrase)),
        alert: s.read(problems, "smtp_alert", boolean).unwrap_or(false),
    }
}

pub(super) fn groups(file: &mut Section<'_>, problems: &mut Problems<'_>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for mut s in file.tables(problems, "group") {
        let name = s.demand(problems, "name", "\"G1\"", text(vip_name));
        let notify = notify(&mut s, problems);
        if let Some(name) = name {
            if groups.iter().any(|group| group.name == name) {
                let fault = Fault::new(format!("{name} is used twice"), "give each group its own name");
                s.complain(problems, "name", fault);
            }
            groups.push(Group { name, notify });
        }
        s.finish(problems);
    }
    groups
}

pub(super) fn fifo(file: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<Fifo> {
    if !file.has("notify") {
        let _ = file.value("notify");
        return None;
    }
    let mut s = table(file, problems, "notify");
    let path = s.demand(problems, "fifo", "\"/run/haclusterd/notify\"", text(absolute));
    let script = s.read(problems, "fifo_script", program);
    let user = s.read(problems, "user", text(phrase));
    take(&mut s).finish(problems);
    Some(Fifo { path: path?, script, user })
}

/// `vips`: the names that there are.
pub(super) fn hooks(file: &mut Section<'_>, problems: &mut Problems<'_>, vips: &[String]) -> Vec<Hook> {
    let mut hooks: Vec<Hook> = Vec::new();
    for mut s in file.tables(problems, "hook") {
        let hook = hook(&mut s, problems, vips);
        if let Some(hook) = hook {
            if hooks.iter().any(|other| other.name == hook.name) {
                let fault = Fault::new(format!("{} is used twice", hook.name), "give each hook its own name");
                s.complain(problems, "name", fault);
            }
            hooks.push(hook);
        }
        s.finish(problems);
    }
    if hooks.len() > MAX_HOOKS {
        let fault = Fault::new(format!("are {}", hooks.len()), format!("a node has at most {MAX_HOOKS}"));
        file.complain(problems, "hook", fault);
    }
    hooks
}

fn hook(s: &mut Section<'_>, problems: &mut Problems<'_>, known: &[String]) -> Option<Hook> {
    let name = s.demand(problems, "name", "\"cloud\"", text(vip_name));
    let command = s.read(problems, "command", program);
    let webhook = s.read(problems, "webhook", text(webhook));
    let vips = s.read(problems, "vips", texts(|vip| named(vip, known)));
    let user = s.read(problems, "user", text(phrase));
    let timeout = s.read(problems, "timeout", time(Duration::from_millis(100)..=SECOND * 600));
    let reconcile = s.read(problems, "reconcile", time(SECOND..=DAY));
    if s.has("command") == s.has("webhook") {
        let remedy = "write command = [\"/usr/local/sbin/move-address\"] or webhook = \"https://…\"";
        s.complain(problems, "command", Fault::new("and webhook: exactly one of them is needed", remedy));
    }
    if webhook.is_some() && user.is_some() {
        let fault = Fault::new("has no meaning for a webhook", "remove it, or write command = […]");
        s.complain(problems, "user", fault);
    }
    let deed = command.map(Deed::Command).or(webhook.map(Deed::Webhook))?;
    Some(Hook { name: name?, deed, vips, user, timeout: timeout.unwrap_or(USUAL), reconcile })
}

pub(super) fn mail(file: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<Mail> {
    if !file.has("mail") {
        let _ = file.value("mail");
        return None;
    }
    let mut s = table(file, problems, "mail");
    let server = s.demand(problems, "server", "\"mail.example.com:587\"", text(server));
    let security = s.read(problems, "tls", text(security)).unwrap_or(Security::Starttls);
    let from = s.demand(problems, "from", "\"haclusterd@example.com\"", text(mailbox));
    let to = s.demand(problems, "to", "[\"admin@example.com\"]", receivers);
    let hello = s.read(problems, "hello", text(phrase));
    let router_id = s.read(problems, "router_id", text(phrase));
    let timeout = s.read(problems, "timeout", time(SECOND..=SECOND * 600)).unwrap_or(USUAL);
    take(&mut s).finish(problems);
    let (host, port) = server?;
    Some(Mail { host, port, security, from: from?, to: to?, hello, router_id, timeout })
}

/// No shell looks for it.
fn program(value: &DeValue<'_>) -> Parsed<Words> {
    let words = command_line(value)?;
    if words[0].starts_with('/') {
        return Ok(words);
    }
    Err(Fault::new(format!("{:?} is no absolute path", words[0]), "begin the program with /"))
}

fn named(vip: &str, known: &[String]) -> Parsed<String> {
    let all: Vec<&str> = known.iter().map(String::as_str).collect();
    if all.contains(&vip) {
        return Ok(vip.to_owned());
    }
    let remedy = match hint::nearest(vip, &all) {
        Some(near) => format!("did you mean {near}?"),
        None => "name a [[vip]] or a [[vrrp]]".into(),
    };
    Err(Fault::new(format!("{vip} is no VIP of this file"), remedy))
}

fn webhook(text: &str) -> Parsed<Webhook> {
    let fault = || Fault::new(format!("{text:?} is no URL"), "write it as https://HOST[:PORT]/PATH");
    let (scheme, rest) = text.split_once("://").ok_or_else(fault)?;
    let tls = match scheme {
        "https" => true,
        "http" => false,
        _ => return Err(fault()),
    };
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let (host, port) = split_port(authority).unwrap_or((authority, if tls { 443 } else { 80 }));
    let printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !is_host(bare(host)) || !printable(path) || text.len() > 1024 {
        return Err(fault());
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(Webhook { text: text.into(), tls, host: bare(host).into(), port, authority: authority.into(), path })
}

fn server(text: &str) -> Parsed<(String, u16)> {
    let parts = split_port(text).filter(|(host, _)| is_host(bare(host)));
    let parts = parts.map(|(host, port)| (bare(host).to_owned(), port));
    parts.ok_or_else(|| Fault::new(format!("{text:?} is no server"), "write it as HOST:PORT"))
}

/// `None`: there is none.
fn split_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let whole = !host.contains(':') || host.ends_with(']');
    Some((host, port.parse().ok().filter(|port| *port > 0)?)).filter(|_| whole)
}

fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn is_host(host: &str) -> bool {
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    host.parse::<std::net::IpAddr>().is_ok() || ((1..=253).contains(&host.len()) && host.bytes().all(name))
}

fn security(word: &str) -> Parsed<Security> {
    match word {
        "none" => Ok(Security::None),
        "starttls" => Ok(Security::Starttls),
        "tls" => Ok(Security::Tls),
        _ => Err(Fault::new(format!("{word:?} is not known"), "write starttls, tls or none")),
    }
}

pub(in crate::config) fn is_mailbox(text: &str) -> bool {
    let parts = text.rsplit_once('@').filter(|(local, domain)| !local.is_empty() && !domain.is_empty());
    parts.is_some() && text.len() <= 254 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn mailbox(text: &str) -> Parsed<String> {
    is_mailbox(text)
        .then(|| text.to_owned())
        .ok_or_else(|| Fault::new(format!("{text:?} is no mail address"), "write it as admin@example.com"))
}

fn receivers(value: &DeValue<'_>) -> Parsed<Vec<String>> {
    let all: Vec<String> = texts(mailbox)(value)?;
    let ok = (1..=MAX_RECEIVERS).contains(&all.len());
    ok.then_some(all).ok_or_else(|| {
        Fault::new("are none, or too many", format!("name 1 to {MAX_RECEIVERS}, or remove [mail]"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    fn parse(more: &str) -> Result<Config, String> {
        let text = format!(
            "[node]\nname = 'n'\nlisten = '10.0.0.1'\ninterface = 'eth0'\n[[vip]]\nname = 'web'\naddresses = ['10.0.0.9']\n{more}"
        );
        Config::parse(&text, Path::new("t.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn keepaliveds_words_are_read_wherever_they_may_stand() {
        let config = parse(
            "notify = ['/x', 'a b']\nnotify_user = 'nobody:adm'\nsmtp_alert = true\n\
             [[vrrp]]\nname = 'VI_1'\nvrid = 1\naddresses = ['10.0.0.8']\ngroup = 'G'\nnotify_master = '/m'\n\
             [[group]]\nname = 'G'\nnotify_stop = ['/s']\n[notify]\nfifo = '/run/f'\nfifo_script = ['/r']\n\
             [mail]\nserver = '[fd00::1]:25'\nfrom = 'a@b'\nto = 'c@d'",
        )
        .unwrap();
        let vip = &config.vips[0].notify;
        assert_eq!(
            (vip.any.as_deref(), vip.alert),
            (Some(["/x".to_owned(), "a b".to_owned()].as_slice()), true)
        );
        assert_eq!(vip.user.as_deref(), Some("nobody:adm"));
        assert_eq!(config.routers[0].vip.notify.master, Some(vec!["/m".into()]));
        assert_eq!(config.groups[0].notify.stop, Some(vec!["/s".into()]));
        assert_eq!(config.fifo.unwrap().path, Path::new("/run/f"));
        let mail = config.mail.unwrap();
        assert_eq!((mail.host.as_str(), mail.port, mail.security), ("fd00::1", 25, Security::Starttls));
    }

    #[test]
    fn a_hook_is_a_command_or_a_webhook() {
        let config = parse(
            "[[hook]]\nname = 'a'\ncommand = ['/a']\nvips = ['web']\nreconcile = '1m'\n\
             [[hook]]\nname = 'b'\nwebhook = 'https://api.example.com:8443?x=1'",
        );
        let hooks = config.unwrap().hooks;
        assert_eq!((hooks[0].timeout, hooks[0].reconcile), (SECOND * 30, Some(SECOND * 60)));
        assert!(hooks[0].is_for("web") && !hooks[0].is_for("mail") && hooks[1].is_for("mail"));
        let Deed::Webhook(webhook) = &hooks[1].deed else { panic!() };
        assert_eq!(
            (webhook.host.as_str(), webhook.port, webhook.path.as_str()),
            ("api.example.com", 8443, "/?x=1")
        );
    }

    #[test]
    fn each_mistake_says_what_would_be_right() {
        for (more, said) in [
            ("notify = ['x']", "t.toml:8: vip.notify: \"x\" is no absolute path; begin the program with /"),
            ("notify_mster = ['/x']", "did you mean notify_master?"),
            ("[[group]]\nname = 'G'\n[[group]]\nname = 'G'", "group.name: G is used twice"),
            ("[notify]\nfifo_script = ['/x']", "notify.fifo: is missing"),
            ("[[hook]]\nname = 'a'", "hook.command: and webhook: exactly one of them is needed"),
            ("[[hook]]\nname = 'a'\ncommand = '/a'\nwebhook = 'http://x/'", "exactly one of them"),
            (
                "[[hook]]\nname = 'a'\ncommand = '/a'\nvips = ['wbe']",
                "wbe is no VIP of this file; did you mean web?",
            ),
            ("[[hook]]\nname = 'a'\nwebhook = 'ftp://x/'", "is no URL; write it as https://HOST[:PORT]/PATH"),
            ("[[hook]]\nname = 'a'\nwebhook = 'http://x/'\nuser = 'nobody'", "no meaning for a webhook"),
            (
                "[mail]\nserver = 'x'\nfrom = 'a@b'\nto = 'c@d'",
                "mail.server: \"x\" is no server; write it as HOST:PORT",
            ),
            ("[mail]\nserver = 'x:25'\nfrom = 'ab'\nto = []", "mail.to: are none, or too many"),
        ] {
            let error = parse(more).unwrap_err();
            assert!(error.contains(said), "{said} is not in\n{error}");
        }
        let many: String = (0..17).map(|n| format!("[[hook]]\nname = 'h{n}'\ncommand = '/a'\n")).collect();
        assert!(parse(&many).unwrap_err().contains("hook: are 17; a node has at most 16"));
    }

    #[test]
    fn what_has_no_effect_is_advised_of() {
        let advice = parse("smtp_alert = true\n[[group]]\nname = 'G'\nnotify = '/x'").unwrap().advice();
        assert!(advice[0].starts_with("G: no [[vrrp]] has group = \"G\""), "{advice:?}");
        assert!(advice[1].starts_with("web: smtp_alert has no [mail]"), "{advice:?}");
    }
}
