//! VRRP's sockets and interfaces against a real kernel, in namespaces of their own: `cargo test --test vrrp_io`.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[allow(dead_code, reason = "not all of it is needed here")]
mod netns;

use haclusterd::io::clock;
use haclusterd::io::fence::mask::{self, Mask};
use haclusterd::io::fence::{Fence, Gate, deaf};
use haclusterd::io::netlink::macvlan::{self, MacvlanError};
use haclusterd::io::netlink::{index_of, name_of};
use haclusterd::io::vrrp::{GROUP_V4, GROUP_V6, Heard, Listener, Sender, To, VrrpError, Wire, ip_header};
use haclusterd_proto::MacAddr;
use netns::{OURS, PEERS, SOON, Seen, run, wired};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::unbounded_channel;

/// Of VRID 51.
const VIRTUAL: MacAddr = MacAddr([0, 0, 0x5e, 0, 1, 51]);
const VIRTUAL_V6: MacAddr = MacAddr([0, 0, 0x5e, 0, 2, 51]);
const ADVERT: &[u8] = b"an advert";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn v0() -> u32 {
    index_of("v0").unwrap()
}

/// On a thread that is inside the other namespace: sockets stay in the one in which they were made.
fn at_peer<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    let runtime = tokio::runtime::Handle::current();
    let inside = || {
        let _guard = runtime.enter();
        let space = std::fs::File::open("/run/netns/peer").unwrap();
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        body()
    };
    std::thread::scope(|scope| scope.spawn(inside).join().unwrap())
}

fn peers_sender(wire: Wire) -> Sender {
    at_peer(|| Sender::open(index_of("v1").unwrap(), wire).unwrap())
}

fn listener(wire: Wire) -> (Listener, Seen<Heard>) {
    let (tell, seen) = unbounded_channel();
    let heard = Arc::new(move |heard| tell.send(heard).unwrap_or(()));
    (Listener::open(v0(), wire, heard).unwrap(), Seen(seen))
}

/// Both hosts have addresses, and IPv6 is settled.
fn addressed() {
    for (host, address) in [("", "10.9.0.1/24"), ("-n peer ", "10.9.0.2/24")] {
        run(&format!("ip {host}addr add {address} dev {}", if host.is_empty() { "v0" } else { "v1" }));
    }
    for (host, dev, last) in [("", "v0", 1), ("-n peer ", "v1", 2)] {
        run(&format!("ip {host}addr flush dev {dev} scope link"));
        run(&format!("ip {host}addr add fe80::{last}/64 dev {dev} nodad"));
        run(&format!("ip {host}addr add fd00::{last}/64 dev {dev} nodad"));
    }
}

fn heard(wire: Wire, source: &str, destination: IpAddr) -> impl Fn(&Heard) -> bool {
    let source = ip(source);
    move |heard| {
        (heard.ifindex, heard.source, heard.destination) == (v0(), source, destination)
            && heard.hops == 255
            && heard.ah == (wire == Wire::V4Ah)
            && heard.ip_header.len() == if wire == Wire::V6 { 0 } else { 20 }
            && heard.message == ADVERT
    }
}

#[test]
fn messages_are_heard_as_they_were_sent() {
    wired("messages_are_heard_as_they_were_sent", || async {
        addressed();
        let cases = [
            (Wire::V4, "10.9.0.2", "10.9.0.1"),
            (Wire::V4Ah, "10.9.0.2", "10.9.0.1"),
            (Wire::V6, "fe80::2", "fe80::1"),
            (Wire::V6, "fd00::2", "fd00::1"),
        ];
        for (wire, from, to) in cases {
            let group = if wire == Wire::V6 { GROUP_V6.into() } else { GROUP_V4.into() };
            let (listener, mut seen) = listener(wire);
            let sender = peers_sender(wire);
            sender.send(ip(from), To::Multicast, ADVERT).unwrap();
            seen.within(SOON, heard(wire, from, group)).await;
            sender.send(ip(from), To::Unicast(ip(to)), ADVERT).unwrap();
            seen.within(SOON, heard(wire, from, ip(to))).await;

            let own = Sender::open(v0(), wire).unwrap();
            own.send(ip(to), To::Multicast, ADVERT).unwrap();
            assert_eq!(seen.all_within(SOON).await, [], "nobody hears himself");
            assert_eq!((listener.malformed(), listener.dropped()), (0, 0));
        }
    });
}

