//! Follows the kernel's news of links and addresses.
//!
//! The kernel repeats itself (each renewal of an address is news to it) and drops news when we are slow. So
//! the monitor remembers what it has reported, reports only what differs, and after a loss compares a new list
//! with its memory. That memory is as large as the host's own tables.

use super::{Event, Events, Held, KernelError, answer};
use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, TryStreamExt};
use haclusterd_proto::MacAddr;
use ipnet::IpNet;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// Before each new socket: without news we are blind, so not long; without a pause a storm of news would have us
/// list and log all the time.
const PAUSE: Duration = Duration::from_millis(100);

type News = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, rtnetlink::sys::SocketAddr)>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    name: String,
    up: bool,
    mac: Option<MacAddr>,
}

struct Monitor {
    links: BTreeMap<u32, Link>,
    /// Value: whether it is ours, and whether it is tentative.
    addresses: BTreeMap<(u32, IpNet), (bool, bool)>,
    events: Events,
    resyncs: Arc<AtomicU64>,
}

pub(super) async fn start(events: Events, resyncs: Arc<AtomicU64>) -> Result<JoinSet<()>, KernelError> {
    let mut monitor = Monitor { links: BTreeMap::new(), addresses: BTreeMap::new(), events, resyncs };
    let news = monitor.open().await?;
    let mut task = JoinSet::new();
    task.spawn(monitor.run(news));
    Ok(task)
}

impl Monitor {
    async fn run(mut self, mut news: News) {
        loop {
            self.follow(&mut news).await;
            tracing::warn!(
                "the kernel dropped news of links and addresses, or its socket closed; asking for a list"
            );
            self.resyncs.fetch_add(1, Ordering::Relaxed);
            news = loop {
                tokio::time::sleep(PAUSE).await;
                match self.open().await {
                    Ok(news) => break news,
                    Err(error) => tracing::debug!(%error, "no list from the kernel yet"),
                }
            };
        }
    }

    /// Joins first and lists then, so that no change falls between.
    async fn open(&mut self) -> Result<News, KernelError> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, news) = rtnetlink::new_multicast_connection(&groups)?;
        // Ends with the handle and the news.
        tokio::spawn(connection);
        let links: Vec<_> = answer(handle.link().get().execute().try_collect())
            .await?
            .map_err(|why: rtnetlink::Error| KernelError::NoList { what: "links", why: why.to_string() })?;
        let addresses = super::list(&handle).await?;
        self.compare(&links, &addresses);
        Ok(news)
    }

    fn compare(&mut self, links: &[LinkMessage], addresses: &[Held]) {
        let vanished = |index: &&u32| !links.iter().any(|link| link.header.index == **index);
        let gone: Vec<u32> = self.links.keys().filter(vanished).copied().collect();
        gone.into_iter().for_each(|index| self.link_gone(index));
        links.iter().for_each(|link| self.link(link));

        let vanished = |key: &&(u32, IpNet)| !addresses.iter().any(|held| (held.ifindex, held.net) == **key);
        let gone: Vec<_> = self.addresses.keys().filter(vanished).copied().collect();
        gone.into_iter().for_each(|(index, net)| self.address_gone(index, net));
        addresses.iter().for_each(|held| self.address(held));
    }

    /// Until news are lost.
    async fn follow(&mut self, news: &mut News) {
        while let Some((message, _)) = news.next().await {
            match message.payload {
                NetlinkPayload::InnerMessage(message) => self.learn(&message),
                NetlinkPayload::Overrun(_) => return,
                _ => {}
            }
        }
    }

    fn learn(&mut self, message: &RouteNetlinkMessage) {
        match message {
            RouteNetlinkMessage::NewLink(link) => self.link(link),
            // A bridge that lets go of a port says so in the same words, with its own family.
            RouteNetlinkMessage::DelLink(link) if is_interface(link) => self.link_gone(link.header.index),
            RouteNetlinkMessage::NewAddress(address) => {
                if let Some(held) = Held::of(address) {
                    self.address(&held);
                }
            }
            RouteNetlinkMessage::DelAddress(address) => {
                if let Some(held) = Held::of(address) {
                    self.address_gone(held.ifindex, held.net);
                }
            }
            _ => {}
        }
    }

    fn link(&mut self, message: &LinkMessage) {
        let Some(link) = Link::of(message) else { return };
        let index = message.header.index;
        let before = self.links.insert(index, link.clone());
        if before.as_ref() == Some(&link) {
            return;
        }
        if let Some(before) = before.filter(|before| before.name != link.name) {
            (self.events)(Event::LinkGone { index, name: before.name });
        }
        (self.events)(Event::Link { index, name: link.name, up: link.up, mac: link.mac });
    }

    /// Its addresses go with it, said or unsaid.
    fn link_gone(&mut self, index: u32) {
        let lost: Vec<_> = self.addresses.keys().filter(|(on, _)| *on == index).copied().collect();
        lost.into_iter().for_each(|(index, net)| self.address_gone(index, net));
        if let Some(link) = self.links.remove(&index) {
            (self.events)(Event::LinkGone { index, name: link.name });
        }
    }

    fn address(&mut self, held: &Held) {
        let Held { ifindex: index, net, ours, tentative } = *held;
        if self.addresses.insert((index, net), (ours, tentative)) != Some((ours, tentative)) {
            (self.events)(Event::AddressAdded { index, net, ours, tentative });
        }
    }

    fn address_gone(&mut self, index: u32, net: IpNet) {
        if self.addresses.remove(&(index, net)).is_some() {
            (self.events)(Event::AddressGone { index, net });
        }
    }
}

impl Link {
    fn of(message: &LinkMessage) -> Option<Link> {
        if !is_interface(message) {
            return None;
        }
        let name = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        })?;
        let mac = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok().map(MacAddr),
            _ => None,
        });
        // Not `Running`: that follows the carrier up to a second late (linkwatch), when frames have long been sent.
        let flags = message.header.flags;
        let up = flags.contains(LinkFlags::Up | LinkFlags::LowerUp) && !flags.contains(LinkFlags::Dormant);
        Some(Link { name, up, mac })
    }
}

fn is_interface(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}
