//! Does the gateway answer: to ARP (or a neighbour solicitation), which no firewall filters, or to an echo request?

use super::hand::{Hand, Stuck};
use super::links::Links;
use super::{http, schedule};
use crate::config::{Check, Gateway, Method};
use crate::engine::health::Outcome;
use crate::io::neighbor::{Claim, Neighbor};
use haclusterd_proto::checksum::Sum;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::{Interval, timeout};

pub(super) struct Probe {
    gateway: Gateway,
    schedule: Interval,
    timeout: Duration,
    way: Way,
}

enum Way {
    Solicit(Option<Links>),
    Ping(Hand<(), Result<(), String>>),
}

impl Probe {
    pub fn new(check: &Check, gateway: Gateway) -> Probe {
        let (address, timeout) = (gateway.address, check.timeout);
        let ping = || {
            let mut sequence = 0_u16;
            Hand::new(&check.name, move |(), answer| {
                sequence = sequence.wrapping_add(1);
                let _ = answer.send(ping(address, sequence, timeout));
            })
        };
        let way = match gateway.method {
            Method::Arp => Way::Solicit(None),
            Method::Icmp => Way::Ping(ping()),
        };
        Probe { gateway, schedule: schedule(check), timeout, way }
    }

    async fn answer(&mut self) -> Result<(), String> {
        match &mut self.way {
            Way::Solicit(Some(links)) => solicit(links, &self.gateway, self.timeout).await,
            Way::Solicit(none) => {
                solicit(none.insert(Links::watch().await?), &self.gateway, self.timeout).await
            }
            // The run answers by itself when its time is over.
            Way::Ping(hand) => {
                let late = |stuck: Stuck| Err(stuck.say(http::late("answer", self.timeout)));
                hand.run((), self.timeout * 2).await.unwrap_or_else(late)
            }
        }
    }
}

impl super::Probe for Probe {
    async fn next(&mut self) -> Outcome {
        self.schedule.tick().await;
        match self.answer().await {
            Ok(()) => Outcome::Pass,
            Err(reason) => Outcome::Fail(format!("gateway {}: {reason}", self.gateway.address)),
        }
    }
}

/// By a socket of its own each time: an interface that went and came back has another.
async fn solicit(links: &Links, gateway: &Gateway, patience: Duration) -> Result<(), String> {
    let (index, mac) = links.outlet(gateway.address, gateway.interface.as_deref())?;
    let answered = Arc::new(Notify::new());
    let heard = answered.clone();
    let claims = Arc::new(move |_: Claim| heard.notify_one());
    let watch = [gateway.address].into();
    let neighbor = Neighbor::open(index, mac, watch, claims).map_err(|error| error.to_string())?;
    neighbor.probe(gateway.address).map_err(|error| error.to_string())?;
    timeout(patience, answered.notified()).await.map_err(|_| http::late("answer", patience))
}

/// RFC 792 and RFC 4443: echo request, echo reply. Blocks.
fn ping(address: IpAddr, sequence: u16, patience: Duration) -> Result<(), String> {
    let (domain, protocol, request, reply) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let failed = |error: io::Error| format!("cannot ping: {error}");
    let mut socket = Socket::new(domain, Type::RAW, Some(protocol)).map_err(failed)?;
    socket.connect(&SocketAddr::new(address, 0).into()).map_err(failed)?;
    let id = std::process::id().to_be_bytes();
    let [high, low] = sequence.to_be_bytes();
    let mut packet = [request, 0, 0, 0, id[2], id[3], high, low];
    let sum = Sum::default().bytes(&packet).checksum().to_be_bytes();
    packet[2..4].copy_from_slice(&sum); // for IPv6 the kernel writes its own
    socket.send(&packet).map_err(failed)?;
    let until = Instant::now() + patience;
    let mut buffer = [0; 256];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(http::late("echo reply", patience));
        }
        socket.set_read_timeout(Some(left)).map_err(failed)?;
        match socket.read(&mut buffer) {
            // The rest of an IPv4 packet begins after its header.
            Ok(length) => {
                let header = if address.is_ipv4() { usize::from(buffer[0] & 0xf) * 4 } else { 0 };
                let answer = buffer.get(header..length).unwrap_or_default();
                if answer.len() >= 8 && answer[0] == reply && answer[4..8] == packet[4..8] {
                    return Ok(());
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_answers_its_own_ping() {
        for address in ["127.0.0.1", "::1"] {
            assert_eq!(ping(address.parse().unwrap(), 1, Duration::from_secs(5)), Ok(()), "{address}");
        }
    }
}
