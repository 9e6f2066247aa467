//! Long lists travel once: see [`haclusterd_proto::packet`]. This keeps, for each peer, the lists that it sent last, and
//! which of ours it says it has.
//!
//! A message whose list is not known here is dropped, like one that was lost: the sender hears from our next message
//! what we have, and sends the whole again.

use bytes::Bytes;
use haclusterd_proto::NodeId;
use haclusterd_proto::cluster::{Bid, MAX_MESSAGE, Message, Verdict};
use haclusterd_proto::codec::{self, DecodeError, EncodeError};
use haclusterd_proto::packet::{Have, LONG, ListName, Packet};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One packet on any path that carries QUIC.
const MAX_DATAGRAM: usize = 1162;
/// No cluster is this large.
const MAX_PEERS: usize = 256;

/// A list and its name, if it is long.
type Named<T> = Option<(Option<ListName>, Arc<[T]>)>;

#[derive(Debug, Default)]
struct Peer {
    /// What it says it has of ours.
    has: Have,
    /// What it sent last.
    bids: Named<Bid>,
    verdicts: Named<Verdict>,
    /// What it was sent last.
    answered: Named<Verdict>,
}

#[derive(Debug, Default)]
pub struct Lists {
    peers: BTreeMap<NodeId, Peer>,
    /// What all were sent last.
    advertised: Named<Bid>,
}

#[derive(Debug)]
pub enum Parcel {
    Datagram(Bytes),
    /// Too long for one packet.
    Stream(Vec<u8>),
}

#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    #[error("a list is left out that is not known here")]
    Unknown,
}

impl Lists {
    pub fn pack(&mut self, to: NodeId, mut message: Message) -> Result<Parcel, EncodeError> {
        let peer = peer(&mut self.peers, to);
        let list = match &mut message {
            Message::Advert(advert) => leave_out(&mut advert.bids, &mut self.advertised, peer.has.bids)?,
            Message::Answer(answer) => {
                leave_out(&mut answer.verdicts, &mut peer.answered, peer.has.verdicts)?
            }
            Message::Freed(_) | Message::Voters(_) | Message::Move(_) => None,
        };
        let bytes = codec::encode(&Packet { have: peer.have(), list, message }, MAX_MESSAGE)?;
        Ok(match bytes.len() <= MAX_DATAGRAM {
            true => Parcel::Datagram(bytes.into()),
            false => Parcel::Stream(bytes),
        })
    }

    pub fn unpack(&mut self, from: NodeId, bytes: &[u8]) -> Result<Message, Unread> {
        let Packet { have, list, mut message } = codec::decode(bytes)?;
        let peer = peer(&mut self.peers, from);
        peer.has = have;
        if list.is_some() || bytes.len() > LONG {
            match &mut message {
                Message::Advert(advert) => fill_in(&mut advert.bids, list, &mut peer.bids)?,
                Message::Answer(answer) => fill_in(&mut answer.verdicts, list, &mut peer.verdicts)?,
                Message::Freed(_) | Message::Voters(_) | Message::Move(_) => {}
            }
        }
        Ok(message)
    }

    pub fn forget(&mut self, nodes: &[NodeId]) {
        nodes.iter().for_each(|node| drop(self.peers.remove(node)));
    }
}

/// One too many, and all are forgotten: what was known of each costs one message that counts as lost.
fn peer(peers: &mut BTreeMap<NodeId, Peer>, node: NodeId) -> &mut Peer {
    if peers.len() >= MAX_PEERS && !peers.contains_key(&node) {
        peers.clear();
    }
    peers.entry(node).or_default()
}

impl Peer {
    fn have(&self) -> Have {
        Have {
            bids: self.bids.as_ref().and_then(|(name, _)| *name),
            verdicts: self.verdicts.as_ref().and_then(|(name, _)| *name),
        }
    }
}

/// A list is named once. `has`: what the receiver has.
fn leave_out<T: Serialize>(
    list: &mut Arc<[T]>,
    sent: &mut Named<T>,
    has: Option<ListName>,
) -> Result<Option<ListName>, EncodeError> {
    let name = match sent {
        Some((name, last)) if Arc::ptr_eq(last, list) => *name,
        _ => {
            let name = ListName::of(list)?;
            *sent = Some((name, list.clone()));
            name
        }
    };
    let name = name.filter(|name| has == Some(*name));
    if name.is_some() {
        *list = Arc::new([]);
    }
    Ok(name)
}

