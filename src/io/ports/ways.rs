//! The routes and rules of the VIPs that are here. What the kernel refuses is told, and keeps no address from moving.

use crate::config::{Route, Rule, Vip};
use crate::engine::time::Instant;
use crate::io::clock;
use crate::io::netlink::Kernel;
use crate::io::netlink::way::{Way, WayError};
use haclusterd_proto::VipId;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long one may be missing that somebody else has removed.
const TEND: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Ways {
    placed: BTreeMap<VipId, Placed>,
}

struct Placed {
    /// As they were configured.
    routes: Vec<Route>,
    rules: Vec<Rule>,
    ways: Vec<Wanted>,
    tended: Instant,
}

struct Wanted {
    way: Way,
    /// This run has put it there, and has to remove it.
    known: bool,
    /// Why it is not there, as it was told.
    refused: Option<String>,
}

/// Rules come last, when the tables that they name are filled.
pub fn ways_of(vip: &Vip) -> impl Iterator<Item = Way> {
    let routes = vip.routes.iter().cloned().map(Way::Route);
    routes.chain(vip.rules.iter().cloned().map(Way::Rule))
}

impl Ways {
    /// With each renewal of the addresses. `anew`: they have not been there the whole time.
    pub async fn tend(&mut self, kernel: &Kernel, vip: &Vip, anew: bool) {
        if vip.routes.is_empty() && vip.rules.is_empty() && !self.placed.contains_key(&vip.id) {
            return;
        }
        let (now, mut due) = (clock::now(), anew);
        let placed = self.placed.entry(vip.id).or_insert_with(|| {
            due = true;
            Placed { routes: Vec::new(), rules: Vec::new(), ways: Vec::new(), tended: now }
        });
        if placed.routes != vip.routes || placed.rules != vip.rules {
            placed.change(kernel, vip).await;
            due = true;
        }
        if due || now.since(placed.tended) >= TEND {
            placed.tended = now;
            placed.put(kernel, &vip.name).await;
        }
    }

    /// Before its addresses go.
    pub async fn remove(&mut self, kernel: &Kernel, vip: VipId) {
        if let Some(placed) = self.placed.remove(&vip) {
            let all: Vec<&Way> = placed.ways.iter().filter(|w| w.known).map(|w| &w.way).collect();
            take(kernel, &all).await;
        }
    }

    /// An interface came up; what leads over it was lost when it went down.
    pub fn doubt(&mut self) {
        self.placed.values_mut().for_each(|placed| placed.tended = Instant::default());
    }

    /// What an operator must know.
    pub fn refused(&self) -> impl Iterator<Item = &String> {
        self.placed.values().flat_map(|placed| &placed.ways).filter_map(|wanted| wanted.refused.as_ref())
    }
}

impl Placed {
    /// The configuration is another; what both have stays.
    async fn change(&mut self, kernel: &Kernel, vip: &Vip) {
        (self.routes, self.rules) = (vip.routes.clone(), vip.rules.clone());
        let mut old = std::mem::take(&mut self.ways);
        for way in ways_of(vip) {
            let same = old.iter().position(|wanted| wanted.way == way);
            let known = same.map(|at| old.remove(at));
            self.ways.push(known.unwrap_or(Wanted { way, known: false, refused: None }));
        }
        let gone: Vec<&Way> = old.iter().filter(|wanted| wanted.known).map(|wanted| &wanted.way).collect();
        take(kernel, &gone).await;
    }

    async fn put(&mut self, kernel: &Kernel, vip: &str) {
        let all: Vec<(&Way, bool)> = self.ways.iter().map(|wanted| (&wanted.way, wanted.known)).collect();
        let outcomes = match kernel.put(&all).await {
            Ok(outcomes) => outcomes,
            Err(error) => return tracing::warn!("{vip}: routes and rules: {error}"),
        };
        for (wanted, outcome) in self.ways.iter_mut().zip(outcomes) {
            wanted.note(vip, outcome);
        }
    }
}

impl Wanted {
    /// The same trouble is told once.
    fn note(&mut self, vip: &str, outcome: Result<(), WayError>) {
        let way = &self.way;
        self.known |= outcome.is_ok();
        let refused =
            outcome.err().map(|error| format!("{vip}: the {} `{}`: {error}", way.word(), way.text()));
        if self.refused != refused
            && let Some(text) = &refused
        {
            tracing::warn!("{text}");
        }
        self.refused = refused;
    }
}

/// In the opposite order. What cannot be removed is told, and swept by the next run.
async fn take(kernel: &Kernel, ways: &[&Way]) {
    let backwards: Vec<&Way> = ways.iter().rev().copied().collect();
    if backwards.is_empty() {
        return;
    }
    let outcomes = match kernel.take(&backwards).await {
        Ok(outcomes) => outcomes,
        Err(error) => return tracing::warn!("routes and rules stay: {error}"),
    };
    for (way, outcome) in backwards.iter().zip(outcomes) {
        if let Err(error) = outcome {
            tracing::warn!("the {} `{}` stays: {error}", way.word(), way.text());
        }
    }
}
