//! Bytes and nothing else: what haclusterd's nodes say to each other, to the kernel's neighbours and to
//! their operators. No clock, no randomness, no socket.
#![forbid(unsafe_code)]

pub mod arp;
pub mod checksum;
pub mod cluster;
pub mod codec;
pub mod control;
pub mod ethernet;
pub mod join;
pub mod member;
pub mod ndp;
pub mod packet;
pub mod token;
pub mod units;
pub mod vrrp;

pub use units::{AddrId, ClusterId, Incarnation, MacAddr, NodeId, Priority, Role, Term, VipId};
