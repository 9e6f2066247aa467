//! What each run of a node was fed, for `haclusterd replay`: a file `nX-runY.journal` each.

use haclusterd::engine::time::Instant;
use haclusterd::engine::{Action, Input};
use haclusterd::io::journal::{Header, Step, Writer};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

pub struct Journals {
    dir: PathBuf,
    /// Of the nodes' present runs.
    open: BTreeMap<usize, Writer<BufWriter<File>>>,
}

impl Journals {
    /// In place of an earlier seed's of the same number.
    pub fn new(dir: &Path) -> Journals {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir).unwrap();
        Journals { dir: dir.into(), open: BTreeMap::new() }
    }

    pub fn begin(&mut self, at: usize, run: u64, header: &Header) {
        let file = File::create(self.dir.join(format!("n{at}-run{run}.journal"))).unwrap();
        let mut writer = Writer::new(BufWriter::new(file));
        writer.header(header).unwrap();
        self.open.insert(at, writer);
    }

    pub fn step(&mut self, at: usize, now: Instant, input: Input, actions: &[Action]) {
        let Some(writer) = self.open.get_mut(&at) else { return };
        // A run that never rests fills its journal; what led to that is in it by then.
        if writer.step(Step::new(now, input, Some(actions))).is_err() {
            self.open.remove(&at);
        }
    }
}
