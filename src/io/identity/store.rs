//! The state directory: small private files, each replaced as a whole or not at all.
//!
//! A file is written beside its place, synced, and moved there; then the directory is synced. So a reader needs
//! no lock, and a full disk or a lost power supply leaves the old file. Writers of one directory (the daemon and
//! the commands) take turns by a lock file.

use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The largest file here is the list of 1024 tokens, about 350 KiB.
const MAX_FILE: u64 = 1024 * 1024;
/// A writer holds the lock for a few syncs; one that holds it longer hangs or is stopped.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(10);

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {doing} {}: {source}; {}", path.display(), remedy(source))]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{} exists already and is kept as it is; move it away if it is not needed", .0.display())]
    Exists(PathBuf),
    #[error(
        "{} holds secrets and other users may open it (mode {mode:04o}): run `chmod 600 {}`, and make new secrets \
         if others could have read it",
        path.display(), path.display()
    )]
    TooOpen { path: PathBuf, mode: u32 },
    #[error(
        "other users may replace files in {} (mode {mode:04o}): run `chmod 700 {}` or choose another --state-dir",
        path.display(), path.display()
    )]
    DirectoryTooOpen { path: PathBuf, mode: u32 },
    #[error("{} is locked by another haclusterd process: try again when that one has ended", .0.display())]
    Busy(PathBuf),
    #[error("{} is larger than {MAX_FILE} bytes, so it is not ours: move it away", .0.display())]
    TooLarge(PathBuf),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "nothing was changed: make room on that file system"
        }
        io::ErrorKind::PermissionDenied => "run as the user that owns it (root, as a rule)",
        io::ErrorKind::ReadOnlyFilesystem => "mount it writable or choose another --state-dir",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "choose another --state-dir",
        _ => "repair the file system or choose another --state-dir",
    }
}

/// The right to write the files of one state directory, for as long as it lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes the directory if it is not there. Waits for its turn, so not for the election's thread.
    pub fn lock(path: &Path) -> Result<StateDir, StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error("create", path))?;
        let mode = fs::metadata(path).map_err(io_error("open", path))?.permissions().mode() & 0o7777;
        if mode & 0o022 != 0 {
            return Err(StoreError::DirectoryTooOpen { path: path.into(), mode });
        }
        let file = path.join("state.lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&file)
            .map_err(io_error("write", &file))?;
        let give_up = Instant::now() + LOCK_PATIENCE;
        while let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(io_error("lock", &file)(error.into()));
            }
            if Instant::now() >= give_up {
                return Err(StoreError::Busy(file));
            }
            std::thread::sleep(LOCK_RETRY);
        }
        Ok(StateDir { path: path.into(), _lock: lock })
    }

    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Puts a new file in place; one that is there already stays.
    pub fn create(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(name);
        let draft = self.write_draft(name, bytes)?;
        // A link, unlike a move, fails if there is something already.
        let linked = fs::hard_link(&draft, &path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => StoreError::Exists(path.clone()),
            _ => io_error("write", &path)(error),
        });
        let _ = fs::remove_file(&draft);
        linked?;
        self.sync()
    }

    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(name);
        let draft = self.write_draft(name, bytes)?;
        fs::rename(&draft, &path).map_err(io_error("write", &path))?;
        self.sync()
    }

    /// Takes back what [`StateDir::create`] put there, when a later step failed.
    pub fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.path(name));
    }

    /// Fails now as a later write would, before something is done that cannot be taken back.
    pub fn check_room(&self) -> Result<(), StoreError> {
        let draft = self.write_draft("room", &[0; 16 * 1024])?;
        let _ = fs::remove_file(draft);
        Ok(())
    }

    fn write_draft(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, StoreError> {
        let draft = self.path(&format!(".{name}.tmp"));
        // Of a writer that was killed: we have the lock, so it is nobody's.
        let _ = fs::remove_file(&draft);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
        written.map_err(|error| {
            let _ = fs::remove_file(&draft);
            io_error("write", &self.path(name))(error)
        })?;
        Ok(draft)
    }

    fn sync(&self) -> Result<(), StoreError> {
        File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(io_error("sync", &self.path))
    }
}

/// `None` if there is no such file. A secret that others may read is refused, not used.
pub fn read_private(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    let mode = file.metadata().map_err(io_error("read", path))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(StoreError::TooOpen { path: path.into(), mode });
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(StoreError::TooLarge(path.into()));
    }
    Ok(Some(bytes))
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_path_buf();
    move |source| StoreError::Io { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn files_are_private_and_nothing_is_left_beside_them() {
        let parent = dir();
        let path = parent.path().join("a/state");
        let state = StateDir::lock(&path).unwrap();
        state.create("x", b"1").unwrap();
        state.replace("x", b"2").unwrap();
        assert_eq!((mode(&path), mode(&path.join("x"))), (0o700, 0o600));
        assert_eq!(read_private(&path.join("x")).unwrap().unwrap(), b"2");
        let mut names: Vec<_> =
            fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["state.lock", "x"]);
    }

    #[test]
    fn create_never_overwrites() {
        let dir = dir();
        let state = StateDir::lock(dir.path()).unwrap();
        state.create("x", b"1").unwrap();
        assert!(matches!(state.create("x", b"2"), Err(StoreError::Exists(_))));
        assert_eq!(read_private(&dir.path().join("x")).unwrap().unwrap(), b"1");
    }

    #[test]
    fn a_second_writer_waits_and_then_says_who_is_in_the_way() {
        let dir = dir();
        let first = StateDir::lock(dir.path()).unwrap();
        assert!(matches!(StateDir::lock(dir.path()), Err(StoreError::Busy(_))));
        drop(first);
        StateDir::lock(dir.path()).unwrap();
    }

    #[test]
    fn what_others_may_read_or_replace_is_refused() {
        let dir = dir();
        let path = dir.path().join("x");
        StateDir::lock(dir.path()).unwrap().create("x", b"1").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read_private(&path).unwrap_err().to_string();
        assert!(error.contains("mode 0640") && error.contains("chmod 600"), "{error}");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o775)).unwrap();
        assert!(matches!(StateDir::lock(dir.path()), Err(StoreError::DirectoryTooOpen { mode: 0o775, .. })));
    }

    #[test]
    fn a_path_that_cannot_be_a_directory_is_named() {
        let dir = dir();
        fs::write(dir.path().join("file"), b"").unwrap();
        let error = StateDir::lock(&dir.path().join("file/state")).unwrap_err().to_string();
        assert!(error.contains("file/state") && error.contains("--state-dir"), "{error}");
    }
}
