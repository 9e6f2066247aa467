//! Words in, exit codes out: a file a verb, and what they share to speak.

pub mod human;
pub mod members;
pub mod print;
pub mod status;
pub mod table;

#[cfg(test)]
mod sample;

use std::time::Duration;

/// The daemon answers from memory; one that takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::Value;
    use std::collections::BTreeSet;

    const DOCS: &str = include_str!("../../docs/json.md");

    /// `members[].name` and the like; what a list holds counts once.
    fn fields(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) if path != "counters" => {
                let dot = if path.is_empty() { "" } else { "." };
                map.iter().for_each(|(key, value)| fields(value, &format!("{path}{dot}{key}"), found));
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                items.iter().for_each(|item| fields(item, &format!("{path}[]"), found));
            }
            _ => found.extend([path.to_owned()]),
        }
    }

    fn documented() -> BTreeSet<String> {
        let first_cell = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
        // Rows for lists themselves say how they are sorted.
        let rows =
            DOCS.lines().filter_map(first_cell).filter(|field| !matches!(&**field, "vips[]" | "events[]"));
        rows.map(|field| field.strip_suffix("[]").unwrap_or(&field).to_owned()).collect()
    }

    #[test]
    fn the_documentation_names_every_field_of_a_snapshot_and_no_other() {
        let mut found = BTreeSet::new();
        fields(&serde_json::to_value(sample::lb3_failed()).unwrap(), "", &mut found);
        assert_eq!(found, documented());
    }

    #[test]
    fn without_a_daemon_each_command_has_its_exit_code() {
        #[derive(clap::Parser)]
        enum Verb {
            Members(members::Args),
            Status(status::Args),
        }
        let nowhere = tempfile::tempdir().unwrap().path().join("socket");
        for (words, code) in [("haclusterd members --state failed", 1), ("haclusterd status -o json", 3)] {
            let answer = match Verb::parse_from(words.split(' ')) {
                Verb::Members(args) => members::run(&args, &nowhere),
                Verb::Status(args) => status::run(&args, &nowhere),
            };
            assert_eq!(answer, code, "{words}");
        }
    }

    #[test]
    fn members_and_status_print_all_of_a_snapshot_between_them() {
        let snapshot = sample::lb3_failed();
        let read = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        let mut both = read(status::json(&snapshot));
        both["members"] = read(members::json(&snapshot))["members"].clone();
        assert_eq!(both, serde_json::to_value(&snapshot).unwrap());
        assert!(members::json(&snapshot).starts_with("{\n  \"schema\": 1,\n"));
    }
}
