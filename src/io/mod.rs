//! The world, a file an adapter. Adapters act and report; they decide nothing.

pub mod adverts;
pub mod clock;
pub mod command;
pub mod control;
pub mod events;
pub mod fence;
pub mod gates;
pub mod gossip;
pub mod hooks;
mod http;
pub mod identity;
pub mod join;
pub mod journal;
pub mod lists;
pub mod memory;
pub mod neighbor;
pub mod netlink;
pub mod ports;
pub mod probe;
pub mod quic;
pub mod realtime;
pub mod signals;
pub mod state;
pub mod survey;
pub mod sysctl;
pub mod systemd;
pub mod tokens;
pub mod virtual_macs;
pub mod vrrp;
pub mod web;

use std::io::Result;
use std::os::fd::{AsFd, AsRawFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A type whose values keep the same open descriptor until they are dropped.
pub(crate) trait Steady: AsFd + AsRawFd {}

impl Steady for socket2::Socket {}
impl Steady for std::os::fd::OwnedFd {}

fn watch_descriptor<T: Steady>(descriptor: T) -> Result<AsyncFd<T>> {
    watch_for(descriptor, Interest::READABLE | Interest::ERROR)
}

#[allow(unsafe_code)]
fn watch_for<T: Steady>(descriptor: T, interest: Interest) -> Result<AsyncFd<T>> {
    // SAFETY: see `Steady`.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}
