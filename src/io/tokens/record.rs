//! One token as its issuer remembers it: what it is good for, and how it ended.

use super::seconds;
use haclusterd_proto::Role;
use haclusterd_proto::join::JoinRefusal;
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    pub id: String,
    pub(super) key: String,
    pub node: Option<String>,
    pub role: Role,
    /// Seconds since 1970 by the issuer's clock, as all times here.
    pub created: u64,
    pub expires: u64,
    pub uses_left: u32,
    pub used_by: Vec<String>,
    pub last_used: Option<u64>,
    pub revoked: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    Ready,
    Used,
    Expired,
    Revoked,
}

impl TokenRecord {
    #[must_use]
    pub fn state(&self) -> TokenState {
        self.state_at(seconds(SystemTime::now()))
    }

    pub(super) fn state_at(&self, now: u64) -> TokenState {
        match self {
            TokenRecord { revoked: Some(_), .. } => TokenState::Revoked,
            TokenRecord { uses_left: 0, .. } => TokenState::Used,
            TokenRecord { expires, .. } if *expires <= now => TokenState::Expired,
            _ => TokenState::Ready,
        }
    }

    /// When it ended, if it has.
    pub(super) fn ended(&self, now: u64) -> Option<u64> {
        match self.state_at(now) {
            TokenState::Ready => None,
            TokenState::Revoked => self.revoked,
            TokenState::Used => self.last_used,
            TokenState::Expired => Some(self.expires),
        }
    }

    pub(super) fn admit(&self, name: &str, role: Role, now: u64) -> Result<(), JoinRefusal> {
        match self.state_at(now) {
            TokenState::Revoked => return Err(JoinRefusal::Revoked),
            TokenState::Used => return Err(JoinRefusal::Used { by: self.used_by.last().cloned() }),
            TokenState::Expired => return Err(JoinRefusal::Expired { ago_s: now - self.expires }),
            TokenState::Ready => {}
        }
        match &self.node {
            Some(bound_to) if bound_to != name => {
                return Err(JoinRefusal::WrongName { bound_to: bound_to.clone() });
            }
            _ => {}
        }
        if self.role != role {
            return Err(JoinRefusal::WrongRole { allowed: self.role });
        }
        Ok(())
    }
}

impl std::fmt::Debug for TokenRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenRecord({}, {:?}, key hidden)", self.id, self.state())
    }
}
