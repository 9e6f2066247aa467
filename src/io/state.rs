//! What a node remembers in its state directory besides its identity.
//!
//! ```text
//! voters.json   the newest voter set; this node never acts by an older one
//! peers.json    where the members were, to find the cluster again after a restart
//! generation    how often this node has started
//! lease         the lease of the last run, in microseconds: a voter that restarts honours what it may have granted
//! standby       an operator wants the node to own nothing
//! left          the node is leaving for good: it must not run again
//! ```

use super::identity::StoreError;
use super::identity::store::{StateDir, read_private};
use haclusterd_proto::NodeId;
use haclusterd_proto::cluster::SignedVoters;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const VOTERS: &str = "voters.json";
const PEERS: &str = "peers.json";
const GENERATION: &str = "generation";
const LEFT: &str = "left";
const STANDBY: &str = "standby";
const LEASE: &str = "lease";
const IDENTITY: &str = "identity.pem";

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "{}: {what}; restore it from a backup, or join this node again under a fresh --state-dir: who votes must be known",
        path.display()
    )]
    Damaged { path: PathBuf, what: String },
    #[error(
        "this node has left its cluster ({} says so): join again, after moving the state directory away",
        .0.display()
    )]
    Left(PathBuf),
    #[error(
        "{}/voters.json is missing, and this node has the cluster's CA key: restore the file from a backup or from \
         another voter's state directory; without it a second cluster would begin under the first one's name",
        .0.display()
    )]
    NoVoters(PathBuf),
}

/// A node that was leaving when it was stopped has promised never to vote again.
pub fn refuse_left(dir: &Path) -> Result<(), StateError> {
    let path = dir.join(LEFT);
    if path.symlink_metadata().is_ok() { Err(StateError::Left(path)) } else { Ok(()) }
}

pub fn mark_left(dir: &Path) -> Result<(), StateError> {
    Ok(StateDir::lock(dir)?.replace(LEFT, b"this node has left its cluster\n")?)
}

/// Also where it cannot be read: better one candidate less.
#[must_use]
pub fn stands_by(dir: &Path) -> bool {
    dir.join(STANDBY).symlink_metadata().is_ok()
}

pub fn store_standby(dir: &Path, on: bool) -> Result<(), StateError> {
    let state = StateDir::lock(dir)?;
    match on {
        true => Ok(state.replace(STANDBY, b"`haclusterd unstandby` ends that\n")?),
        false => {
            state.remove(STANDBY);
            Ok(())
        }
    }
}

/// Nothing of the cluster stays, so that the node can join again.
pub fn retire(dir: &Path) -> Result<(), StateError> {
    let state = StateDir::lock(dir)?;
    // The marker goes last: a crash between leaves a node that refuses to run.
    [IDENTITY, VOTERS, PEERS, GENERATION, LEASE, STANDBY, LEFT].iter().for_each(|name| state.remove(name));
    Ok(())
}

/// `None`: this node has not heard yet who votes.
pub fn load_voters(
    dir: &Path,
    verify: impl Fn(&SignedVoters) -> Result<(), String>,
) -> Result<Option<SignedVoters>, StateError> {
    let path = dir.join(VOTERS);
    let Some(bytes) = read_private(&path)? else { return Ok(None) };
    let damaged = |what: String| StateError::Damaged { path: path.clone(), what };
    let signed: SignedVoters = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    verify(&signed).map_err(damaged)?;
    Ok(Some(signed))
}

pub fn store_voters(dir: &Path, signed: &SignedVoters) -> Result<(), StateError> {
    Ok(StateDir::lock(dir)?.replace(VOTERS, &json(signed))?)
}

/// Only an aid: what cannot be read is not there.
#[must_use]
pub fn load_peers(dir: &Path) -> Vec<(NodeId, SocketAddr)> {
    let bytes = read_private(&dir.join(PEERS)).ok().flatten().unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

pub fn store_peers(dir: &Path, peers: &[(NodeId, SocketAddr)]) -> Result<(), StateError> {
    Ok(StateDir::lock(dir)?.replace(PEERS, &json(&peers))?)
}

/// Greater than that of any earlier start, also when the clock was set back: others take a smaller one for old news.
/// `wall`: seconds since 1970.
pub fn next_generation(dir: &Path, wall: u64) -> Result<u64, StateError> {
    let state = StateDir::lock(dir)?;
    let bytes = read_private(&dir.join(GENERATION))?.unwrap_or_default();
    let last: u64 = String::from_utf8_lossy(&bytes).trim().parse().unwrap_or(0);
    let next = wall.max(last.saturating_add(1));
    state.replace(GENERATION, format!("{next}\n").as_bytes())?;
    Ok(next)
}

/// The lease that the last run may have granted; from now on it is this one.
pub fn swap_lease(dir: &Path, lease: Duration) -> Result<Duration, StateError> {
    let earlier = read_private(&dir.join(LEASE))?.unwrap_or_default();
    let earlier =
        String::from_utf8_lossy(&earlier).trim().parse().map_or(Duration::ZERO, Duration::from_micros);
    // Most restarts change nothing, and must not need a disk with room.
    if earlier != lease {
        StateDir::lock(dir)?.replace(LEASE, format!("{}\n", lease.as_micros()).as_bytes())?;
    }
    Ok(earlier)
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    // Only maps with keys that are no strings, and writers, can fail.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use haclusterd_proto::ClusterId;
    use haclusterd_proto::cluster::VoterSet;

    fn signed() -> SignedVoters {
        let set = VoterSet { version: 3, ..VoterSet::first(ClusterId([2; 16]), NodeId([1; 16])) };
        SignedVoters { set, signature: vec![9] }
    }

    #[test]
    fn what_was_stored_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert_eq!(load_voters(&path, |_| Ok(())).unwrap(), None);
        store_voters(&path, &signed()).unwrap();
        assert_eq!(load_voters(&path, |_| Ok(())).unwrap(), Some(signed()));
        let peers = vec![(NodeId([1; 16]), "10.0.0.1:7946".parse().unwrap())];
        store_peers(&path, &peers).unwrap();
        assert_eq!(load_peers(&path), peers);
    }

    #[test]
    fn a_voter_set_that_does_not_verify_stops_the_node() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        store_voters(&path, &signed()).unwrap();
        let error =
            load_voters(&path, |_| Err("its signature is not the CA's".into())).unwrap_err().to_string();
        assert!(error.contains("voters.json: its signature") && error.contains("backup"), "{error}");
    }

    #[test]
    fn generations_rise_whatever_the_clock_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let all: Vec<u64> = [100, 50, 50, 200].map(|wall| next_generation(&path, wall).unwrap()).into();
        assert_eq!(all, [100, 101, 102, 200]);
    }

    #[test]
    fn the_last_runs_lease_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let all =
            [2000, 500, 500].map(|ms| swap_lease(&path, Duration::from_millis(ms)).unwrap().as_millis());
        assert_eq!(all, [0, 2000, 500]);
    }

    #[test]
    fn who_left_does_not_run_again_until_it_has_joined() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        mark_left(&path).unwrap();
        assert!(refuse_left(&path).is_err());
        retire(&path).unwrap();
        assert!(refuse_left(&path).is_ok());
    }
}
