//! Where the time of a failover goes: `make bench-course`. The daemons' spans (`RUST_LOG=haclusterd=debug`) and what the
//! client saw, on one clock.

use super::system::{self, HOSTS};
use super::{AROUND, PACE};
use crate::client::{self, Asked};
use crate::lab::Lab;
use crate::net::CLIENT;
use crate::rival::VIP;
use crate::{PROCESSES, netns};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

const NAME: &str = "bench::course::where_the_time_goes";
const ROUNDS: usize = 20;
const PROFILES: [&str; 2] = ["lan", "aggressive"];
const SETTLE: Duration = Duration::from_millis(1500);

type Strike = fn(&mut Lab, usize);
type Deed = (&'static str, Strike, Strike);
const DEEDS: [Deed; 2] = [
    ("nginx killed", |lab, host| lab.node(host).nginx.kill(), |lab, host| lab.node(host).nginx.start()),
    ("host cut off", |lab, host| lab.net.cut(host), |lab, _| lab.net.mend()),
];

/// On which host, and what the line of its log says; in the order in which they come.
enum Side {
    Old,
    New,
}
use Side::{New, Old};
const MARKS: [(Side, &str, &str); 8] = [
    (Old, "check failed", "detect: nginx is known to be dead"),
    (Old, "handed over", "decide: the VIP is given up"),
    (Old, "netlink: close", "the address is off the old host"),
    (New, "taken, term", "decide: a majority has granted it"),
    (New, "fence: close", "the fence is open"),
    (New, "netlink: close", "the address is on the new host"),
    (New, "announce: close", "it is announced"),
    (New, "", "the client is answered"),
];

#[test]
#[ignore = "it measures: make bench-course"]
fn where_the_time_goes() {
    if !netns::is_inside() {
        let mut command = netns::again(NAME, &PROCESSES);
        assert!(command.env("RUST_LOG", "haclusterd=debug").status().unwrap().success());
        return;
    }
    for ((name, strike, back), profile) in
        DEEDS.iter().flat_map(|deed| PROFILES.map(|profile| (*deed, profile)))
    {
        let mut lab = system::form(profile, false);
        let mut times: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for _ in 0..ROUNDS {
            let seen = round(&mut lab, strike, back);
            seen.into_iter().for_each(|(mark, at)| times.entry(mark).or_default().push(at));
        }
        println!("\n| {name}, `{profile}` | median, ms after | rounds |\n|---|---|---|");
        for (mark, mut all) in times {
            all.sort_by(f64::total_cmp);
            println!("| {} | {:.2} | {} |", MARKS[mark].2, all[all.len() / 2], all.len());
        }
    }
}

/// Milliseconds from the fault to each mark that was seen.
fn round(lab: &mut Lab, strike: Strike, back: Strike) -> Vec<(usize, f64)> {
    sleep(SETTLE);
    let holds = |host: &usize| lab.vip(*host)["owner"] == format!("lb{host}").as_str();
    let owner = (1..=HOSTS).find(holds).expect("somebody owns it");
    let logged: Vec<usize> = lab.nodes.iter().map(|node| node.log().len()).collect();
    let stop: Arc<AtomicBool> = Arc::default();
    let (own, web) = (stop.clone(), SocketAddr::new(VIP, 80));
    let client = lab.net.inside(CLIENT, move || client::ask_until(&own, web, PACE));
    sleep(AROUND);
    let (struck, wall) = (Instant::now(), SystemTime::now());
    strike(lab, owner);
    sleep(SETTLE / 2);
    stop.store(true, Ordering::Relaxed);
    let answered = first_answer(&client.join().unwrap(), struck, owner);
    let mut seen = Vec::new();
    for (mark, (side, text, _)) in MARKS.iter().enumerate() {
        let at = match (text.is_empty(), side) {
            // Who is cut off has nothing to say.
            (_, Old)
                if first(&lab.nodes[owner - 1].log()[logged[owner - 1]..], MARKS[0].1, wall).is_none() =>
            {
                None
            }
            (true, _) => answered.map(|at| (at - struck).as_secs_f64() * 1000.0),
            (false, side) => (1..=HOSTS)
                .filter(|host| (*host == owner) == matches!(side, Old))
                .filter_map(|host| first(&lab.nodes[host - 1].log()[logged[host - 1]..], text, wall))
                .min_by(f64::total_cmp),
        };
        seen.extend(at.map(|at| (mark, at)));
    }
    back(lab, owner);
    seen
}

fn first_answer(asked: &[Asked], struck: Instant, owner: usize) -> Option<Instant> {
    let other = |asked: &&Asked| asked.answer.as_ref().is_ok_and(|who| *who != format!("lb{owner}"));
    asked.iter().filter(|asked| asked.done > struck).filter(other).map(|asked| asked.done).min()
}

/// When the log first says it, in milliseconds after the fault.
fn first(log: &str, text: &str, struck: SystemTime) -> Option<f64> {
    let moment = |line: &str| humantime::parse_rfc3339(line.split_whitespace().next()?).ok();
    let said = log.lines().filter(|line| line.contains(text)).filter_map(moment);
    let after = said.filter_map(|at| Some(at.duration_since(struck).ok()?.as_secs_f64() * 1000.0));
    after.min_by(f64::total_cmp)
}
