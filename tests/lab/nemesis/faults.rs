//! Does the faults to the lab and undoes them.

use super::clocks;
use super::plan::{Kind, Target};
use crate::lab::Lab;
use crate::net::{Net, from, to};
use rustix::process::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

const LOST: &str = "numgen random mod 100 < 20 drop";
/// A clock that is off by less than a day may not harm: so much the certificates tolerate.
const STEP: i64 = 20 * 3600;

struct Active {
    id: usize,
    kind: Kind,
    host: usize,
    /// Busy threads end with it.
    over: Arc<AtomicBool>,
}

pub struct Faults<'a> {
    pub lab: &'a mut Lab,
    voters: Vec<usize>,
    active: Vec<Active>,
    /// Since when a majority was in touch with a host that could serve, or was not.
    pub could: Vec<(Instant, bool)>,
    /// When daemons ended, and with them a voter's memory.
    pub ended: Vec<Instant>,
}

impl Faults<'_> {
    pub fn new(lab: &mut Lab) -> Faults<'_> {
        let status = lab.nodes[0].ask("status").unwrap();
        let votes = |host: &usize| {
            let voters = status["cluster"]["voters"].as_array().unwrap();
            voters.iter().any(|name| name == &format!("lb{host}"))
        };
        let voters = (1..=lab.nodes.len()).filter(votes).collect();
        Faults { lab, voters, active: Vec::new(), could: vec![(Instant::now(), true)], ended: Vec::new() }
    }

    /// The host whom it met; `id` is known to `heal`.
    pub fn inject(&mut self, id: usize, kind: Kind, target: Target, owner: usize) -> usize {
        let mut host = match target {
            Target::Owner => owner,
            Target::Host(host) => host,
        };
        while self.active.iter().any(|other| other.host == host && other.kind.excludes(kind)) {
            host = host % self.lab.nodes.len() + 1;
        }
        let over: Arc<AtomicBool> = Arc::default();
        self.active.push(Active { id, kind, host, over: over.clone() });
        let (net, table) = (self.lab.net, format!("fault{id}"));
        let both = |verdict: &str| format!("{}; {}", from(host, verdict), to(host, verdict));
        match kind {
            Kind::Killed => self.lab.node(host).kill(),
            Kind::Frozen => self.lab.node(host).signal(Signal::STOP),
            Kind::Restarted => {
                self.lab.node(host).signal(Signal::TERM);
                self.lab.node(host).reap();
            }
            Kind::CutOff => net.obstruct(&table, "forward", &both("drop")),
            Kind::Deaf => net.obstruct(&table, "forward", &to(host, "drop")),
            Kind::Mute => net.obstruct(&table, "forward", &from(host, "drop")),
            Kind::Lossy => net.obstruct(&table, "forward", &both(LOST)),
            Kind::LossyEverywhere => net.obstruct(&table, "forward", LOST),
            Kind::LinkDown => net.set_carrier(host, false),
            Kind::AddressDeleted => delete(net, host, &format!("{}/24", self.lab.vip[0])),
            Kind::RulesFlushed => drop(net.nft(host, "flush ruleset")),
            Kind::NginxKilled => self.lab.node(host).kill_nginx(),
            Kind::NginxHung => self.lab.node(host).signal_nginx(Signal::STOP),
            Kind::ClockForward => clocks::step(self.lab.node(host), STEP),
            Kind::ClockBack => clocks::step(self.lab.node(host), -STEP),
            Kind::Busy => keep_busy(&over),
        }
        if matches!(kind, Kind::Killed | Kind::Restarted) {
            self.ended.push(Instant::now());
        }
        self.note();
        host
    }

    pub fn heal(&mut self, id: usize) {
        let Some(at) = self.active.iter().position(|fault| fault.id == id) else { return };
        let Active { kind, host, over, .. } = self.active.remove(at);
        let (net, table) = (self.lab.net, format!("fault{id}"));
        match kind {
            Kind::Killed | Kind::Restarted => self.lab.node(host).start(),
            Kind::Frozen => self.lab.node(host).signal(Signal::CONT),
            Kind::CutOff | Kind::Deaf | Kind::Mute | Kind::Lossy | Kind::LossyEverywhere => net.clear(&table),
            Kind::LinkDown => net.set_carrier(host, true),
            Kind::AddressDeleted | Kind::RulesFlushed => {}
            Kind::NginxKilled => self.lab.node(host).start_nginx(),
            Kind::NginxHung => self.lab.node(host).signal_nginx(Signal::CONT),
            Kind::ClockForward | Kind::ClockBack => clocks::step(self.lab.node(host), 0),
            Kind::Busy => over.store(true, Ordering::Relaxed),
        }
        self.note();
    }

    pub fn heal_all(&mut self) {
        while let Some(id) = self.active.last().map(|fault| fault.id) {
            self.heal(id);
        }
    }

    /// Of whom nobody wanted it.
    pub fn who_ended(&mut self) -> Vec<usize> {
        self.lab.nodes.iter_mut().filter_map(|node| node.has_ended().then_some(node.host)).collect()
    }

    fn note(&mut self) {
        let meets = |host: usize, kinds: fn(Kind) -> bool| {
            self.active.iter().any(|fault| fault.host == host && kinds(fault.kind))
        };
        let in_touch = |host: &usize| !meets(*host, Kind::stops_daemon) && !meets(*host, Kind::separates);
        let votes = self.voters.iter().filter(|host| in_touch(host)).count();
        let serves = |host: usize| in_touch(&host) && !meets(host, Kind::stops_nginx);
        let can = votes > self.voters.len() / 2 && (1..=self.lab.nodes.len()).any(serves);
        self.could.push((Instant::now(), can));
    }
}

fn delete(net: Net, host: usize, address: &str) {
    // That it is not there is no mistake: who has it may have changed a moment ago.
    let _ = net.command(host, "ip").args(["address", "del", address, "dev", "eth0"]).output();
}

/// All processors, at the priority of everybody.
pub fn keep_busy(over: &Arc<AtomicBool>) {
    for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
        let over = over.clone();
        std::thread::spawn(move || while !over.load(Ordering::Relaxed) {});
    }
}
