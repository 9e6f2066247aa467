//! Verify pings among real kernels: who is asked in the VIP's name has the asker in its cache, and its answer says so.

use super::netns::{OURS, PEERS, SOON, isolated, run, wired};
use super::{STRANGER, index, ip, kernel, learns};
use haclusterd::engine::acks::{Acks, Peer, Question};
use haclusterd::engine::time::Instant as Moment;
use haclusterd::engine::vip::{Act, Goal, Verify, Vip};
use haclusterd::io::neighbor::{Claim, Ears, Neighbor};
use haclusterd_proto::{MacAddr, VipId};
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

const VIP: VipId = VipId(1);
const VIPS: [&str; 2] = ["10.9.0.100", "fd00::100"];
const END: Moment = Moment::from_micros(u64::MAX);

/// What is heard beside claims.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Said>>);

#[derive(Debug, Default)]
struct Said {
    /// By which address of the VIP it was asked, and who answers.
    answers: Vec<(IpAddr, IpAddr)>,
    questions: Vec<(IpAddr, IpAddr, MacAddr)>,
}

impl Ears for Ear {
    fn claim(&self, _: Claim) {}

    fn answer(&self, asker: IpAddr, peer: IpAddr) {
        self.0.lock().unwrap().answers.push((asker, peer));
    }

    fn question(&self, wanted: IpAddr, peer: IpAddr, mac: MacAddr) {
        self.0.lock().unwrap().questions.push((wanted, peer, mac));
    }
}

fn listen() -> (Neighbor, Ear) {
    let ear = Ear::default();
    let watch = VIPS.map(ip).into();
    (Neighbor::open(index("v0"), OURS, watch, Arc::new(ear.clone())).unwrap(), ear)
}

#[test]
fn who_is_asked_learns_the_asker_and_says_so() {
    wired("announce::who_is_asked_learns_the_asker_and_says_so", || async {
        run("ip -n peer addr add 10.9.0.2/24 dev v1");
        run("ip -n peer addr add fd00::2/64 dev v1 nodad");
        let (neighbor, ear) = listen();
        for (from, to) in [("10.9.0.100", "10.9.0.2"), ("fd00::100", "fd00::2")] {
            for mac in [Some(PEERS), None] {
                let question = Question { ifindex: index("v0"), from: ip(from), to: ip(to), mac };
                let asked = || assert_eq!(neighbor.ask(&[question]), 1);
                learns(from, asked).await;
                run(&format!("ip -n peer neigh del {from} dev v1"));
                asked();
                tokio::time::sleep(SOON / 10).await;
                let made = run(&format!("ip -n peer neigh show {from} dev v1"));
                assert!(made.contains(&OURS.to_string()), "an entry that was not there is made: {made:?}");
                let answers = std::mem::take(&mut ear.0.lock().unwrap().answers);
                assert_eq!(answers, [(ip(from), ip(to)); 2]);
            }
        }
        assert_eq!(neighbor.malformed(), 0);
    });
}

#[test]
fn who_asks_for_a_vip_is_heard_also_where_it_is_not() {
    wired("announce::who_asks_for_a_vip_is_heard_also_where_it_is_not", || async {
        run("ip -n peer addr add 10.9.0.2/24 dev v1");
        run("ip -n peer addr add fd00::2/64 dev v1 nodad");
        // Otherwise an interface does not hear the group of an address that it does not have.
        run("ip link set v0 allmulticast on");
        let (_neighbor, ear) = listen();
        for (vip, ping) in [("10.9.0.100", "-4"), ("fd00::100", "-6")] {
            let words = format!("netns exec peer ping {ping} -c1 -w1 {vip}");
            Command::new("ip").args(words.split(' ')).output().unwrap();
        }
        let heard = std::mem::take(&mut ear.0.lock().unwrap().questions);
        for (vip, peer) in VIPS.into_iter().zip(["10.9.0.2", "fd00::2"]) {
            assert!(heard.contains(&(ip(vip), ip(peer), PEERS)), "{heard:?}");
        }
    });
}

