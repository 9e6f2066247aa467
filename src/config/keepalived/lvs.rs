//! `virtual_server` and what is in it: read whole and checked, for the part of haclusterd that will run it.
//!
//! Each level is a table of keywords, each with the form of its value.

use super::finding::{At, Findings, Kind};
use super::grammar::{self, Level, shape};
use super::model::Command;
use super::tree::Statement;
use super::value::{address, boolean, command, invalid, number, seconds, text};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    Address(IpAddr, u16),
    Mark(u32),
    Group(String),
}

#[derive(Debug, Clone)]
pub struct VirtualServer {
    pub at: At,
    pub target: Target,
    pub settings: Settings,
    pub real_servers: Vec<RealServer>,
}

#[derive(Debug, Clone)]
pub struct RealServer {
    pub at: At,
    pub address: IpAddr,
    pub port: u16,
    pub settings: Settings,
    pub checkers: Vec<Checker>,
}

#[derive(Debug, Clone)]
pub struct Checker {
    pub at: At,
    /// `HTTP_GET`, `TCP_CHECK` …
    pub kind: &'static str,
    pub settings: Settings,
    pub urls: Vec<Settings>,
}

#[derive(Debug, Clone)]
pub struct ServerGroup {
    pub at: At,
    pub name: String,
    /// `ADDRESS[-ADDRESS|/LENGTH] [PORT]`, `fwmark N`.
    pub members: Vec<String>,
}

/// By keyword; of one that is given twice, the last.
pub type Settings = BTreeMap<&'static str, Value>;

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Number(i64),
    Time(Duration),
    On(bool),
    Words(Vec<String>),
    Command(Command),
    Address(IpAddr, u16),
}

#[derive(Debug, Clone, Copy)]
pub enum Form {
    Number(i64, i64),
    /// Between two numbers of seconds; of milliseconds in a `bfd_instance`.
    Time(f64, f64),
    On,
    /// One word or more, as they are.
    Words,
    /// The same, and there may be none.
    Maybe,
    OneOf(&'static [&'static str]),
    Command,
    Address,
    Hex,
    /// Of MD5.
    Digest,
    /// Another word has taken its place.
    Old(&'static str),
}
use Form::{Address, Maybe, Number, On, OneOf, Time, Words};

type Table = &'static [(&'static str, Form)];

const METHODS: &[&str] = &["NAT", "DR", "TUN"];
const INT: Form = Number(0, i32::MAX as i64);
const HOUR: Form = Time(0.0, 4294.0);

/// Of virtual servers, real servers and checkers alike.
const TIMES: Table = &[
    ("alpha", On),
    ("connect_timeout", HOUR),
    ("retry", INT),
    ("delay_before_retry", HOUR),
    ("warmup", HOUR),
    ("delay_loop", HOUR),
];

const SCHEDULERS: &[&str] =
    &["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq", "twos"];

const SERVER: Table = &[
    ("lvs_sched", OneOf(SCHEDULERS)),
    ("lb_algo", OneOf(SCHEDULERS)),
    ("lvs_method", OneOf(METHODS)),
    ("lb_kind", OneOf(METHODS)),
    ("protocol", OneOf(&["TCP", "UDP", "SCTP"])),
    ("flag-1", On),
    ("flag-2", On),
    ("flag-3", On),
    ("sh-port", On),
    ("sh-fallback", On),
    ("mh-port", On),
    ("mh-fallback", On),
    ("ops", On),
    ("persistence_engine", Words),
    ("persistence_timeout", Maybe),
    ("persistence_granularity", Words),
    ("ha_suspend", On),
    ("smtp_alert", On),
    ("virtualhost", Words),
    ("snmp_name", Words),
    ("omega", On),
    ("quorum", Number(1, i32::MAX as i64)),
    ("hysteresis", INT),
    ("quorum_up", Form::Command),
    ("quorum_down", Form::Command),
    ("ip_family", OneOf(&["inet", "inet6"])),
    ("sorry_server", Address),
    ("sorry_server_inhibit", On),
    ("sorry_server_lvs_method", OneOf(METHODS)),
    ("inhibit_on_failure", On),
    ("nat_mask", Words),
    ("weight", Number(0, 65535)),
];

