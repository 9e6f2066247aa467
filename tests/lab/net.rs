//! A switch, hosts and a client, each a network namespace of this test alone. All of it goes with the value.

use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

static NETS: AtomicU32 = AtomicU32::new(0);

pub const CLIENT: usize = 0;
/// A host that is no member.
pub const STRANGER: usize = 9;

pub struct Net {
    prefix: String,
    hosts: Vec<usize>,
}

impl Net {
    /// Hosts 1 to `hosts` at 10.0.0.11 and up, and the client, 10.0.0.10.
    pub fn new(hosts: usize) -> Net {
        let prefix = format!("hl{}n{}", std::process::id(), NETS.fetch_add(1, Ordering::Relaxed));
        let net = Net { prefix, hosts: (0..=hosts).chain([STRANGER]).collect() };
        let switch = net.switch();
        ip(&format!("netns add {switch}"));
        ip(&format!("-n {switch} link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0"));
        ip(&format!("-n {switch} link set br0 up"));
        for host in net.hosts.clone() {
            net.plug(host);
        }
        net
    }

    fn plug(&self, host: usize) {
        let (name, switch) = (self.host(host), self.switch());
        ip(&format!("netns add {name}"));
        ip(&format!("-n {switch} link add p{host} type veth peer name eth0 netns {name}"));
        ip(&format!("-n {switch} link set p{host} master br0 up"));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!("-n {name} address add 10.0.0.{}/24 dev eth0", 10 + host));
        ip(&format!("-n {name} address add fd00::{}/64 dev eth0 nodad", 10 + host));
    }

    fn switch(&self) -> String {
        format!("{}s", self.prefix)
    }

    pub fn host(&self, host: usize) -> String {
        format!("{}h{host}", self.prefix)
    }

    /// Nothing goes in or out of the host any more, and nobody is told.
    pub fn cut(&self, host: usize) {
        let rules = format!(
            "table bridge cut {{ chain f {{ type filter hook forward priority 0; iifname \"p{host}\" drop; oifname \"p{host}\" drop; }}; }}"
        );
        self.in_switch(&["nft", &rules]);
    }

    pub fn mend(&self) {
        self.in_switch(&["nft", "delete table bridge cut"]);
    }

    fn in_switch(&self, command: &[&str]) {
        let done = Command::new("ip").args(["netns", "exec", &self.switch()]).args(command).output().unwrap();
        assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// The far end of the host's cable goes down: the host sees its carrier go.
    pub fn set_carrier(&self, host: usize, up: bool) {
        ip(&format!("-n {} link set p{host} {}", self.switch(), if up { "up" } else { "down" }));
    }

    pub fn ip(&self, host: usize, command: &str) -> Output {
        ip(&format!("-n {} {command}", self.host(host)))
    }

    pub fn command(&self, host: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host(host), program]).stdin(Stdio::null());
        command
    }

    /// A thread of its own inside the host's network.
    pub fn inside<T: Send + 'static>(
        &self,
        host: usize,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let path = format!("/run/netns/{}", self.host(host));
        std::thread::spawn(move || {
            let namespace = std::fs::File::open(path).unwrap();
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(kind))
                .unwrap();
            body()
        })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in self.hosts.iter().map(|host| self.host(*host)).chain([self.switch()]) {
            let _ = Command::new("ip").args(["netns", "del", &name]).stderr(Stdio::null()).status();
        }
    }
}

fn ip(command: &str) -> Output {
    let done = Command::new("ip").args(command.split(' ')).output().expect("iproute2 is installed");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "ip {command}: {said} (the lab needs root and network namespaces)");
    done
}
