//! `haclusterd join`: this host enters a cluster.

use super::init::{replace_config, write_config};
use super::{FAILED, NodeArgs, Paths, fail, print};
use crate::config::{self, Config, NewNode, Node};
use crate::io::identity;
use crate::io::join::{Joined, NodeRequest, join};
use haclusterd_proto::token::Token;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

const TOKEN_VARIABLE: &str = "HACLUSTERD_TOKEN";
/// A token has 94 characters.
const MAX_TOKEN_FILE: u64 = 4096;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A member of the cluster: address and UDP port [port: 7946].
    #[arg(value_name = "PEER[:PORT]", value_parser = super::value(config::address))]
    peer: SocketAddr,
    /// The file that holds the token, or - for standard input; without it, the environment's HACLUSTERD_TOKEN.
    /// Never an argument: those are for everybody to read.
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
    /// Go on as the daemon.
    #[arg(long)]
    run: bool,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &Args, paths: &Paths) -> u8 {
    let (token, new_node, Node { name, role, listen, .. }) = match prepare(args, paths) {
        Ok(ready) => ready,
        Err(error) => return fail(&error),
    };
    let request = NodeRequest { name, role, listen, state_dir: paths.state_dir.clone() };
    let bind = SocketAddr::new(listen.ip(), 0);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let joined = match runtime.block_on(join(args.peer, bind, &token, request)) {
        Ok(joined) => joined,
        Err(error) => {
            print::complain(&error.to_string());
            return error.exit_code();
        }
    };
    drop(runtime);
    let seeds = joined.peers.iter().copied().filter(|peer| *peer != listen).take(8).collect();
    finish(args, paths, &joined, new_node, seeds)
}

/// Everything that can be known to fail before the token is used.
fn prepare(args: &Args, paths: &Paths) -> Result<(Token, Option<NewNode>, Node), String> {
    let new_node = args.node.new_node(vec![args.peer])?;
    let config = match &new_node {
        // Without the cluster's part, which is not known yet.
        Some(new_node) => Config::parse(&new_node.to_toml(Some("")), &paths.config),
        None => Config::load(&paths.config),
    };
    let node = config.map_err(|error| error.to_string())?.node;
    if new_node.is_some() && paths.config.symlink_metadata().is_ok() {
        return Err(format!(
            "{} is there already and stays as it is: move it away, or name another with --config",
            paths.config.display()
        ));
    }
    identity::refuse_existing(&paths.state_dir).map_err(|error| error.to_string())?;
    Ok((read_token(args.token_file.as_deref())?, new_node, node))
}

/// The file that is there, with where the cluster is found; and whether it could be written.
fn with_seeds(path: &Path, seeds: &[SocketAddr]) -> (String, Result<(), String>) {
    let line = format!("seeds = {:?}\n", seeds.iter().map(ToString::to_string).collect::<Vec<_>>());
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return (line, Err(format!("{}: {error}", path.display()))),
    };
    let named = text.lines().any(|line| line.trim_start().starts_with("seeds"));
    let text = if named { text } else { text.replacen("[node]\n", &format!("[node]\n{line}"), 1) };
    let written = replace_config(path, &text);
    (text, written)
}

fn read_token(file: Option<&str>) -> Result<Token, String> {
    let text = match file {
        Some("-") => read_from("standard input", std::io::stdin())?,
        Some(path) => {
            let opened = std::fs::File::open(Path::new(path)).map_err(|error| format!("{path}: {error}"))?;
            read_from(path, opened)?
        }
        None => std::env::var(TOKEN_VARIABLE).map_err(|_| {
            format!("no token: name its file with --token-file FILE (- for standard input), or set {TOKEN_VARIABLE}")
        })?,
    };
    text.trim().parse().map_err(|error| format!("the token cannot be read: {error}"))
}

fn read_from(name: &str, source: impl Read) -> Result<String, String> {
    let mut text = String::new();
    source.take(MAX_TOKEN_FILE).read_to_string(&mut text).map_err(|error| format!("{name}: {error}"))?;
    Ok(text)
}

fn finish(
    args: &Args,
    paths: &Paths,
    joined: &Joined,
    new_node: Option<NewNode>,
    seeds: Vec<SocketAddr>,
) -> u8 {
    let (text, written) = match new_node {
        Some(new_node) => {
            let text = NewNode { seeds, ..new_node }.to_toml(Some(&joined.settings));
            let written = write_config(&paths.config, &text);
            (text, written)
        }
        None => with_seeds(&paths.config, &seeds),
    };
    if let Err(error) = written {
        print::complain(&format!(
            "joined, but the configuration could not be written: {error}\nWrite it yourself:\n{text}"
        ));
        return FAILED;
    }
    if let Err(error) = Config::parse(&text, &paths.config) {
        print::complain(&format!(
            "joined, but the configuration must be mended before the daemon can start:\n{error}"
        ));
        return FAILED;
    }
    if !args.node.vip.is_empty() {
        print::complain("--vip was not used: the VIPs are the cluster's");
    }
    print::say(&format!(
        "{} is a member of cluster {}\n  configuration  {}\n  state          {}\n",
        joined.identity.name,
        joined.identity.cluster.to_string().chars().take(8).collect::<String>(),
        paths.config.display(),
        paths.state_dir.display()
    ));
    if args.run {
        return super::run(super::RunArgs::default(), paths);
    }
    print::say("Start it with `systemctl start haclusterd` or `haclusterd run`.\n");
    0
}