#[test]
fn a_source_of_ones_own_choice_is_kept() {
    wired("a_source_of_ones_own_choice_is_kept", || async {
        addressed();
        for (wire, from, group) in
            [(Wire::V4, "10.9.0.77", GROUP_V4.into()), (Wire::V6, "fe80::77", GROUP_V6.into())]
        {
            let (_listener, mut seen) = listener(wire);
            peers_sender(wire).send(ip(from), To::Multicast, ADVERT).unwrap();
            seen.within(SOON, heard(wire, from, group)).await;
        }
    });
}

#[test]
fn the_header_that_an_ah_must_cover_is_the_one_that_is_sent() {
    wired("the_header_that_an_ah_must_cover_is_the_one_that_is_sent", || async {
        addressed();
        let (_listener, mut seen) = listener(Wire::V4Ah);
        peers_sender(Wire::V4Ah).send(ip("10.9.0.2"), To::Multicast, ADVERT).unwrap();
        let arrived = seen.within(SOON, |_| true).await.ip_header;
        let told = ip_header(Wire::V4Ah, [10, 9, 0, 2].into(), GROUP_V4, ADVERT.len());
        // All but the checksum.
        assert_eq!((&arrived[..10], &arrived[12..]), (&told[..10], &told[12..]));
    });
}

#[test]
fn what_the_wire_did_to_a_packet_is_seen() {
    wired("what_the_wire_did_to_a_packet_is_seen", || async {
        addressed();
        let (listener, mut seen) = listener(Wire::V4);
        let frame = Frame { ttl: 254, ..Frame::default() };
        frame.send();
        let heard = seen.within(SOON, |_| true).await;
        assert_eq!((heard.hops, &heard.message[..]), (254, ADVERT));

        Frame { padding: 17, ..Frame::default() }.send();
        assert_eq!(seen.within(SOON, |_| true).await.message, ADVERT, "without padding");

        Frame { options: true, ..Frame::default() }.send();
        let heard = seen.within(SOON, |_| true).await;
        assert_eq!((heard.ip_header.len(), &heard.message[..]), (24, ADVERT));

        Frame { message: vec![7; 1400], ..Frame::default() }.send();
        assert_eq!(seen.within(SOON, |_| true).await.message.len(), 1400);
        assert_eq!(listener.malformed(), 0);
    });
}

#[test]
fn what_is_not_for_us_is_not_heard() {
    wired("what_is_not_for_us_is_not_heard", || async {
        addressed();
        run("ip link add d0 type veth peer name d1");
        run("ip addr add 10.8.0.1/24 dev d0");
        run("ip link set d0 up");
        let (_four, mut four) = listener(Wire::V4);
        Frame { to: [224, 0, 0, 5].into(), ..Frame::default() }.send();
        Frame { to: [10, 9, 0, 50].into(), ..Frame::default() }.send();
        peers_sender(Wire::V4Ah).send(ip("10.9.0.2"), To::Multicast, ADVERT).unwrap();
        Sender::open(index_of("d0").unwrap(), Wire::V4)
            .unwrap()
            .send(ip("10.8.0.1"), To::Multicast, ADVERT)
            .unwrap();
        assert_eq!(four.all_within(SOON).await, []);
    });
}

#[test]
fn too_much_at_once_is_dropped_and_counted() {
    wired("too_much_at_once_is_dropped_and_counted", || async {
        addressed();
        let (tell, seen) = unbounded_channel();
        let mut seen = Seen(seen);
        let slow = Arc::new(move |heard: Heard| {
            std::thread::sleep(Duration::from_millis(1));
            tell.send(heard).unwrap_or(());
        });
        let listener = Listener::open(v0(), Wire::V4, slow).unwrap();
        let sender = peers_sender(Wire::V4);
        for _ in 0..1000 {
            sender.send(ip("10.9.0.2"), To::Multicast, ADVERT).unwrap();
        }
        seen.all_within(2 * SOON).await;
        sender.send(ip("10.9.0.2"), To::Multicast, ADVERT).unwrap();
        seen.within(SOON, |_| true).await;
        assert!((1..1000).contains(&listener.dropped()), "{}", listener.dropped());
    });
}

