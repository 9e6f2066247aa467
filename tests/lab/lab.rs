//! A cluster on a switch, clients, and what they and the monitors saw of a fault.

use crate::client::{self, Report};
use crate::net::{CLIENT, Net, STRANGER};
use crate::node::Node;
use crate::watch::{Holding, Watch};
use serde_json::{Value, json};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// No figure, only a sign that something is wrong.
const SANE: Duration = Duration::from_secs(3);
/// Each host's monitor is a thread that notes when it is woken, which on a busy machine may be after another's that had
/// less to wait for: two hosts a moment apart cannot be told from two at once. That the address goes before the lease is
/// given back is proven in the engine (`seat`, the simulation).
const WOKEN_LATE: Duration = Duration::from_millis(5);
/// What is seen of the time before a fault.
pub const BEFORE: Duration = Duration::from_millis(500);

pub struct Lab {
    pub nodes: Vec<Node>,
    pub net: Net,
    pub vip: Vec<IpAddr>,
    dir: tempfile::TempDir,
}

/// A fault, as its beholders saw it.
#[derive(Debug)]
pub struct Seen {
    /// What the clients of each of the VIP's addresses saw.
    pub clients: Vec<Report>,
    pub holding: Holding,
}

impl Seen {
    /// The host has the VIP at the end, alone, and serves the clients, who were not without it for long.
    pub fn ends_with(&self, host: usize) -> &Seen {
        assert_eq!(self.holding.holders, [host], "{self:?}");
        for client in &self.clients {
            assert!(client.gap < SANE, "{self:?}");
            assert_eq!(client.answered.last(), Some(&format!("lb{host}")), "{self:?}");
        }
        self
    }

    pub fn never_two(&self) -> &Seen {
        assert!(self.holding.overlap < WOKEN_LATE, "{self:?}");
        self
    }

    pub fn gap(&self) -> Duration {
        self.clients.iter().map(|client| client.gap).max().unwrap_or_default()
    }

    pub fn failed(&self) -> usize {
        self.clients.iter().map(|client| client.failed).sum()
    }
}

/// Whatever a case fails by, the daemons' own words help.
impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.nodes.iter().for_each(|node| println!("{}:\n{}", node.name(), node.log()));
        }
        self.net.end();
    }
}

impl Lab {
    /// `roles`: of the nodes; the first begins the cluster. Waits until all vote and the first holds the VIP.
    pub fn form(roles: &[&str], vip: &str) -> Lab {
        Lab::form_of(roles, vip, |_| ())
    }

    /// The same of nodes that are prepared before they start.
    pub fn form_of(roles: &[&str], vip: &str, prepare: impl Fn(&mut Node)) -> Lab {
        let lab = Lab::begin(roles, vip, prepare);
        let voters = roles.len().min(3);
        // To ask each of a hundred would be a load of its own.
        let pace = roles.len().div_ceil(10);
        lab.until("all vote", |lab| {
            lab.nodes.iter().rev().step_by(pace).all(|node| {
                let status = node.ask("status").unwrap_or_default();
                status["cluster"]["voters"].as_array().is_some_and(|all| all.len() == voters)
                    && status["cluster"]["voters_in_contact"] == voters
                    && status["cluster"]["members_alive"] == roles.len()
                    && status["cluster"]["mode"] == ["single", "two-node", "quorum"][voters - 1]
            })
        });
        lab.until_owned_by(1);
        // Past the moment at which the kernel still knows the two-node mode's longer lifetime.
        std::thread::sleep(Duration::from_millis(300));
        lab
    }

