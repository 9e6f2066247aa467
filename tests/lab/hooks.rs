//! Programs that hear of a VIP's changes: in keepalived's words, beside keepalived; and hooks that converge.

use crate::alone;
use crate::lab::Lab;
use crate::net::Net;
use crate::nginx::Nginx;
use crate::node::Node;
use crate::rival::Keepalived;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

const OURS: usize = 1;
const THEIRS: usize = 2;
const RIVAL: usize = 3;
const STATES: [&str; 4] = ["master", "backup", "fault", "stop"];
/// The second and the third are the group G1.
const NAMES: [&str; 3] = ["VI_1", "VI_2", "VI_3"];

/// A directory with a program that notes its words, and a FIFO.
struct Ears {
    dir: PathBuf,
    fifo: OwnedFd,
}

impl Ears {
    fn new(dir: PathBuf) -> Ears {
        fs::create_dir_all(&dir).unwrap();
        program(&dir.join("note"), &format!("echo \"$*\" >> {}/out", dir.display()));
        let path = dir.join("fifo");
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let fifo = rustix::fs::open(&path, OFlags::RDWR | OFlags::NONBLOCK, Mode::empty()).unwrap();
        Ears { dir, fifo }
    }

    fn note(&self) -> String {
        self.dir.join("note").display().to_string()
    }

