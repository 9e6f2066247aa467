//! What nginx says of its own configuration: where its pid file and its logs are, and whom to ask how it does.
//!
//! `nginx -T` checks as it prints: it opens every log, makes a missing pid file (empty), and for a moment listens on
//! every address that is free. So it is run seldom, and never while nginx is starting.

mod built;
mod dump;
mod given;
mod lexer;
mod listen;
mod logs;
mod lua;
mod run;
mod servers;
#[cfg(test)]
mod tests;
mod walk;

use built::Built;
use dump::Dump;
use given::Given;
use logs::Logs;
use servers::Server;
use std::collections::HashSet;
use std::hash::Hash;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use walk::walk;

/// nginx's own default.
pub const WORKER_CONNECTIONS: u32 = 512;

/// What the running configuration of nginx names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub pid_file: PathBuf,
    /// The regular files that nginx logs to. Those with variables in their path are not known before they are written.
    pub logs: Vec<Log>,
    /// The directories of all logs, also of those with variables: where nginx must be able to write.
    pub log_dirs: Vec<PathBuf>,
    /// Of one worker.
    pub worker_connections: u32,
    /// Whom to ask, best first.
    pub asks: Vec<Ask>,
}

/// A file that nginx logs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub path: PathBuf,
    /// It has nginx's own words, and no client's.
    pub errors: bool,
}

/// A server of nginx that answers requests from this host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ask {
    pub address: SocketAddr,
    pub tls: bool,
    /// The first name of the server that is neither a pattern nor a placeholder.
    pub host: Option<String>,
}

/// Runs nginx twice, as `command` with `-V` and with `-T`, and reads what it prints.
///
/// # Errors
/// If nginx cannot be run, finds a fault in its configuration, takes longer than `patience`, or prints what cannot
/// be read.
pub async fn find(command: &[String], patience: Duration) -> Result<Found, String> {
    let given = Given::of(command);
    let (version, dump) = run::ask(command, patience).await?;
    read(&given, &version, &dump)
}

fn read(given: &Given, version: &str, dump: &str) -> Result<Found, String> {
    let built = Built::read(version, given)?;
    let dump = Dump::read(dump)?;
    let mut seen = Seen::default();
    walk(&dump, &given.directives, |path, words| seen.take(path, words))?;
    Ok(seen.found(&built))
}

#[derive(Default)]
struct Seen {
    pid: Option<String>,
    worker_connections: Option<u32>,
    logs: Logs,
    servers: Vec<Server>,
}

impl Seen {
    /// A directive and the blocks it stands in.
    fn take(&mut self, path: &[&str], words: &[&str]) {
        self.logs.take(path, words);
        match (path, words) {
            ([], ["pid", file]) => self.pid = Some((*file).into()),
            (["events"], ["worker_connections", count]) => self.worker_connections = count.parse().ok(),
            (["http"], ["server"]) => self.servers.push(Server::default()),
            (["http", "server"], words) => {
                if let Some(server) = self.servers.last_mut() {
                    server.take(words);
                }
            }
            _ => {}
        }
    }

    fn found(self, built: &Built) -> Found {
        let (logs, log_dirs) = self.logs.found(built);
        Found {
            pid_file: built.path(self.pid.as_deref().unwrap_or(&built.pid)),
            logs,
            log_dirs,
            worker_connections: self.worker_connections.unwrap_or(WORKER_CONNECTIONS),
            asks: servers::asks(&self.servers),
        }
    }
}

/// Each item where it stands first.
fn once<T: Clone + Eq + Hash>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    items.into_iter().filter(|item| seen.insert(item.clone())).collect()
}
