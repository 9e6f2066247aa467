//! Who answers for the VIP, at each host's port of the switch.
//!
//! The switch itself asks all hosts every few milliseconds, and carries the answers no further. What it sends by itself
//! passes neither its cuts nor its losses: they hide no host that still answers.

use super::packet::{self, Tap};
use super::question::{self, ASKER, ECHOER};
use crate::net::Net;
use haclusterd::io::realtime;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub const PACE: Duration = Duration::from_millis(5);

/// A host showed that it has the VIP.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    pub at: Instant,
    pub host: usize,
    /// The question that it answered; otherwise it announced.
    pub question: Option<usize>,
}

pub struct Wire {
    stop: Arc<AtomicBool>,
    last: Arc<Mutex<Vec<Option<Instant>>>>,
    asker: JoinHandle<Vec<Instant>>,
    listener: JoinHandle<(Vec<Sight>, u32)>,
}

impl Wire {
    pub fn new(net: Net, hosts: usize, vip: Ipv4Addr) -> Wire {
        let [a, b] = ASKER;
        let answers = format!("ether daddr & ff:ff:00:00:00:00 == {a:02x}:{b:02x}:00:00:00:00 drop");
        net.obstruct("questions", "prerouting", &answers);
        let (asker, place) = ECHOER;
        for host in 1..=hosts {
            net.ip(host, &format!("neighbour add {asker} lladdr {place} dev eth0 nud permanent"));
        }
        let stop: Arc<AtomicBool> = Arc::default();
        let last = Arc::new(Mutex::new(vec![None; hosts]));
        let ports: Vec<u32> = (1..=hosts).map(|host| net.port(Some(host))).collect();
        let (end, news) = (stop.clone(), last.clone());
        let listener = net.inside_switch(move || listen(&end, &ports, vip, &news));
        let (end, bridge) = (stop.clone(), net.port(None));
        let asker = net.inside_switch(move || ask(&end, bridge, vip));
        Wire { stop, last, asker, listener }
    }

    /// Who answered last; 0: nobody ever.
    pub fn owner(&self) -> usize {
        let last = self.last.lock().unwrap();
        (1..=last.len())
            .filter(|host| last[host - 1].is_some())
            .max_by_key(|host| last[host - 1])
            .unwrap_or(0)
    }

    /// Who has answered since then.
    pub fn owners_since(&self, then: Instant) -> Vec<usize> {
        let last = self.last.lock().unwrap();
        (1..=last.len()).filter(|host| last[host - 1] > Some(then)).collect()
    }

    /// When each question was asked, and what was heard, in order; and how many frames were not.
    pub fn end(self) -> (Vec<Instant>, Vec<Sight>, u32) {
        self.stop.store(true, Ordering::Relaxed);
        let (sights, lost) = self.listener.join().unwrap();
        (self.asker.join().unwrap(), sights, lost)
    }
}

fn ask(stop: &AtomicBool, bridge: u32, vip: Ipv4Addr) -> Vec<Instant> {
    // As the daemons' cores are: when it is late, they were.
    realtime::raise();
    let socket = packet::sender(bridge);
    let mut asked = Vec::new();
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let number = u32::try_from(asked.len()).unwrap();
        asked.push(Instant::now());
        socket.send(&question::by_arp(number, vip)).unwrap();
        socket.send(&question::by_echo(number, vip)).unwrap();
        // What a busy machine made late is not made up for.
        next = (next + PACE).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    asked
}

fn listen(
    stop: &AtomicBool,
    ports: &[u32],
    vip: Ipv4Addr,
    last: &Mutex<Vec<Option<Instant>>>,
) -> (Vec<Sight>, u32) {
    realtime::raise();
    let mut tap = Tap::open(&question::claims(vip));
    let mut sights = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let Some(frame) = tap.read() else { continue };
        let Some(port) = ports.iter().position(|port| *port == frame.ifindex) else { continue };
        let question = question::answered(&frame.bytes).map(|number| number as usize);
        last.lock().unwrap()[port] = Some(frame.at);
        sights.push(Sight { at: frame.at, host: port + 1, question });
    }
    sights.sort_by_key(|sight: &Sight| sight.at);
    (sights, tap.lost())
}
