//! The kernel's addresses and links; the only module that names rtnetlink, whose API changes every few months.
//!
//! What this daemon installs carries [`IFA_PROTO`] and a short lifetime. The first tells our addresses from an
//! operator's, who keeps his whatever happens here; the second lets the kernel take an address away when the
//! daemon that should renew it is dead or stopped.
//!
//! Each command opens a socket of its own (some 30 µs): no reconnecting, no answer that belongs to another, and
//! a flood of the monitor's news cannot lose one.

pub mod macvlan;
mod monitor;
mod neighbors;
pub mod way;

use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};
use haclusterd_proto::MacAddr;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// Marks an address as ours. 112 is VRRP's protocol number; the kernel uses 1 to 3 and keepalived 18. Every
/// haclusterd uses the same, so a network namespace has room for one.
pub const IFA_PROTO: u8 = 112;

/// The kernel answers inside the call. An answer that has not come by now was lost.
const ANSWER_WITHIN: Duration = Duration::from_millis(200);
/// Requests whose answers are waited for at once: more, and the answers would not fit the socket.
const AT_ONCE: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub ifindex: u32,
    pub net: IpNet,
    /// IPv4 only, at most 15 bytes.
    pub label: Option<String>,
    /// Seconds, at least 1, until the kernel removes the address unless it is added again. It may take 0.6 s more.
    pub valid_for: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A new interface, or a change of one. `up` means that frames can be sent: up, with carrier, not dormant.
    Link {
        index: u32,
        name: String,
        up: bool,
        mac: Option<MacAddr>,
    },
    /// Also the old name of a renamed interface.
    LinkGone {
        index: u32,
        name: String,
    },
    /// A new address, or one that changed hands.
    AddressAdded {
        index: u32,
        net: IpNet,
        ours: bool,
        /// IPv6: the kernel still looks whether somebody else has it; nothing can be sent from it yet.
        tentative: bool,
    },
    AddressGone {
        index: u32,
        net: IpNet,
    },
}

