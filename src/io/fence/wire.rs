//! Messages to and from nf_tables, as bytes (linux/netlink.h, linux/netfilter/nfnetlink.h).
//!
//! Headers are in the host's byte order, the numbers in nf_tables' attributes in the network's. Everything is padded
//! to four bytes.
//!
//! ```text
//! 0        4      6       8          12     16       17        18            20
//! +--------+------+-------+----------+------+--------+---------+-------------+--------------+
//! | length | kind | flags | sequence | port | family | version | resource id | attributes … |
//! +--------+------+-------+----------+------+--------+---------+-------------+--------------+
//! attribute: length (2), kind (2), value
//! ```

use rustix::io::Errno;

pub const REQUEST: u16 = 0x1;
pub const DUMP: u16 = 0x300;
pub const CREATE: u16 = 0x400;
pub const APPEND: u16 = 0x800;
const ACK: u16 = 0x4;
/// In an answer: the list changed while it was read.
const INTERRUPTED: u16 = 0x10;

const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The kernel's own words, after an error.
const ERROR_TEXT: u16 = 1;

/// nf_tables' part of NETLINK_NETFILTER.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const BATCH_GENERATION: u16 = 1;

const FAMILY_UNSPEC: u8 = 0;
const FAMILY_NETDEV: u8 = 5;

const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;
const FLAGS_AT: usize = 6;
const NESTED: u16 = 0x8000;
/// The two highest bits of an attribute's kind are flags.
const KIND: u16 = 0x3fff;

/// Attributes, or messages, one after the other.
#[derive(Debug, Default)]
pub struct Bytes(Vec<u8>);

impl Bytes {
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Bytes {
        self.attribute(kind, |inner| inner.0.extend_from_slice(value))
    }

    pub fn text(&mut self, kind: u16, value: &str) -> &mut Bytes {
        self.attribute(kind, |inner| {
            inner.0.extend_from_slice(value.as_bytes());
            inner.0.push(0);
        })
    }

    pub fn number(&mut self, kind: u16, value: u32) -> &mut Bytes {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub fn long(&mut self, kind: u16, value: u64) -> &mut Bytes {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Bytes)) -> &mut Bytes {
        self.attribute(kind | NESTED, fill)
    }

    fn attribute(&mut self, kind: u16, fill: impl FnOnce(&mut Bytes)) -> &mut Bytes {
        let start = self.0.len();
        self.0.extend([0; 4]);
        fill(self);
        // Callers stay far below 64 KiB; if one did not, the kernel would refuse the message.
        let len = u16::try_from(self.0.len() - start).unwrap_or(0);
        self.put(start, &len.to_ne_bytes());
        self.put(start + 2, &kind.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        family: u8,
        resource: u16,
        fill: impl FnOnce(&mut Bytes),
    ) {
        let start = self.0.len();
        self.0.extend([0; 4]);
        self.0.extend(kind.to_ne_bytes());
        self.0.extend((flags | REQUEST).to_ne_bytes());
        self.0.extend(sequence.to_ne_bytes());
        self.0.extend([0, 0, 0, 0, family, 0]);
        self.0.extend(resource.to_be_bytes());
        fill(self);
        let len = u32::try_from(self.0.len() - start).unwrap_or(0);
        self.put(start, &len.to_ne_bytes());
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        self.0[at..at + value.len()].copy_from_slice(value);
    }
}

fn nf_tables(kind: u8) -> u16 {
    SUBSYSTEM << 8 | u16::from(kind)
}

/// A question about tables of the family netdev.
pub fn question(kind: u8, flags: u16, sequence: u32, fill: impl FnOnce(&mut Bytes)) -> Vec<u8> {
    let mut bytes = Bytes::default();
    bytes.message(nf_tables(kind), flags, sequence, FAMILY_NETDEV, 0, fill);
    bytes.0
}

/// One transaction: all of it happens, or nothing.
#[derive(Debug)]
pub struct Batch {
    bytes: Bytes,
    last: usize,
    first: u32,
    /// What each message is for, in words that follow "refused to".
    steps: Vec<&'static str>,
}

impl Batch {
    /// `generation`: refused with [`Errno::RESTART`] if the ruleset is of another one.
    pub fn begin(first: u32, generation: Option<u32>) -> Batch {
        let mut bytes = Bytes::default();
        bytes.message(BATCH_BEGIN, 0, first, FAMILY_UNSPEC, SUBSYSTEM, |begin| {
            if let Some(generation) = generation {
                begin.number(BATCH_GENERATION, generation);
            }
        });
        Batch { bytes, last: 0, first, steps: vec!["begin a transaction"] }
    }

