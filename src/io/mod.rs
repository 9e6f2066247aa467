//! The world, a file an adapter. Adapters act and report; they decide nothing.

pub mod control;
pub mod gossip;
pub mod identity;
pub mod join;
pub mod neighbor;
pub mod netlink;
pub mod probe;
pub mod quic;
