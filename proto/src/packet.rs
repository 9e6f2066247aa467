//! How a [`Message`] travels: whole, or with a long list left out that the receiver has said it has.
//!
//! What a node says of a thousand VIPs hardly ever changes. So a list travels once, and then by its name: what is said
//! remains the whole, and an advert costs the same for one VIP and for a thousand.

use crate::cluster::Message;
use crate::codec::{self, EncodeError};
use serde::{Deserialize, Serialize};

/// Lists of no more bytes than this always travel whole.
pub const LONG: usize = 512;

/// The first 64 bits of the digest of a list's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListName(u64);

/// The lists that the sender of this last got from its receiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    pub bids: Option<ListName>,
    pub verdicts: Option<ListName>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    pub have: Have,
    /// The message's list is this one; in the message it is empty.
    pub list: Option<ListName>,
    pub message: Message,
}

impl ListName {
    /// `None`: the list is not long.
    pub fn of<T: Serialize>(list: &[T]) -> Result<Option<ListName>, EncodeError> {
        let bytes = codec::encode(&list, codec::MAX)?;
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let mut head = [0; 8];
        head.copy_from_slice(&digest.as_ref()[..8]);
        Ok((bytes.len() > LONG).then_some(ListName(u64::from_be_bytes(head))))
    }
}
