use super::*;

fn good(text: &str) -> Route {
    read(text, false).unwrap_or_else(|why| panic!("{text}: {why}"))
}

#[test]
fn a_route_is_read_as_iproute2_would() {
    let route = good("192.0.2.0/24 via 10.0.0.1 dev eth0 table 100 metric 5 src 10.0.0.100");
    assert_eq!(route.key(), ("192.0.2.0/24".parse().unwrap(), 100, 5, 0));
    assert_eq!((route.kind, route.scope, route.source), (RouteKind::Unicast, 0, "10.0.0.100".parse().ok()));
    assert_eq!((route.hops[0].via, route.hops[0].dev.as_deref()), ("10.0.0.1".parse().ok(), Some("eth0")));
    let dark = good("blackhole 198.51.100.0/24");
    assert_eq!((dark.kind, dark.hops.len(), dark.table, dark.metric), (RouteKind::Blackhole, 0, 254, 0));
    assert_eq!(good("default via 10.0.0.1").to.to_string(), "0.0.0.0/0");
    assert_eq!(good("default via fd00::1").to.to_string(), "::/0");
    assert_eq!(
        (good("default6 dev eth0").to.to_string(), good("default dev eth0").metric),
        ("::/0".into(), 0)
    );
    assert_eq!(read("default dev eth0", true).unwrap().metric, 1024);
    assert_eq!(good("to 192.0.2.7 dev eth0").to.to_string(), "192.0.2.7/32");
    assert_eq!(good("192.0.2.0/24 dev eth0").scope, 253, "what has no gateway is on the link");
    assert_eq!(good("192.0.2.0/24 dev eth0 scope host").scope, 254);
    let other = good("192.0.2.0/24 via inet6 fe80::1 dev eth0 onlink mtu lock 1400 hoplimit 0x40");
    assert!(other.to.addr().is_ipv4() && other.hops[0].via.unwrap().is_ipv6() && other.hops[0].onlink);
    assert_eq!((other.metrics, other.locked), (vec![(2, 1400), (10, 64)], 4));
    let wide = good("192.0.2.0/24 metric 7 nexthop via 10.0.0.1 weight 3 nexthop dev eth1 onlink");
    assert_eq!((wide.hops.len(), wide.hops[0].weight, wide.hops[1].weight, wide.scope), (2, 3, 1, 0));
}

#[test]
fn what_is_wrong_with_a_route_is_named() {
    for (text, part) in [
        ("", "it has no destination"),
        ("via 10.0.0.1", "it has no destination"),
        ("192.0.2.0/24", "neither via nor dev"),
        ("192.0.2.0/24 via", "via has no value"),
        ("192.0.2.0/24 via eth0", "via eth0 is no address"),
        ("192.0.2.0/24 dev a/b", "dev a/b is no interface name"),
        ("192.0.2.1/24 dev eth0", "write 192.0.2.0/24"),
        ("192.0.2.0/33 dev eth0", "192.0.2.0/33 is no destination"),
        ("192.0.2.0/24 via fd00::1", "IPv4 and IPv6 at once"),
        ("192.0.2.0/24 via inet6 10.0.0.1", "10.0.0.1 is not of inet6"),
        ("192.0.2.0/24 dev eth0 speed 9", "speed is not known here"),
        ("fast 192.0.2.0/24 dev eth0", "fast is not known here"),
        ("192.0.2.0/24 dev eth0 metric x", "metric x is no number"),
        ("192.0.2.0/24 dev eth0 metric 4294967296", "metric 4294967296 is no number"),
        ("192.0.2.0/24 dev eth0 metric 1 preference 2", "preference is there twice"),
        ("192.0.2.0/24 dev eth0 proto static", "proto is haclusterd's own"),
        ("192.0.2.0/24 dev eth0 weight 2", "weight is for a nexthop"),
        ("192.0.2.0/24 dev eth0 nexthop via 10.0.0.1", "beside its nexthops"),
        ("192.0.2.0/24 nexthop via 10.0.0.1 weight 257", "weight 257 is not from 1 to 256"),
        ("192.0.2.0/24 dev eth0 table nowhere", "nowhere is no routing table"),
        ("192.0.2.0/24 dev eth0 scope near", "scope near is not known"),
        ("192.0.2.0/24 dev eth0 pref high", "pref is for IPv6"),
        ("fd00::/64 via inet 10.0.0.1", "no gateway of IPv4"),
        ("blackhole 192.0.2.0/24 dev eth0", "is blackhole leads nowhere"),
    ] {
        let said = read(text, false).unwrap_err();
        assert!(said.contains(part), "{text}: {said}");
    }
}
