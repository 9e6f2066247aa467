//! A model check of the unchanged engine: two candidates, three voters, one VIP. `make model`.
//!
//! Breadth first, as far as `MODEL_STATES` reach, and in random walks, which go deeper. A host serves while its kernel
//! passes the VIP's packets; two that serve at once are what must not be. Each rule of the protocol is then taken away
//! by what the engine is told (`mutation`), and two owners must be found: a check that cannot fail proves nothing.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod dice;
mod mutation;
mod words;
mod world;

use dice::Dice;
use mutation::Mutation;
use stateright::{Checker, HasDiscoveries, Model, Path, Property};
use std::time::Instant;
use world::{Budget, Fault, Plan, Start, Step, World};

/// What is to be explored; each state takes some 20 µs.
const STATES: usize = 2_000_000;
/// A rule whose lack no walk has shown by then is not looked at by the model.
const ENOUGH: usize = 8_000_000;
/// Steps of a walk; eight to ten of them make a tick.
const WALK: usize = 400;

#[derive(Clone)]
struct Cluster(World);

impl Model for Cluster {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![self.0.clone()]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        world.steps(steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut world = world.clone();
        world.take(&step);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one owner", |_, world: &World| world.holders() <= 1),
            Property::sometimes("A owns", |_, world: &World| world.hosts[0].kernel.is_some()),
            Property::sometimes("B owns", |_, world: &World| world.hosts[1].kernel.is_some()),
            Property::sometimes("handed over", |_, world: &World| world.was_said("handed over")),
            Property::sometimes("lapsed", |_, world: &World| world.was_said("not renewed")),
            Property::sometimes("taken over", |_, world: &World| world.was_said("no VIP moves")),
        ]
    }
}

fn states() -> usize {
    std::env::var("MODEL_STATES").ok().and_then(|text| text.parse().ok()).unwrap_or(STATES)
}

/// Everything that can happen, breadth first.
fn search(what: &str, start: World, most: usize) -> Option<Path<World, Step>> {
    let began = Instant::now();
    let checker = Cluster(start).checker().threads(2).target_state_count(most);
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (all, depth, took) = (checker.unique_state_count(), checker.max_depth(), began.elapsed());
    let whole = if checker.state_count() < most { "all" } else { "cut off" };
    println!("{what}: {all} states, {depth} deep, {whole}, {:.1} s", took.as_secs_f64());
    checker.discovery("one owner")
}

/// Random courses; the seeds make them the same each time.
fn wander(what: &str, start: World, most: usize) -> (Option<Path<World, Step>>, Vec<&'static str>) {
    let began = Instant::now();
    let dice = Dice::default();
    let walks = dice.walks.clone();
    let checker = Cluster(start).checker().target_state_count(most).target_max_depth(WALK);
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_simulation(1, dice).join();
    let walks = walks.load(std::sync::atomic::Ordering::Relaxed);
    println!(
        "{what}: {walks} walks, {} steps, {:.1} s",
        checker.state_count(),
        began.elapsed().as_secs_f64()
    );
    let seen = checker.discoveries().into_keys().collect();
    (checker.discovery("one owner"), seen)
}

/// One line a step, with what the hosts are then.
fn told(path: Path<World, Step>) -> String {
    let line = |(world, step): (World, Option<Step>)| {
        let step = step.map(|step| world.describe(&step)).unwrap_or_default();
        format!("{}\n    {step}\n", world.describe_hosts())
    };
    path.into_vec().into_iter().map(line).collect()
}

fn plan(start: Start, budget: Budget, mutation: Option<Mutation>, walk: bool) -> Plan {
    Plan { start, budget, mutation, walk }
}

/// More of everything than a walk can use.
const ALL: Budget = Budget { late: 500, twice: 500, cuts: 12, pauses: 3, restarts: 6, deaths: 4 };

#[test]
fn no_course_of_events_gives_the_vip_two_owners() {
    let one = Budget { late: 1, ..Budget::default() };
    let budgets = [
        ("A owns; two packets late", Start::Owned, Budget { late: 2, ..one }),
        ("A owns; a pause, a packet late", Start::Owned, Budget { pauses: 1, ..one }),
        ("A owns; a restart, a packet late", Start::Owned, Budget { restarts: 1, ..one }),
        (
            "A owns; nginx dies, a packet late and one twice",
            Start::Owned,
            Budget { deaths: 1, twice: 1, ..one },
        ),
        ("A owns; two cuts", Start::Owned, Budget { cuts: 2, late: 0, ..one }),
        ("nobody owns; a packet late and one twice", Start::Free, Budget { twice: 1, ..one }),
        ("nobody owns; a restart", Start::Free, Budget { restarts: 1, late: 0, ..one }),
    ];
    for (what, start, budget) in budgets {
        let found = search(what, World::new(&plan(start, budget, None, false)), states());
        assert!(found.is_none(), "{what}: two owners:\n{}", told(found.unwrap()));
    }
}

#[test]
fn no_walk_gives_the_vip_two_owners() {
    let mut seen = Vec::new();
    for start in [Start::Owned, Start::Free] {
        let world = World::new(&plan(start, ALL, None, true));
        let (found, also) = wander(&format!("walks from {start:?}"), world, states() * 2);
        assert!(found.is_none(), "two owners:\n{}", told(found.unwrap()));
        seen.extend(also);
    }
    for what in ["A owns", "B owns", "handed over", "lapsed", "taken over"] {
        assert!(seen.contains(&what), "no walk in which it was {what}: the model looks away");
    }
}

#[test]
fn without_any_one_of_its_rules_two_owners_are_found() {
    for mutation in Mutation::ALL.into_iter().filter(|mutation| *mutation != Mutation::LateGrants) {
        let world = World::new(&plan(Start::Owned, ALL, Some(mutation), true));
        let (found, _) = wander(&format!("{mutation:?}"), world, ENOUGH);
        assert!(found.is_some(), "{mutation:?}: nothing found, so the model does not look at this rule");
    }
}

/// M5. That two voters' grants come late, after they were given back, and that the candidate asks once more just then,
/// is too rare for walks: they begin where the grants are on their way.
#[test]
fn without_the_rule_of_late_grants_two_owners_are_found() {
    for mutation in [None, Some(Mutation::LateGrants)] {
        let budget = Budget { late: 60, ..Budget::default() };
        let world = grants_are_late(&plan(Start::Free, budget, mutation, false));
        let found = search(&format!("late grants, {mutation:?}"), world, states() / 4);
        assert_eq!(found.is_some(), mutation.is_some(), "{}", found.map(told).unwrap_or_default());
    }
}

/// B asked, was granted the VIP by both others, gave up before it heard of that, and asks again; meanwhile A has taken
/// the VIP.
fn grants_are_late(plan: &Plan) -> World {
    let mut world = World::new(plan);
    world.take(&Step::Fault(Fault::NginxRuns(1)));
    for tick in 0..12 {
        if tick == 2 {
            world.take(&Step::Fault(Fault::NginxRuns(0)));
        }
        let mut asks = false;
        while let Some(packet) = world.flight.front() {
            asks |= packet.asks(1) && world.hosts[0].kernel.is_some();
            let deaf = packet.is_answer_to(1, tick > 1);
            world.take(if deaf { &Step::Held } else { &Step::Arrives });
        }
        if asks {
            return world;
        }
        world.take(&Step::Tick);
    }
    panic!("B does not ask again: {}", world.describe_hosts());
}
