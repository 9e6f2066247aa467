//! The 14 bytes in front of every frame, and what can be wrong with one.
//!
//! ```text
//!  0      6      12          14
//! +------+------+-----------+---------
//! |  to  | from | ethertype | payload
//! +------+------+-----------+---------
//! ```

use crate::units::MacAddr;

/// Length of the header.
pub const HEADER: usize = 14;

/// Who sends a frame to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub to: MacAddr,
    pub from: MacAddr,
}

/// Always the sender's fault: a frame that the kernel let through is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    #[error("the frame ends after {have} bytes, {need} are needed")]
    Short { need: usize, have: usize },
    #[error("the frame's {0} is wrong")]
    Field(&'static str),
}

impl Header {
    /// The caller has seen to it that the header is there.
    pub(crate) fn of(frame: &[u8]) -> Header {
        Header { to: MacAddr(octets(frame, 0)), from: MacAddr(octets(frame, 6)) }
    }

    pub(crate) fn emit(self, ethertype: u16) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..6].copy_from_slice(&self.to.0);
        bytes[6..12].copy_from_slice(&self.from.0);
        bytes[12..].copy_from_slice(&ethertype.to_be_bytes());
        bytes
    }
}

/// The `N` bytes that begin at `at`; the caller has checked the length.
pub(crate) fn octets<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|n| bytes[at + n])
}

pub(crate) fn at_least(frame: &[u8], need: usize) -> Result<(), BadFrame> {
    if frame.len() < need {
        return Err(BadFrame::Short { need, have: frame.len() });
    }
    Ok(())
}

pub(crate) fn require(holds: bool, field: &'static str) -> Result<(), BadFrame> {
    if holds { Ok(()) } else { Err(BadFrame::Field(field)) }
}
