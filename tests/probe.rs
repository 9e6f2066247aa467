//! The checks against a real nginx of their own.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use haclusterd::config::Config;
use haclusterd::engine::health::Outcome;
use haclusterd::io::probe::{self, Running};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
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
        let server = |port| {
            format!(
                "server {{ listen 127.0.0.1:{port}; location / {{ return 200 'ok'; }}\n\
                 location /stub {{ stub_status; }} location /silent {{ return 444; }}\n\
                 location /broken {{ return 503; }} }}"
            )
        };
        Nginx::with(server, directives)
    }

    fn with(server: impl Fn(u16) -> String, directives: &str) -> Nginx {
        let port = free_port();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let config = format!(
            "user root; pid {0}/nginx.pid; error_log {0}/error.log; worker_processes 1;\n\
             events {{ worker_connections 64; }} http {{ access_log off; {1} }}\n",
            root.display(),
            server(port)
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

    fn start_again(&mut self) {
        std::fs::remove_file(self.pid_file()).unwrap();
        self.master = Nginx::spawn(self.dir.path(), "daemon on;");
        self.wait();
    }

    /// Until it listens, and has said who it is and begun to work.
    fn wait(&mut self) {
        let until = Instant::now() + Duration::from_secs(5);
        let works = |nginx: &Nginx| {
            let written = std::fs::read_to_string(nginx.pid_file()).is_ok_and(|pid| !pid.trim().is_empty());
            written && !nginx.workers().is_empty()
        };
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() || !works(self) {
            assert!(Instant::now() < until, "nginx does not start: {:?}", self.master.try_wait());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The whole group, so that no worker outlives the test.
    fn kill_workers(&mut self) {
        let group = rustix::process::Pid::from_child(&self.master);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }

    /// The master, which may have gone into the background, and its workers.
    fn kill_all(&mut self) {
        let master = self.pid();
        Nginx::signal(master, "STOP"); // lest it replace its workers
        let all = [self.workers(), vec![master]].concat();
        all.into_iter().for_each(|pid| Nginx::signal(pid, "KILL"));
        let _ = self.master.wait();
    }

    fn workers(&self) -> Vec<u32> {
        let pid = self.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_ascii_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }

    fn signal_workers(&self, signal: &str) {
        self.workers().into_iter().for_each(|pid| Nginx::signal(pid, signal));
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
    /// The results of one part of a check.
    fn new(check: &str, wanted: &'static str) -> Watch {
        let text = format!("[node]\nname = 'n'\nlisten = '127.0.0.1'\n[[check]]\n{check}");
        let config = Config::parse(&text, Path::new("t.toml")).unwrap();
        let (send, results) = mpsc::channel();
        let report: probe::Report = Arc::new(move |_: &str, part: &str, outcome| {
            if part == wanted {
                let _ = send.send((Instant::now(), outcome));
            }
        });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let guard = runtime.enter();
        let mut running = Running::default();
        running.update(&config, &report);
        drop(guard);
        Watch { results, _running: running, _runtime: runtime }
    }

    fn process(pid_file: &Path) -> Watch {
        Watch::new(&format!("kind = 'nginx'\nlog_dirs = []\npid_file = '{}'", pid_file.display()), "process")
    }

    fn http(port: u16, more: &str) -> Watch {
        let (path, more) = more.split_once(' ').unwrap_or((more, ""));
        let url = format!("url = 'http://127.0.0.1:{port}{path}'");
        Watch::new(&format!("kind = 'http'\n{url}\ninterval = '100ms'\ntimeout = '300ms'\n{more}"), "")
    }

    fn next(&self) -> (Instant, Outcome) {
        self.results.recv_timeout(Duration::from_secs(5)).expect("no result")
    }

    fn reason(&self) -> String {
        match self.next().1 {
            Outcome::Pass => "pass".into(),
            Outcome::Number(number) => number.to_string(),
            Outcome::Warn(reason)
            | Outcome::Saturated(reason)
            | Outcome::Fail(reason)
            | Outcome::Certain(reason) => reason,
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
    assert!(matches!(&outcome, Outcome::Certain(reason) if reason.contains("has exited")), "{outcome:?}");
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
    watch.silent_for(Duration::from_millis(500));
    Nginx::signal(nginx.pid(), "KILL");
    assert!(watch.reason().contains("has exited"), "the new master was followed");
}

#[test]
fn a_pid_file_that_names_no_nginx_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nginx.pid");
    assert!(Watch::process(&file).reason().contains("start nginx, or correct pid_file"));
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
    assert_eq!(Watch::http(nginx.port, "/broken status = '500-599'").reason(), "pass");
    assert_eq!(Watch::http(nginx.port, "/ body = 'ok'").reason(), "pass");
    assert!(
        Watch::http(nginx.port, "/ body = 'ko'")
            .reason()
            .contains("answered 200, but not \"ko\" in the body")
    );
    assert!(
        Watch::http(nginx.port, "/silent").reason().contains("closed the connection without a whole answer")
    );
    assert!(Watch::http(free_port(), "/").reason().contains("connection refused"));
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(Watch::http(hung.local_addr().unwrap().port(), "/").reason().contains("no answer within 300ms"));
}

/// A certificate for www.example.com that ends in so many days.
fn certificate(dir: &Path, days: i64) {
    let now = std::time::SystemTime::now();
    let day = Duration::from_secs(86_400);
    let mut params = rcgen::CertificateParams::new(vec!["www.example.com".into()]).unwrap();
    params.not_before = (now - 90 * day).into();
    params.not_after = match u32::try_from(days) {
        Ok(days) => (now + days * day + day / 2).into(),
        Err(_) => (now - u32::try_from(-days).unwrap() * day).into(),
    };
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(dir.join("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
}

#[test]
fn tls_has_its_own_reasons_and_a_certificates_end_is_told_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let said = |days, more: &str| {
        certificate(dir.path(), days);
        let [cert, key] = ["cert.pem", "key.pem"].map(|file| dir.path().join(file).display().to_string());
        let server = |port| {
            format!(
                "server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key};\n\
                     location / {{ return 200 '$ssl_server_name'; }} }}"
            )
        };
        let nginx = Nginx::with(server, "daemon off;");
        let url = format!("url = 'https://127.0.0.1:{}/'\nhost = 'www.example.com'", nginx.port);
        Watch::new(&format!("kind = 'http'\n{url}\n{more}"), "").reason()
    };
    let own = format!("ca = '{}'", dir.path().join("cert.pem").display());
    assert_eq!(said(30, "body = 'www.example.com'"), "pass", "the name is sent");
    assert_eq!(said(30, &own), "pass");
    assert!(said(30, "").eq("pass"), "whose it is does not count without a CA");
    assert!(said(10, "").ends_with("its certificate expires in 10 days"));
    assert_eq!(said(10, "certificate_warning = '5days'"), "pass");
    assert!(said(-3, "").ends_with("its certificate expired 3 days ago"));
    let other = tempfile::tempdir().unwrap();
    certificate(other.path(), 30);
    let foreign = said(30, &format!("ca = '{}'", other.path().join("cert.pem").display()));
    assert!(foreign.contains(": TLS: ") && foreign.contains("certificate"), "{foreign}");
    let plain = Nginx::start();
    let url = format!("kind = 'http'\nurl = 'https://127.0.0.1:{}/'", plain.port);
    assert!(Watch::new(&url, "").reason().contains(": TLS: "));
}

/// Connections that have asked for half a page, so that nginx keeps them. Those that have not asked yet when room gets
/// scarce it closes, so they come in turn.
fn crowd(port: u16, size: usize) -> Vec<TcpStream> {
    let half = |_| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n");
        std::thread::sleep(Duration::from_millis(2));
        stream
    };
    (0..size).map(half).collect()
}

fn watch_nginx(nginx: &Nginx, part: &'static str, more: &str) -> Watch {
    let pid = nginx.pid_file();
    Watch::new(
        &format!(
            "kind = 'nginx'\npid_file = '{}'\ninterval = '100ms'\ntimeout = '300ms'\n{more}",
            pid.display()
        ),
        part,
    )
}

#[test]
fn what_is_not_said_is_found_in_the_configuration_of_the_nginx_that_runs() {
    let nginx = Nginx::start();
    assert_eq!(watch_nginx(&nginx, "http", "").reason(), "pass");
    assert_eq!(watch_nginx(&nginx, "logs", "").reason(), "pass");
    nginx.signal_workers("STOP");
    let text = watch_nginx(&nginx, "http", "").reason();
    assert!(text.starts_with(&format!("http://127.0.0.1:{}/: no answer", nginx.port)), "{text}");
    nginx.signal_workers("CONT");
}

#[test]
fn a_crowd_at_the_limit_is_no_failure_and_a_worker_that_hangs_is_one() {
    let nginx = Nginx::start();
    let watch = watch_nginx(&nginx, "http", "");
    assert_eq!(watch.next().1, Outcome::Pass);
    let crowd = crowd(nginx.port, 160);
    let saturated = |outcome: &Outcome| match outcome {
        Outcome::Saturated(why) => why.contains("of 64 worker_connections in use"),
        _ => false,
    };
    let until = Instant::now() + Duration::from_secs(5);
    while !saturated(&watch.next().1) {
        assert!(Instant::now() < until);
    }
    for _ in 0..5 {
        let outcome = watch.next().1;
        assert!(saturated(&outcome), "{outcome:?}");
    }
    // Hung in the crowd: at its limit as before, and silent.
    nginx.signal_workers("STOP");
    let until = Instant::now() + Duration::from_secs(5);
    while !matches!(watch.next().1, Outcome::Fail(why) if why.contains("no answer within 300ms")) {
        assert!(Instant::now() < until);
    }
    nginx.signal_workers("CONT");
    drop(crowd);
    let until = Instant::now() + Duration::from_secs(5);
    while watch.next().1 != Outcome::Pass {
        assert!(Instant::now() < until);
    }
}

#[test]
fn a_reload_is_followed_although_an_old_worker_still_serves_somebody() {
    let nginx = Nginx::start_with("daemon on;");
    let watch = watch_nginx(&nginx, "http", "");
    assert_eq!(watch.next().1, Outcome::Pass);
    let _slow = crowd(nginx.port, 1);
    let conf = nginx.dir.path().join("nginx.conf");
    let moved = free_port();
    let text = std::fs::read_to_string(&conf).unwrap();
    let text = text.replace(&nginx.port.to_string(), &moved.to_string());
    std::fs::write(&conf, text.replace("http {", "http { client_header_timeout 1h;")).unwrap();
    Nginx::signal(nginx.pid(), "HUP");
    let reloaded = Instant::now();
    let followed = |(at, outcome): (Instant, Outcome)| {
        assert!(at < reloaded + Duration::from_secs(5), "{outcome:?}");
        at > reloaded + Duration::from_secs(1) && outcome == Outcome::Pass
    };
    while !followed(watch.next()) {}
    assert_eq!(watch.next().1, Outcome::Pass);
}

/// nginx runs by what it has read; what is in the file by now is not its fault.
#[test]
fn a_configuration_that_is_broken_by_now_makes_nobody_fail() {
    let nginx = Nginx::start_with("daemon on;");
    std::fs::write(nginx.dir.path().join("nginx.conf"), "nonsense").unwrap();
    let watch = |part| watch_nginx(&nginx, part, "");
    assert_eq!(watch("process").reason(), "pass");
    let said = watch("http").reason();
    assert!(said.contains("does not say where it listens") && said.ends_with("give `url`"), "{said}");
}

#[test]
fn without_a_file_for_another_connection_nginx_is_saturated_also_between_its_attempts() {
    let nginx = Nginx::with(
        |port| format!("server {{ listen 127.0.0.1:{port}; location / {{ return 200 'ok'; }} }}"),
        "daemon on; worker_rlimit_nofile 24;",
    );
    let watch = watch_nginx(&nginx, "http", "");
    assert_eq!(watch.next().1, Outcome::Pass);
    let _crowd = crowd(nginx.port, 40);
    let until = Instant::now() + Duration::from_secs(5);
    while !matches!(watch.next().1, Outcome::Saturated(_)) {
        assert!(Instant::now() < until);
    }
    for _ in 0..10 {
        let outcome = watch.next().1;
        assert!(matches!(&outcome, Outcome::Saturated(_)), "{outcome:?}");
    }
}

#[test]
fn nginxs_own_count_tells_of_a_crowd_before_the_limit_is_reached() {
    let nginx = Nginx::start();
    let stub = format!("stub_status = 'http://127.0.0.1:{}/stub'", nginx.port);
    let watch = watch_nginx(&nginx, "http", &stub);
    assert_eq!(watch.next().1, Outcome::Pass);
    // nine tenths of 64, of which the check is one
    let _crowd = crowd(nginx.port, 57);
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match watch.next().1 {
            Outcome::Saturated(why) if why.ends_with("of 64 connections in use") => break,
            _ => assert!(Instant::now() < until),
        }
    }
}

#[test]
fn a_dead_nginx_is_brought_back_once() {
    let mut nginx = Nginx::start_with("daemon on;");
    let script = nginx.dir.path().join("start");
    let conf = nginx.dir.path().join("nginx.conf");
    let line =
        format!("#!/bin/sh\nexec /usr/sbin/nginx -p {} -c {}\n", nginx.dir.path().display(), conf.display());
    std::fs::write(&script, line).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let restart = format!("restart = ['{}']\nrestart_timeout = '3s'", script.display());
    let watch = watch_nginx(&nginx, "process", &restart);
    assert_eq!(watch.next().1, Outcome::Pass);
    nginx.kill_all();
    assert!(watch.reason().ends_with("it is being restarted"));
    assert_eq!(watch.next().1, Outcome::Pass);
    nginx.kill_all();
    let outcome = watch.next().1;
    assert!(
        matches!(&outcome, Outcome::Certain(why) if why.ends_with("has exited")),
        "not twice: {outcome:?}"
    );
}

#[test]
fn an_nginx_that_does_not_come_back_is_given_up_with_the_reason() {
    let mut nginx = Nginx::start_with("daemon on;");
    for (command, said) in [
        ("['/bin/sh', '-c', 'echo no such unit; exit 5']", "failed: exit code 5 no such unit"),
        ("['/bin/true']", "`/bin/true` did not bring it back within 300ms: it does not run"),
        ("['/bin/sleep', '60']", "`/bin/sleep 60` failed: it did not end in time"),
    ] {
        let watch =
            watch_nginx(&nginx, "process", &format!("restart = {command}\nrestart_timeout = '300ms'"));
        assert_eq!(watch.next().1, Outcome::Pass);
        nginx.kill_all();
        assert!(watch.reason().ends_with("it is being restarted"));
        let outcome = watch.next().1;
        assert!(
            matches!(&outcome, Outcome::Certain(why) if why.contains(said)),
            "{said} is not in {outcome:?}"
        );
        nginx.start_again();
    }
}

#[test]
fn a_script_that_sleeps_for_ever_fails_in_time_and_delays_nobody() {
    let script =
        |command: &str| Watch::new(&format!("kind = 'script'\ncommand = {command}\ninterval = '100ms'"), "");
    assert_eq!(script("['/bin/true']").reason(), "pass");
    assert_eq!(script("['/bin/sh', '-c', 'echo broken; exit 3']").reason(), "exit code 3: broken");
    assert_eq!(script("['/bin/sh', '-c', 'kill -9 $$']").reason(), "killed by signal 9");
    let sleeper = script("['/bin/sh', '-c', 'trap \"\" TERM; sleep 60']");
    let began = Instant::now();
    assert_eq!(sleeper.reason(), "no end within 100ms");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(sleeper.reason().contains("an earlier run has not ended yet"), "one at a time");
}

#[test]
fn other_kinds_say_what_they_see() {
    let port = free_port();
    let tcp = Watch::new(&format!("kind = 'tcp'\naddress = '127.0.0.1:{port}'\ninterval = '50ms'"), "");
    assert!(tcp.reason().contains("connection refused"));
    let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    while tcp.reason() != "pass" {}

    let process = Watch::new("kind = 'process'\ncommand = ['/bin/sleep', '98765']\ninterval = '20ms'", "");
    assert_eq!(process.reason(), "0 of 1 processes of /bin/sleep 98765 run");
    let mut sleeper = Command::new("/bin/sleep").arg("98765").spawn().unwrap();
    while process.reason() != "pass" {}
    sleeper.kill().unwrap();
    while process.reason() == "pass" {}
    sleeper.wait().unwrap();

    let interface =
        |name: &str| Watch::new(&format!("kind = 'interface'\ninterface = '{name}'"), "").reason();
    assert_eq!(interface("lo"), "pass");
    assert_eq!(interface("nosuch0"), "there is no interface nosuch0");
    let ping = |address: &str| {
        let gateway = format!("kind = 'gateway'\naddress = '{address}'\nmethod = 'icmp'\ntimeout = '200ms'");
        Watch::new(&gateway, "").reason()
    };
    assert_eq!(ping("127.0.0.1"), "pass");
    assert_eq!(ping("::1"), "pass");
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
    let broken_off = answer("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", 0);
    assert!(broken_off.contains("closed the connection without a whole answer"), "{broken_off}");
}
