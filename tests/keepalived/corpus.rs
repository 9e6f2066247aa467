//! Every file of tests/fixtures/keepalived, against what keepalived 2.2.7 said of it.

use crate::verdict::{complains, complaints, node, of};
use haclusterd::config::Config;
use haclusterd::config::keepalived::{Mode, to_toml};
use std::fs;
use std::path::{Path, PathBuf};

pub struct Case {
    pub file: PathBuf,
    pub options: String,
    pub exit: i32,
    messages: String,
}

pub fn cases() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keepalived");
    let oracle = fs::read_to_string(dir.join("oracle.tsv")).unwrap();
    let case = |line: &str| {
        let [file, options, exit, messages] = line.splitn(4, '\t').collect::<Vec<_>>().try_into().unwrap();
        Case {
            file: dir.join(file),
            options: options.into(),
            exit: exit.parse().unwrap(),
            messages: messages.into(),
        }
    };
    oracle.lines().skip(1).map(case).collect()
}

/// Where we mean to differ, or where keepalived speaks of the host.
const OTHER: [(&str, &str); 3] = [
    ("143-script-user-does-not-exist", "no such user on that host"),
    ("174-include-under-condition-reads-twice", "what keepalived reads twice there, we read once"),
    ("232-namespace-missing-hides-the-rest", "we read on: where we run, the namespace may be there"),
];

/// Where it crashes or ends by itself there is no word of its that counts.
pub fn died(exit: i32) -> bool {
    exit > 128
}

#[test]
fn what_keepalived_refuses_we_refuse_and_nothing_else() {
    let mut wrong = Vec::new();
    for case in cases().into_iter().filter(|case| !died(case.exit)) {
        let mut read = of(&case.file, &case.options);
        let _ = to_toml(&mut read, Mode::Vrrp, &node());
        let ours = complaints(&read);
        let name = case.file.file_stem().unwrap().to_str().unwrap();
        let meant = OTHER.iter().any(|(other, _)| *other == name);
        if (ours.is_empty() == complains(case.exit, &case.messages)) != meant {
            wrong.push(format!("{name}: exit {}: {}\n    ours: {ours:?}", case.exit, case.messages));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_is_written_is_a_legal_configuration() {
    let mut wrong = Vec::new();
    for case in cases() {
        for mode in [Mode::Vrrp, Mode::Both, Mode::Cluster] {
            let mut read = of(&case.file, &case.options);
            if read.findings.is_fatal() {
                continue;
            }
            let text = to_toml(&mut read, mode, &node());
            if let Err(error) = Config::parse(&text, &case.file) {
                wrong.push(format!("{mode:?}: {error}\n{text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} are not:\n{}", wrong.len(), wrong.join("\n"));
}
