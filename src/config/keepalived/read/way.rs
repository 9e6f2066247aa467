//! One line of `virtual_routes` or `virtual_rules`, put into iproute2's order and words: the destination first, one word
//! for each thing.

use super::super::finding::{Findings, Kind};
use super::super::model::Way;
use super::super::tree::{Statement, Word};
use super::super::value::{invalid, net, parse_number};
use ipnet::Ipv6Net;
use std::net::IpAddr;

/// Words with a value, each with what it is in iproute2. Some are numbers.
const ROUTE: [(&str, &str, bool); 33] = [
    ("via", "via", false),
    ("dev", "dev", false),
    ("oif", "dev", false),
    ("src", "src", false),
    ("table", "table", false),
    ("metric", "metric", true),
    ("priority", "metric", true),
    ("preference", "metric", true),
    ("scope", "scope", false),
    ("tos", "tos", false),
    ("dsfield", "tos", false),
    ("protocol", "proto", false),
    ("mtu", "mtu", false),
    ("hoplimit", "hoplimit", false),
    ("advmss", "advmss", false),
    ("rtt", "rtt", false),
    ("rttvar", "rttvar", false),
    ("reordering", "reordering", true),
    ("window", "window", true),
    ("cwnd", "cwnd", false),
    ("ssthresh", "ssthresh", false),
    ("realms", "realms", false),
    ("rto_min", "rto_min", false),
    ("initcwnd", "initcwnd", true),
    ("initrwnd", "initrwnd", true),
    ("weight", "weight", true),
    ("pref", "pref", false),
    ("quickack", "quickack", true),
    ("features", "features", false),
    ("congctl", "congctl", false),
    ("fastopen_no_cookie", "fastopen_no_cookie", true),
    ("ttl-propagate", "ttl-propagate", false),
    ("expires", "expires", true),
];
const ROUTE_ALONE: [&str; 3] = ["onlink", "nexthop", "lock"];
const TYPES: [&str; 6] = ["unicast", "local", "blackhole", "unreachable", "prohibit", "throw"];

const RULE: [(&str, &str, bool); 23] = [
    ("from", "from", false),
    ("to", "to", false),
    ("iif", "iif", false),
    ("dev", "iif", false),
    ("oif", "oif", false),
    ("fwmark", "fwmark", false),
    ("tos", "tos", false),
    ("dsfield", "tos", false),
    ("table", "lookup", false),
    ("lookup", "lookup", false),
    ("priority", "priority", true),
    ("preference", "priority", true),
    ("order", "priority", true),
    ("ipproto", "ipproto", false),
    ("sport", "sport", false),
    ("dport", "dport", false),
    ("uidrange", "uidrange", false),
    ("suppress_prefixlength", "suppress_prefixlength", true),
    ("suppress_ifgroup", "suppress_ifgroup", false),
    ("sup_group", "suppress_ifgroup", false),
    ("tun_id", "tun_id", true),
    ("tunnel-id", "tun_id", true),
    ("realms", "realms", false),
];
const ACTIONS: [&str; 5] = ["blackhole", "unreachable", "prohibit", "nop", "l3mdev"];

/// What a line is made of, on the way to iproute2's words.
struct Line<'s> {
    statement: &'s Statement,
    findings: &'s mut Findings,
    words: std::vec::IntoIter<&'s str>,
    ipv6: Option<bool>,
    /// keepalived leaves it out.
    lost: bool,
}

