//! `haclusterd token`: what lets nodes in. Works on the issuer's files, whether its daemon runs or not.

use super::table::{self, Cell};
use super::{Paths, fail, human, print};
use crate::config::{self, Config};
use crate::io::clock;
use crate::io::identity::Identity;
use crate::io::tokens::{self, TokenRecord, TokenState, Wanted};
use clap::Subcommand;
use haclusterd_proto::Role;
use haclusterd_proto::token::{Token, TokenId};
use std::time::Duration;

const HEADER: [&str; 6] = ["ID", "STATE", "USES", "NODE", "ROLE", "EXPIRES"];

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make a token and print the line that a new node runs with it.
    ///
    /// Exit code: 0; 1 no token was made, and says why.
    Create(Create),
    /// List the tokens, spent and revoked ones for a day longer.
    List {
        #[arg(short, long, value_enum, default_value_t)]
        output: print::Output,
    },
    /// Make a token worthless. Nodes that joined with it stay.
    Revoke {
        /// As `token list` shows it.
        id: TokenId,
    },
    /// Free the name of a node that is gone without `leave`, so that another may join under it.
    Release {
        #[arg(value_parser = super::value(config::name))]
        name: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// How long it is good for.
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// How many nodes may join with it.
    #[arg(long, default_value_t = 1)]
    uses: u32,
    /// The only name that may join with it.
    #[arg(long, value_name = "NAME", value_parser = super::value(config::name))]
    node: Option<String>,
    /// member or witness.
    #[arg(long, default_value = "member")]
    role: Role,
    /// Print the token alone.
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(verb: &Verb, paths: &Paths) -> u8 {
    let done = match verb {
        Verb::Create(args) => create(args, paths),
        Verb::List { output } => list(*output, paths),
        Verb::Revoke { id } => tokens::revoke(&paths.state_dir, *id)
            .map(|()| format!("token {id} is revoked\n"))
            .map_err(|error| error.to_string()),
        Verb::Release { name } => tokens::release_name(&paths.state_dir, name)
            .map(|node| format!("the name {name} is free again; it was given to node {node}\n"))
            .map_err(|error| error.to_string()),
    };
    match done {
        Ok(text) => {
            print::say(&text);
            0
        }
        Err(error) => fail(&error),
    }
}

fn create(args: &Create, paths: &Paths) -> Result<String, String> {
    let identity = Identity::load(&paths.state_dir).map_err(|error| error.to_string())?;
    let wanted = Wanted { ttl: args.ttl, uses: args.uses, node: args.node.clone(), role: args.role };
    let token = tokens::create(&paths.state_dir, &identity, &wanted).map_err(|error| error.to_string())?;
    if args.quiet {
        return Ok(format!("{token}\n"));
    }
    let config = Config::load(&paths.config).map_err(|error| error.to_string())?;
    Ok(instructions(args, &token, config.node.listen))
}

fn instructions(args: &Create, token: &Token, peer: std::net::SocketAddr) -> String {
    let name = args.node.as_deref().unwrap_or("NAME");
    let role = match args.role {
        Role::Member => " --interface IF",
        Role::Witness => " --role witness",
    };
    format!(
        "Good for {} and {} node(s). On the new node, with its own name and address:\n\n\
         echo {token} | haclusterd join {peer} --token-file - --name {name} --listen ADDR{role}\n\n\
         Take it back with `haclusterd token revoke {}`.\n",
        humantime::format_duration(args.ttl),
        args.uses,
        token.id
    )
}

fn list(output: print::Output, paths: &Paths) -> Result<String, String> {
    let tokens = tokens::list(&paths.state_dir).map_err(|error| error.to_string())?;
    if output == print::Output::Json {
        return Ok(print::json(&tokens.iter().map(Row::of).collect::<Vec<_>>()));
    }
    let mut rows = vec![HEADER.map(Cell::from).to_vec()];
    for row in tokens.iter().map(Row::of) {
        let node = row.node.unwrap_or_else(|| "any".into());
        let expires = human::certificate(row.expires_s);
        let cells =
            [row.id, row.state.into(), row.uses_left.to_string(), node, row.role.to_string(), expires];
        rows.push(cells.map(Cell::from).to_vec());
    }
    Ok(table::render(&rows, false))
}

/// A token without its secret.
#[derive(serde::Serialize)]
struct Row {
    id: String,
    state: &'static str,
    uses_left: u32,
    used_by: Vec<String>,
    node: Option<String>,
    role: Role,
    /// From now; negative once it has.
    expires_s: i64,
}

impl Row {
    fn of(token: &TokenRecord) -> Row {
        Row {
            id: token.id.clone(),
            state: match token.state() {
                TokenState::Ready => "ready",
                TokenState::Used => "used",
                TokenState::Expired => "expired",
                TokenState::Revoked => "revoked",
            },
            uses_left: token.uses_left,
            used_by: token.used_by.clone(),
            node: token.node.clone(),
            role: token.role,
            expires_s: i64::try_from(token.expires).unwrap_or(i64::MAX) - clock::wall(),
        }
    }
}
