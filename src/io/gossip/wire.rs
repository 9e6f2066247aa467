//! chitchat's messages (0.11.2, protocol version 0), read by us before chitchat sees them.
//!
//! ```text
//! message  = 45139u16 0u8 ( 0u8 digest str         SYN, with the cluster's id
//!                         | 1u8 digest delta       SYN-ACK
//!                         | 2u8 delta              ACK
//!                         | 3u8 )                  BAD-CLUSTER
//! digest   = count:u16 { id heartbeat:u64 gc:u64 version:u64 }
//! delta    = { 1u8 len:u16 zstd | 2u8 len:u16 plain } 0u8, whose contents joined are
//!            { 0u8 id gc:u64 from:u64 | 1u8 key:str value:str version:u64 status:u8 | 2u8 version:u64 }
//! id       = node:str generation:u64 ( 4u8 [u8; 4] | 6u8 [u8; 16] ) port:u16
//! str      = len:u16 UTF-8                         all integers are little-endian
//! ```
//! chitchat takes much on trust: a key that begins with a character of two bytes, or a version that goes back
//! within a delta, ends its task; packed blocks may be a thousand times larger than the message; and versions,
//! heartbeats and deletions are whatever the relaying peer says. So what arrives is read here into [`Message`],
//! which has no room for any of that, and is written anew for chitchat.

use super::Fault;
use haclusterd_proto::NodeId;
use haclusterd_proto::member::MAX_TEXT;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The only key that members set.
pub const KEY: &str = "record";
/// chitchat makes none larger. It also bounds a digest, to about 900 ids.
pub const MAX_MESSAGE: usize = 65_507;
/// chitchat packs blocks of this many bytes.
const MAX_BLOCK: usize = 16_384;
/// The records of 64 members at their largest, before packing; more do not fit into a message after it.
const MAX_BLOCKS: usize = 32;

const MAGIC: u16 = 45_139;

/// chitchat's name for one run of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    pub node: NodeId,
    pub generation: u64,
    pub addr: SocketAddr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Syn { cluster: String, digest: Vec<Seen> },
    SynAck { digest: Vec<Seen>, delta: Vec<Update> },
    Ack { delta: Vec<Update> },
    BadCluster,
}

/// What the sender has of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub id: Id,
    pub heartbeat: u64,
    pub version: u64,
}

/// A node's record, and the version that chitchat counts it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    pub id: Id,
    pub text: String,
    pub version: u64,
}

pub fn decode(bytes: &[u8]) -> Result<Message, Fault> {
    if bytes.len() > MAX_MESSAGE {
        return Err(Fault::Oversize);
    }
    let mut reader = Reader(bytes);
    if reader.u16()? != MAGIC || reader.u8()? != 0 {
        return Err(Fault::Undecodable);
    }
    let message = match reader.u8()? {
        0 => {
            let digest = read_digest(&mut reader)?;
            Message::Syn { cluster: reader.str()?.to_owned(), digest }
        }
        1 => Message::SynAck { digest: read_digest(&mut reader)?, delta: read_delta(&mut reader)? },
        2 => Message::Ack { delta: read_delta(&mut reader)? },
        3 => Message::BadCluster,
        _ => return Err(Fault::Undecodable),
    };
    if reader.0.is_empty() { Ok(message) } else { Err(Fault::Undecodable) }
}

fn read_digest(reader: &mut Reader<'_>) -> Result<Vec<Seen>, Fault> {
    let count = reader.u16()?;
    (0..count)
        .map(|_| {
            let id = reader.id()?;
            let heartbeat = reader.u64()?;
            let _gc = reader.u64()?;
            Ok(Seen { id, heartbeat, version: reader.u64()? })
        })
        .collect()
}

fn read_delta(reader: &mut Reader<'_>) -> Result<Vec<Update>, Fault> {
    let plain = unpack(reader)?;
    let mut reader = Reader(&plain);
    let mut delta: Vec<Update> = Vec::new();
    let mut current: Option<Id> = None;
    while !reader.0.is_empty() {
        match reader.u8()? {
            0 => {
                current = Some(reader.id()?);
                let (_gc, _from) = (reader.u64()?, reader.u64()?);
            }
            1 => {
                // Taken: a second value for the same node is one too many.
                let id = current.take().ok_or(Fault::Undecodable)?;
                delta.push(read_update(&mut reader, id)?);
            }
            // A node that has set nothing yet: nothing to tell.
            2 => _ = reader.u64()?,
            _ => return Err(Fault::Undecodable),
        }
    }
    Ok(delta)
}

