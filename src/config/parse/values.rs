//! Single values: text in, a legal value or a [`Fault`] out. The command line reads its arguments by these too.

use crate::config::error::Fault;
use crate::config::{DEFAULT_PORT, StatusSet, Url};
use haclusterd_proto::{Priority, Role, units};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// As the kernel bounds it (IFNAMSIZ less its end).
const MAX_INTERFACE: usize = 15;

pub fn name(text: &str) -> Result<String, Fault> {
    units::check_name(text)
        .map(|()| text.to_owned())
        .map_err(|bad| Fault::new(bad.to_string(), "use a short host name such as lb1"))
}

pub fn role(text: &str) -> Result<Role, Fault> {
    text.parse().map_err(|bad: units::BadUnit| Fault::new(bad.to_string(), "write \"member\" or \"witness\""))
}

pub fn priority(text: &str) -> Result<Priority, Fault> {
    let number = text.parse::<u8>().ok().filter(|n| (1..=254).contains(n));
    number.map(Priority).ok_or_else(|| {
        Fault::new(
            format!("{text} is no priority"),
            "write a number from 1 to 254; the largest owns the VIPs",
        )
    })
}

pub fn interface(text: &str) -> Result<String, Fault> {
    let legal = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != ':';
    let ok =
        (1..=MAX_INTERFACE).contains(&text.len()) && text.chars().all(legal) && text != "." && text != "..";
    ok.then(|| text.to_owned()).ok_or_else(|| {
        Fault::new(format!("{text:?} is no interface name"), "write one that `ip link` shows, such as eth0")
    })
}

/// Where a node can be reached: an address, with the default port if none is given.
pub fn address(text: &str) -> Result<SocketAddr, Fault> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let parsed = text.parse().ok().or_else(|| bare.parse().ok().map(|ip| SocketAddr::new(ip, DEFAULT_PORT)));
    parsed.ok_or_else(|| {
        Fault::new(
            format!("{text:?} is no address"),
            format!("write IP:PORT or [IPv6]:PORT; without a port it is {DEFAULT_PORT}"),
        )
    })
}

/// Where this node listens.
pub fn node_address(text: &str) -> Result<SocketAddr, Fault> {
    let parsed = address(text)?;
    let ip = parsed.ip();
    if ip.is_unspecified() || ip.is_multicast() || parsed.port() == 0 {
        let remedy =
            "write this node's own address, so that a VIP never becomes the source of cluster packets";
        return Err(Fault::new(format!("{text} is not the address of one host"), remedy));
    }
    Ok(parsed)
}

/// An address of a VIP with its prefix length; without one it is the address alone, as in keepalived.
pub fn cidr(text: &str) -> Result<IpNet, Fault> {
    let parsed = text.parse().ok().or_else(|| text.parse().ok().map(|ip: IpAddr| IpNet::from(ip)));
    parsed.ok_or_else(|| {
        Fault::new(format!("{text:?} is no address"), "write it as 10.0.0.100/24 or fd00::100/64")
    })
}

pub fn vip_address(text: &str) -> Result<IpNet, Fault> {
    let net = cidr(text)?;
    let ip = net.addr();
    let broadcast = matches!(net, IpNet::V4(v4) if v4.prefix_len() < 31 && (v4.addr() == v4.broadcast() || v4.addr() == v4.network()));
    if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || broadcast {
        return Err(Fault::new(format!("{text} cannot be the address of a host"), "write a unicast address"));
    }
    Ok(net)
}

pub fn duration(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, Fault> {
    let remedy = || {
        format!(
            "write a time such as \"50ms\", \"2s\" or \"1m\", from {} to {}",
            show(*range.start()),
            show(*range.end())
        )
    };
    let span =
        humantime::parse_duration(text).map_err(|_| Fault::new(format!("{text:?} is no time"), remedy()))?;
    if !range.contains(&span) {
        return Err(Fault::new(format!("{text} is out of range"), remedy()));
    }
    Ok(span)
}

pub(in crate::config) fn show(span: Duration) -> String {
    match span.is_zero() {
        true => "0s".into(),
        false => humantime::format_duration(span).to_string(),
    }
}

/// An address instead of a name: a resolver that hangs must not look like an nginx that does.
pub fn url(text: &str) -> Result<Url, Fault> {
    let fault = |remedy: &str| Fault::new(format!("{text:?} cannot be asked"), remedy.to_owned());
    let plain = text.strip_prefix("http://").map(|rest| (rest, 80, false));
    let secure = || text.strip_prefix("https://").map(|rest| (rest, 443, true));
    let (rest, port, tls) =
        plain.or_else(secure).ok_or_else(|| fault("write http://ADDRESS[:PORT]/PATH, or https://"))?;
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let numeric = match host.strip_prefix("localhost") {
        Some(port) => format!("127.0.0.1{port}"),
        None => host.to_owned(),
    };
    let bare = numeric.trim_start_matches('[').trim_end_matches(']');
    let address = numeric.parse().ok().or_else(|| bare.parse().ok().map(|ip| SocketAddr::new(ip, port)));
    let address = address
        .ok_or_else(|| fault("write an IP address or localhost as its host: names are not looked up"))?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let printable = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !printable || text.len() > 1024 {
        return Err(fault(
            "write its path in at most 1000 ASCII characters, without spaces and without a fragment",
        ));
    }
    Ok(Url { text: text.to_owned(), tls, address, host: host.to_owned(), path })
}

/// `200-399` or a list such as `200,204,301-302`.
pub fn status(text: &str) -> Result<StatusSet, Fault> {
    let one = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u16, u16) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        (100 <= from && from <= to && to <= 599).then_some(from..=to)
    };
    let ranges: Option<Vec<_>> = text.split(',').map(one).collect();
    ranges.map(StatusSet).ok_or_else(|| {
        Fault::new(format!("{text:?} is no set of status codes"), "write \"200-399\" or \"200,204,301-302\"")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_no_port() {
        assert_eq!(address("10.0.0.1").unwrap(), "10.0.0.1:7946".parse().unwrap());
        assert_eq!(address("[fd00::1]").unwrap(), "[fd00::1]:7946".parse().unwrap());
        assert_eq!(address("fd00::1").unwrap(), "[fd00::1]:7946".parse().unwrap());
        assert!(address("lb1:7946").is_err() && node_address("0.0.0.0:7946").is_err());
    }

    #[test]
    fn a_vip_is_the_address_of_a_host() {
        assert_eq!(vip_address("10.0.0.9").unwrap().to_string(), "10.0.0.9/32");
        for bad in ["10.0.0.0/24", "10.0.0.255/24", "224.0.0.18", "::", "127.0.0.1", "x"] {
            assert!(vip_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_url_names_no_host_that_must_be_looked_up() {
        let read = url("http://localhost:8080/healthz?x=1").unwrap();
        assert_eq!((read.address.to_string(), read.path.as_str()), ("127.0.0.1:8080".into(), "/healthz?x=1"));
        assert_eq!(url("http://[::1]").unwrap().address, "[::1]:80".parse().unwrap());
        assert_eq!(url("https://127.0.0.1").unwrap().address, "127.0.0.1:443".parse().unwrap());
        for bad in ["ftp://127.0.0.1/", "http://nginx/", "127.0.0.1", "http://", "http://127.0.0.1/a b"] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn status_codes_are_ranges() {
        let set = status("200,204,301-302").unwrap();
        assert!(set.contains(302) && !set.contains(201));
        assert!(status("399-200").is_err() && status("").is_err() && status("20").is_err());
    }
}
