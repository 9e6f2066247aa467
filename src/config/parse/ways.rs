//! `routes` and `rules` of a group of addresses.

use super::section::{Section, texts};
use super::{Seen, Vip};
use crate::config::error::{Fault, Problems};
use crate::config::way;

/// Each takes the kernel some microseconds, while the addresses wait to be announced.
const MAX_WAYS: usize = 64;

/// `twin`: those of another with the same addresses may be the same.
pub(super) fn read(
    section: &mut Section<'_>,
    problems: &mut Problems<'_>,
    seen: &mut Seen,
    vip: &mut Vip,
    twin: bool,
) {
    // Of both families, what names no address is of IPv4.
    let ipv6 = vip.is_ipv6() && vip.ips().all(|ip| ip.is_ipv6());
    let route = |text: &str| way::route(text, ipv6).map_err(|why| fault(text, &why, "route"));
    let rule = |text: &str| way::rule(text, ipv6).map_err(|why| fault(text, &why, "rule"));
    vip.routes = section.read(problems, "routes", texts(route)).unwrap_or_default();
    vip.rules = section.read(problems, "rules", texts(rule)).unwrap_or_default();
    for (key, count) in [("routes", vip.routes.len()), ("rules", vip.rules.len())] {
        if count > MAX_WAYS {
            let fault = Fault::new(format!("are {count}"), format!("at most {MAX_WAYS}"));
            section.complain(problems, key, fault);
        }
    }
    let routes = vip.routes.iter().map(|route| ("routes", &route.text, format!("{:?}", route.key())));
    let rules = vip.rules.iter().map(|rule| ("rules", &rule.text, rule.key()));
    for (key, text, same) in routes.chain(rules).filter(|_| !twin) {
        if let Some(other) = seen.ways.insert(same, vip.name.clone()) {
            let what = format!("{text:?} is among those of {other} already");
            let remedy =
                "give each route a destination, table or metric of its own, and each rule a priority";
            section.complain(problems, key, Fault::new(what, remedy));
        }
    }
}

fn fault(text: &str, why: &str, what: &str) -> Fault {
    Fault::new(
        format!("{text:?}: {why}"),
        format!("write it as for `ip {what} add`; docs/configuration.md has all words"),
    )
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::path::Path;

    fn read(text: &str) -> Result<Config, String> {
        let node = "[node]\nname = 'n'\nlisten = '10.0.0.1'\ninterface = 'eth0'\n";
        Config::parse(&format!("{node}{text}"), Path::new("t.toml")).map_err(|error| error.to_string())
    }

    const WEB: &str = "routes = ['default dev eth0 table 100']\nrules = ['from 10.0.0.9 table 100', 'fwmark 7 table 100']\n";

    #[test]
    fn what_names_no_address_is_of_the_routers_family() {
        let routers = read(&format!(
            "[[vrrp]]\nvrid = 1\naddresses = ['fd00::9']\nroutes = ['default dev eth0']\nrules = ['fwmark 7 table 100']\n\
             [[vrrp]]\nvrid = 2\naddresses = ['10.0.0.9', 'fd00::8']\n{WEB}"
        ));
        let routers = routers.unwrap().routers;
        assert!(routers[0].vip.routes[0].to.addr().is_ipv6() && routers[0].vip.rules[0].ipv6);
        let count = |at: usize| (routers[at].vip.routes.len(), routers[at].vip.rules.len());
        assert_eq!((count(1), count(2)), ((1, 2), (0, 0)), "each of its own family");
    }

    #[test]
    fn a_vip_that_goes_over_to_the_cluster_takes_its_routes_along() {
        let vip = format!("[[vip]]\naddresses = ['10.0.0.9']\n{WEB}");
        let twin = |keys: &str| read(&format!("{vip}[[vrrp]]\nvrid = 1\naddresses = ['10.0.0.9']\n{keys}"));
        assert!(twin(WEB).is_ok());
        assert!(twin("").unwrap_err().contains("vrrp.routes: is not that of the VIP"));
    }

    #[test]
    fn mistakes_are_named() {
        let many = (0..65).map(|n| format!("'blackhole 10.3.{n}.0/24'")).collect::<Vec<_>>().join(",");
        for (keys, part) in [
            (
                "routes = ['10.3.0.0/16 gateway 1']",
                "vip.routes: \"10.3.0.0/16 gateway 1\": gateway is not known here",
            ),
            ("rules = ['from 10.0.0.9']", "vip.rules: \"from 10.0.0.9\": it names no table"),
            (
                "routes = ['blackhole 10.3.0.0/16', 'unreachable 10.3.0.0/16']",
                "is among those of 10.0.0.9 already",
            ),
            (
                "rules = ['from 10.0.0.9 table 1']\n[[vip]]\naddresses = ['10.0.0.8']\nrules = ['from 10.0.0.9  lookup 1']",
                "is among those of 10.0.0.9 already",
            ),
            (&format!("routes = [{many}]"), "vip.routes: are 65"),
        ] {
            let said = read(&format!("[[vip]]\naddresses = ['10.0.0.9']\n{keys}")).unwrap_err();
            assert!(said.contains(part), "{keys}: {said}");
        }
    }
}