#[test]
fn a_link_that_goes_and_comes_back_needs_no_new_sockets() {
    wired("a_link_that_goes_and_comes_back_needs_no_new_sockets", || async {
        addressed();
        for (wire, ours, peers) in [(Wire::V4, "10.9.0.1", "10.9.0.2"), (Wire::V6, "fe80::1", "fe80::2")] {
            let group = if wire == Wire::V6 { GROUP_V6.into() } else { GROUP_V4.into() };
            let (_listener, mut seen) = listener(wire);
            let (own, peer) = (Sender::open(v0(), wire).unwrap(), peers_sender(wire));
            run("ip link set v0 down");
            let error = own.send(ip(ours), To::Multicast, ADVERT).unwrap_err();
            assert!(matches!(error, VrrpError::Unreachable { .. }), "{error}");
            assert!(error.to_string().contains("interface v0 is down"), "{error}");
            idle("down").await;

            run("ip link set v0 up");
            returns(&own, ip(ours)).await;
            let renewed = hears_again(&peer, ip(peers), &mut seen).await;
            assert!(heard(wire, peers, group)(&renewed), "{renewed:?}");

            run("ip link set v0 down");
            run("ip link set v0 name w0");
            run("ip link set w0 up");
            returns(&own, ip(ours)).await;
            let renamed = hears_again(&peer, ip(peers), &mut seen).await;
            assert_eq!(name_of(renamed.ifindex).as_deref(), Some("w0"));
            run("ip link set w0 down");
            run("ip link set w0 name v0");
            run("ip link set v0 up");
            returns(&own, ip(ours)).await;
        }
    });
}

/// The kernel limits how often it looks at carriers: up to a second after the link, IPv6 has no routes yet, and the
/// other end may still drop what it sends.
const CARRIER: Duration = Duration::from_secs(3);

async fn returns(sender: &Sender, from: IpAddr) {
    let start = Instant::now();
    while let Err(error) = sender.send(from, To::Multicast, ADVERT) {
        assert!(from.is_ipv6() && start.elapsed() < CARRIER, "{error}");
        tokio::time::sleep(SOON / 20).await;
    }
}

async fn hears_again(peer: &Sender, from: IpAddr, seen: &mut Seen<Heard>) -> Heard {
    let sending = async {
        loop {
            let _ = peer.send(from, To::Multicast, ADVERT);
            tokio::time::sleep(SOON / 20).await;
        }
    };
    tokio::select! {
        heard = seen.within(CARRIER, |heard| heard.source == from) => heard,
        () = sending => unreachable!("it sends for ever"),
    }
}

#[test]
fn a_deleted_interface_is_an_error_and_no_more() {
    wired("a_deleted_interface_is_an_error_and_no_more", || async {
        addressed();
        let (_four, _) = listener(Wire::V4);
        let (_six, _) = listener(Wire::V6);
        let v0 = v0();
        let senders = [(Wire::V4, "10.9.0.1"), (Wire::V6, "fe80::1")]
            .map(|(wire, from)| (Sender::open(v0, wire).unwrap(), ip(from)));
        run("ip link del v0");
        for (sender, from) in senders {
            let error = sender.send(from, To::Multicast, ADVERT).unwrap_err();
            assert!(matches!(error, VrrpError::Gone { .. } | VrrpError::Unreachable { .. }), "{error:?}");
            assert!(error.to_string().contains(&format!("index {v0}")), "{error}");
        }
        idle("gone").await;
        let error = Listener::open(4711, Wire::V6, Arc::new(|_| ())).unwrap_err();
        assert_eq!(error.to_string(), "the interface with index 4711 is gone");
        assert!(matches!(Sender::open(4711, Wire::V4), Err(VrrpError::Gone { .. })));
    });
}