#[test]
fn the_kernel_tells_whom_it_knows() {
    wired("announce::the_kernel_tells_whom_it_knows", || async {
        run("ip addr add 10.9.0.1/24 dev v0");
        run("ip addr add fd00::1/64 dev v0 nodad");
        let (kernel, _events) = kernel().await;
        assert_eq!(kernel.neighbors(index("v0")).await.unwrap(), []);
        run("ip route add default via 10.9.0.254");
        run("ip -6 route add default via fe80::1 dev v0");
        let known = |addr, mac, gateway| Peer { addr: ip(addr), mac, gateway };
        let unseen = [known("10.9.0.254", None, true), known("fe80::1", None, true)];
        assert_eq!(kernel.neighbors(index("v0")).await.unwrap(), unseen);

        run(&format!("ip neigh add 10.9.0.254 lladdr {STRANGER} dev v0 nud stale"));
        run(&format!("ip neigh add 10.9.0.2 lladdr {PEERS} dev v0 nud reachable"));
        run(&format!("ip neigh add fd00::2 lladdr {PEERS} dev v0 nud permanent"));
        run("ip neigh add 10.9.0.3 dev v0 nud failed");
        run(&format!("ip neigh add 10.9.0.4 lladdr {PEERS} dev lo nud permanent"));
        let mut all = kernel.neighbors(index("v0")).await.unwrap();
        let stranger = Some(MacAddr([2, 0, 0, 0, 0, 0x99]));
        let gateways = [known("fe80::1", None, true), known("10.9.0.254", stranger, true)];
        assert_eq!(all.drain(..2).collect::<Vec<_>>(), gateways);
        all.sort_by_key(|peer| peer.addr);
        assert_eq!(all, ["10.9.0.2", "fd00::2"].map(|addr| known(addr, Some(PEERS), false)));

        run("ip link add v8 type veth peer name v9");
        run("ip link set v8 up");
        assert_eq!(kernel.neighbors(index("v8")).await.unwrap(), [], "the way out is another interface");
    });
}

/// Its time is not the clock's: hours pass in a moment.
#[test]
fn who_never_answers_is_asked_no_more() {
    wired("announce::who_never_answers_is_asked_no_more", || async {
        run("ip -n peer addr add 10.9.0.2/24 dev v1");
        let (neighbor, ear) = listen();
        let counter = Ear::default();
        let inside = counter.clone();
        let watch = [ip("10.9.0.2"), ip("10.9.0.77")].into();
        let peers = within("peer", move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime = runtime.unwrap();
            let _entered = runtime.enter();
            let v1 = index("v1");
            let heard = Neighbor::open(v1, PEERS, watch, Arc::new(inside)).unwrap();
            (runtime, heard)
        });
        let peers = peers.join().unwrap();
        let mut owner = Owner::new(neighbor, ear, true);
        owner.peers =
            ["10.9.0.2", "10.9.0.77"].map(|a| Peer { addr: ip(a), mac: None, gateway: false }).to_vec();
        owner.take(Moment::default());
        for ms in 0..60_000 {
            owner.step(Moment::from_micros(ms * 1000));
            if ms < 10 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        tokio::time::sleep(SOON).await;
        let heard = std::mem::take(&mut counter.0.lock().unwrap().questions);
        let times = |addr: &str| heard.iter().filter(|(wanted, ..)| *wanted == ip(addr)).count();
        assert_eq!((times("10.9.0.2"), times("10.9.0.77")), (1, 11), "{heard:?}");
        assert_eq!(
            owner.said,
            ["1 of 2 neighbours acknowledged that it is here; no answer from 10.0.0.77"
                .replace("10.0", "10.9")]
        );
        tokio::task::spawn_blocking(move || drop(peers)).await.unwrap();
    });
}

/// A thread of its own in that namespace.
fn within<T: Send + 'static>(
    name: &'static str,
    body: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::spawn(move || {
        let namespace = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
        let kind = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(kind)).unwrap();
        body()
    })
}

