//! The local socket: one request a connection, one answer, each a line of JSON.
//!
//! [`Snapshot`] is also what `members -o json` and `status -o json` print, so its field names are public:
//! fields are added, never renamed. Durations carry their unit in the name.

use crate::member::CheckState;
use crate::units::{BadUnit, Role};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// Raised when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    Snapshot,
    /// Hand every VIP over, leave the cluster for good, and exit.
    Leave,
    /// Change who votes. Answered once the change is under way.
    Voters(VoterRequest),
    Order(Order),
    /// Who would own what if the members of these names were down?
    Forecast {
        down: Vec<String>,
    },
    /// Read the configuration again: all of it, or nothing.
    Reload,
    /// What happened after the event of this number.
    Events {
        after: u64,
    },
}

impl Request {
    /// Does it do more than look?
    #[must_use]
    pub fn acts(&self) -> bool {
        !matches!(self, Request::Snapshot | Request::Forecast { .. } | Request::Events { .. })
    }
}

/// What an operator asks of the node that he is at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Hand every VIP over and take none, until told otherwise. `force`: although nobody else could take them.
    Standby { on: bool, force: bool },
    /// To that member, for so long; to none: by priorities again.
    Move { vip: String, to: Option<String>, for_s: Option<u32> },
}

/// What an operator wants of the voters; members by their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VoterRequest {
    /// It votes from now on; `witness`: and holds no address.
    Add { name: String, witness: bool },
    /// It votes no more, and stays a member.
    Remove { name: String },
    /// It is a member no more. `force`: although it is alive.
    Expel { name: String, force: bool },
    /// The issuer chooses again.
    Automatic,
    /// The other voters are off for good: these alone vote.
    Recover { keep: Vec<String> },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    Snapshot(Box<Snapshot>),
    Forecast(Forecast),
    /// The oldest first.
    Events(Vec<LoggedEvent>),
    /// Done, and what was done.
    Done(String),
    /// Refused: cause and remedy.
    Error(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// How many voters would be left, and how many make a majority.
    pub voters: usize,
    pub needed: usize,
    pub vips: Vec<VipForecast>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipForecast {
    pub name: String,
    pub owner: Option<String>,
    pub then: Option<String>,
}

/// An event that outlives the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedEvent {
    /// Rises by one with each event of this node.
    pub id: u64,
    /// Since 1970.
    pub unix_ms: u64,
    pub warning: bool,
    pub text: String,
}

/// What one node knows, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub schema: u32,
    pub version: String,
    /// The name of the node that answers.
    pub node: String,
    pub cluster: Cluster,
    /// Sorted by name.
    pub members: Vec<Member>,
    /// In the order of the configuration.
    pub vips: Vec<Vip>,
    /// Things that an operator should mend, cause and remedy.
    pub warnings: Vec<String>,
    /// The newest first.
    pub events: Vec<Event>,
    /// Since the daemon started, by name.
    pub counters: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    pub id: String,
    pub mode: Mode,
    /// What the mode promises, in a sentence.
    pub protection: String,
    /// Names.
    pub voters: Vec<String>,
    pub voters_version: u64,
    /// Those of them that hold no address because an operator said so.
    pub witnesses: Vec<String>,
    /// An operator chose the voters; the issuer adds none by itself.
    pub voters_chosen: bool,
    /// The change of voters that is under way, as far as this node knows.
    pub voters_change: Option<String>,
    /// How many voters heed this node's adverts, itself included, and how many make a majority.
    pub voters_in_contact: usize,
    pub quorum: usize,
    pub members_alive: usize,
    /// The kernel of the node that answers cuts a VIP off to the millisecond when its daemon cannot renew.
    pub fence: bool,
}

