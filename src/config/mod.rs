//! The configuration file: TOML text in, a [`Config`] out whose every value is legal.
//!
//! Nothing behind this module checks a value again, and nothing runs on a file that has one mistake in it: the
//! answer to a bad file is a [`ConfigError`] that names each mistake by file, line and key, with its remedy.

mod check;
mod digest;
mod error;
mod hint;
pub mod hooks;
pub mod keepalived;
mod parse;
mod place;
mod source;
mod vrrp;
mod way;
mod write;

pub use check::{
    Check, Counting, Gateway, Http, Kind, Method, Nginx, Process, Programs, Restart, Script, StatusSet, Url,
};
pub use error::{ConfigError, Fault, Problem};
pub use parse::values::{address, cidr, interface, name, node_address, priority, url, vip_address};
pub use place::Address;
pub use source::Source;
pub use vrrp::{VirtualMac, Vrrp};
pub use way::{Action, Hop, Preference, Route, RouteKind, Rule};
pub use write::NewNode;

use crate::engine::time::Timers;
use haclusterd_proto::{AddrId, Priority, Role, VipId};
use hooks::{Fifo, Group, Hook, Mail, Notify};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Where a node listens when its address names no port.
pub const DEFAULT_PORT: u16 = 7946;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub node: Node,
    pub cluster: Cluster,
    /// Whose owner the cluster elects.
    pub vips: Vec<Vip>,
    /// Whose master VRRP elects.
    pub routers: Vec<Vrrp>,
    pub checks: Vec<Check>,
    /// Those that tell something as one.
    pub groups: Vec<Group>,
    pub fifo: Option<Fifo>,
    pub hooks: Vec<Hook>,
    pub mail: Option<Mail>,
    pub web: Option<Web>,
}

/// What others may look at over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Web {
    pub listen: SocketAddr,
    /// For browsers, besides metrics and health.
    pub page: bool,
}

/// What is this node's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub listen: SocketAddr,
    pub role: Role,
    pub priority: Priority,
    /// Where VIPs go that name no interface.
    pub interface: Option<String>,
    pub seeds: Vec<SocketAddr>,
    /// Other work on this host does not keep the daemon's core waiting.
    pub realtime: bool,
}

/// What must be the same on every node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    pub voters_max: usize,
    /// Two voters: one alone holds no VIP.
    pub strict_pair: bool,
    pub timers: Timers,
    /// The two-node mode takes over only while it answers.
    pub gateway: Option<IpAddr>,
    /// Who has a check that is down comes after all who are healthy, whatever the weights.
    pub strict_health: bool,
}

/// Addresses that always move together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vip {
    pub id: VipId,
    pub name: String,
    /// At least one of these or of the next.
    pub addresses: Vec<Address>,
    /// Of a virtual router: those that come and go with the others, and that no advert names. Of any family.
    pub excluded: Vec<Address>,
    /// They come after the addresses and go before them.
    pub routes: Vec<Route>,
    pub rules: Vec<Rule>,
    /// Always there on a member. A witness holds no VIP and may leave it out.
    pub interface: Option<String>,
    /// On an interface of their own on top of that one.
    pub virtual_mac: Option<VirtualMac>,
    pub preempt: bool,
    pub preempt_delay: Duration,
    /// Between two announcements while held. `None`: announce only on taking.
    pub announce_refresh: Option<Duration>,
    pub notify: Notify,
}

