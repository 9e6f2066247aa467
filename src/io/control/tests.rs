//! A real server on a real socket, and the command's own client.

use super::*;
use futures::FutureExt;
use haclusterd_proto::control::{Request, Response};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use std::{fs, thread};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

struct Node {
    runtime: Runtime,
    directory: TempDir,
}

impl Node {
    fn new() -> Node {
        Node { runtime: Runtime::new().unwrap(), directory: tempfile::tempdir().unwrap() }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("run/control.sock")
    }

    fn bind(&self) -> Result<Server, ControlError> {
        let _inside = self.runtime.enter();
        Server::bind(&self.socket())
    }

    /// Answers each request with its name.
    fn serve(&self) -> Arc<Counters> {
        let server = self.bind().unwrap();
        let counters = server.counters();
        self.runtime.spawn(
            server.run(Arc::new(|request| async move { Response::Done(format!("{request:?}")) }.boxed())),
        );
        counters
    }

    fn ask(&self) -> Result<Response, ControlError> {
        ask(&self.socket(), &Request::Leave, PATIENCE)
    }

    /// Somebody else's daemon, which says `answer` to everything and hangs up.
    fn impostor(&self, answer: &'static str) {
        fs::create_dir(self.directory.path().join("run")).unwrap();
        let listener = UnixListener::bind(self.socket()).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 100]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
    }
}

fn done() -> Response {
    Response::Done("Leave".into())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_request_is_answered_on_a_socket_that_others_may_not_open() {
    let node = Node::new();
    let counters = node.serve();
    assert_eq!(node.ask().unwrap(), done());
    assert_eq!(mode(&node.socket()), 0o660);
    assert_eq!(mode(node.socket().parent().unwrap()), 0o755);
    while counters.answered.load(Relaxed) == 0 {
        thread::yield_now();
    }
}

#[test]
fn a_directory_that_is_there_keeps_its_mode() {
    let node = Node::new();
    let run = node.directory.path().join("run");
    fs::create_dir(&run).unwrap();
    fs::set_permissions(&run, fs::Permissions::from_mode(0o750)).unwrap();
    node.serve();
    assert_eq!(mode(&run), 0o750);
}

#[test]
fn the_socket_goes_with_its_server_and_no_daemon_is_said_to_run() {
    let node = Node::new();
    drop(node.bind().unwrap());
    assert!(!node.socket().exists());
    let error = node.ask().unwrap_err();
    assert!(matches!(error, ControlError::NotRunning(_)), "{error}");
    assert!(error.to_string().contains("`systemctl start haclusterd`"), "{error}");
}

#[test]
fn the_socket_of_a_dead_daemon_is_told_from_a_live_one_and_replaced() {
    let node = Node::new();
    fs::create_dir(node.directory.path().join("run")).unwrap();
    drop(UnixListener::bind(node.socket()).unwrap());
    let error = node.ask().unwrap_err();
    assert!(matches!(error, ControlError::Stale(_)), "{error}");
    node.serve();
    assert_eq!(node.ask().unwrap(), done());
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let node = Node::new();
    node.serve();
    let error = node.bind().unwrap_err();
    assert!(matches!(error, ControlError::Taken(_)), "{error}");
    assert_eq!(node.ask().unwrap(), done());
}

#[test]
fn a_socket_on_which_another_program_listens_is_left_alone() {
    let node = Node::new();
    node.impostor("");
    assert!(matches!(node.bind(), Err(ControlError::Taken(_))));
    assert!(node.socket().exists());
}

#[test]
fn a_file_in_the_way_is_left_alone() {
    let node = Node::new();
    fs::create_dir(node.directory.path().join("run")).unwrap();
    fs::write(node.socket(), "precious").unwrap();
    assert!(matches!(node.bind(), Err(ControlError::NotASocket(_))));
    assert_eq!(fs::read_to_string(node.socket()).unwrap(), "precious");
}

#[test]
fn a_path_longer_than_the_kernel_takes_is_an_error() {
    let node = Node::new();
    let _inside = node.runtime.enter();
    let path = node.directory.path().join("x".repeat(120));
    let error = Server::bind(&path).unwrap_err();
    assert!(error.to_string().contains("listen on"), "{error}");
    assert!(ask(&path, &Request::Snapshot, PATIENCE).is_err());
}

#[test]
fn what_is_no_request_or_too_long_is_refused_and_counted() {
    let node = Node::new();
    let counters = node.serve();
    let long = [b"\"".as_slice(), &[b'a'; MAX_REQUEST], b"\"\n"].concat();
    for (request, why) in [(b"\"dance\"\n".as_slice(), "does not know"), (&long, "at most 65536 bytes")] {
        let mut stream = UnixStream::connect(node.socket()).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        // What was sent too much makes the kernel reset the connection, after the answer.
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.starts_with("{\"error\":") && answer.contains(why), "{answer}");
    }
    while counters.refused.load(Relaxed) < 2 {
        thread::yield_now();
    }
    assert_eq!(node.ask().unwrap(), done());
}

