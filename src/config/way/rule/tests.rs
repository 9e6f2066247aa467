use super::*;

fn good(text: &str) -> Rule {
    read(text, false).unwrap_or_else(|why| panic!("{text}: {why}"))
}

#[test]
fn a_rule_is_read_as_iproute2_would() {
    let rule = good("from 10.0.0.100 table 100 priority 200");
    assert_eq!((rule.from, rule.to, rule.priority), ("10.0.0.100/32".parse().ok(), None, 200));
    assert_eq!(rule.action, Action::Table(100));
    let marked = good("to 192.0.2.0/24 fwmark 7 lookup 100");
    assert_eq!((marked.mark, marked.priority, marked.ipv6), (Some((7, u32::MAX)), PRIORITY, false));
    assert!(good("from fd00::/64 lookup main").ipv6 && read("fwmark 1 lookup 9", true).unwrap().ipv6);
    let all = good(
        "not from all iif eth0 oif eth1 fwmark 0x10/0xf0 tos 0x10 ipproto tcp sport 80 dport 8000-8080 \
         uidrange 0-99 order 5 prohibit",
    );
    assert!(all.not && all.from.is_none() && all.action == Action::Prohibit);
    assert_eq!((all.mark, all.tos, all.protocol), (Some((16, 240)), 16, Some(6)));
    assert_eq!((all.sport, all.dport, all.users), (Some((80, 80)), Some((8000, 8080)), Some((0, 99))));
    assert_eq!(good("suppress_prefixlength 0 table main").suppress, Some(0));
}

#[test]
fn what_is_wrong_with_a_rule_is_named() {
    for (text, part) in [
        ("", "names no table"),
        ("from 10.0.0.1", "names no table"),
        ("from table 100", "table is no address"),
        ("from 10.0.0.1 to fd00::1 table 100", "IPv4 and IPv6 at once"),
        ("from 10.0.0.1 table 100 blackhole", "the action is there twice"),
        ("from 10.0.0.1 goto 400", "goto is not known here"),
        ("from 10.0.0.1 table", "table has no value"),
        ("fwmark x table 1", "fwmark x is no number"),
        ("dport 9-8 table 1", "dport 9-8 is no number and no range"),
        ("ipproto smoke table 1", "ipproto smoke is not known"),
        ("proto static table 1", "proto is haclusterd's own"),
        ("suppress_prefixlength 0 blackhole", "for a rule with a table"),
        ("priority 1 order 2 table 1", "order is there twice"),
    ] {
        let said = read(text, false).unwrap_err();
        assert!(said.contains(part), "{text}: {said}");
    }
}