    /// `vip`: its addresses with prefix lengths, between commas.
    fn begin(roles: &[&str], vip: &str, prepare: impl Fn(&mut Node)) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let net = Net::new(roles.len());
        let nodes = (1..=roles.len()).map(|host| Node::new(net, dir.path().join(format!("lb{host}")), host));
        let nodes = nodes.collect();
        let address = |text: &str| text.split('/').next().and_then(|ip| ip.parse().ok()).unwrap();
        let mut lab = Lab { nodes, net, vip: vip.split(',').map(address).collect(), dir };
        lab.nodes.iter_mut().for_each(prepare);
        lab.nodes[0].init(150, vip);
        lab.nodes[0].start();
        lab.until("the first node answers", |lab| lab.nodes[0].ask("status").is_some());
        let (first, others) = lab.nodes.split_at_mut(1);
        for (node, (role, priority)) in others
            .iter_mut()
            .zip(roles[1..].iter().zip((5..=100).rev().step_by(10).chain(std::iter::repeat(5))))
        {
            node.join(&first[0], priority, role);
            node.start();
        }
        lab
    }

    pub fn node(&mut self, host: usize) -> &mut Node {
        &mut self.nodes[host - 1]
    }

    /// Another host, with that node's state directory.
    pub fn start_clone(&mut self, of: usize) {
        let mut copy = self.nodes[of - 1].copy_to(STRANGER, self.dir.path().join("copy"));
        copy.start();
        self.nodes.push(copy);
    }

    pub fn vip(&self, host: usize) -> Value {
        self.nodes[host - 1].ask("status").unwrap_or_default()["vips"][0].clone()
    }

    pub fn until(&self, what: &str, is_so: impl Fn(&Lab) -> bool) {
        // Many nodes share the processors.
        let limit = Duration::from_secs(15) + Duration::from_secs(1) * self.nodes.len() as u32;
        let end = Instant::now() + limit;
        while !is_so(self) {
            if Instant::now() > end {
                panic!("not within {limit:?}: {what}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn until_owned_by(&self, host: usize) {
        self.until(&format!("lb{host} owns the VIP"), |lab| {
            let vip = lab.vip(host);
            vip["mine"] == true && vip["state"] == "active"
        });
    }

    /// What was seen from before the fault until `span` after it.
    pub fn observe(&mut self, case: &str, span: Duration, fault: impl FnOnce(&mut Lab)) -> Seen {
        let mut hosts: Vec<usize> = self.nodes.iter().map(|node| node.host).chain([STRANGER]).collect();
        // A clone, the last of the nodes, is on the stranger's host.
        hosts.dedup();
        let vip = self.vip.clone();
        let seen = behold(self.net, &hosts, &vip, || {
            fault(self);
            std::thread::sleep(span);
        });
        note(case, &seen);
        seen
    }
}

/// What clients and the monitors on the hosts see from before the course of events to its end.
pub fn behold(net: Net, hosts: &[usize], vip: &[IpAddr], course: impl FnOnce()) -> Seen {
    let watch = Watch::new(net, hosts, vip);
    let stop: Arc<AtomicBool> = Arc::default();
    let ask = |address: &IpAddr| {
        let (stop, web) = (stop.clone(), SocketAddr::new(*address, 80));
        net.inside(CLIENT, move || client::ask_until(&stop, web, client::PACE))
    };
    let clients: Vec<_> = vip.iter().map(ask).collect();
    std::thread::sleep(BEFORE);
    course();
    stop.store(true, Ordering::Relaxed);
    let clients = clients.into_iter().map(|client| client::report(&client.join().unwrap())).collect();
    Seen { clients, holding: watch.end(net) }
}

/// Who answers a client at this address now?
pub fn who_answers(net: Net, address: IpAddr) -> Option<String> {
    let ask = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(client::patiently(SocketAddr::new(address, 80))).answer.ok()
    };
    net.inside(CLIENT, ask).join().unwrap()
}

pub fn note(case: &str, seen: &Seen) {
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let Seen { clients, holding } = seen;
    for Report { gap, failed, asked, answered, .. } in clients {
        println!(
            "{case:<36} | gap {:>4} ms | failed {failed:>3} of {asked:>4} | overlap {:>4} ms | nobody {:>4} ms | {}",
            ms(*gap),
            ms(holding.overlap),
            ms(holding.nobody),
            answered.join(" ")
        );
        note_line(&json!({
            "case": case, "gap_ms": ms(*gap), "failed": failed, "asked": asked,
            "overlap_ms": ms(holding.overlap), "nobody_ms": ms(holding.nobody),
        }));
    }
}

/// Into the file of figures.
pub fn note_line(line: &Value) {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("lab-results.jsonl");
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    writeln!(file, "{line}").unwrap();
}
