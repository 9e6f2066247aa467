//! `haclusterd doctor`: what should be mended, each with its remedy; with `--vrid`, who on the link uses which.

mod daemon;
mod host;

use super::print;
use super::table::{self, Cell, Tone};
use super::{PATIENCE, fail};
use crate::config::{self, Config, Vrrp};
use crate::io::control;
use crate::io::survey::{self, Found};
use crate::io::{adverts, netlink};
use haclusterd_proto::vrrp::{Auth, Version, VrrpPriority};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

const HEADER: [&str; 8] =
    ["VRID", "FAMILY", "VERSION", "MASTER", "PRIORITY", "INTERVAL", "AUTHENTICATION", "ADDRESSES"];
/// What every example has in it, and so many a network.
const COMMON: [u8; 5] = [1, 10, 50, 51, 100];

const OK: u8 = 0;
const SICK: u8 = 2;

/// Looks for what should be mended, and says how.
///
/// Exit code: 0 nothing; 1 it cannot look; 2 something, which is printed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Listen for VRRP instead: show who uses which VRID on the link, compare it with the configuration, and propose a
    /// free one. Needs CAP_NET_RAW.
    #[arg(long)]
    vrid: bool,
    /// Listen on this interface. [default: those of the configuration]
    #[arg(long, value_name = "IF", requires = "vrid", value_parser = super::value(config::interface))]
    interface: Option<String>,
    /// For so many seconds: at least three advert intervals.
    #[arg(long, value_name = "S", requires = "vrid", default_value = "4", value_parser = clap::value_parser!(u64).range(1..=900))]
    seconds: u64,
}

pub fn run(args: &Args, path: &Path, socket: &Path) -> u8 {
    if args.vrid {
        return survey(args, path);
    }
    let findings = match Config::load(path) {
        Ok(config) => host::findings(&config).into_iter().chain(of_daemon(socket)).collect(),
        Err(error) => vec![error.to_string()],
    };
    if findings.is_empty() {
        print::say("nothing to mend\n");
        return OK;
    }
    findings.iter().for_each(|finding| print::say(&format!("{}\n", table::printable(finding))));
    SICK
}

fn of_daemon(socket: &Path) -> Vec<String> {
    match control::snapshot(socket, PATIENCE) {
        Ok(snapshot) => daemon::findings(&snapshot),
        Err(error) => vec![error.to_string()],
    }
}

fn survey(args: &Args, path: &Path) -> u8 {
    let config = match Config::load(path) {
        Ok(config) => Some(config),
        // Who asks for a VRID may have no configuration yet.
        Err(_) if args.interface.is_some() => None,
        Err(error) => return fail(&error),
    };
    let routers = config.as_ref().map(|config| config.routers.as_slice()).unwrap_or_default();
    let mut names: BTreeSet<&str> = args.interface.as_deref().into_iter().collect();
    if names.is_empty() {
        let own = config.as_ref().and_then(|config| config.node.interface.as_deref());
        names.extend(own.into_iter().chain(routers.iter().filter_map(|r| r.vip.interface.as_deref())));
    }
    if names.is_empty() {
        return fail(&"no interface is configured: name one with --interface");
    }
    match listen(&names, Duration::from_secs(args.seconds)) {
        Ok(links) => {
            let (text, sick) = report(&links, routers, args.seconds, print::colour());
            print::say(&text);
            if sick { SICK } else { OK }
        }
        Err(error) => fail(&error),
    }
}

/// On all of them at once.
fn listen<'a>(names: &BTreeSet<&'a str>, span: Duration) -> Result<Vec<(&'a str, Vec<Found>)>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let each = names.iter().map(|&name| async move {
        let ifindex = netlink::index_of(name).ok_or_else(|| format!("interface {name} does not exist"))?;
        let found = survey::listen(ifindex, span).await.map_err(|error| error.to_string())?;
        Ok((name, found))
    });
    runtime.map_err(|error| error.to_string())?.block_on(futures::future::try_join_all(each))
}

