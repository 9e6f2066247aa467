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

const REQUEST: u16 = 0x1;
pub const DUMP: u16 = 0x300;
pub const CREATE: u16 = 0x400;
pub const APPEND: u16 = 0x800;
pub const ACK: u16 = 0x4;
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

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
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

/// What is refused to who may nothing at all.
pub const BEGIN_STEP: &str = "begin a transaction";

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
        Batch { bytes, last: 0, first, steps: vec![BEGIN_STEP] }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.replace(' ', "").as_bytes()).unwrap()
    }

    /// As nft 1.0.6 sends it for `delete table netdev t`, but for its generation 0 and the acknowledgement.
    #[cfg(target_endian = "little")]
    #[test]
    fn a_transaction_is_framed_and_its_last_message_asks_for_the_answer() {
        let mut batch = Batch::begin(7, Some(0x0102));
        assert!(batch.is_empty());
        batch.add(2, 0, "delete", |table| {
            table.text(1, "t");
        });
        let begin = "1c000000 1000 0100 07000000 00000000 00 00 000a 0800 0100 00000102";
        let delete = "1c000000 020a 0500 08000000 00000000 05 00 0000 0600 0100 74000000";
        let end = "14000000 1100 0100 09000000 00000000 00 00 000a";
        assert_eq!(batch.seal(), hex(&[begin, delete, end].concat()));
        assert_eq!(batch.after(), 9);
        assert!(batch.ends_with(8) && !batch.is_empty());
        assert_eq!(batch.step(6), None);
        assert_eq!(batch.step(7), Some(BEGIN_STEP));
        assert_eq!(batch.step(8), Some("delete"));
        assert_eq!(batch.step(9), None);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn what_the_kernel_says_is_understood() {
        let acknowledged =
            "24000000 0200 0001 08000000 00000000 00000000 14000000 020a 0500 08000000 00000000";
        let refused = "30000000 0200 0003 09000000 00000000 feffffff 14000000 020a 0500 09000000 00000000
                       0b00 0100 6e6f2073657400 00";
        let answer = "1c000000 000a 1200 0a000000 00000000 05 00 0007 0800 0200 00000001";
        let done = "14000000 0300 0200 0b000000 00000000 00000000";
        let all = hex(&[acknowledged, refused, answer, done].concat().replace('\n', ""));
        let says: Vec<_> = messages(&all).map(|message| (message.sequence, message.says)).collect();
        let attributes = &hex("0800 0200 00000001");
        assert_eq!(
            says,
            [
                (8, Says::Acknowledged),
                (9, Says::Refused { errno: Errno::NOENT, text: Some("no set") }),
                (10, Says::Answer { attributes, steady: false }),
                (11, Says::Done),
            ]
        );
        assert_eq!(attribute(attributes, 2), Some(&[0, 0, 0, 1][..]));
        assert_eq!(attribute(attributes, 1), None);
    }

    #[test]
    fn nests_are_measured_and_padded() {
        let mut bytes = Bytes::default();
        bytes.nest(4, |nest| {
            nest.text(3, "ab").long(5, 300);
        });
        let nest = attribute(&bytes.0, 4).unwrap();
        assert_eq!(bytes.0.len(), 4 + 8 + 12);
        assert_eq!(attribute(nest, 3).and_then(text), Some("ab"));
        assert_eq!(attribute(nest, 5), Some(&300_u64.to_be_bytes()[..]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(datagram in prop::collection::vec(any::<u8>(), 0..256)) {
            for message in messages(&datagram) {
                if let Says::Answer { attributes: found, .. } = message.says {
                    attributes(found).for_each(drop);
                }
            }
            attributes(&datagram).for_each(drop);
        }
    }
}
