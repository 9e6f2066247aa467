//! A switch, hosts and a client, each a network namespace. They are known to this process alone and end with it.

use crate::frr::MACVLAN;
use std::net::IpAddr;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

pub const CLIENT: usize = 0;
/// A host that is no member.
pub const STRANGER: usize = 9;
const SWITCH: &str = "switch";

#[derive(Debug, Clone, Copy)]
pub struct Net;

impl Net {
    /// Hosts 1 to `hosts` at 10.0.0.11 and up, the client, 10.0.0.10, and the stranger, 10.0.0.19.
    pub fn new(hosts: usize) -> Net {
        // Namespaces are named in /run; its other files are not ours to see or to litter.
        run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]));
        // `ip netns exec` gives each program mounts of its own: they follow what happens to these later.
        run(Command::new("mount").args(["--make-rshared", "/"]));
        ip(&format!("netns add {SWITCH}"));
        ip(&format!("-n {SWITCH} link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0"));
        ip(&format!("-n {SWITCH} link set br0 up"));
        // Many hosts leave no place for a stranger.
        (0..=hosts).chain((hosts < STRANGER).then_some(STRANGER)).for_each(|host| Net.plug(host));
        Net
    }

    /// The namespaces go, once nobody is in them.
    pub fn end(self) {
        let _ = Command::new("umount").args(["-l", "/run"]).output();
    }

    fn plug(self, host: usize) {
        let name = self.host(host);
        ip(&format!("netns add {name}"));
        ip(&format!("-n {SWITCH} link add p{host} type veth peer name eth0 netns {name}"));
        ip(&format!("-n {SWITCH} link set p{host} master br0 up"));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!("-n {name} address add 10.0.0.{}/24 dev eth0", 10 + host));
        ip(&format!("-n {name} address add fd00::{}/64 dev eth0 nodad", 10 + host));
    }

    /// A network of its own among the hosts that have one: 10.1.0.11 and up, on eth1.
    pub fn second_path(self, host: usize) {
        let name = self.host(host);
        if host == 1 {
            ip(&format!("-n {SWITCH} link add br1 type bridge forward_delay 0 stp_state 0 mcast_snooping 0"));
            ip(&format!("-n {SWITCH} link set br1 up"));
        }
        ip(&format!("-n {SWITCH} link add q{host} type veth peer name eth1 netns {name}"));
        ip(&format!("-n {SWITCH} link set q{host} master br1 up"));
        ip(&format!("-n {name} link set eth1 up"));
        ip(&format!("-n {name} address add 10.1.0.{}/24 dev eth1", 10 + host));
    }

    fn host(self, host: usize) -> String {
        format!("host{host}")
    }

    /// Nothing goes in or out of the host any more, and nobody is told.
    pub fn cut(self, host: usize) {
        self.obstruct("cut", "forward", &format!("{}; {}", from(host, "drop"), to(host, "drop")));
    }

    pub fn mend(self) {
        self.clear("cut");
    }

    /// Rules of the switch: a table of this name, which no host can see or flush.
    pub fn obstruct(self, name: &str, hook: &str, rules: &str) {
        let chain = format!("type filter hook {hook} priority 0; {rules};");
        self.in_switch(&["nft", &format!("table bridge {name} {{ chain f {{ {chain} }}; }}")]);
    }

    pub fn clear(self, name: &str) {
        self.in_switch(&["nft", &format!("delete table bridge {name}")]);
    }

    /// The switch's number of the cable to the host, or of the bridge between them.
    pub fn port(self, host: Option<usize>) -> u32 {
        let name = host.map_or("br0".into(), |host| format!("p{host}"));
        // Not from /sys, which shows the namespace that mounted it.
        let listed = ip(&format!("-n {SWITCH} -o link show {name}")).stdout;
        String::from_utf8_lossy(&listed).split(':').next().unwrap().parse().unwrap()
    }

    fn in_switch(self, command: &[&str]) {
        run(Command::new("ip").args(["netns", "exec", SWITCH]).args(command));
    }

    /// The far end of the host's cable goes down: the host sees its carrier go.
    pub fn set_carrier(self, host: usize, up: bool) {
        ip(&format!("-n {SWITCH} link set p{host} {}", if up { "up" } else { "down" }));
    }

    pub fn ip(self, host: usize, command: &str) -> Output {
        ip(&format!("-n {} {command}", self.host(host)))
    }

    /// An administrator at the host's nftables.
    pub fn nft(self, host: usize, command: &str) -> String {
        let done = run(self.command(host, "nft").arg(command));
        String::from_utf8(done.stdout).unwrap()
    }

    /// A host that has just come up sends nothing from its link-local address before it knows that it is alone with it.
    pub fn until_link_local_on(self, host: usize) {
        let tentative = || !self.ip(host, "-6 -o address show tentative").stdout.is_empty();
        while tentative() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Does the kernel say that the host has the address?
    pub fn has(self, host: usize, address: IpAddr) -> bool {
        let listed = self.ip(host, "-o address show").stdout;
        let listed = String::from_utf8_lossy(&listed);
        let mut on_it = listed.lines().filter(|line| line.contains(&format!(" {address}/")));
        on_it.any(|line| !line.contains(MACVLAN)) || self.leads_on_macvlan(host)
    }

    /// Of the first so many hosts, that one and no other has the address.
    pub fn has_alone(self, hosts: usize, host: usize, address: IpAddr) -> bool {
        (1..=hosts).all(|other| self.has(other, address) == (other == host))
    }

    /// FRR leaves the address where it is and takes the carrier from its macvlan.
    pub fn leads_on_macvlan(self, host: usize) -> bool {
        let listed = self.ip(host, "-br link show type macvlan").stdout;
        String::from_utf8_lossy(&listed)
            .lines()
            .any(|line| line.starts_with(MACVLAN) && line.contains(" UP "))
    }

    pub fn command(self, host: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host(host), program]).stdin(Stdio::null());
        command
    }

    /// A thread of its own inside the host's network.
    pub fn inside<T: Send + 'static>(
        self,
        host: usize,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        within(&self.host(host), body)
    }

    /// The same inside the switch.
    pub fn inside_switch<T: Send + 'static>(
        self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        within(SWITCH, body)
    }
}

/// A rule for what the host sends.
pub fn from(host: usize, verdict: &str) -> String {
    format!("iifname p{host} {verdict}")
}

/// A rule for what is sent to the host.
pub fn to(host: usize, verdict: &str) -> String {
    format!("oifname p{host} {verdict}")
}

fn within<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let path = format!("/run/netns/{name}");
    std::thread::spawn(move || {
        let namespace = std::fs::File::open(path).unwrap();
        let kind = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(kind)).unwrap();
        body()
    })
}

fn ip(command: &str) -> Output {
    run(Command::new("ip").args(command.split(' ')))
}

fn run(command: &mut Command) -> Output {
    let done = command.output().expect("iproute2 and nftables are installed");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {said} (the lab needs root and network namespaces)");
    done
}
