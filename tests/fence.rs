//! The fence against a real kernel, in namespaces of its own: `cargo test --test fence`. Its figures:
//! `cargo test --test fence -- --ignored --nocapture --test-threads 1`.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "fence/client.rs"]
mod client;
#[allow(dead_code, reason = "not all of it is needed here")]
mod netns;
#[path = "fence/repair.rs"]
mod repair;
#[path = "fence/stopped.rs"]
mod stopped;

use client::{Asked, Client, EVERYHOW, How};
use haclusterd::engine::time::Instant;
use haclusterd::io::clock;
use haclusterd::io::fence::{Fence, FenceError, Gate};
use haclusterd::io::neighbor::{Claim, ClaimKind, Neighbor};
use haclusterd_proto::ndp;
use netns::{OURS, PEERS, Seen, isolated, run, wired};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;
use tokio::sync::mpsc::unbounded_channel;

const V4: &str = "10.9.0.100";
const V6: &str = "fd00::100";
const LEASE: Duration = Duration::from_millis(300);
/// No delay of a busy machine is as long.
const LONG: Duration = Duration::from_secs(60);
/// By which the kernel's jiffies (4 ms, twice) and the client's next question come early.
const EARLY: Duration = Duration::from_millis(15);
const PACE: Duration = Duration::from_millis(1);
const FLOOD: Duration = Duration::ZERO;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn vips() -> [IpAddr; 2] {
    [ip(V4), ip(V6)]
}

fn index(interface: &str) -> u32 {
    number(&run(&format!("ip -o link show {interface}")))
}

fn index_in(namespace: &str, interface: &str) -> u32 {
    number(&run(&format!("ip -n {namespace} -o link show {interface}")))
}

fn number(line: &str) -> u32 {
    line.split(':').next().unwrap().parse().unwrap()
}

fn gates(ifindex: u32, until: Instant) -> [Gate; 2] {
    vips().map(|addr| Gate { ifindex, addr, until })
}

/// A host that has both VIPs on `v0` for good, and a peer. Each has cached where the other is, so that neither asks, and
/// whatever the peer hears of a VIP answers a question of its clients.
fn host() -> u32 {
    run(&format!("ip addr add {V4}/24 dev v0"));
    run(&format!("ip addr add {V6}/64 dev v0 nodad"));
    run("ip -n peer addr add 10.9.0.2/24 dev v1");
    run("ip -n peer addr add fd00::2/64 dev v1 nodad");
    for vip in [V4, V6] {
        run(&format!("ip -n peer neigh replace {vip} lladdr {OURS} dev v1 nud permanent"));
    }
    for peer in ["10.9.0.2", "fd00::2"] {
        run(&format!("ip neigh replace {peer} lladdr {PEERS} dev v0 nud permanent"));
    }
    usable();
    client::echo();
    index("v0")
}

/// Even without duplicate detection, an IPv6 address takes a moment, in which a probe would end it.
fn usable() {
    let tentative = || run("ip -o -6 addr show tentative") + &run("ip -n peer -o -6 addr show tentative");
    while tentative().contains("fd00") {
        sleep(PACE);
    }
}

fn clients(pace: Duration) -> Vec<Client> {
    EVERYHOW.map(|how| Client::start(how, pace)).map(Client::wait).into()
}

fn finish(clients: Vec<Client>) -> Vec<(How, Vec<Asked>)> {
    clients.iter().for_each(Client::stop);
    clients.into_iter().map(|client| (client.how, client.finish())).collect()
}

fn last_answered(asked: &[Asked]) -> Option<Instant> {
    asked.iter().rfind(|asked| asked.answered).map(|asked| asked.at)
}

/// The question after the last that was answered.
fn silence(asked: &[Asked]) -> Instant {
    let answered = asked.iter().rposition(|asked| asked.answered).unwrap();
    asked[answered + 1].at
}

/// How much later, in milliseconds.
fn after(later: Instant, earlier: Instant) -> f64 {
    (later.micros() as f64 - earlier.micros() as f64) / 1000.0
}

