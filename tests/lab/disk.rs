//! A small disk of its own for a directory: it can be full, break, or go away without anything else of the machine.
//!
//! No tmpfs: the kernel refuses to make a file system read-only while a log is open on it, unless it is broken, which
//! only a real one can be.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const SIZE: u64 = 4 << 20;
/// The file system's block.
const BLOCK: usize = 1024;

#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    pub fn new(at: &Path) -> Disk {
        let disk = Disk { at: at.to_owned() };
        disk.mount();
        disk
    }

    /// An empty one.
    pub fn mount(&self) {
        let image = self.at.with_extension("image");
        // The image before it lives on for those who have files open in it.
        let _ = fs::remove_file(&image);
        File::create(&image).unwrap().set_len(SIZE).unwrap();
        let image = image.display().to_string();
        run("mkfs.ext4", &["-q", "-m", "0", "-b", &BLOCK.to_string(), "-O", "^has_journal", &image]);
        run("mount", &["-o", "loop", &image, &self.path()]);
    }

    /// Files that are open stay so.
    pub fn unmount_lazily(&self) {
        run("umount", &["-l", &self.path()]);
    }

    pub fn fill(&self) {
        let mut file = File::create(self.at.join("fill")).unwrap();
        let mut fits = || file.write_all(&[0; BLOCK]).is_ok();
        while fits() {}
        // What was set aside for the writing is free once it is done.
        file.sync_all().unwrap();
        let mut fits = || file.write_all(&[0; BLOCK]).and_then(|()| file.sync_all()).is_ok();
        while fits() {}
    }

    pub fn free(&self) {
        fs::remove_file(self.at.join("fill")).unwrap();
    }

    /// The kernel makes it read-only, as after an error of the hardware, whoever has files open.
    pub fn fail(&self) {
        run("mount", &["-o", "remount,abort", &self.path()]);
    }

    /// Whoever writes to it waits until it is thawed.
    pub fn freeze(&self) {
        run("fsfreeze", &["--freeze", &self.path()]);
    }

    pub fn thaw(&self) {
        run("fsfreeze", &["--unfreeze", &self.path()]);
    }

    /// By an empty one, for those who open their files again.
    pub fn replace(&self) {
        self.unmount_lazily();
        self.mount();
    }

    fn path(&self) -> String {
        self.at.display().to_string()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.at).output();
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}

fn run(program: &str, words: &[&str]) {
    let done = Command::new(program).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {words:?}: {said}");
}