impl<'s> Line<'s> {
    fn new(statement: &'s Statement, findings: &'s mut Findings) -> Line<'s> {
        let words = std::iter::once(&statement.key).chain(statement.args.iter().map(|word| &word.text));
        let words: Vec<&str> = words.map(String::as_str).collect();
        Line { statement, findings, words: words.into_iter(), ipv6: None, lost: false }
    }

    fn bad(&mut self, what: String, remedy: &str) {
        invalid(self.findings, self.statement, what, remedy);
    }

    fn lose(&mut self, what: String) {
        self.bad(what, "keepalived leaves the line out: mend or remove it");
        self.lost = true;
    }

    /// What must come after a word; keepalived does not start without.
    fn value(&mut self, word: &str) -> &'s str {
        self.words.next().unwrap_or_else(|| {
            let what = format!("{word} has no value");
            self.findings.add(Kind::Fatal, &self.statement.at, what, "write one, or remove the word");
            ""
        })
    }

    fn number(&mut self, word: &str, value: &str) {
        if parse_number(value).is_none_or(|n| !(0..=i64::from(u32::MAX)).contains(&n)) {
            self.lose(format!("{word} {value} is no number"));
        }
    }

    /// With the length that keepalived takes. An address of another family than the one before is a mistake.
    fn net(&mut self, text: &str) -> Option<String> {
        let (ip, length) = text.split_once('/').map_or((text, None), |(ip, n)| (ip, Some(n)));
        let ip = full(ip)?;
        let net = net(self.findings, self.statement, ip, length);
        if self.ipv6.replace(ip.is_ipv6()).is_some_and(|ipv6| ipv6 != ip.is_ipv6()) {
            self.lose(format!("{} is IPv4 and IPv6 at once", self.statement.words()));
        }
        Some(net.to_string())
    }

    fn done(self, words: Vec<String>) -> Option<Way> {
        (!self.lost).then(|| Way { at: self.statement.at.clone(), text: words.join(" ") })
    }
}

/// Of IPv4, bytes that are missing are 0.
fn full(text: &str) -> Option<IpAddr> {
    let short = !text.is_empty() && !text.contains(':') && text.split('.').count() < 4;
    let zeros = if short { ".0".repeat(4 - text.split('.').count()) } else { String::new() };
    (text.to_owned() + &zeros).parse().ok()
}

pub fn route(statement: &Statement, findings: &mut Findings) -> Option<Way> {
    let mut line = Line::new(statement, findings);
    let (mut kind, mut to, mut rest, mut hops) = (None, None, Vec::<String>::new(), false);
    let (mut tracked, mut dev) = (true, false);
    while let Some(word) = line.words.next() {
        hops |= word == "nexthop";
        match word {
            "no_track" => tracked = false,
            "inet" | "inet6" | "append" => {}
            "to" => to = Some(line.value(word)),
            "gw" | "or" => {
                line.bad(format!("`{word}` is an old word of routes"), "write via, or a nexthop for each");
                let gateway = line.value(word);
                match word {
                    "gw" => rest.extend(["via".to_owned(), gateway.to_owned()]),
                    _ => line
                        .bad(format!("the second gateway {gateway} is left out"), "write a nexthop for each"),
                }
            }
            _ if TYPES.contains(&word) && kind.is_none() => kind = Some(word),
            _ if ROUTE_ALONE.contains(&word) => rest.push(word.to_owned()),
            "via" => {
                let mut value = line.value(word);
                if value == "inet" || value == "inet6" {
                    value = line.value(word);
                }
                line.net(value);
                rest.extend([word.to_owned(), value.to_owned()]);
            }
            _ => match ROUTE.iter().find(|(theirs, ..)| *theirs == word) {
                Some((_, ours, numeric)) => {
                    let mut value = line.value(word);
                    if value == "lock" {
                        rest.extend([(*ours).to_owned(), value.to_owned()]);
                        rest.push(line.value(word).to_owned());
                        continue;
                    }
                    if *numeric {
                        line.number(word, value);
                    }
                    dev |= *ours == "dev" && !hops;
                    value = value.trim();
                    rest.extend([(*ours).to_owned(), value.to_owned()]);
                }
                // Of two destinations the last one counts.
                None if is_destination(word) => to = Some(word),
                None => {
                    line.lose(format!("{word} is no word of a route"));
                    break;
                }
            },
        }
    }
    if line.findings.is_fatal() {
        return None;
    }
    let to = match to {
        Some(to @ ("default" | "default6" | "all" | "any")) => {
            Some(if to == "default6" { "::/0" } else { to }.to_owned())
        }
        Some(to) => line.net(to).or_else(|| {
            line.lose(format!("{to} is no destination"));
            None
        }),
        None if line.lost => None,
        None => {
            line.lose("the route has no destination".into());
            None
        }
    };
    if tracked && !dev && !line.lost {
        let what =
            format!("the route {} names no interface, so keepalived does not track it", statement.words());
        line.bad(what, "write dev IF, or no_track; here it is put back when it is gone");
    }
    let head = kind.map(str::to_owned).into_iter().chain(to);
    line.done(head.chain(rest).collect())
}

