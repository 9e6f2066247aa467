//! What moves beside a plain address, in both programs: a label, an address on another interface, one that is not
//! advertised, routes and rules.

use super::pair::{OURS, Other, Pair, THEIRS};
use super::way::{SECOND, V2, V3, Way};
use crate::alone;
use crate::net::{CLIENT, Net};
use crate::rival::Keepalived;
use rustix::process::Signal;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

const ELSEWHERE: &str = "10.1.0.100";
const STALE: &str = "02:00:00:00:00:99";
/// A master's, as `shown` puts them.
const ALL: [&str; 6] = [
    "eth0 10.0.0.100/24 eth0:web",
    "eth0 fd00::100/64",
    "eth1 10.1.0.100/24",
    "200: from 10.0.0.100 lookup 100",
    "192.0.2.0/24 via 10.0.0.10 dev eth0 src 10.0.0.100 metric 5",
    "blackhole 198.51.100.0/24",
];

fn ours(priority: u8) -> String {
    let plain = format!("addresses = ['{}']\n", V3.vip);
    let places = format!(
        "addresses = ['10.0.0.100/24 label eth0:web', '{ELSEWHERE}/24 dev eth1']\nexcluded = ['fd00::100/64']\n\
         routes = ['192.0.2.0/24 via 10.0.0.10 dev eth0 table 100 metric 5 src 10.0.0.100', \
         'blackhole 198.51.100.0/24']\nrules = ['from 10.0.0.100 table 100 priority 200']\n"
    );
    V3.ours(priority).replace(&plain, &places)
}

fn theirs(priority: u8) -> String {
    let plain = " virtual_ipaddress {\n  10.0.0.100/24\n }\n";
    let places = format!(
        " virtual_ipaddress {{\n  10.0.0.100/24 label eth0:web\n  {ELSEWHERE}/24 dev eth1\n }}\n \
         virtual_ipaddress_excluded {{\n  fd00::100/64\n }}\n \
         virtual_routes {{\n  192.0.2.0/24 via 10.0.0.10 dev eth0 table 100 metric 5 src 10.0.0.100\n  \
         blackhole 198.51.100.0/24\n }}\n \
         virtual_rules {{\n  from 10.0.0.100 table 100 priority 200\n }}\n"
    );
    V3.theirs(priority).replace(plain, &places)
}

/// Each host with a second cable, to the client.
fn cable(net: Net) {
    for host in [OURS, THEIRS] {
        net.ip(host, &format!("link add eth1 type veth peer name c{host} netns host{CLIENT}"));
        net.ip(host, "link set eth1 up");
        net.ip(CLIENT, &format!("link set c{host} up"));
        net.ip(CLIENT, &format!("address add 10.1.{host}.10/16 dev c{host}"));
    }
}

fn start(net: Net, dir: PathBuf, _: Way, priority: u8) -> Box<dyn Other> {
    cable(net);
    Box::new(Keepalived::start(net, dir, THEIRS, &theirs(priority)))
}

fn start_with_mac(net: Net, dir: PathBuf, _: Way, priority: u8) -> Box<dyn Other> {
    cable(net);
    let config = theirs(priority).replace(" label eth0:web", "");
    let config = config.replace(" interface eth0\n", " interface eth0\n use_vmac\n");
    Box::new(Keepalived::start(net, dir, THEIRS, &config))
}

/// Of all that a master has, what this host has.
fn shown(net: Net, host: usize) -> Vec<String> {
    shown_of(&ALL, net, host)
}

fn shown_of(wanted: &[&str], net: Net, host: usize) -> Vec<String> {
    let read = |command: &str| String::from_utf8(net.ip(host, command).stdout).unwrap();
    let mut all = Vec::new();
    for line in read("-o address show").lines() {
        let words: Vec<&str> = line.split('\\').next().unwrap().split_whitespace().collect();
        let label = words.last().filter(|word| word.contains(':') && line.contains(" inet "));
        let label = label.map(|label| format!(" {label}")).unwrap_or_default();
        all.push(format!("{} {}{label}", words[1], words[3]));
    }
    all.extend(read("rule show").lines().map(plain));
    all.extend(read("route show table all").lines().map(|line| plain(line).replace(" table 100", "")));
    wanted.iter().filter(|wanted| all.contains(&(**wanted).into())).map(ToString::to_string).collect()
}

/// Without the mark of who put it there.
fn plain(line: &str) -> String {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    if let Some(at) = words.iter().position(|word| *word == "proto") {
        words.drain(at..at + 2);
    }
    words.join(" ")
}

impl Pair {
    /// All of it is on that host, and nothing on the other.
    fn until_all_on(&self, host: usize) {
        self.until_on(host);
        let limit = Instant::now() + SECOND * 3;
        while shown(self.net, host) != ALL || !shown(self.net, OURS + THEIRS - host).is_empty() {
            let both = [OURS, THEIRS].map(|host| shown(self.net, host));
            assert!(
                Instant::now() < limit,
                "not all on host {host}: {both:#?}\n{}\n{}",
                self.ours.log(),
                self.theirs.log()
            );
            sleep(Duration::from_millis(20));
        }
    }

    fn stop_ours(&mut self) {
        self.ours.signal(Signal::TERM);
        self.ours.reap();
        assert!(shown(self.net, OURS).is_empty(), "nothing outlives a stop: {:?}", shown(self.net, OURS));
    }
}

