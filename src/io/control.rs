//! The local socket, by which commands ask the daemon: one connection carries one request and one answer, each a
//! line of JSON ([`haclusterd_proto::control`]).
//!
//! The daemon holds the [`Server`]; a command calls [`ask`], which is done when its time is up, whatever the
//! daemon does.

mod client;
mod server;

pub use client::{ask, snapshot};
pub use server::{Counters, Handler, Server};

use haclusterd_proto::control::SCHEMA;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Today's requests are one word; this leaves room, and none for filling the daemon's memory.
const MAX_REQUEST: usize = 64 * 1024;
/// Some 4000 members at the length of their longest line; a daemon that says more is not ours.
const MAX_RESPONSE: usize = 4 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error(
        "no daemon is running: there is no socket {0:?}; start it with `haclusterd run` or \
             `systemctl start haclusterd`, or name another socket with --socket"
    )]
    NotRunning(PathBuf),
    #[error(
        "no daemon is running: nobody listens on {0:?}, which a daemon that died left behind; start it with \
             `haclusterd run` or `systemctl start haclusterd`"
    )]
    Stale(PathBuf),
    #[error(
        "{0:?} may not be opened by this user: run the command as root or as a member of the socket's group"
    )]
    Denied(PathBuf),
    #[error(
        "the daemon behind {path:?} did not answer within {waited:?}: it is stopped or overloaded; see its log, \
             and restart it if that lasts"
    )]
    TimedOut { path: PathBuf, waited: Duration },
    #[error(
        "the daemon behind {0:?} hung up without an answer: it is stopping or has just died; see its log"
    )]
    HungUp(PathBuf),
    #[error("the daemon behind {path:?} is of another version ({theirs}) than this command ({}, schema {SCHEMA}): \
             restart the daemon after an update, or use the command it came with", env!("CARGO_PKG_VERSION"))]
    OtherVersion { path: PathBuf, theirs: String },
    #[error("the daemon refused: {0}")]
    Refused(String),

    #[error(
        "another daemon already answers on {0:?}: stop it first, or give this one its own --socket and \
             --state-dir"
    )]
    Taken(PathBuf),
    #[error("{0:?} is there and is not a socket: remove it, or name another path with --socket")]
    NotASocket(PathBuf),
    #[error("cannot {what} {path:?}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> ControlError + 'a {
    move |source| ControlError::Io { what, path: path.into(), source }
}

#[cfg(test)]
mod tests;
