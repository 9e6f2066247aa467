//! A test that has network namespaces of its own.
//!
//! It executes itself again inside a new network and mount namespace (as root, or in a user namespace), where
//! `v0` is a virtual cable to `v1` in a second namespace, `peer`. All of it goes with the process.

use haclusterd_proto::MacAddr;
use std::fmt::Debug;
use std::future::Future;
use std::process::Command;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

const INSIDE: &str = "HACLUSTERD_TEST_INSIDE";
pub const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x0a]);
pub const PEERS: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x0b]);
/// What happens at once happens within this, and what has not by then does not.
pub const SOON: Duration = Duration::from_millis(500);
/// The same on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(3);

/// Is this the process inside?
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// What the test printed; nothing inside.
pub fn isolated(name: &str, wrapper: &[&str], body: impl FnOnce()) -> String {
    if is_inside() {
        body();
        return String::new();
    }
    let output = again(name, wrapper).output().expect("unshare (util-linux) runs");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "inside the namespace:\n{text}");
    assert!(text.contains("1 passed"), "the test of this name did not run:\n{text}");
    text.into_owned()
}

/// The test of this name, inside.
pub fn again(name: &str, wrapper: &[&str]) -> Command {
    let namespaces = if rustix::process::geteuid().is_root() { "-nm" } else { "-Urnm" };
    let mut command = Command::new("unshare");
    command
        .arg(namespaces)
        .args(wrapper)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        .env("RUST_BACKTRACE", "0");
    command
}

/// A test body with the cable in place; what it printed.
pub fn wired<F: Future<Output = ()>>(name: &str, body: impl FnOnce() -> F) -> String {
    isolated(name, &[], || {
        run("mount -t tmpfs tmpfs /run");
        run("ip netns add peer");
        run("ip link set lo up");
        cable();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let limit = Duration::from_secs(20);
        runtime.block_on(async { tokio::time::timeout(limit, body()).await }).expect("ends within 20 s");
    })
}

pub fn cable() {
    run(&format!("ip link add v0 address {OURS} type veth peer name v1 address {PEERS} netns peer"));
    run("ip link set v0 up");
    run("ip -n peer link set v1 up");
}

pub fn run(command: &str) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What an adapter reported, in order.
pub struct Seen<T>(pub UnboundedReceiver<T>);

impl<T: Debug> Seen<T> {
    pub async fn within(&mut self, limit: Duration, wanted: impl Fn(&T) -> bool) -> T {
        let mut others = Vec::new();
        let found = tokio::time::timeout(limit, async {
            loop {
                match self.0.recv().await.unwrap() {
                    item if wanted(&item) => return item,
                    other => others.push(other),
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("not within {limit:?}, but {others:?}"))
    }

    pub async fn all_within(&mut self, limit: Duration) -> Vec<T> {
        tokio::time::sleep(limit).await;
        std::iter::from_fn(|| self.0.try_recv().ok()).collect()
    }

    pub async fn soon(&mut self, wanted: T) -> T
    where
        T: PartialEq,
    {
        self.within(PATIENCE, |item| *item == wanted).await
    }
}
