//! Three hosts with real nginx and a system that gives one of them the VIP, which none takes back.

use crate::lab::Lab;
use crate::net::Net;
use crate::nginx::Nginx;
use crate::rival::{Check, Keepalived};
use rustix::process::Signal;
use std::time::Duration;

pub const HOSTS: usize = 3;
const PRIORITIES: [u8; HOSTS] = [150, 100, 90];

pub struct Kind {
    pub name: &'static str,
    pub advert: Duration,
    /// Longer than a vanished owner stays the owner.
    pub patience: Duration,
    program: Program,
}

enum Program {
    Keepalived { version: u8 },
    Haclusterd { profile: &'static str },
}
use Program::{Haclusterd, Keepalived as Theirs};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub const KINDS: [Kind; 5] = [
    Kind {
        name: "keepalived, default",
        advert: ms(1000),
        patience: ms(5000),
        program: Theirs { version: 2 },
    },
    Kind { name: "keepalived, 10 ms", advert: ms(10), patience: ms(1500), program: Theirs { version: 3 } },
    Kind {
        name: "haclusterd, default",
        advert: ms(50),
        patience: ms(1000),
        program: Haclusterd { profile: "lan" },
    },
    Kind {
        name: "haclusterd, fast",
        advert: ms(15),
        patience: ms(600),
        program: Haclusterd { profile: "fast" },
    },
    Kind {
        name: "haclusterd, aggressive",
        advert: ms(5),
        patience: ms(500),
        program: Haclusterd { profile: "aggressive" },
    },
];

pub trait System {
    fn net(&self) -> Net;
    fn nginx(&mut self, host: usize) -> &mut Nginx;
    fn signal(&self, host: usize, signal: Signal);
    fn kill(&mut self, host: usize);
    fn start(&mut self, host: usize);
    /// As systemd stops it.
    fn stop(&mut self, host: usize);
    /// Another program takes its place, as far as the system knows how to.
    fn restart(&mut self, host: usize);
    /// All hosts are there again, as far as the system can tell.
    fn is_whole(&self) -> bool;
}

impl Kind {
    /// `two_paths`: the hosts have a second network, by which they speak with one another.
    pub fn form(&self, two_paths: bool) -> Box<dyn System> {
        match self.program {
            Theirs { version } => Box::new(Group::form(version, self.advert, two_paths)),
            Haclusterd { profile } => Box::new(form(profile, two_paths)),
        }
    }
}

/// Of haclusterd, with that profile.
pub fn form(profile: &str, two_paths: bool) -> Lab {
    Lab::form_of(&["member"; HOSTS], "10.0.0.100/24", |node| {
        if two_paths {
            Net.second_path(node.host);
            node.network = "10.1.0";
        }
        // The others get it with the cluster's configuration.
        if node.host == 1 {
            node.amend = vec![
                ("profile = \"lan\"", format!("profile = \"{profile}\"")),
                ("[[vip]]", "[[vip]]\npreempt = false".to_owned()),
            ];
        }
    })
}

impl System for Lab {
    fn net(&self) -> Net {
        self.net
    }

    fn nginx(&mut self, host: usize) -> &mut Nginx {
        &mut self.node(host).nginx
    }

    fn signal(&self, host: usize, signal: Signal) {
        self.nodes[host - 1].signal(signal);
    }

    fn kill(&mut self, host: usize) {
        self.node(host).kill();
    }

    fn start(&mut self, host: usize) {
        self.node(host).start();
    }

    fn stop(&mut self, host: usize) {
        self.node(host).signal(Signal::TERM);
        self.node(host).reap();
    }

    fn restart(&mut self, host: usize) {
        self.node(host).signal(Signal::USR2);
        self.node(host).reap();
        self.node(host).start();
    }

    fn is_whole(&self) -> bool {
        self.nodes.iter().all(|node| {
            let [status, members] = ["status", "members"].map(|what| node.ask(what).unwrap_or_default());
            let well =
                members["members"].as_array().is_some_and(|all| all.iter().all(|one| one["health"] == "ok"));
            let cluster = &status["cluster"];
            well && cluster["voters_in_contact"] == HOSTS && cluster["members_alive"] == HOSTS
        })
    }
}

struct Group {
    net: Net,
    hosts: Vec<(Nginx, Keepalived)>,
    _dir: tempfile::TempDir,
}

impl Group {
    fn form(version: u8, advert: Duration, two_paths: bool) -> Group {
        let dir = tempfile::tempdir().unwrap();
        let net = Net::new(HOSTS);
        let host = |host: usize| {
            if two_paths {
                net.second_path(host);
            }
            let place = dir.path().join(format!("lb{host}"));
            let nginx = Nginx::new(net, place.join("nginx"), host);
            let script = Check::Process.write(place.join("check"), &nginx);
            let interface = if two_paths { "eth1" } else { "eth0" };
            let config = format!(
                "global_defs {{\n router_id lb{host}\n script_user root\n}}\n\
                 vrrp_script nginx {{\n script \"{}\"\n interval 1\n fall 1\n rise 1\n}}\n\
                 vrrp_instance web {{\n state BACKUP\n nopreempt\n interface {interface}\n version {version}\n \
                 virtual_router_id 51\n priority {}\n advert_int {}\n track_interface {{\n eth0\n }}\n \
                 virtual_ipaddress {{\n 10.0.0.100/24 dev eth0\n }}\n track_script {{\n nginx\n }}\n}}\n",
                script.display(),
                PRIORITIES[host - 1],
                advert.as_secs_f64(),
            );
            (nginx, Keepalived::start(net, place, host, &config))
        };
        Group { net, hosts: (1..=HOSTS).map(host).collect(), _dir: dir }
    }

    fn keepalived(&mut self, host: usize) -> &mut Keepalived {
        &mut self.hosts[host - 1].1
    }
}

/// Whatever a run fails by, their own words help.
impl Drop for Group {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.hosts.iter().for_each(|(_, keepalived)| println!("{}", keepalived.log()));
        }
        self.net.end();
    }
}

impl System for Group {
    fn net(&self) -> Net {
        self.net
    }

    fn nginx(&mut self, host: usize) -> &mut Nginx {
        &mut self.hosts[host - 1].0
    }

    fn signal(&self, host: usize, signal: Signal) {
        self.hosts[host - 1].1.signal(signal);
    }

    fn kill(&mut self, host: usize) {
        self.keepalived(host).kill();
    }

    fn start(&mut self, host: usize) {
        self.keepalived(host).start_again();
        // It does not say when it is there.
        std::thread::sleep(ms(300));
    }

    fn stop(&mut self, host: usize) {
        self.keepalived(host).stop();
    }

    fn restart(&mut self, host: usize) {
        self.stop(host);
        self.start(host);
    }

    fn is_whole(&self) -> bool {
        true
    }
}
