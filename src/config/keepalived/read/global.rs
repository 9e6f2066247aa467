//! `global_defs`.

use super::super::finding::{Findings, Kind};
use super::super::grammar::{GLOBAL, other, shape};
use super::super::model::Global;
use super::super::tree::Statement;
use super::super::value::{address, boolean, command, invalid, number, seconds, text};
use super::all_comments;
use std::time::Duration;

pub fn read(global: &mut Global, statement: &Statement, findings: &mut Findings) {
    global.comments.extend(all_comments(statement));
    for inner in statement.inner() {
        one(global, inner, findings);
    }
}

fn one(global: &mut Global, s: &Statement, findings: &mut Findings) {
    if shape(s, s.key == "notification_email", findings) {
        match s.key.as_str() {
            "router_id" => global.router_id = text(findings, s).map(str::to_owned),
            "vrrp_version" => global.version = version(s, findings).or(global.version),
            "vrrp_strict" => global.strict = true,
            "script_user" => global.script_user = text(findings, s).map(str::to_owned),
            "enable_script_security" => {
                let why = "a program that others may change is never run";
                findings.add(Kind::Note, &s.at, "enable_script_security is not needed", why);
            }
            "include_check" => included(s, findings),
            "default_interface" => global.default_interface = text(findings, s).map(str::to_owned),
            "notify_fifo" | "vrrp_notify_fifo" => fifo(global, s, findings),
            "notify_fifo_script" | "vrrp_notify_fifo_script" => global.fifo_script = command(findings, s),
            "vrrp_mcast_group4" | "vrrp_mcast_group6" => multicast(s, findings),
            _ if s.key.starts_with("vrrp_garp")
                || s.key.starts_with("vrrp_gna")
                || s.key.starts_with("vrrp_down") =>
            {
                global.garp_refresh =
                    announcing(s, &s.key["vrrp_".len()..], findings).or(global.garp_refresh);
            }
            _ => mail(global, s, findings),
        }
    }
}

fn mail(global: &mut Global, s: &Statement, findings: &mut Findings) {
    match s.key.as_str() {
        "smtp_alert" | "smtp_alert_vrrp" => global.smtp_alert = boolean(findings, s).or(global.smtp_alert),
        "no_email_faults" => global.no_email_faults = true,
        "notification_email" => {
            if s.inner().is_empty() {
                invalid(
                    findings,
                    s,
                    "notification_email names nobody",
                    "write an address a line, or remove it",
                );
            }
            for line in s.inner() {
                let words = std::iter::once(&line.key).chain(line.args.iter().map(|word| &word.text));
                global.mail.to.extend(words.map(|word| (line.at.clone(), word.clone())));
            }
        }
        "notification_email_from" => global.mail.from = text(findings, s).map(str::to_owned),
        "smtp_helo_name" => global.mail.hello = text(findings, s).map(str::to_owned),
        "smtp_connect_timeout" => global.mail.timeout = seconds(findings, s, 0.001..=4294.0),
        "smtp_server" => {
            let Some(host) = text(findings, s) else { return };
            let port = s.arg(1).map(|port| port.parse().ok().filter(|port| *port > 0));
            if let Some(None) = port {
                invalid(
                    findings,
                    s,
                    format!("smtp_server {}: no such port", s.arg(1).unwrap_or_default()),
                    "write 1 to 65535",
                );
            }
            global.mail.server = Some((host.to_owned(), port.flatten().unwrap_or(25)));
        }
        _ => other(&GLOBAL, s, findings),
    }
}

fn included(s: &Statement, findings: &mut Findings) {
    let mut seen = Vec::new();
    for word in s.args.iter().map(|word| word.text.as_str()) {
        if !matches!(word, "read" | "match" | "wildcard_match" | "brace_match") || seen.contains(&word) {
            let remedy = "write read, match, wildcard_match or brace_match, each once";
            invalid(findings, s, format!("include_check {word} is none, or there already"), remedy);
        }
        seen.push(word);
    }
    let what = "include_check is not needed";
    findings.add(Kind::Note, &s.at, what, "every file that is missing is told");
}

fn fifo(global: &mut Global, s: &Statement, findings: &mut Findings) {
    let Some(path) = text(findings, s) else { return };
    if global.fifo.as_deref().is_some_and(|other| other != path) {
        findings.add(
            Kind::Missing,
            &s.at,
            "a second FIFO has no equivalent",
            "let one reader have both uses",
        );
    }
    global.fifo.get_or_insert_with(|| path.to_owned());
}

fn multicast(s: &Statement, findings: &mut Findings) {
    let Some(word) = text(findings, s) else { return };
    let Some(group) = address(findings, s, word) else { return };
    if !matches!(group.to_string().as_str(), "224.0.0.18" | "ff02::12") {
        let what = format!("adverts go to 224.0.0.18 and ff02::12, not to {group}");
        findings.add(Kind::Missing, &s.at, what, "let all hosts use these, or name unicast_peers");
    }
}

pub fn version(s: &Statement, findings: &mut Findings) -> Option<u8> {
    number(findings, s, 2..=3).and_then(|version| u8::try_from(version).ok())
}

/// What is said of announcing and timers, of all or of one instance: the refresh is carried.
pub fn announcing(s: &Statement, key: &str, findings: &mut Findings) -> Option<Duration> {
    let own = "a new master announces each address ten times within five seconds, from 0 to 5 s";
    match key {
        "garp_master_refresh" => return seconds(findings, s, 0.0..=86400.0),
        "down_timer_adverts" => {
            if number(findings, s, 1..=100).is_some_and(|count| count != 3) {
                let what = format!("{} is always 3, as in RFC 9568 6.1", s.key);
                findings.add(Kind::Differs, &s.at, what, "leave it out on all hosts of the group");
            }
        }
        "garp_interval" | "gna_interval" => {
            if seconds(findings, s, 0.000_001..=4294.0).is_some() {
                findings.add(Kind::Note, &s.at, format!("{} is not needed", s.key), own);
            }
        }
        // By how much it asks for more than there is.
        _ => {
            let asked = number(findings, s, 0..=86400);
            let delay = key.ends_with("delay");
            match asked.filter(|n| *n > if delay { 5 } else { 10 }) {
                Some(_) => {
                    findings.add(Kind::Differs, &s.at, format!("{} is more than haclusterd does", s.key), own)
                }
                None => findings.add(Kind::Note, &s.at, format!("{} is not needed", s.key), own),
            }
        }
    }
    None
}
