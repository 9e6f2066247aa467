//! Interfaces with VRRP's virtual MAC: macvlans on top of the interface whose network they serve.
//!
//! Their mode is *bridge*. A *private* one that is up keeps for itself whatever is sent to all from its own MAC: the
//! parent would no longer hear the adverts and the ARP of another host with the same virtual MAC, when two that both
//! think they own it most need to hear each other. In exchange the macvlans of one host hear each other, which harms
//! nobody.
//!
//! One that is up speaks (multicast reports), and switches learn its MAC from that. So only who owns the addresses
//! may have one: [`ensure`] it before they are added, [`remove`] it after they are gone. Both take the kernel
//! milliseconds, to remove one some ten: not for a loop that has adverts to send in time.
//!
//! Ours carry an alias that says so. It also keeps what the settings of the parent were before, so that a later run can
//! restore them when this one has crashed.

use super::{Errno, KernelError, answer, connect, errno};
use crate::io::sysctl::{self, SysctlError};
use futures::TryStreamExt;
use haclusterd_proto::MacAddr;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
};
use rtnetlink::{Handle, LinkMacVlan, LinkUnspec};
use std::io;

/// The first word of the alias of an interface that is ours.
const MARK: &str = "haclusterd";
const MODE: MacVlanMode = MacVlanMode::Bridge;

/// What the parent needs, so that nobody ever learns that a virtual address is at its MAC: it must not answer for
/// addresses of the macvlan (arp_ignore), nor ask others in their name (arp_announce; 1 is not enough where the virtual
/// address lies in the parent's own network). The last column suffices as well.
const OF_PARENT: [(&str, &str, &[&str]); 2] =
    [("arp_ignore", "1", &["1", "2"]), ("arp_announce", "2", &["2"])];

/// The same the other way round; and the way back to most clients leads over the parent, so that the source of what
/// comes in must not be checked by it. The kernel takes the greater of `all` and this, and 2 is both lax and greatest.
const OF_MACVLAN_V4: [(&str, &str); 3] = [("arp_ignore", "1"), ("arp_announce", "2"), ("rp_filter", "2")];

/// No address and no route of its own making, and no wait for duplicates of those that are added.
const OF_MACVLAN_V6: [(&str, &str); 3] = [("addr_gen_mode", "1"), ("accept_ra", "0"), ("accept_dad", "0")];

#[derive(Debug, thiserror::Error)]
pub enum MacvlanError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(
        "there is an interface {name} already, and haclusterd did not make it: remove it (ip link del {name})"
    )]
    Foreign { name: String },
    #[error("the kernel refused to {verb} {name}: {source}{remedy}")]
    Refused { verb: &'static str, name: String, source: io::Error, remedy: &'static str },
    #[error(transparent)]
    Setting(#[from] SysctlError),
}

/// The index of an interface of this name that is up, ours, on this parent and with this MAC.
pub async fn ensure(parent: u32, name: &str, mac: MacAddr) -> Result<u32, MacvlanError> {
    let handle = connect()?;
    let links = Links::list(&handle).await?;
    let below = links.name_of(parent).ok_or(KernelError::NoInterface { ifindex: parent })?;
    let old = links.0.iter().find(|link| link.name == name);
    let fits = |link: &Link| link.parent == Some(parent) && link.mac == Some(mac) && link.mode == Some(MODE);
    let index = match old {
        Some(link) if link.is_ours() && fits(link) => link.index,
        // So dies a run between the first two messages below.
        Some(link) if link.alias.is_empty() && !link.up && fits(link) => link.index,
        Some(link) if link.is_ours() => {
            links.delete(&handle, link).await?;
            create(&handle, parent, name, mac).await?
        }
        Some(_) => return Err(MacvlanError::Foreign { name: name.into() }),
        None => create(&handle, parent, name, mac).await?,
    };
    // Before the parent's settings are changed, so that what they were is never lost.
    let memory = links.memory(parent).map_or_else(|| remember(below), |memory| Ok(memory.into()))?;
    change(&handle, name, LinkUnspec::new_with_index(index).alias(memory).build()).await?;
    quiet(name, below)?;
    change(&handle, name, LinkUnspec::new_with_index(index).up().build()).await?;
    Ok(index)
}

/// Only if it is ours; what is absent needs no removing. The last one on its parent gives it its settings back.
pub async fn remove(name: &str) -> Result<(), MacvlanError> {
    remove_where(|link| link.name == name).await.map(drop)
}

/// Removes whatever is ours but these, and says what that was.
pub async fn sweep(keep: &[&str]) -> Result<Vec<String>, MacvlanError> {
    remove_where(|link| !keep.contains(&link.name.as_str())).await
}

async fn remove_where(wanted: impl Fn(&Link) -> bool) -> Result<Vec<String>, MacvlanError> {
    let handle = connect()?;
    let mut links = Links::list(&handle).await?;
    let names: Vec<String> =
        links.0.iter().filter(|link| link.is_ours() && wanted(link)).map(|link| link.name.clone()).collect();
    for name in &names {
        if let Some(at) = links.0.iter().position(|link| link.name == *name) {
            links.delete(&handle, &links.0[at]).await?;
            links.0.remove(at);
        }
    }
    Ok(names)
}

struct Link {
    index: u32,
    name: String,
    alias: String,
    up: bool,
    mac: Option<MacAddr>,
    parent: Option<u32>,
    /// Of macvlans.
    mode: Option<MacVlanMode>,
}

