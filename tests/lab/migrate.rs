//! From keepalived to haclusterd while a client asks: docs/keepalived.md, command by command.

use crate::alone;
use crate::lab::{self, Seen};
use crate::net::Net;
use crate::node::Node;
use crate::rival::{Check, Keepalived, VIP};
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);
const PRIORITIES: [u8; 2] = [150, 100];
/// Of the host with priority 100 after a master that says goodbye: RFC 3768 6.1, Skew_Time.
const SKEW: Duration = Duration::from_millis(610);
const BUSY: Duration = Duration::from_millis(200);

struct Hosts {
    net: Net,
    theirs: Vec<Keepalived>,
    ours: Vec<Node>,
    dir: tempfile::TempDir,
}

/// As people write it.
fn config(host: usize, script: &Path) -> String {
    format!(
        "! Configuration File for keepalived\nglobal_defs {{\n   router_id lb{host}\n   script_user root\n   \
         enable_script_security\n}}\n\nvrrp_script chk_nginx {{\n    script \"{}\"\n    interval 1\n    weight -60\n}}\n\n\
         # the web servers\nvrrp_instance VI_1 {{\n    state BACKUP\n    interface eth0\n    virtual_router_id 51\n    \
         priority {}\n    advert_int 1\n    authentication {{\n        auth_type PASS\n        auth_pass 1111\n    }}\n    \
         virtual_ipaddress {{\n        {VIP}/24\n    }}\n    track_script {{\n        chk_nginx\n    }}\n}}\n",
        script.display(),
        PRIORITIES[host - 1]
    )
}

impl Hosts {
    /// Two with keepalived, and one that may be a witness.
    fn form() -> Hosts {
        let dir = tempfile::tempdir().unwrap();
        let net = Net::new(3);
        let place = |host: usize| dir.path().join(format!("lb{host}"));
        let ours: Vec<Node> = (1..=3).map(|host| Node::new(net, place(host), host)).collect();
        let start = |host: usize| {
            let script = Check::Process.write(place(host).join("chk_nginx"), &ours[host - 1].nginx);
            Keepalived::start(net, place(host).join("etc"), host, &config(host, &script))
        };
        let theirs = vec![start(1), start(2)];
        let hosts = Hosts { net, theirs, ours, dir };
        hosts.until_on(1);
        hosts
    }

    fn conf(&self, host: usize) -> String {
        self.dir.path().join(format!("lb{host}/etc/keepalived.conf")).display().to_string()
    }

    fn toml(&self, host: usize) -> String {
        self.dir.path().join(format!("lb{host}/haclusterd.toml")).display().to_string()
    }

    /// On that host alone.
    fn until_on(&self, host: usize) {
        let limit = Instant::now() + SECOND * 15;
        while !self.net.has_alone(2, host, VIP) {
            let logs = || self.ours.iter().map(Node::log).chain(self.theirs.iter().map(Keepalived::log));
            assert!(
                Instant::now() < limit,
                "not on lb{host} alone\n{}",
                logs().collect::<Vec<_>>().join("\n")
            );
            sleep(Duration::from_millis(20));
        }
    }

    fn observe(&mut self, case: &str, course: impl FnOnce(&mut Hosts)) -> Seen {
        let seen = lab::behold(self.net, &[1, 2], &[VIP], || {
            course(self);
            sleep(SECOND);
        });
        lab::note(case, &seen);
        seen
    }

    fn stop_theirs(&mut self, host: usize) {
        self.theirs[host - 1].stop();
    }

    fn start_ours(&mut self, host: usize) {
        self.ours[host - 1].start();
    }

    fn run_their_conf(&mut self, host: usize) {
        let conf = self.conf(host);
        self.ours[host - 1].start_with(&["--keepalived-conf", &conf]);
    }

    fn stop_ours(&mut self, host: usize) {
        self.ours[host - 1].signal(Signal::TERM);
        self.ours[host - 1].reap();
    }

    /// `systemctl reload`, after the priority was written anew.
    fn give_priority(&mut self, host: usize, old: &str, new: &str) {
        let text = fs::read_to_string(self.conf(host)).unwrap();
        fs::write(self.conf(host), text.replace(old, new)).unwrap();
        self.ours[host - 1].signal(Signal::HUP);
    }

    fn import(&self, host: usize, mode: &str, more: &[&str]) {
        let (name, listen) = (format!("lb{host}"), format!("10.0.0.1{host}"));
        let (conf, toml) = (self.conf(host), self.toml(host));
        let words = ["import", &conf, "--mode", mode, "--name", &name, "--listen", &listen, "-o", &toml];
        self.ours[host - 1].must(&[&words, more].concat());
    }