#[test]
fn an_address_of_another_family_is_refused() {
    wired("an_address_of_another_family_is_refused", || async {
        let sender = Sender::open(v0(), Wire::V4).unwrap();
        for (from, to) in [
            ("fe80::1", To::Multicast),
            ("10.9.0.1", To::Unicast(ip("fe80::2"))),
            ("fe80::1", To::Unicast(ip("10.9.0.2"))),
        ] {
            let error = sender.send(ip(from), to, ADVERT).unwrap_err().to_string();
            assert!(error.contains("fe80::") && error.contains("interface v0"), "{error}");
        }
    });
}

/// Readers wait, they do not spin.
async fn idle(when: &str) {
    let cpu =
        || Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime)).unwrap();
    let before = cpu();
    tokio::time::sleep(SOON).await;
    assert!(cpu() - before < SOON / 10, "{when}");
}

#[test]
fn a_virtual_interface_is_made_taken_over_and_replaced() {
    wired("a_virtual_interface_is_made_taken_over_and_replaced", || async {
        let made = macvlan::ensure(v0(), "vrrp.51", VIRTUAL).await.unwrap();
        assert_eq!(index_of("vrrp.51"), Some(made));
        let shown = run("ip -d link show vrrp.51");
        for wanted in ["vrrp.51@v0", ",UP", "00:00:5e:00:01:33", "macvlan mode bridge", "alias haclusterd"] {
            assert!(shown.contains(wanted), "{wanted}: {shown}");
        }
        assert_eq!(run("ip addr show dev vrrp.51").matches("inet").count(), 0, "no address of its own");

        run("ip link set vrrp.51 down");
        write("net/ipv4/conf/vrrp.51/arp_ignore", "0");
        assert_eq!(macvlan::ensure(v0(), "vrrp.51", VIRTUAL).await.unwrap(), made, "taken over");
        assert!(run("ip link show vrrp.51").contains(",UP"));
        assert_eq!(read("net/ipv4/conf/vrrp.51/arp_ignore"), "1");

        let other = MacAddr([0, 0, 0x5e, 0, 1, 52]);
        let replaced = macvlan::ensure(v0(), "vrrp.51", other).await.unwrap();
        assert_ne!(replaced, made);
        assert!(run("ip link show vrrp.51").contains("00:00:5e:00:01:34"));

        run("ip link add d0 type veth peer name d1");
        run("ip link set d0 up");
        macvlan::ensure(index_of("d0").unwrap(), "vrrp.51", other).await.unwrap();
        assert!(run("ip link show vrrp.51").contains("vrrp.51@d0"));
        assert_eq!(read("net/ipv4/conf/v0/arp_ignore"), "0", "the old parent has its setting back");
        assert_eq!(read("net/ipv4/conf/d0/arp_ignore"), "1");

        macvlan::remove("vrrp.51").await.unwrap();
        assert_eq!(index_of("vrrp.51"), None);
        macvlan::remove("vrrp.51").await.expect("absent is success");
    });
}

#[test]
fn what_others_made_is_refused_and_stays() {
    wired("what_others_made_is_refused_and_stays", || async {
        let foreign = [
            "ip link add vrrp.51 type bridge",
            "ip link add link v0 vrrp.51 address 00:00:5e:00:01:33 up type macvlan mode private",
            "ip link add link v0 vrrp.51 address 00:00:5e:00:01:33 up type macvlan mode bridge",
        ];
        for command in foreign {
            run(command);
            let error = macvlan::ensure(v0(), "vrrp.51", VIRTUAL).await.unwrap_err();
            assert!(matches!(error, MacvlanError::Foreign { .. }), "{command}: {error}");
            assert!(error.to_string().contains("ip link del vrrp.51"), "{error}");
            macvlan::remove("vrrp.51").await.unwrap();
            assert_eq!(macvlan::sweep(&[]).await.unwrap(), [""; 0]);
            assert!(index_of("vrrp.51").is_some(), "{command}");
            run("ip link del vrrp.51");
        }
        // What a run that died in the middle leaves.
        run("ip link add link v0 vrrp.51 address 00:00:5e:00:01:33 type macvlan mode bridge");
        macvlan::ensure(v0(), "vrrp.51", VIRTUAL).await.unwrap();

        run("ip link add link v0 kept address 00:00:5e:00:01:34 up type macvlan mode bridge");
        let taken = MacAddr([0, 0, 0x5e, 0, 1, 52]);
        let error = macvlan::ensure(v0(), "vrrp.52", taken).await.unwrap_err();
        assert!(error.to_string().contains("has its MAC"), "{error}");
        let error = macvlan::ensure(4711, "vrrp.53", taken).await.unwrap_err();
        assert_eq!(error.to_string(), "there is no interface with index 4711");
    });
}

