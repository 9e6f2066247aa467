//! What a keepalived.conf says, with keepalived's defaults where it says nothing.

use super::finding::At;
use super::lvs::{ServerGroup, VirtualServer};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Default)]
pub struct Model {
    /// That is read; others may be included.
    pub file: PathBuf,
    pub global: Global,
    pub trackers: Vec<Tracker>,
    pub groups: Vec<Group>,
    pub instances: Vec<Instance>,
    /// Read, and not run yet.
    pub virtual_servers: Vec<VirtualServer>,
    pub server_groups: Vec<ServerGroup>,
    /// Names of what is checked alone.
    pub bfds: Vec<String>,
    /// Above what is not carried, or at the end.
    pub comments: Vec<String>,
}

#[derive(Debug, Default)]
pub struct Global {
    pub comments: Vec<String>,
    pub router_id: Option<String>,
    pub version: Option<u8>,
    pub strict: bool,
    pub script_user: Option<String>,
    pub default_interface: Option<String>,
    pub garp_refresh: Option<Duration>,
    pub smtp_alert: Option<bool>,
    pub no_email_faults: bool,
    pub mail: Mail,
    pub fifo: Option<String>,
    pub fifo_script: Option<Command>,
}

#[derive(Debug, Default)]
pub struct Mail {
    pub to: Vec<(At, String)>,
    pub from: Option<String>,
    /// Host and port.
    pub server: Option<(String, u16)>,
    pub hello: Option<String>,
    pub timeout: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub at: At,
    pub words: Vec<String>,
    pub user: Option<String>,
}

/// What a virtual router may track by name.
#[derive(Debug)]
pub struct Tracker {
    pub at: At,
    pub comments: Vec<String>,
    pub name: String,
    pub weight: Option<i32>,
    pub reverse: bool,
    pub watch: Watch,
}

#[derive(Debug)]
pub enum Watch {
    Script {
        command: Command,
        /// Whether somebody answers there, instead of the command.
        tcp: Option<SocketAddr>,
        interval: Duration,
        timeout: Option<Duration>,
        rise: u32,
        fall: u32,
        init_fail: bool,
    },
    Process {
        words: Vec<String>,
        whole: bool,
        quorum: u32,
        quorum_max: Option<u32>,
    },
    File {
        path: String,
    },
}

impl Watch {
    /// keepalived's weight of one that has none of its own.
    pub fn usual_weight(&self) -> i32 {
        match self {
            Watch::Script { .. } => 0,
            Watch::Process { .. } | Watch::File { .. } => 1,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackKind {
    Script,
    Process,
    File,
    Interface,
}

/// One line of a `track_…` block.
#[derive(Debug, Clone)]
pub struct Track {
    pub at: At,
    pub kind: TrackKind,
    pub name: String,
    pub weight: Option<i32>,
    pub reverse: bool,
}

#[derive(Debug, Default, Clone)]
pub struct Notify {
    pub master: Option<Command>,
    pub backup: Option<Command>,
    pub fault: Option<Command>,
    pub stop: Option<Command>,
    pub any: Option<Command>,
    pub smtp_alert: Option<bool>,
}

#[derive(Debug)]
pub struct Group {
    pub at: At,
    pub comments: Vec<String>,
    pub name: String,
    pub members: Vec<(At, String)>,
    pub tracks: Vec<Track>,
    pub notify: Notify,
    /// Members may have weights of their own.
    pub weights: bool,
}

#[derive(Debug, Clone)]
pub struct Address {
    pub at: At,
    pub net: IpNet,
    pub interface: Option<String>,
    pub label: Option<String>,
}

/// A route or rule, in iproute2's words.
#[derive(Debug, Clone)]
pub struct Way {
    pub at: At,
    pub text: String,
}

#[derive(Debug)]
pub struct Instance {
    pub at: At,
    pub comments: Vec<String>,
    pub name: String,
    /// As master; `None`: it is not said.
    pub begins: Option<bool>,
    /// Where something for unicast alone is written.
    pub unicast: Option<At>,
    pub xmit_base: Option<At>,
    pub ipvlan: Option<At>,
    pub interface: Option<String>,
    pub vrid: Option<u8>,
    pub priority: Option<u8>,
    pub version: Option<u8>,
    pub advert_int: Option<(At, Duration)>,
    pub password: Option<String>,
    pub ah: bool,
    /// Its kind is said; keepalived sends no password without.
    pub authenticated: bool,
    pub addresses: Vec<Address>,
    pub excluded: Vec<Address>,
    pub routes: Vec<Way>,
    pub rules: Vec<Way>,
    pub peers: Vec<(At, IpAddr)>,
    pub source: Option<(At, IpAddr)>,
    pub nopreempt: Option<At>,
    pub preempt_delay: Option<(At, Duration)>,
    pub accept: Option<bool>,
    pub strict: Option<bool>,
    /// A virtual MAC, and the interface's name.
    pub vmac: Option<Option<String>>,
    pub plain_checksum: bool,
    pub garp_refresh: Option<Duration>,
    pub tracks: Vec<Track>,
    pub notify: Notify,
}

impl Model {
    /// Everything that it has run.
    pub fn commands(&self) -> impl Iterator<Item = &Command> {
        let scripts = self.trackers.iter().filter_map(|tracker| match &tracker.watch {
            Watch::Script { command, tcp: None, .. } => Some(command),
            _ => None,
        });
        let notify = self.instances.iter().map(|instance| &instance.notify);
        let notify = notify.chain(self.groups.iter().map(|group| &group.notify));
        let programs = notify.flat_map(|notify| notify.programs().map(|(_, command)| command));
        scripts.chain(programs).chain(&self.global.fifo_script)
    }
}

impl Notify {
    /// Each with its key here.
    pub fn programs(&self) -> impl Iterator<Item = (&'static str, &Command)> {
        let all = [
            ("notify_master", &self.master),
            ("notify_backup", &self.backup),
            ("notify_fault", &self.fault),
            ("notify_stop", &self.stop),
            ("notify", &self.any),
        ];
        all.into_iter().filter_map(|(key, command)| Some((key, command.as_ref()?)))
    }

    /// What this one says, and the other where it says nothing.
    pub fn or(self, other: Notify) -> Notify {
        Notify {
            master: self.master.or(other.master),
            backup: self.backup.or(other.backup),
            fault: self.fault.or(other.fault),
            stop: self.stop.or(other.stop),
            any: self.any.or(other.any),
            smtp_alert: self.smtp_alert.or(other.smtp_alert),
        }
    }
}

impl Group {
    pub fn has(&self, instance: &str) -> bool {
        self.members.iter().any(|(_, member)| member == instance)
    }

    /// Of one, nothing moves together.
    pub fn is_alone(&self) -> bool {
        self.members.len() < 2
    }
}

impl Instance {
    pub fn is_master(&self) -> bool {
        self.begins == Some(true)
    }

    /// keepalived's default is that of its state.
    pub fn own_priority(&self) -> u8 {
        self.priority.unwrap_or(if self.is_master() { 255 } else { 100 })
    }
}
