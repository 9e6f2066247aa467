//! The pieces that run for every packet: `cargo bench --bench hot`.

mod cluster;

use cluster::Cluster;
use criterion::{Criterion, criterion_group, criterion_main};
use haclusterd::engine::rank::{self, Standing};
use haclusterd_proto::cluster::Message;
use haclusterd_proto::vrrp::{Centis, Coverage, Packet, Repr, Version, Vrid, VrrpPriority};
use haclusterd_proto::{NodeId, Priority, VipId, codec};
use std::hint::black_box;

fn codec(bench: &mut Criterion) {
    for vips in [1, 100, 1000] {
        let mut cluster = Cluster::at_rest(3, vips);
        let (_, advert) = cluster.adverts(0).remove(0);
        let bytes = codec::encode(&advert, codec::MAX).expect("it fits");
        bench.bench_function(&format!("codec: encode an advert of {vips} VIPs"), |bencher| {
            bencher.iter(|| codec::encode(black_box(&advert), codec::MAX));
        });
        bench.bench_function(&format!("codec: decode an advert of {vips} VIPs"), |bencher| {
            bencher.iter(|| codec::decode::<Message>(black_box(&bytes)));
        });
    }
}

fn vrrp(bench: &mut Criterion) {
    let (source, group) =
        ("10.0.0.11".parse().expect("an address"), "224.0.0.18".parse().expect("an address"));
    for addresses in [1, 20] {
        let repr = Repr {
            version: Version::V3 {
                interval: Centis::new(100).expect("in range"),
                coverage: Coverage::PseudoHeader,
            },
            vrid: Vrid::new(51).expect("in range"),
            priority: VrrpPriority(150),
            addresses: (0..addresses).map(|last| [10, 0, 0, last].into()).collect(),
        };
        let packet = repr.emit(source, group);
        bench.bench_function(&format!("vrrp: check an advert of {addresses} addresses"), |bencher| {
            bencher.iter(|| Packet::check(black_box(&packet), source, group).map(|packet| packet.priority()));
        });
    }
}

/// A voter hears an advert in which nothing is new, and answers it.
fn engine(bench: &mut Criterion) {
    for (nodes, vips) in [(3, 1), (3, 1000), (100, 1)] {
        let mut cluster = Cluster::at_rest(nodes, vips);
        let sent = cluster.adverts(0);
        let (to, message) = sent.into_iter().find(|(to, _)| *to == 1).expect("all voters are told");
        let Message::Advert(mut advert) = message else { panic!("not an advert") };
        let now = cluster.now;
        bench.bench_function(&format!("engine: an advert at rest, {nodes} nodes, {vips} VIPs"), |bencher| {
            bencher.iter(|| {
                advert.seq += 1;
                cluster.engines[to].handle(Cluster::input(0, Message::Advert(advert.clone())), now)
            });
        });
    }
}

fn ranking(bench: &mut Criterion) {
    let standing = |node| Standing {
        pinned: false,
        node: NodeId([node; 16]),
        priority: Some(Priority(100 + node % 3)),
        incumbent: node == 7,
        sick: false,
        held_down: false,
    };
    let candidates: Vec<Standing> = (0..100).map(standing).collect();
    bench.bench_function("ranking: 1,000 VIPs of 100 candidates", |bencher| {
        bencher.iter(|| {
            (0..1000)
                .map(|vip| rank::order(VipId(vip), true, candidates.clone())[0].0[0] as usize)
                .sum::<usize>()
        });
    });
}

criterion_group!(benches, codec, vrrp, engine, ranking);
criterion_main!(benches);