#[test]
fn a_sweep_removes_ours_and_restores_the_parent() {
    wired("a_sweep_removes_ours_and_restores_the_parent", || async {
        write("net/ipv4/conf/v0/arp_announce", "1");
        let settings =
            || ["arp_ignore", "arp_announce"].map(|name| read(&format!("net/ipv4/conf/v0/{name}")));
        for (name, last) in [("vrrp.51", 51), ("vrrp.52", 52), ("vrrp.53", 53)] {
            macvlan::ensure(v0(), name, MacAddr([0, 0, 0x5e, 0, 1, last])).await.unwrap();
        }
        assert_eq!(settings(), ["1", "2"]);
        assert_eq!(macvlan::sweep(&["vrrp.52"]).await.unwrap(), ["vrrp.51", "vrrp.53"]);
        assert_eq!(settings(), ["1", "2"], "one still needs it");
        assert_eq!(macvlan::sweep(&[]).await.unwrap(), ["vrrp.52"]);
        assert_eq!(settings(), ["0", "1"]);

        macvlan::ensure(v0(), "vrrp.51", VIRTUAL).await.unwrap();
        write("net/ipv4/conf/v0/arp_ignore", "2");
        macvlan::remove("vrrp.51").await.unwrap();
        assert_eq!(settings(), ["2", "1"], "an operator's setting since is his");
        macvlan::ensure(v0(), "vrrp.51", VIRTUAL).await.unwrap();
        assert_eq!(settings(), ["2", "2"], "and suffices");

        run("ip link del v0");
        assert_eq!(index_of("vrrp.51"), None);
        macvlan::remove("vrrp.51").await.expect("it went with its parent");
    });
}

#[test]
fn a_setting_that_cannot_be_written_is_named() {
    wired("a_setting_that_cannot_be_written_is_named", || async {
        run("mount -t proc -o ro proc /proc");
        let error = macvlan::ensure(v0(), "vrrp.51", VIRTUAL).await.unwrap_err().to_string();
        assert!(error.contains("/proc/sys/net/ipv4/conf/vrrp.51/arp_ignore"), "{error}");
        assert!(error.contains("must be 1"), "{error}");
    });
}

const VIPS: [(&str, MacAddr); 2] = [("10.9.0.100", VIRTUAL), ("fd00::100", VIRTUAL_V6)];

/// This host has the virtual addresses on virtual interfaces, which [`macvlan::ensure`] made.
async fn virtual_addresses() {
    addressed();
    macvlan::ensure(v0(), "vrrp.51", VIRTUAL).await.unwrap();
    macvlan::ensure(v0(), "vrrp6.51", VIRTUAL_V6).await.unwrap();
    run("ip addr add 10.9.0.100/32 dev vrrp.51");
    run("ip addr add fd00::100/128 dev vrrp6.51 nodad");
}

/// From a host that does not remember where it is.
fn ping(address: &str) -> bool {
    run("ip -n peer neigh flush all");
    let words = format!("netns exec peer ping -c1 -W1 {address}");
    Command::new("ip").args(words.split(' ')).output().unwrap().status.success()
}

