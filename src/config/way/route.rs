//! One route.

use super::{Said, Words, number, once, table};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::IpAddr;

/// What an IPv6 route has that names no other.
const IPV6_METRIC: u32 = 1024;
const MAX_HOPS: usize = 16;
/// Each with the kernel's number (RTAX_…).
const METRICS: [(&str, u16); 10] = [
    ("mtu", 2),
    ("window", 3),
    ("ssthresh", 6),
    ("cwnd", 7),
    ("advmss", 8),
    ("reordering", 9),
    ("hoplimit", 10),
    ("initcwnd", 11),
    ("initrwnd", 14),
    ("quickack", 15),
];
const SCOPES: [(&str, u8); 5] =
    [("global", 0), ("site", 200), ("link", 253), ("host", 254), ("nowhere", 255)];
const KINDS: [(&str, RouteKind); 6] = [
    ("unicast", RouteKind::Unicast),
    ("local", RouteKind::Local),
    ("blackhole", RouteKind::Blackhole),
    ("unreachable", RouteKind::Unreachable),
    ("prohibit", RouteKind::Prohibit),
    ("throw", RouteKind::Throw),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    Unicast,
    Local,
    Blackhole,
    Unreachable,
    Prohibit,
    Throw,
}

/// RFC 4191; IPv6 only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preference {
    Low,
    Medium,
    High,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// As it is written.
    pub text: String,
    pub kind: RouteKind,
    pub to: IpNet,
    /// More than one: traffic is spread over them.
    pub hops: Vec<Hop>,
    pub table: u32,
    pub metric: u32,
    pub source: Option<IpAddr>,
    pub scope: u8,
    pub tos: u8,
    pub preference: Option<Preference>,
    /// By the kernel's numbers.
    pub metrics: Vec<(u16, u32)>,
    /// Those that are not to be changed, a bit each.
    pub locked: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hop {
    /// Of IPv6 also in an IPv4 route.
    pub via: Option<IpAddr>,
    pub dev: Option<String>,
    /// 1 to 256.
    pub weight: u16,
    /// The gateway is on the link, whatever the addresses say.
    pub onlink: bool,
}

impl Route {
    /// What no two routes of a host have in common.
    #[must_use]
    pub fn key(&self) -> (IpNet, u32, u32, u8) {
        (self.to, self.table, self.metric, self.tos)
    }
}

/// What was read so far.
#[derive(Default)]
struct Draft {
    kind: Option<RouteKind>,
    to: Option<Target>,
    table: Option<u32>,
    metric: Option<u32>,
    source: Option<IpAddr>,
    scope: Option<u8>,
    tos: Option<u8>,
    preference: Option<Preference>,
    metrics: Vec<(u16, u32)>,
    locked: u32,
    /// The first is that of the route itself.
    hops: Vec<Hop>,
}

enum Target {
    Net(IpNet),
    Everything,
}

pub fn read(text: &str, ipv6: bool) -> Said<Route> {
    let mut words = Words::of(text);
    let mut draft = Draft { hops: vec![Hop::default()], ..Draft::default() };
    while let Some(word) = words.rest.next() {
        draft.take(word, &mut words)?;
    }
    let ipv6 = words.ipv6.unwrap_or(ipv6);
    draft.judge(text, ipv6)
}

