//! Hosts of one virtual router, each with haclusterd or keepalived, started and ended one by one.

use super::cpu;
use super::way::{V3, VRID, Way};
use crate::lab::{self, Seen};
use crate::net::Net;
use crate::nginx::Nginx;
use crate::node::Node;
use crate::rival::Keepalived;
use rustix::process::Signal;
use std::thread::sleep;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(15);
/// The clients have found the new master.
const SETTLED: Duration = Duration::from_millis(100);

/// What runs on a host, with its configuration of the virtual router.
#[derive(Clone)]
pub enum Program {
    Haclusterd(String),
    Keepalived(String),
}

enum Member {
    Ours(Box<Node>),
    Theirs { keepalived: Keepalived, _nginx: Nginx },
}

pub struct Group {
    pub net: Net,
    way: Way,
    members: Vec<Member>,
    _dir: tempfile::TempDir,
}

impl Program {
    pub fn ours(way: Way, priority: u8, more: &str) -> Program {
        Program::Haclusterd(way.ours(priority) + more)
    }

    pub fn theirs(way: Way, priority: u8, more: &str) -> Program {
        let at = " interface eth0\n";
        Program::Keepalived(way.theirs(priority).replace(at, &format!("{at} {more}\n")))
    }

    /// With another VRID, name and address.
    pub fn numbered(&self, number: u8) -> Program {
        self.map(|config| {
            let config = config.replace(&VRID.to_string(), &number.to_string());
            config.replace("VI_1", &format!("VI_{number}")).replace(V3.vip, &format!("10.1.0.{number}/16"))
        })
    }

    /// All of the same kind, as one program.
    pub fn joined(programs: impl Iterator<Item = Program>) -> Program {
        programs.reduce(|all, next| all.map(|config| config.to_owned() + next.config())).unwrap()
    }

    fn config(&self) -> &str {
        let (Program::Haclusterd(config) | Program::Keepalived(config)) = self;
        config
    }

    fn map(&self, change: impl Fn(&str) -> String) -> Program {
        match self {
            Program::Haclusterd(config) => Program::Haclusterd(change(config)),
            Program::Keepalived(config) => Program::Keepalived(change(config)),
        }
    }
}

impl Group {
    /// On hosts 1, 2 and so on; none of them runs yet.
    pub fn new(way: Way, programs: &[Program]) -> Group {
        let dir = tempfile::tempdir().unwrap();
        let net = Net::new(programs.len());
        let member = |(program, host): (&Program, usize)| {
            let place = dir.path().join(format!("lb{host}"));
            match program {
                Program::Haclusterd(config) => {
                    let node = Node::new(net, place, host);
                    node.init_without_vip();
                    node.set_config(&(node.config() + config));
                    Member::Ours(node.into())
                }
                Program::Keepalived(config) => Member::Theirs {
                    keepalived: Keepalived::new(net, place.clone(), host, config),
                    _nginx: Nginx::new(net, place.join("nginx"), host),
                },
            }
        };
        let members = programs.iter().zip(1..).map(member).collect();
        Group { net, way, members, _dir: dir }
    }

    /// The first alone is the master when the others start.
    pub fn form(way: Way, programs: &[Program]) -> Group {
        let mut group = Group::new(way, programs);
        (1..=programs.len()).for_each(|host| {
            group.start(host);
            group.until_on(1);
        });
        group
    }

    pub fn start(&mut self, host: usize) {
        match &mut self.members[host - 1] {
            Member::Ours(node) => node.start(),
            Member::Theirs { keepalived, .. } => keepalived.start_again(),
        }
    }

    /// As an administrator would.
    pub fn stop(&mut self, host: usize) {
        match &mut self.members[host - 1] {
            Member::Ours(node) => {
                node.signal(Signal::TERM);
                node.reap();
            }
            Member::Theirs { keepalived, .. } => keepalived.stop(),
        }
    }

    /// The host has no power: nobody hears its last words, and its address goes with it.
    pub fn power_off(&mut self, host: usize) {
        self.net.cut(host);
        match &mut self.members[host - 1] {
            Member::Ours(node) => node.kill(),
            Member::Theirs { keepalived, .. } => keepalived.kill(),
        }
        if self.net.has(host, self.way.address()) {
            self.net.ip(host, &format!("address del {} dev eth0", self.way.vip));
        }
    }

    pub fn power_on(&mut self, host: usize) {
        self.net.mend();
        self.start(host);
    }

    /// The host's configuration, with one text instead of another.
    pub fn reload(&mut self, host: usize, old: &str, new: &str) {
        match &mut self.members[host - 1] {
            Member::Ours(node) => {
                node.set_config(&node.config().replace(old, new));
                node.signal(Signal::HUP);
            }
            Member::Theirs { keepalived, .. } => keepalived.reload(old, new),
        }
    }

    /// Waits until the host has the address, and no other; how long it took.
    pub fn until_on(&self, host: usize) -> Duration {
        let begin = Instant::now();
        while !self.net.has_alone(self.members.len(), host, self.way.address()) {
            assert!(begin.elapsed() < PATIENCE, "not on host {host} alone\n{}", self.log());
            sleep(Duration::from_millis(10));
        }
        begin.elapsed()
    }

    pub fn observe(&mut self, case: &str, course: impl FnOnce(&mut Group)) -> Seen {
        let hosts: Vec<usize> = (1..=self.members.len()).collect();
        let vip = [self.way.address()];
        let seen = lab::behold(self.net, &hosts, &vip, || {
            course(self);
            sleep(self.way.advert * 2 + SETTLED);
        });
        lab::note(case, &seen);
        seen
    }

    /// What the host's program has used, with all of its processes.
    pub fn cpu(&self, host: usize) -> Duration {
        let pid = match &self.members[host - 1] {
            Member::Ours(node) => node.pid(),
            Member::Theirs { keepalived, .. } => keepalived.pid(),
        };
        cpu::of(pid.as_raw_nonzero().get())
    }

    fn log(&self) -> String {
        let log = |member: &Member| match member {
            Member::Ours(node) => node.log(),
            Member::Theirs { keepalived, .. } => keepalived.log(),
        };
        self.members.iter().map(log).collect::<Vec<_>>().join("\n\n")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.log());
        }
        self.net.end();
    }
}
