//! What the engine allocates at rest: `cargo bench --bench rest`.

#![allow(clippy::print_stdout)]

mod cluster;

use cluster::Cluster;
use haclusterd::engine::Input;
use haclusterd_proto::cluster::Message;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
const ROUNDS: u64 = 1000;

#[allow(unsafe_code, reason = "a global allocator is")]
// SAFETY: it is the system's, and counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn main() {
    println!(
        "| nodes | VIPs | allocations by: an advert heard and answered | an answer heard | nothing due |\n|---|---|---|---|---|"
    );
    for (nodes, vips) in [(3, 1), (3, 1000), (30, 1)] {
        let mut cluster = Cluster::at_rest(nodes, vips);
        let advert = cluster.adverts(0).into_iter().find(|(to, _)| *to == 1).expect("all voters are told").1;
        let Message::Advert(mut advert) = advert else { panic!("not an advert") };
        let now = cluster.now;
        let mut answers = Vec::with_capacity(2 * ROUNDS as usize);
        let mut hear = |cluster: &mut Cluster| {
            advert.seq += 1;
            let message = Message::Advert(advert.clone());
            answers.extend(cluster.engines[1].handle(Cluster::input(0, message), now));
        };
        let heard = each(|| hear(&mut cluster));
        let idle = each(|| drop(cluster.engines[1].handle(Input::Deadline, now)));
        let answer = answers.into_iter().find_map(|action| match action {
            haclusterd::engine::Action::Send { message: message @ Message::Answer(_), .. } => Some(message),
            _ => None,
        });
        let Some(Message::Answer(answer)) = answer else { panic!("no answer") };
        let answered =
            each(|| drop(cluster.engines[0].handle(Cluster::input(1, Message::Answer(answer.clone())), now)));
        println!("| {nodes} | {vips} | {heard} | {answered} | {idle} |");
    }
}

fn each(mut deed: impl FnMut()) -> f64 {
    deed();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (0..ROUNDS).for_each(|_| deed());
    (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / ROUNDS as f64
}
