//! The engine against thousands of random courses of events: `SIM_SEEDS=n`, `SIM_SEED=k` for one of them with its log.
//!
//! What a seed promises: no two holders of a VIP while any of them is protected by a quorum (I1), rising terms (I2),
//! and an owner, the best-ranked one, soon after everything is well again (I5, I7). Each seed runs twice and must
//! give the same log.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod journals;
mod world;

use haclusterd::engine::time::Timers;
use haclusterd::io::journal::{Decided, Replay};
use haclusterd_proto::control::{Mode, VoterRequest};
use journals::Journals;
use std::path::{Path, PathBuf};
use std::time::Duration;
use world::{LAN, MS, Plan, SECOND, World};

/// Of failures; each may write a few megabytes of journals.
const SHOWN: usize = 20;

fn plan(seed: u64) -> Plan {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x5eed);
    let nodes = *rng.choice(&[2, 3, 3, 3, 4, 5]).unwrap_or(&3);
    Plan {
        seed,
        nodes,
        vips: rng.u64(1..=3),
        witness: nodes >= 3 && rng.u8(0..4) == 0,
        loss: *rng.choice(&[0, 0, 5, 20]).unwrap_or(&0),
        duplicates: *rng.choice(&[0, 10]).unwrap_or(&0),
        delay: *rng.choice(&[MS, 5 * MS, 60 * MS]).unwrap_or(&MS),
        preempt: rng.bool(),
        strict_pair: rng.u8(0..4) == 0,
        timers: LAN,
        weight: *rng.choice(&[0, 0, -10]).unwrap_or(&0),
        strict_health: true,
    }
}

/// One random trouble.
fn trouble(world: &mut World) {
    let nodes = world.hosts.len();
    let at = world.rng.usize(0..nodes);
    let other = world.rng.usize(0..nodes);
    match world.rng.u8(0..30) {
        0 | 1 => world.kill(at),
        2 => world.power_off(at),
        3..=5 => world.start(at),
        6 | 7 => world.pause(at),
        8 | 9 => world.resume(at),
        10 => world.stop(at, false),
        11 | 12 => {
            let healthy = world.rng.bool();
            world.note(&format!("n{at} healthy: {healthy}"));
            world.set_health(at, healthy);
        }
        13 => {
            let up = world.rng.bool();
            world.note(&format!("n{at} link: {up}"));
            world.set_link(at, up);
        }
        14 => {
            let vips = world.vips();
            let vip = vips[world.rng.usize(0..vips.len())];
            world.delete_by_hand(at, vip);
        }
        15 | 16 if at != other => {
            world.note(&format!("cut n{at} -> n{other}"));
            world.cut.insert((at, other));
        }
        17 => {
            // A host alone.
            world.note(&format!("n{at} cut off"));
            for peer in (0..nodes).filter(|peer| *peer != at) {
                world.cut.insert((at, peer));
                world.cut.insert((peer, at));
            }
        }
        18 if at != 0 && nodes > 3 && world.rng.u8(0..4) == 0 => world.stop(at, true),
        19 => {
            // A service that restarts: away and back within a lease.
            world.note(&format!("n{at} flaps"));
            world.set_health(at, false);
            let pause = world.rng.u64(50 * MS..300 * MS);
            world.run_until(world.now + pause);
            world.set_health(at, true);
        }
        20..=22 => {
            let pause = world.rng.u64(20 * MS..600 * MS);
            world.restart(at, pause);
        }
        23..=25 => reform(world),
        26 => world.reload(at),
        _ => {
            world.note("all links mended");
            world.cut.clear();
        }
    }
}

