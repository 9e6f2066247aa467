//! A command's side. Blocking, because a command has nothing else to do, and bounded in time, because an operator
//! asks most when the daemon is in trouble.

use super::{ControlError, MAX_RESPONSE};
use haclusterd_proto::control::{Request, Response, SCHEMA, Snapshot};
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Asks for what the daemon knows.
pub fn snapshot(path: &Path, timeout: Duration) -> Result<Snapshot, ControlError> {
    match ask(path, &Request::Snapshot, timeout)? {
        Response::Snapshot(snapshot) => Ok(*snapshot),
        Response::Error(why) => Err(ControlError::Refused(why)),
        _ => Err(ControlError::OtherVersion { path: path.into(), theirs: "it gives another answer".into() }),
    }
}

/// One request, one answer. `timeout` is for all of it.
pub fn ask(path: &Path, request: &Request, timeout: Duration) -> Result<Response, ControlError> {
    let answer = converse(path, request, timeout).map_err(|error| explain(path, timeout, error))?;
    decode(&answer).map_err(|theirs| ControlError::OtherVersion { path: path.into(), theirs })
}

fn converse(path: &Path, request: &Request, timeout: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + timeout;
    let mut stream = connect(path, timeout)?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    read_line(&mut stream, deadline)
}

fn connect(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Bounds connecting as well: it blocks while the queue of a daemon that hangs is full.
    socket.set_write_timeout(Some(timeout))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket.into())
}

fn read_line(stream: &mut UnixStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut chunk = [0; 16 * 1024];
    while line.last() != Some(&b'\n') {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => line.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if line.len() > MAX_RESPONSE {
            return Err(io::Error::other(format!("it answers more than {MAX_RESPONSE} bytes")));
        }
    }
    Ok(line)
}

fn explain(path: &Path, timeout: Duration, error: io::Error) -> ControlError {
    let path = path.to_path_buf();
    match error.kind() {
        ErrorKind::NotFound => ControlError::NotRunning(path),
        ErrorKind::ConnectionRefused => ControlError::Stale(path),
        ErrorKind::PermissionDenied => ControlError::Denied(path),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => ControlError::TimedOut { path, waited: timeout },
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
            ControlError::HungUp(path)
        }
        _ => ControlError::Io { what: "ask the daemon through", path, source: error },
    }
}

/// The error says what the other version is, as far as it can be told.
fn decode(line: &[u8]) -> Result<Response, String> {
    match serde_json::from_slice(line) {
        Ok(Response::Snapshot(snapshot)) if snapshot.schema != SCHEMA => {
            Err(format!("{}, schema {}", snapshot.version, snapshot.schema))
        }
        Ok(response) => Ok(response),
        Err(error) => {
            let value: Value = serde_json::from_slice(line).unwrap_or_default();
            let version = value.pointer("/snapshot/version").and_then(Value::as_str);
            Err(version.map_or_else(|| error.to_string(), str::to_owned))
        }
    }
}
