//! `haclusterd import`: a keepalived.conf becomes a haclusterd.toml. `haclusterd run --keepalived-conf` runs it as it is.

use super::init::{begin, replace_config, write_config};
use super::{FAILED, fail, print};
use crate::config::keepalived::{Finding, Findings, Kind, Mode, Node, Read, read, to_toml};
use crate::config::{self, Source};
use crate::io::command::trust;
use crate::io::identity::{self, Identity};
use haclusterd_proto::Role;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Where a node listens that no other node asks.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), config::DEFAULT_PORT);
/// As whom keepalived runs scripts that name nobody, if there is such a user.
const SCRIPT_USER: &str = "keepalived_script";
/// Of a node that runs a keepalived.conf, below the state directory: no cluster's identity is touched.
const ALONE: &str = "keepalived";

/// Make a haclusterd.toml of a keepalived.conf.
///
/// What it has no equivalent for is told on the standard error, with file, line and remedy: an error where keepalived
/// does not start either, a warning where something is left out or different, a note where nothing is to be done.
/// Exit code: 0 written; 1 nothing is written: an error, or with --strict a warning.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The keepalived.conf; what it includes is read as well.
    file: PathBuf,
    /// vrrp: virtual routers with the same VRIDs, beside keepalived on other hosts. cluster: VIPs and checks of a
    /// cluster. both: virtual routers whose VIPs are about to become the cluster's.
    #[arg(long, value_enum, default_value = "vrrp")]
    mode: Mode,
    /// Where to [default: the standard output]. A file that is there stays as it is, but for --force.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the output file.
    #[arg(long, requires = "output")]
    force: bool,
    /// A warning is an error.
    #[arg(long)]
    strict: bool,
    /// No notes.
    #[arg(short, long)]
    quiet: bool,
    /// This node's name [default: this host's name up to the first dot].
    #[arg(long, value_parser = super::value(config::name))]
    name: Option<String>,
    /// This node's own address and UDP port [port: 7946]. A cluster needs it; virtual routers alone do not.
    #[arg(long, value_name = "ADDR:PORT", value_parser = super::value(config::node_address), required_if_eq_any([("mode", "cluster"), ("mode", "both")]))]
    listen: Option<SocketAddr>,
    /// Whom its `@id` lines are for [default: this host's name up to the first dot].
    #[arg(short = 'i', long, value_name = "ID")]
    config_id: Option<String>,
}

pub(super) fn run(args: &Args) -> u8 {
    let id = args.config_id.clone().unwrap_or_else(host);
    let Some(name) = args.name.clone().or_else(own_name) else {
        return fail(&"this host's name is no name for a node: give one with --name");
    };
    let node = Node { name, listen: args.listen.unwrap_or(NOWHERE), script_user: script_user() };
    let mut read = read(&args.file, &id);
    let text = to_toml(&mut read, args.mode, &node);
    look_at_programs(&mut read, &node);
    let warnings = report(&read.findings, args.quiet);
    if read.findings.is_fatal() || args.strict && warnings > 0 {
        print::complain("nothing is written");
        return FAILED;
    }
    match &args.output {
        None => print::say(&text),
        Some(path) => {
            let written = if args.force { replace_config(path, &text) } else { write_config(path, &text) };
            if let Err(error) = written {
                return fail(&error);
            }
        }
    }
    0
}

/// What would be refused when its time comes is told now.
fn look_at_programs(read: &mut Read, node: &Node) {
    for command in read.model.commands() {
        let Some(program) = command.words.first().map(Path::new).filter(|path| path.is_absolute()) else {
            continue; // the system's own
        };
        if program.symlink_metadata().is_err() {
            let what = format!("{} is not on this host", program.display());
            read.findings.add(Kind::Note, &command.at, what, "bring it along to where this is run");
        } else if let Err(reason) = trust(program, node.user_of(command)) {
            let (what, remedy) =
                reason.split_once(": ").unwrap_or((&reason, "mend that before it is needed"));
            read.findings.add(Kind::Missing, &command.at, what, remedy);
        }
    }
}

/// How many warnings there are.
fn report(findings: &Findings, quiet: bool) -> usize {
    let said = |finding: &Finding| match finding.kind {
        Kind::Fatal => Some("error"),
        Kind::Invalid | Kind::Missing | Kind::Differs => Some("warning"),
        Kind::Note => (!quiet).then_some("note"),
    };
    let mut warnings = findings.more;
    for (finding, word) in findings.all.iter().filter_map(|finding| Some((finding, said(finding)?))) {
        warnings += usize::from(word == "warning");
        print::complain(&format!("{word}: {finding}"));
    }
    if findings.more > 0 {
        print::complain(&format!("warning: and {} more; mend these first", findings.more));
    }
    warnings
}

/// What a keepalived.conf is run with: where it comes from, and the state of a node of no cluster.
pub(super) fn alone(
    path: PathBuf,
    id: Option<String>,
    state_dir: &Path,
) -> Result<(Source, PathBuf), String> {
    let state = state_dir.join(ALONE);
    let name = match identity::refuse_existing(&state) {
        Ok(()) => {
            let name = own_name().unwrap_or_else(|| "node".into());
            begin(&state, &name, Role::Member)?;
            name
        }
        Err(_) => Identity::load(&state).map_err(|error| error.to_string())?.name,
    };
    let node = Node { name, listen: NOWHERE, script_user: script_user() };
    Ok((Source::Keepalived { path, id: id.unwrap_or_else(host), node }, state))
}

fn host() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().split('.').next().unwrap_or_default().to_owned()
}

fn own_name() -> Option<String> {
    config::name(&host().to_ascii_lowercase()).ok()
}

fn script_user() -> String {
    match nix::unistd::User::from_name(SCRIPT_USER) {
        Ok(Some(_)) => SCRIPT_USER.into(),
        _ => "root".into(),
    }
}
