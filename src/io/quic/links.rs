//! The connections that are up, by node, the one to write to first.
//!
//! Which one is that? A process that restarts makes a new connection while its old one still looks alive, so the
//! newest wins. But two nodes that dial each other at the same time see the two connections come up in different
//! orders; they agree on the one that the smaller id has dialled. The second rule is for connections of different
//! diallers within one second of each other only: nobody dials twice unless the first is lost, so of two by the
//! same dialler the older is dead. A node that dies and returns within that second may still be written to through
//! its dead connection; then the first packet brings a stateless reset, and this ends too.
//! Both ends read all connections: if they should disagree for a while, nothing is lost.

use super::link::Link;
use super::{Event, Shared, code, locked};
use haclusterd_proto::NodeId;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// One by each dialler, and as many dead ones of a peer that restarted.
const PER_NODE: usize = 4;
/// No cluster is this large. What each can hold is bounded by its buffers and its queue.
const IN_ALL: usize = 256;
/// Longer than two simultaneous handshakes are apart on a LAN.
const SIMULTANEOUS: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Links {
    table: Mutex<Table>,
    /// Held from a change of the table until its event is told, so that the last `Up` or `Down` is the truth.
    /// The table itself is free then: who is told may send.
    order: Mutex<()>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Table {
    nodes: HashMap<NodeId, Vec<Link>>,
    /// As many as an operator has removed while the daemon ran.
    forbidden: HashSet<NodeId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Forbidden,
    Full,
}

/// What the choice among the connections of one node looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub dialler: NodeId,
    pub since: Instant,
}

impl Origin {
    fn precedes(self, newer: Origin) -> bool {
        let apart = newer.since.saturating_duration_since(self.since);
        apart < SIMULTANEOUS && self.dialler < newer.dialler
    }
}

impl Links {
    pub fn insert(&self, shared: &Shared, link: &Link) -> Result<(), Refusal> {
        let _order = locked(&self.order);
        let first = locked(&self.table).insert(link)?;
        self.changed.send_replace(());
        if first {
            tracing::info!(node = %link.node.short(), addr = %link.addr, "connected");
            shared.tell(Event::Up { node: link.node, addr: link.addr });
        }
        Ok(())
    }

    pub fn remove(&self, shared: &Shared, link: &Link, reason: String) {
        let _order = locked(&self.order);
        let last = locked(&self.table).remove(link);
        self.changed.send_replace(());
        if last {
            tracing::info!(node = %link.node.short(), addr = %link.addr, %reason, "disconnected");
            shared.tell(Event::Down { node: link.node, reason });
        }
    }

    pub fn forbid(&self, node: NodeId) {
        let mut table = locked(&self.table);
        table.forbidden.insert(node);
        for link in table.nodes.get(&node).into_iter().flatten() {
            link.connection.close(code::FORBIDDEN, b"this node was removed from the cluster");
        }
    }

    pub fn to_node(&self, node: NodeId) -> Option<Link> {
        locked(&self.table).nodes.get(&node)?.iter().find(|link| link.is_open()).cloned()
    }

    /// Of two nodes that had the same address one after the other, the later is there now.
    pub fn to_addr(&self, addr: SocketAddr) -> Option<Link> {
        let table = locked(&self.table);
        let at_addr =
            table.nodes.values().filter_map(|links| links.iter().find(|l| l.addr == addr && l.is_open()));
        at_addr.max_by_key(|link| link.origin.since).cloned()
    }

    pub fn connected(&self) -> Vec<(NodeId, SocketAddr)> {
        let table = locked(&self.table);
        let open = |links: &Vec<Link>| links.iter().find(|l| l.is_open()).map(|l| (l.node, l.addr));
        table.nodes.values().filter_map(open).collect()
    }

    pub fn all(&self) -> Vec<Link> {
        locked(&self.table).nodes.values().flatten().cloned().collect()
    }

    /// Wakes at every change; what has changed is to be looked up.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

impl Table {
    /// True if it is the node's first.
    fn insert(&mut self, link: &Link) -> Result<bool, Refusal> {
        if self.forbidden.contains(&link.node) {
            return Err(Refusal::Forbidden);
        }
        if self.nodes.values().map(Vec::len).sum::<usize>() >= IN_ALL {
            return Err(Refusal::Full);
        }
        let links = self.nodes.entry(link.node).or_default();
        let first = links.is_empty();
        let second = links.first().is_some_and(|old| old.is_open() && old.origin.precedes(link.origin));
        links.insert(usize::from(second), link.clone());
        if links.len() > PER_NODE {
            let oldest = links.iter().enumerate().min_by_key(|(_, link)| link.origin.since);
            let oldest = links.remove(oldest.map_or(PER_NODE, |(index, _)| index));
            oldest.connection.close(code::SUPERSEDED, b"you have newer connections");
        }
        Ok(first)
    }

    /// True if it was the node's last.
    fn remove(&mut self, link: &Link) -> bool {
        let Some(links) = self.nodes.get_mut(&link.node) else {
            return false;
        };
        links.retain(|other| other.connection.stable_id() != link.connection.stable_id());
        let last = links.is_empty();
        if last {
            self.nodes.remove(&link.node);
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_dialler_wins_only_among_simultaneous_ones() {
        let start = Instant::now();
        let origin =
            |dialler, ms| Origin { dialler: NodeId([dialler; 16]), since: start + Duration::from_millis(ms) };
        assert!(origin(1, 0).precedes(origin(2, 999)));
        assert!(!origin(2, 0).precedes(origin(1, 999)));
        assert!(!origin(1, 0).precedes(origin(2, 1000)), "the newest wins");
        assert!(!origin(1, 0).precedes(origin(1, 10)), "nobody dials twice unless the first is dead");
    }
}
