//! A host's real nginx, and what can go wrong with it.

use crate::crowd::Crowd;
use crate::disk::Disk;
use crate::net::Net;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, waitpgid};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The logs, also one of each request, are on a disk of their own.
    pub disk: bool,
    /// For how many connections at once, its own included.
    pub connections: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options { disk: false, connections: 512 }
    }
}

pub struct Nginx {
    net: Net,
    host: usize,
    root: PathBuf,
    disk: Option<Disk>,
    crowd: Option<Crowd>,
    /// The first master's, which its workers and every later master inherit.
    group: Pid,
}

impl Nginx {
    pub fn new(net: Net, root: PathBuf, host: usize) -> Nginx {
        fs::create_dir_all(root.join("logs")).unwrap();
        fs::write(root.join("nginx.conf"), config(&root, host, Options::default())).unwrap();
        let group = start(net, &root, host);
        Nginx { net, host, root, disk: None, crowd: None, group }
    }

    /// Starts it anew with these.
    pub fn set(&mut self, options: Options) {
        self.kill();
        fs::write(self.root.join("nginx.conf"), config(&self.root, self.host, options)).unwrap();
        self.disk = None;
        self.disk = options.disk.then(|| Disk::new(&self.root.join("logs")));
        self.start();
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// As it is started.
    pub fn start_line(&self) -> String {
        let root = self.root.display();
        format!("/usr/sbin/nginx -p {root} -c {root}/nginx.conf")
    }

    /// One that somebody else started.
    pub fn adopt(&mut self) {
        let master = until("nginx runs", || at_work(&self.pid_file()));
        self.group = rustix::process::getpgid(Some(master)).unwrap();
    }

    pub fn pid_file(&self) -> PathBuf {
        self.root.join("nginx.pid")
    }

    pub fn error_log(&self) -> String {
        fs::read_to_string(self.root.join("logs/error.log")).unwrap_or_default()
    }

    /// To the master and its workers.
    pub fn signal(&self, signal: Signal) {
        kill_process_group(self.group, signal).unwrap();
    }

    /// To those who answer; the kernel goes on to accept for them.
    pub fn signal_workers(&self, signal: Signal) {
        self.workers().into_iter().for_each(|worker| kill_process(worker, signal).unwrap());
    }

    pub fn workers(&self) -> Vec<Pid> {
        children(self.master())
    }

    pub fn master(&self) -> Pid {
        read(&self.pid_file()).expect("nginx runs")
    }

    /// All of it, and waits for its end.
    pub fn kill(&mut self) {
        // It may be dead already.
        let _ = kill_process_group(self.group, Signal::KILL);
        // The lab is the first process of its namespace, so a child of nobody else's is its own.
        while waitpgid(self.group, WaitOptions::empty()).is_ok() {}
    }

    pub fn start(&mut self) {
        self.group = start(self.net, &self.root, self.host);
    }

    /// The configuration is read again.
    pub fn reload(&self) {
        kill_process(self.master(), Signal::HUP).unwrap();
    }

    /// Another program takes the sockets over, while the one before goes on until the other runs.
    pub fn upgrade(&self) {
        let old = self.master();
        kill_process(old, Signal::USR2).unwrap();
        until("another nginx runs", || at_work(&self.pid_file()).filter(|new| *new != old));
        kill_process(old, Signal::QUIT).unwrap();
    }

    pub fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("the option `disk`")
    }

    /// The logs, after something was done to their disk.
    pub fn reopen_logs(&self) {
        kill_process(self.master(), Signal::USR1).unwrap();
    }

    /// It has no connection left: who comes now is turned away without an answer.
    pub fn saturate(&mut self) {
        let web = SocketAddr::from(([10, 0, 0, 10 + self.host as u8], 80));
        self.crowd = Some(Crowd::gather(self.net, web));
    }

    pub fn relieve(&mut self) {
        self.crowd = None;
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.kill();
    }
}

fn config(root: &Path, host: usize, options: Options) -> String {
    let root = root.display();
    let access_log = if options.disk { format!("{root}/logs/access.log") } else { "off".to_owned() };
    format!(
        "user root; pid {root}/nginx.pid; error_log {root}/logs/error.log; worker_processes 1;\n\
         events {{ worker_connections {}; }}\n\
         http {{\n\
           access_log {access_log};\n\
           client_header_timeout 1h;\n\
           server {{ listen 80; listen [::]:80; location / {{ return 200 'lb{host}'; }} }}\n\
         }}\n",
        options.connections
    )
}

