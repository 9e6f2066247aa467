//! Routes and rules in the kernel's words.

use super::PROTOCOL;
use crate::config::{Action, Hop, Preference, Route, RouteKind, Rule};
use crate::io::netlink::index_of;
use ipnet::IpNet;
use rtnetlink::packet_core::DefaultNla;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteNextHop, RouteNextHopFlags,
    RoutePreference, RouteProtocol, RouteScope, RouteType, RouteVia,
};
use rtnetlink::packet_route::rule::{
    RuleAction, RuleAttribute, RuleFlags, RuleMessage, RulePortRange, RuleUidRange,
};
use std::net::IpAddr;

/// Of the metrics, that which says what is locked (RTAX_LOCK).
const LOCK: u16 = 1;

fn family(ipv6: bool) -> AddressFamily {
    if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet }
}

fn protocol() -> RouteProtocol {
    RouteProtocol::from(PROTOCOL)
}

/// To ask for all routes of ours.
pub fn ours(ipv6: bool) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(ipv6);
    message.header.protocol = protocol();
    message
}

/// By which a route of ours is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteKey {
    to: IpNet,
    table: u32,
    metric: u32,
    tos: u8,
    kind: RouteType,
}

impl From<&Route> for RouteKey {
    fn from(route: &Route) -> RouteKey {
        let (to, table, metric, tos) = route.key();
        RouteKey { to, table, metric, tos, kind: kind(route.kind) }
    }
}

impl RouteKey {
    pub fn of(message: &RouteMessage) -> Option<RouteKey> {
        let header = &message.header;
        let mut key = RouteKey {
            to: match header.address_family {
                AddressFamily::Inet => IpNet::V4(Default::default()),
                _ => IpNet::V6(Default::default()),
            },
            table: header.table.into(),
            metric: 0,
            tos: header.tos,
            kind: header.kind,
        };
        let length = header.destination_prefix_length;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(ip)) => {
                    key.to = IpNet::new((*ip).into(), length).ok()?;
                }
                RouteAttribute::Destination(RouteAddress::Inet6(ip)) => {
                    key.to = IpNet::new((*ip).into(), length).ok()?;
                }
                RouteAttribute::Table(table) => key.table = *table,
                RouteAttribute::Priority(metric) => key.metric = *metric,
                _ => {}
            }
        }
        Some(key)
    }

    /// In the same place, where there is room for one.
    pub fn is_at(&self, other: &RouteKey) -> bool {
        (self.to, self.table, self.metric, self.tos) == (other.to, other.table, other.metric, other.tos)
    }

    /// Nothing of where it leads: the kernel then takes whatever does, if it is ours.
    pub fn message(&self) -> RouteMessage {
        let mut message = ours(self.to.addr().is_ipv6());
        message.header.destination_prefix_length = self.to.prefix_len();
        message.header.tos = self.tos;
        message.header.kind = self.kind;
        message.header.scope = RouteScope::NoWhere;
        message.attributes = vec![
            RouteAttribute::Destination(self.to.addr().into()),
            RouteAttribute::Table(self.table),
            RouteAttribute::Priority(self.metric),
        ];
        message
    }
}

/// Or the name of an interface that is not there.
pub fn route(route: &Route) -> Result<RouteMessage, String> {
    let mut message = RouteKey::from(route).message();
    message.header.scope = RouteScope::from(route.scope);
    let attributes = &mut message.attributes;
    attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    attributes.extend(route.preference.map(|preference| RouteAttribute::Preference(preference.into())));
    if let Some(metrics) = metrics(route) {
        attributes.push(RouteAttribute::Metrics(metrics));
    }
    match route.hops.as_slice() {
        [] => {}
        [hop] if hop.weight == 0 => {
            attributes.extend(index(hop)?.map(RouteAttribute::Oif));
            attributes.extend(via(hop, route));
            if hop.onlink {
                message.header.flags |= rtnetlink::packet_route::route::RouteFlags::Onlink;
            }
        }
        hops => {
            let hops: Result<Vec<_>, String> = hops.iter().map(|hop| next_hop(hop, route)).collect();
            attributes.push(RouteAttribute::MultiPath(hops?));
        }
    }
    Ok(message)
}

