//! What a node watches: `[[check]]`.

use crate::engine::health::Initial;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: String,
    pub kind: Kind,
    /// From the beginning of one run to that of the next.
    pub interval: Duration,
    pub timeout: Duration,
    pub counting: Counting,
}

/// How the engine counts the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counting {
    pub rise: u32,
    pub fall: u32,
    pub weight: i16,
    pub reverse: bool,
    pub initial: Initial,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Nginx(Box<Nginx>),
    Http(Http),
    /// Something listens there.
    Tcp(SocketAddr),
    Script(Script),
    Process(Process),
    /// The number in a file counts.
    File(PathBuf),
    /// The interface is up, and so is its link.
    Interface(String),
    Gateway(Gateway),
}

/// Everything about one nginx. What is not given is found by asking `nginx -T`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nginx {
    /// As it is started, for `-T` and `-V`; otherwise as its master was.
    pub command: Option<Vec<String>>,
    pub pid_file: Option<PathBuf>,
    pub request: Option<Http>,
    /// Where it must be able to write. Empty: not watched.
    pub log_dirs: Option<Vec<PathBuf>>,
    /// Less than this left for nginx's logs is a failure.
    pub min_free_bytes: u64,
    pub min_free_inodes: u64,
    /// Must be mounted.
    pub mounts: Vec<PathBuf>,
    /// nginx's own count of its connections.
    pub stub_status: Option<Url>,
    pub restart: Option<Restart>,
    /// How long before a certificate's end it is a warning.
    pub certificate_warning: Duration,
}

/// One attempt to bring a dead nginx back before its VIPs are given away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    pub command: Vec<String>,
    /// From its death until it answers.
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    pub url: Url,
    /// For the Host header and TLS, instead of the URL's.
    pub host: Option<String>,
    pub status: StatusSet,
    /// The body must contain this.
    pub body: Option<String>,
    /// The certificate must be for the host and issued by one of these; without it only its dates count.
    pub ca: Option<PathBuf>,
    pub certificate_warning: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    pub command: Vec<String>,
    /// A name, or a number.
    pub user: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub programs: Programs,
    /// So many must run.
    pub quorum: RangeInclusive<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Programs {
    /// By the kernel's name of the process, of which there are 15 characters.
    Named(String),
    /// By the arguments, the first being the program.
    Called(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    pub address: IpAddr,
    pub method: Method,
    /// Where to ask by ARP.
    pub interface: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Arp,
    /// Echo request and reply.
    Icmp,
}

/// An address to ask, without a name to look up: a resolver that hangs must not look like an nginx that does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub text: String,
    pub tls: bool,
    pub address: SocketAddr,
    /// As it stands there, with the port.
    pub host: String,
    /// Path and query, at least "/".
    pub path: String,
}

/// The HTTP status codes that count as a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSet(pub(super) Vec<RangeInclusive<u16>>);

impl StatusSet {
    #[must_use]
    pub fn of(range: RangeInclusive<u16>) -> StatusSet {
        StatusSet(vec![range])
    }

    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl Kind {
    /// As it is written in the file.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Kind::Nginx(_) => "nginx",
            Kind::Http(_) => "http",
            Kind::Tcp(_) => "tcp",
            Kind::Script(_) => "script",
            Kind::Process(_) => "process",
            Kind::File(_) => "file",
            Kind::Interface(_) => "interface",
            Kind::Gateway(_) => "gateway",
        }
    }
}
