//! The interfaces with a virtual MAC by which VIPs of ours show themselves, from the moment that one is wanted.
//!
//! The addresses and the adverts of a VIP wait until its face is there: none of them may go out with another MAC.

use crate::config::{Address, Vip, VirtualMac, Vrrp};
use crate::engine::time::Instant;
use crate::io::adverts::wire_of;
use crate::io::neighbor::Neighbor;
use crate::io::virtual_macs::{Made, VirtualMacs, Wanted};
use crate::io::vrrp::Sender;
use haclusterd_proto::VipId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) struct Face {
    pub index: u32,
    pub sender: Sender,
    pub neighbor: Neighbor,
}

/// An installation that waits.
struct Awaited {
    ticket: u64,
    until: Instant,
}

pub(super) struct Faces {
    virtual_macs: VirtualMacs,
    there: BTreeMap<VipId, Face>,
    awaited: BTreeMap<VipId, Awaited>,
    /// The priority that the advert which waits is to name.
    adverts: BTreeMap<VipId, u8>,
}

impl Faces {
    pub fn new(virtual_macs: VirtualMacs) -> Faces {
        Faces { virtual_macs, there: BTreeMap::new(), awaited: BTreeMap::new(), adverts: BTreeMap::new() }
    }

    pub fn get(&self, vip: VipId) -> Option<&Face> {
        self.there.get(&vip)
    }

    /// True: there is nothing to wait for.
    pub fn ask(&mut self, vip: &Vip, parent: u32, until: Instant) -> Result<bool, String> {
        let Some(own) = vip.virtual_mac.as_ref().filter(|_| !self.there.contains_key(&vip.id)) else {
            return Ok(true);
        };
        let ticket = self.virtual_macs.make(wanted(vip, own, parent))?;
        self.awaited.insert(vip.id, Awaited { ticket, until });
        Ok(false)
    }

    /// The lease of an installation that waits is longer by now. True: it does wait.
    pub fn extend(&mut self, vip: VipId, until: Instant) -> bool {
        self.awaited.get_mut(&vip).map(|awaited| awaited.until = until).is_some()
    }

    /// Until when the VIP is to be installed. `None`: another face is on its way, or none is wanted any more.
    pub fn answer(&mut self, made: &Made) -> Option<Instant> {
        let until = self.awaited.get(&made.vip).filter(|awaited| awaited.ticket == made.ticket)?.until;
        self.awaited.remove(&made.vip);
        Some(until)
    }

    pub fn open(&mut self, router: &Vrrp, own: &VirtualMac, index: u32) -> Result<(), String> {
        let sender = Sender::open(index, wire_of(router)).map_err(|error| error.to_string())?;
        // Who else claims the addresses is heard on the interface below.
        let neighbor = Neighbor::open(index, own.mac, BTreeSet::new(), Arc::new(|_| {}));
        let neighbor = neighbor.map_err(|error| error.to_string())?;
        self.there.insert(router.vip.id, Face { index, sender, neighbor });
        Ok(())
    }

    pub fn hold_back(&mut self, vip: VipId, priority: u8) {
        self.adverts.insert(vip, priority);
    }

    pub fn held_back(&mut self, vip: VipId) -> Option<u8> {
        self.adverts.remove(&vip)
    }

    /// Somebody has removed it or set it down: the next renewal of the VIP makes it anew.
    pub fn lose(&mut self, vip: VipId) {
        self.there.remove(&vip);
    }

    pub fn lose_index(&mut self, index: u32) {
        self.there.retain(|_, face| face.index != index);
    }

    /// The addresses are gone, or will not come.
    pub fn remove(&mut self, vip: VipId) {
        self.there.remove(&vip);
        self.awaited.remove(&vip);
        self.adverts.remove(&vip);
        self.virtual_macs.remove(vip);
    }

    pub fn close(self) {
        self.virtual_macs.close();
    }
}

#[must_use]
pub fn wanted(vip: &Vip, own: &VirtualMac, parent: u32) -> Wanted {
    let VirtualMac { interface, mac } = own;
    let on_it = vip.all().filter(|address| address.interface.is_none());
    let addrs = on_it.map(Address::ip).collect();
    Wanted { vip: vip.id, parent, name: interface.clone(), mac: *mac, addrs }
}
