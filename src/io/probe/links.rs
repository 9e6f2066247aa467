//! What the kernel tells of this host's links and addresses, for the checks that need it.

use crate::io::netlink::{Event, Kernel};
use haclusterd_proto::MacAddr;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::watch;

pub(super) struct Links {
    _kernel: Kernel,
    seen: watch::Receiver<Seen>,
}

#[derive(Default)]
struct Seen {
    links: BTreeMap<u32, Link>,
    nets: BTreeSet<(u32, IpNet)>,
}

struct Link {
    name: String,
    up: bool,
    mac: Option<MacAddr>,
}

impl Links {
    pub async fn watch() -> Result<Links, String> {
        let (send, seen) = watch::channel(Seen::default());
        let events = Arc::new(move |event| send.send_modify(|seen| seen.follow(event)));
        let kernel = Kernel::start(events).await.map_err(|error| error.to_string())?;
        Ok(Links { _kernel: kernel, seen })
    }

    /// Returns when something has changed, or never again if there is no more news.
    pub async fn changed(&mut self) {
        if self.seen.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// `None`: there is no such interface.
    pub fn is_up(&self, name: &str) -> Option<bool> {
        self.seen.borrow().links.values().find(|link| link.name == name).map(|link| link.up)
    }

    /// The interface of that name, or the one whose network the address is in.
    pub fn outlet(&self, to: IpAddr, name: Option<&str>) -> Result<(u32, MacAddr), String> {
        let seen = self.seen.borrow();
        let index = match name {
            Some(name) => {
                let found = seen.links.iter().find(|(_, link)| link.name == name).map(|(index, _)| *index);
                found.ok_or_else(|| format!("there is no interface {name}"))?
            }
            None => {
                let near = seen.nets.iter().filter(|(_, net)| net.contains(&to));
                let best = near.max_by_key(|(_, net)| net.prefix_len()).map(|(index, _)| *index);
                best.ok_or(
                    "it is in no network of this host: name the `interface`, or use method = \"icmp\"",
                )?
            }
        };
        let mac = seen.links.get(&index).and_then(|link| link.mac);
        let mac = mac.ok_or("its interface has no hardware address: use method = \"icmp\"")?;
        Ok((index, mac))
    }
}

impl Seen {
    fn follow(&mut self, event: Event) {
        match event {
            Event::Link { index, name, up, mac } => drop(self.links.insert(index, Link { name, up, mac })),
            Event::LinkGone { index, name } => {
                if self.links.get(&index).is_some_and(|link| link.name == name) {
                    self.links.remove(&index);
                }
            }
            Event::AddressAdded { index, net, .. } => drop(self.nets.insert((index, net))),
            Event::AddressGone { index, net } => drop(self.nets.remove(&(index, net))),
        }
    }
}