fn all_answered(clients: Vec<Client>) {
    for (how, asked) in finish(clients) {
        let failed = asked.iter().filter(|asked| !asked.answered).count();
        println!("{how:?}: {} questions", asked.len());
        assert_eq!((failed, asked.len() > 20), (0, true), "{how:?}: {failed} of {} unanswered", asked.len());
    }
}

fn none_answered() {
    for (how, asked) in finish(clients(PACE)) {
        assert_eq!((last_answered(&asked), asked.is_empty()), (None, false), "{how:?}: {asked:?}");
    }
}

#[test]
fn an_open_gate_serves_and_closes_by_itself_at_the_end_of_its_lease() {
    wired("an_open_gate_serves_and_closes_by_itself_at_the_end_of_its_lease", || async {
        let v0 = host();
        let mut fence = Fence::start(&[]).unwrap();
        let until = clock::now() + LEASE;
        let opened = fence.open(&gates(v0, until)).unwrap();
        assert_eq!((opened.repaired, opened.closed), (false, vec![]));
        let clients = clients(PACE);
        sleep(LEASE + LEASE / 3);
        for (how, asked) in finish(clients) {
            let (last, first) = (last_answered(&asked).unwrap(), silence(&asked));
            println!(
                "{how:?}: last answer {:.1} ms, first silence {:.1} ms after the end",
                after(last, until),
                after(first, until)
            );
            assert!(last <= until, "{how:?} was served {} ms after the end", after(last, until));
            assert!(first + EARLY >= until, "{how:?} was cut off at {} ms", after(first, until));
        }
    });
}

#[test]
fn renewals_leave_no_gap() {
    wired("renewals_leave_no_gap", || async {
        let v0 = host();
        let mut fence = Fence::start(&[]).unwrap();
        let _ = fence.open(&gates(v0, clock::now() + LONG)).unwrap();
        let clients = clients(FLOOD);
        for _ in 0..100 {
            let _ = fence.open(&gates(v0, clock::now() + LONG)).unwrap();
            sleep(Duration::from_millis(5));
        }
        all_answered(clients);
    });
}

#[test]
fn closing_is_at_once_and_lasts_until_the_address_is_forgotten() {
    wired("closing_is_at_once_and_lasts_until_the_address_is_forgotten", || async {
        let v0 = host();
        let mut fence = Fence::start(&[]).unwrap();
        let _ = fence.open(&gates(v0, clock::now() + LONG)).unwrap();
        let clients = clients(FLOOD);
        sleep(LEASE / 3);
        fence.close(&vips()).unwrap();
        let closed = clock::now();
        sleep(LEASE / 3);
        for (how, asked) in finish(clients) {
            let last = last_answered(&asked).unwrap();
            println!("{how:?}: last answer to a question of {:.2} ms after the call", after(last, closed));
            assert!(last <= closed, "{how:?}");
        }
        fence.forget(&vips()).unwrap();
        assert!(!run("nft list table netdev haclusterd").contains("elements"));
        let free = self::clients(PACE);
        sleep(LEASE / 3);
        all_answered(free);
    });
}

#[test]
fn gates_are_kept_open_together_and_closed_one_by_one() {
    wired("gates_are_kept_open_together_and_closed_one_by_one", || async {
        let v0 = host();
        let mut fence = Fence::start(&[]).unwrap();
        let _ = fence.open(&gates(v0, clock::now() + LEASE)).unwrap();
        let before = clients(PACE);
        for _ in 0..30 {
            // Longer than this process may have to wait for a processor among the others.
            assert!(!fence.keep(clock::now() + LEASE * 3).unwrap());
            sleep(LEASE / 10);
        }
        all_answered(before);
        assert_eq!(Fence::left_open().unwrap().len(), 2);
        let last = clock::now() + LEASE;
        fence.keep(last).unwrap();
        let after = clients(PACE);
        sleep(LEASE * 2);
        for (how, asked) in finish(after) {
            let (answer, silent) = (last_answered(&asked).unwrap(), silence(&asked));
            assert!(answer <= last, "{how:?} was served {} ms after the end", self::after(answer, last));
            assert!(silent + EARLY >= last, "{how:?} was cut off at {} ms", self::after(silent, last));
        }
        let until = clock::now() + LONG;
        let _ = fence.open(&gates(v0, until)).unwrap();
        fence.keep(until).unwrap();
        fence.close(&[ip(V4)]).unwrap();
        fence.keep(until).unwrap();
        for (how, asked) in finish(clients(PACE)) {
            let v4 = matches!(how, How::Arp | How::Udp4);
            assert_eq!(last_answered(&asked).is_none(), v4, "{how:?}");
        }
    });
}

