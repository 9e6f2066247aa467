//! Joining a cluster: the issuer's side and the new node's. `haclusterd_proto::join` has the messages.

mod client;
mod server;

pub use client::{JoinError, Joined, NodeRequest, join};
pub use server::{JoinCounters, JoinServer, Offer};

use haclusterd_proto::join::{EXPORTER_LABEL, Exporter};
use quinn::VarInt;

/// Application close codes of a join connection.
const DONE: VarInt = VarInt::from_u32(0);
const BUSY: VarInt = VarInt::from_u32(1);
const BROKEN: VarInt = VarInt::from_u32(2);

/// What only the two ends of this TLS connection know.
fn exporter(connection: &quinn::Connection) -> Exporter {
    let mut bytes = [0; 32];
    let exported = connection.export_keying_material(&mut bytes, EXPORTER_LABEL, &[]);
    exported.expect("TLS 1.3 exports 32 bytes after the handshake");
    bytes
}
