//! Routes and rules.

use crate::netns::{run, wired};
use haclusterd::config::Config;
use haclusterd::io::netlink::Kernel;
use haclusterd::io::netlink::way::{Way, WayError};
use haclusterd::io::ports::ways_of;
use std::path::Path;
use std::sync::Arc;

async fn kernel() -> Kernel {
    run("ip addr add 10.9.0.1/24 dev v0");
    run("ip addr add fd09::1/64 dev v0 nodad");
    Kernel::start(Arc::new(|_| {})).await.unwrap()
}

/// As the configuration says them.
fn ways(routes: &[&str], rules: &[&str]) -> Vec<Way> {
    let text = format!(
        "[node]\nname = 'n'\nlisten = '10.0.0.1'\ninterface = 'v0'\n[[vip]]\naddresses = ['10.9.0.100']\n\
         routes = {routes:?}\nrules = {rules:?}"
    );
    ways_of(&Config::parse(&text, Path::new("t.toml")).unwrap().vips[0]).collect()
}

async fn put(kernel: &Kernel, ways: &[Way], known: bool) -> Vec<Result<(), WayError>> {
    kernel.put(&ways.iter().map(|way| (way, known)).collect::<Vec<_>>()).await.unwrap()
}

async fn put_all(kernel: &Kernel, ways: &[Way]) {
    for (way, outcome) in ways.iter().zip(put(kernel, ways, false).await) {
        outcome.unwrap_or_else(|error| panic!("{}: {error}", way.text()));
    }
}

async fn take_all(kernel: &Kernel, ways: &[Way]) {
    let all: Vec<&Way> = ways.iter().collect();
    kernel.take(&all).await.unwrap().into_iter().for_each(Result::unwrap);
}

/// What is marked as ours, and every rule that is not the kernel's own.
fn shown() -> String {
    let routes = [run("ip -4 route show table all proto 112"), run("ip -6 route show table all proto 112")];
    let rules = run("ip rule show") + &run("ip -6 rule show");
    let own = ["0:", "32766:", "32767:"];
    let rules = rules.lines().filter(|line| !own.iter().any(|own| line.starts_with(own)));
    routes.concat() + &rules.collect::<Vec<_>>().join("\n")
}

const ROUTES: [(&str, &str); 9] = [
    (
        "192.0.2.0/24 via 10.9.0.2 dev v0 table 100 metric 5 src 10.9.0.1 mtu lock 1400 initcwnd 20",
        "192.0.2.0/24 via 10.9.0.2 dev v0 table 100 src 10.9.0.1 metric 5 mtu lock 1400 initcwnd 20",
    ),
    ("blackhole 198.51.100.0/24", "blackhole 198.51.100.0/24"),
    ("unreachable 198.51.101.0/24 metric 7", "unreachable 198.51.101.0/24 metric 7"),
    ("prohibit fd0a::/64 table 100", "prohibit fd0a::/64 dev lo table 100 metric 1024"),
    ("192.0.3.0/24 dev v0 scope host tos 0x10", "192.0.3.0/24 tos 0x10 dev v0 scope host"),
    ("192.0.4.0/24 via 172.16.0.1 dev v0 onlink", "192.0.4.0/24 via 172.16.0.1 dev v0 onlink"),
    ("192.0.5.0/24 via inet6 fd09::2 dev v0", "192.0.5.0/24 via inet6 fd09::2 dev v0"),
    ("default via fd09::2 table 101 pref high", "default via fd09::2 dev v0 table 101 metric 1024 pref high"),
    ("192.0.6.0/24 nexthop via 10.9.0.2 weight 3 nexthop via 10.9.0.3 dev v0", "192.0.6.0/24"),
];

const RULES: [(&str, &str); 6] = [
    ("from 10.9.0.100 table 100 priority 200", "200:\tfrom 10.9.0.100 lookup 100 proto 112"),
    (
        "to 192.0.2.0/24 fwmark 7 lookup 100",
        "16384:\tfrom all to 192.0.2.0/24 fwmark 0x7 lookup 100 proto 112",
    ),
    (
        "not from fd0a::/64 iif v7 priority 201 table 102",
        "201:\tnot from fd0a::/64 iif v7 [detached] lookup 102 proto 112",
    ),
    (
        "fwmark 0x10/0xf0 oif v0 tos 16 ipproto tcp sport 80 dport 8000-8080 uidrange 0-99 priority 202 blackhole",
        "202:\tfrom all tos 0x10 fwmark 0x10/0xf0 oif v0 uidrange 0-99 ipproto tcp sport 80 dport 8000-8080 blackhole",
    ),
    ("suppress_prefixlength 0 table main priority 203", "203:\tfrom all lookup main suppress_prefixlength 0"),
    ("from fd09::9 order 204 unreachable", "204:\tfrom fd09::9 unreachable proto 112"),
];