#[test]
fn a_quiet_address_serves_the_connections_that_it_has_and_takes_no_more() {
    const PATIENCE: Duration = Duration::from_millis(50);
    wired("a_quiet_address_serves_the_connections_that_it_has_and_takes_no_more", || async {
        let v0 = host();
        let mut fence = Fence::start(&[]).unwrap();
        let _ = fence.open(&gates(v0, clock::now() + LONG)).unwrap();
        for vip in vips() {
            let listener = TcpListener::bind((vip, 0)).unwrap();
            let at = listener.local_addr().unwrap();
            let connect = move || {
                let there = move || {
                    client::enter("peer");
                    TcpStream::connect_timeout(&at, PATIENCE)
                };
                std::thread::spawn(there).join().unwrap()
            };
            let (mut theirs, mut ours) = (connect().unwrap(), listener.accept().unwrap().0);
            fence.quiet(&[vip]).unwrap();
            assert!(connect().is_err(), "{vip}");
            let mut said = [0; 2];
            theirs.write_all(b"go").unwrap();
            ours.read_exact(&mut said).unwrap();
            ours.write_all(b"on").unwrap();
            theirs.read_exact(&mut said).unwrap();
            assert_eq!(said, *b"on", "{vip}");
            fence.forget(&[vip]).unwrap();
            connect().unwrap();
        }
    });
}

#[test]
fn a_time_that_is_over_guards_and_does_not_open() {
    wired("a_time_that_is_over_guards_and_does_not_open", || async {
        let v0 = host();
        let mut fence = Fence::start(&gates(v0, Instant::from_micros(0))).unwrap();
        none_answered();
        for until in [clock::now(), clock::now() + Duration::from_millis(9)] {
            let opened = fence.open(&gates(v0, until)).unwrap();
            assert_eq!(opened.closed, vips());
            none_answered();
        }
    });
}

#[test]
fn another_start_goes_on_with_what_it_keeps() {
    wired("another_start_goes_on_with_what_it_keeps", || async {
        let v0 = host();
        let until = clock::now() + LONG;
        assert_eq!(Fence::left_open().unwrap(), []);
        let mut fence = Fence::start(&[]).unwrap();
        assert_eq!(Fence::left_open().unwrap(), []);
        let _ = fence.open(&gates(v0, until)).unwrap();
        let clients = clients(FLOOD);
        for _ in 0..10 {
            drop(fence);
            let mut left = Fence::left_open().unwrap();
            left.sort();
            assert_eq!(left.iter().map(|(addr, _)| *addr).collect::<Vec<_>>(), vips());
            for (_, left) in &left {
                assert!(*left <= until && *left + 2 * EARLY > until, "{:.1} ms", after(*left, until));
            }
            let keep = left.iter().map(|&(addr, _)| Gate { ifindex: v0, addr, until });
            fence = Fence::start(&keep.collect::<Vec<_>>()).unwrap();
            sleep(Duration::from_millis(20));
        }
        all_answered(clients);
        assert!(!fence.open(&gates(v0, until)).unwrap().repaired);
        fence.close(&vips()).unwrap();
        assert_eq!(Fence::left_open().unwrap(), []);
    });
}

fn neighbor(interface: u32) -> (Neighbor, Seen<(IpAddr, ClaimKind)>) {
    let (tell, seen) = unbounded_channel();
    let heard = Arc::new(move |claim: Claim| {
        tell.send((claim.addr, claim.kind)).unwrap_or(());
    });
    (Neighbor::open(interface, OURS, vips().into(), heard).unwrap(), Seen(seen))
}