impl Config {
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        Config::parse(&error::read(path)?, path)
    }

    /// `path` is only for the messages.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        parse::config(text, path)
    }

    /// What is legal, and yet better otherwise.
    #[must_use]
    pub fn advice(&self) -> Vec<String> {
        let clear = self.routers.iter().filter(|router| router.password.is_some() && !router.ah);
        let say = |router: &Vrrp| {
            format!(
                "{}: its password is sent in clear text, so it protects from mistakes alone: rely on it for nothing else, or \
                 write authentication = \"ah\" on all hosts of the group",
                router.vip.name
            )
        };
        clear.map(say).chain(self.idle_words()).collect()
    }

    /// What is to tell somebody something, and never will.
    fn idle_words(&self) -> Vec<String> {
        let has = |group: &&Group| self.routers.iter().any(|r| r.group.as_ref() == Some(&group.name));
        let empty = self.groups.iter().filter(|group| !has(group));
        let say = |Group { name, .. }: &Group| {
            format!(
                "{name}: no [[vrrp]] has group = \"{name}\", so it tells nothing: remove it, or add them to it"
            )
        };
        let alerts = self.all_vips().map(|vip| (&vip.name, &vip.notify));
        let alerts = alerts.chain(self.groups.iter().map(|group| (&group.name, &group.notify)));
        let alerts = alerts.filter(|(_, notify)| notify.alert && self.mail.is_none());
        let mute =
            |(name, _)| format!("{name}: smtp_alert has no [mail] to be sent by: add one, or remove it");
        empty.map(say).chain(alerts.map(mute)).collect()
    }

    /// All groups of addresses that this node may ever hold.
    pub fn all_vips(&self) -> impl Iterator<Item = &Vip> {
        self.vips.iter().chain(self.routers.iter().map(|router| &router.vip))
    }

    /// The key whose new value only a restart can bring into force: it is in the certificate, the socket is bound to
    /// it, or voters have granted by it. Everything else may change while the daemon runs.
    #[must_use]
    pub fn needs_restart(&self, new: &Config) -> Option<&'static str> {
        let timers = self.cluster.timers != new.cluster.timers;
        let (old, new) = (&self.node, &new.node);
        [
            ("cluster.lease", timers),
            ("node.name", old.name != new.name),
            ("node.listen", old.listen != new.listen),
            ("node.role", old.role != new.role),
        ]
        .into_iter()
        .find_map(|(key, changed)| changed.then_some(key))
    }
}

impl Vip {
    /// Where the addresses are.
    #[must_use]
    pub fn seat(&self) -> Option<&str> {
        self.virtual_mac.as_ref().map(|own| own.interface.as_str()).or(self.interface.as_deref())
    }

    /// The interface that the address is put on, or that is below the one with a virtual MAC.
    #[must_use]
    pub fn link_of<'a>(&'a self, address: &'a Address) -> Option<&'a str> {
        address.interface.as_deref().or(self.interface.as_deref())
    }

    /// All that come and go together.
    pub fn all(&self) -> impl Iterator<Item = &Address> {
        self.addresses.iter().chain(&self.excluded)
    }

    pub fn ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().map(Address::ip)
    }

    /// Of a virtual router, which has one family but for what is excluded.
    #[must_use]
    pub fn is_ipv6(&self) -> bool {
        match self.addresses.as_slice() {
            [] => self.excluded.first().is_some_and(|first| first.ip().is_ipv6()),
            all => all.iter().any(|address| address.ip().is_ipv6()),
        }
    }

    #[must_use]
    pub fn addr_ids(&self) -> Vec<AddrId> {
        self.ips().map(AddrId::of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        Config::parse(text, Path::new("test.toml")).unwrap()
    }

    const NODE: &str = "[node]\nname = 'lb1'\nlisten = '10.0.0.11'\ninterface = 'eth0'\n";

    #[test]
    fn only_the_identity_needs_a_restart() {
        let old = parse(NODE);
        let with = |from: &str, to: &str| parse(&NODE.replace(from, to));
        assert_eq!(old.needs_restart(&with("lb1", "lb2")), Some("node.name"));
        assert_eq!(old.needs_restart(&with(".11", ".12")), Some("node.listen"));
        assert_eq!(old.needs_restart(&with("interface", "role = 'witness'\ninterface")), Some("node.role"));
        assert_eq!(
            old.needs_restart(&with("[node]", "[cluster]\nprofile = 'wan'\n[node]")),
            Some("cluster.lease")
        );
        assert_eq!(old.needs_restart(&with("eth0", "eth1")), None);
    }

    #[test]
    fn an_example_of_every_key_is_read_whole() {
        let config = parse(include_str!("../../deploy/haclusterd.toml"));
        assert_eq!((config.node.name.as_str(), config.node.role), ("lb1", Role::Member));
        assert_eq!(config.node.listen, "10.0.0.11:7946".parse().unwrap());
        assert_eq!(config.cluster.timers.lease, Duration::from_millis(500));
        assert_eq!(config.vips[0].addr_ids().len(), config.vips[0].addresses.len());
        let Kind::Nginx(nginx) = &config.checks[0].kind else { panic!("{:?}", config.checks[0]) };
        let request = nginx.request.as_ref().unwrap();
        assert!(request.status.contains(302) && !request.status.contains(404));
    }
}
