//! The file that `init` and `join` write, with words for the operator who will edit it.

use super::parse::values::show;
use super::{Address, Config, Vip};
use haclusterd_proto::{Priority, Role};
use ipnet::IpNet;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What a new node is told on the command line.
#[derive(Debug, Clone)]
pub struct NewNode {
    pub name: String,
    pub listen: SocketAddr,
    pub role: Role,
    pub priority: Priority,
    pub interface: Option<String>,
    /// Each a group that moves together.
    pub vips: Vec<Vec<IpNet>>,
    /// Watches nginx.
    pub nginx: bool,
    pub nginx_pid: Option<PathBuf>,
    pub nginx_url: Option<String>,
    pub seeds: Vec<SocketAddr>,
}

impl NewNode {
    /// `shared`: the `[cluster]` and `[[vip]]` sections of the cluster that the node joins, instead of its own.
    #[must_use]
    pub fn to_toml(&self, shared: Option<&str>) -> String {
        let mut text = String::from(
            "# haclusterd. Check a change with `haclusterd check`, then reload (SIGHUP).\n\n[node]\n",
        );
        let _ = writeln!(text, "name = {}", quoted(&self.name));
        let _ = writeln!(text, "listen = {}", quoted(&self.listen.to_string()));
        let _ = writeln!(text, "role = {}", quoted(self.role.as_str()));
        let _ = writeln!(text, "priority = {}         # 1 to 254; the largest owns the VIPs", self.priority);
        if let Some(interface) = &self.interface {
            let _ = writeln!(text, "interface = {}", quoted(interface));
        }
        if !self.seeds.is_empty() {
            let seeds: Vec<String> = self.seeds.iter().map(|seed| quoted(&seed.to_string())).collect();
            let _ = writeln!(
                text,
                "seeds = [{}]   # where the cluster is found after a restart",
                seeds.join(", ")
            );
        }
        text.push_str("\n# The rest must be the same on every node.\n");
        match shared {
            Some(shared) => text.push_str(shared),
            None => {
                text.push_str(
                    "[cluster]\nprofile = \"lan\"         # an advert each 50 ms, a lease of 500 ms\n",
                );
                self.vips.iter().for_each(|group| text.push_str(&section(&list("addresses", group))));
            }
        }
        text.push_str(&self.nginx());
        text
    }

    fn nginx(&self) -> String {
        if !self.nginx {
            return String::new();
        }
        let mut text = String::from(
            "\n# What this node watches: when it fails, the VIPs go to another node. What is not said here, such as the\n\
             # pid file and where it listens, is found by `nginx -T`. Try it: haclusterd check --run\n\
             [[check]]\nkind = \"nginx\"\n",
        );
        if let Some(pid) = &self.nginx_pid {
            let _ = writeln!(text, "pid_file = {}", quoted(&pid.to_string_lossy()));
        }
        if let Some(url) = &self.nginx_url {
            let _ = writeln!(text, "url = {}", quoted(url));
        }
        text
    }
}

impl Config {
    /// What a joining node is given: everything that must be the same on every node.
    #[must_use]
    pub fn shared_toml(&self) -> String {
        let timers = self.cluster.timers;
        let mut text = String::from("[cluster]\n");
        let _ = writeln!(text, "voters_max = {}", self.cluster.voters_max);
        let _ = writeln!(text, "advert_interval = {}", quoted(&show(timers.advert)));
        let _ = writeln!(text, "lease = {}", quoted(&show(timers.lease)));
        if self.cluster.strict_pair {
            text.push_str("on_minority = \"release\"\n");
        }
        if !self.cluster.strict_health {
            text.push_str("strict_health = false\n");
        }
        if let Some(gateway) = self.cluster.gateway {
            let _ = writeln!(text, "gateway = {}", quoted(&gateway.to_string()));
        }
        self.vips.iter().for_each(|vip| text.push_str(&section(&keys(vip))));
        text
    }
}

