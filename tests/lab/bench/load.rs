//! How late adverts go while both processors are busy with nginx and its clients, and the disk is flooded:
//! `make bench-load` (`LOAD_MINUTES`, 10; `BENCH_SYSTEM`: one profile).

use super::{is_wanted, system};
use crate::lab::Lab;
use crate::net::CLIENT;
use crate::{PROCESSES, netns};
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

const NAME: &str = "bench::load::lateness_under_load";
const MINUTES: u64 = 10;
const BLOCK: usize = 1 << 20;
/// Of the flood, after which it begins anew.
const FLOOD: usize = 256;

#[test]
#[ignore = "it measures for ten minutes: make bench-load"]
fn lateness_under_load() {
    if !netns::is_inside() {
        assert!(netns::again(NAME, &PROCESSES).status().unwrap().success());
        return;
    }
    let minutes = std::env::var("LOAD_MINUTES").map_or(MINUTES, |text| text.parse().unwrap());
    println!();
    for profile in ["lan", "fast", "aggressive"].into_iter().filter(|name| is_wanted("BENCH_SYSTEM", name)) {
        measure(profile, minutes);
    }
}

fn measure(profile: &str, minutes: u64) {
    let lab = system::form(profile, false);
    let before = taken(&lab);
    let stop: Arc<AtomicBool> = Arc::default();
    let (own, place) = (stop.clone(), lab.nodes[0].log_file().with_extension("flood"));
    let flood = thread::spawn(move || flood(&own, &place));
    let (idle, span) = (idle(), Duration::from_secs(minutes * 60));
    let client = crowd(&lab, span);
    sleep(span);
    let idle = (self::idle() - idle) / span.as_secs_f64() * 100.0;
    println!(
        "\n`{profile}`, {minutes} min: {:.1} % of two processors idle or waiting for the disk",
        idle / 2.0
    );
    let requests = String::from_utf8(client.wait_with_output().unwrap().stdout).unwrap();
    requests.lines().filter(|line| line.contains("requests in")).for_each(|line| println!("{}", line.trim()));
    println!("| node | real-time | late, ms: p99.9 | most | VIPs taken |\n|---|---|---|---|---|");
    for (node, before) in lab.nodes.iter().zip(before) {
        let status = node.ask("status").unwrap_or_default();
        let counter = |name: &str| status["counters"][name].as_u64().unwrap_or_default();
        let ms = |name: &str| counter(name) as f64 / 1000.0;
        println!(
            "| {} | {} | {:.2} | {:.2} | {} |",
            node.name(),
            counter("core_realtime"),
            ms("core_late_p999_us"),
            ms("core_late_max_us"),
            node.log().matches(": taken, term").count() - before
        );
    }
    stop.store(true, Ordering::Relaxed);
    let written = flood.join().unwrap();
    println!("{} MB were written to the disk", written / 1_000_000);
}

/// How often each node has taken the VIP.
fn taken(lab: &Lab) -> Vec<usize> {
    lab.nodes.iter().map(|node| node.log().matches(": taken, term").count()).collect()
}

fn crowd(lab: &Lab, span: Duration) -> Child {
    let mut wrk = lab.net.command(CLIENT, "wrk");
    wrk.args(["-t", "4", "-c", "256", "-d", &format!("{}s", span.as_secs()), "http://10.0.0.100/"]);
    wrk.stdout(Stdio::piped()).spawn().expect("wrk runs")
}

/// Bytes written.
fn flood(stop: &AtomicBool, place: &PathBuf) -> usize {
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        written += fill(place, stop).expect("the disk takes it");
    }
    let _ = fs::remove_file(place);
    written
}

fn fill(place: &Path, stop: &AtomicBool) -> std::io::Result<usize> {
    let mut file = File::create(place)?;
    let block = vec![0x5a; BLOCK];
    for at in 0..FLOOD {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        file.write_all(&block)?;
        if at % 16 == 0 {
            file.sync_all()?;
        }
    }
    Ok(usize::try_from(file.stream_position()?).unwrap_or(usize::MAX))
}

/// Seconds that the processors had nothing to do.
fn idle() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let words = stat.lines().next().unwrap().split_whitespace();
    words.skip(4).take(2).filter_map(|word| word.parse::<f64>().ok()).sum::<f64>() / 100.0
}