/// RFC 9568, 8.1.2: with the strictest filter that a host may have, and with tables as empty as can be.
#[test]
fn clients_only_ever_learn_the_virtual_mac() {
    wired("clients_only_ever_learn_the_virtual_mac", || async {
        write("net/ipv4/conf/all/rp_filter", "1");
        virtual_addresses().await;
        let masks = VIPS.map(|(addr, mac)| Mask { ifindex: v0(), addr: ip(addr), mac });
        for masks in [&masks[..], &[]] {
            mask::wear(masks).unwrap();
            for (asked, mac) in VIPS.into_iter().chain([("10.9.0.1", OURS), ("fd00::1", OURS)]) {
                run("ip neigh flush all");
                let frames = at_peer(Frames::listen);
                assert!(ping(asked));
                let learnt = run(&format!("ip -n peer neigh show {asked} dev v1"));
                assert!(learnt.contains(&mac.to_string()), "{asked}: {learnt}");

                let frames = frames.all();
                let liars = frames.iter().filter_map(|frame| arp(frame)).filter(|(addr, from)| {
                    (VIPS[0].0 == addr.to_string() && *from != VIRTUAL)
                        || (addr.to_string() == "10.9.0.1" && *from != OURS)
                });
                assert_eq!(liars.collect::<Vec<_>>(), [], "{asked}");
                let answers: Vec<_> = frames.iter().filter(|frame| is_answer(frame, ip(asked))).collect();
                assert_eq!(answers.len(), 1, "{asked}");
                let worn = if masks.is_empty() { OURS } else { mac };
                assert_eq!(answers[0][6..12], worn.0, "the echo of {asked}");
            }
        }
    });
}

/// RFC 9568 6.1, Accept_Mode.
#[test]
fn a_deaf_address_is_resolved_and_takes_no_packet() {
    wired("a_deaf_address_is_resolved_and_takes_no_packet", || async {
        virtual_addresses().await;
        let deaf: Vec<(u32, IpAddr)> = VIPS.iter().map(|(addr, _)| (v0(), ip(addr))).collect();
        for deaf in [&deaf[..], &[]] {
            deaf::turn(deaf).unwrap();
            for (asked, mac) in VIPS {
                assert_eq!(ping(asked), deaf.is_empty(), "{asked}");
                let learnt = run(&format!("ip -n peer neigh show {asked} dev v1"));
                assert!(learnt.contains(&mac.to_string()), "{asked}: {learnt}");
            }
            assert!(ping("10.9.0.1") && ping("fd00::1"), "the host's own are none of its business");
        }
        assert!(!run("nft list tables").contains("deaf"));
    });
}

/// It stands on the parent, by which everything comes and goes.
#[test]
fn a_fence_on_the_parent_holds_for_virtual_interfaces() {
    wired("a_fence_on_the_parent_holds_for_virtual_interfaces", || async {
        virtual_addresses().await;
        let (far, past) = (clock::now() + 20 * SOON, clock::now());
        let gates = |until| VIPS.map(|(addr, _)| Gate { ifindex: v0(), addr: ip(addr), until });
        let mut fence = Fence::start(&gates(past)).unwrap();
        assert!(ping("10.9.0.1") && !ping(VIPS[0].0) && !ping(VIPS[1].0));
        assert!(fence.open(&gates(far)).unwrap().closed.is_empty());
        assert!(ping(VIPS[0].0) && ping(VIPS[1].0));
        fence.close(&VIPS.map(|(addr, _)| ip(addr))).unwrap();
        assert!(!ping(VIPS[0].0) && !ping(VIPS[1].0));
    });
}

#[test]
fn adverts_come_from_the_virtual_mac() {
    wired("adverts_come_from_the_virtual_mac", || async {
        addressed();
        let four = macvlan::ensure(v0(), "vrrp.51", VIRTUAL).await.unwrap();
        let six = macvlan::ensure(v0(), "vrrp6.51", VIRTUAL_V6).await.unwrap();
        for (wire, index, from, mac) in
            [(Wire::V4, four, "10.9.0.1", VIRTUAL), (Wire::V6, six, "fe80::1", VIRTUAL_V6)]
        {
            let (_own, mut own) = listener(wire);
            let frames = at_peer(Frames::listen);
            Sender::open(index, wire).unwrap().send(ip(from), To::Multicast, ADVERT).unwrap();
            assert_eq!(own.all_within(SOON).await, [], "the parent does not hear its own");
            let adverts: Vec<_> = frames.all().into_iter().filter(|frame| frame.ends_with(ADVERT)).collect();
            assert_eq!(adverts.len(), 1, "{wire:?}");
            assert_eq!(adverts[0][6..12], mac.0);
        }
    });
}

