//! Which faults there will be, and when: a function of the seed. Whom the owner's faults meet is not known before.

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Killed,
    Frozen,
    Restarted,
    CutOff,
    Deaf,
    Mute,
    Lossy,
    LossyEverywhere,
    LinkDown,
    AddressDeleted,
    RulesFlushed,
    NginxKilled,
    NginxHung,
    ClockForward,
    ClockBack,
    Busy,
}

const ALL: [Kind; 16] = [
    Kind::Killed,
    Kind::Frozen,
    Kind::Restarted,
    Kind::CutOff,
    Kind::Deaf,
    Kind::Mute,
    Kind::Lossy,
    Kind::LossyEverywhere,
    Kind::LinkDown,
    Kind::AddressDeleted,
    Kind::RulesFlushed,
    Kind::NginxKilled,
    Kind::NginxHung,
    Kind::ClockForward,
    Kind::ClockBack,
    Kind::Busy,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Whoever has the VIP then.
    Owner,
    Host(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    pub target: Target,
    /// From the round's beginning on.
    pub after: Duration,
    pub lasts: Duration,
}

/// One fault or two, and the time after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    pub faults: Vec<Fault>,
    pub rest: Duration,
    /// Whether the next faults come only when all is well again.
    pub calm: bool,
}

/// Rounds without an end.
#[derive(Debug)]
pub struct Plan {
    rng: fastrand::Rng,
    hosts: usize,
    /// Each kind comes once before any comes again, so that a short run shows many of them.
    left: Vec<Kind>,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Killed => "daemon killed",
            Kind::Frozen => "daemon stopped",
            Kind::Restarted => "planned restart",
            Kind::CutOff => "host cut off",
            Kind::Deaf => "nothing reaches host",
            Kind::Mute => "nothing leaves host",
            Kind::Lossy => "20 % loss, one host",
            Kind::LossyEverywhere => "20 % loss everywhere",
            Kind::LinkDown => "link down",
            Kind::AddressDeleted => "address deleted",
            Kind::RulesFlushed => "nft flush ruleset",
            Kind::NginxKilled => "nginx killed",
            Kind::NginxHung => "nginx hangs",
            Kind::ClockForward => "wall clock 20 h ahead",
            Kind::ClockBack => "wall clock 20 h back",
            Kind::Busy => "machine busy",
        }
    }

    pub fn stops_daemon(self) -> bool {
        matches!(self, Kind::Killed | Kind::Frozen | Kind::Restarted)
    }

    pub fn stops_nginx(self) -> bool {
        matches!(self, Kind::NginxKilled | Kind::NginxHung)
    }

    /// Nobody else hears the host, or it hears nobody.
    pub fn separates(self) -> bool {
        matches!(self, Kind::CutOff | Kind::Deaf | Kind::Mute | Kind::LinkDown)
    }

    pub fn meets_all(self) -> bool {
        matches!(self, Kind::LossyEverywhere | Kind::Busy)
    }

    /// Not both on one host: they would meet the same process or undo each other. And what an operator flushes, nobody
    /// puts back while the daemon is away.
    pub fn excludes(self, other: Kind) -> bool {
        let steps = |kind| matches!(kind, Kind::ClockForward | Kind::ClockBack);
        let daemon = |kind: Kind| kind.stops_daemon() || kind == Kind::RulesFlushed;
        self == other
            || (daemon(self) && daemon(other))
            || (steps(self) && steps(other))
            || (self.stops_nginx() && other.stops_nginx())
    }

    /// In milliseconds.
    fn lasts(self, rng: &mut fastrand::Rng) -> u64 {
        match self {
            // Every third is started again at once.
            Kind::Killed if rng.u8(0..3) == 0 => 0,
            Kind::Killed => rng.u64(100..3000),
            Kind::Frozen => rng.u64(100..5000),
            Kind::Restarted => rng.u64(0..1000),
            Kind::CutOff | Kind::Deaf | Kind::Mute | Kind::LinkDown => rng.u64(100..4000),
            Kind::Lossy | Kind::LossyEverywhere => rng.u64(1000..5000),
            Kind::AddressDeleted | Kind::RulesFlushed => 0,
            Kind::NginxKilled => rng.u64(100..3000),
            Kind::NginxHung => rng.u64(500..6000),
            Kind::ClockForward | Kind::ClockBack => rng.u64(500..4000),
            Kind::Busy => rng.u64(500..4000),
        }
    }
}

impl Plan {
    pub fn new(seed: u64, hosts: usize) -> Plan {
        Plan { rng: fastrand::Rng::with_seed(seed), hosts, left: Vec::new() }
    }

    fn fault(&mut self, after: u64) -> Fault {
        if self.left.is_empty() {
            self.left.extend(ALL);
            self.rng.shuffle(&mut self.left);
        }
        let kind = self.left.pop().unwrap();
        let at = self.rng.usize(1..=self.hosts);
        let target = if self.rng.bool() { Target::Owner } else { Target::Host(at) };
        let lasts = Duration::from_millis(kind.lasts(&mut self.rng));
        Fault { kind, target, after: Duration::from_millis(after), lasts }
    }
}

impl Iterator for Plan {
    type Item = Round;

    fn next(&mut self) -> Option<Round> {
        let mut faults = vec![self.fault(0)];
        if self.rng.u8(0..3) == 0 {
            let after = self.rng.u64(0..1000);
            faults.push(self.fault(after));
        }
        let rest = Duration::from_millis(self.rng.u64(200..2000));
        Some(Round { faults, rest, calm: self.rng.bool() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_gives_one_plan_and_another_seed_another() {
        let plan = |seed| Plan::new(seed, 3).take(50).collect::<Vec<_>>();
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn every_fault_comes_in_its_turn() {
        let kinds: BTreeSet<Kind> =
            Plan::new(1, 3).take(300).flat_map(|r| r.faults).map(|f| f.kind).collect();
        assert_eq!(kinds.len(), ALL.len());
    }
}
