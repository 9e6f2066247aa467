//! Which neighbours have acknowledged where a VIP is, and who is to be asked again.
//!
//! A neighbour that answers a question which the VIP asked has the asker's hardware address in its cache. When to ask is
//! decided by `vip`; each call of [`Acks::ask`] is one round of one or more VIPs.

use haclusterd_proto::{MacAddr, VipId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// Of one interface and round, over all VIPs. Eleven rounds reach the gateways of a thousand VIPs.
pub const MAX_ROUND: usize = 128;
/// Neighbours other than gateways that are waited for on one interface, over all VIPs: of many VIPs, only the gateways
/// are asked.
const MAX_OTHERS: usize = 64;
/// Rounds until what is known of the neighbours is all that will be known.
const MEETING: u8 = 3;
/// So often a neighbour is asked where it is thought to be. Then everybody is, for its hardware may be another by now.
const DIRECTLY: u8 = 2;
/// Addresses in a line of the log.
const MAX_NAMED: usize = 8;

/// Who may have a VIP in its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub addr: IpAddr,
    pub mac: Option<MacAddr>,
    pub gateway: bool,
}

/// "`from` asks where `to` is"; with `mac`, it asks that host alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    pub ifindex: u32,
    pub from: IpAddr,
    pub to: IpAddr,
    pub mac: Option<MacAddr>,
}

/// How many neighbours were asked, and how many of them know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub asked: usize,
    pub acked: usize,
    /// They are waited for no longer.
    pub silent: Vec<IpAddr>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub asked: u64,
    pub acked: u64,
    pub silent: u64,
    /// They were too many.
    pub left_out: u64,
}

#[derive(Debug)]
struct Asked {
    ifindex: u32,
    from: IpAddr,
    peer: Peer,
    times: u8,
    acked: bool,
}

/// Of one VIP, since it was taken.
#[derive(Debug, Default)]
struct Course {
    asked: Vec<Asked>,
    rounds: u8,
    verdict: Option<Verdict>,
    /// What the operator has heard of it.
    told: Option<Verdict>,
}

#[derive(Debug, Default)]
pub struct Acks {
    courses: BTreeMap<VipId, Course>,
    pub counts: Counts,
}

impl Acks {
    /// What was answered before counts no longer.
    pub fn begin(&mut self, vip: VipId) {
        let told = self.courses.remove(&vip).and_then(|course| course.told);
        self.courses.insert(vip, Course { told, ..Course::default() });
    }

    /// The VIP is not ours any more.
    pub fn forget(&mut self, vip: VipId) {
        self.courses.remove(&vip);
    }

    /// Still wants to know who is to be asked.
    #[must_use]
    pub fn meets(&self, vip: VipId) -> bool {
        self.courses.get(&vip).is_some_and(|course| course.rounds < MEETING)
    }

    /// These are to be asked, each on that interface by that address of the VIP; the most important first.
    pub fn meet(&mut self, peers: impl IntoIterator<Item = (VipId, u32, IpAddr, Peer)>) {
        let mut others = self.others();
        for (vip, ifindex, from, peer) in peers {
            let Some(course) = self.courses.get_mut(&vip).filter(|course| !course.knows(from, &peer)) else {
                continue;
            };
            let others = others.entry(ifindex).or_default();
            if !peer.gateway && *others >= MAX_OTHERS {
                // Until the last time, there may be room yet.
                self.counts.left_out += u64::from(course.rounds + 1 == MEETING);
                continue;
            }
            *others += usize::from(!peer.gateway);
            course.asked.push(Asked { ifindex, from, peer, times: 0, acked: false });
        }
    }

    /// How many that are no gateways are waited for, by interface.
    fn others(&self) -> BTreeMap<u32, usize> {
        let mut others = BTreeMap::new();
        for asked in self.courses.values().flat_map(|course| &course.asked) {
            if !asked.peer.gateway && !asked.acked {
                *others.entry(asked.ifindex).or_default() += 1;
            }
        }
        others
    }

