//! The world, a file an adapter. Adapters act and report; they decide nothing.

pub mod adverts;
pub mod clock;
pub mod control;
pub mod fence;
pub mod gates;
pub mod gossip;
pub mod identity;
pub mod join;
pub mod journal;
pub mod memory;
pub mod neighbor;
pub mod netlink;
pub mod ports;
pub mod probe;
pub mod quic;
pub mod realtime;
pub mod state;
pub mod survey;
pub mod sysctl;
pub mod systemd;
pub mod tokens;
pub mod virtual_macs;
pub mod vrrp;
