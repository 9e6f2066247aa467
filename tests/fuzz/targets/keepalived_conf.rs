//! Any bytes as a keepalived.conf: no panic, no hang, bounded memory; and what is made of it is a legal configuration.
#![no_main]

use haclusterd::config::Config;
use haclusterd::config::keepalived::{Mode, Node, read_text, to_toml};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let path = Path::new("keepalived.conf");
    let node = Node { name: "lb1".into(), listen: ([192, 0, 2, 1], 7946).into(), script_user: "root".into() };
    for mode in [Mode::Vrrp, Mode::Both, Mode::Cluster] {
        let mut read = read_text(&text, path, "lb1");
        let written = to_toml(&mut read, mode, &node);
        if !read.findings.is_fatal() {
            Config::parse(&written, path).unwrap_or_else(|error| panic!("{error}\n{written}"));
        }
    }
});
