//! Addresses in sets: putting them in, taking them out, and reading how long they stay.

use super::socket::{Refusal, Socket};
use super::table::{self, Family, NAME, Set, TABLE};
use super::wire::{self, Batch, Bytes, CREATE};
use std::net::IpAddr;
use std::time::Duration;

const NEW: u8 = 12;
const GET: u8 = 13;
const DELETE: u8 = 14;

const SET: u16 = 2;
const LIST: u16 = 3;
const ELEMENT: u16 = 1;
const KEY: u16 = 1;
const KEY_VALUE: u16 = 1;
const TIMEOUT: u16 = 4;
const EXPIRATION: u16 = 5;

/// Has `set` hold those of the `named` that are `kept`, for so long.
///
/// An element that is there already would keep its old timeout, before Linux 6.12 in any case, and one that is not
/// there cannot be deleted. So each is made if need be, deleted, and made anew; nobody sees more than the end.
pub fn put(batch: &mut Batch, set: Set, named: &[IpAddr], kept: &[(IpAddr, Duration)]) {
    for family in Family::BOTH {
        let named: Vec<_> = named.iter().copied().filter(|addr| Family::of(*addr) == family).collect();
        let kept: Vec<_> = kept.iter().copied().filter(|(addr, _)| Family::of(*addr) == family).collect();
        if !named.is_empty() {
            let untimed = |list: &mut Bytes| named.iter().for_each(|addr| element(list, *addr, None));
            message(batch, NEW, set, family, untimed);
            message(batch, DELETE, set, family, untimed);
        }
        if !kept.is_empty() {
            message(batch, NEW, set, family, |list| {
                kept.iter().for_each(|(addr, left)| element(list, *addr, Some(*left)));
            });
        }
    }
}

fn message(batch: &mut Batch, kind: u8, set: Set, family: Family, fill: impl FnOnce(&mut Bytes)) {
    let (flags, step) = match kind {
        NEW => (CREATE, "put an address into a set"),
        _ => (0, "take an address out of a set"),
    };
    batch.add(kind, flags, step, |message| {
        message.text(TABLE, NAME).text(SET, set.name(family)).nest(LIST, fill);
    });
}

fn element(list: &mut Bytes, addr: IpAddr, left: Option<Duration>) {
    list.nest(ELEMENT, |element| {
        if let Some(left) = left {
            element.long(TIMEOUT, u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        }
        element.nest(KEY, |key| {
            match addr {
                IpAddr::V4(addr) => key.bytes(KEY_VALUE, &addr.octets()),
                IpAddr::V6(addr) => key.bytes(KEY_VALUE, &addr.octets()),
            };
        });
    });
}

/// Which gates are open, and for how long yet. `None` if that changed while it was read.
pub fn leases(socket: &mut Socket) -> Result<Option<Vec<(IpAddr, Duration)>>, Refusal> {
    let mut leases = Vec::new();
    for family in Family::BOTH {
        let parts = table::list(socket, GET, |question| {
            question.text(SET, Set::Lease.name(family));
        })?;
        let Some(parts) = parts else { return Ok(None) };
        let lists = parts.iter().filter_map(|part| wire::attribute(part, LIST));
        leases.extend(lists.flat_map(wire::attributes).filter_map(|(_, element)| lease(element)));
    }
    Ok(Some(leases))
}

fn lease(element: &[u8]) -> Option<(IpAddr, Duration)> {
    let key = wire::attribute(wire::attribute(element, KEY)?, KEY_VALUE)?;
    let addr = match key.len() {
        4 => IpAddr::from(wire::octets::<4>(key, 0)?),
        _ => IpAddr::from(wire::octets::<16>(key, 0)?),
    };
    let left = u64::from_be_bytes(wire::octets(wire::attribute(element, EXPIRATION)?, 0)?);
    Some((addr, Duration::from_millis(left)))
}