    pub fn add(&mut self, kind: u8, flags: u16, step: &'static str, fill: impl FnOnce(&mut Bytes)) {
        let sequence = self.after();
        self.last = self.bytes.0.len();
        self.bytes.message(nf_tables(kind), flags, sequence, FAMILY_NETDEV, 0, fill);
        self.steps.push(step);
    }

    /// Ready to be sent. The last message asks for the answer to all: only Linux 6.10 acknowledges the end itself.
    pub fn seal(&mut self) -> &[u8] {
        let at = self.last + FLAGS_AT;
        let flags = u16::from_ne_bytes([self.bytes.0[at], self.bytes.0[at + 1]]) | ACK;
        self.bytes.put(at, &flags.to_ne_bytes());
        let end = self.after();
        self.bytes.message(BATCH_END, 0, end, FAMILY_UNSPEC, SUBSYSTEM, |_| ());
        &self.bytes.0
    }

    pub fn is_empty(&self) -> bool {
        self.last == 0
    }

    /// The first sequence number that is free.
    pub fn after(&self) -> u32 {
        self.first.wrapping_add(u32::try_from(self.steps.len()).unwrap_or(0))
    }

    /// Whether `sequence` is that of the last message.
    pub fn ends_with(&self, sequence: u32) -> bool {
        sequence == self.after().wrapping_sub(1)
    }

    /// What the message with this number was for, if it is one of these.
    pub fn step(&self, sequence: u32) -> Option<&'static str> {
        self.steps.get(usize::try_from(sequence.wrapping_sub(self.first)).ok()?).copied()
    }
}

/// A message of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    pub sequence: u32,
    pub says: Says<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says<'a> {
    Acknowledged,
    Refused {
        errno: Errno,
        text: Option<&'a str>,
    },
    /// What was asked for. `steady`: the list did not change while it was read.
    Answer {
        attributes: &'a [u8],
        steady: bool,
    },
    Done,
}

/// What cannot be understood ends the list.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let len = usize::try_from(u32::from_ne_bytes(octets(rest, 0)?)).ok()?;
        let message = rest.get(..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { sequence: u32::from_ne_bytes(octets(message, 8)?), says: meaning(message)? })
    })
}

fn meaning(message: &[u8]) -> Option<Says<'_>> {
    let flags = u16::from_ne_bytes(octets(message, FLAGS_AT)?);
    match u16::from_ne_bytes(octets(message, 4)?) {
        DONE => Some(Says::Done),
        ERROR => {
            let code = i32::from_ne_bytes(octets(message, HEADER)?);
            // The request's header follows, and no more of it: NETLINK_CAP_ACK.
            let extra = message.get(HEADER + 4 + HEADER..).unwrap_or_default();
            Some(match code.saturating_neg() {
                0 => Says::Acknowledged,
                code => {
                    Says::Refused { errno: errno(code), text: attribute(extra, ERROR_TEXT).and_then(text) }
                }
            })
        }
        _ => Some(Says::Answer {
            attributes: message.get(HEADER + FAMILY_HEADER..)?,
            steady: flags & INTERRUPTED == 0,
        }),
    }
}

fn errno(code: i32) -> Errno {
    // Anything else is no error number.
    if (1..4096).contains(&code) { Errno::from_raw_os_error(code) } else { Errno::BADMSG }
}

/// The attributes of a message or a nest: kind and value.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(octets(rest, 0)?));
        let kind = u16::from_ne_bytes(octets(rest, 2)?) & KIND;
        let value = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

pub fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
}

pub fn octets<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}