    /// What each program heard of each, in its order; and what was said by the FIFO of each.
    fn heard(&self) -> BTreeMap<String, Vec<String>> {
        let mut heard: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in self.lines() {
            let (tag, words) = line.split_once(' ').unwrap_or((&line, ""));
            let (subject, which) = tag.split_once('/').unwrap();
            let kind = if which == "any" { "generic" } else { "specific" };
            heard.entry(format!("{subject} {kind}")).or_default().push(format!("{which} {words}"));
        }
        let mut bytes = [0; 65536];
        let length = rustix::io::read(&self.fifo, &mut bytes).unwrap();
        for line in String::from_utf8_lossy(&bytes[..length]).lines() {
            let subject = line.split(' ').nth(1).unwrap();
            heard.entry(format!("{subject} by the FIFO")).or_default().push(line.to_owned());
        }
        heard
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join("out")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// All of them have heard of it, the group included.
    fn have_heard(&self, state: &str, times: usize) -> bool {
        let lines = self.lines();
        let heard = |name: &str| lines.iter().filter(|line| **line == format!("{name}/{state}")).count();
        NAMES.iter().chain(&["G1"]).all(|name| heard(name) == times)
    }
}

fn program(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn our_words(ears: &Ears) -> String {
    let notify = |name: &str| {
        let note = ears.note();
        let each = STATES.map(|state| format!("notify_{state} = ['{note}', '{name}/{state}']\n")).concat();
        format!("{each}notify = ['{note}', '{name}/any']\n")
    };
    let mut text =
        format!("[notify]\nfifo = '{}/fifo'\n[[group]]\nname = 'G1'\n{}", ears.dir.display(), notify("G1"));
    for (name, number) in NAMES.iter().zip(1..) {
        let group = if number > 1 { "group = 'G1'\n" } else { "" };
        text += &format!(
            "[[vrrp]]\nname = '{name}'\nvrid = {}\npriority = 10{number}\naddresses = ['10.0.0.{}/24']\n\
             advert_interval = '100ms'\n{group}{}",
            50 + number,
            100 + number,
            notify(name)
        );
    }
    text
}

fn their_words(ears: &Ears) -> String {
    let notify = |name: &str| {
        let note = ears.note();
        let each = STATES.map(|state| format!(" notify_{state} \"{note} {name}/{state}\"\n")).concat();
        format!("{each} notify \"{note} {name}/any\"\n")
    };
    let mut text = format!(
        "global_defs {{\n script_user root\n notify_fifo {}/fifo\n}}\n\
         vrrp_sync_group G1 {{\n group {{\n VI_2\n VI_3\n }}\n{}}}\n",
        ears.dir.display(),
        notify("G1")
    );
    for (name, number) in NAMES.iter().zip(1..) {
        text += &instance(name, 60 + number, 100 + number, 110 + number, &notify(name));
    }
    text
}

/// The master of all six whenever it runs.
fn rival() -> String {
    let six = [51, 52, 53, 61, 62, 63];
    six.map(|vrid| instance(&format!("R{vrid}"), vrid, 200, vrid + 50, "")).concat()
}

fn instance(name: &str, vrid: u8, priority: u8, address: u8, more: &str) -> String {
    format!(
        "vrrp_instance {name} {{\n state BACKUP\n interface eth0\n version 3\n virtual_router_id {vrid}\n \
         priority {priority}\n advert_int 0.1\n{more} virtual_ipaddress {{\n  10.0.0.{address}/24\n }}\n}}\n"
    )
}

#[test]
fn programs_hear_from_us_what_they_hear_from_keepalived() {
    alone(|| {
        let dir = tempfile::tempdir().unwrap();
        let net = Net::new(3);
        let [ours, theirs] = ["ours", "theirs"].map(|name| Ears::new(dir.path().join(name)));
        let mut node = Node::new(net, dir.path().join("lb1"), OURS);
        node.init_without_vip();
        node.set_config(&(node.config() + &our_words(&ours)));
        let _nginx = Nginx::new(net, dir.path().join("nginx"), THEIRS);
        let mut keepalived = Keepalived::new(net, dir.path().join("lb2"), THEIRS, &their_words(&theirs));
        let mut rival = Keepalived::new(net, dir.path().join("lb3"), RIVAL, &rival());
        let until = |state: &str, times: usize| {
            let limit = Instant::now() + Duration::from_secs(8);
            while ![&ours, &theirs].iter().all(|ears| ears.have_heard(state, times)) {
                assert!(
                    Instant::now() < limit,
                    "{state} {times}\n{:#?}\n{:#?}\n{}",
                    ours.lines(),
                    theirs.lines(),
                    fs::read_to_string(dir.path().join("lb1/log")).unwrap_or_default()
                );
                sleep(Duration::from_millis(20));
            }
        };
        node.start();
        keepalived.start_again();
        until("master", 1);
        [OURS, THEIRS].into_iter().for_each(|host| net.set_carrier(host, false));
        until("fault", 1);
        [OURS, THEIRS].into_iter().for_each(|host| net.set_carrier(host, true));
        until("master", 2);
        rival.start_again();
        until("backup", 3);
        rival.stop();
        until("master", 3);
        node.signal(Signal::TERM);
        keepalived.stop();
        node.reap();
        until("stop", 1);
        sleep(Duration::from_millis(100));
        let heard = ours.heard();
        assert_eq!(heard, theirs.heard());
        assert_eq!(heard["G1 generic"][..2], ["any GROUP G1 BACKUP 0", "any GROUP G1 MASTER 0"]);
        assert_eq!(heard["\"VI_1\" by the FIFO"].last().unwrap(), "INSTANCE \"VI_1\" STOP 101");
        net.end();
    });
}

#[test]
fn a_hook_converges_although_it_fails_and_the_daemon_is_killed_while_it_runs() {
    alone(|| {
        let dir = tempfile::tempdir().unwrap();
        let (hook, out) = (dir.path().join("hook"), dir.path().join("out"));
        // Fails twice, hangs in the third run, and then does what it is to do.
        let body = format!(
            "out={}\n[ $HACLUSTERD_STATE = owner ] || exit 0\necho \"$HACLUSTERD_VIP $HACLUSTERD_EPOCH\" >> $out\n\
             case $(wc -l < $out) in\n1|2) echo no rights; exit 1;;\n3) exec sleep 30;;\nesac",
            out.display()
        );
        program(&hook, &body);
        let more = format!("[[hook]]\nname = 'cloud'\ncommand = ['{}']\n", hook.display());
        let mut lab = Lab::form_of(&["member"], "10.0.0.100/24", |node| node.check = more.clone());
        let runs = || fs::read_to_string(&out).unwrap_or_default().lines().count();
        lab.until("it has failed twice", |lab| {
            let status = lab.nodes[0].ask("status").unwrap_or_default();
            runs() == 2 && status["warnings"].to_string().contains("hook cloud: 10.0.0.100: fails since")
        });
        lab.until("it runs a third time", |_| runs() == 3);
        lab.node(1).kill();
        lab.node(1).start();
        lab.until("it runs again", |_| runs() == 4);
        lab.until("it has succeeded", |lab| {
            let counters = lab.nodes[0].ask("status").unwrap_or_default()["counters"].clone();
            counters["hooks_run"].as_u64() > Some(0) && counters["hooks_failed"] == 0
        });
        let shown = lab.nodes[0].ask("status").unwrap();
        assert!(!shown["warnings"].to_string().contains("hook"), "{shown}");
        let text = fs::read_to_string(&out).unwrap();
        assert!(text.lines().all(|line| Some(line) == text.lines().next()), "no owner in between: {text}");
        // What has succeeded is not run again by the next run of the daemon.
        lab.node(1).kill();
        lab.node(1).start();
        lab.until_owned_by(1);
        sleep(Duration::from_millis(300));
        assert_eq!(runs(), 4);
    });
}