fn is_destination(word: &str) -> bool {
    matches!(word, "default" | "default6" | "all" | "any")
        || full(word.split('/').next().unwrap_or_default()).is_some()
}

pub fn rule(statement: &Statement, findings: &mut Findings) -> Option<Way> {
    let mut line = Line::new(statement, findings);
    let mut kept: Vec<String> = Vec::new();
    let (mut priority, mut goto, mut actions) = (None, None, 0);
    while let Some(word) = line.words.next() {
        match word {
            "no_track" | "inet" | "inet6" | "type" => {}
            "not" => kept.push(word.to_owned()),
            "goto" => {
                let target = line.value(word);
                line.number(word, target);
                goto = parse_number(target);
                actions += 1;
                kept.extend([word.to_owned(), target.to_owned()]);
            }
            _ if ACTIONS.contains(&word) => {
                actions += 1;
                kept.push(word.to_owned());
            }
            _ => {
                let Some((_, ours, numeric)) = RULE.iter().find(|(theirs, ..)| *theirs == word) else {
                    line.lose(format!("{word} is no word of a rule"));
                    break;
                };
                let mut value = line.value(word).to_owned();
                match *ours {
                    "from" | "to" if value != "all" && value != "any" && value != "default" => {
                        match line.net(&value) {
                            Some(net) => value = net,
                            None => line.lose(format!("{value} is no address")),
                        }
                    }
                    "sport" | "dport" if !value.contains('-') => {
                        line.lose(format!("{word} {value} is no range"))
                    }
                    "lookup" => actions += 1,
                    "priority" => priority = parse_number(&value),
                    _ => {}
                }
                if *numeric {
                    line.number(word, &value);
                }
                kept.extend([(*ours).to_owned(), value]);
            }
        }
    }
    if line.findings.is_fatal() {
        return None;
    }
    if !line.lost {
        checked(&mut line, priority, goto, actions);
    }
    line.done(kept)
}

/// Rules without a priority get 16384, 16383 and so on, each family by itself, in the order of the file.
pub fn number(statements: &mut [Statement], findings: &mut Findings) {
    let mut next = [16384_i64; 2];
    for statement in statements {
        let told = statement.key == "vrrp_instance";
        let body = statement.body.iter_mut().flatten();
        let rules: Vec<&mut Statement> = match statement.key.as_str() {
            "static_rules" => body.collect(),
            "vrrp_instance" => {
                let blocks = body.filter(|inner| inner.key == "virtual_rules");
                blocks.filter_map(|block| block.body.as_mut()).flatten().collect()
            }
            _ => continue,
        };
        for line in rules {
            let Some(rule) = rule(line, &mut Findings::default()) else { continue };
            let words = || rule.text.split(' ');
            if words().any(|word| word == "priority") {
                continue;
            }
            let ipv6 = line.key == "inet6" || words().any(|word| word.parse::<Ipv6Net>().is_ok());
            let next = &mut next[usize::from(ipv6)];
            let own = *next;
            *next -= 1;
            if told {
                let what = format!("the rule has no priority, and gets {own}");
                invalid(findings, line, what, "write one, for keepalived counts on from rule to rule");
            }
            let more = ["priority".to_owned(), own.to_string()];
            line.args.extend(more.map(|text| Word { text, quoted: false }));
        }
    }
}

fn checked(line: &mut Line<'_>, priority: Option<i64>, goto: Option<i64>, actions: usize) {
    if actions != 1 {
        line.lose(format!("the rule has {actions} actions"));
    }
    if let (Some(own), Some(target)) = (priority, goto)
        && own >= target
    {
        line.lose(format!("goto {target} leads back"));
    }
}