/// The master, a daemon: a child of the process that started it would take no other program's place (USR2).
fn start(net: Net, root: &Path, host: usize) -> Pid {
    let file = root.join("nginx.pid");
    let _ = fs::remove_file(&file);
    let mut command = net.command(host, "/usr/sbin/nginx");
    command.arg("-p").arg(root).arg("-c").arg(root.join("nginx.conf"));
    let started = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(started.success(), "nginx does not start: is nginx installed?");
    until("nginx runs", || at_work(&file))
}

fn read(file: &Path) -> Option<Pid> {
    pid(fs::read_to_string(file).ok()?.trim())
}

/// The master, once it has workers.
fn at_work(file: &Path) -> Option<Pid> {
    read(file).filter(|master| !children(*master).is_empty())
}

fn children(of: Pid) -> Vec<Pid> {
    let of = of.as_raw_nonzero();
    let listed = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(pid).collect()
}

fn pid(text: &str) -> Option<Pid> {
    Pid::from_raw(text.parse().ok()?)
}

fn until<T>(what: &str, happens: impl Fn() -> Option<T>) -> T {
    let limit = Instant::now() + PATIENCE;
    loop {
        if let Some(it) = happens() {
            return it;
        }
        assert!(Instant::now() < limit, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What is done to it is what it is called.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::alone;
    use crate::lab;

    fn with(options: Options, body: impl FnOnce(&mut Nginx)) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("nginx");
        let mut nginx = Nginx::new(Net::new(1), root, 1);
        nginx.set(options);
        body(&mut nginx);
    }

    fn answers() -> bool {
        lab::who_answers(Net, [10, 0, 0, 11].into()).is_some_and(|who| who == "lb1")
    }

    fn soon(what: &str, so: impl Fn() -> bool) {
        until(what, || so().then_some(()));
    }

    #[test]
    fn stopped_workers_answer_nobody_and_go_on() {
        alone(|| {
            with(Options::default(), |nginx| {
                nginx.signal_workers(Signal::STOP);
                assert!(!answers());
                nginx.signal_workers(Signal::CONT);
                assert!(answers());
            });
        });
    }

    #[test]
    fn nginx_at_its_limit_turns_clients_away() {
        alone(|| {
            with(Options { connections: 32, ..Options::default() }, |nginx| {
                nginx.saturate();
                assert!(!answers());
                assert!(nginx.error_log().contains("32 worker_connections are not enough"));
                nginx.relieve();
                soon("it has connections again", answers);
            });
        });
    }

    #[test]
    fn another_nginx_takes_over_and_another_again() {
        alone(|| {
            with(Options::default(), |nginx| {
                for _ in 0..2 {
                    let worker = nginx.workers()[0];
                    nginx.reload();
                    soon("other workers", || nginx.workers().iter().all(|other| *other != worker));
                    let master = nginx.master();
                    nginx.upgrade();
                    assert_ne!(nginx.master(), master);
                    assert!(answers());
                }
                nginx.kill();
                assert!(!answers());
                nginx.start();
                assert!(answers());
            });
        });
    }

    /// What every program sees, also one of a mount namespace of its own, as nginx is.
    fn seen_at_the_host(program: &str, words: &[&str], nginx: &Nginx) -> bool {
        let logs = nginx.root.join("logs");
        Net.command(1, program).args(words).arg(logs.join("new")).output().unwrap().status.success()
    }

    fn logs_requests(nginx: &Nginx) -> bool {
        let length = || fs::metadata(nginx.root.join("logs/access.log")).map_or(0, |file| file.len());
        let before = length();
        // More than a block, which the file may still have.
        (0..50).for_each(|_| assert!(answers()));
        length() > before + 40 * 60
    }

    #[test]
    fn the_disk_of_the_logs_fills_fails_and_goes_away() {
        alone(|| {
            with(Options { disk: true, ..Options::default() }, |nginx| {
                assert!(logs_requests(nginx));
                nginx.disk().fill();
                assert!(!logs_requests(nginx));
                nginx.disk().free();
                // For a second after it found the disk full, nginx does not try again.
                soon("it logs again", || logs_requests(nginx));
                nginx.disk().fail();
                assert!(!logs_requests(nginx));
                assert!(!seen_at_the_host("touch", &[], nginx));
                nginx.disk().replace();
                nginx.reopen_logs();
                soon("the logs are there again", || logs_requests(nginx));
                assert!(seen_at_the_host("touch", &[], nginx));
                nginx.disk().unmount_lazily();
                assert!(!seen_at_the_host("test", &["-e"], nginx));
                assert!(answers());
                nginx.disk().mount();
            });
        });
    }
}