/// Two hosts that both think they own it have the same virtual MAC, and must hear each other nevertheless.
#[test]
fn the_same_virtual_mac_elsewhere_is_heard() {
    wired("the_same_virtual_mac_elsewhere_is_heard", || async {
        addressed();
        macvlan::ensure(v0(), "vrrp.51", VIRTUAL).await.unwrap();
        run("ip -n peer link add link v1 vrrp.51 address 00:00:5e:00:01:33 type macvlan mode bridge");
        run("ip -n peer link set vrrp.51 up");
        let (_listener, mut seen) = listener(Wire::V4);
        let sender = at_peer(|| Sender::open(index_of("vrrp.51").unwrap(), Wire::V4).unwrap());
        sender.send(ip("10.9.0.2"), To::Multicast, ADVERT).unwrap();
        seen.within(SOON, heard(Wire::V4, "10.9.0.2", GROUP_V4.into())).await;
    });
}

#[test]
fn a_virtual_interface_takes_little_time() {
    let printed = wired("a_virtual_interface_takes_little_time", || async {
        let start = Instant::now();
        macvlan::ensure(v0(), "vrrp.51", VIRTUAL).await.unwrap();
        let made = start.elapsed();
        macvlan::remove("vrrp.51").await.unwrap();
        println!("made in {made:?}, removed in {:?}", start.elapsed() - made);
        assert!(made < SOON);
    });
    print!("{printed}");
}

fn write(key: &str, value: &str) {
    std::fs::write(format!("/proc/sys/{key}"), value).unwrap();
}

fn read(key: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/{key}")).unwrap().trim().into()
}

/// An IPv4 advert of the peer's, with something unusual about it.
struct Frame {
    ttl: u8,
    to: Ipv4Addr,
    options: bool,
    message: Vec<u8>,
    padding: usize,
}

impl Default for Frame {
    fn default() -> Frame {
        Frame { ttl: 255, to: GROUP_V4, options: false, message: ADVERT.to_vec(), padding: 0 }
    }
}

impl Frame {
    fn send(self) {
        let options: &[u8] = if self.options { &[1; 4] } else { &[] };
        let mut header =
            ip_header(Wire::V4, [10, 9, 0, 2].into(), self.to, options.len() + self.message.len()).to_vec();
        header.extend(options);
        header[0] = 0x40 | (header.len() / 4) as u8;
        header[8] = self.ttl;
        let checksum = checksum(&header).to_be_bytes();
        header[10..12].copy_from_slice(&checksum);
        let [_, a, b, c] = self.to.octets();
        let mac = if self.to.is_multicast() { [1, 0, 0x5e, a & 0x7f, b, c] } else { OURS.0 };
        let padding = vec![0; self.padding];
        let bytes = [&mac[..], &PEERS.0, &[8, 0], &header, &self.message, &padding].concat();
        at_peer(|| {
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).unwrap();
            socket.send_to(&bytes, &link_address(index_of("v1").unwrap())).unwrap();
        });
    }
}

fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}

#[allow(unsafe_code)]
fn link_address(ifindex: u32) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is a socket address of the platform and fits; the length is its own.
    unsafe {
        let address: &mut libc::sockaddr_ll = storage.view_as();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = ifindex as i32;
        SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as u32)
    }
}

/// Whatever is on the wire.
struct Frames(Socket);

impl Frames {
    fn listen() -> Frames {
        let every = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
        Frames(Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(every)).unwrap())
    }

    fn all(&self) -> Vec<Vec<u8>> {
        let mut buffer = [0; 2048];
        std::iter::from_fn(|| (&self.0).read(&mut buffer).ok().map(|len| buffer[..len].to_vec())).collect()
    }
}

/// Who says to be where.
fn arp(frame: &[u8]) -> Option<(Ipv4Addr, MacAddr)> {
    let address: [u8; 4] = frame.get(28..32)?.try_into().ok()?;
    (frame[12..14] == [8, 6]).then(|| (address.into(), MacAddr(frame[22..28].try_into().unwrap())))
}

fn is_answer(frame: &[u8], from: IpAddr) -> bool {
    match from {
        IpAddr::V4(from) => frame[12..14] == [8, 0] && frame[26..30] == from.octets() && frame[34] == 0,
        IpAddr::V6(from) => {
            frame[12..14] == [0x86, 0xdd] && frame[22..38] == from.octets() && frame[54] == 129
        }
    }
}