    fn join(&self, host: usize, first: usize, more: &[&str]) {
        let role = if host == 3 { "witness" } else { "member" };
        let token = self.ours[first - 1].must(&["token", "create", "--quiet", "--role", role]);
        let file = self.dir.path().join(format!("lb{host}/token"));
        fs::write(&file, token).unwrap();
        let (peer, file) = (format!("10.0.0.1{first}"), file.display().to_string());
        self.ours[host - 1].must(&[&["join", &peer, "--token-file", &file], more].concat());
    }

    /// All say that this one owns the cluster's VIP.
    fn until_owned_by(&self, owner: &str) {
        let limit = Instant::now() + SECOND * 15;
        let agrees = |node: &Node| {
            let status = node.ask("status").unwrap_or_default();
            let vips = status["vips"].as_array().cloned().unwrap_or_default();
            vips.iter().any(|vip| vip["name"] == "VI_1" && vip["owner"] == owner)
        };
        while !self.ours.iter().all(agrees) {
            let status = self.ours[0].ask("status");
            assert!(
                Instant::now() < limit,
                "{owner} is not the owner everywhere: {status:?}\n{}",
                self.ours[0].log()
            );
            sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.net.end();
    }
}

#[test]
fn a_host_is_switched_by_its_unit_and_back() {
    alone(|| {
        let mut hosts = Hosts::form();
        let seen = hosts.observe("the backup is switched", |hosts| {
            hosts.stop_theirs(2);
            hosts.run_their_conf(2);
            sleep(SECOND * 4);
        });
        assert_eq!((seen.holding.order.as_slice(), seen.failed()), (&[1][..], 0), "{seen:?}");
        let seen = hosts.observe("the master is switched", |hosts| {
            hosts.stop_theirs(1);
            hosts.run_their_conf(1);
            hosts.until_on(1);
        });
        assert!(seen.gap() < SKEW + BUSY, "{seen:?}");
        let seen = hosts.observe("the master goes back to keepalived", |hosts| {
            hosts.stop_ours(1);
            hosts.theirs[0].start_again();
            hosts.until_on(1);
        });
        assert!(seen.gap() < SKEW + BUSY, "{seen:?}");
        let seen = hosts.observe("the other one first gets the VIP", |hosts| {
            hosts.give_priority(2, "priority 100", "priority 200");
            hosts.until_on(2);
            hosts.stop_theirs(1);
            hosts.run_their_conf(1);
            sleep(SECOND);
            hosts.give_priority(2, "priority 200", "priority 100");
            hosts.until_on(1);
        });
        assert!(seen.gap() < BUSY, "{seen:?}");
    });
}

#[test]
fn two_keepalived_hosts_become_a_cluster() {
    alone(|| {
        let mut hosts = Hosts::form();
        let seen = hosts.observe("the backup begins a cluster", |hosts| {
            hosts.stop_theirs(2);
            hosts.import(2, "both", &[]);
            hosts.ours[1].must(&["init", "--use-config"]);
            hosts.start_ours(2);
            sleep(SECOND);
        });
        assert_eq!((seen.holding.order.as_slice(), seen.failed()), (&[1][..], 0), "{seen:?}");
        hosts.join(3, 2, &["--name", "lb3", "--listen", "10.0.0.13", "--role", "witness"]);
        hosts.start_ours(3);
        let seen = hosts.observe("the master joins it", |hosts| {
            hosts.import(1, "both", &[]);
            hosts.join(1, 2, &["--use-config"]);
            hosts.stop_theirs(1);
            hosts.start_ours(1);
            hosts.until_owned_by("lb2");
        });
        // What the cluster has granted no virtual router takes away: the better priority waits for the end.
        assert_eq!(seen.holding.order, [1, 2], "{seen:?}");
        assert!(seen.gap() < SKEW + BUSY, "{seen:?}");
        let seen = hosts.observe("the cluster alone", |hosts| {
            for host in [1, 2] {
                hosts.import(host, "cluster", &["--force"]);
                hosts.ours[host - 1].signal(Signal::HUP);
                sleep(SECOND);
            }
            hosts.until_owned_by("lb1");
        });
        assert_eq!((seen.holding.order.as_slice(), seen.failed()), (&[2, 1][..], 0), "{seen:?}");
        let seen = hosts.observe("and its owner's nginx is killed", |hosts| {
            hosts.ours[0].kill_nginx();
            hosts.until_on(2);
        });
        seen.never_two();
    });
}
