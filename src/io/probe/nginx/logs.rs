//! The disk of nginx's logs, by what nginx would meet there: can it write, is there room, is it still the same disk?
//! Everything here blocks, for ever if the disk does; a `Hand` does it.

use rustix::fs::{AtFlags, Mode, OFlags, openat, statvfs, unlinkat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A page: so much must find room whatever the file system keeps beside it.
const PAGE: [u8; 4096] = [0; 4096];
/// Unusual enough to be ours; nginx's own files have other names.
const PROBE: &str = ".haclusterd-probe";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub dirs: Vec<PathBuf>,
    pub mounts: Vec<PathBuf>,
    pub min_free_bytes: u64,
    pub min_free_inodes: u64,
}

pub(super) struct Logs {
    wanted: Wanted,
    /// Where each directory's file system was mounted when all was well.
    homes: Vec<Option<PathBuf>>,
    /// There was too little room. To count as enough, there must be a quarter more.
    short: bool,
}

impl Logs {
    pub fn new(wanted: Wanted) -> Logs {
        Logs { homes: vec![None; wanted.dirs.len()], wanted, short: false }
    }

    /// Every reason is certain: nginx would meet the same.
    pub fn look(&mut self) -> Result<(), String> {
        let table = mount_points(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
        if let Some(gone) = self.wanted.mounts.iter().find(|mount| !table.contains(mount)) {
            return Err(format!("{} is not mounted", gone.display()));
        }
        for at in 0..self.wanted.dirs.len() {
            let dir = self.wanted.dirs[at].clone();
            let home = home(&table, &dir);
            let before = self.homes[at].as_deref();
            // One that was mounted over it has not taken it away.
            let over = before.is_some_and(|before| table.iter().any(|mount| mount == before));
            moved(before.filter(|_| !over), home.as_deref(), &dir)?;
            self.has_room(&dir)?;
            write(&dir).map_err(|error| complaint(&dir, &error))?;
            self.homes[at] = home;
        }
        self.short = false;
        Ok(())
    }

    fn has_room(&mut self, dir: &Path) -> Result<(), String> {
        let disk = statvfs(dir).map_err(|error| complaint(dir, &error.into()))?;
        let enough = |least: u64| if self.short { least + least / 4 } else { least };
        // What is left for who is not root, for nginx's workers are not.
        let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        let (least, inodes) = (enough(self.wanted.min_free_bytes), enough(self.wanted.min_free_inodes));
        let text = match () {
            () if bytes < least => format!("{} KiB free, less than {} KiB", bytes / 1024, least / 1024),
            // Some file systems make inodes as they need them, and count none.
            () if disk.f_files > 0 && disk.f_favail < inodes => {
                format!("{} inodes free, less than {inodes}", disk.f_favail)
            }
            () => return Ok(()),
        };
        self.short = true;
        Err(format!("the log disk at {} is full: {text}", dir.display()))
    }
}

/// A file of the daemon's own, so that nginx's are not touched.
fn write(dir: &Path) -> io::Result<()> {
    // Whoever may write above it must not lead us elsewhere in between.
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir.canonicalize()?, flags, Mode::empty())?;
    let written = open(&dir).and_then(|mut file| file.write_all(&PAGE));
    let _ = unlinkat(&dir, PROBE, AtFlags::empty());
    written
}

fn open(dir: &OwnedFd) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let open = || openat(dir, PROBE, flags, Mode::RUSR | Mode::WUSR);
    let file = open().or_else(|error| match error {
        // Left by a run that was killed in the middle. A link that somebody put there is removed, not followed.
        Errno::EXIST => unlinkat(dir, PROBE, AtFlags::empty()).and_then(|()| open()),
        _ => Err(error),
    });
    Ok(file?.into())
}

fn complaint(dir: &Path, error: &io::Error) -> String {
    let dir = dir.display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("the log disk at {dir} is full: {error}")
        }
        io::ErrorKind::ReadOnlyFilesystem => format!("the log disk at {dir} is read-only"),
        io::ErrorKind::NotFound => format!("the log directory {dir} is gone"),
        _ => format!("nothing can be written to the log directory {dir}: {error}"),
    }
}

/// Another file system than before is under the directory: the one that was is gone, or hidden.
fn moved(before: Option<&Path>, now: Option<&Path>, dir: &Path) -> Result<(), String> {
    match (before, now) {
        (Some(before), Some(now)) if before != now => Err(format!(
            "{} is not mounted any more: what is written to {} goes to {}",
            before.display(),
            dir.display(),
            now.display()
        )),
        _ => Ok(()),
    }
}

/// The mount point that the directory is under.
fn home(table: &[PathBuf], dir: &Path) -> Option<PathBuf> {
    let real = dir.canonicalize().ok()?;
    let over = table.iter().filter(|mount| real.starts_with(mount));
    over.max_by_key(|mount| mount.components().count()).cloned()
}

/// proc(5): the fifth field of each line, with blanks and backslashes in octal.
fn mount_points(table: &str) -> Vec<PathBuf> {
    let field = |line: &str| line.split(' ').nth(4).map(plain);
    table.lines().filter_map(field).collect()
}

fn plain(text: &str) -> PathBuf {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.iter().fold(text.to_owned(), |text, (code, sign)| text.replace(code, sign)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(dir: &Path, min_free_bytes: u64) -> Logs {
        let dirs = vec![dir.to_owned()];
        Logs::new(Wanted { dirs, mounts: Vec::new(), min_free_bytes, min_free_inodes: 1 })
    }

    #[test]
    fn a_directory_that_can_be_written_is_well_and_stays_clean() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(PROBE), "left over").unwrap();
        assert_eq!(logs(dir.path(), 1).look(), Ok(()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_in_the_probes_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join(PROBE)).unwrap();
        assert_eq!(logs(dir.path(), 1).look(), Ok(()));
        assert_eq!(std::fs::read_to_string(victim).unwrap(), "precious");
    }

    #[test]
    fn a_directory_that_is_gone_and_a_disk_without_room_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut full = logs(dir.path(), u64::MAX / 8);
        assert!(full.look().unwrap_err().contains("is full"));
        let mut gone = logs(&dir.path().join("nginx"), 1);
        assert!(gone.look().unwrap_err().ends_with("is gone"));
        let mounts = vec!["/no/mount".into()];
        let mut unmounted = Logs::new(Wanted { mounts, ..logs(dir.path(), 1).wanted });
        assert_eq!(unmounted.look(), Err("/no/mount is not mounted".into()));
    }

    #[test]
    fn a_directory_belongs_to_the_nearest_mount_above_it() {
        let text = "22 1 8:1 / / rw - ext4 /dev/a rw\n23 22 0:5 / /tmp rw - tmpfs t rw\n24 22 8:2 / /a\\040b rw - x y z\n";
        let table = mount_points(text);
        assert_eq!(table, [Path::new("/"), Path::new("/tmp"), Path::new("/a b")]);
        assert_eq!(home(&table, Path::new("/tmp")).unwrap(), Path::new("/tmp"));
        assert_eq!(home(&table, Path::new("/usr")).unwrap(), Path::new("/"));
        let said = moved(Some(Path::new("/var/log")), Some(Path::new("/")), Path::new("/var/log/nginx"));
        assert!(
            said.unwrap_err()
                .starts_with("/var/log is not mounted any more: what is written to /var/log/nginx")
        );
    }
}