fn read_update(reader: &mut Reader<'_>, id: Id) -> Result<Update, Fault> {
    let (key, value) = (reader.str()?, reader.str()?);
    let version = reader.u64()?;
    // Nobody deletes.
    if key != KEY || reader.u8()? != 0 {
        return Err(Fault::ForeignKey);
    }
    if value.len() > MAX_TEXT {
        return Err(Fault::Oversize);
    }
    Ok(Update { id, text: value.to_owned(), version })
}

fn unpack(reader: &mut Reader<'_>) -> Result<Vec<u8>, Fault> {
    let mut plain = Vec::new();
    let mut block = vec![0; MAX_BLOCK];
    for _ in 0..=MAX_BLOCKS {
        let kind = reader.u8()?;
        if kind == 0 {
            return Ok(plain);
        }
        let len = usize::from(reader.u16()?);
        let packed = reader.take(len)?;
        match kind {
            1 => {
                let len = zstd::bulk::decompress_to_buffer(packed, &mut block[..])
                    .map_err(|_| Fault::Undecodable)?;
                plain.extend_from_slice(&block[..len]);
            }
            2 if len <= MAX_BLOCK => plain.extend_from_slice(packed),
            _ => return Err(Fault::Undecodable),
        }
    }
    Err(Fault::Oversize)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(Fault::Undecodable)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.take(N)?.try_into().map_err(|_| Fault::Undecodable)
    }

    fn u8(&mut self) -> Result<u8, Fault> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    fn str(&mut self) -> Result<&'a str, Fault> {
        let len = self.u16()?;
        std::str::from_utf8(self.take(len.into())?).map_err(|_| Fault::Undecodable)
    }

    fn id(&mut self) -> Result<Id, Fault> {
        let node = self.str()?.parse().map_err(|_| Fault::Undecodable)?;
        let generation = self.u64()?;
        let ip: IpAddr = match self.u8()? {
            4 => Ipv4Addr::from(self.array::<4>()?).into(),
            6 => Ipv6Addr::from(self.array::<16>()?).into(),
            _ => return Err(Fault::Undecodable),
        };
        Ok(Id { node, generation, addr: SocketAddr::new(ip, self.u16()?) })
    }
}

#[must_use]
pub fn encode(message: &Message) -> Vec<u8> {
    let mut out = MAGIC.to_le_bytes().to_vec();
    out.push(0);
    match message {
        Message::Syn { cluster, digest } => {
            out.push(0);
            write_digest(&mut out, digest);
            write_str(&mut out, cluster);
        }
        Message::SynAck { digest, delta } => {
            out.push(1);
            write_digest(&mut out, digest);
            write_delta(&mut out, delta);
        }
        Message::Ack { delta } => {
            out.push(2);
            write_delta(&mut out, delta);
        }
        Message::BadCluster => out.push(3),
    }
    out
}

fn write_digest(out: &mut Vec<u8>, digest: &[Seen]) {
    let count = u16::try_from(digest.len()).unwrap_or(u16::MAX);
    out.extend(count.to_le_bytes());
    for seen in digest.iter().take(count.into()) {
        write_id(out, &seen.id);
        for number in [seen.heartbeat, 0, seen.version] {
            out.extend(number.to_le_bytes());
        }
    }
}

fn write_delta(out: &mut Vec<u8>, delta: &[Update]) {
    let mut plain = Vec::new();
    for update in delta {
        plain.push(0);
        write_id(&mut plain, &update.id);
        plain.extend([0; 16]);
        plain.push(1);
        write_str(&mut plain, KEY);
        write_str(&mut plain, &update.text);
        plain.extend(update.version.to_le_bytes());
        plain.push(0);
    }
    for block in plain.chunks(MAX_BLOCK) {
        out.push(2);
        out.extend((block.len() as u16).to_le_bytes());
        out.extend(block);
    }
    out.push(0);
}

fn write_id(out: &mut Vec<u8>, id: &Id) {
    write_str(out, &id.node.to_string());
    out.extend(id.generation.to_le_bytes());
    match id.addr.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend(ip.octets());
        }
    }
    out.extend(id.addr.port().to_le_bytes());
}

/// Longer text than a length can say does not come here: keys and ids are ours, values are bounded.
fn write_str(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.as_bytes());
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
