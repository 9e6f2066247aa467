//! haclusterd gives each virtual IP address exactly one owner.
//!
//! The source is built in floors; a floor imports only from the floors below it (`tests/tidy.rs` holds this).
//!
//! 5. `main`, [`cli`]: words in, exit codes out.
//! 4. [`daemon`]: the only place that knows both sides. It waits, asks the engine, and performs.
//! 3. [`io`], [`config`]: the kernel, the network and the files. No decisions.
//! 2. [`engine`]: the wiring of decisions, and the snapshot that commands, metrics and tests read.
//! 1. `engine::{voter, lease, pair, vip, peers, health}`: one decision each. They do not know each other.
//! 0. `engine::{time, rank}` and the crate `haclusterd-proto`: words and bytes.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod io;