/// An operator changes who votes. What he vouches for is so: who is removed or left behind is off, and stays off.
fn reform(world: &mut World) {
    let at = world.rng.usize(0..world.hosts.len());
    let name = format!("n{at}");
    let request = match world.rng.u8(0..8) {
        0..=2 => VoterRequest::Add { name, witness: world.rng.u8(0..4) == 0 },
        3 | 4 => VoterRequest::Remove { name },
        5 => VoterRequest::Automatic,
        6 if at != 0 && world.rng.u8(0..3) == 0 => {
            world.power_off(at);
            world.hosts[at].left = true;
            world.run_until(world.now + 400 * MS);
            VoterRequest::Expel { name, force: false }
        }
        7 if world.rng.u8(0..6) == 0 => {
            for other in (1..world.hosts.len()).filter(|other| *other != at) {
                world.power_off(other);
                world.hosts[other].left = true;
            }
            world.run_until(world.now + 400 * MS);
            let keep = [0, at].into_iter().map(|at| format!("n{at}")).take(if at == 0 { 1 } else { 2 });
            VoterRequest::Recover { keep: keep.collect() }
        }
        _ => return,
    };
    world.ask_voters(request);
}

fn course(seed: u64, journals: Option<&Path>) -> World {
    let mut world = World::new(plan(seed));
    world.journals = journals.map(Journals::new);
    for at in 0..world.hosts.len() {
        let pause = world.rng.u64(0..2 * SECOND);
        world.start(at);
        world.run_until(world.now + pause);
    }
    for _ in 0..world.rng.u32(5..30) {
        let pause = world.rng.u64(MS..1500 * MS);
        world.run_until(world.now + pause);
        trouble(&mut world);
    }
    world.note("everything is mended");
    world.heal();
    world.run_until(world.now + 3 * SECOND);
    world.heal(); // who was still on its way out
    world.ask_voters(VoterRequest::Automatic);
    world.run_until(world.now + 12 * SECOND);
    world
}

/// I5 and I7, when nothing has been wrong for a while.
fn settled(world: &mut World) {
    if world.votes_lost() {
        return; // whoever left while no issuer answered has taken its vote along
    }
    for vip in world.vips() {
        let holders = world.holders(vip);
        let pair = world.hosts.iter().any(|host| host.mode == Mode::TwoNode);
        let candidate =
            |at: &usize| !world.hosts[*at].left && !world.is_witness(*at) && (!pair || world.votes(*at));
        let candidates: Vec<usize> = (0..world.hosts.len()).filter(candidate).collect();
        if !candidates.is_empty() && holders.len() != 1 {
            world.violations.push(format!("I5: {vip} is held by {holders:?} when all is well"));
        }
        let best = candidates.contains(&0) && world.plan.preempt && !world.is_held_down(0);
        if best && holders.len() == 1 && holders[0] != 0 {
            world.violations.push(format!("I7: {vip} is held by {holders:?}, not by the best-ranked"));
        }
    }
}

fn run(seed: u64, journals: Option<&Path>) -> World {
    let mut world = course(seed, journals);
    settled(&mut world);
    world
}

