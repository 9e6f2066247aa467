//! A cluster on a switch, a client, and what both saw of a fault.

use crate::client::{self, Report};
use crate::net::{CLIENT, Net, STRANGER};
use crate::node::Node;
use crate::watch::{Holding, Watch};
use serde_json::{Value, json};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub const VIP: &str = "10.0.0.100";

/// Two labs at once make each other's gaps.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub struct Lab {
    // In the order in which they must go.
    pub nodes: Vec<Node>,
    pub net: Arc<Net>,
    dir: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Lab {
    /// `roles`: of the nodes; the first begins the cluster. Waits until all vote and the first holds the VIPs.
    pub fn form(roles: &[&str], vips: &[&str]) -> Lab {
        let lab = Lab::begin(roles, vips);
        let voters = roles.len().min(3);
        lab.until("all vote", |lab| {
            lab.nodes.iter().all(|node| {
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

    pub fn begin(roles: &[&str], vips: &[&str]) -> Lab {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        let net = Arc::new(Net::new(roles.len()));
        let nodes = (1..=roles.len()).map(|host| Node::new(&net, dir.path().join(format!("lb{host}")), host));
        let mut lab = Lab { nodes: nodes.collect(), net, dir, _turn: turn };
        lab.nodes[0].init(150, vips);
        lab.nodes[0].start();
        lab.until("the first node answers", |lab| lab.nodes[0].ask("status").is_some());
        let (first, others) = lab.nodes.split_at_mut(1);
        for (node, (role, priority)) in others.iter_mut().zip(roles[1..].iter().zip([100, 90, 80])) {
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
        let limit = Instant::now() + Duration::from_secs(15);
        while !is_so(self) {
            if Instant::now() > limit {
                let logs: Vec<String> =
                    self.nodes.iter().map(|n| format!("{}:\n{}", n.name(), n.log())).collect();
                panic!("not within 15 s: {what}\n{}", logs.join("\n"));
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

    /// What the client and the monitors saw, from half a second before the fault until `span` after it.
    pub fn observe(&mut self, case: &str, span: Duration, fault: impl FnOnce(&mut Lab)) -> (Report, Holding) {
        let vip: IpAddr = VIP.parse().unwrap();
        let watch = Watch::new(&self.net, self.nodes.iter().map(|node| node.host), vip);
        let stop: Arc<AtomicBool> = Arc::default();
        let asking = stop.clone();
        let client = self.net.inside(CLIENT, move || client::ask_until(&asking, SocketAddr::new(vip, 80)));
        std::thread::sleep(Duration::from_millis(500));
        fault(self);
        std::thread::sleep(span);
        stop.store(true, Ordering::Relaxed);
        let report = client::report(&client.join().unwrap());
        let holding = watch.end();
        self.note(case, &report, &holding);
        (report, holding)
    }

    fn note(&self, case: &str, report: &Report, holding: &Holding) {
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        println!(
            "{case:<32} gap {:>5} ms  failed {:>3} of {:>4}  overlap {:>5} ms  answered {}",
            ms(report.gap),
            report.failed,
            report.asked,
            ms(holding.overlap),
            report.answered.join(" ")
        );
        let line = json!({
            "case": case, "gap_ms": ms(report.gap), "failed": report.failed, "asked": report.asked,
            "overlap_ms": ms(holding.overlap),
        });
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("lab-results.jsonl");
        if let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path) {
            let _ = writeln!(file, "{line}");
        }
    }
}
