//! A virtual router of ours on one link with real ones: keepalived takes over from us, and we from it.

use crate::alone;
use crate::lab::{self, Seen};
use crate::net::{CLIENT, Net};
use crate::nginx::Nginx;
use crate::node::Node;
use crate::rival::Keepalived;
use rustix::process::Signal;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

const OURS: usize = 1;
const THEIRS: usize = 2;
const IGNORE: &str = "/proc/sys/net/ipv4/conf/eth0/arp_ignore";

/// How adverts travel and what they look like.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    version: u8,
    vip: &'static str,
    advert: Duration,
    password: Option<&'static str>,
    ah: bool,
    unicast: bool,
    /// The address comes with the MAC of RFC 9568 7.3, whoever has it.
    mac: Option<&'static str>,
    /// keepalived moves an address of IPv6 half a second later than it says, in both directions.
    late: Duration,
}

const SECOND: Duration = Duration::from_secs(1);
const V2: Way = Way {
    name: "v2",
    version: 2,
    vip: "10.0.0.100/24",
    advert: SECOND,
    password: None,
    ah: false,
    unicast: false,
    mac: None,
    late: Duration::ZERO,
};
const V3: Way = Way { name: "v3", version: 3, advert: Duration::from_millis(100), ..V2 };
const WAYS: [Way; 9] = [
    V2,
    Way { name: "v2 PASS", password: Some("secret"), ..V2 },
    Way { name: "v2 AH", password: Some("secret"), ah: true, ..V2 },
    V3,
    Way { name: "v3 IPv6", vip: "fd00::100/64", late: SECOND, ..V3 },
    Way { name: "v3 unicast", unicast: true, ..V3 },
    Way { name: "v2 unicast", unicast: true, ..V2 },
    Way { name: "v3 virtual MAC", mac: Some("00:00:5e:00:01:33"), ..V3 },
    Way {
        name: "v3 IPv6 virtual MAC",
        vip: "fd00::100/64",
        late: SECOND,
        mac: Some("00:00:5e:00:02:33"),
        ..V3
    },
];

impl Way {
    fn address(&self) -> IpAddr {
        self.vip.split('/').next().unwrap().parse().unwrap()
    }

    fn ours(&self, priority: u8) -> String {
        let password = self
            .password
            .map(|word| {
                format!("password = '{word}'\nauthentication = '{}'\n", if self.ah { "ah" } else { "pass" })
            })
            .unwrap_or_default();
        let peers = if self.unicast { "unicast_peers = ['10.0.0.12']\n" } else { "" };
        let mac = if self.mac.is_some() { "virtual_mac = true\n" } else { "" };
        format!(
            "[[vrrp]]\nname = 'VI_1'\nvrid = 51\nversion = {}\npriority = {priority}\naddresses = ['{}']\n\
             advert_interval = '{}ms'\n{password}{peers}{mac}",
            self.version,
            self.vip,
            self.advert.as_millis()
        )
    }

    /// keepalived's first address of IPv6 is to be link-local.
    fn theirs(&self, priority: u8) -> String {
        let password = self.password.map(|word| {
            format!(
                " authentication {{\n  auth_type {}\n  auth_pass {word}\n }}\n",
                if self.ah { "AH" } else { "PASS" }
            )
        });
        let peers = " unicast_src_ip 10.0.0.12\n unicast_peer {\n  10.0.0.11\n }\n";
        format!(
            "vrrp_instance VI_1 {{\n state BACKUP\n interface eth0\n version {}\n virtual_router_id 51\n \
             priority {priority}\n advert_int {}\n{}{}{} virtual_ipaddress {{\n  {}\n }}\n}}\n",
            self.version,
            self.advert.as_secs_f64(),
            password.unwrap_or_default(),
            if self.unicast { peers } else { "" },
            if self.mac.is_some() { " use_vmac\n" } else { "" },
            self.vip
        )
    }

    /// RFC 9568 6.1, and what waking up takes on a busy machine.
    fn takeover(&self, priority: u8) -> Duration {
        let unit = if self.version == 2 { SECOND } else { self.advert };
        self.advert * 3 + unit * (256 - u32::from(priority)) / 256 + Duration::from_millis(400)
    }
}