/// The new owner: the engine's times and choices, and the daemon's frames.
struct Owner {
    neighbor: Neighbor,
    ear: Ear,
    vip: Vip,
    acks: Acks,
    peers: Vec<Peer>,
    verifies: bool,
    said: Vec<String>,
}

impl Owner {
    fn new(neighbor: Neighbor, ear: Ear, verifies: bool) -> Owner {
        let (vip, acks) = (Vip::new(Duration::ZERO), Acks::default());
        Owner { neighbor, ear, vip, acks, peers: Vec::new(), verifies, said: Vec::new() }
    }

    fn take(&mut self, now: Moment) {
        self.vip = Vip::new(Duration::ZERO);
        self.vip.follow(Goal::Held(END), Duration::from_secs(3600), now);
        assert!(self.vip.installed(true, Duration::from_secs(3600), now));
        self.ear.0.lock().unwrap().answers.clear();
    }

    fn step(&mut self, now: Moment) {
        for act in self.vip.follow(Goal::Held(END), Duration::from_secs(3600), now) {
            match act {
                Act::Announce => VIPS.iter().for_each(|vip| self.neighbor.announce(ip(vip)).unwrap()),
                Act::Verify(what) if self.verifies => self.verify(what),
                _ => {}
            }
        }
    }

    fn verify(&mut self, what: Verify) {
        for (asker, peer) in std::mem::take(&mut self.ear.0.lock().unwrap().answers) {
            self.acks.answered(VIP, asker, peer);
        }
        if what == Verify::Begin {
            self.acks.begin(VIP);
            let fits = |vip: &IpAddr, peer: &Peer| vip.is_ipv4() == peer.addr.is_ipv4();
            let each = self.peers.iter().flat_map(|peer| VIPS.map(|vip| (VIP, index("v0"), ip(vip), *peer)));
            let each: Vec<_> = each.filter(|(_, _, vip, peer)| fits(vip, peer)).collect();
            self.acks.meet(each);
        }
        if what != Verify::End {
            let questions = self.acks.ask(&[VIP]);
            assert_eq!(self.neighbor.ask(&questions), questions.len());
        }
        self.said.extend(self.acks.news(VIP, what == Verify::End).map(|news| news.to_string()));
    }
}

const CLIENTS: usize = 4;
const MOVES: usize = 30;
/// When it is looked who knows.
const LOOKS: [u64; 4] = [2, 5, 20, 100];

/// A client's cache: `ip monitor` tells each change of it.
struct Cache {
    monitor: Child,
    news: mpsc::Receiver<(Instant, String)>,
}

impl Cache {
    fn watch(client: usize) -> Cache {
        let mut monitor = Command::new("ip");
        monitor.args(["-n", &format!("c{client}"), "monitor", "neigh"]).stdout(Stdio::piped());
        let mut monitor = monitor.spawn().unwrap();
        let lines = BufReader::new(monitor.stdout.take().unwrap()).lines();
        let (tell, news) = mpsc::channel();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).try_for_each(|l| tell.send((Instant::now(), l)))
        });
        Cache { monitor, news }
    }

    /// How long after `start` each of the addresses was known to be here.
    fn followed(&self, start: Instant) -> [Option<Duration>; 2] {
        let all: Vec<_> = self.news.try_iter().filter(|(at, _)| *at >= start).collect();
        VIPS.map(|vip| {
            let says = |line: &str| line.starts_with(&format!("{vip} ")) && line.contains(&OURS.to_string());
            all.iter().find(|(_, line)| says(line)).map(|(at, _)| *at - start)
        })
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
    }
}

