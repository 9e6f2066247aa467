//! The model becomes a haclusterd.toml: what both forms share.

mod checks;
mod cluster;
mod legal;
mod tell;
mod vrrp;

use super::finding::{At, Findings, Kind};
use super::model::{Address, Command, Model, Way};
use crate::config::parse::values::show;
use crate::config::{Config, place, way};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Where programs are looked for that have no full name.
const SYSTEM: [&str; 6] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Virtual routers, beside keepalived on other hosts.
    Vrrp,
    /// VIPs of a cluster.
    Cluster,
    /// Virtual routers whose VIPs are about to become the cluster's.
    Both,
}

/// What a keepalived.conf does not say.
#[derive(Debug, Clone)]
pub struct Node {
    pub name: String,
    pub listen: SocketAddr,
    /// As whom scripts run that name nobody.
    pub script_user: String,
}

impl Node {
    #[must_use]
    pub fn user_of<'a>(&'a self, command: &'a Command) -> &'a str {
        command.user.as_deref().unwrap_or(&self.script_user)
    }
}

/// Nothing of what is written is refused by [`Config::parse`], which has made the other half of it. `None`: it was in vain.
pub fn write(model: &Model, mode: Mode, node: &Node, findings: &mut Findings) -> (String, Option<Config>) {
    let mut doc =
        Doc { text: String::new(), node, findings, addresses: BTreeSet::new(), names: BTreeSet::new() };
    doc.addresses.insert(node.listen.ip());
    match mode {
        Mode::Vrrp => vrrp::write(&mut doc, model),
        Mode::Cluster => cluster::write(&mut doc, model),
        Mode::Both => cluster::write_both(&mut doc, model),
    }
    not_run_yet(model, doc.findings);
    doc.comments(&model.comments);
    let text = doc.text;
    legal::keep(text, &model.file, findings)
}

fn not_run_yet(model: &Model, findings: &mut Findings) {
    for server in &model.virtual_servers {
        let what = format!(
            "a virtual server with {} real servers is read, and not run yet",
            server.real_servers.len()
        );
        findings.add(Kind::Missing, &server.at, what, "leave it to keepalived, or to nginx as a proxy");
    }
    for group in &model.server_groups {
        let what = format!("the virtual server group {} is read, and not run yet", group.name);
        findings.add(Kind::Missing, &group.at, what, "leave it to keepalived");
    }
}

struct Doc<'a> {
    text: String,
    node: &'a Node,
    findings: &'a mut Findings,
    /// What may be in the file only once.
    addresses: BTreeSet<IpAddr>,
    names: BTreeSet<String>,
}

