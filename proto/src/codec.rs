//! How messages become bytes: one version byte, then bincode. The only file that names bincode.

use bincode::config::{Configuration, Limit, LittleEndian, Varint, standard};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest message that is ever read.
pub const MAX: usize = 65536;
/// The first byte of every message.
pub const VERSION: u8 = 1;

const FORMAT: Configuration<LittleEndian, Varint, Limit<MAX>> = standard().with_limit::<MAX>();

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("a message of {len} bytes is larger than its limit of {limit} (our fault)")]
    TooLong { len: usize, limit: usize },
    #[error("a message that cannot be encoded (our fault): {0}")]
    Unencodable(String),
}

/// Always the sender's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("an empty message")]
    Empty,
    #[error("a message of version {0}, this node speaks version {VERSION}: run one release on all nodes")]
    Version(u8),
    #[error("a message of {0} bytes, more than {MAX}")]
    TooLong(usize),
    #[error("a malformed message: {0}")]
    Malformed(String),
    #[error("{0} bytes too many after a message")]
    Trailing(usize),
}

/// `limit` counts the version byte too; it is the receiver's bound for this kind of message.
pub fn encode<T: Serialize>(message: &T, limit: usize) -> Result<Vec<u8>, EncodeError> {
    let limit = limit.min(MAX);
    let mut bytes = vec![VERSION];
    bincode::serde::encode_into_std_write(message, &mut bytes, standard())
        .map_err(|error| EncodeError::Unencodable(error.to_string()))?;
    if bytes.len() > limit {
        return Err(EncodeError::TooLong { len: bytes.len(), limit });
    }
    Ok(bytes)
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if *version != VERSION {
        return Err(DecodeError::Version(*version));
    }
    if bytes.len() > MAX {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    let (message, used) = bincode::serde::decode_from_slice(body, FORMAT)
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    match body.len() - used {
        0 => Ok(message),
        left => Err(DecodeError::Trailing(left)),
    }
}
