//! The password of version 2 (RFC 2338, 5.3.6; RFC 3768 has taken it away, keepalived has not).

use std::fmt;
use subtle::ConstantTimeEq;

/// How a message of version 2 says that it is authentic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    None,
    /// Type 1, in clear.
    Pass(Password),
    /// Type 2: the packet has an authentication header (see [`super::ah`]), the message only says so.
    Ah,
}

/// Compared in constant time and never shown, so that neither timing nor a log tells it.
#[derive(Clone, Copy)]
pub struct Password([u8; Password::LEN]);

impl Auth {
    pub(super) fn code(&self) -> u8 {
        match self {
            Auth::None => 0,
            Auth::Pass(_) => 1,
            Auth::Ah => 2,
        }
    }

    /// The 8 bytes at the end of every message of version 2.
    pub(super) fn data(&self) -> [u8; Password::LEN] {
        match self {
            Auth::Pass(password) => password.0,
            Auth::None | Auth::Ah => [0; Password::LEN],
        }
    }
}

impl Password {
    pub const LEN: usize = 8;

    /// As keepalived does: cut after 8 bytes, filled up with zeros.
    #[must_use]
    pub fn new(text: &[u8]) -> Password {
        Password(std::array::from_fn(|n| text.get(n).copied().unwrap_or(0)))
    }

    pub(super) fn bytes(&self) -> &[u8; Password::LEN] {
        &self.0
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Password) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_has_eight_bytes() {
        assert_eq!(Password::new(b"secret").bytes(), b"secret\0\0");
        assert_eq!(Password::new(b"longersecret"), Password::new(b"longerse"));
        assert_ne!(Password::new(b"secret"), Password::new(b"Secret"));
    }

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(format!("{:?}", Auth::Pass(Password::new(b"secret"))), "Pass(Password(..))");
    }
}