/// A switch, clients on it that the owner knows, and this namespace as the owner.
fn town() -> Vec<Cache> {
    run("mount -t tmpfs tmpfs /run");
    run("ip link set lo up");
    run("ip netns add switch");
    run("ip -n switch link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0");
    run("ip -n switch link set br0 up");
    run(&format!("ip link add v0 address {OURS} type veth peer name p0 netns switch"));
    run("ip -n switch link set p0 master br0 up");
    run("ip link set v0 up");
    run("ip addr add 10.9.0.1/24 dev v0");
    run("ip addr add fd00::1/64 dev v0 nodad");
    for client in 1..=CLIENTS {
        run(&format!("ip netns add c{client}"));
        run(&format!("ip -n switch link add p{client} type veth peer name v1 netns c{client}"));
        run(&format!("ip -n switch link set p{client} master br0 up"));
        run(&format!("ip -n c{client} addr add 10.9.0.1{client}/24 dev v1"));
        run(&format!("ip -n c{client} addr add fd00::1{client}/64 dev v1 nodad"));
        run(&format!("ip -n c{client} link set v1 up"));
        run(&format!("ping -c1 -w5 10.9.0.1{client}"));
        run(&format!("ping -c1 -w5 fd00::1{client}"));
    }
    (1..=CLIENTS).map(Cache::watch).collect()
}

/// Every client thinks, since just now, that the VIP is elsewhere.
fn mislead() {
    for client in 1..=CLIENTS {
        let line = |vip| format!("neigh replace {vip} lladdr {STRANGER} dev v1 nud reachable\n");
        std::fs::write("/run/lines", VIPS.map(line).concat()).unwrap();
        run(&format!("ip -n c{client} -batch /run/lines"));
    }
}

async fn measure(loss: &str, rule: Option<&str>, verifies: bool, caches: &[Cache]) {
    if let Some(rule) = rule {
        let chain = format!("chain f {{ type filter hook forward priority 0; {rule}; }}");
        let nft = ["netns", "exec", "switch", "nft", &format!("table bridge loss {{ {chain}; }}")];
        assert!(Command::new("ip").args(nft).status().unwrap().success());
    }
    let (neighbor, ear) = listen();
    let mut owner = Owner::new(neighbor, ear, verifies);
    owner.peers = kernel().await.0.neighbors(index("v0")).await.unwrap();
    let mut times: [Vec<Option<Duration>>; 2] = Default::default();
    for _ in 0..MOVES {
        mislead();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let start = Instant::now();
        let now = || Moment::from_micros(u64::try_from(start.elapsed().as_micros()).unwrap());
        owner.take(now());
        while start.elapsed() < Duration::from_millis(LOOKS[3] + 20) {
            owner.step(now());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for cache in caches {
            cache.followed(start).into_iter().zip(&mut times).for_each(|(time, all)| all.push(time));
        }
    }
    for (family, times) in ["IPv4", "IPv6"].into_iter().zip(&times) {
        let right = LOOKS.map(|ms| {
            let limit = Duration::from_millis(ms);
            times.iter().filter(|time| time.is_some_and(|time| time <= limit)).count()
        });
        let with = if verifies { "with" } else { "without" };
        println!("| {loss} | {family} | {with} | {right:?} of {} |", times.len());
    }
    println!("  {:?}", owner.acks.counts);
    if rule.is_some() {
        run("ip netns exec switch nft delete table bridge loss");
    }
}

/// How many of the clients' caches are right after so many milliseconds; see docs/measurements.md.
#[test]
#[ignore = "it measures"]
fn how_soon_caches_follow() {
    let text = isolated("announce::how_soon_caches_follow", &[], || {
        let caches = town();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(async {
            let lost = |percent| format!("numgen random mod 100 < {percent} drop");
            let groups = "ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00";
            for (loss, rule) in [
                ("none", None),
                ("20 %", Some(lost(20))),
                ("50 %", Some(lost(50))),
                ("all broadcasts", Some(format!("{groups} drop"))),
            ] {
                for verifies in [false, true] {
                    measure(loss, rule.as_deref(), verifies, &caches).await;
                }
            }
        });
    });
    text.lines().filter(|line| line.starts_with(['|', ' '])).for_each(|line| println!("{line}"));
}
