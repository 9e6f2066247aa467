//! The daemon's side. It asks its handler; what an answer means is not its business.

use super::{ControlError, MAX_REQUEST, io_error};
use futures::future::BoxFuture;
use haclusterd_proto::control::{Request, Response};
use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Who is in the group of the socket's file may look; root and the daemon's own user may act; others may not even ask.
const MODE: u32 = 0o660;
const GROUP: &str = "haclusterd";
const DIRECTORY_MODE: u32 = 0o755;
/// A request is one short line, sent at once; and an answer is read at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// A leave hands every VIP over first; what takes longer than this has hung.
const HANDLER_PATIENCE: Duration = Duration::from_secs(30);
/// Operators and their monitoring ask now and then. More than these wait in the kernel's queue.
const MAX_AT_ONCE: usize = 32;
/// The kernel's queue; whoever finds it full waits until its own time is up.
const BACKLOG: i32 = 64;
/// Accepting fails when descriptors run out: a pause, which also bounds the log to a line a second.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

pub type Handler = Arc<dyn Fn(Request) -> BoxFuture<'static, Response> + Send + Sync>;

#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    counters: Arc<Counters>,
    _file: SocketFile,
}

#[derive(Debug, Default)]
pub struct Counters {
    pub answered: AtomicU64,
    /// Not a request, or too long.
    pub refused: AtomicU64,
    /// Too slow to ask, to answer or to read the answer.
    pub timed_out: AtomicU64,
}

/// The socket's place in the file system, for as long as it lives.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Held by at most one daemon, so that no other takes the file for stale, or we theirs.
    _lock: File,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Server {
    /// Clients may connect from now on. To be called within a tokio runtime.
    pub fn bind(path: &Path) -> Result<Server, ControlError> {
        make_directory(path)?;
        let lock = lock(path)?;
        remove_stale(path)?;
        let (listener, _file) = listen(path, lock)?;
        Ok(Server { listener, counters: Arc::default(), _file })
    }

    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Serves until it is dropped. An answer that is under way then is still given, if the runtime lives on.
    pub async fn run(self, handler: Handler) {
        let slots = Arc::new(Semaphore::new(MAX_AT_ONCE));
        while let Ok(slot) = slots.clone().acquire_owned().await {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let served = serve(stream, handler.clone(), self.counters.clone());
                    tokio::spawn(async move {
                        served.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the kernel refuses connections on the control socket");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve(mut stream: UnixStream, handler: Handler, counters: Arc<Counters>) {
    let line = match timeout(PATIENCE, read_line(&mut stream)).await {
        Ok(Ok(line)) if !line.is_empty() => line,
        // Somebody looked whether we live, or went away.
        Ok(_) => return,
        Err(_) => return count(&counters.timed_out),
    };
    let (response, counter) = match parse(&line) {
        Err(why) => (Response::Error(why), &counters.refused),
        Ok(request) if request.acts() && !may_act(&stream) => {
            (Response::Error(forbidden()), &counters.refused)
        }
        Ok(request) => match timeout(HANDLER_PATIENCE, handler(request)).await {
            Ok(response) => (response, &counters.answered),
            Err(_) => (Response::Error(hung()), &counters.timed_out),
        },
    };
    count(match timeout(PATIENCE, write_line(&mut stream, &response)).await {
        Ok(_) => counter,
        Err(_) => &counters.timed_out,
    });
}

/// By what the kernel says of the other end.
fn may_act(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|who| who.uid() == 0 || who.uid() == rustix::process::geteuid().as_raw())
}

fn forbidden() -> String {
    "members of the socket's group may look and not act: run the command as root (sudo) or as the daemon's user".into()
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

fn hung() -> String {
    format!("the daemon's main loop did not answer within {HANDLER_PATIENCE:?}: see its log, and restart it")
}

async fn read_line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let limit = MAX_REQUEST as u64 + 1;
    BufReader::new(stream.take(limit)).read_until(b'\n', &mut line).await?;
    Ok(line)
}

fn parse(line: &[u8]) -> Result<Request, String> {
    if line.len() > MAX_REQUEST {
        return Err(format!("a request is one line of at most {MAX_REQUEST} bytes"));
    }
    let version = env!("CARGO_PKG_VERSION");
    serde_json::from_slice(line).map_err(|error| {
        format!("haclusterd {version} does not know this request ({error}): use the command of its version")
    })
}

async fn write_line(stream: &mut UnixStream, response: &Response) -> io::Result<()> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

fn make_directory(path: &Path) -> Result<(), ControlError> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    let Some(directory) = directory.filter(|directory| !directory.exists()) else { return Ok(()) };
    let failed = io_error("make the socket's directory", directory);
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory).map_err(&failed)?;
    // Whatever the umask was.
    fs::set_permissions(directory, Permissions::from_mode(DIRECTORY_MODE)).map_err(failed)
}

/// The lock's file stays for ever: once removed, two daemons could each hold a file of that name.
fn lock(path: &Path) -> Result<File, ControlError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(&name).map_err(io_error("open", &name))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(ControlError::Taken(path.into())),
        Err(error) => Err(io_error("lock", &name)(error.into())),
    }
}

/// The lock is ours, so a socket that is still there is either dead or somebody else's.
fn remove_stale(path: &Path) -> Result<(), ControlError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("look at", path)(error)),
        Ok(there) if !there.file_type().is_socket() => return Err(ControlError::NotASocket(path.into())),
        Ok(_) => {}
    }
    match try_connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(io_error("remove the stale socket", path))
        }
        // Whatever else the kernel says, somebody listens.
        _ => Err(ControlError::Taken(path.into())),
    }
}

/// Where there is no such group, or this process may not give files away, the daemon's own may look.
fn give_to_group(path: &Path) {
    if let Ok(Some(group)) = nix::unistd::Group::from_name(GROUP) {
        let _ = std::os::unix::fs::chown(path, None, Some(group.gid.as_raw()));
    }
}

fn try_connect(path: &Path) -> io::Result<()> {
    // Not blocking: the listener's queue may be full.
    Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?.connect(&SockAddr::unix(path)?)
}

fn listen(path: &Path, lock: File) -> Result<(UnixListener, SocketFile), ControlError> {
    let failed = io_error("listen on", path);
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).map_err(&failed)?;
    // The file gets the socket's mode less the umask: so it is never open to others, not even for a moment.
    fchmod(&socket, Mode::from_raw_mode(MODE)).map_err(|error| failed(error.into()))?;
    SockAddr::unix(path).and_then(|address| socket.bind(&address)).map_err(&failed)?;
    let file = SocketFile { path: path.into(), _lock: lock };
    fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(&failed)?;
    give_to_group(path);
    socket.listen(BACKLOG).map_err(&failed)?;
    let listener = UnixListener::from_std(socket.into()).map_err(&failed)?;
    Ok((listener, file))
}
