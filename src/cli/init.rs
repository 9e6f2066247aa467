//! `haclusterd init`: the first node of a cluster.

use super::{NodeArgs, Paths, fail, print};
use crate::config::Config;
use crate::io::{identity, state};
use haclusterd_proto::Role;
use haclusterd_proto::cluster::{SignedVoters, VoterSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &Args, paths: &Paths) -> u8 {
    match init(args, paths) {
        Ok(text) => {
            print::say(&text);
            0
        }
        Err(error) => fail(&error),
    }
}

fn init(args: &Args, paths: &Paths) -> Result<String, String> {
    let text = args.node.new_node(Vec::new())?.map(|node| node.to_toml(None));
    let config = match &text {
        Some(text) => Config::parse(text, &paths.config),
        None => Config::load(&paths.config),
    };
    let node = config.map_err(|error| error.to_string())?.node;
    identity::refuse_existing(&paths.state_dir).map_err(|error| error.to_string())?;
    if let Some(text) = &text {
        write_config(&paths.config, text)?;
    }
    let made = begin(&paths.state_dir, &node.name, node.role);
    if made.is_err() && text.is_some() {
        let _ = fs::remove_file(&paths.config);
    }
    let cluster = made?;
    Ok(format!(
        "cluster {cluster} begins with {}\n  configuration  {}\n  state          {}\n\
         Start it with `systemctl start haclusterd` or `haclusterd run`; then let others join: `haclusterd token create`.\n",
        node.name,
        paths.config.display(),
        paths.state_dir.display()
    ))
}

/// The identity, and the first voter set: who loses it must not found a second cluster under the same name.
pub(super) fn begin(dir: &Path, name: &str, role: Role) -> Result<String, String> {
    let identity = identity::init(dir, name, role).map_err(|error| error.to_string())?;
    let set = VoterSet::first(identity.cluster, identity.node);
    let signature = identity.ca_sign(&set.signed_bytes()).ok_or("the CA key cannot be read back")?;
    state::store_voters(dir, &SignedVoters { set, signature }).map_err(|error| error.to_string())?;
    Ok(identity.cluster.to_string().chars().take(8).collect())
}

/// All of it or nothing: a daemon may read it at any moment. Who may read it stays as it was.
pub(super) fn replace_config(path: &Path, text: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: cannot be replaced: {error}", path.display());
    let aside = path.with_extension("toml.new");
    let _ = fs::remove_file(&aside);
    write_config(&aside, text)?;
    if let Ok(old) = path.metadata() {
        fs::set_permissions(&aside, old.permissions()).map_err(failed)?;
    }
    fs::rename(&aside, path).map_err(failed)
}

/// A file that is there stays as it is.
pub(super) fn write_config(path: &Path, text: &str) -> Result<(), String> {
    let failed = |what: &str, error: std::io::Error| format!("{}: {what}: {error}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|error| failed("its directory cannot be made", error))?;
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                format!(
                    "{} is there already and stays as it is: move it away, or name another with --config",
                    path.display()
                )
            }
            _ => failed("cannot be made", error),
        })?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| {
        let _ = fs::remove_file(path);
        failed("cannot be written", error)
    })
}