struct Pair {
    way: Way,
    net: Net,
    ours: Node,
    theirs: Keepalived,
    _nginx: Nginx,
    _dir: tempfile::TempDir,
}

impl Pair {
    fn form(way: Way, ours: u8, theirs: u8) -> Pair {
        let dir = tempfile::tempdir().unwrap();
        let net = Net::new(2);
        if way.address().is_ipv6() {
            [OURS, THEIRS].into_iter().for_each(|host| net.until_link_local_on(host));
        }
        let mut node = Node::new(net, dir.path().join("lb1"), OURS);
        node.init_without_vip();
        node.set_config(&(node.config() + &way.ours(ours)));
        let other = Keepalived::start(net, dir.path().join("lb2"), THEIRS, &way.theirs(theirs));
        let nginx = Nginx::new(net, dir.path().join("lb2/nginx"), THEIRS);
        node.start();
        Pair { way, net, ours: node, theirs: other, _nginx: nginx, _dir: dir }
    }

    fn until_on(&self, host: usize) {
        let limit = Instant::now() + Duration::from_secs(15);
        let alone = |host| (1..=2).all(|other| self.net.has(other, self.way.address()) == (other == host));
        while !alone(host) {
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

    fn reload(&self, config: &str) {
        self.ours.set_config(config);
        self.ours.signal(Signal::HUP);
    }

    fn until_logged(&self, text: &str) {
        let limit = Instant::now() + SECOND * 5;
        while !self.ours.log().contains(text) {
            assert!(Instant::now() < limit, "{}\n{}", self.ours.log(), self.theirs.log());
            sleep(Duration::from_millis(20));
        }
    }

    fn observe(&mut self, case: &str, span: Duration, fault: impl FnOnce(&mut Pair)) -> Seen {
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

fn shown(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn each_way(case: fn(Way)) {
    let only = std::env::var("VRRP_WAY").ok();
    let wanted = |way: &Way| only.as_ref().is_none_or(|only| way.name == only);
    WAYS.into_iter().filter(wanted).for_each(case);
}

#[test]
fn keepalived_takes_over_from_us_and_we_take_back() {
    alone(|| {
        each_way(|way| {
            let mut pair = Pair::form(way, 150, 100);
            pair.until_on(OURS);
            let stop = |pair: &mut Pair| {
                pair.ours.signal(Signal::TERM);
                pair.ours.reap();
            };
            let seen = pair.observe("ours stops", way.advert * 2, stop);
            assert_eq!(seen.never_two().holding.holders, [THEIRS], "{}: {seen:?}", way.name);
            assert!(
                seen.gap() < way.advert + Duration::from_millis(400) + way.late,
                "only the skew: {seen:?}"
            );
            pair.ours.start();
            pair.until_on(OURS);
            let cut = |pair: &mut Pair| pair.ours.kill();
            let seen = pair.observe("ours is killed", way.takeover(100) + SECOND, cut);
            assert_eq!(seen.holding.holders, [THEIRS], "{}: {seen:?}", way.name);
            assert!(seen.gap() < way.takeover(100) + way.late, "{}: {seen:?}", way.name);
        });
    });
}

#[test]
fn we_take_over_from_keepalived_and_it_takes_back() {
    alone(|| {
        each_way(|way| {
            let mut pair = Pair::form(way, 100, 150);
            pair.until_on(THEIRS);
            let stop = |pair: &mut Pair| pair.theirs.stop();
            let seen = pair.observe("theirs stops", way.advert * 2 + way.late, stop);
            assert_eq!(seen.holding.holders, [OURS], "{}: {seen:?}", way.name);
            assert!(seen.holding.overlap <= way.late, "{}: {seen:?}", way.name);
            pair.theirs.start_again();
            pair.until_on(THEIRS);
            let status = pair.ours.ask("status").unwrap();
            assert_eq!(status["vips"][0]["state"], "active", "{status}");
            let seen =
                pair.observe("theirs is cut off", way.takeover(100) + SECOND, |pair| pair.net.cut(THEIRS));
            assert!(seen.holding.holders.contains(&OURS), "{}: {seen:?}", way.name);
            assert!(seen.gap() < way.takeover(100) + way.late, "{}: {seen:?}", way.name);
        });
    });
}

#[test]
fn a_restart_keeps_the_master_and_keepalived_notices_nothing() {
    alone(|| {
        let mut pair = Pair::form(V2, 150, 100);
        pair.until_on(OURS);
        for (case, end) in [("restart", Signal::USR2), ("killed, started again", Signal::KILL)] {
            let seen = pair.observe(case, SECOND * 5, |pair| {
                pair.ours.signal(end);
                pair.ours.reap();
                pair.ours.start();
            });
            assert_eq!((seen.holding.order.as_slice(), seen.failed()), (&[OURS][..], 0), "{seen:?}");
        }
    });
}

/// Its interface is there while it is the master, also after a crash, and the parent gets back what it was.
#[test]
fn a_virtual_mac_leaves_nothing_behind() {
    alone(|| {
        let way = WAYS.into_iter().find(|way| way.mac.is_some()).unwrap();
        let mut pair = Pair::form(way, 150, 100);
        let net = pair.net;
        let there = || String::from_utf8_lossy(&net.ip(OURS, "-o link").stdout).contains("vrrp.51");
        let ignores = || net.command(OURS, "cat").arg(IGNORE).output().unwrap().stdout == b"1\n";
        pair.until_on(OURS);
        assert!(there() && ignores());
        let seen = pair.observe("ours restarts", SECOND * 2, |pair| {
            pair.ours.signal(Signal::USR2);
            pair.ours.reap();
            assert!(there());
            pair.ours.start();
        });
        assert_eq!((seen.holding.order.as_slice(), seen.failed()), (&[OURS][..], 0), "{seen:?}");
        pair.ours.kill();
        pair.until_on(THEIRS);
        assert!(there(), "nobody is there to remove it");
        let config = pair.ours.config().replace("priority = 150", "priority = 90");
        pair.ours.set_config(&config);
        pair.ours.start();
        pair.until_logged("the interface vrrp.51 was left behind by an earlier run and is removed");
        assert!(!there() && !ignores());
        pair.reload(&config.replace("priority = 90", "priority = 150"));
        pair.until_on(OURS);
        pair.ours.signal(Signal::TERM);
        pair.ours.reap();
        assert!(!there() && !ignores(), "the end takes it along");
        pair.ours.start();
        pair.until_on(OURS);
        net.ip(OURS, "link delete vrrp.51");
        pair.until_on(OURS);
        assert!(there(), "it is made again");
    });
}

#[test]
fn without_preemption_who_comes_back_waits() {
    alone(|| {
        let pair = Pair::form(V3, 100, 150);
        pair.until_on(THEIRS);
        let better = "priority = 200\npreempt = false\naddr";
        pair.reload(&pair.ours.config().replace("priority = 100\naddr", better));
        sleep(SECOND * 2);
        pair.until_on(THEIRS);
    });
}

/// Before our time is up: a keepalived that drops our adverts puts its own off with each of them, and may be silent for
/// ever.
#[test]
fn a_wrong_password_and_other_addresses_are_named() {
    alone(|| {
        let pair = Pair::form(Way { password: Some("other"), ..V2 }, 100, 150);
        pair.until_on(THEIRS);
        let wrong = pair.ours.config().replace("'other'", "'wrong'").replace("10.0.0.100", "10.0.0.101");
        pair.reload(&wrong);
        pair.until_logged("the advert of 10.0.0.12 for VRID 51 has another password");
        let counted = pair.ours.ask("status").unwrap()["counters"]["vrrp_bad_password"].as_u64();
        assert!(counted > Some(0));
        pair.reload(&wrong.replace("'wrong'", "'other'"));
        let other = "the advert of 10.0.0.12 for VRID 51 is for other addresses (10.0.0.100), so another group uses this VRID";
        pair.until_logged(other);
        let status = pair.ours.run(&["status"]);
        assert!(status.status.code() == Some(1) && shown(&status).contains(other), "{}", shown(&status));
        let doctor = pair.ours.run(&["doctor", "--vrid", "--seconds", "3"]);
        let text = shown(&doctor);
        assert_eq!(doctor.status.code(), Some(2), "{text}");
        for part in ["51    IPv4    2        10.0.0.12  150       1s        PASS", other, "VRID 2 is free"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    });
}