fn keys(vip: &Vip) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "name = {}", quoted(&vip.name));
    // A host may have another interface for them, and none other than that which is named here.
    let elsewhere = |address: &Address| match address.interface {
        Some(_) => address.to_string(),
        None => address.net.to_string(),
    };
    text.push_str(&list("addresses", vip.addresses.iter().map(elsewhere)));
    let routes: Vec<&str> = vip.routes.iter().map(|route| route.text.as_str()).collect();
    let rules: Vec<&str> = vip.rules.iter().map(|rule| rule.text.as_str()).collect();
    for (key, ways) in [("routes", routes), ("rules", rules)].into_iter().filter(|(_, ways)| !ways.is_empty())
    {
        text.push_str(&list(key, ways));
    }
    if !vip.preempt {
        text.push_str("preempt = false\n");
    }
    if !vip.preempt_delay.is_zero() {
        let _ = writeln!(text, "preempt_delay = {}", quoted(&show(vip.preempt_delay)));
    }
    let refresh = vip.announce_refresh.unwrap_or_default();
    let _ = writeln!(text, "announce_refresh = {}", quoted(&show(refresh)));
    text
}

fn section(keys: &str) -> String {
    format!("\n[[vip]]\n{keys}")
}

fn list(key: &str, all: impl IntoIterator<Item = impl ToString>) -> String {
    let all: Vec<String> = all.into_iter().map(|one| quoted(&one.to_string())).collect();
    format!("{key} = [{}]\n", all.join(", "))
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Kind;
    use std::path::Path;

    fn new_node() -> NewNode {
        NewNode {
            name: "lb1".into(),
            listen: "10.0.0.11:7946".parse().unwrap(),
            role: Role::Member,
            priority: Priority(150),
            interface: Some("eth0".into()),
            vips: vec![vec!["10.0.0.100/24".parse().unwrap(), "fd00::100/64".parse().unwrap()]],
            nginx: true,
            nginx_pid: Some("/run/nginx \"odd\".pid".into()),
            nginx_url: Some("http://127.0.0.1/".into()),
            seeds: vec!["10.0.0.12:7946".parse().unwrap()],
        }
    }

    fn parse(text: &str) -> Config {
        Config::parse(text, Path::new("t.toml")).unwrap()
    }

    #[test]
    fn what_is_written_is_read_as_it_was_meant() {
        let config = parse(&new_node().to_toml(None));
        assert_eq!(config.node.priority, Priority(150));
        assert_eq!(config.vips[0].addresses.len(), 2);
        let Kind::Nginx(nginx) = &config.checks[0].kind else { panic!("{:?}", config.checks) };
        assert_eq!(nginx.pid_file.as_deref(), Some(Path::new("/run/nginx \"odd\".pid")));
    }

    #[test]
    fn a_joining_node_is_told_of_other_interfaces_and_of_routes() {
        let first = parse(
            "[node]\nname = 'lb1'\nlisten = '10.0.0.11'\ninterface = 'eth0'\n[[vip]]\nlabel = 'eth0:v'\n\
             addresses = ['10.0.0.100/24', '10.1.0.100/24 dev eth1 label eth1:v']\n\
             routes = ['default via 10.1.0.1 table 9']\nrules = ['from 10.1.0.100 table 9']",
        );
        let joined = parse(
            &NewNode { interface: Some("ens3".into()), ..new_node() }.to_toml(Some(&first.shared_toml())),
        );
        let shown = |config: &Config| config.vips[0].all().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown(&joined), ["10.0.0.100/24", "10.1.0.100/24 dev eth1 label eth1:v"]);
        assert_eq!(
            (&joined.vips[0].routes, &joined.vips[0].rules),
            (&first.vips[0].routes, &first.vips[0].rules)
        );
        assert_eq!(joined.digest(), first.digest());
    }

    #[test]
    fn a_joining_node_agrees_with_the_cluster() {
        let first = parse(&new_node().to_toml(None));
        let joined = parse(&NewNode { name: "lb2".into(), ..new_node() }.to_toml(Some(&first.shared_toml())));
        assert_eq!((joined.vips, joined.cluster), (first.vips.clone(), first.cluster.clone()));
    }
}