    /// Whom these VIPs ask now: gateways first, then those that were asked least.
    pub fn ask(&mut self, vips: &[VipId]) -> Vec<Question> {
        let mut due = Vec::new();
        for vip in vips {
            let Some(course) = self.courses.get_mut(vip) else { continue };
            course.rounds = course.rounds.saturating_add(1);
            let open = course.asked.iter().enumerate().filter(|(_, asked)| !asked.acked);
            due.extend(open.map(|(at, asked)| (!asked.peer.gateway, asked.times, *vip, at)));
        }
        due.sort_by_key(|(other, times, ..)| (*other, *times));
        let mut spent: BTreeMap<u32, usize> = BTreeMap::new();
        let mut questions = Vec::new();
        for (_, _, vip, at) in due {
            let Some(asked) = self.courses.get_mut(&vip).and_then(|course| course.asked.get_mut(at)) else {
                continue;
            };
            let spent = spent.entry(asked.ifindex).or_default();
            if *spent < MAX_ROUND {
                *spent += 1;
                questions.push(asked.again());
            }
        }
        self.counts.asked += questions.len() as u64;
        questions
    }

    /// `peer` has answered that address of the VIP.
    pub fn answered(&mut self, vip: VipId, from: IpAddr, peer: IpAddr) {
        let Some(course) = self.courses.get_mut(&vip) else { return };
        let open = |asked: &&mut Asked| !asked.acked && (asked.from, asked.peer.addr) == (from, peer);
        if let Some(asked) = course.asked.iter_mut().find(open) {
            asked.acked = true;
            self.counts.acked += 1;
        }
    }

    /// What is known of the VIP now. `None`: it is not ours.
    #[must_use]
    pub fn verdict(&self, vip: VipId) -> Option<Verdict> {
        let course = self.courses.get(&vip)?;
        Some(course.verdict.clone().unwrap_or_else(|| Verdict { silent: Vec::new(), ..course.judge() }))
    }

    /// What an operator should hear of the VIP, if that is another than what he heard before: that all have answered, or,
    /// once nobody is waited for any more (`end`), who has not.
    pub fn news(&mut self, vip: VipId, end: bool) -> Option<Verdict> {
        let course = self.courses.get_mut(&vip)?;
        let all = course.rounds >= MEETING && course.asked.iter().all(|asked| asked.acked);
        if course.verdict.is_some() || !(all || end) {
            return None;
        }
        let verdict = course.judge();
        self.counts.silent += verdict.silent.len() as u64;
        course.asked = Vec::new();
        course.verdict = Some(verdict.clone());
        let news = verdict.asked > 0 && course.told.as_ref() != Some(&verdict);
        course.told = Some(verdict.clone());
        news.then_some(verdict)
    }
}

impl Course {
    /// With the same hardware address, it is the same host's cache. A gateway is asked in any case.
    fn knows(&self, from: IpAddr, peer: &Peer) -> bool {
        let same = |other: &Peer| {
            other.addr == peer.addr || (peer.mac.is_some() && peer.mac == other.mac && !peer.gateway)
        };
        self.asked.iter().any(|asked| asked.from == from && same(&asked.peer))
    }

    /// A neighbour knows of the VIP when it knows of all its addresses. Who could not be asked does not count.
    fn judge(&self) -> Verdict {
        let asked = || self.asked.iter().filter(|asked| asked.times > 0);
        let all: BTreeSet<IpAddr> = asked().map(|asked| asked.peer.addr).collect();
        let silent: BTreeSet<IpAddr> =
            asked().filter(|asked| !asked.acked).map(|asked| asked.peer.addr).collect();
        let acked = all.len() - silent.len();
        Verdict { asked: all.len(), acked, silent: silent.into_iter().collect() }
    }
}

impl Asked {
    fn again(&mut self) -> Question {
        let mac = self.peer.mac.filter(|_| self.times < DIRECTLY);
        self.times = self.times.saturating_add(1);
        Question { ifindex: self.ifindex, from: self.from, to: self.peer.addr, mac }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { asked, acked, silent } = self;
        let neighbours = if *asked == 1 { "neighbour" } else { "neighbours" };
        write!(f, "{acked} of {asked} {neighbours} acknowledged that it is here")?;
        let named: Vec<String> = silent.iter().take(MAX_NAMED).map(IpAddr::to_string).collect();
        match silent.len() - named.len() {
            _ if silent.is_empty() => Ok(()),
            0 => write!(f, "; no answer from {}", named.join(", ")),
            more => write!(f, "; no answer from {} and {more} more", named.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests;
