//! Routes and rules that come and go with addresses. Ours are marked as such, so that those of an operator or a routing
//! daemon are never taken for them, and those that a crashed run left are found.

mod message;

use super::{ANSWER_WITHIN, Errno, IFA_PROTO, Kernel, KernelError, connect, errno};
use crate::config::{Route, Rule};
use futures::TryStreamExt;
use futures::future::join_all;
use message::RouteKey;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::{Handle, IpVersion};
use std::io;
use std::time::Duration;

/// Of routes (RTPROT_…) and rules, beside the addresses' own.
pub const PROTOCOL: u8 = IFA_PROTO;
/// At the start the kernel looks through all the routes of the host, of which there may be a million.
const LIST_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    Route(Route),
    Rule(Rule),
}

#[derive(Debug, thiserror::Error)]
pub enum WayError {
    #[error("there is no interface {0}")]
    NoInterface(String),
    #[error(
        "the host has such a one already, which is not haclusterd's: remove it, or give this one another metric or priority"
    )]
    Foreign,
    #[error("the kernel refused it: {source}{remedy}")]
    Refused { source: io::Error, remedy: &'static str },
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl Way {
    /// As it is written in the configuration.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Way::Route(route) => &route.text,
            Way::Rule(rule) => &rule.text,
        }
    }

    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Way::Route(_) => "route",
            Way::Rule(_) => "rule",
        }
    }
}

impl Kernel {
    /// Installs each, in this order, and says what became of it. With `true`, this run has put it there before: if it
    /// still is there, all is well. What another run of ours left in its place is replaced, and nobody else's is.
    pub async fn put(&self, ways: &[(&Way, bool)]) -> Result<Vec<Result<(), WayError>>, KernelError> {
        let handle = connect()?;
        let mut outcomes = join_all(ways.iter().map(|(way, _)| add(&handle, way))).await;
        for (outcome, (way, known)) in outcomes.iter_mut().zip(ways) {
            if matches!(outcome, Err(Failure::Errno(Errno::EXIST))) {
                *outcome = if *known { Ok(()) } else { replace(&handle, way).await };
            }
        }
        let said = |(outcome, (way, _)): (Result<(), Failure>, &(&Way, bool))| {
            outcome.map_err(|failure| failure.said_of(way))
        };
        Ok(outcomes.into_iter().zip(ways).map(said).collect())
    }

    /// Removes those of these that are ours, in this order. What is absent needs no removing.
    pub async fn take(&self, ways: &[&Way]) -> Result<Vec<Result<(), WayError>>, KernelError> {
        let handle = connect()?;
        let outcomes = join_all(ways.iter().map(|way| remove(&handle, way))).await;
        let said = |(outcome, way): (Result<bool, Failure>, &&Way)| {
            outcome.map(drop).map_err(|failure| failure.said_of(way))
        };
        Ok(outcomes.into_iter().zip(ways).map(said).collect())
    }

    /// Removes all of ours but these; how many routes and rules that were.
    pub async fn sweep_ways(&self, keep: &[Way]) -> Result<(usize, usize), KernelError> {
        let (connection, handle, _) = rtnetlink::new_connection_with_strict_check()?;
        tokio::spawn(connection);
        let routes: Vec<RouteMessage> =
            left_routes(&handle).await?.into_iter().filter(not_among(keep)).collect();
        let rules: Vec<RuleMessage> = left_rules(&handle).await?.into_iter().filter(in_none(keep)).collect();
        for rule in &rules {
            expect_gone(within(handle.rule().del(rule.clone()).execute()).await)?;
        }
        for key in routes.iter().filter_map(RouteKey::of) {
            expect_gone(within(handle.route().del(key.message()).execute()).await)?;
        }
        Ok((routes.len(), rules.len()))
    }
}

fn not_among(keep: &[Way]) -> impl Fn(&RouteMessage) -> bool {
    let kept = |way: &Way| match way {
        Way::Route(route) => Some(RouteKey::from(route)),
        Way::Rule(_) => None,
    };
    let keys: Vec<RouteKey> = keep.iter().filter_map(kept).collect();
    move |message| !RouteKey::of(message).is_some_and(|key| keys.iter().any(|kept| kept.is_at(&key)))
}

fn in_none(keep: &[Way]) -> impl Fn(&RuleMessage) -> bool {
    let kept = |way: &Way| match way {
        Way::Rule(rule) => Some(message::rule(rule)),
        Way::Route(_) => None,
    };
    let messages: Vec<RuleMessage> = keep.iter().filter_map(kept).collect();
    move |message| !messages.iter().any(|kept| message::is_told_by(kept, message))
}