/// The same list is the very same one, so that nobody has to compare it.
fn fill_in<T: Serialize>(
    list: &mut Arc<[T]>,
    left_out: Option<ListName>,
    known: &mut Named<T>,
) -> Result<(), Unread> {
    let name = match left_out {
        Some(name) => Some(name),
        None => ListName::of(list).map_err(|_| Unread::Unknown)?,
    };
    match known {
        Some((last, kept)) if *last == name && name.is_some() => *list = kept.clone(),
        _ if left_out.is_some() => return Err(Unread::Unknown),
        _ => *known = Some((name, list.clone())),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use haclusterd_proto::cluster::{Advert, Grant, VotersStamp};
    use haclusterd_proto::{AddrId, Incarnation, Term, VipId};

    const A: NodeId = NodeId([1; 16]);
    const B: NodeId = NodeId([2; 16]);

    fn bids(count: u64, term: u64) -> Arc<[Bid]> {
        let bid = |vip| Bid {
            vip: VipId(u64::MAX / 2 + vip),
            priority: None,
            ready: true,
            want: true,
            holds: Some(Term(term)),
            pinned: false,
            term: Term(term),
            addresses: vec![AddrId(u64::MAX), AddrId(u64::MAX)],
        };
        (0..count).map(bid).collect()
    }

    fn advert(bids: &Arc<[Bid]>) -> Message {
        Message::Advert(Advert {
            incarnation: Incarnation(1),
            seq: 1,
            voters: VotersStamp::default(),
            session: 1,
            resumes: None,
            held_down_ms: 0,
            sick: false,
            bids: bids.clone(),
        })
    }

    fn length(parcel: &Parcel) -> (bool, usize) {
        match parcel {
            Parcel::Datagram(bytes) => (true, bytes.len()),
            Parcel::Stream(bytes) => (false, bytes.len()),
        }
    }

    fn bytes(parcel: Parcel) -> Vec<u8> {
        match parcel {
            Parcel::Datagram(bytes) => bytes.to_vec(),
            Parcel::Stream(bytes) => bytes,
        }
    }

    fn list(message: Message) -> Arc<[Bid]> {
        let Message::Advert(advert) = message else { panic!("{message:?}") };
        advert.bids
    }

    #[test]
    fn a_long_list_travels_once_and_is_then_the_very_same() {
        let (mut a, mut b) = (Lists::default(), Lists::default());
        let long = bids(1024, u64::from(u32::MAX));
        let whole = a.pack(B, advert(&long)).unwrap();
        assert!(!length(&whole).0);
        let first = list(b.unpack(A, &bytes(whole)).unwrap());
        assert_eq!(first, long);
        // A has not heard yet that B has it.
        assert!(!length(&a.pack(B, advert(&long)).unwrap()).0);
        let answer = b.pack(A, advert(&bids(1, 1))).unwrap();
        a.unpack(B, &bytes(answer)).unwrap();
        let short = a.pack(B, advert(&long)).unwrap();
        assert!(length(&short).0 && length(&short).1 < 100, "{short:?}");
        assert!(Arc::ptr_eq(&first, &list(b.unpack(A, &bytes(short)).unwrap())));
        assert!(!length(&a.pack(B, advert(&bids(1024, 7))).unwrap()).0, "another list");
    }

    #[test]
    fn what_a_node_has_forgotten_is_lost_once() {
        let (mut a, mut b) = (Lists::default(), Lists::default());
        let long = bids(100, 7);
        let whole = a.pack(B, advert(&long)).unwrap();
        b.unpack(A, &bytes(whole)).unwrap();
        a.unpack(B, &bytes(b.pack(A, advert(&long)).unwrap())).unwrap();
        let mut restarted = Lists::default();
        let short = a.pack(B, advert(&long)).unwrap();
        assert!(matches!(restarted.unpack(A, &bytes(short)), Err(Unread::Unknown)));
        a.unpack(B, &bytes(restarted.pack(A, advert(&bids(1, 1))).unwrap())).unwrap();
        let whole = a.pack(B, advert(&long)).unwrap();
        assert_eq!(list(restarted.unpack(A, &bytes(whole)).unwrap()), long);
    }

    /// An advert without its bids would release all that its sender holds.
    #[test]
    fn however_many_peers_there_are_no_list_is_taken_for_an_empty_one() {
        let (mut a, mut b) = (Lists::default(), Lists::default());
        let long = bids(100, 7);
        let whole = a.pack(B, advert(&long)).unwrap();
        b.unpack(A, &bytes(whole)).unwrap();
        a.unpack(B, &bytes(b.pack(A, advert(&long)).unwrap())).unwrap();
        let short = bytes(a.pack(B, advert(&long)).unwrap());
        let mut full = Lists::default();
        for other in 0..MAX_PEERS as u128 {
            full.pack(NodeId((u128::MAX - other).to_be_bytes()), advert(&long)).unwrap();
        }
        assert!(matches!(full.unpack(A, &short), Err(Unread::Unknown)));
    }

    #[test]
    fn the_longest_answer_can_be_sent() {
        let verdict =
            |vip| Verdict { vip: VipId(u64::MAX - vip), term: Term::MAX, grant: Grant::Held { by: A } };
        let verdicts: Vec<Verdict> = (0..haclusterd_proto::cluster::MAX_VIPS as u64).map(verdict).collect();
        assert!(ListName::of(&verdicts).is_ok());
        let all: Arc<[Bid]> = bids(haclusterd_proto::cluster::MAX_VIPS as u64, Term::MAX.0);
        Lists::default().pack(A, advert(&all)).unwrap();
    }
}
