//! How a random walk goes: mostly as things go, with a mood that makes some paths slow and some troubles likely.

use crate::Cluster;
use crate::world::{Fault, HOSTS, Step, World};
use haclusterd_proto::cluster::Message;
use stateright::Chooser;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Clone, Default)]
pub struct Dice {
    pub walks: Arc<AtomicUsize>,
}

/// Of one walk.
pub struct Mood {
    rng: fastrand::Rng,
    /// Paths whose packets are mostly held back, by sender, receiver and whether it is an answer.
    slow: Vec<bool>,
    /// Which troubles come at all: cuts, pauses, restarts, deaths of nginx.
    troubles: [u64; 4],
    late: u64,
    held: u64,
    /// What was held back comes now.
    burst: bool,
}

impl Mood {
    fn is_slow(&self, world: &World) -> bool {
        let path = |packet: &crate::world::Packet| {
            let answer = usize::from(matches!(&*packet.message, Message::Answer(_)));
            (packet.from * HOSTS + packet.to) * 2 + answer
        };
        !self.burst && world.flight.front().is_some_and(|packet| self.slow[path(packet)])
    }

    fn weight(&self, step: &Step, slow: bool) -> u64 {
        match step {
            Step::Tick | Step::Arrives => {
                if slow {
                    20
                } else {
                    200
                }
            }
            Step::Held => {
                if slow {
                    200
                } else {
                    self.held
                }
            }
            Step::Twice => 5,
            Step::Late(_) => {
                if self.burst {
                    300
                } else {
                    self.late
                }
            }
            Step::Fault(Fault::Cut(..)) => 3 * self.troubles[0],
            Step::Fault(Fault::Pause(_)) => 2 * self.troubles[1],
            Step::Fault(Fault::Restart(_)) => self.troubles[2],
            Step::Fault(Fault::NginxDies(_)) => 3 * self.troubles[3],
            Step::Fault(Fault::Mend(..)) => 3,
            Step::Fault(Fault::Continue(_) | Fault::NginxRuns(_)) => 10,
        }
    }
}

impl Chooser<Cluster> for Dice {
    type State = Mood;

    fn new_state(&self, seed: u64) -> Mood {
        self.walks.fetch_add(1, Ordering::Relaxed);
        let mut rng = fastrand::Rng::with_seed(seed);
        let percent = *rng.choice(&[0_u8, 15, 40]).unwrap();
        let slow = (0..HOSTS * HOSTS * 2).map(|_| rng.u8(0..100) < percent).collect();
        let troubles = std::array::from_fn(|_| u64::from(rng.u8(0..100) < 70));
        let (late, held) = (*rng.choice(&[1, 5, 40]).unwrap(), *rng.choice(&[2, 10, 40]).unwrap());
        Mood { rng, slow, troubles, late, held, burst: false }
    }

    fn choose_initial_state(&self, _: &mut Mood, _: &[World]) -> usize {
        0
    }

    fn choose_action(&self, mood: &mut Mood, world: &World, steps: &[Step]) -> usize {
        mood.burst = if mood.burst { mood.rng.u8(0..100) >= 15 } else { mood.rng.u16(0..1000) < 30 };
        let slow = mood.is_slow(world);
        let weights: Vec<u64> = steps.iter().map(|step| mood.weight(step, slow)).collect();
        let mut number = mood.rng.u64(0..weights.iter().sum());
        let chosen = weights.iter().position(|weight| {
            let here = number < *weight;
            number = number.saturating_sub(*weight);
            here
        });
        chosen.unwrap_or(0)
    }
}