impl Doc<'_> {
    fn comments(&mut self, comments: &[String]) {
        if !comments.is_empty() {
            self.text.push('\n');
        }
        for comment in comments {
            let clean: String = comment.chars().filter(|c| !c.is_control() || *c == '\t').collect();
            let _ = writeln!(self.text, "# {clean}");
        }
    }

    /// A table, with the comments that stood above it.
    fn table(&mut self, name: &str, comments: &[String]) {
        self.comments(comments);
        let _ = writeln!(self.text, "{}{name}", if comments.is_empty() { "\n" } else { "" });
    }

    fn key(&mut self, key: &str, value: impl Into<toml::Value>) {
        let _ = writeln!(self.text, "{key} = {}", value.into());
    }

    fn span(&mut self, key: &str, value: Duration) {
        self.key(key, show(value));
    }

    fn texts(&mut self, key: &str, values: Vec<String>) {
        if !values.is_empty() {
            self.key(key, values);
        }
    }

    fn add(&mut self, kind: Kind, at: &At, what: impl Into<String>, remedy: impl Into<String>) {
        self.findings.add(kind, at, what, remedy);
    }

    /// A name that haclusterd takes, and takes only once.
    fn name(&mut self, at: &At, name: &str, most: usize, legal: fn(char) -> bool) -> String {
        let own = self.own_name(name, most, legal);
        if own != name {
            self.add(
                Kind::Differs,
                at,
                format!("{name} is called {own} here"),
                "scripts that look for the name must know this one",
            );
        }
        own
    }

    /// One that comes from another, and is not told.
    fn derived(&mut self, name: &str, end: &str) -> String {
        let base: String = name.chars().take(MAX_NAME - end.len()).collect();
        self.own_name(&(base + end), MAX_NAME, is_vip_name)
    }

    fn own_name(&mut self, name: &str, most: usize, legal: fn(char) -> bool) -> String {
        let clean: String = name.chars().map(|c| if legal(c) { c } else { '-' }).take(most).collect();
        let clean = clean.trim_matches(' ').to_owned();
        let mut own = if clean.is_empty() { "x".to_owned() } else { clean.clone() };
        for n in 2.. {
            if self.names.insert(own.clone()) {
                break;
            }
            let end = format!("-{n}");
            own = clean.chars().take(most - end.len()).collect::<String>() + &end;
        }
        own
    }

    /// In the form of the key `addresses`: those that can be on that interface.
    fn addresses(&mut self, own: &[Address], interface: Option<&str>) -> Vec<String> {
        own.iter().filter_map(|address| self.address(address, interface)).collect()
    }

    fn address(&mut self, address: &Address, interface: Option<&str>) -> Option<String> {
        let ip = address.net.addr();
        let (what, remedy) = if !self.addresses.insert(ip) {
            (
                format!("{ip} is there already, or is this host's own"),
                "an address belongs to one VIP: remove one".to_owned(),
            )
        } else {
            let mut text = IpNet::new_assert(ip, address.net.prefix_len()).to_string();
            let dev = address.interface.as_deref().filter(|dev| Some(*dev) != interface);
            if let Some(dev) = dev {
                let _ = write!(text, " dev {dev}");
            }
            if let Some(label) = self.label(address, dev.or(interface)) {
                let _ = write!(text, " label {label}");
            }
            match place::address(&text) {
                Ok(_) => return Some(text),
                Err(fault) => (fault.what, fault.remedy),
            }
        };
        self.add(Kind::Missing, &address.at, what, remedy);
        None
    }

    fn label<'a>(&mut self, address: &'a Address, interface: Option<&str>) -> Option<&'a str> {
        let label = address.label.as_deref()?;
        let begins = interface.is_none_or(|interface| label.starts_with(interface));
        if begins && label.len() <= 15 && address.net.addr().is_ipv4() {
            return Some(label);
        }
        let what = format!("the label {label} of {} is left out", address.net.addr());
        let remedy = "it must begin with the interface's name, have at most 15 characters, and is for IPv4";
        self.add(Kind::Differs, &address.at, what, remedy);
        None
    }

    /// `ipv6`: of which family what names no address is.
    fn ways(&mut self, routes: &[Way], rules: &[Way], ipv6: bool) {
        let legal = |way: &Way| way::route(&way.text, ipv6).map(drop);
        self.legal_ways("routes", routes, legal);
        let legal = |way: &Way| way::rule(&way.text, ipv6).map(drop);
        self.legal_ways("rules", rules, legal);
    }

    fn legal_ways(&mut self, key: &str, ways: &[Way], legal: impl Fn(&Way) -> Result<(), String>) {
        let mut kept = Vec::new();
        for way in ways {
            match legal(way) {
                Ok(()) => kept.push(way.text.clone()),
                Err(why) => {
                    let what = format!("`{}` is not carried: {why}", way.text);
                    let remedy =
                        "write it in other words, or let notify_master and notify_backup set it with `ip`";
                    self.add(Kind::Missing, &way.at, what, remedy);
                }
            }
        }
        self.texts(key, kept);
    }

    /// keepalived looks programs up in the usual directories; here they have a full name.
    fn command(&mut self, command: &Command) -> Vec<String> {
        let Some((program, rest)) = command.words.split_first() else { return Vec::new() };
        if program.starts_with('/') {
            return command.words.clone();
        }
        let known = SYSTEM.iter().map(|dir| format!("{dir}/{program}"));
        let found = known.filter(|_| !program.contains('/')).find(|path| Path::new(path).is_file());
        let full = found.unwrap_or_else(|| {
            let guess = format!("/usr/bin/{}", program.trim_start_matches("./"));
            let what = format!("{program} is not found on this host, and written as {guess}");
            self.add(Kind::Differs, &command.at, what, "write its full name");
            guess
        });
        std::iter::once(full).chain(rest.iter().cloned()).collect()
    }

    fn head(&mut self, model: &Model) {
        let _ = writeln!(self.text, "# Made of a keepalived.conf. After a change: haclusterd check");
        self.table("[node]", &model.global.comments);
        self.key("name", self.node.name.clone());
        self.key("listen", self.node.listen.to_string());
    }
}

fn is_vip_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.:".contains(c)
}
const MAX_NAME: usize = 63;
