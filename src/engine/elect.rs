//! What an election says, whatever its rules: who owns a VIP, and how long the owner may go on unheard.

use super::time::Instant;
use haclusterd_proto::{NodeId, Term, VipId};
use serde::Serialize;

/// A fact, not an order: the address follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Owner {
    Nobody,
    /// Under this term, and until then unless it is renewed.
    Us {
        term: Term,
        until: Instant,
    },
    Peer(NodeId),
}

pub trait Elect {
    fn owner(&self, vip: VipId, now: Instant) -> Owner;
    /// When this election must be asked again, if nothing comes before.
    fn deadline(&self, now: Instant) -> Option<Instant>;
}