const REAL: Table = &[
    ("weight", Number(0, 65535)),
    ("lvs_method", OneOf(METHODS)),
    ("lb_kind", OneOf(METHODS)),
    ("notify_up", Form::Command),
    ("notify_down", Form::Command),
    ("uthreshold", INT),
    ("lthreshold", INT),
    ("smtp_alert", On),
    ("virtualhost", Words),
    ("snmp_name", Words),
    ("inhibit_on_failure", On),
];

const CONNECTION: Table = &[
    ("connect_ip", Address),
    ("connect_port", Number(1, 65535)),
    ("bindto", Address),
    ("bind_if", Words),
    ("bind_port", Number(1, 65535)),
    ("fwmark", INT),
    ("log_all_failures", On),
];

const HTTP: Table = &[
    ("http_protocol", Words),
    ("fast_recovery", On),
    ("virtualhost", Words),
    ("enable_sni", On),
    ("nb_get_retry", Form::Old("retry")),
];

const URL: Table = &[
    ("path", Words),
    ("digest", Form::Digest),
    ("status_code", Words),
    ("virtualhost", Words),
    ("regex", Words),
    ("regex_no_match", On),
    ("regex_options", Words),
    ("regex_stack", Words),
    ("regex_min_offset", INT),
    ("regex_max_offset", INT),
];

/// Each kind of checker, what it has of its own, and whether it makes a connection.
const CHECKERS: &[(&str, Table, bool)] = &[
    ("HTTP_GET", HTTP, true),
    ("SSL_GET", HTTP, true),
    ("TCP_CHECK", &[], true),
    ("SMTP_CHECK", &[("helo_name", Words)], true),
    ("DNS_CHECK", &[("type", Words), ("name", Words)], true),
    (
        "MISC_CHECK",
        &[
            ("misc_path", Form::Command),
            ("misc_timeout", HOUR),
            ("misc_dynamic", On),
            ("user", Words),
            ("log_all_failures", On),
        ],
        false,
    ),
    ("BFD_CHECK", &[("name", Words)], false),
    ("PING_CHECK", &[], true),
    (
        "UDP_CHECK",
        &[
            ("payload", Form::Hex),
            ("require_reply", Form::Hex),
            ("min_reply_length", INT),
            ("max_reply_length", INT),
        ],
        true,
    ),
    ("FILE_CHECK", &[("track_file", Words), ("dynamic", On), ("weight", Words)], false),
];

pub fn server(s: &Statement, findings: &mut Findings) -> Option<VirtualServer> {
    let target = target(s, findings)?;
    let mut server =
        VirtualServer { at: s.at.clone(), target, settings: Settings::new(), real_servers: Vec::new() };
    for inner in s.inner() {
        match inner.key.as_str() {
            "real_server" if shape(inner, true, findings) => {
                server.real_servers.extend(real(inner, findings))
            }
            "real_server" => {}
            // A host's own checks of the SMTP kind, as very old files have them.
            _ => setting(&mut server.settings, "virtual_server", &[SERVER, TIMES], inner, findings),
        }
    }
    complete(&server, s, findings);
    Some(server)
}

/// What keepalived sets by itself, or leaves out.
fn complete(server: &VirtualServer, s: &Statement, findings: &mut Findings) {
    let has = |keys: &[&str]| keys.iter().any(|key| server.settings.contains_key(key));
    let mut say =
        |what: &str, remedy: &str| invalid(findings, s, format!("the virtual server has no {what}"), remedy);
    if server.real_servers.is_empty() {
        return say("real servers", "keepalived leaves it out: remove it, or name them");
    }
    if !has(&["protocol"]) && !matches!(server.target, Target::Mark(_)) {
        say("protocol", "keepalived takes UDP: write it");
    }
    if !has(&["lvs_method", "lb_kind"]) {
        say("lvs_method", "keepalived takes NAT: write it");
    }
    if !has(&["lvs_sched", "lb_algo"]) {
        say("lvs_sched", "keepalived takes wlc: write it");
    }
    if !has(&["sorry_server"]) && has(&["sorry_server_inhibit", "sorry_server_lvs_method"]) {
        say("sorry_server", "name it first, or remove what is said of it");
    }
    if let Target::Address(_, port) = server.target {
        ports(server, port, findings);
    }
}

