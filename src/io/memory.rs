//! What a run leaves to a successor within the lease: a small file beside the socket, on a file system that does not
//! outlive the host's run.
//!
//! It counts only for a process on the same kernel, since the same boot, in the same network namespace, so a copy of
//! it on another host is worth nothing. Whoever reads it has proven that the run before has ended: he has its lock
//! (the socket's) and its UDP port.

use super::identity::StoreError;
use super::identity::store::read_private;
use crate::engine::heir::Memory;
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug, Serialize, Deserialize)]
struct File {
    boot: String,
    network: u64,
    memory: Memory,
}

/// Beside the daemon's socket.
#[must_use]
pub fn place(socket: &Path) -> PathBuf {
    socket.with_extension("memory")
}

/// `None`: there is nothing that this process may take over.
pub fn load(path: &Path) -> Result<Option<Memory>, StoreError> {
    let Some(bytes) = read_private(path)? else { return Ok(None) };
    let file: Option<File> = serde_json::from_slice(&bytes).ok();
    let same = |file: &File| here().is_ok_and(|(boot, network)| file.boot == boot && file.network == network);
    Ok(file.filter(same).map(|file| file.memory))
}

/// Replaced as a whole, and not synced: it is of no use after a loss of power.
pub fn store(path: &Path, memory: &Memory) -> io::Result<()> {
    let (boot, network) = here()?;
    let file = File { boot, network, memory: memory.clone() };
    let beside = path.with_extension("memory-new");
    let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    to.write_all(&serde_json::to_vec(&file).map_err(io::Error::other)?)?;
    fs::rename(&beside, path)
}

/// This boot of this kernel, and this network namespace.
fn here() -> io::Result<(String, u64)> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok((boot.trim().to_owned(), fs::metadata("/proc/self/ns/net")?.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use haclusterd_proto::cluster::VotersStamp;
    use haclusterd_proto::{Incarnation, NodeId, Term, VipId};

    fn memory() -> Memory {
        Memory {
            incarnation: Incarnation(u128::MAX),
            voters: VotersStamp { version: 3, digest: u64::MAX },
            sessions: vec![(NodeId([3; 16]), 7)],
            held: vec![(VipId(u64::MAX), Term(5))],
        }
    }

    #[test]
    fn what_was_stored_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = place(&dir.path().join("haclusterd.sock"));
        assert_eq!(load(&path).unwrap(), None);
        store(&path, &memory()).unwrap();
        assert_eq!(load(&path).unwrap(), Some(memory()));
    }

    #[test]
    fn a_copy_from_another_boot_or_network_is_worth_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.memory");
        store(&path, &memory()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        for (key, other) in [("boot", "\"elsewhere\""), ("network", "1")] {
            let mut file: serde_json::Value = serde_json::from_str(&text).unwrap();
            file[key] = serde_json::from_str(other).unwrap();
            fs::write(&path, file.to_string()).unwrap();
            assert_eq!(load(&path).unwrap(), None, "{key}");
        }
        fs::write(&path, "not even a file of ours").unwrap();
        assert_eq!(load(&path).unwrap(), None);
    }
}