#[test]
fn every_word_means_what_iproute2_means() {
    wired("ways::every_word_means_what_iproute2_means", || async {
        let kernel = kernel().await;
        let all = ways(&ROUTES.map(|(text, _)| text), &RULES.map(|(text, _)| text));
        put_all(&kernel, &all).await;
        let text = shown().replace("  ", " ").replace("  ", " ");
        for (_, wanted) in ROUTES.into_iter().chain(RULES) {
            assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        }
        assert!(text.contains("nexthop via 10.9.0.2 dev v0 weight 3"), "{text}");
        let before = text;
        put(&kernel, &all, true).await.into_iter().for_each(Result::unwrap);
        assert_eq!(before, shown().replace("  ", " ").replace("  ", " "), "what is there stays as it is");
        take_all(&kernel, &all).await;
        assert_eq!(shown(), "");
        take_all(&kernel, &all).await;
    });
}

#[test]
fn what_is_not_ours_is_left_alone() {
    wired("ways::what_is_not_ours_is_left_alone", || async {
        let kernel = kernel().await;
        run("ip route add 192.0.2.0/24 via 10.9.0.9");
        run("ip rule add from 10.9.0.100 lookup 100 priority 200");
        let all = ways(&["192.0.2.0/24 via 10.9.0.2"], &["from 10.9.0.100 table 100 priority 200"]);
        // Of rules, the kernel has as many as there are hands.
        let outcomes = put(&kernel, &all, false).await;
        assert!(matches!(outcomes[..], [Err(WayError::Foreign), Ok(())]), "{outcomes:?}");
        take_all(&kernel, &all).await;
        assert_eq!(kernel.sweep_ways(&[]).await.unwrap(), (0, 0));
        assert!(run("ip route show 192.0.2.0/24").contains("via 10.9.0.9"));
        assert!(run("ip rule show").contains("from 10.9.0.100 lookup 100"));
    });
}

#[test]
fn what_a_dead_run_left_is_swept_or_gone_on_with() {
    wired("ways::what_a_dead_run_left_is_swept_or_gone_on_with", || async {
        let kernel = kernel().await;
        let old = ways(
            &["192.0.2.0/24 via 10.9.0.2", "blackhole 192.0.3.0/24 table 7", "fd0a::/64 via fd09::2"],
            &["from 10.9.0.100 table 100", "from fd09::9 table 101"],
        );
        put_all(&kernel, &old).await;
        let kept = ways(&["192.0.2.0/24 via 10.9.0.3"], &["from 10.9.0.100 table 100"]);
        assert_eq!(kernel.sweep_ways(&kept).await.unwrap(), (2, 1));
        let left = shown();
        assert!(left.contains("via 10.9.0.2") && left.contains("from 10.9.0.100"), "{left}");
        put_all(&kernel, &kept).await;
        let now = shown();
        assert!(now.contains("via 10.9.0.3") && !now.contains("via 10.9.0.2"), "{now}");
        assert_eq!(kernel.sweep_ways(&[]).await.unwrap(), (1, 1));
        assert_eq!(shown(), "");
    });
}

#[test]
fn a_refusal_says_what_to_do() {
    wired("ways::a_refusal_says_what_to_do", || async {
        let kernel = kernel().await;
        let all = ways(
            &[
                "192.0.2.0/24 via 172.16.0.1",
                "192.0.3.0/24 dev nosuch",
                "blackhole 192.0.4.0/24",
                "192.0.5.0/24 dev v0 src 10.8.8.8",
            ],
            &[],
        );
        let said: Vec<String> = put(&kernel, &all, false)
            .await
            .into_iter()
            .map(|outcome| outcome.map_or_else(|error| error.to_string(), |()| "there".into()))
            .collect();
        for (said, part) in said.iter().zip([
            "name one by dev, with onlink",
            "no interface nosuch",
            "there",
            "one of this host or of the VIP",
        ]) {
            assert!(said.contains(part), "{part}: {said}");
        }
    });
}
