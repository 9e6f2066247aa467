//! The fence against a real kernel, in namespaces of its own: `cargo test --test fence`.

#![allow(clippy::unwrap_used)]

mod netns;

use haclusterd::engine::time::Instant;
use haclusterd::io::clock;
use haclusterd::io::fence::{Fence, FenceError, Gate, Opened};
use netns::{isolated, run, wired};
use std::net::IpAddr;
use std::time::Duration;

fn index(interface: &str) -> u32 {
    let line = run(&format!("ip -o link show {interface}"));
    line.split(':').next().unwrap().parse().unwrap()
}

#[test]
fn smoke() {
    wired("smoke", || async {
        let until = clock::now() + Duration::from_millis(300);
        let gate = |addr: &str| Gate { ifindex: index("v0"), addr: addr.parse().unwrap(), until };
        let mut fence = Fence::start(&[]).unwrap();
        eprintln!("{}", run("nft list ruleset"));
        let t = std::time::Instant::now();
        eprintln!("{:?} {:?}", fence.open(&[gate("10.9.0.100"), gate("fd00::100")]), t.elapsed());
        eprintln!("{}", run("nft list ruleset"));
        let t = std::time::Instant::now();
        eprintln!("{:?} {:?}", fence.open(&[gate("10.9.0.100"), gate("fd00::100")]), t.elapsed());
        eprintln!("{:?} {}", Fence::left_open(), until.micros());
        run("nft flush ruleset");
        let t = std::time::Instant::now();
        eprintln!("{:?} {:?}", fence.open(&[gate("10.9.0.100"), gate("fd00::100")]), t.elapsed());
        eprintln!("{:?}", fence.open(&[gate("10.9.0.100"), gate("fd00::100")]));
        eprintln!("{:?}", fence.close(&["10.9.0.100".parse().unwrap()]));
        eprintln!("{}", run("nft list ruleset"));
        eprintln!("{:?}", fence.remove());
        eprintln!("{}", run("nft list ruleset"));
    });
}

#[test]
fn bench() {
    wired("bench", || async {
        for n in [1u8, 24] {
            let gates = || -> Vec<Gate> {
                (0..n)
                    .map(|i| Gate {
                        ifindex: index("v0"),
                        addr: IpAddr::from([10, 9, 0, 100 + i]),
                        until: clock::now() + Duration::from_millis(489),
                    })
                    .collect()
            };
            let mut fence = Fence::start(&[]).unwrap();
            let _ = fence.open(&gates()).unwrap();
            for pause in [0, 50] {
                let mut took: Vec<_> = (0..200)
                    .map(|_| {
                        let g = gates();
                        std::thread::sleep(Duration::from_millis(pause));
                        let t = std::time::Instant::now();
                        let _ = fence.open(&g).unwrap();
                        t.elapsed()
                    })
                    .collect();
                eprintln!("first {:?}", &took[..8]);
                took.sort();
                eprintln!(
                    "{n} addresses, every {pause} ms: median {:?} p99 {:?} max {:?}",
                    took[100], took[197], took[199]
                );
            }
        }
    });
}
