//! A peer in a process of its own: this test binary once more, so that it can be killed, and live in a namespace.

#![allow(clippy::print_stdout)] // the measured times, with --nocapture

use super::rig::{Ca, Papers};
use super::{Event, Transport};
use bytes::Bytes;
use haclusterd_proto::NodeId;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DIR: &str = "HACL_TEST_DIR";
const BIND: &str = "HACL_TEST_BIND";
const PEER: &str = "HACL_TEST_PEER";

/// This test binary, to run that one test and no other.
fn again(program: &[&str], test: &str) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut words = program.iter().map(std::ffi::OsStr::new).chain([exe.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(["--exact", &format!("io::quic::tests::process::{test}")]);
    command.args(["--ignored", "--nocapture", "--test-threads=1"]);
    command
}

/// Killed with the test, however that ends.
struct Echo(Child);

impl Echo {
    fn spawn(inside: &[&str], dir: &Path, bind: SocketAddr, peer: SocketAddr) -> Echo {
        let mut command = again(inside, "echo");
        command.env(DIR, dir).env(BIND, bind.to_string()).env(PEER, peer.to_string());
        // It ends when its standard input does.
        Echo(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "not a test: the peer process of the others"]
fn echo() {
    let var = |name| std::env::var(name).unwrap();
    let papers = Papers::load(Path::new(&var(DIR)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.spawn(async move {
        let mut node = papers.start(var(BIND).parse().unwrap());
        node.transport.set_peers(&[(None, var(PEER).parse().unwrap())]);
        while let Some(event) = node.heard.recv().await {
            match event {
                Event::Datagram { from, bytes } => drop(node.transport.datagram(from, bytes)),
                Event::Stream { addr, bytes, .. } => drop(node.transport.stream(addr, bytes)),
                _ => {}
            }
        }
    });
    let _ = std::io::stdin().read_to_end(&mut vec![]);
}

/// Sends every 20 ms until an echo of what was sent after the call is heard.
async fn echoed(node: &mut super::rig::Node, peer: NodeId, within: Duration) -> Duration {
    static ROUND: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
    let round = [ROUND.fetch_add(1, std::sync::atomic::Ordering::Relaxed); 32];
    let start = Instant::now();
    let (transport, hello) = (node.transport.clone(), Bytes::copy_from_slice(&round));
    let sender = tokio::spawn(send_every_20_ms(transport, peer, hello.clone()));
    loop {
        let left = within.checked_sub(start.elapsed()).unwrap_or_else(|| panic!("no echo in {within:?}"));
        match tokio::time::timeout(left, node.heard.recv()).await {
            Ok(Some(Event::Datagram { bytes, .. })) if bytes == hello => break,
            _ => {}
        }
    }
    sender.abort();
    start.elapsed()
}

async fn send_every_20_ms(transport: Transport, peer: NodeId, bytes: Bytes) {
    loop {
        let _ = transport.datagram(peer, bytes.clone());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_was_killed_is_heard_again_as_soon_as_it_is_back() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let (mut node, papers) = (ca.node(), ca.papers());
    papers.save(dir.path());
    let peer = std::net::UdpSocket::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    node.transport.set_peers(&[(Some(papers.id), peer)]);
    let mut echo = Echo::spawn(&[], dir.path(), peer, node.addr);
    echoed(&mut node, papers.id, Duration::from_secs(10)).await;

    for lived in [100, 1500] {
        // Within a second the tie-break could prefer the dead connection, after it the newest wins.
        tokio::time::sleep(Duration::from_millis(lived)).await;
        drop(echo);
        tokio::time::sleep(Duration::from_millis(100)).await;
        echo = Echo::spawn(&[], dir.path(), peer, node.addr);
        let back = echoed(&mut node, papers.id, Duration::from_secs(10)).await;
        println!("killed after {lived} ms: heard {back:?} after its start");
        // Without resets it would be the idle time of 5 s. The rest is for a loaded machine.
        assert!(back < Duration::from_secs(2), "{back:?}");
    }
}

#[test]
fn a_link_that_goes_down_and_up_again_is_survived() {
    if !Command::new("unshare").args(["-Urnm", "true"]).status().is_ok_and(|status| status.success()) {
        println!("skipped: this machine does not permit namespaces");
        return;
    }
    let status = again(&["unshare", "-Urnm"], "inside_a_namespace").status().unwrap();
    assert!(status.success());
}

fn ip(words: &str) {
    let status = Command::new("ip").args(words.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {words}");
}

#[test]
#[ignore = "changes network interfaces: run by the test above in namespaces of its own"]
fn inside_a_namespace() {
    let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]).status().unwrap();
    assert!(mounted.success());
    ip("netns add peer");
    ip("link add v0 type veth peer name v1 netns peer");
    ip("addr add 10.9.0.1/24 dev v0");
    ip("link set v0 up");
    ip("-n peer addr add 10.9.0.2/24 dev v1");
    ip("-n peer link set v1 up");
    tokio::runtime::Runtime::new().unwrap().block_on(ups_and_downs());
}

async fn ups_and_downs() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let papers = ca.papers();
    papers.save(dir.path());
    let mut node = ca.papers().start("10.9.0.1:7946".parse().unwrap());
    let peer = "10.9.0.2:7946".parse().unwrap();
    node.transport.set_peers(&[(Some(papers.id), peer)]);
    let _echo = Echo::spawn(&["ip", "netns", "exec", "peer"], dir.path(), peer, node.addr);
    echoed(&mut node, papers.id, Duration::from_secs(10)).await;

    // Shorter and longer than the idle time; then without the address, and with the peer's end down.
    for (down, up, seconds) in [
        ("link set v0 down", "link set v0 up", 2),
        ("link set v0 down", "link set v0 up", 7),
        ("addr del 10.9.0.1/24 dev v0", "addr add 10.9.0.1/24 dev v0", 2),
        ("-n peer link set v1 down", "-n peer link set v1 up", 7),
    ] {
        ip(down);
        let sender =
            tokio::spawn(send_every_20_ms(node.transport.clone(), papers.id, Bytes::from_static(b"?")));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        sender.abort();
        ip(up);
        let back = echoed(&mut node, papers.id, Duration::from_secs(10)).await;
        println!("{down}, {seconds} s: heard {back:?} after {up}");
        assert!(back < Duration::from_secs(5), "{back:?}");
    }
    assert_eq!(node.transport.counters().restarts, 0, "the endpoint has lived through it all");
}