#[test]
fn a_client_that_says_nothing_is_hung_up_on_and_nobody_waits_for_it() {
    let node = Node::new();
    let counters = node.serve();
    let mut silent = UnixStream::connect(node.socket()).unwrap();
    let start = Instant::now();
    assert_eq!(node.ask().unwrap(), done());
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0);
    assert!(start.elapsed() > Duration::from_secs(4));
    assert_eq!(counters.timed_out.load(Relaxed), 1);
}

#[test]
fn beyond_32_silent_clients_others_wait_until_those_are_hung_up_on() {
    let node = Node::new();
    node.serve();
    let _silent: Vec<_> = (0..32).map(|_| UnixStream::connect(node.socket()).unwrap()).collect();
    let early = ask(&node.socket(), &Request::Leave, SHORT).unwrap_err();
    assert!(matches!(early, ControlError::TimedOut { .. }), "{early}");
    assert_eq!(node.ask().unwrap(), done());
}

#[test]
fn a_command_does_not_hang_when_the_daemon_does() {
    let node = Node::new();
    // Bound, and never served: so is a daemon that was stopped.
    let _server = node.bind().unwrap();
    // The kernel's queue takes some, also from those that went; then connecting itself blocks.
    for _ in 0..100 {
        let start = Instant::now();
        let error = ask(&node.socket(), &Request::Snapshot, Duration::from_millis(10)).unwrap_err();
        assert!(matches!(error, ControlError::TimedOut { .. }), "{error}");
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn an_answer_in_drops_does_not_stretch_the_time() {
    let node = Node::new();
    fs::create_dir(node.directory.path().join("run")).unwrap();
    let listener = UnixListener::bind(node.socket()).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while stream.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let start = Instant::now();
    let error = ask(&node.socket(), &Request::Snapshot, SHORT).unwrap_err();
    assert!(matches!(error, ControlError::TimedOut { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_daemon_of_another_version_is_named() {
    let node = Node::new();
    node.impostor("{\"snapshot\":{\"schema\":9,\"version\":\"7.0.0\"}}\n");
    let error = node.ask().unwrap_err();
    assert!(matches!(&error, ControlError::OtherVersion { theirs, .. } if theirs == "7.0.0"), "{error}");
}

#[test]
fn a_daemon_that_hangs_up_is_told_from_one_that_answers() {
    let node = Node::new();
    node.impostor("{\"done\":\"ha");
    assert!(matches!(node.ask(), Err(ControlError::HungUp(_))));
}

#[test]
fn a_user_who_may_not_ask_is_told_so() {
    let node = Node::new();
    node.serve();
    fs::set_permissions(node.socket(), fs::Permissions::from_mode(0o000)).unwrap();
    let socket = node.socket();
    // Root may do everything, by this capability, which a thread may lay down for itself alone.
    let answer = thread::spawn(move || {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::DAC_OVERRIDE);
        set_capabilities(None, sets).unwrap();
        ask(&socket, &Request::Snapshot, PATIENCE)
    });
    let error = answer.join().unwrap().unwrap_err();
    assert!(matches!(error, ControlError::Denied(_)), "{error}");
}

#[test]
fn a_refusal_is_an_error_of_snapshot() {
    let node = Node::new();
    node.impostor("{\"error\":\"not now\"}\n");
    let error = snapshot(&node.socket(), PATIENCE).unwrap_err();
    assert_eq!(error.to_string(), "the daemon refused: not now");
}
