//! Routing tables by number, or by the name that this host's iproute2 knows.

use super::{Said, number};
use std::fs;
use std::path::PathBuf;

const KNOWN: [(&str, u32); 3] = [("default", 253), ("main", 254), ("local", 255)];
/// Where iproute2 looks, the newer places first.
const FILES: [&str; 3] =
    ["/etc/iproute2/rt_tables", "/usr/share/iproute2/rt_tables", "/usr/lib/iproute2/rt_tables"];
const MORE: &str = "/etc/iproute2/rt_tables.d";

pub const MAIN: u32 = 254;

pub fn table(text: &str) -> Said<u32> {
    let known = KNOWN.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    let named = || files().iter().find_map(|file| find(&fs::read_to_string(file).ok()?, text));
    let found = known.or_else(|| number(text)).or_else(named).filter(|number| *number > 0);
    found
        .ok_or_else(|| format!("{text} is no routing table: write its number, or its name into {}", FILES[0]))
}

fn files() -> Vec<PathBuf> {
    let more = fs::read_dir(MORE).into_iter().flatten().flatten().map(|entry| entry.path());
    let more = more.filter(|path| path.extension().is_some_and(|ext| ext == "conf"));
    FILES.iter().map(PathBuf::from).chain(more).collect()
}

/// Lines of a number and a name.
fn find(text: &str, wanted: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let number = number(words.next()?)?;
        (words.next()? == wanted).then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_number_or_a_name() {
        assert_eq!([table("main"), table("100"), table("0x1000")], [Ok(254), Ok(100), Ok(4096)]);
        assert!(table("0").is_err() && table("no-such-table").unwrap_err().contains("no-such-table"));
        let file = "# tables\n255\tlocal\n0x64 web # ours\n# 9 old\n";
        assert_eq!((find(file, "web"), find(file, "old"), find(file, "ours")), (Some(100), None, None));
    }
}
