//! The adverts of IPv4 on the wire, at a host that takes no part, with the kernel's stamps.

use crate::nemesis::packet::Tap;
use crate::net::{Net, STRANGER};
use haclusterd::io::realtime;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

const IPV4: u32 = 0x0800;
const VRRP: u32 = 112;
const VRID_AT: usize = 14 + 20 + 1;

/// When each virtual router's adverts came, within this time.
pub fn listen(net: Net, span: Duration) -> BTreeMap<u8, Vec<Instant>> {
    let stop: Arc<AtomicBool> = Arc::default();
    let end = stop.clone();
    let listener = net.inside(STRANGER, move || {
        realtime::raise();
        let mut tap = Tap::open(&[vec![(2, 12, IPV4), (1, 23, VRRP)]]);
        let mut adverts: BTreeMap<u8, Vec<Instant>> = BTreeMap::new();
        while !end.load(Ordering::Relaxed) {
            if let Some(frame) = tap.read() {
                adverts.entry(frame.bytes[VRID_AT]).or_default().push(frame.at);
            }
        }
        assert_eq!(tap.lost(), 0, "the listener was too slow");
        adverts
    });
    sleep(span);
    stop.store(true, Ordering::Relaxed);
    listener.join().unwrap()
}

/// How far the times between adverts are from what they should be.
pub struct Jitter {
    mean: Duration,
    /// In ascending order.
    deviations: Vec<Duration>,
}

impl Jitter {
    /// `routers`: the adverts of each.
    pub fn of<'a>(routers: impl Iterator<Item = &'a Vec<Instant>>, interval: Duration) -> Jitter {
        let between = |adverts: &'a Vec<Instant>| adverts.windows(2).map(|pair| pair[1] - pair[0]);
        let intervals: Vec<Duration> = routers.flat_map(between).collect();
        assert!(!intervals.is_empty(), "no adverts");
        let mean = intervals.iter().sum::<Duration>() / u32::try_from(intervals.len()).unwrap();
        let mut deviations: Vec<Duration> = intervals.iter().map(|each| each.abs_diff(interval)).collect();
        deviations.sort_unstable();
        Jitter { mean, deviations }
    }

    pub const COLUMNS: &str = "intervals | mean ms | deviation p50 | p99 | p99.9 | max ms";

    pub fn row(&self) -> String {
        let ms = |span: Duration| format!("{:.3}", span.as_secs_f64() * 1000.0);
        let last = self.deviations.len() - 1;
        let quantile = |per_mille: usize| ms(self.deviations[last * per_mille / 1000]);
        format!(
            "{} | {} | {} | {} | {} | {}",
            self.deviations.len(),
            ms(self.mean),
            quantile(500),
            quantile(990),
            quantile(999),
            quantile(1000)
        )
    }
}
