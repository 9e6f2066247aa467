//! What a `listen` directive says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const PORT: u16 = 80;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listen {
    /// As it is configured: a wildcard is one.
    pub(super) address: SocketAddr,
    pub(super) tls: bool,
    /// A client would have to speak the PROXY protocol first.
    pub(super) proxied: bool,
    /// It is the default server of its address.
    pub(super) chosen: bool,
}

impl Listen {
    /// Of a server that says nothing of it.
    pub(super) fn implied() -> Listen {
        Listen { address: wildcard(PORT), tls: false, proxied: false, chosen: false }
    }

    /// Nothing if TCP and an address do not lead there, or only a name server knows the address.
    pub(super) fn read(words: &[&str]) -> Option<Listen> {
        let (place, flags) = words.split_first()?;
        let has = |flag| flags.contains(&flag);
        if has("quic") || has("http3") {
            return None;
        }
        Some(Listen {
            address: address(place)?,
            tls: has("ssl"),
            proxied: has("proxy_protocol"),
            chosen: has("default_server") || has("default"),
        })
    }
}

fn wildcard(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

fn address(place: &str) -> Option<SocketAddr> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let port = if rest.is_empty() { PORT } else { port(rest.strip_prefix(':')?)? };
        return Some((host.parse::<Ipv6Addr>().ok()?, port).into());
    }
    if let Some(port) = port(place) {
        return Some(wildcard(port));
    }
    let (host, port) = match place.split_once(':') {
        Some((host, text)) => (host, port(text)?),
        None => (place, PORT),
    };
    let host: IpAddr = match host {
        "*" => Ipv4Addr::UNSPECIFIED.into(),
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        host => host.parse::<Ipv4Addr>().ok()?.into(),
    };
    Some((host, port).into())
}

/// The first one of a range.
fn port(text: &str) -> Option<u16> {
    text.split('-').next()?.parse().ok().filter(|port| *port > 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Listen> {
        Listen::read(&text.split(' ').collect::<Vec<_>>())
    }

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("80", "0.0.0.0:80"),
            ("*:8080", "0.0.0.0:8080"),
            ("*", "0.0.0.0:80"),
            ("0.0.0.0:81", "0.0.0.0:81"),
            ("1.2.3.4:82", "1.2.3.4:82"),
            ("1.2.3.4", "1.2.3.4:80"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("8000-8010", "0.0.0.0:8000"),
            ("[::]:80", "[::]:80"),
            ("[::1]", "[::1]:80"),
        ] {
            assert_eq!(read(text).unwrap().address, expected.parse().unwrap(), "{text}");
        }
    }

    #[test]
    fn where_no_ask_leads() {
        let odd = ["", ":", "[", "[::1", "[::1]x", "[::1]:", "[x]", "0", "1.2.3.4:0", "1.2.3.4:99999", "-"];
        let others = ["unix:/run/x.sock", "web.example:80", "443 quic reuseport", "443 http3"];
        for text in odd.iter().chain(&others) {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(Listen::read(&[]), None);
    }

    #[test]
    fn flags() {
        let listen = read("443 ssl http2 default_server proxy_protocol backlog=9").unwrap();
        assert!(listen.tls && listen.chosen && listen.proxied);
        assert_eq!(read("80").unwrap(), Listen::implied());
    }
}
