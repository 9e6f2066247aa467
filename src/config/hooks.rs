//! Who hears of a VIP's changes: keepalived's `notify…`, `[[hook]]` and `[mail]`.

use std::path::PathBuf;
use std::time::Duration;

/// A program and its arguments.
pub type Words = Vec<String>;

/// Of one VIP, virtual router or group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notify {
    pub master: Option<Words>,
    pub backup: Option<Words>,
    pub fault: Option<Words>,
    pub stop: Option<Words>,
    /// For each of them, with four more words.
    pub any: Option<Words>,
    /// `USER` or `USER:GROUP`. `None`: the daemon's.
    pub user: Option<String>,
    /// A mail as well.
    pub alert: bool,
}

/// What virtual routers that keep step tell as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub notify: Notify,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fifo {
    pub path: PathBuf,
    /// Reads it, and is started by us.
    pub script: Option<Words>,
    pub user: Option<String>,
}

/// Is run until it has succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub name: String,
    pub deed: Deed,
    /// `None`: all.
    pub vips: Option<Vec<String>>,
    pub user: Option<String>,
    pub timeout: Duration,
    /// While this node is the owner, it is run again after this.
    pub reconcile: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    Command(Words),
    Webhook(Webhook),
}

/// Unlike a check's URL it may have a name to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub text: String,
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// As it stands there, with the port.
    pub authority: String,
    pub path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    pub host: String,
    pub port: u16,
    pub security: Security,
    pub from: String,
    /// At least one.
    pub to: Vec<String>,
    pub hello: Option<String>,
    pub router_id: Option<String>,
    pub timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    None,
    Starttls,
    Tls,
}

impl Hook {
    #[must_use]
    pub fn is_for(&self, vip: &str) -> bool {
        self.vips.as_ref().is_none_or(|vips| vips.iter().any(|name| name == vip))
    }
}