/// Where the journals of a seed go.
fn journals_of(seed: u64) -> PathBuf {
    let base = std::env::var_os("SIM_JOURNAL").map(PathBuf::from);
    base.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("sim")).join(format!("seed-{seed}"))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_course_of_events_gives_a_vip_two_owners() {
    if let Some(seed) = number("SIM_SEED") {
        let journals = journals_of(seed);
        let world = run(seed, Some(&journals));
        println!("{:?}\n{}\njournals: {}", world.plan, world.log.join("\n"), journals.display());
        assert!(world.violations.is_empty(), "seed {seed}: {:#?}", world.violations);
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(1000);
    let start = number("SIM_FIRST").unwrap_or(0);
    let threads: Vec<_> = (0..2)
        .map(|part| {
            std::thread::spawn(move || {
                (start..start + seeds).filter(|s| s % 2 == part).filter_map(failure).collect::<Vec<_>>()
            })
        })
        .collect();
    let failures: Vec<(u64, String)> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    assert!(
        failures.is_empty(),
        "{} of {seeds} seeds fail:\n{}",
        failures.len(),
        failures.iter().take(SHOWN).map(told).collect::<Vec<_>>().join("\n")
    );
}

/// A quorum of three without troubles, whose best-ranked node owns all.
fn calm(seed: u64) -> World {
    let plan =
        Plan { nodes: 3, witness: false, loss: 0, duplicates: 0, delay: MS, preempt: true, ..plan(seed) };
    quiet(plan)
}

fn quiet(plan: Plan) -> World {
    let mut world = World::new(plan);
    (0..3).for_each(|at| world.start(at));
    world.run_until(12 * SECOND);
    assert!(world.vips().into_iter().all(|vip| world.holders(vip) == [0]), "{}", world.log.join("\n"));
    world
}

#[test]
fn a_restart_within_the_lease_moves_nothing() {
    for seed in 0..100 {
        let mut world = calm(seed);
        let pause = world.rng.u64(20 * MS..350 * MS);
        world.restart(0, pause);
        let end = world.now + 2 * SECOND;
        while world.now < end {
            world.run_until(world.now + MS);
            for vip in world.vips() {
                assert_eq!(world.holders(vip), [0], "seed {seed}: {}", world.log.join("\n"));
            }
        }
    }
}

#[test]
fn a_lease_too_short_for_a_restart_is_handed_over() {
    const AGGRESSIVE: Timers = Timers { advert: Duration::from_millis(5), lease: Duration::from_millis(50) };
    for seed in 0..100 {
        let calm = Plan { nodes: 3, witness: false, loss: 0, duplicates: 0, delay: MS / 10, ..plan(seed) };
        let mut world = quiet(Plan { preempt: true, timers: AGGRESSIVE, ..calm });
        world.tell_to_restart(0);
        world.run_until(world.now + 3 * MS);
        let moved = world.vips().into_iter().all(|vip| world.holders(vip).iter().any(|at| *at != 0));
        assert!(moved, "seed {seed}: {}", world.log.join("\n"));
    }
}

/// The best node's check takes 10 off its 150, and the others have 100.
#[test]
fn no_weight_makes_up_for_a_failed_check_unless_an_operator_says_so() {
    for (strict_health, preempt, moves) in [(true, true, true), (true, false, true), (false, true, false)] {
        let calm = Plan { nodes: 3, vips: 1, witness: false, loss: 0, duplicates: 0, delay: MS, ..plan(7) };
        let mut world = quiet(Plan { preempt, strict_health, weight: -10, ..calm });
        let vip = world.vips()[0];
        world.set_health(0, false);
        world.run_until(world.now + SECOND);
        let owner = world.holders(vip);
        let moved = owner.len() == 1 && owner != [0];
        assert_eq!(moved, moves, "{owner:?}: {}", world.log.join("\n"));
        world.set_health(0, true);
        world.run_until(world.now + SECOND);
        let back = world.holders(vip) == [0];
        assert_eq!(back, preempt, "{}", world.log.join("\n"));
    }
}

fn failure(seed: u64) -> Option<(u64, String)> {
    let (first, second) = (run(seed, None), run(seed, None));
    if first.log != second.log {
        return Some((seed, "two runs differ".into()));
    }
    first.violations.first().map(|violation| (seed, violation.clone()))
}

/// Each seed is a course of its own, so that once more with journals is the same.
fn told((seed, violation): &(u64, String)) -> String {
    let journals = journals_of(*seed);
    run(*seed, Some(&journals));
    format!("seed {seed}: {violation}; journals: {}", journals.display())
}

#[test]
fn what_a_node_was_fed_makes_it_decide_the_same_again() {
    let dir = tempfile::tempdir().unwrap();
    for seed in 0..10 {
        let journals = dir.path().join(format!("seed-{seed}"));
        let world = run(seed, Some(&journals));
        drop(world);
        for file in std::fs::read_dir(&journals).unwrap().flatten() {
            let mut replay = Replay::open(&file.path()).unwrap();
            let all: Vec<Decided> = replay.by_ref().map(Result::unwrap).collect();
            assert!(all.len() > 1 && all.iter().all(|decided| decided.same), "{file:?}");
            assert_eq!(replay.end(), None, "{file:?}");
        }
    }
}