fn next_hop(hop: &Hop, route: &Route) -> Result<RouteNextHop, String> {
    let mut next = RouteNextHop::default();
    next.hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
    next.interface_index = index(hop)?.unwrap_or_default();
    if hop.onlink {
        next.flags = RouteNextHopFlags::Onlink;
    }
    next.attributes.extend(via(hop, route));
    Ok(next)
}

fn index(hop: &Hop) -> Result<Option<u32>, String> {
    let index = |name: &String| index_of(name).ok_or_else(|| name.clone());
    hop.dev.as_ref().map(index).transpose()
}

fn via(hop: &Hop, route: &Route) -> Option<RouteAttribute> {
    let via = hop.via?;
    Some(match (via, route.to) {
        (IpAddr::V6(via), IpNet::V4(_)) => RouteAttribute::Via(RouteVia::Inet6(via)),
        _ => RouteAttribute::Gateway(via.into()),
    })
}

fn metrics(route: &Route) -> Option<Vec<RouteMetric>> {
    let locked = (route.locked != 0).then_some((LOCK, route.locked));
    let tell =
        |(number, value): (u16, u32)| RouteMetric::Other(DefaultNla::new(number, value.to_ne_bytes().into()));
    let all: Vec<RouteMetric> = locked.into_iter().chain(route.metrics.iter().copied()).map(tell).collect();
    (!all.is_empty()).then_some(all)
}

fn kind(kind: RouteKind) -> RouteType {
    match kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Local => RouteType::Local,
        RouteKind::Blackhole => RouteType::BlackHole,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Prohibit => RouteType::Prohibit,
        RouteKind::Throw => RouteType::Throw,
    }
}

impl From<Preference> for RoutePreference {
    fn from(preference: Preference) -> RoutePreference {
        match preference {
            Preference::Low => RoutePreference::Low,
            Preference::Medium => RoutePreference::Medium,
            Preference::High => RoutePreference::High,
        }
    }
}

pub fn rule(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(rule.ipv6);
    message.header.tos = rule.tos;
    message.header.src_len = rule.from.map_or(0, |net| net.prefix_len());
    message.header.dst_len = rule.to.map_or(0, |net| net.prefix_len());
    if rule.not {
        message.header.flags = RuleFlags::Invert;
    }
    let (action, table) = match rule.action {
        Action::Table(table) => (RuleAction::ToTable, Some(table)),
        Action::Blackhole => (RuleAction::Blackhole, None),
        Action::Unreachable => (RuleAction::Unreachable, None),
        Action::Prohibit => (RuleAction::Prohibit, None),
    };
    message.header.action = action;
    let ports = |(start, end)| RulePortRange { start, end };
    let users = |(start, end)| RuleUidRange { start, end };
    let each = [
        Some(RuleAttribute::Protocol(protocol())),
        Some(RuleAttribute::Priority(rule.priority)),
        rule.from.map(|net| RuleAttribute::Source(net.addr())),
        rule.to.map(|net| RuleAttribute::Destination(net.addr())),
        rule.iif.clone().map(RuleAttribute::Iifname),
        rule.oif.clone().map(RuleAttribute::Oifname),
        rule.mark.map(|(mark, _)| RuleAttribute::FwMark(mark)),
        rule.mark.map(|(_, mask)| RuleAttribute::FwMask(mask)),
        rule.protocol.map(|number| RuleAttribute::IpProtocol(number.into())),
        rule.sport.map(|range| RuleAttribute::SourcePortRange(ports(range))),
        rule.dport.map(|range| RuleAttribute::DestinationPortRange(ports(range))),
        rule.users.map(|range| RuleAttribute::UidRange(users(range))),
        rule.suppress.map(RuleAttribute::SuppressPrefixLen),
        table.map(RuleAttribute::Table),
    ];
    message.attributes = each.into_iter().flatten().collect();
    message
}

pub fn is_ours(message: &RuleMessage) -> bool {
    message.attributes.contains(&RuleAttribute::Protocol(protocol()))
}

/// Whether the kernel tells of what it was told so. It adds what was left open.
pub fn is_told_by(told: &RuleMessage, listed: &RuleMessage) -> bool {
    let (a, b) = (&told.header, &listed.header);
    (a.family, a.tos, a.src_len, a.dst_len, a.action) == (b.family, b.tos, b.src_len, b.dst_len, b.action)
        && b.flags.contains(a.flags)
        && told.attributes.iter().all(|attribute| listed.attributes.contains(attribute))
}
