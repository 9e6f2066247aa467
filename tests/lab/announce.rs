//! The whole way of an announcement, while frames are lost: from the move to the client's own cache.

use crate::lab::Lab;
use crate::net::{CLIENT, Net};
use crate::{alone, client};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const VIP: &str = "10.0.0.100";
const MOVES: usize = 10;
const LOSS: &str = "numgen random mod 100 < 20 drop";
/// No figure, only a sign that something is wrong: announcements are repeated after 5, 20, 50 and 120 ms.
const SANE: Duration = Duration::from_millis(500);

#[test]
fn neighbours_know_where_the_vip_is_although_a_fifth_of_all_frames_is_lost() {
    alone(|| {
        let lab = Lab::form(&["member"; 3], "10.0.0.100/24");
        // Somebody who has the VIP in his cache.
        let stop: Arc<AtomicBool> = Arc::default();
        let (own, web) = (stop.clone(), SocketAddr::new(VIP.parse().unwrap(), 80));
        let client = lab.net.inside(CLIENT, move || client::ask_until(&own, web, client::PACE));
        lab.net.obstruct("loss", "forward", LOSS);
        let moved = (0..MOVES).map(|number| 2 - number % 2).map(|host| {
            // Refused while the node is in touch with too few voters.
            lab.until("it is moved", |lab| {
                lab.nodes[2].run(&["move", VIP, &format!("lb{host}")]).status.success()
            });
            let span = follows(lab.net, host);
            lab.until("all that were asked have acknowledged it", |lab| {
                let vip = lab.vip(host);
                vip["neighbors_asked"].as_u64() > Some(0) && vip["neighbors_asked"] == vip["neighbors_acked"]
            });
            span
        });
        let took: Vec<Duration> = moved.collect();
        stop.store(true, Ordering::Relaxed);
        assert!(took.iter().all(|span| *span < SANE), "{took:?}");
        assert!(client.join().unwrap().iter().any(|asked| asked.answer.is_ok()));
    });
}

/// How long until the client's cache has the host's hardware address.
fn follows(net: Net, host: usize) -> Duration {
    let words = |output: std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let link = words(net.ip(host, "-o link show eth0"));
    let mac = link.split_once("link/ether ").and_then(|(_, rest)| rest.split(' ').next()).unwrap().to_owned();
    let begin = Instant::now();
    while !words(net.ip(CLIENT, &format!("neigh show {VIP}"))).contains(&mac) {
        assert!(begin.elapsed() < Duration::from_secs(15), "the client does not learn {mac}");
        std::thread::sleep(Duration::from_millis(1));
    }
    begin.elapsed()
}
