//! What packages need of the command line: completions and man pages.

use super::{Cli, fail, print};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::path::PathBuf;

/// Print the completions for a shell.
///
/// For bash: haclusterd completions bash > /usr/share/bash-completion/completions/haclusterd
#[derive(Debug, Args)]
pub(super) struct Completions {
    shell: Shell,
}

/// Write the man pages, one a command, into a directory.
#[derive(Debug, Args)]
pub(super) struct Man {
    directory: PathBuf,
}

pub(super) fn completions(args: &Completions) -> u8 {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "haclusterd", &mut text);
    print::say(&String::from_utf8_lossy(&text));
    0
}

pub(super) fn man(args: &Man) -> u8 {
    match clap_mangen::generate_to(Cli::command(), &args.directory) {
        Ok(()) => 0,
        Err(error) => fail(&format!("{}: {error}", args.directory.display())),
    }
}