async fn left_routes(handle: &Handle) -> Result<Vec<RouteMessage>, KernelError> {
    let mut all = Vec::new();
    for ipv6 in [false, true] {
        let list = handle.route().get(message::ours(ipv6)).execute().try_collect::<Vec<_>>();
        all.extend(listed("routes", tokio::time::timeout(LIST_WITHIN, list).await)?);
    }
    // An old kernel does not filter.
    all.retain(|route| u8::from(route.header.protocol) == PROTOCOL);
    Ok(all)
}

async fn left_rules(handle: &Handle) -> Result<Vec<RuleMessage>, KernelError> {
    let mut all = Vec::new();
    for version in [IpVersion::V4, IpVersion::V6] {
        let list = handle.rule().get(version).execute().try_collect::<Vec<_>>();
        all.extend(listed("rules", tokio::time::timeout(LIST_WITHIN, list).await)?);
    }
    all.retain(message::is_ours);
    Ok(all)
}

type Listed<T> = Result<Result<Vec<T>, rtnetlink::Error>, tokio::time::error::Elapsed>;

fn listed<T>(what: &'static str, list: Listed<T>) -> Result<Vec<T>, KernelError> {
    let list = list.map_err(|_| KernelError::NoAnswer)?;
    list.map_err(|why| KernelError::NoList { what, why: why.to_string() })
}

/// Not yet in an operator's words.
enum Failure {
    NoInterface(String),
    NoAnswer,
    Errno(Errno),
}

impl Failure {
    fn said_of(self, way: &Way) -> WayError {
        let errno = match self {
            Failure::NoInterface(name) => return WayError::NoInterface(name),
            Failure::NoAnswer => return KernelError::NoAnswer.into(),
            Failure::Errno(errno) => errno,
        };
        let remedy = match (errno, way) {
            (Errno::EXIST, _) => return WayError::Foreign,
            (Errno::NETUNREACH | Errno::HOSTUNREACH, _) => {
                "; no interface leads to its gateway: name one by dev, with onlink if none of its addresses is near"
            }
            (Errno::NETDOWN, _) => "; its interface is down",
            (Errno::INVAL, Way::Route(_)) => "; an address after src must be one of this host or of the VIP",
            _ => "",
        };
        WayError::Refused { source: errno.into(), remedy }
    }
}

async fn within(answer: impl Future<Output = Result<(), rtnetlink::Error>>) -> Result<(), Failure> {
    let answer = tokio::time::timeout(ANSWER_WITHIN, answer).await.map_err(|_| Failure::NoAnswer)?;
    answer.map_err(|error| Failure::Errno(errno(&error)))
}

async fn add(handle: &Handle, way: &Way) -> Result<(), Failure> {
    match way {
        Way::Route(route) => {
            let message = message::route(route).map_err(Failure::NoInterface)?;
            within(handle.route().add(message).execute()).await
        }
        Way::Rule(rule) => {
            let mut request = handle.rule().add();
            *request.message_mut() = message::rule(rule);
            within(request.execute()).await
        }
    }
}

/// False: there was none of ours.
async fn remove(handle: &Handle, way: &Way) -> Result<bool, Failure> {
    let answer = match way {
        Way::Route(route) => within(handle.route().del(RouteKey::from(route).message()).execute()).await,
        Way::Rule(rule) => within(handle.rule().del(message::rule(rule)).execute()).await,
    };
    match answer {
        Ok(()) => Ok(true),
        // It went with its interface or its address, or somebody removed it.
        Err(Failure::Errno(Errno::SRCH | Errno::NOENT | Errno::NODEV)) => Ok(false),
        Err(failure) => Err(failure),
    }
}

async fn replace(handle: &Handle, way: &Way) -> Result<(), Failure> {
    match remove(handle, way).await? {
        true => add(handle, way).await,
        false => Err(Failure::Errno(Errno::EXIST)),
    }
}

fn expect_gone(answer: Result<(), Failure>) -> Result<(), KernelError> {
    match answer {
        Err(Failure::NoAnswer) => Err(KernelError::NoAnswer),
        Err(Failure::Errno(errno)) if !matches!(errno, Errno::SRCH | Errno::NOENT) => {
            Err(KernelError::NoSocket(errno.into()))
        }
        _ => Ok(()),
    }
}
