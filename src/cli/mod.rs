//! Words in, exit codes out: a file a verb, and what they share to speak.

mod check;
mod doctor;
mod events;
mod explain;
pub mod human;
mod import;
mod init;
mod join;
mod log;
pub mod members;
mod orders;
mod paper;
pub mod print;
mod priority;
pub mod replay;
mod simulate;
pub mod status;
pub mod table;
mod token;
mod voter;

#[cfg(test)]
mod sample;

use crate::config::{self, NewNode};
use crate::daemon::{self, Options};
use crate::io::{control, web};
use clap::{Args, Parser, Subcommand};
use haclusterd_proto::control::Request;
use haclusterd_proto::{Priority, Role};
use ipnet::IpNet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// The daemon answers from memory; one that takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(3);
/// To leave is to hand over, to wait for the voters, and to end.
const LEAVING: Duration = Duration::from_secs(35);

const FAILED: u8 = 1;

/// Gives each virtual IP address exactly one owner among the nodes of a cluster.
#[derive(Debug, Parser)]
#[command(name = "haclusterd", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    paths: Paths,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Args)]
pub struct Paths {
    /// The configuration file.
    #[arg(long, global = true, env = "HACLUSTERD_CONFIG", default_value = "/etc/haclusterd/haclusterd.toml")]
    config: PathBuf,
    /// Keys, certificates, and who votes.
    #[arg(long, global = true, env = "HACLUSTERD_STATE_DIR", default_value = "/var/lib/haclusterd")]
    state_dir: PathBuf,
    /// The daemon's local socket.
    #[arg(long, global = true, env = "HACLUSTERD_SOCKET", default_value = "/run/haclusterd/haclusterd.sock")]
    socket: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon.
    ///
    /// SIGTERM hands every VIP over and ends; SIGHUP reloads the configuration, all of it or nothing.
    /// Exit code: 0; 1 it could not start, and says why.
    Run(RunArgs),
    /// Begin a cluster: write the configuration and make a CA, this node's key and certificate.
    ///
    /// Exit code: 0; 1 nothing was made, and says why.
    Init(init::Args),
    /// Enter a cluster by one of its members.
    ///
    /// Exit code: 0; 1 bad arguments or files; 10 to 16 the member cannot be reached or trusted; 20 to 29 it refuses.
    Join(join::Args),
    /// Leave the cluster for good: hand every VIP over, give up the vote, and end the daemon.
    ///
    /// Exit code: 0; 1 refused; 3 no daemon.
    Leave,
    /// Make, list and revoke the tokens that let nodes join. Runs on the node that made the cluster.
    #[command(subcommand)]
    Token(token::Verb),
    /// Show and change who votes. Changes run on the node that made the cluster.
    #[command(subcommand)]
    Voter(voter::Verb),
    /// Remove a member that is gone for good: its vote, its name and its certificate count no more. Runs on the node
    /// that made the cluster.
    ///
    /// Exit code: 0; 1 refused, or not done in time, and says why; 3 no daemon.
    Remove(voter::Remove),
    Members(members::Args),
    Status(status::Args),
    Explain(explain::Args),
    Events(events::Args),
    Simulate(simulate::Args),
    Standby(orders::Standby),
    /// Be a candidate again, after `standby`.
    ///
    /// Exit code: 0; 1 refused, and says why; 3 no daemon.
    Unstandby,
    Move(orders::Move),
    #[command(subcommand)]
    Priority(priority::Verb),
    /// Read the configuration again: all of it, or nothing.
    ///
    /// Exit code: 0 it is in force; 1 it stays as it was, and says why; 3 no daemon.
    Reload,
    /// Print the metrics that `web.listen` serves, in the form of Prometheus.
    ///
    /// Exit code: 0; 3 no daemon.
    Metrics,
    Check(check::Args),
    Doctor(doctor::Args),
    Replay(replay::Args),
    Import(import::Args),
    #[command(hide = true)]
    Completions(paper::Completions),
    #[command(hide = true)]
    Man(paper::Man),
}

#[derive(Debug, Default, Args)]
struct RunArgs {
    /// How log lines look on the standard error. As text under systemd, each has its level for the journal.
    #[arg(long, value_enum, default_value_t, env = "HACLUSTERD_LOG")]
    log: log::Form,
    /// Record what decisions follow from, for `haclusterd replay`: up to 64 MiB, about half an hour. The last run's
    /// journal is kept as FILE.1.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Run this keepalived.conf as it is, as virtual routers, and belong to no cluster. A reload reads it again.
    #[arg(long, value_name = "FILE")]
    keepalived_conf: Option<PathBuf>,
    /// Whom the `@id` lines of the keepalived.conf are for [default: this host's name up to the first dot].
    #[arg(short = 'i', long, value_name = "ID", requires = "keepalived_conf")]
    config_id: Option<String>,
}

