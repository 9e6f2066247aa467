//! One host: a real nginx, and the daemon under test.

use crate::net::Net;
use crate::nginx::Nginx;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

pub struct Node {
    pub host: usize,
    net: Net,
    dir: PathBuf,
    pub nginx: Nginx,
    daemon: Option<Child>,
    /// What executes the daemon in its turn, with other clocks for instance.
    pub wrapper: Vec<String>,
    /// More lines of the check of nginx.
    pub check: String,
    /// What stands otherwise in the configuration than `init` and `join` write it.
    pub amend: Vec<(&'static str, String)>,
    /// Where it listens for the others.
    pub network: &'static str,
}

impl Node {
    pub fn new(net: Net, dir: PathBuf, host: usize) -> Node {
        let nginx = Nginx::new(net, dir.join("nginx"), host);
        Node {
            host,
            net,
            dir,
            nginx,
            daemon: None,
            wrapper: Vec::new(),
            check: String::new(),
            amend: Vec::new(),
            network: "10.0.0",
        }
    }

    pub fn name(&self) -> String {
        format!("lb{}", self.host)
    }

    fn address(&self) -> String {
        format!("{}.{}", self.network, 10 + self.host)
    }

    fn command(&self, words: &[&str]) -> Command {
        self.wrapped(&[], words)
    }

    fn wrapped(&self, wrapper: &[String], words: &[&str]) -> Command {
        // Figures are those of the program that is shipped.
        let own = std::env::var("LAB_HACLUSTERD").unwrap_or(env!("CARGO_BIN_EXE_haclusterd").into());
        let own = [own];
        let mut all = wrapper.iter().chain(&own).map(String::as_str).chain(words.iter().copied());
        let mut command = self.net.command(self.host, all.next().unwrap());
        command
            .args(all)
            .env("HACLUSTERD_CONFIG", self.dir.join("haclusterd.toml"))
            .env("HACLUSTERD_STATE_DIR", self.dir.join("state"))
            .env("HACLUSTERD_SOCKET", self.dir.join("socket"));
        command
    }

    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    pub fn must(&self, words: &[&str]) -> String {
        let done = self.run(words);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{} {words:?}: {said}", self.name());
        String::from_utf8(done.stdout).unwrap()
    }

    fn node_options(&self, priority: u8) -> Vec<String> {
        let nginx = self.nginx.pid_file();
        ["--name", &self.name(), "--listen", &self.address(), "--interface", "eth0"]
            .into_iter()
            .chain(["--priority", &priority.to_string(), "--nginx-url", "http://127.0.0.1/"])
            .chain(["--nginx-pid", &nginx.display().to_string()])
            .map(str::to_owned)
            .collect()
    }

    pub fn init(&self, priority: u8, vip: &str) {
        let options = self.node_options(priority);
        let words: Vec<&str> =
            ["init", "--vip", vip].into_iter().chain(options.iter().map(String::as_str)).collect();
        self.must(&words);
        self.amend_config();
    }

    pub fn init_without_vip(&self) {
        let options = self.node_options(100);
        self.must(&["init"].into_iter().chain(options.iter().map(String::as_str)).collect::<Vec<_>>());
    }

    pub fn join(&self, first: &Node, priority: u8, role: &str) {
        let token = first.must(&["token", "create", "--quiet", "--role", role]);
        let file = self.dir.join("token");
        fs::write(&file, token).unwrap();
        let options = self.node_options(priority);
        let (peer, path) = (first.address(), file.display().to_string());
        let words: Vec<&str> = ["join", &peer, "--token-file", &path, "--role", role]
            .into_iter()
            .chain(options.iter().map(String::as_str))
            .collect();
        self.must(&words);
        self.amend_config();
    }

    /// The check is the last section of the file.
    fn amend_config(&self) {
        let amended = |text: String, (old, new): &(&str, String)| text.replace(old, new);
        self.set_config(&(self.amend.iter().fold(self.config(), amended) + &self.check));
    }

    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// The daemon, with a journal.
    pub fn start_recorded(&mut self) {
        let path = self.journal();
        self.start_with(&["--journal", &path]);
    }

    /// Of the present run; an earlier run's is beside it, with `.1` at its end.
    pub fn journal(&self) -> String {
        self.dir.join("journal").display().to_string()
    }

    pub fn start_with(&mut self, options: &[&str]) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = self.wrapped(&self.wrapper, &[&["run"], options].concat());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
    }

    pub fn config(&self) -> String {
        fs::read_to_string(self.dir.join("haclusterd.toml")).unwrap()
    }

    pub fn forget_config(&self) {
        fs::remove_file(self.dir.join("haclusterd.toml")).unwrap();
    }

    pub fn set_config(&self, text: &str) {
        fs::write(self.dir.join("haclusterd.toml"), text).unwrap();
    }

    /// The same key on another host, whose address is the only difference.
    pub fn copy_to(&self, host: usize, dir: PathBuf) -> Node {
        fs::create_dir_all(dir.join("state")).unwrap();
        for file in fs::read_dir(self.dir.join("state")).unwrap().flatten() {
            fs::copy(file.path(), dir.join("state").join(file.file_name())).unwrap();
        }
        let own = self.address();
        let copy = Node::new(self.net, dir, host);
        copy.set_config(&self.config().replace(&own, &format!("10.0.0.{}", 10 + host)));
        copy
    }

    pub fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(self.daemon.as_ref().expect("the daemon runs"))
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the daemon's end.
    pub fn reap(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let until = Instant::now() + Duration::from_secs(5);
            while daemon.try_wait().unwrap().is_none() {
                assert!(Instant::now() < until, "{} does not end:\n{}", self.name(), self.log());
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.reap();
    }

    /// Has it ended, although nobody told it to?
    pub fn has_ended(&mut self) -> bool {
        self.daemon.as_mut().is_some_and(|daemon| daemon.try_wait().unwrap().is_some())
    }

    /// The master and its workers.
    pub fn signal_nginx(&self, signal: Signal) {
        self.nginx.signal(signal);
    }

    pub fn kill_nginx(&mut self) {
        self.nginx.kill();
    }

    pub fn start_nginx(&mut self) {
        self.nginx.start();
    }

    /// `None`: the daemon does not answer.
    pub fn ask(&self, what: &str) -> Option<Value> {
        serde_json::from_slice(&self.run(&[what, "-o", "json"]).stdout).ok()
    }
}

/// A later lab of the same process begins without it.
impl Drop for Node {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
