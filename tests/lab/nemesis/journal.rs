//! What the daemons log, with the times at which it was read: their own clocks may be wrong.

use super::checker::Take;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PACE: Duration = Duration::from_millis(5);

#[derive(Debug, Clone)]
pub struct Line {
    pub at: Instant,
    pub host: usize,
    pub text: String,
}

pub struct Journal {
    stop: Arc<AtomicBool>,
    reader: JoinHandle<Vec<Line>>,
}

impl Journal {
    /// What is written from now on into the files of host 1, 2 and so on.
    pub fn new(files: Vec<PathBuf>) -> Journal {
        let stop: Arc<AtomicBool> = Arc::default();
        let end = stop.clone();
        let reader = std::thread::spawn(move || follow(&end, files));
        Journal { stop, reader }
    }

    pub fn end(self) -> Vec<Line> {
        self.stop.store(true, Ordering::Relaxed);
        self.reader.join().unwrap()
    }
}

fn follow(stop: &AtomicBool, files: Vec<PathBuf>) -> Vec<Line> {
    let open = |path| {
        let mut file = File::open(path).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        (file, String::new())
    };
    let mut files: Vec<(File, String)> = files.into_iter().map(open).collect();
    let mut lines = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        for (at, (file, rest)) in files.iter_mut().enumerate() {
            file.read_to_string(rest).unwrap();
            while let Some((line, after)) = rest.split_once('\n') {
                lines.push(Line { at: Instant::now(), host: at + 1, text: line.to_owned() });
                *rest = after.to_owned();
            }
        }
        std::thread::sleep(PACE);
    }
    lines
}

pub fn takes(lines: &[Line]) -> Vec<Take> {
    let take = |line: &Line| {
        let (_, term) = line.text.split_once(": taken, term ")?;
        Some(Take { at: line.at, host: line.host, term: term.split(':').next()?.trim().parse().ok()? })
    };
    lines.iter().filter_map(take).collect()
}
