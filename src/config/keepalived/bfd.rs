//! `bfd_instance`: checked, for nothing runs it.

use super::finding::Findings;
use super::lvs::Form::{Address, Maybe, Number, Time};
use super::lvs::{Form, Settings, setting};
use super::tree::Statement;
use super::value::invalid;

const MOST: f64 = 4_294_967.0;
const TABLE: &[(&str, Form)] = &[
    ("neighbor_ip", Address),
    ("source_ip", Address),
    ("min_rx", Time(1.0, MOST)),
    ("min_tx", Time(1.0, MOST)),
    ("idle_tx", Time(1000.0, MOST)),
    ("multiplier", Number(1, 255)),
    ("passive", Maybe),
    ("ttl", Number(1, 255)),
    ("hoplimit", Number(1, 255)),
    ("max_hops", Number(-1, 255)),
    ("weight", Number(-253, 253)),
    ("vrrp", Maybe),
    ("checker", Maybe),
];

pub fn check(statement: &Statement, findings: &mut Findings) {
    let mut settings = Settings::new();
    for inner in statement.inner() {
        setting(&mut settings, "bfd_instance", &[TABLE], inner, findings);
    }
    if !settings.contains_key("neighbor_ip") {
        invalid(
            findings,
            statement,
            "the bfd_instance has no neighbor_ip",
            "keepalived leaves it out: write one",
        );
    }
}

/// `track_bfd`.
pub fn tracked(known: &[String], statement: &Statement, findings: &mut Findings) {
    for line in statement.inner().iter().filter(|line| !known.contains(&line.key)) {
        invalid(
            findings,
            line,
            format!("{} is no bfd_instance above", line.key),
            "keepalived runs without it",
        );
    }
}