/// True: something should be mended.
fn report(links: &[(&str, Vec<Found>)], routers: &[Vrrp], seconds: u64, colour: bool) -> (String, bool) {
    let (mut text, mut sick) = (String::new(), false);
    for (name, found) in links {
        let there: Vec<Vrrp> =
            routers.iter().filter(|r| r.vip.interface.as_deref() == Some(name)).cloned().collect();
        text += &match found.as_slice() {
            [] => format!("{name}: no VRRP was heard for {seconds} s\n"),
            found => format!("{name}:\n{}", render(found, colour)),
        };
        let warnings: Vec<String> = complaints(found, &there).into_iter().chain(doubles(found)).collect();
        sick |= !warnings.is_empty();
        for warning in warnings {
            text +=
                &format!("{} {}\n", table::paint("warning:", Tone::Warn, colour), table::printable(&warning));
        }
        if let Some(free) = free(found, &there) {
            text += &format!(
                "{name}: VRID {free} is free, as far as can be heard: a group whose master is away is silent, so look \
                 into the configurations too\n"
            );
        }
    }
    (text, sick)
}

fn render(found: &[Found], colour: bool) -> String {
    let mut rows = vec![HEADER.iter().map(Cell::from).collect()];
    rows.extend(found.iter().map(|Found { repr, packet }| -> Vec<Cell> {
        let (version, auth) = match repr.version {
            Version::V2 { auth, .. } => ("2", auth),
            Version::V3 { .. } => ("3", Auth::None),
        };
        let auth = match auth {
            _ if packet.ah => "AH",
            Auth::Pass(_) => "PASS",
            Auth::None | Auth::Ah => "",
        };
        let addresses: Vec<String> = repr.addresses.iter().map(ToString::to_string).collect();
        vec![
            repr.vrid.to_string().into(),
            if packet.source.is_ipv6() { "IPv6" } else { "IPv4" }.into(),
            version.into(),
            packet.source.to_string().into(),
            repr.priority.to_string().into(),
            format!("{:?}", repr.version.interval()).into(),
            auth.into(),
            addresses.join(",").into(),
        ]
    }));
    table::render(&rows, colour)
}

/// What is heard for virtual routers of this host.
fn complaints(found: &[Found], routers: &[Vrrp]) -> Vec<String> {
    let judge = |Found { packet, .. }: &Found| {
        let family: Vec<Vrrp> =
            routers.iter().filter(|r| r.is_ipv6() == packet.source.is_ipv6()).cloned().collect();
        let heard = adverts::heard(&family, packet).ok()??;
        let ours = family.iter().find(|router| router.vip.id == heard.vip)?.for_engine();
        ours.complaint(&heard, ours.judge(&heard))
    };
    found.iter().filter_map(judge).collect()
}

/// Two masters of one virtual router: two groups, or one whose members do not hear each other.
fn doubles(found: &[Found]) -> Vec<String> {
    let mut masters: BTreeMap<(u8, bool), Vec<String>> = BTreeMap::new();
    let leads = |found: &&Found| found.repr.priority != VrrpPriority::LEAVING;
    for Found { repr, packet } in found.iter().filter(leads) {
        let source = packet.source;
        masters.entry((repr.vrid.get(), source.is_ipv6())).or_default().push(source.to_string());
    }
    let several = masters.into_iter().filter(|(_, hosts)| hosts.len() > 1);
    let say = |((vrid, _), hosts): ((u8, bool), Vec<String>)| {
        format!(
            "VRID {vrid} is spoken for by {}: give one of two groups another VRID, or let the hosts of one group hear \
             each other (same version, password and interval; no firewall in between)",
            hosts.join(" and ")
        )
    };
    several.map(say).collect()
}

fn free(found: &[Found], routers: &[Vrrp]) -> Option<u8> {
    let taken: BTreeSet<u8> =
        found.iter().map(|f| f.repr.vrid.get()).chain(routers.iter().map(|r| r.vrid)).collect();
    (1..=255).find(|vrid| !taken.contains(vrid) && !COMMON.contains(vrid))
}