/// What a new node is told, by `init` and `join` alike.
#[derive(Debug, Clone, Args)]
struct NodeArgs {
    /// This node's name: a DNS label such as lb1.
    #[arg(long, value_parser = value(config::name), required_unless_present = "use_config")]
    name: Option<String>,
    /// This node's own address and UDP port [port: 7946].
    #[arg(long, value_name = "ADDR:PORT", value_parser = value(config::node_address), required_unless_present = "use_config")]
    listen: Option<SocketAddr>,
    /// Where the VIPs go.
    #[arg(long, value_name = "IF", value_parser = value(config::interface))]
    interface: Option<String>,
    /// A VIP with its prefix length; addresses joined by commas move together. May be given several times.
    #[arg(long, value_name = "CIDR[,CIDR]")]
    vip: Vec<String>,
    /// 1 to 254; the largest owns the VIPs.
    #[arg(long, value_name = "N", default_value = "100", value_parser = value(config::priority))]
    priority: Priority,
    /// member, or witness: votes and never holds an address.
    #[arg(long, default_value = "member")]
    role: Role,
    /// Watch this host's nginx: its master process, its answers, and the disk of its logs, all found by `nginx -T`.
    #[arg(long)]
    nginx: bool,
    /// Watch the nginx master whose process id is in this file.
    #[arg(long, value_name = "FILE")]
    nginx_pid: Option<PathBuf>,
    /// Ask this http URL of this host's nginx.
    #[arg(long, value_name = "URL")]
    nginx_url: Option<String>,
    /// Take the configuration file that is there, as `haclusterd import` has made it, and write none.
    #[arg(long, conflicts_with_all = ["name", "listen", "interface", "vip", "role", "nginx", "nginx_pid", "nginx_url"])]
    use_config: bool,
}

impl NodeArgs {
    /// `None`: the file that is there is taken.
    fn new_node(&self, seeds: Vec<SocketAddr>) -> Result<Option<NewNode>, String> {
        let (Some(name), Some(listen)) = (self.name.clone(), self.listen) else { return Ok(None) };
        let group = |text: &String| -> Result<Vec<IpNet>, String> {
            text.split(',')
                .map(|one| config::vip_address(one.trim()).map_err(|fault| format!("--vip: {fault}")))
                .collect()
        };
        Ok(Some(NewNode {
            name,
            listen,
            role: self.role,
            priority: self.priority,
            interface: self.interface.clone(),
            vips: self.vip.iter().map(group).collect::<Result<_, _>>()?,
            nginx: self.nginx || self.nginx_pid.is_some() || self.nginx_url.is_some(),
            nginx_pid: self.nginx_pid.clone(),
            nginx_url: self.nginx_url.clone(),
            seeds,
        }))
    }
}

/// A parser of the configuration, for an argument.
fn value<T: 'static, E: std::fmt::Display + 'static>(
    parse: fn(&str) -> Result<T, E>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| parse(text).map_err(|fault| fault.to_string())
}

/// The whole program; its exit code.
#[must_use]
pub fn main() -> u8 {
    let Cli { paths, verb } = Cli::parse();
    match verb {
        Verb::Run(args) => run(args, &paths),
        Verb::Init(args) => init::run(&args, &paths),
        Verb::Join(args) => join::run(&args, &paths),
        Verb::Leave => leave(&paths),
        Verb::Token(verb) => token::run(&verb, &paths),
        Verb::Voter(verb) => voter::run(&verb, &paths.socket),
        Verb::Remove(args) => voter::remove(&args, &paths.socket),
        Verb::Members(args) => members::run(&args, &paths.socket),
        Verb::Status(args) => status::run(&args, &paths.socket),
        Verb::Replay(args) => replay::run(&args),
        Verb::Events(args) => events::run(&args, &paths.socket),
        Verb::Simulate(args) => simulate::run(&args, &paths.socket),
        Verb::Standby(args) => orders::standby(&args, &paths.socket),
        Verb::Unstandby => orders::unstandby(&paths.socket),
        Verb::Move(args) => orders::move_vip(&args, &paths.socket),
        Verb::Priority(verb) => priority::run(&verb, &paths),
        Verb::Reload => orders::reload(&paths.socket),
        Verb::Metrics => metrics(&paths),
        Verb::Completions(args) => paper::completions(&args),
        Verb::Man(args) => paper::man(&args),
        Verb::Explain(args) => explain::run(&args, &paths.socket),
        Verb::Check(args) => check::run(&args, &paths.config),
        Verb::Import(args) => import::run(&args),
        Verb::Doctor(args) => doctor::run(&args, &paths.config, &paths.socket),
    }
}

fn run(args: RunArgs, paths: &Paths) -> u8 {
    let _flush = log::start(args.log);
    let Paths { config, state_dir, socket } = paths.clone();
    let (config, state_dir) = match args.keepalived_conf {
        None => (config::Source::Toml(config), state_dir),
        Some(file) => match import::alone(file, args.config_id, &state_dir) {
            Ok(found) => found,
            Err(error) => return fail(&error),
        },
    };
    match daemon::run(Options { config, state_dir, socket, journal: args.journal }) {
        Ok(()) => 0,
        Err(error) => fail(&error),
    }
}

fn metrics(paths: &Paths) -> u8 {
    match control::snapshot(&paths.socket, PATIENCE) {
        Ok(snapshot) => {
            print::say(&web::metrics::text(&snapshot));
            0
        }
        Err(error) => no_daemon(&error),
    }
}

fn leave(paths: &Paths) -> u8 {
    orders::done(&paths.socket, &Request::Leave, LEAVING).map_or_else(|code| code, |text| orders::said(&text))
}

fn seconds(count: NonZeroU32) -> Duration {
    Duration::from_secs(count.get().into())
}

/// For commands that tell this apart from all other failures.
fn no_daemon(error: &control::ControlError) -> u8 {
    print::complain(&error.to_string());
    status::NO_DAEMON
}

fn fail(error: &impl std::fmt::Display) -> u8 {
    print::complain(&error.to_string());
    FAILED
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::Value;
    use std::collections::BTreeSet;

    const DOCS: &str = include_str!("../../docs/json.md");

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

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