/// What keeps a VIP from having two owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// This node has not heard yet who votes.
    Joining,
    /// One voter: nobody can take over from it.
    Single,
    /// Two voters: best effort, guarded by ARP.
    TwoNode,
    /// Three or more voters: a majority's lease.
    Quorum,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: String,
    pub id: String,
    /// The node that answers.
    pub me: bool,
    pub address: SocketAddr,
    pub state: MemberState,
    pub role: Role,
    pub voter: bool,
    pub issuer: bool,
    /// An operator wants it to own nothing.
    pub standby: bool,
    pub health: Health,
    /// Why `health` is not ok.
    pub reason: String,
    pub base_priority: u8,
    /// None: no candidate now.
    pub priority: Option<u8>,
    /// It has failed too often: for so long it comes last among the candidates.
    pub held_down_ms: Option<u64>,
    /// Its checks, and what each does to the priority.
    pub checks: Vec<CheckState>,
    /// Names of the VIPs that it holds.
    pub vips: Vec<String>,
    /// Since its last advert.
    pub seen_ms: Option<u64>,
    pub rtt_us: Option<u64>,
    /// Until its certificate ends, in seconds; negative once it has.
    pub certificate_s: i64,
    pub version: String,
    pub incarnation: String,
    /// Its VIPs and timers differ from ours.
    pub config_differs: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    Alive,
    /// Adverts are overdue.
    Suspect,
    Failed,
    /// Said goodbye for good.
    Left,
    /// Known by gossip, never heard from directly.
    Joining,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Ok,
    /// All checks pass, and one has something that an operator should see to.
    Warn,
    /// A check is down.
    Failed,
    /// No result yet.
    Unknown,
    /// No check is configured.
    Unchecked,
    /// At its limit of connections: well, and it can take no more.
    Saturated,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vip {
    pub name: String,
    pub id: String,
    /// With prefix length.
    pub addresses: Vec<String>,
    pub interface: String,
    /// Name of the owner, as far as this node knows.
    pub owner: Option<String>,
    /// The owner is the node that answers.
    pub mine: bool,
    pub state: VipState,
    /// Counts the owners.
    pub term: u64,
    /// Since the owner took it.
    pub since_ms: Option<u64>,
    /// What is left of the owner's lease; known on the owner only.
    pub lease_ms: Option<u64>,
    /// Neighbours that were asked whether they know where it is, and those that acknowledged it, since this node took or
    /// announced it last; known on the owner only.
    pub neighbors_asked: Option<usize>,
    pub neighbors_acked: Option<usize>,
    /// Addresses of those that did not answer in time.
    pub neighbors_silent: Vec<String>,
    /// The member that an operator moved it to.
    pub moved_to: Option<String>,
    /// Who would own it if the owner went.
    pub next: Option<String>,
    /// Why the owner owns it, or why nobody does.
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VipState {
    /// Owned, and on the owner's interface.
    Active,
    /// On its way to a new owner.
    Moving,
    /// Nobody owns it.
    Unowned,
    /// A host that is no member answers for it, or two members hold it.
    Conflict,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub age_ms: u64,
    pub text: String,
}

impl Health {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Ok => "ok",
            Health::Warn => "warn",
            Health::Failed => "failed",
            Health::Unknown => "unknown",
            Health::Unchecked => "unchecked",
            Health::Saturated => "saturated",
        }
    }
}

impl Mode {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Joining => "joining",
            Mode::Single => "single",
            Mode::TwoNode => "two-node",
            Mode::Quorum => "quorum",
        }
    }
}

impl MemberState {
    const ALL: [MemberState; 5] = [
        MemberState::Alive,
        MemberState::Suspect,
        MemberState::Failed,
        MemberState::Left,
        MemberState::Joining,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MemberState::Alive => "alive",
            MemberState::Suspect => "suspect",
            MemberState::Failed => "failed",
            MemberState::Left => "left",
            MemberState::Joining => "joining",
        }
    }
}

impl VipState {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            VipState::Active => "active",
            VipState::Moving => "moving",
            VipState::Unowned => "unowned",
            VipState::Conflict => "conflict",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for MemberState {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<MemberState, BadUnit> {
        let bad = || BadUnit {
            what: "a member's state (alive, suspect, failed, left or joining)",
            text: text.into(),
        };
        MemberState::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(bad)
    }
}

impl fmt::Display for VipState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_json(word: impl fmt::Display) -> String {
        format!("\"{word}\"")
    }

    #[test]
    fn a_word_is_the_same_in_json_and_in_a_table() {
        for mode in [Mode::Joining, Mode::Single, Mode::TwoNode, Mode::Quorum] {
            assert_eq!(serde_json::to_string(&mode).unwrap(), as_json(mode));
        }
        for state in [VipState::Active, VipState::Moving, VipState::Unowned, VipState::Conflict] {
            assert_eq!(serde_json::to_string(&state).unwrap(), as_json(state));
        }
        for health in [Health::Ok, Health::Warn, Health::Failed, Health::Unknown, Health::Saturated] {
            assert_eq!(serde_json::to_string(&health).unwrap(), as_json(health));
        }
        for state in MemberState::ALL {
            assert_eq!(serde_json::to_string(&state).unwrap(), as_json(state));
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        assert!("Alive".parse::<MemberState>().is_err());
    }
}
