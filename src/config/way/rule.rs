//! One rule of the routing policy.

use super::{Said, Words, number, once, range, table};
use ipnet::IpNet;

/// keepalived's, for a rule that names none. The kernel's own choice would be another each time.
const PRIORITY: u32 = 16384;
const PROTOCOLS: [(&str, u8); 9] = [
    ("icmp", 1),
    ("tcp", 6),
    ("udp", 17),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("sctp", 132),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Table(u32),
    Blackhole,
    Unreachable,
    Prohibit,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// As it is written.
    pub text: String,
    pub ipv6: bool,
    /// It is for what the rest does not match.
    pub not: bool,
    pub from: Option<IpNet>,
    pub to: Option<IpNet>,
    pub iif: Option<String>,
    pub oif: Option<String>,
    /// With its mask.
    pub mark: Option<(u32, u32)>,
    pub tos: u8,
    pub protocol: Option<u8>,
    pub sport: Option<(u16, u16)>,
    pub dport: Option<(u16, u16)>,
    pub users: Option<(u32, u32)>,
    /// A route with so short a prefix is passed over.
    pub suppress: Option<u32>,
    pub priority: u32,
    pub action: Action,
}

impl Rule {
    /// What no two rules of a host have in common.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{:?}", Rule { text: String::new(), ..self.clone() })
    }
}

#[derive(Default)]
struct Draft {
    not: bool,
    from: Option<Option<IpNet>>,
    to: Option<Option<IpNet>>,
    iif: Option<String>,
    oif: Option<String>,
    mark: Option<(u32, u32)>,
    tos: Option<u8>,
    protocol: Option<u8>,
    sport: Option<(u16, u16)>,
    dport: Option<(u16, u16)>,
    users: Option<(u32, u32)>,
    suppress: Option<u32>,
    priority: Option<u32>,
    action: Option<Action>,
}

pub fn read(text: &str, ipv6: bool) -> Said<Rule> {
    let mut words = Words::of(text);
    let mut draft = Draft::default();
    while let Some(word) = words.rest.next() {
        draft.take(word, &mut words)?;
    }
    let ipv6 = words.ipv6.unwrap_or(ipv6);
    let action = draft.action.ok_or("it names no table, and neither blackhole, unreachable nor prohibit")?;
    if draft.suppress.is_some() && !matches!(action, Action::Table(_)) {
        return Err("suppress_prefixlength is for a rule with a table".into());
    }
    Ok(Rule {
        text: text.to_owned(),
        ipv6,
        not: draft.not,
        from: draft.from.flatten(),
        to: draft.to.flatten(),
        iif: draft.iif,
        oif: draft.oif,
        mark: draft.mark,
        tos: draft.tos.unwrap_or_default(),
        protocol: draft.protocol,
        sport: draft.sport,
        dport: draft.dport,
        users: draft.users,
        suppress: draft.suppress,
        priority: draft.priority.unwrap_or(PRIORITY),
        action,
    })
}

impl Draft {
    fn take(&mut self, word: &str, words: &mut Words<'_>) -> Said<()> {
        match word {
            "not" => {
                self.not = true;
                Ok(())
            }
            "from" => once(&mut self.from, word, net(word, words)?),
            "to" => once(&mut self.to, word, net(word, words)?),
            "iif" | "dev" => once(&mut self.iif, word, words.interface(word)?),
            "oif" => once(&mut self.oif, word, words.interface(word)?),
            "fwmark" => once(&mut self.mark, word, mark(words.value(word)?)?),
            "tos" | "dsfield" => once(&mut self.tos, word, words.number(word)?),
            "ipproto" => once(&mut self.protocol, word, protocol(words.value(word)?)?),
            "sport" => once(&mut self.sport, word, range(word, words.value(word)?)?),
            "dport" => once(&mut self.dport, word, range(word, words.value(word)?)?),
            "uidrange" => once(&mut self.users, word, range(word, words.value(word)?)?),
            "suppress_prefixlength" => once(&mut self.suppress, word, words.number(word)?),
            "priority" | "preference" | "order" | "pref" => {
                once(&mut self.priority, word, words.number(word)?)
            }
            "table" | "lookup" => {
                once(&mut self.action, "the action", Action::Table(table::table(words.value(word)?)?))
            }
            "blackhole" => once(&mut self.action, "the action", Action::Blackhole),
            "unreachable" => once(&mut self.action, "the action", Action::Unreachable),
            "prohibit" => once(&mut self.action, "the action", Action::Prohibit),
            "proto" | "protocol" => {
                Err(format!("{word} is haclusterd's own, by which it knows its rules: remove it"))
            }
            _ => Err(format!("{word} is not known here")),
        }
    }
}

/// `None`: all.
fn net(word: &str, words: &mut Words<'_>) -> Said<Option<IpNet>> {
    match words.value(word)? {
        "all" | "any" | "default" => Ok(None),
        text => words.net(text).map(|net| Some(net).filter(|net| net.prefix_len() > 0)),
    }
}

fn mark(text: &str) -> Said<(u32, u32)> {
    let (mark, mask) = text.split_once('/').map_or((text, None), |(mark, mask)| (mark, Some(mask)));
    let read = || Some((number(mark)?, mask.map_or(Some(u32::MAX), number)?));
    read().ok_or_else(|| format!("fwmark {text} is no number, nor one with a mask"))
}

fn protocol(text: &str) -> Said<u8> {
    let named = PROTOCOLS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    let number = named.or_else(|| text.parse().ok()).filter(|number| *number > 0);
    number.ok_or_else(|| format!("ipproto {text} is not known: write its number"))
}

#[cfg(test)]
mod tests;
