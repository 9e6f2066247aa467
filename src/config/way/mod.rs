//! Routes and rules that come and go with addresses, in iproute2's words: `default via 10.0.0.1 table 100`,
//! `from 10.0.0.100 lookup 100`. A word that is not known is refused by its name.

mod route;
mod rule;
mod table;

pub use route::{Hop, Preference, Route, RouteKind};
pub use rule::{Action, Rule};

use ipnet::IpNet;
use std::net::IpAddr;
use std::str::{FromStr, SplitWhitespace};

/// What is wrong, in a few words.
type Said<T> = Result<T, String>;

/// `ipv6`: if it names no address, which would tell.
pub(super) fn route(text: &str, ipv6: bool) -> Said<Route> {
    route::read(text, ipv6)
}

pub(super) fn rule(text: &str, ipv6: bool) -> Said<Rule> {
    rule::read(text, ipv6)
}

/// A text, word by word.
struct Words<'t> {
    rest: SplitWhitespace<'t>,
    /// As soon as an address has told.
    ipv6: Option<bool>,
}

impl<'t> Words<'t> {
    fn of(text: &'t str) -> Words<'t> {
        Words { rest: text.split_whitespace(), ipv6: None }
    }

    fn value(&mut self, word: &str) -> Said<&'t str> {
        self.rest.next().ok_or_else(|| format!("{word} has no value"))
    }

    fn number<T: TryFrom<u32>>(&mut self, word: &str) -> Said<T> {
        let value = self.value(word)?;
        let number = number(value).and_then(|n| T::try_from(n).ok());
        number.ok_or_else(|| format!("{word} {value} is no number that it can have"))
    }

    fn address(&mut self, word: &str) -> Said<IpAddr> {
        let value = self.value(word)?;
        let address = value.parse().map_err(|_| format!("{word} {value} is no address"))?;
        self.of_one_family(address)?;
        Ok(address)
    }

    fn of_one_family(&mut self, address: IpAddr) -> Said<()> {
        match self.ipv6.replace(address.is_ipv6()) {
            Some(ipv6) if ipv6 != address.is_ipv6() => Err("it is IPv4 and IPv6 at once".into()),
            _ => Ok(()),
        }
    }

    /// An address alone is one with its whole length.
    fn net(&mut self, text: &str) -> Said<IpNet> {
        let alone = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let net = text.parse().ok().or_else(alone).ok_or_else(|| format!("{text} is no address"))?;
        self.of_one_family(net.addr())?;
        Ok(net)
    }

    fn interface(&mut self, word: &str) -> Said<String> {
        let name = self.value(word)?;
        super::parse::values::interface(name).map_err(|_| format!("{word} {name} is no interface name"))
    }
}

fn once<T>(place: &mut Option<T>, word: &str, value: T) -> Said<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{word} is there twice")),
    }
}

/// As C reads it: hexadecimal after 0x.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `7` or `7-9`.
fn range<T: FromStr + PartialOrd + Copy>(word: &str, text: &str) -> Said<(T, T)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let read = || Some((first.parse().ok()?, last.parse().ok()?));
    let range: Option<(T, T)> = read().filter(|(first, last)| first <= last);
    range.ok_or_else(|| format!("{word} {text} is no number and no range"))
}
