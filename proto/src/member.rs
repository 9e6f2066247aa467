//! placeholder
use crate::control::Health;
use crate::{Incarnation, MacAddr, NodeId, Role, VipId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    pub node: NodeId,
    pub name: String,
    pub addr: SocketAddr,
    pub role: Role,
    pub issuer: bool,
    pub base_priority: u8,
    pub priority: Option<u8>,
    pub health: Health,
    pub reason: String,
    pub vips: Vec<VipId>,
    pub macs: Vec<MacAddr>,
    pub config_digest: u64,
    pub version: String,
    pub incarnation: Incarnation,
    pub generation: u64,
    pub seq: u64,
    pub cert_not_after: i64,
    pub leaving: bool,
}