/// Whoever forwards packets as they are cannot change their port.
pub fn ports(server: &VirtualServer, port: u16, findings: &mut Findings) {
    let is_nat = |settings: &Settings| {
        let method = settings.get("lvs_method").or_else(|| settings.get("lb_kind"))?;
        Some(*method == Value::Words(vec!["NAT".into()]))
    };
    let by_default = is_nat(&server.settings).unwrap_or(true);
    for real in server.real_servers.iter().filter(|real| real.port != port) {
        if !is_nat(&real.settings).unwrap_or(by_default) {
            let what = format!("the port {} is not the virtual server's, {port}", real.port);
            findings.add(
                Kind::Invalid,
                &real.at,
                what,
                "only NAT can change it: keepalived takes the virtual server's",
            );
        }
    }
}

impl ServerGroup {
    /// Those that are written, in order.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        let port = |member: &String| member.split(' ').nth(1).and_then(|port| port.parse().ok());
        self.members.iter().filter(|member| !member.starts_with("fwmark")).filter_map(port)
    }
}

fn target(s: &Statement, findings: &mut Findings) -> Option<Target> {
    let second = s.arg(1);
    match (text(findings, s)?, second) {
        ("group", Some(name)) => Some(Target::Group(name.to_owned())),
        ("fwmark", Some(mark)) => {
            let parsed = mark.parse().ok().filter(|mark| *mark > 0);
            if parsed.is_none() {
                invalid(findings, s, format!("fwmark {mark} is none"), "write a number from 1");
            }
            parsed.map(Target::Mark)
        }
        (word, port) => Some(Target::Address(address(findings, s, word)?, self::port(s, port, findings)?)),
    }
}

fn port(s: &Statement, word: Option<&str>, findings: &mut Findings) -> Option<u16> {
    let port = word.map_or(Some(0), |word| word.parse().ok());
    if port.is_none() {
        invalid(
            findings,
            s,
            format!("{} is no port", word.unwrap_or_default()),
            "write a number from 1 to 65535",
        );
    }
    port
}

fn real(s: &Statement, findings: &mut Findings) -> Option<RealServer> {
    let address = text(findings, s).and_then(|word| address(findings, s, word))?;
    let port = port(s, s.arg(1), findings)?;
    let mut server =
        RealServer { at: s.at.clone(), address, port, settings: Settings::new(), checkers: Vec::new() };
    for inner in s.inner() {
        match CHECKERS.iter().find(|(kind, ..)| *kind == inner.key) {
            Some((kind, own, connects)) => {
                if shape(inner, true, findings) {
                    server.checkers.push(checker(kind, own, *connects, inner, findings));
                }
            }
            None => setting(&mut server.settings, "real_server", &[REAL, TIMES], inner, findings),
        }
    }
    Some(server)
}

