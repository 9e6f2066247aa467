//! What grows with the number of nodes and of VIPs, and what does not: `make bench-scale` writes docs/benchmarks/growth.

use super::growth;
use super::system::System;
use crate::lab::Lab;
use crate::nemesis::packet::{Frame, Tap};
use crate::nemesis::question::Condition;
use crate::net::{CLIENT, Net};
use crate::{PROCESSES, netns};
use haclusterd_proto::arp;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

const NAME: &str = "bench::scale::growth";
const PART: &str = "SCALE_PART";
const MARK: &str = "SCALE ";
/// Nodes and VIPs.
const SIZES: [(usize, usize); 7] = [(3, 1), (3, 10), (3, 100), (3, 1000), (5, 1), (10, 1), (30, 1)];
/// What is measured at rest.
const REST: Duration = Duration::from_secs(20);
/// What came to rest before.
const SETTLE: Duration = Duration::from_secs(12);
const LIMIT: Duration = Duration::from_secs(60);
/// The VIPs, of one net.
const FIRST: u32 = u32::from_be_bytes([10, 2, 0, 0]);

/// A node at rest, a second.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Cost {
    pub cpu_percent: f64,
    pub resident_mb: f64,
    pub packets_out: f64,
    pub packets_in: f64,
    pub kbit_out: f64,
    pub wakeups: f64,
}

/// Milliseconds until the first and the last VIP was announced.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Takeover {
    pub first: f64,
    pub last: f64,
    pub announced: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Figures {
    pub nodes: usize,
    pub vips: usize,
    pub owner: Cost,
    pub another: Cost,
    /// Of the last to join, which does not vote among many.
    pub last: Option<Cost>,
    pub stopped: Takeover,
    pub cut_off: Takeover,
}

#[test]
#[ignore = "it measures: make bench-scale"]
fn growth() {
    if netns::is_inside() {
        let part: Vec<usize> =
            std::env::var(PART).unwrap().split(' ').map(|number| number.parse().unwrap()).collect();
        return measure(part[0], part[1]);
    }
    let wanted = std::env::var("SCALE").unwrap_or_default();
    let mut all: Vec<Figures> = Vec::new();
    for (nodes, vips) in SIZES {
        let part = format!("{nodes} {vips}");
        if !wanted.is_empty() && wanted != part {
            continue;
        }
        let mut command = netns::again(NAME, &PROCESSES);
        let output = command.env(PART, part).stderr(Stdio::inherit()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        let line = text.lines().find_map(|line| line.strip_prefix(MARK)).unwrap();
        let figures: Figures = serde_json::from_str(line).unwrap();
        show(&figures);
        all.push(figures);
    }
    growth::write(&all, all.len() == SIZES.len());
}

fn show(of: &Figures) {
    let Figures { nodes, vips, stopped, cut_off, .. } = of;
    println!("\n{nodes} nodes, {vips} VIPs");
    println!(
        "| | CPU % | MB | packets/s out | in | kbit/s out | wake-ups/s |\n|---|---|---|---|---|---|---|"
    );
    for (name, cost) in [("owner", Some(of.owner)), ("another", Some(of.another)), ("the last", of.last)] {
        let Some(Cost { cpu_percent, resident_mb, packets_out, packets_in, kbit_out, wakeups }) = cost else {
            continue;
        };
        println!(
            "| {name} | {cpu_percent:.2} | {resident_mb:.1} | {packets_out:.0} | {packets_in:.0} | {kbit_out:.0} | {wakeups:.0} |"
        );
    }
    for (name, seen) in [("stop", stopped), ("cut", cut_off)] {
        println!(
            "{name}: first announced after {:.1} ms, last {:.1} ms later ({} of {vips})",
            seen.first,
            seen.last - seen.first,
            seen.announced
        );
    }
}

fn measure(nodes: usize, vips: usize) {
    println!();
    let mut lab = Lab::form(&vec!["member"; nodes], "10.2.0.0/32");
    lab.net.ip(CLIENT, "route add 10.2.0.0/16 dev eth0");
    grow(&lab, vips);
    settle(&lab, vips);
    sleep(SETTLE);
    let first = settle(&lab, vips);
    let another = if first == 1 { 2 } else { 1 };
    let [owner, another, last] = [first, another, nodes].map(|host| Meter::start(&lab, host));
    sleep(REST);
    let (owner, another, last) = (owner.read(&lab), another.read(&lab), last.read(&lab));
    let stopped = takeover(&mut lab, vips, |lab| lab.stop(first));
    lab.start(first);
    settle(&lab, vips);
    sleep(SETTLE);
    let second = settle(&lab, vips);
    let cut_off = takeover(&mut lab, vips, |lab| lab.net.cut(second));
    let last = (nodes > 3).then_some(last);
    let figures = Figures { nodes, vips, owner, another, last, stopped, cut_off };
    println!("{MARK}{}", serde_json::to_string(&figures).unwrap());
}

/// More VIPs, on all nodes.
fn grow(lab: &Lab, vips: usize) {
    let one =
        |number: u32| format!("\n[[vip]]\naddresses = [\"{}/32\"]\n", Ipv4Addr::from_bits(FIRST + number));
    let more: String = (1..u32::try_from(vips).unwrap()).map(one).collect();
    for node in &lab.nodes {
        node.set_config(&(node.config() + &more));
        node.signal(Signal::HUP);
    }
}

/// All are held by one node, and all nodes know it; which one.
fn settle(lab: &Lab, vips: usize) -> usize {
    let limit = Instant::now() + LIMIT;
    loop {
        sleep(Duration::from_millis(500));
        let owners = |host: usize| -> Vec<String> {
            let status = lab.nodes[host - 1].ask("status").unwrap_or_default();
            if status["cluster"]["members_alive"] != lab.nodes.len() {
                return Vec::new();
            }
            let all = status["vips"].as_array().cloned().unwrap_or_default();
            all.iter().filter_map(|vip| Some(vip["owner"].as_str()?.to_owned())).collect()
        };
        let (one, last) = (owners(1), owners(lab.nodes.len()));
        if one.len() == vips && one == last && one.iter().all(|owner| *owner == one[0]) {
            return one[0].trim_start_matches("lb").parse().unwrap();
        }
        assert!(Instant::now() < limit, "not all VIPs are held by one node");
    }
}

/// What each VIP's first announcement by another host was, and when.
fn takeover(lab: &mut Lab, vips: usize, strike: impl FnOnce(&mut Lab)) -> Takeover {
    let stop: Arc<AtomicBool> = Arc::default();
    let end = stop.clone();
    let listener: JoinHandle<Vec<Frame>> = lab.net.inside_switch(move || listen(&end));
    sleep(Duration::from_millis(100));
    let struck = Instant::now();
    strike(lab);
    sleep(Duration::from_secs(2));
    stop.store(true, Ordering::Relaxed);
    let mut since: BTreeMap<u32, Instant> = BTreeMap::new();
    for frame in listener.join().unwrap() {
        let vip = u32::from_be_bytes(frame.bytes[28..32].try_into().unwrap());
        if vip.wrapping_sub(FIRST) < u32::try_from(vips).unwrap() && frame.at > struck {
            since.entry(vip).or_insert(frame.at);
        }
    }
    let mut times: Vec<f64> = since.values().map(|at| (*at - struck).as_secs_f64() * 1000.0).collect();
    times.sort_by(f64::total_cmp);
    assert!(!times.is_empty(), "nothing was announced");
    Takeover { first: times[0], last: times[times.len() - 1], announced: times.len() }
}

/// Gratuitous ARP: sender and target are the same.
fn listen(stop: &AtomicBool) -> Vec<Frame> {
    let announced: Vec<Condition> = vec![(2, 12, arp::ETHERTYPE.into())];
    let mut tap = Tap::open(&[announced]);
    let mut frames = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        frames.extend(
            tap.read().filter(|frame| frame.bytes.len() >= 42 && frame.bytes[28..32] == frame.bytes[38..42]),
        );
    }
    assert_eq!(tap.lost(), 0, "frames were not seen");
    frames
}