impl Link {
    fn of(message: &LinkMessage) -> Link {
        let mut link = Link {
            index: message.header.index,
            name: String::new(),
            alias: String::new(),
            up: message.header.flags.contains(LinkFlags::Up),
            mac: None,
            parent: None,
            mode: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
                LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok().map(MacAddr),
                LinkAttribute::Link(parent) => link.parent = Some(*parent),
                LinkAttribute::LinkInfo(infos) => link.mode = mode(infos),
                _ => {}
            }
        }
        link
    }

    fn is_ours(&self) -> bool {
        self.mode.is_some() && self.alias.split(' ').next() == Some(MARK)
    }
}

fn mode(infos: &[LinkInfo]) -> Option<MacVlanMode> {
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::MacVlan(data)) if infos.contains(&LinkInfo::Kind(InfoKind::MacVlan)) => {
            Some(data)
        }
        _ => None,
    })?;
    data.iter().find_map(|item| if let InfoMacVlan::Mode(mode) = item { Some(*mode) } else { None })
}

struct Links(Vec<Link>);

impl Links {
    async fn list(handle: &Handle) -> Result<Links, KernelError> {
        let messages: Vec<_> = answer(handle.link().get().execute().try_collect())
            .await?
            .map_err(|why: rtnetlink::Error| KernelError::NoList { what: "links", why: why.to_string() })?;
        Ok(Links(messages.iter().map(Link::of).collect()))
    }

    fn name_of(&self, index: u32) -> Option<&str> {
        self.0.iter().find(|link| link.index == index).map(|link| link.name.as_str())
    }

    /// The alias of one of ours on this parent: it knows the parent's own settings.
    fn memory(&self, parent: u32) -> Option<&str> {
        let ours = self.0.iter().find(|link| link.is_ours() && link.parent == Some(parent));
        ours.map(|link| link.alias.as_str())
    }

    /// Restores before it deletes, so that a crash in between loses nothing; and deletes in any case.
    async fn delete(&self, handle: &Handle, link: &Link) -> Result<(), MacvlanError> {
        let same = |other: &&Link| other.is_ours() && other.parent == link.parent;
        let last = self.0.iter().filter(same).count() == 1;
        let below = link.parent.filter(|_| last).and_then(|parent| self.name_of(parent));
        let restored = below.map_or(Ok(()), |below| restore(below, &link.alias));
        match answer(handle.link().del(link.index).execute()).await? {
            // It went away by itself, or with its parent.
            Err(error) if errno(&error) == Errno::NODEV => {}
            other => other.map_err(|error| refusal(&error, "remove", &link.name))?,
        }
        Ok(restored?)
    }
}

/// Down, so that nothing is said by it before it is told what not to say.
async fn create(handle: &Handle, parent: u32, name: &str, mac: MacAddr) -> Result<u32, MacvlanError> {
    let message = LinkMacVlan::new(name, parent, MODE).address(mac.0.to_vec()).build();
    let made = answer(handle.link().add(message).execute()).await?;
    made.map_err(|error| refusal(&error, "make", name))?;
    super::index_of(name).ok_or_else(|| MacvlanError::Refused {
        verb: "make",
        name: name.into(),
        source: Errno::NODEV.into(),
        remedy: "; somebody removed it again",
    })
}

async fn change(handle: &Handle, name: &str, message: LinkMessage) -> Result<(), MacvlanError> {
    let changed = answer(handle.link().set(message).execute()).await?;
    changed.map_err(|error| refusal(&error, "set up", name))
}

fn refusal(error: &rtnetlink::Error, verb: &'static str, name: &str) -> MacvlanError {
    let errno = errno(error);
    let remedy = match errno {
        Errno::PERM => return KernelError::Capability { missing: "CAP_NET_ADMIN".into() }.into(),
        Errno::OPNOTSUPP => "; the kernel knows no macvlan, see modprobe macvlan",
        Errno::BUSY => {
            "; its parent belongs to a bridge or bond, which is to be named as the interface instead, or another \
             interface there has its MAC"
        }
        Errno::ADDRINUSE => "; another interface of its parent has its MAC: is keepalived still running?",
        _ => "",
    };
    MacvlanError::Refused { verb, name: name.into(), source: errno.into(), remedy }
}

fn v4(interface: &str, setting: &str) -> String {
    format!("net/ipv4/conf/{interface}/{setting}")
}

fn v6(interface: &str, setting: &str) -> String {
    format!("net/ipv6/conf/{interface}/{setting}")
}

/// An alias: our mark, and those settings of the parent that will be changed.
fn remember(parent: &str) -> Result<String, SysctlError> {
    let mut alias = MARK.to_owned();
    for (setting, _, enough) in OF_PARENT {
        let value = sysctl::read(&v4(parent, setting))?;
        if !enough.contains(&value.as_str()) {
            alias = format!("{alias} {setting}={value}");
        }
    }
    Ok(alias)
}

fn quiet(name: &str, parent: &str) -> Result<(), SysctlError> {
    for (setting, value) in OF_MACVLAN_V4 {
        sysctl::set(&v4(name, setting), value)?;
    }
    for (setting, value) in OF_MACVLAN_V6.iter().filter(|(setting, _)| sysctl::exists(&v6(name, setting))) {
        sysctl::set(&v6(name, setting), value)?;
    }
    for (setting, value, enough) in OF_PARENT {
        let key = v4(parent, setting);
        if !enough.contains(&sysctl::read(&key)?.as_str()) {
            sysctl::set(&key, value)?;
        }
    }
    Ok(())
}

/// Not what somebody has set since.
fn restore(parent: &str, alias: &str) -> Result<(), SysctlError> {
    for (setting, before) in alias.split(' ').filter_map(|word| word.split_once('=')) {
        let ours = OF_PARENT.iter().find(|(name, _, _)| *name == setting).map(|(_, value, _)| *value);
        let key = v4(parent, setting);
        if ours == Some(sysctl::read(&key)?.as_str()) {
            sysctl::set(&key, before)?;
        }
    }
    Ok(())
}
