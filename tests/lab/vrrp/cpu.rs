//! The processors' time that a process has used, with those that it began.

use std::fs;
use std::time::Duration;

/// The kernel shows hundredths to programs, whatever it counts in.
const TICK: Duration = Duration::from_millis(10);

struct Process {
    pid: i32,
    parent: i32,
    ticks: u32,
}

pub fn of(pid: i32) -> Duration {
    let all: Vec<Process> =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| read(&entry)).collect();
    TICK * ticks(&all, pid)
}

fn ticks(all: &[Process], pid: i32) -> u32 {
    let of = |process: &Process| match (process.pid == pid, process.parent == pid) {
        (true, _) => process.ticks,
        (_, true) => ticks(all, process.pid),
        _ => 0,
    };
    all.iter().map(of).sum()
}

fn read(entry: &fs::DirEntry) -> Option<Process> {
    let pid = entry.file_name().to_str()?.parse().ok()?;
    let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
    // Its name may have blanks.
    let words: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    // utime, stime, and those of its children that have ended.
    let ticks = words[11..15].iter().filter_map(|word| word.parse::<u32>().ok()).sum();
    Some(Process { pid, parent: words[1].parse().ok()?, ticks })
}
