//! One address of a `virtual_ipaddress` block.

use super::super::finding::{Findings, Kind};
use super::super::model::Address;
use super::super::tree::Statement;
use super::super::value::{invalid, net};
use std::net::IpAddr;

pub fn read(statement: &Statement, findings: &mut Findings) -> Option<Address> {
    let (ip, length) =
        statement.key.split_once('/').map_or((statement.key.as_str(), None), |(ip, n)| (ip, Some(n)));
    let Ok(ip) = ip.parse::<IpAddr>() else {
        invalid(
            findings,
            statement,
            format!("{} is no address", statement.key),
            "keepalived leaves it out: mend or remove it",
        );
        return None;
    };
    let net = net(findings, statement, ip, length);
    let mut address = Address { at: statement.at.clone(), net, interface: None, label: None };
    let mut words = statement.args.iter().map(|word| word.text.as_str());
    while let Some(word) = words.next() {
        attribute(&mut address, word, &mut words, statement, findings);
    }
    Some(address)
}

fn attribute<'w>(
    address: &mut Address,
    word: &str,
    words: &mut impl Iterator<Item = &'w str>,
    statement: &Statement,
    findings: &mut Findings,
) {
    let mut differs = |what: String, remedy: &str| findings.add(Kind::Differs, &statement.at, what, remedy);
    let ip = address.net.addr();
    let takes = matches!(
        word,
        "dev" | "label" | "brd" | "broadcast" | "scope" | "peer" | "preferred_lft" | "track_group"
    );
    let value = if takes { words.next() } else { None };
    match (word, value) {
        (_, None) if takes => {
            invalid(
                findings,
                statement,
                format!("{ip}: {word} has no value"),
                "write one, or remove the word",
            );
        }
        ("dev", Some(name)) => address.interface = Some(name.to_owned()),
        ("label", Some(name)) => address.label = Some(name.to_owned()),
        ("brd" | "broadcast", Some(_)) => {
            differs(format!("{ip} gets no broadcast address"), "the kernel needs none")
        }
        ("scope", Some("global" | "0")) => {}
        ("scope", Some(scope)) => differs(
            format!("{ip} gets the scope global, not {scope}"),
            "remove it, or look whether anything depends on it",
        ),
        ("peer", Some(peer)) if peer.split('/').next().is_none_or(|ip| ip.parse::<IpAddr>().is_err()) => {
            invalid(
                findings,
                statement,
                format!("{peer} is no address"),
                "keepalived leaves it out: mend it",
            );
        }
        ("peer", Some(_)) => findings.add(
            Kind::Missing,
            &statement.at,
            format!("{ip}: a peer address has no equivalent"),
            "write the address alone",
        ),
        ("preferred_lft", Some(_)) => differs(
            format!("{ip} is never chosen as source by the kernel itself"),
            "bind to it, or write `src` in a route",
        ),
        // What they ask for is so already, or nothing for addresses that move.
        ("noprefixroute" | "nodad" | "-nodad" | "home" | "mngtmpaddr" | "autojoin", None) => {}
        ("no_track", None) => differs(
            format!("{ip}: an address that somebody removes is added again"),
            "no_track is not needed",
        ),
        ("use_vmac", None) => findings.add(
            Kind::Missing,
            &statement.at,
            format!("{ip}: a virtual MAC on another interface has no equivalent"),
            "give it a virtual router of its own",
        ),
        ("track_group", Some(_)) => differs(format!("{ip}: track_group has no meaning here"), "remove it"),
        _ => invalid(
            findings,
            statement,
            format!("{ip}: {word} is not known here"),
            "keepalived overlooks it as well: one address stands on one line",
        ),
    }
}
