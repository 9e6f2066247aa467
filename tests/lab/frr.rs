//! A host with FRR's vrrpd, and zebra, which it asks to move the address.
//!
//! FRR's address is on a macvlan with the virtual MAC from the first; it is the master while that macvlan has a carrier.
//! Of FRR 8.4.4, as packets show:
//! - Of IPv6, its first advert as the master is never sent, for the macvlan is not up yet: the next is, an interval later.
//! - A backup answers on whoever still sends to the virtual MAC: without a carrier the macvlan hears as before, and the
//!   kernel answers by way of eth0. So nobody notices that it stopped, until the next master announces itself.

use crate::net::Net;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

/// The first letters of its name.
pub const MACVLAN: &str = "frr";

pub struct Frr {
    net: Net,
    host: usize,
    dir: PathBuf,
    zebra: Child,
    vrrpd: Child,
}

impl Frr {
    /// `config`: of vrrpd; `vip`: with its prefix length.
    pub fn start(net: Net, host: usize, vrid: u8, vip: &str, config: &str) -> Frr {
        // It is no root when it opens its files: they are in the lab's /run.
        let dir = PathBuf::from(format!("/run/frr{host}"));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
        fs::write(dir.join("vrrpd.conf"), config).unwrap();
        fs::write(dir.join("zebra.conf"), "").unwrap();
        add_macvlan(net, host, vrid, vip);
        // Until the kernel knows it for the only one, FRR advertises nothing from its link-local address.
        until(|| net.ip(host, "address show tentative").stdout.is_empty());
        let zebra = daemon(net, host, &dir, "zebra");
        until(|| dir.join("zserv").exists());
        let vrrpd = daemon(net, host, &dir, "vrrpd");
        let frr = Frr { net, host, dir, zebra, vrrpd };
        until(|| !net.leads_on_macvlan(host));
        frr
    }

    /// As an administrator would.
    pub fn stop(&mut self) {
        kill_process(Pid::from_child(&self.vrrpd), Signal::TERM).unwrap();
        self.vrrpd.wait().unwrap();
    }

    pub fn start_again(&mut self) {
        self.vrrpd = daemon(self.net, self.host, &self.dir, "vrrpd");
    }

    pub fn log(&self) -> String {
        ["zebra", "vrrpd"].map(|name| fs::read_to_string(self.dir.join(name)).unwrap_or_default()).concat()
    }
}

impl Drop for Frr {
    fn drop(&mut self) {
        for child in [&mut self.vrrpd, &mut self.zebra] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// As FRR's manual says, and no answer for the address by way of eth0, which a backup would give otherwise.
fn add_macvlan(net: Net, host: usize, vrid: u8, vip: &str) {
    let (family, middle) = if vip.contains(':') { (6, 2) } else { (4, 1) };
    let name = format!("{MACVLAN}{family}");
    let sysctl = net.command(host, "sysctl").args(["-qw", "net.ipv4.conf.all.arp_ignore=1"]).status();
    assert!(sysctl.unwrap().success());
    net.ip(host, &format!("link add {name} link eth0 type macvlan mode bridge"));
    net.ip(host, &format!("link set {name} addrgenmode random"));
    net.ip(host, &format!("link set {name} address 00:00:5e:00:0{middle}:{vrid:02x}"));
    net.ip(host, &format!("address add {vip} dev {name}{}", if family == 6 { " nodad" } else { "" }));
    net.ip(host, &format!("link set {name} up"));
}

fn daemon(net: Net, host: usize, dir: &std::path::Path, name: &str) -> Child {
    let log = File::options().create(true).append(true).open(dir.join(name)).unwrap();
    let place = |file: String| dir.join(file).display().to_string();
    net.command(host, &format!("/usr/lib/frr/{name}"))
        .args(["-f", &place(format!("{name}.conf")), "-i", &place(format!("{name}.pid"))])
        .args(["-z", &place("zserv".into()), "--vty_socket", &place(String::new()), "-P", "0"])
        .args(["--log", "stdout", "--log-level", "info"])
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn until(is_so: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < limit, "FRR does not start within 10 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}