/// Called for every event, in order, by the monitor's task: it must not block.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error(
        "this process lacks {missing}: run it as root, or with AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW in its unit"
    )]
    Capability { missing: String },
    #[error("there is no interface with index {ifindex}")]
    NoInterface { ifindex: u32 },
    #[error(
        "{address} is on this host already (interface index {ifindex}), and haclusterd did not put it there: \
         remove it (ip address del {address} dev …) or strike it from the configuration"
    )]
    Foreign { ifindex: u32, address: IpNet },
    #[error("the kernel refused to {verb} {address}: {source}{remedy}")]
    Refused { verb: &'static str, address: IpNet, source: io::Error, remedy: &'static str },
    #[error("the kernel gave no list of its {what}: {why}")]
    NoList { what: &'static str, why: String },
    #[error("no netlink socket: {0}")]
    NoSocket(#[from] io::Error),
    #[error("the kernel did not answer within {} ms", ANSWER_WITHIN.as_millis())]
    NoAnswer,
}

/// Both are asked for at once, so that an operator mends his unit once.
pub fn check_capabilities() -> Result<(), KernelError> {
    use rustix::thread::CapabilitySet;
    let have = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let needed = [(CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"), (CapabilitySet::NET_RAW, "CAP_NET_RAW")];
    let missing: Vec<&str> =
        needed.into_iter().filter(|(bit, _)| !have.contains(*bit)).map(|(_, name)| name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(KernelError::Capability { missing: missing.join(" and ") })
}

/// `None`: there is no interface of that name.
#[must_use]
pub fn index_of(name: &str) -> Option<u32> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    netdevice::name_to_index(any, name).ok()
}

/// `None`: there is no interface of that index.
#[must_use]
pub fn name_of(ifindex: u32) -> Option<String> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    netdevice::index_to_name(any, ifindex).ok()
}

/// Watches as long as a clone of it lives.
#[derive(Debug, Clone)]
pub struct Kernel {
    _monitor: Arc<JoinSet<()>>,
    resyncs: Arc<AtomicU64>,
}

impl Kernel {
    /// Reports all links and addresses, then what changes. The monitor outlives overruns and restarts of its
    /// socket: it compares a new list with what it had reported, and reports the difference.
    pub async fn start(events: Events) -> Result<Kernel, KernelError> {
        let resyncs = Arc::new(AtomicU64::new(0));
        let monitor = monitor::start(events, resyncs.clone()).await?;
        Ok(Kernel { _monitor: Arc::new(monitor), resyncs })
    }

    /// How often the monitor had to begin anew.
    #[must_use]
    pub fn resyncs(&self) -> u64 {
        self.resyncs.load(Ordering::Relaxed)
    }

    /// Does each of these wholly or not at all, over one socket and with one list of the addresses that there are.
    pub async fn install(
        &self,
        wishes: Vec<Wish<'_>>,
    ) -> Result<Vec<Result<Installed, KernelError>>, KernelError> {
        let handle = &connect()?;
        let adds = wishes.iter().any(|wish| matches!(wish, Wish::Add(_)));
        // To renew what is known to be there spares the kernel the list.
        let held = &if adds { Present::new(list(handle).await?) } else { Present::default() };
        let each = wishes.into_iter().map(async |wish| match wish {
            Wish::Add(addresses) => add(handle, held, addresses).await,
            Wish::Renew(installed, valid_for) => renew(handle, installed, valid_for).await,
        });
        Ok(stream::iter(each).buffered(AT_ONCE).collect().await)
    }

    /// Installs all of these or none, and renews the lifetime of those that are there already. An address that
    /// this host has from somebody else is refused and stays as it is.
    pub async fn add(&self, addresses: &[Address]) -> Result<Installed, KernelError> {
        let mut outcomes = self.install(vec![Wish::Add(addresses)]).await?;
        outcomes.pop().unwrap_or(Err(KernelError::NoAnswer))
    }

    /// Pushes out the end of what is known to be there.
    pub async fn renew(&self, installed: Installed, valid_for: u32) -> Result<Installed, KernelError> {
        let mut outcomes = self.install(vec![Wish::Renew(installed, valid_for)]).await?;
        outcomes.pop().unwrap_or(Err(KernelError::NoAnswer))
    }

    /// Removes those of these that are ours. What is absent, or not ours, needs no removing.
    pub async fn delete(&self, addresses: &[(u32, IpNet)]) -> Result<(), KernelError> {
        if addresses.is_empty() {
            return Ok(());
        }
        let handle = connect()?;
        let ours: BTreeSet<_> = ours(&handle).await?.into_iter().collect();
        let present: Vec<_> = addresses.iter().copied().filter(|address| ours.contains(address)).collect();
        remove(&handle, &present).await
    }

    /// Removes whatever is ours but these, from every interface, and says what that was.
    pub async fn sweep(&self, keep: &[IpAddr]) -> Result<Vec<(u32, IpNet)>, KernelError> {
        let handle = connect()?;
        let mut ours = ours(&handle).await?;
        ours.retain(|(_, net)| !keep.contains(&net.addr()));
        remove(&handle, &ours).await?;
        Ok(ours)
    }
}

/// What is to become of some addresses.
#[derive(Debug)]
pub enum Wish<'a> {
    Add(&'a [Address]),
    /// To be there for so many seconds from now on.
    Renew(Installed, u32),
}

/// The addresses that this host has.
#[derive(Default)]
struct Present {
    all: BTreeMap<IpAddr, Vec<Held>>,
    /// The subnets of those that are not ours.
    subnets: BTreeSet<IpNet>,
}

impl Present {
    fn new(held: Vec<Held>) -> Present {
        let mut present = Present::default();
        for held in held {
            if !held.ours {
                present.subnets.insert(held.net.trunc());
            }
            present.all.entry(held.net.addr()).or_default().push(held);
        }
        present
    }

    fn at(&self, address: &Address) -> &[Held] {
        self.all.get(&address.net.addr()).map(Vec::as_slice).unwrap_or_default()
    }

    fn has(&self, address: &Address) -> bool {
        self.at(address).iter().any(|held| (held.ifindex, held.net) == (address.ifindex, address.net))
    }
}

async fn add(
    handle: &rtnetlink::Handle,
    held: &Present,
    addresses: &[Address],
) -> Result<Installed, KernelError> {
    for address in addresses {
        if let Some(other) = held.at(address).iter().find(|held| !held.ours) {
            return Err(KernelError::Foreign { ifindex: other.ifindex, address: other.net });
        }
    }
    let told: Vec<Told> = addresses.iter().map(|address| Told::of(address, held)).collect();
    let ask = |(told, address): (&Told, &Address)| install(handle, told.clone(), held.has(address));
    let outcomes = join_all(told.iter().zip(addresses).map(ask)).await;
    let new = outcomes.iter().zip(addresses).filter(|(done, new)| done.is_ok() && !held.has(new));
    let undo: Vec<_> = new.map(|(_, address)| (address.ifindex, address.net)).collect();
    let outcome = outcomes.into_iter().collect::<Result<(), _>>();
    if outcome.is_err() {
        // If this fails too, the lifetime of these addresses ends soon.
        let _ = remove(handle, &undo).await;
    }
    outcome.map(|()| Installed(told))
}

async fn renew(
    handle: &rtnetlink::Handle,
    installed: Installed,
    valid_for: u32,
) -> Result<Installed, KernelError> {
    let ask = |told: &Told| install(handle, told.valid_for(valid_for), true);
    join_all(installed.0.iter().map(ask)).await.into_iter().collect::<Result<(), _>>()?;
    Ok(installed)
}

/// What the kernel was told of an address.
#[derive(Debug, Clone)]
struct Told {
    ifindex: u32,
    net: IpNet,
    message: AddressMessage,
}

/// Addresses that were added, and may be renewed as long as none of them is gone.
#[derive(Debug)]
pub struct Installed(Vec<Told>);

impl Told {
    fn of(address: &Address, held: &Present) -> Told {
        Told { ifindex: address.ifindex, net: address.net, message: describe(address, held) }
    }

    fn valid_for(&self, seconds: u32) -> Told {
        let mut told = self.clone();
        for attribute in &mut told.message.attributes {
            if let AddressAttribute::CacheInfo(lifetime) = attribute {
                lifetime.ifa_valid = seconds;
            }
        }
        told
    }
}

/// An address that this host has.
#[derive(Debug, Clone, Copy)]
struct Held {
    ifindex: u32,
    net: IpNet,
    ours: bool,
    tentative: bool,
}

impl Held {
    /// `None` for what is no address of the host, such as multicast groups.
    fn of(message: &AddressMessage) -> Option<Held> {
        let find =
            |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
        // On a point-to-point link, IFA_ADDRESS is the other end.
        let local = find(|a| if let AddressAttribute::Local(ip) = a { Some(*ip) } else { None });
        let address = find(|a| if let AddressAttribute::Address(ip) = a { Some(*ip) } else { None });
        let ours =
            message.attributes.contains(&AddressAttribute::Protocol(AddressProtocol::Other(IFA_PROTO)));
        let net = IpNet::new(local.or(address)?, message.header.prefix_len).ok()?;
        let tentative = message.attributes.iter().any(|attribute| match attribute {
            AddressAttribute::Flags(flags) => flags.contains(AddressFlags::Tentative),
            _ => false,
        });
        Some(Held { ifindex: message.header.index, net, ours, tentative })
    }
}

fn connect() -> Result<rtnetlink::Handle, KernelError> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    // Ends with the handle.
    tokio::spawn(connection);
    Ok(handle)
}

async fn list(handle: &rtnetlink::Handle) -> Result<Vec<Held>, KernelError> {
    let messages: Vec<_> = answer(handle.address().get().execute().try_collect())
        .await?
        .map_err(|why: rtnetlink::Error| KernelError::NoList { what: "addresses", why: why.to_string() })?;
    Ok(messages.iter().filter_map(Held::of).collect())
}

async fn ours(handle: &rtnetlink::Handle) -> Result<Vec<(u32, IpNet)>, KernelError> {
    let held = list(handle).await?;
    Ok(held.iter().filter(|held| held.ours).map(|held| (held.ifindex, held.net)).collect())
}

async fn install(handle: &rtnetlink::Handle, told: Told, present: bool) -> Result<(), KernelError> {
    let Told { ifindex, net, message } = told;
    let mut request = handle.address().add(ifindex, net.addr(), net.prefix_len());
    *request.message_mut() = message;
    // Without `replace`, somebody's address that came since we looked is not overwritten.
    if present {
        request = request.replace();
    }
    answer(request.execute()).await?.map_err(|error| refusal(&error, "add", ifindex, net))
}

async fn remove(handle: &rtnetlink::Handle, addresses: &[(u32, IpNet)]) -> Result<(), KernelError> {
    let removals = addresses.iter().copied().map(|(ifindex, net)| async move {
        match answer(handle.address().del(message(ifindex, net)).execute()).await? {
            // It went away by itself, or with its interface.
            Err(error) if matches!(errno(&error), Errno::ADDRNOTAVAIL | Errno::NODEV | Errno::NXIO) => Ok(()),
            other => other.map_err(|error| refusal(&error, "remove", ifindex, net)),
        }
    });
    let outcomes: Vec<_> = stream::iter(removals).buffered(AT_ONCE).collect().await;
    outcomes.into_iter().collect()
}

fn message(ifindex: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if net.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = net.prefix_len();
    message.header.scope = AddressScope::Universe;
    message.header.index = ifindex;
    message.attributes = vec![AddressAttribute::Local(net.addr()), AddressAttribute::Address(net.addr())];
    message
}

fn describe(address: &Address, held: &Present) -> AddressMessage {
    let mut message = message(address.ifindex, address.net);
    let mut flags = AddressFlags::empty();
    if address.net.addr().is_ipv6() {
        // Duplicate detection would keep the address unusable for a second; we have probed by ourselves.
        flags |= AddressFlags::Nodad;
    }
    if !wants_route(address, held) {
        flags |= AddressFlags::Noprefixroute;
    }
    let mut lifetime = CacheInfo::default();
    lifetime.ifa_valid = address.valid_for;
    // Deprecated from the start: good for connections that come in, not chosen for those that go out.
    lifetime.ifa_preferred = 0;
    message.attributes.extend([
        AddressAttribute::Flags(flags),
        AddressAttribute::Protocol(AddressProtocol::Other(IFA_PROTO)),
        AddressAttribute::CacheInfo(lifetime),
    ]);
    if let (Some(label), IpAddr::V4(_)) = (&address.label, address.net.addr()) {
        message.attributes.push(AddressAttribute::Label(label.clone()));
    }
    message
}

/// Whether the kernel shall make a route to the address's subnet, and remove it with the address. Not where the
/// host has an address of its own in that subnet, on whatever interface (below a virtual MAC, it is another): the route
/// is that one's, and stays out of our coming and going.
fn wants_route(address: &Address, held: &Present) -> bool {
    let net = address.net;
    net.prefix_len() < net.max_prefix_len() && !held.subnets.contains(&net.trunc())
}

/// The answer of the kernel, or our impatience.
async fn answer<T>(request: impl Future<Output = T>) -> Result<T, KernelError> {
    tokio::time::timeout(ANSWER_WITHIN, request).await.map_err(|_| KernelError::NoAnswer)
}

fn errno(error: &rtnetlink::Error) -> Errno {
    match error {
        rtnetlink::Error::NetlinkError(answer) => Errno::from_raw_os_error(answer.raw_code().abs()),
        _ => Errno::IO,
    }
}

fn refusal(error: &rtnetlink::Error, verb: &'static str, ifindex: u32, address: IpNet) -> KernelError {
    let errno = errno(error);
    let remedy = match errno {
        Errno::PERM => return KernelError::Capability { missing: "CAP_NET_ADMIN".into() },
        Errno::NODEV => return KernelError::NoInterface { ifindex },
        Errno::ACCESS | Errno::OPNOTSUPP if address.addr().is_ipv6() => {
            "; IPv6 is switched off there, see net.ipv6.conf.*.disable_ipv6"
        }
        Errno::INVAL => "; Linux 5.18 is the first that can mark an address as ours",
        _ => "",
    };
    KernelError::Refused { verb, address, source: errno.into(), remedy }
}
