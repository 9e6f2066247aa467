//! The kernel's adapters against a real kernel, in namespaces of their own: `cargo test --test kernel`.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "kernel/announce.rs"]
mod announce;
mod netns;
#[path = "kernel/ways.rs"]
mod ways;

use haclusterd::io::neighbor::{Claim, ClaimKind, Neighbor, NeighborError};
use haclusterd::io::netlink::{self, Address, Event, Kernel, KernelError};
use ipnet::IpNet;
use netns::{OURS, PEERS, SOON, Seen, cable, isolated, run, wired};
use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::unbounded_channel;

const STRANGER: &str = "02:00:00:00:00:99";

fn index(interface: &str) -> u32 {
    // Not from /sys, which shows the namespace that mounted it.
    let line = run(&format!("ip -o link show {interface}"));
    line.split(':').next().unwrap().parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn vip(text: &str, valid_for: u32) -> Address {
    Address { ifindex: index("v0"), net: net(text), label: None, valid_for }
}

async fn kernel() -> (Kernel, Seen<Event>) {
    let (tell, seen) = unbounded_channel();
    let kernel = Kernel::start(Arc::new(move |event| tell.send(event).unwrap_or(()))).await.unwrap();
    (kernel, Seen(seen))
}

fn neighbor(watch: &[&str]) -> (Neighbor, Seen<Claim>) {
    let (tell, seen) = unbounded_channel();
    let watch = watch.iter().map(|text| ip(text)).collect();
    let claims = Arc::new(move |claim| tell.send(claim).unwrap_or(()));
    (Neighbor::open(index("v0"), OURS, watch, claims).unwrap(), Seen(seen))
}

#[test]
fn an_address_is_added_renewed_and_deleted() {
    wired("an_address_is_added_renewed_and_deleted", || async {
        let (kernel, mut events) = kernel().await;
        let v0 = index("v0");
        let mut both = [vip("10.9.0.100/32", 5), vip("fd00::100/128", 5)];
        both[0].label = Some("v0:vip".into());

        kernel.add(&both).await.unwrap();
        for address in &both {
            events
                .soon(Event::AddressAdded { index: v0, net: address.net, ours: true, tentative: false })
                .await;
        }
        let shown = run("ip addr show dev v0");
        for wanted in ["scope global deprecated dynamic noprefixroute v0:vip", "nodad deprecated"] {
            assert!(shown.contains(wanted), "{wanted}: {shown}");
        }
        assert_eq!(shown.matches("valid_lft 5sec preferred_lft 0sec").count(), 2, "{shown}");

        events.all_within(SOON).await;
        both.iter_mut().for_each(|address| address.valid_for = 60);
        kernel.add(&both).await.unwrap();
        let shown = run("ip addr show dev v0");
        assert_eq!(shown.matches("valid_lft 60sec").count(), 2, "{shown}");
        assert_eq!(events.all_within(SOON).await, [], "a renewal is no news");

        let gone = both.each_ref().map(|address| (v0, address.net));
        kernel.delete(&gone).await.unwrap();
        for (index, net) in gone {
            events.soon(Event::AddressGone { index, net }).await;
        }
        kernel.delete(&gone).await.expect("absent is success");
        kernel.delete(&[(4711, both[0].net)]).await.expect("absent with its interface is success");
    });
}

#[test]
fn the_kernel_takes_away_what_nobody_renews() {
    wired("the_kernel_takes_away_what_nobody_renews", || async {
        let (kernel, mut events) = kernel().await;
        let (kept, left) = (vip("10.9.0.100/32", 1), vip("10.9.0.101/32", 1));
        kernel.add(&[kept.clone(), left.clone()]).await.unwrap();
        let start = Instant::now();
        let renewals = async {
            loop {
                kernel.add(std::slice::from_ref(&kept)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        let watching = async {
            let limit = Duration::from_millis(1800);
            let gone = events.within(limit, |event| matches!(event, Event::AddressGone { .. })).await;
            assert_eq!(gone, Event::AddressGone { index: left.ifindex, net: left.net });
            assert!(start.elapsed() >= Duration::from_millis(990), "gone after {:?}", start.elapsed());
            // The cable's own link-local address may come late.
            let lost = |event: &Event| matches!(event, Event::AddressGone { .. });
            assert!(!events.all_within(limit).await.iter().any(lost), "what is renewed stays");
        };
        tokio::select! { () = renewals => (), () = watching => () }
    });
}

#[test]
fn an_operators_command_is_noticed() {
    wired("an_operators_command_is_noticed", || async {
        let (kernel, mut events) = kernel().await;
        let address = vip("10.9.0.100/32", 60);
        kernel.add(std::slice::from_ref(&address)).await.unwrap();
        run("ip addr del 10.9.0.100/32 dev v0");
        events.soon(Event::AddressGone { index: address.ifindex, net: address.net }).await;
        run("ip addr add 10.9.0.100/32 dev v0");
        events
            .soon(Event::AddressAdded {
                index: address.ifindex,
                net: address.net,
                ours: false,
                tentative: false,
            })
            .await;
    });
}

#[test]
fn a_sweep_takes_ours_and_leaves_the_rest() {
    wired("a_sweep_takes_ours_and_leaves_the_rest", || async {
        run("ip addr add 10.9.0.1/24 dev v0");
        run("ip addr add fd00::1/64 dev v0 nodad");
        let (kernel, _events) = kernel().await;
        let ours = [vip("10.9.0.100/24", 60), vip("fd00::100/64", 60)];
        kernel.add(&ours).await.unwrap();
        let lo = Address { ifindex: 1, ..vip("10.9.0.101/32", 60) };
        kernel.add(std::slice::from_ref(&lo)).await.unwrap();

        let swept: BTreeSet<_> = kernel.sweep(&[]).await.unwrap().into_iter().collect();
        let installed = ours.iter().chain([&lo]).map(|address| (address.ifindex, address.net));
        assert_eq!(swept, installed.collect());
        assert_eq!(kernel.sweep(&[]).await.unwrap(), []);
        let shown = run("ip addr");
        assert!(shown.contains("10.9.0.1/24") && shown.contains("fd00::1/64"), "{shown}");
        assert!(!shown.contains(".100") && !shown.contains("::100"), "{shown}");
    });
}

#[test]
fn somebody_elses_address_is_refused_and_stays() {
    wired("somebody_elses_address_is_refused_and_stays", || async {
        let (kernel, _events) = kernel().await;
        let (free, taken) = (vip("10.9.0.50/32", 60), vip("10.9.0.100/32", 60));
        for foreign in ["10.9.0.100/32 dev v0", "10.9.0.100/24 dev v0", "10.9.0.100/32 dev lo"] {
            run(&format!("ip addr add {foreign}"));
            let error = kernel.add(&[free.clone(), taken.clone()]).await.unwrap_err();
            assert!(matches!(error, KernelError::Foreign { .. }), "{foreign}: {error}");
            kernel.delete(&[(taken.ifindex, taken.net)]).await.unwrap();
            assert_eq!(kernel.sweep(&[]).await.unwrap(), [], "{foreign}: nothing is ours");
            run(&format!("ip addr del {foreign}"));
        }
    });
}

#[test]
fn several_addresses_are_added_all_or_none() {
    wired("several_addresses_are_added_all_or_none", || async {
        let (kernel, _events) = kernel().await;
        let old = vip("10.9.0.99/32", 60);
        kernel.add(std::slice::from_ref(&old)).await.unwrap();
        let nowhere = Address { ifindex: 4711, ..vip("10.9.0.101/32", 60) };
        let error = kernel.add(&[old, vip("10.9.0.100/32", 60), nowhere]).await.unwrap_err();
        assert_eq!(error.to_string(), "there is no interface with index 4711");
        let shown = run("ip addr");
        assert!(!shown.contains("10.9.0.100") && shown.contains("10.9.0.99"), "{shown}");
    });
}

#[test]
fn the_subnets_route_is_left_to_the_hosts_own_address() {
    wired("the_subnets_route_is_left_to_the_hosts_own_address", || async {
        let (kernel, _events) = kernel().await;
        let (four, six) = (vip("10.9.0.100/24", 60), vip("fd00::100/64", 60));
        let installed = kernel.add(&[four.clone(), six.clone()]).await.unwrap();
        kernel.renew(installed, 60).await.unwrap();
        let alone = run("ip route show dev v0") + &run("ip -6 route show dev v0");
        assert!(alone.contains("10.9.0.0/24") && alone.contains("fd00::/64"), "a lone VIP needs it: {alone}");
        kernel.sweep(&[]).await.unwrap();

        run("ip addr add 10.9.0.1/24 dev v0");
        run("ip addr add fd00::1/64 dev v0 nodad");
        let before = run("ip route show dev v0") + &run("ip -6 route show dev v0");
        for _ in 0..2 {
            kernel.add(&[four.clone(), six.clone()]).await.unwrap();
            assert_eq!(run("ip route show dev v0") + &run("ip -6 route show dev v0"), before);
            assert_eq!(run("ip addr show dev v0").matches("noprefixroute").count(), 2);
        }
        kernel.sweep(&[]).await.unwrap();
        assert_eq!(run("ip route show dev v0") + &run("ip -6 route show dev v0"), before);
    });
}

#[test]
fn an_ipv6_address_is_usable_at_once() {
    wired("an_ipv6_address_is_usable_at_once", || async {
        let (kernel, _events) = kernel().await;
        kernel.add(&[vip("fd00::100/64", 60)]).await.unwrap();
        TcpListener::bind("[fd00::100]:0").expect("no duplicate detection is under way");
    });
}

#[test]
fn ipv6_switched_off_is_said() {
    wired("ipv6_switched_off_is_said", || async {
        std::fs::write("/proc/sys/net/ipv6/conf/v0/disable_ipv6", "1").unwrap();
        let (kernel, _events) = kernel().await;
        let error = kernel.add(&[vip("fd00::100/64", 60)]).await.unwrap_err().to_string();
        assert!(error.contains("fd00::100/64") && error.contains("disable_ipv6"), "{error}");
    });
}

#[test]
fn a_links_life_is_followed() {
    wired("a_links_life_is_followed", || async {
        let v0 = index("v0");
        let link = |index, name: &str, up| Event::Link { index, name: name.into(), up, mac: Some(OURS) };
        let gone = |index, name: &str| Event::LinkGone { index, name: name.into() };
        let (kernel, mut events) = kernel().await;
        events.soon(link(v0, "v0", true)).await;

        run("ip link set v0 down");
        events.soon(link(v0, "v0", false)).await;
        run("ip link set v0 up");
        events.soon(link(v0, "v0", true)).await;
        run("ip -n peer link set v1 down");
        // Up to a second late: the kernel limits how often it tells of a carrier lost.
        events.soon(link(v0, "v0", false)).await;
        run("ip -n peer link set v1 up");
        events.soon(link(v0, "v0", true)).await;

        run("ip link add br0 type bridge");
        run("ip link set v0 master br0");
        run("ip link set v0 nomaster");
        let news = events.all_within(SOON).await;
        assert!(!news.contains(&gone(v0, "v0")), "leaving a bridge is not the end: {news:?}");

        run("ip link set v0 down");
        run("ip link set v0 name w0");
        events.soon(gone(v0, "v0")).await;
        run("ip link set w0 name v0");

        run("ip link set v0 up");
        let address = vip("10.9.0.100/32", 60);
        kernel.add(std::slice::from_ref(&address)).await.unwrap();
        run("ip link del v0");
        events.soon(Event::AddressGone { index: v0, net: address.net }).await;
        events.soon(gone(v0, "v0")).await;
        assert!(matches!(kernel.add(&[address]).await, Err(KernelError::NoInterface { .. })));

        cable();
        events.soon(link(index("v0"), "v0", true)).await;
        assert_ne!(index("v0"), v0);
    });
}

/// One thread, so that while the listener sleeps nobody reads the kernel's news, and some are lost.
#[test]
fn lost_news_are_made_good() {
    let name = "lost_news_are_made_good";
    isolated(name, &[], || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let batch = |verb: &str| {
            let lines =
                (0..2000).map(|n| format!("addr {verb} 10.8.{}.{}/32 dev lo\n", n / 200, n % 200 + 1));
            let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            std::fs::write(&path, lines.collect::<String>()).unwrap();
            run(&format!("ip -batch {}", path.display()));
            std::fs::remove_file(path).unwrap();
        };
        runtime.block_on(async {
            let (kernel, mut events) = kernel().await;
            events.all_within(SOON).await;
            batch("add");
            let count =
                |events: Vec<Event>, wanted: fn(&Event) -> bool| events.iter().filter(|e| wanted(e)).count();
            let added = events.all_within(3 * SOON).await;
            assert_eq!(count(added, |event| matches!(event, Event::AddressAdded { .. })), 2000);
            assert_ne!(kernel.resyncs(), 0, "the flood was meant to be too much");
            batch("del");
            let gone = events.all_within(3 * SOON).await;
            assert_eq!(count(gone, |event| matches!(event, Event::AddressGone { .. })), 2000);
        });
    });
}

#[test]
fn a_missing_capability_is_named() {
    let without = ["setpriv", "--bounding-set=-net_admin,-net_raw", "--"];
    isolated("a_missing_capability_is_named", &without, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let error = netlink::check_capabilities().unwrap_err().to_string();
            assert!(error.contains("lacks CAP_NET_ADMIN and CAP_NET_RAW"), "{error}");
            let (kernel, _events) = kernel().await;
            let address = Address { ifindex: 1, net: net("10.9.0.100/32"), label: None, valid_for: 1 };
            let error = kernel.add(&[address]).await.unwrap_err().to_string();
            assert!(error.contains("lacks CAP_NET_ADMIN: run it as root"), "{error}");
            let error = Neighbor::open(1, OURS, BTreeSet::new(), Arc::new(|_| ())).unwrap_err();
            assert!(error.to_string().contains("CAP_NET_RAW"), "{error}");
        });
    });
}

