//! Addresses in sets: putting them in, taking them out, and reading how long they stay.

use super::rules;
use super::socket::{Refusal, Socket};
use super::table::{self, ALIVE, Family, NAME, Set, TABLE};
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

/// One attribute has at most 64 KiB, and an address in it up to 44 bytes.
const AT_ONCE: usize = 1024;

/// Has `set` hold those of the `named` that are `kept`, for so long.
///
/// An element that is there already would keep its old timeout, before Linux 6.12 in any case, and one that is not
/// there cannot be deleted. So each is made if need be, deleted, and made anew; nobody sees more than the end.
pub fn put(batch: &mut Batch, set: Set, named: &[IpAddr], kept: &[(IpAddr, Duration)]) {
    for family in Family::BOTH {
        let named: Vec<_> = named.iter().copied().filter(|addr| Family::of(*addr) == family).collect();
        let kept: Vec<_> = kept.iter().copied().filter(|(addr, _)| Family::of(*addr) == family).collect();
        for named in named.chunks(AT_ONCE) {
            let untimed = |list: &mut Bytes| named.iter().for_each(|addr| element(list, *addr, None));
            message(batch, NEW, set, family, untimed);
            message(batch, DELETE, set, family, untimed);
        }
        for kept in kept.chunks(AT_ONCE) {
            message(batch, NEW, set, family, |list| {
                kept.iter().for_each(|(addr, left)| element(list, *addr, Some(*left)));
            });
        }
    }
}

/// The gates that are kept are open for so long; `None`: not at all.
pub fn keep_alive(batch: &mut Batch, left: Option<Duration>) {
    let all = |left: Option<Duration>| {
        move |list: &mut Bytes| {
            rules::ETHERTYPES.iter().for_each(|kind| keyed(list, &kind.to_be_bytes(), left));
        }
    };
    message_to(batch, NEW, ALIVE, all(None));
    message_to(batch, DELETE, ALIVE, all(None));
    if left.is_some() {
        message_to(batch, NEW, ALIVE, all(left));
    }
}

fn message(batch: &mut Batch, kind: u8, set: Set, family: Family, fill: impl FnOnce(&mut Bytes)) {
    message_to(batch, kind, set.name(family), fill);
}

fn message_to(batch: &mut Batch, kind: u8, set: &str, fill: impl FnOnce(&mut Bytes)) {
    let (flags, step) = match kind {
        NEW => (CREATE, "put an address into a set"),
        _ => (0, "take an address out of a set"),
    };
    batch.add(kind, flags, step, |message| {
        message.text(TABLE, NAME).text(SET, set).nest(LIST, fill);
    });
}

fn element(list: &mut Bytes, addr: IpAddr, left: Option<Duration>) {
    match addr {
        IpAddr::V4(addr) => keyed(list, &addr.octets(), left),
        IpAddr::V6(addr) => keyed(list, &addr.octets(), left),
    }
}

fn keyed(list: &mut Bytes, key: &[u8], left: Option<Duration>) {
    list.nest(ELEMENT, |element| {
        if let Some(left) = left {
            element.long(TIMEOUT, u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        }
        element.nest(KEY, |value| {
            value.bytes(KEY_VALUE, key);
        });
    });
}

/// Which gates are open, and for how long yet. `None` if that changed while it was read.
pub fn leases(socket: &mut Socket) -> Result<Option<Vec<(IpAddr, Duration)>>, Refusal> {
    let Some(alive) = members(socket, ALIVE)? else { return Ok(None) };
    let alive = alive.iter().filter_map(|(_, left)| *left).min();
    let mut leases = Vec::new();
    for family in Family::BOTH {
        let [own, kept] = [Set::Lease, Set::Kept].map(|set| members(socket, set.name(family)));
        let (Some(own), Some(kept)) = (own?, kept?) else { return Ok(None) };
        leases.extend(own.iter().filter_map(|(key, left)| Some((address(key)?, (*left)?))));
        leases.extend(kept.iter().filter_map(|(key, _)| Some((address(key)?, alive?))));
    }
    Ok(Some(leases))
}

/// Keys, and how long they stay.
type Members = Vec<(Vec<u8>, Option<Duration>)>;

fn members(socket: &mut Socket, set: &str) -> Result<Option<Members>, Refusal> {
    let parts = table::list(socket, GET, |question| {
        question.text(SET, set);
    })?;
    let Some(parts) = parts else { return Ok(None) };
    let lists = parts.iter().filter_map(|part| wire::attribute(part, LIST));
    Ok(Some(lists.flat_map(wire::attributes).filter_map(|(_, element)| member(element)).collect()))
}

fn member(element: &[u8]) -> Option<(Vec<u8>, Option<Duration>)> {
    let key = wire::attribute(wire::attribute(element, KEY)?, KEY_VALUE)?;
    let left = wire::attribute(element, EXPIRATION).and_then(|left| wire::octets(left, 0));
    Some((key.to_vec(), left.map(|left| Duration::from_millis(u64::from_be_bytes(left)))))
}

fn address(key: &[u8]) -> Option<IpAddr> {
    match key.len() {
        4 => Some(IpAddr::from(wire::octets::<4>(key, 0)?)),
        _ => Some(IpAddr::from(wire::octets::<16>(key, 0)?)),
    }
}