#[test]
fn rivals_are_heard_behind_a_closed_gate() {
    wired("rivals_are_heard_behind_a_closed_gate", || async {
        let v0 = host();
        let _fence = Fence::start(&gates(v0, Instant::from_micros(0))).unwrap();
        let (ours, mut claims) = neighbor(v0);
        for vip in vips() {
            client::announce(vip);
            claims.soon((vip, ClaimKind::Announcement)).await;
        }
        run("ip -n peer addr add 10.9.0.100/24 dev v1");
        run("ip -n peer addr add fd00::100/64 dev v1 nodad");
        usable();
        ours.probe(ip(V4)).unwrap();
        claims.soon((ip(V4), ClaimKind::Answer)).await;
        ours.probe(ip(V6)).unwrap();
        claims.soon((ip(V6), ClaimKind::Announcement)).await;
    });
}

/// Our own announcements, and an advertisement of the VIP that comes from another address, as proxies send it.
#[test]
fn a_closed_gate_lets_nobody_announce_the_vip() {
    wired("a_closed_gate_lets_nobody_announce_the_vip", || async {
        let v0 = host();
        run("ip addr add fd00::1/64 dev v0 nodad");
        let by_proxy = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).unwrap();
        by_proxy.bind(&SocketAddr::from((ip("fd00::1"), 0)).into()).unwrap();
        by_proxy.set_multicast_hops_v6(255).unwrap();
        by_proxy.set_multicast_if_v6(v0).unwrap();
        let advertisement = ndp::Repr::unsolicited(OURS, V6.parse().unwrap()).emit()[54..].to_vec();
        let everybody = SocketAddr::from((ip("ff02::1"), 0)).into();

        let (ours, _) = neighbor(v0);
        let announce = || {
            ours.announce(ip(V4)).unwrap_or(());
            ours.announce(ip(V6)).unwrap_or(());
            // Where the fence drops it, the kernel may say so.
            let _ = by_proxy.send_to(&advertisement, &everybody);
        };
        let mut fence = Fence::start(&[]).unwrap();
        let _ = fence.open(&gates(v0, clock::now() + LONG)).unwrap();
        assert_eq!(client::heard(announce), [V4, V4, V6, V6].map(ip));
        fence.close(&vips()).unwrap();
        assert_eq!(client::heard(announce), [] as [IpAddr; 0]);
    });
}

#[test]
fn an_interface_that_is_gone_closes_its_own_gates_only() {
    wired("an_interface_that_is_gone_closes_its_own_gates_only", || async {
        let v0 = host();
        let there = |ifindex| Gate { ifindex, addr: ip("10.8.0.100"), until: clock::now() + LONG };
        let other = || {
            run("ip link add w0 type veth peer name w1 netns peer");
            index("w0")
        };
        let mut fence = Fence::start(&[]).unwrap();
        let mut open = |w0: u32| {
            let here = gates(v0, clock::now() + LONG);
            fence.open(&[here[0], here[1], there(w0)]).unwrap()
        };
        let old = other();
        assert!(open(old).closed.is_empty());
        let clients = clients(FLOOD);
        run("ip link del w0");
        for _ in 0..2 {
            let opened = open(old);
            assert_eq!((opened.repaired, opened.closed), (false, vec![ip("10.8.0.100")]));
        }
        let new = other();
        let opened = open(new);
        assert_eq!((opened.repaired, opened.closed), (false, vec![]));
        run("ip link set w0 name x0");
        let opened = open(new);
        assert_eq!((opened.repaired, opened.closed), (false, vec![]));
        sleep(LEASE / 3);
        all_answered(clients);
        let table = run("nft list table netdev haclusterd");
        assert!(table.contains(&format!("egress-{new}")) && table.contains("device \"x0\""), "{table}");
        assert!(!table.contains(&format!("egress-{old} ")) && !table.contains("\"w0\""), "{table}");
    });
}

#[test]
fn a_missing_capability_is_named() {
    let without = ["setpriv", "--bounding-set=-net_admin", "--"];
    isolated("a_missing_capability_is_named", &without, || {
        for error in [Fence::start(&[]).unwrap_err(), Fence::left_open().unwrap_err()] {
            assert!(matches!(error, FenceError::Capability), "{error}");
            assert!(error.to_string().contains("needs CAP_NET_ADMIN: run haclusterd as root"), "{error}");
        }
    });
}
