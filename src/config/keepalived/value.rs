//! Values of statements: what cannot be used is noted, and is as if it were not there.

use super::command;
use super::finding::{Findings, Kind};
use super::model::Command;
use super::tree::{Statement, Word, names_a_command};
use ipnet::IpNet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

impl Statement {
    pub fn arg(&self, at: usize) -> Option<&str> {
        self.args.get(at).map(|word| word.text.as_str())
    }

    pub fn inner(&self) -> &[Statement] {
        self.body.as_deref().unwrap_or_default()
    }

    /// As one text.
    pub fn words(&self) -> String {
        let words = std::iter::once(&self.key).chain(self.args.iter().map(|word| &word.text));
        words.map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

pub fn invalid(
    findings: &mut Findings,
    statement: &Statement,
    what: impl Into<String>,
    remedy: impl Into<String>,
) {
    findings.add(Kind::Invalid, &statement.at, what, remedy);
}

/// Without a value keepalived overlooks these.
const SPARED: [&str; 10] = [
    "default_interface",
    "notification_email_from",
    "notify_fifo",
    "notify_fifo_script",
    "router_id",
    "script_user",
    "smtp_helo_name",
    "vrrp_garp_extra_if",
    "vrrp_notify_fifo",
    "vrrp_notify_fifo_script",
];

/// A value that must be there; keepalived does not start without that of most words.
pub fn text<'s>(findings: &mut Findings, statement: &'s Statement) -> Option<&'s str> {
    let value = statement.arg(0);
    match value {
        None => {
            let what = format!("{} has no value", statement.key);
            let kind = if SPARED.contains(&&*statement.key) { Kind::Invalid } else { Kind::Fatal };
            findings.add(kind, &statement.at, what, "write one, or remove the line");
        }
        Some(word) if is_undefined(word) && !names_a_command(&statement.key) => {
            let what = format!("{} {word}: nothing above defines {word}", statement.key);
            let remedy = "keepalived takes it as it is written: define it, or write the value";
            findings.add(Kind::Differs, &statement.at, what, remedy);
        }
        Some(_) => {}
    }
    value
}

/// It names a definition, and would not be here if there were one.
fn is_undefined(word: &str) -> bool {
    let name = word.strip_prefix('$').unwrap_or_default();
    let name = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name);
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `None`, which is noted: it is none, or out of range.
pub fn number(findings: &mut Findings, statement: &Statement, range: RangeInclusive<i64>) -> Option<i64> {
    let word = text(findings, statement)?;
    let value = parse_number(word).filter(|n| range.contains(n));
    if value.is_none() {
        let remedy = format!(
            "write a number from {} to {}; keepalived overlooks it as well",
            range.start(),
            range.end()
        );
        invalid(findings, statement, format!("{} {word} is out of range", statement.key), remedy);
    }
    value
}

/// Decimal, hexadecimal or octal, as C reads it.
pub fn parse_number(word: &str) -> Option<i64> {
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, word.strip_prefix('+').unwrap_or(word)),
    };
    let value = match digits {
        _ if digits.starts_with(['+', '-']) => None,
        hex if hex.starts_with("0x") || hex.starts_with("0X") => i64::from_str_radix(&hex[2..], 16).ok(),
        octal if octal.len() > 1 && octal.starts_with('0') => i64::from_str_radix(octal, 8).ok(),
        _ => digits.parse::<i64>().ok(),
    };
    value.map(|n| sign * n)
}

/// Seconds, with a fraction.
pub fn seconds(
    findings: &mut Findings,
    statement: &Statement,
    range: RangeInclusive<f64>,
) -> Option<Duration> {
    let word = text(findings, statement)?;
    let value = decimal(word).filter(|n| range.contains(n));
    if value.is_none() {
        let remedy = format!(
            "write seconds from {} to {}; keepalived overlooks it as well",
            range.start(),
            range.end()
        );
        invalid(findings, statement, format!("{} {word} is out of range", statement.key), remedy);
    }
    value.map(|seconds| Duration::from_micros((seconds * 1e6).round() as u64))
}

/// Without a sign or an exponent.
fn decimal(word: &str) -> Option<f64> {
    let plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    word.parse().ok().filter(|_| plain)
}

/// The bare keyword is true.
pub fn boolean(findings: &mut Findings, statement: &Statement) -> Option<bool> {
    match statement.arg(0).map(str::to_ascii_lowercase).as_deref() {
        None | Some("on" | "true" | "yes") => Some(true),
        Some("off" | "false" | "no") => Some(false),
        Some(word) => {
            let what = format!("{} {word} is neither on nor off", statement.key);
            invalid(findings, statement, what, "write on, off, true, false, yes or no");
            None
        }
    }
}

pub fn address(findings: &mut Findings, statement: &Statement, word: &str) -> Option<IpAddr> {
    let address = word.parse().ok();
    if address.is_none() {
        invalid(
            findings,
            statement,
            format!("{word} is no address"),
            "keepalived leaves it out: mend or remove it",
        );
    }
    address
}

/// Without a length, or with one that there is not, the address alone, as keepalived takes it.
pub fn net(findings: &mut Findings, statement: &Statement, ip: IpAddr, length: Option<&str>) -> IpNet {
    let whole = if ip.is_ipv4() { 32 } else { 128 };
    let known = length.map_or(Some(whole), |text| text.parse().ok().filter(|length| *length <= whole));
    if known.is_none() {
        let what = format!("{ip}/{} has no such length", length.unwrap_or_default());
        invalid(findings, statement, what, format!("/{whole} is taken: write 0 to {whole}"));
    }
    IpNet::new_assert(ip, known.unwrap_or(whole))
}

/// `KEY "CMD ARGS" [user [group]]`.
pub fn command(findings: &mut Findings, statement: &Statement) -> Option<Command> {
    let line = text(findings, statement)?;
    let words = match command::split(line) {
        // What was in single quotes is one word already.
        Ok(words) => words,
        Err(why) => {
            invalid(
                findings,
                statement,
                format!("the command of {} cannot be read: {why}", statement.key),
                "mend the quotes",
            );
            return None;
        }
    };
    Some(Command { at: statement.at.clone(), words, user: user(findings, statement, &statement.args[1..]) })
}

/// A group of its own has no equivalent.
pub fn user(findings: &mut Findings, statement: &Statement, words: &[Word]) -> Option<String> {
    let name = words.first()?.text.clone();
    if let Some(group) = words.get(1) {
        let what = format!("the group {} is not carried", group.text);
        findings.add(Kind::Differs, &statement.at, what, "it runs with the groups of its user alone");
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        for (word, value) in [
            ("10", Some(10)),
            ("-0x10", Some(-16)),
            ("010", Some(8)),
            ("09", None),
            ("--1", None),
            ("", None),
            ("1x", None),
        ] {
            assert_eq!(parse_number(word), value, "{word}");
        }
        assert_eq!(
            (decimal("0.5"), decimal("-1"), decimal("1e3"), decimal(".5")),
            (Some(0.5), None, None, Some(0.5))
        );
    }
}