/// What a node has used up to now.
struct Meter {
    host: usize,
    at: Instant,
    used: Used,
}

#[derive(Clone, Copy)]
struct Used {
    cpu: f64,
    packets: [f64; 2],
    bytes: f64,
    wakeups: f64,
}

impl Meter {
    fn start(lab: &Lab, host: usize) -> Meter {
        Meter { host, at: Instant::now(), used: used(lab, host) }
    }

    fn read(&self, lab: &Lab) -> Cost {
        let (now, before, seconds) = (used(lab, self.host), self.used, self.at.elapsed().as_secs_f64());
        Cost {
            cpu_percent: (now.cpu - before.cpu) / seconds * 100.0,
            resident_mb: resident_mb(lab.nodes[self.host - 1].pid()),
            packets_out: (now.packets[0] - before.packets[0]) / seconds,
            packets_in: (now.packets[1] - before.packets[1]) / seconds,
            kbit_out: (now.bytes - before.bytes) * 8.0 / 1000.0 / seconds,
            wakeups: (now.wakeups - before.wakeups) / seconds,
        }
    }
}

fn used(lab: &Lab, host: usize) -> Used {
    let pid = lab.nodes[host - 1].pid().as_raw_nonzero();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let words: Vec<f64> =
        stat.rsplit(')').next().unwrap().split_whitespace().map(|w| w.parse().unwrap_or(0.0)).collect();
    let [packets_in, bytes, packets_out] = counters(lab.net, host);
    Used {
        // In hundredths of a second, of this process.
        cpu: (words[11] + words[12]) / 100.0,
        packets: [packets_out, packets_in],
        bytes,
        wakeups: wakeups(pid.get()),
    }
}

/// Packets in, bytes out and packets out of the host's eth0.
fn counters(net: Net, host: usize) -> [f64; 3] {
    let text = net.inside(host, || fs::read_to_string("/proc/thread-self/net/dev")).join().unwrap().unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).unwrap();
    let numbers: Vec<f64> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
    [numbers[1], numbers[8], numbers[9]]
}

/// How often its threads gave up the processor by themselves, to be woken later.
fn wakeups(pid: i32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let status = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    status.map(|text| field(&text, "voluntary_ctxt_switches:")).sum()
}

fn resident_mb(pid: Pid) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    field(&status, "VmRSS:") / 1024.0
}

fn field(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
