//! The checks against a real nginx of their own.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use haclusterd::config::Config;
use haclusterd::engine::health::Outcome;
use haclusterd::io::probe::{self, Running};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

struct Nginx {
    dir: tempfile::TempDir,
    master: Child,
    port: u16,
}

impl Nginx {
    fn start() -> Nginx {
        Nginx::start_with("daemon off;")
    }

    fn start_with(directives: &str) -> Nginx {
        let port = free_port();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let config = format!(
            "user root; pid {0}/nginx.pid; error_log {0}/error.log; worker_processes 1; events {{}}\n\
             http {{ access_log off; server {{ listen 127.0.0.1:{port}; location / {{ return 200 'ok'; }}\n\
             location /broken {{ return 503; }} }} }}\n",
            root.display()
        );
        std::fs::write(root.join("nginx.conf"), config).unwrap();
        let mut nginx = Nginx { master: Nginx::spawn(root, directives), dir, port };
        nginx.wait();
        nginx
    }

    fn spawn(root: &Path, directives: &str) -> Child {
        let conf = root.join("nginx.conf");
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-p").arg(root).arg("-c").arg(conf).args(["-g", directives]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        command.spawn().expect("nginx is not installed")
    }

    fn wait(&mut self) {
        let until = Instant::now() + Duration::from_secs(5);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "nginx does not start: {:?}", self.master.try_wait());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The whole group, so that no worker outlives the test.
    fn kill_workers(&mut self) {
        let group = rustix::process::Pid::from_child(&self.master);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.path().join("nginx.pid")
    }

    fn pid(&self) -> u32 {
        std::fs::read_to_string(self.pid_file()).unwrap().trim().parse().unwrap()
    }

    fn signal(pid: u32, signal: &str) {
        assert!(
            Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap().success()
        );
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ =
            std::fs::read_to_string(self.pid_file()).map(|pid| Command::new("kill").arg(pid.trim()).status());
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

struct Watch {
    results: mpsc::Receiver<(Instant, Outcome)>,
    _running: Running,
    _runtime: tokio::runtime::Runtime,
}

impl Watch {
    fn new(nginx: &str) -> Watch {
        let text = format!("[node]\nname = 'n'\nlisten = '127.0.0.1'\n[nginx]\n{nginx}");
        let config = Config::parse(&text, Path::new("t.toml")).unwrap();
        let (send, results) = mpsc::channel();
        let report: probe::Report =
            Arc::new(move |_: &str, outcome| drop(send.send((Instant::now(), outcome))));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let guard = runtime.enter();
        let running = probe::start(config.nginx.as_ref(), &report);
        drop(guard);
        Watch { results, _running: running, _runtime: runtime }
    }

    fn process(pid_file: &Path) -> Watch {
        Watch::new(&format!("pid_file = '{}'", pid_file.display()))
    }

    fn http(port: u16, path: &str) -> Watch {
        Watch::new(&format!("url = 'http://127.0.0.1:{port}{path}'\ninterval = '100ms'\ntimeout = '300ms'"))
    }

    fn next(&self) -> (Instant, Outcome) {
        self.results.recv_timeout(Duration::from_secs(5)).expect("no result")
    }

    fn reason(&self) -> String {
        match self.next().1 {
            Outcome::Pass => "pass".into(),
            Outcome::Fail(reason) | Outcome::Dead(reason) => reason,
        }
    }

    fn silent_for(&self, span: Duration) {
        assert!(self.results.recv_timeout(span).is_err(), "a flap");
    }
}

#[test]
fn the_masters_death_is_known_at_once_and_a_new_master_is_followed() {
    let mut nginx = Nginx::start();
    let watch = Watch::process(&nginx.pid_file());
    assert_eq!(watch.next().1, Outcome::Pass);
    let killed = Instant::now();
    nginx.master.kill().unwrap();
    let (seen, outcome) = watch.next();
    assert!(matches!(&outcome, Outcome::Dead(reason) if reason.contains("has exited")), "{outcome:?}");
    println!("nginx's death was known after {:?}", seen - killed);
    assert!(seen - killed < Duration::from_secs(1));
    nginx.master.wait().unwrap();
    // Its orphaned worker holds the port.
    nginx.kill_workers();
    std::thread::sleep(Duration::from_millis(200));
    nginx.master = Nginx::spawn(nginx.dir.path(), "daemon off;");
    assert_eq!(watch.next().1, Outcome::Pass);
}

#[test]
fn a_reload_and_a_binary_upgrade_are_no_death() {
    let nginx = Nginx::start_with("daemon on;"); // in the foreground nginx refuses to be upgraded
    let watch = Watch::process(&nginx.pid_file());
    assert_eq!(watch.next().1, Outcome::Pass);
    let old = nginx.pid();
    Nginx::signal(old, "HUP");
    watch.silent_for(Duration::from_millis(500));
    Nginx::signal(old, "USR2");
    std::thread::sleep(Duration::from_millis(700));
    Nginx::signal(old, "QUIT");
    assert_eq!(watch.next().1, Outcome::Pass, "the new master is followed");
    watch.silent_for(Duration::from_millis(300));
}

#[test]
fn a_pid_file_that_names_no_nginx_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nginx.pid");
    assert!(Watch::process(&file).reason().contains("start nginx, or correct nginx.pid_file"));
    std::fs::write(&file, std::process::id().to_string()).unwrap();
    assert!(Watch::process(&file).reason().contains("not nginx"));
    std::fs::write(&file, "zero").unwrap();
    assert!(Watch::process(&file).reason().contains("holds no process id"));
}

#[test]
fn each_failure_of_a_request_has_its_own_reason() {
    let nginx = Nginx::start();
    assert_eq!(Watch::http(nginx.port, "/").reason(), "pass");
    assert!(Watch::http(nginx.port, "/broken").reason().ends_with("answered 503"));
    assert!(Watch::http(free_port(), "/").reason().contains("connection refused"));
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(Watch::http(hung.local_addr().unwrap().port(), "/").reason().contains("no answer within 300ms"));
}

#[test]
fn an_answer_that_is_slow_but_in_time_passes_and_one_that_is_no_http_does_not() {
    let answer = |text: &'static str, pause: u64| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            std::thread::sleep(Duration::from_millis(pause));
            let _ = stream.write_all(text.as_bytes());
        });
        Watch::http(port, "/").reason()
    };
    assert_eq!(answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 150), "pass");
    assert!(answer("what?\r\n\r\n", 0).contains("no proper answer"));
    assert!(answer("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", 0).contains("no proper answer"));
}