impl Draft {
    fn take(&mut self, word: &str, words: &mut Words<'_>) -> Said<()> {
        if let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == word) {
            return once(&mut self.kind, word, *kind);
        }
        if let Some((_, number)) = METRICS.iter().find(|(name, _)| *name == word) {
            return self.metric(word, *number, words);
        }
        match word {
            "to" => {
                let value = words.value(word)?;
                self.target(value, words)
            }
            "table" => once(&mut self.table, word, table::table(words.value(word)?)?),
            "metric" | "preference" | "priority" => once(&mut self.metric, word, words.number(word)?),
            "src" => once(&mut self.source, word, words.address(word)?),
            "scope" => once(&mut self.scope, word, scope(words.value(word)?)?),
            "tos" | "dsfield" => once(&mut self.tos, word, words.number(word)?),
            "pref" => once(&mut self.preference, word, preference(words.value(word)?)?),
            "nexthop" if self.hops.len() > MAX_HOPS => Err(format!("it has more than {MAX_HOPS} nexthops")),
            "nexthop" => {
                self.hops.push(Hop { weight: 1, ..Hop::default() });
                Ok(())
            }
            "via" | "dev" | "weight" | "onlink" => self.hop(word, words),
            "proto" | "protocol" => {
                Err(format!("{word} is haclusterd's own, by which it knows its routes: remove it"))
            }
            _ if self.to.is_none() && self.hops.len() == 1 => self.target(word, words),
            _ => Err(format!("{word} is not known here")),
        }
    }

    fn metric(&mut self, word: &str, number: u16, words: &mut Words<'_>) -> Said<()> {
        let mut value = words.value(word)?;
        if value == "lock" {
            self.locked |= 1 << number;
            value = words.value(word)?;
        }
        if self.metrics.iter().any(|(other, _)| *other == number) {
            return Err(format!("{word} is there twice"));
        }
        let value = super::number(value).ok_or_else(|| format!("{word} {value} is no number"))?;
        self.metrics.push((number, value));
        Ok(())
    }

    fn target(&mut self, text: &str, words: &mut Words<'_>) -> Said<()> {
        let target = match text {
            "default" | "all" | "any" => Target::Everything,
            "default6" => Target::Net(Ipv6Net::default().into()),
            _ if !text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains(':') => {
                return Err(format!("{text} is not known here"));
            }
            _ => Target::Net(words.net(text).map_err(|_| format!("{text} is no destination"))?),
        };
        if let Target::Net(net) = &target {
            words.of_one_family(net.addr())?;
            if net.trunc() != *net {
                return Err(format!("{net} is the address of a host: write {}", net.trunc()));
            }
        }
        once(&mut self.to, "the destination", target)
    }

    fn hop(&mut self, word: &str, words: &mut Words<'_>) -> Said<()> {
        let many = self.hops.len() > 1;
        let Some(hop) = self.hops.last_mut() else { return Ok(()) };
        match word {
            "via" => {
                let value = words.value(word)?;
                let named = matches!(value, "inet" | "inet6");
                let text = if named { words.value(word)? } else { value };
                let via: IpAddr = text.parse().map_err(|_| format!("via {text} is no address"))?;
                if named && (value == "inet6") != via.is_ipv6() {
                    return Err(format!("{text} is not of {value}"));
                }
                if !named {
                    words.of_one_family(via)?;
                }
                once(&mut hop.via, word, via)
            }
            "dev" => once(&mut hop.dev, word, words.interface(word)?),
            "weight" if many => {
                hop.weight = words.number(word)?;
                let legal = (1..=256).contains(&hop.weight);
                if legal { Ok(()) } else { Err(format!("weight {} is not from 1 to 256", hop.weight)) }
            }
            "weight" => Err("weight is for a nexthop".into()),
            _ => {
                hop.onlink = true;
                Ok(())
            }
        }
    }

    fn judge(mut self, text: &str, ipv6: bool) -> Said<Route> {
        let own = self.hops.remove(0);
        if !self.hops.is_empty() && own != Hop::default() {
            return Err("it has via or dev beside its nexthops".into());
        }
        let to = match self.to.ok_or("it has no destination")? {
            Target::Net(net) => net,
            Target::Everything if ipv6 => Ipv6Net::default().into(),
            Target::Everything => Ipv4Net::default().into(),
        };
        let kind = self.kind.unwrap_or(RouteKind::Unicast);
        if self.hops.is_empty() && own != Hop::default() {
            self.hops.push(own);
        }
        let passes = matches!(kind, RouteKind::Unicast | RouteKind::Local);
        if !passes && !self.hops.is_empty() {
            return Err(format!("a route that is {} leads nowhere: remove via and dev", said(kind)));
        }
        if passes && self.hops.iter().all(|hop| hop.via.is_none() && hop.dev.is_none()) {
            return Err("it has neither via nor dev".into());
        }
        if ipv6 && self.hops.iter().any(|hop| hop.via.is_some_and(|via| via.is_ipv4())) {
            return Err("an IPv6 route has no gateway of IPv4".into());
        }
        if self.preference.is_some() && !ipv6 {
            return Err("pref is for IPv6".into());
        }
        let direct = self.hops.iter().all(|hop| hop.via.is_none());
        let scope = match kind {
            RouteKind::Local => 254,
            RouteKind::Unicast if direct => 253,
            _ => 0,
        };
        Ok(Route {
            text: text.to_owned(),
            kind,
            to,
            hops: self.hops,
            table: self.table.unwrap_or(if kind == RouteKind::Local { 255 } else { table::MAIN }),
            metric: self.metric.unwrap_or(if ipv6 { IPV6_METRIC } else { 0 }),
            source: self.source,
            scope: self.scope.unwrap_or(scope),
            tos: self.tos.unwrap_or_default(),
            preference: self.preference,
            metrics: self.metrics,
            locked: self.locked,
        })
    }
}

fn said(kind: RouteKind) -> &'static str {
    KINDS.iter().find(|(_, other)| *other == kind).map_or("", |(name, _)| name)
}

fn scope(text: &str) -> Said<u8> {
    let named = SCOPES.iter().find(|(name, _)| *name == text).map(|(_, scope)| *scope);
    let scope = named.or_else(|| number(text)?.try_into().ok());
    scope.ok_or_else(|| format!("scope {text} is not known"))
}

fn preference(text: &str) -> Said<Preference> {
    match text {
        "low" => Ok(Preference::Low),
        "medium" => Ok(Preference::Medium),
        "high" => Ok(Preference::High),
        _ => Err(format!("pref {text} is not low, medium or high")),
    }
}

#[cfg(test)]
mod tests;
