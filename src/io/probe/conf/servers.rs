//! The servers of nginx's `http` block, and which of them to ask.

use super::listen::Listen;
use super::{Ask, once};
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// nginx closes the connection without a word.
const CLOSE: &str = "444";

#[derive(Debug, Default)]
pub(super) struct Server {
    /// Also if none of them can be asked.
    listens: bool,
    at: Vec<Listen>,
    host: Option<String>,
    /// `ssl on`, of old versions.
    tls: bool,
    closes: bool,
    rejects_tls: bool,
}

/// What the servers of an address have in common.
struct Port {
    tls: bool,
    proxied: bool,
    /// Its default server would not answer.
    silent: bool,
}

impl Server {
    pub(super) fn take(&mut self, words: &[&str]) {
        match words {
            ["listen", words @ ..] => {
                self.listens = true;
                self.at.extend(Listen::read(words));
            }
            ["server_name", names @ ..] if self.host.is_none() => {
                self.host = names.iter().find(|name| is_plain(name)).map(ToString::to_string);
            }
            ["ssl", "on"] => self.tls = true,
            ["ssl_reject_handshake", "on"] => self.rejects_tls = true,
            ["return", CLOSE] => self.closes = true,
            _ => {}
        }
    }

    fn at(&self) -> Vec<Listen> {
        let at = if self.listens { self.at.clone() } else { vec![Listen::implied()] };
        at.into_iter().map(|listen| Listen { tls: listen.tls || self.tls, ..listen }).collect()
    }

    fn silent(&self, tls: bool) -> bool {
        self.closes || (tls && self.rejects_tls)
    }
}

/// Plain before TLS, this host's own addresses before particular ones, default servers first.
pub(super) fn asks(servers: &[Server]) -> Vec<Ask> {
    let ports = ports(servers);
    let mut asks = Vec::new();
    for server in servers {
        for listen in server.at() {
            let port = &ports[&listen.address];
            // A request without a name goes to the default server.
            let silent = server.silent(port.tls) || (server.host.is_none() && port.silent);
            if port.proxied || silent {
                continue;
            }
            let address = reachable(listen.address);
            let ask = Ask { address, tls: port.tls, host: server.host.clone() };
            asks.push(((ask.tls, !address.ip().is_loopback(), !listen.chosen), ask));
        }
    }
    asks.sort_by_key(|(rank, _)| *rank);
    once(asks.into_iter().map(|(_, ask)| ask))
}

/// One `listen` with `ssl` or `proxy_protocol` is enough for all servers of its address.
fn ports(servers: &[Server]) -> HashMap<SocketAddr, Port> {
    let mut ports = HashMap::new();
    for server in servers {
        for listen in server.at() {
            let Listen { tls, proxied, chosen, .. } = listen;
            let silent = server.silent(tls);
            // Without a chosen one, the first server is the default.
            let port = ports.entry(listen.address).or_insert(Port { tls, proxied, silent });
            port.tls |= tls;
            port.proxied |= proxied;
            if chosen {
                port.silent = silent;
            }
        }
    }
    ports
}

fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        particular => particular,
    }
}

/// Neither a pattern nor a placeholder such as `_`, and fit for a request.
fn is_plain(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric();
    name.starts_with(letter) && name.ends_with(letter) && name.chars().all(|c| letter(c) || "-._".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Server {
        let mut server = Server::default();
        for directive in text.split(';') {
            server.take(&directive.split_whitespace().collect::<Vec<_>>());
        }
        server
    }

    fn asked(servers: &[&str]) -> Vec<String> {
        let servers: Vec<_> = servers.iter().map(|text| server(text)).collect();
        let text = |ask: Ask| {
            let scheme = if ask.tls { "https" } else { "http" };
            format!("{scheme}://{} {}", ask.address, ask.host.unwrap_or_default())
        };
        asks(&servers).into_iter().map(text).collect()
    }

    #[test]
    fn the_best_comes_first() {
        let found = asked(&[
            "listen 443 ssl; listen 192.0.2.1:80; listen 80; server_name _ *.a.example a.example;",
            "listen [::]:81 default_server; listen 443 ssl; server_name b.example;",
            "listen 80; server_name a.example;",
            "server_name ~^c$ .d.example $hostname;",
        ]);
        let expected = [
            "http://[::1]:81 b.example",
            "http://127.0.0.1:80 a.example",
            "http://127.0.0.1:80 ",
            "http://192.0.2.1:80 a.example",
            "https://127.0.0.1:443 a.example",
            "https://127.0.0.1:443 b.example",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn who_would_not_answer_is_not_asked() {
        for silent in [
            "listen 80; return 444;",
            "listen 80 proxy_protocol;",
            "listen unix:/x;",
            "listen 443 quic;",
            "listen 443 ssl; ssl_reject_handshake on;",
        ] {
            assert!(asked(&[silent]).is_empty(), "{silent}");
        }
        assert_eq!(asked(&["listen 80; return 301 https://x;"]), ["http://127.0.0.1:80 "]);
        assert_eq!(asked(&["listen 80; ssl_reject_handshake on;"]), ["http://127.0.0.1:80 "]);
    }

    #[test]
    fn without_a_name_the_default_server_answers() {
        let close = "listen 80; return 444;";
        let wild = "listen 80; server_name *.a;";
        assert!(asked(&[close, wild]).is_empty());
        assert_eq!(asked(&[wild, close]), ["http://127.0.0.1:80 "]);
        assert!(asked(&[wild, "listen 80 default_server; return 444;"]).is_empty());
        assert_eq!(asked(&[close, "listen 80; server_name a;"]), ["http://127.0.0.1:80 a"]);
    }

    #[test]
    fn an_address_speaks_tls_for_all_its_servers_or_for_none() {
        let found = asked(&["listen 443; server_name a;", "listen 443 ssl; server_name b;"]);
        assert_eq!(found, ["https://127.0.0.1:443 a", "https://127.0.0.1:443 b"]);
        assert_eq!(asked(&["listen 443; ssl on;"]), ["https://127.0.0.1:443 "]);
        assert!(asked(&["listen 80;", "listen 80 proxy_protocol;"]).is_empty());
    }
}