#[test]
fn labels_other_interfaces_routes_and_rules_move_as_keepalived_moves_them() {
    alone(|| {
        let mut pair = Pair::form_with(start, V3, &ours(150), 100);
        pair.until_all_on(OURS);

        pair.stop_ours();
        pair.until_all_on(THEIRS);
        let neighbor = format!("neigh replace {ELSEWHERE} lladdr {STALE} dev c{OURS} nud stale");
        pair.net.ip(CLIENT, &neighbor);
        pair.ours.start();
        pair.until_all_on(OURS);
        announced_elsewhere(&pair);
        another_link_is_no_fault(&pair);
        routes_change_by_a_reload(&pair);

        pair.ours.kill();
        pair.ours.start();
        sleep(SECOND);
        pair.until_all_on(OURS);
        assert!(pair.ours.log().contains("takes over from its earlier run"), "{}", pair.ours.log());

        pair.ours.kill();
        pair.until_on(THEIRS);
        pair.ours.set_config(&pair.ours.config().replace("priority = 150", "priority = 50"));
        pair.ours.start();
        pair.until_all_on(THEIRS);
        pair.theirs.stop();
        pair.until_all_on(OURS);
    });
}

fn start_silent(net: Net, dir: PathBuf, way: Way, priority: u8) -> Box<dyn Other> {
    let config = way.theirs(priority).replace("virtual_ipaddress {", "virtual_ipaddress_excluded {");
    Box::new(Keepalived::start(net, dir, THEIRS, &config))
}

/// An advert of no address is one all the same, where none is to be advertised: keepalived's version 2 lets that be.
#[test]
fn a_virtual_router_may_advertise_nothing() {
    alone(|| {
        let ours = V2.ours(150).replace("addresses", "excluded");
        let mut pair = Pair::form_with(start_silent, V2, &ours, 100);
        pair.until_on(OURS);
        pair.stop_ours();
        pair.until_on(THEIRS);
        pair.ours.start();
        pair.until_on(OURS);
        sleep(SECOND / 2);
        pair.until_on(OURS);
    });
}

/// What names no interface is on the one with the virtual MAC, and what names one is there. keepalived leaves an address
/// of the other family on the interface below.
#[test]
fn beside_a_virtual_mac_an_address_lies_where_it_is_said_to() {
    alone(|| {
        let all = |sixth| ["vrrp.51 10.0.0.100/24", sixth, "eth1 10.1.0.100/24", "blackhole 198.51.100.0/24"];
        let (ours, theirs) = (all("vrrp.51 fd00::100/64"), all("eth0 fd00::100/64"));
        let config = self::ours(150).replace(" label eth0:web", "") + "virtual_mac = true\n";
        let mut pair = Pair::form_with(start_with_mac, V3, &config, 100);
        let there = |pair: &Pair, host| {
            pair.until_on(host);
            sleep(SECOND / 2);
            [shown_of(&ours, pair.net, OURS), shown_of(&theirs, pair.net, THEIRS)]
        };
        let (mine, yours) = ([ours.to_vec(), Vec::new()], [Vec::new(), theirs.to_vec()]);
        assert_eq!(there(&pair, OURS), mine, "{}", pair.ours.log());
        pair.net.ip(CLIENT, "neigh flush all");
        // The first question after a flush is lost now and then.
        let answer =
            pair.net.command(CLIENT, "ping").args(["-c3", "-i0.3", "-W2", "fd00::100"]).output().unwrap();
        assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stdout));
        pair.stop_ours();
        assert_eq!(there(&pair, THEIRS), yours, "{}", pair.theirs.log());
        pair.ours.start();
        assert_eq!(there(&pair, OURS), mine, "{}", pair.ours.log());
    });
}

/// They come and go, and nothing else does.
fn routes_change_by_a_reload(pair: &Pair) {
    let whole = pair.ours.config();
    let without = whole.lines().filter(|line| !line.starts_with("routes") && !line.starts_with("rules"));
    pair.reload(&without.map(|line| format!("{line}\n")).collect::<String>());
    let limit = Instant::now() + SECOND * 3;
    while shown(pair.net, OURS) != ALL[..3] {
        assert!(Instant::now() < limit, "{:?}\n{}", shown(pair.net, OURS), pair.ours.log());
        sleep(Duration::from_millis(20));
    }
    pair.reload(&whole);
    pair.until_all_on(OURS);
    assert!(!pair.ours.log().contains("its place in the configuration has changed"));
}

/// By the interface that it is on, and so to whoever is there.
fn announced_elsewhere(pair: &Pair) {
    let known = String::from_utf8(pair.net.ip(CLIENT, &format!("neigh show {ELSEWHERE} dev c{OURS}")).stdout);
    let known = known.unwrap();
    assert!(known.contains("lladdr") && !known.contains(STALE), "{known}");
}

/// Only the virtual router's own interface is one.
fn another_link_is_no_fault(pair: &Pair) {
    pair.net.ip(OURS, "link set eth1 down");
    sleep(SECOND / 2);
    pair.until_on(OURS);
    pair.net.ip(OURS, "link set eth1 up");
    pair.until_all_on(OURS);
}