fn checker(
    kind: &'static str,
    own: Table,
    connects: bool,
    s: &Statement,
    findings: &mut Findings,
) -> Checker {
    let mut checker = Checker { at: s.at.clone(), kind, settings: Settings::new(), urls: Vec::new() };
    let connection: Table = if connects { CONNECTION } else { &[] };
    for inner in s.inner() {
        match inner.key.as_str() {
            "url" if kind.ends_with("_GET") && shape(inner, true, findings) => {
                let mut url = Settings::new();
                inner.inner().iter().for_each(|line| setting(&mut url, "url", &[URL], line, findings));
                if !url.contains_key("path") {
                    invalid(findings, inner, "the url has no path", "keepalived leaves it out: write one");
                }
                checker.urls.push(url);
            }
            // Where it connects may stand in a block of its own.
            "host" if kind == "SMTP_CHECK" && inner.body.is_some() => {
                inner.inner().iter().for_each(|line| {
                    setting(&mut checker.settings, "host", &[CONNECTION, TIMES], line, findings)
                });
            }
            _ => setting(&mut checker.settings, kind, &[own, connection, TIMES], inner, findings),
        }
    }
    let missing = match kind {
        "MISC_CHECK" if !checker.settings.contains_key("misc_path") => "misc_path",
        "HTTP_GET" | "SSL_GET" if checker.urls.is_empty() => "url",
        _ => return checker,
    };
    invalid(findings, s, format!("the {kind} has no {missing}"), "keepalived leaves it out: write one");
    checker
}

pub fn setting(
    settings: &mut Settings,
    level: &'static str,
    tables: &[Table],
    s: &Statement,
    findings: &mut Findings,
) {
    let Some((key, form)) = tables.iter().flat_map(|table| table.iter()).find(|(key, _)| *key == s.key)
    else {
        return grammar::other(&Level { name: level, read: &[], others: &[] }, s, findings);
    };
    shape(s, false, findings);
    if let Some(value) = value(*form, s, findings) {
        settings.insert(key, value);
    }
}

fn value(form: Form, s: &Statement, findings: &mut Findings) -> Option<Value> {
    let words = || Value::Words(s.args.iter().map(|word| word.text.clone()).collect());
    match form {
        Number(least, most) => number(findings, s, least..=most).map(Value::Number),
        Time(least, most) => seconds(findings, s, least..=most).map(Value::Time),
        On => boolean(findings, s).map(Value::On),
        Maybe => Some(words()),
        Words => text(findings, s).map(|_| words()),
        OneOf(known) => {
            let word = text(findings, s)?;
            if !known.contains(&word) {
                invalid(
                    findings,
                    s,
                    format!("{} {word} is not known", s.key),
                    format!("write one of {}", known.join(", ")),
                );
                return None;
            }
            Some(words())
        }
        Form::Hex => {
            let is_hex = |word: &str| word.chars().all(|c| c.is_ascii_hexdigit() || c == ' ');
            if s.args.len() > 1 || !s.arg(0).is_none_or(is_hex) {
                invalid(
                    findings,
                    s,
                    format!("{} is not hexadecimal", s.key),
                    "write it in one pair of quotes",
                );
                return None;
            }
            Some(words())
        }
        Form::Digest => {
            let word = text(findings, s)?;
            if word.len() != 32 {
                invalid(
                    findings,
                    s,
                    format!("the digest {word} is none"),
                    "write the 32 digits that genhash shows",
                );
                return None;
            }
            Some(words())
        }
        Form::Old(new) => {
            invalid(findings, s, format!("{} is an old word", s.key), format!("write {new}"));
            Some(words())
        }
        Form::Command => command(findings, s).map(Value::Command),
        Address => {
            let address = text(findings, s).and_then(|word| address(findings, s, word))?;
            Some(Value::Address(address, port(s, s.arg(1), findings)?))
        }
    }
}

pub fn group(s: &Statement, findings: &mut Findings) -> Option<ServerGroup> {
    let name = text(findings, s)?.to_owned();
    let fits = |line: &Statement| {
        let first = line.key.split(['-', '/']).next().unwrap_or_default();
        let numeric = line.arg(0).is_none_or(|word| word.parse::<u32>().is_ok());
        numeric && (first.parse::<IpAddr>().is_ok() || line.key == "fwmark")
    };
    for line in s.inner().iter().filter(|line| !fits(line)) {
        let remedy = "write ADDRESS[-LAST] [PORT], or fwmark N; keepalived leaves it out";
        invalid(findings, line, format!("{} is no member of a group", line.words()), remedy);
    }
    let members = s.inner().iter().filter(|line| fits(line)).map(Statement::words).collect();
    Some(ServerGroup { at: s.at.clone(), name, members })
}
