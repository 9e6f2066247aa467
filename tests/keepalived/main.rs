//! The reader of a keepalived.conf beside keepalived itself: what it complains of, we complain of, and of nothing else.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod corpus;
mod mutation;
mod oracle;
mod told;
mod verdict;

#[path = "../netns/mod.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod netns;