/// The entry is as young as can be, so Linux heeds only what overrides its lock time of one second.
async fn learns(address: &str, announce: impl FnOnce()) {
    let show = || run(&format!("ip -n peer neigh show {address} dev v1"));
    let start = Instant::now();
    run(&format!("ip -n peer neigh replace {address} lladdr {STRANGER} dev v1 nud reachable"));
    announce();
    while !show().contains(&OURS.to_string()) {
        assert!(start.elapsed() < Duration::from_millis(900), "the peer still has {}", show());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn an_announcement_changes_the_peers_mind() {
    wired("an_announcement_changes_the_peers_mind", || async {
        run("ip -n peer addr add 10.9.0.2/24 dev v1");
        run("ip -n peer addr add fd00::2/64 dev v1 nodad");
        let (neighbor, mut claims) = neighbor(&["10.9.0.100", "fd00::100"]);
        learns("10.9.0.100", || neighbor.announce(ip("10.9.0.100")).unwrap()).await;
        learns("fd00::100", || neighbor.announce(ip("fd00::100")).unwrap()).await;
        let rest = claims.all_within(SOON).await;
        assert!(rest.iter().all(|claim| claim.mac != OURS), "our own frames are no claims: {rest:?}");
    });
}

#[test]
fn a_probe_finds_out_who_has_the_address() {
    wired("a_probe_finds_out_who_has_the_address", || async {
        let (neighbor, mut claims) = neighbor(&["10.9.0.100", "fd00::100"]);
        for address in ["10.9.0.100", "fd00::100"] {
            neighbor.probe(ip(address)).unwrap();
            assert_eq!(claims.all_within(SOON).await, [], "nobody has {address}");
        }
        run("ip -n peer addr add 10.9.0.100/24 dev v1");
        run("ip -n peer addr add fd00::100/64 dev v1 nodad");
        for (address, kind) in [("10.9.0.100", ClaimKind::Answer), ("fd00::100", ClaimKind::Announcement)] {
            neighbor.probe(ip(address)).unwrap();
            claims.soon(Claim { addr: ip(address), mac: PEERS, ifindex: index("v0"), kind }).await;
        }
        neighbor.watch(BTreeSet::new());
        neighbor.probe(ip("10.9.0.100")).unwrap();
        assert_eq!(claims.all_within(SOON).await, [], "nothing is watched any more");
        assert_eq!(neighbor.malformed(), 0);
    });
}

#[test]
fn what_others_announce_and_probe_is_heard() {
    wired("what_others_announce_and_probe_is_heard", || async {
        let (_neighbor, mut claims) = neighbor(&["10.9.0.100", "fd00::100"]);
        let claim = |addr, kind| Claim { addr: ip(addr), mac: PEERS, ifindex: index("v0"), kind };
        // Its exit code tells whether anybody answered, and nobody does.
        let arping = |how: &str| {
            let words = format!("netns exec peer arping -c1 -w1 -I v1 {how} 10.9.0.100");
            Command::new("ip").args(words.split(' ')).output().unwrap();
        };
        run("ip -n peer addr add 10.9.0.100/24 dev v1");
        for gratuitous in ["-U", "-A"] {
            arping(gratuitous);
            claims.soon(claim("10.9.0.100", ClaimKind::Announcement)).await;
        }
        run("ip -n peer addr del 10.9.0.100/24 dev v1");
        claims.all_within(SOON).await;
        arping("-0");
        claims.soon(claim("10.9.0.100", ClaimKind::Probe)).await;

        // Otherwise an interface does not hear the group of an address that it does not have.
        run("ip link set v0 allmulticast on");
        run("ip -n peer addr add fd00::100/64 dev v1");
        claims.soon(claim("fd00::100", ClaimKind::Probe)).await;
    });
}

#[test]
fn a_link_that_is_down_is_an_error_and_no_more() {
    wired("a_link_that_is_down_is_an_error_and_no_more", || async {
        run("ip -n peer addr add 10.9.0.100/24 dev v1");
        let (neighbor, mut claims) = neighbor(&["10.9.0.100"]);
        let down = |result| matches!(result, Err(NeighborError::Down { .. }));

        run("ip link set v0 down");
        assert!(down(neighbor.announce(ip("10.9.0.101"))));
        let cpu = || {
            Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime)).unwrap()
        };
        let before = cpu();
        tokio::time::sleep(SOON).await;
        assert!(cpu() - before < SOON / 10, "the readers wait, they do not spin");

        run("ip link set v0 up");
        tokio::time::sleep(SOON).await;
        neighbor.probe(ip("10.9.0.100")).expect("the first call after the return works");
        claims.within(SOON, |claim| claim.kind == ClaimKind::Answer).await;

        run("ip link del v0");
        assert!(down(neighbor.probe(ip("10.9.0.100"))));
        let before = cpu();
        tokio::time::sleep(SOON).await;
        assert!(cpu() - before < SOON / 10, "nor do they for an interface that is gone");
        assert!(down(Neighbor::open(4711, OURS, BTreeSet::new(), Arc::new(|_| ())).map(drop)));
    });
}
