//! One host of ours and one of theirs.

use super::way::{SECOND, VRID, Way};
use crate::frr::Frr;
use crate::lab::{self, Seen};
use crate::net::{CLIENT, Net};
use crate::nginx::Nginx;
use crate::node::Node;
use crate::rival::Keepalived;
use rustix::process::Signal;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub const OURS: usize = 1;
pub const THEIRS: usize = 2;

/// Another program that speaks VRRP.
pub trait Other {
    fn stop(&mut self);
    fn start_again(&mut self);
    fn log(&self) -> String;
}

impl Other for Keepalived {
    fn stop(&mut self) {
        Keepalived::stop(self);
    }

    fn start_again(&mut self) {
        Keepalived::start_again(self);
    }

    fn log(&self) -> String {
        Keepalived::log(self)
    }
}

impl Other for Frr {
    fn stop(&mut self) {
        Frr::stop(self);
    }

    fn start_again(&mut self) {
        Frr::start_again(self);
    }

    fn log(&self) -> String {
        Frr::log(self)
    }
}

/// With this priority.
pub type Start = fn(Net, PathBuf, Way, u8) -> Box<dyn Other>;

pub fn keepalived(net: Net, dir: PathBuf, way: Way, priority: u8) -> Box<dyn Other> {
    Box::new(Keepalived::start(net, dir, THEIRS, &way.theirs(priority)))
}

pub fn frr(net: Net, _: PathBuf, way: Way, priority: u8) -> Box<dyn Other> {
    Box::new(Frr::start(net, THEIRS, VRID, way.vip, &way.frr(priority)))
}

pub struct Pair {
    pub way: Way,
    pub net: Net,
    pub ours: Node,
    pub theirs: Box<dyn Other>,
    _nginx: Nginx,
    _dir: tempfile::TempDir,
}

impl Pair {
    /// With their priorities.
    pub fn form(start: Start, way: Way, ours: u8, theirs: u8) -> Pair {
        Pair::form_with(start, way, &way.ours(ours), theirs)
    }

    /// With our configuration of the virtual router, and their priority.
    pub fn form_with(start: Start, way: Way, ours: &str, theirs: u8) -> Pair {
        let dir = tempfile::tempdir().unwrap();
        let net = Net::new(2);
        if way.address().is_ipv6() {
            [OURS, THEIRS].into_iter().for_each(|host| net.until_link_local_on(host));
        }
        let mut node = Node::new(net, dir.path().join("lb1"), OURS);
        node.init_without_vip();
        node.set_config(&(node.config() + ours));
        let other = start(net, dir.path().join("lb2"), way, theirs);
        let nginx = Nginx::new(net, dir.path().join("lb2/nginx"), THEIRS);
        node.start();
        Pair { way, net, ours: node, theirs: other, _nginx: nginx, _dir: dir }
    }

    pub fn until_on(&self, host: usize) {
        let limit = Instant::now() + Duration::from_secs(15);
        let alone = |host| self.net.has_alone(2, host, self.way.address());
        // FRR is the master of IPv6 for some tenths of a second before it can say so, and another takes the address.
        let settled = if self.way.address().is_ipv6() { SECOND / 2 } else { Duration::ZERO };
        let mut since = None;
        while !alone(host) || since.get_or_insert_with(Instant::now).elapsed() < settled {
            if !alone(host) {
                since = None;
            }
            assert!(
                Instant::now() < limit,
                "{}: not on host {host} alone within 15 s\n{}\n{}",
                self.way.name,
                self.ours.log(),
                self.theirs.log()
            );
            sleep(Duration::from_millis(20));
        }
    }

    pub fn reload(&self, config: &str) {
        self.ours.set_config(config);
        self.ours.signal(Signal::HUP);
    }

    pub fn until_logged(&self, text: &str) {
        let limit = Instant::now() + SECOND * 5;
        while !self.ours.log().contains(text) {
            assert!(Instant::now() < limit, "{}\n{}", self.ours.log(), self.theirs.log());
            sleep(Duration::from_millis(20));
        }
    }

    pub fn observe(&mut self, case: &str, span: Duration, fault: impl FnOnce(&mut Pair)) -> Seen {
        let vip = [self.way.address()];
        let case = format!("{}: {case}", self.way.name);
        let seen = lab::behold(self.net, &[OURS, THEIRS], &vip, || {
            fault(self);
            sleep(span);
        });
        lab::note(&case, &seen);
        self.believed(&seen);
        seen
    }

    /// Where the client's packets go. (keepalived asks for a client's MAC by its own, and clients learn from that.)
    fn believed(&self, seen: &Seen) {
        let Some(mac) = self.way.mac.filter(|_| seen.holding.holders == [OURS]) else { return };
        let neighbors = self.net.ip(CLIENT, &format!("neigh show to {}", self.way.address()));
        let text = String::from_utf8_lossy(&neighbors.stdout).into_owned();
        assert!(text.contains(mac), "{}: {text}", self.way.name);
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.net.end();
    }
}
