//! A restart within the lease: the new run takes over what the dead one held, under sessions of its own.
//!
//! The edge has proven that the earlier run is gone and that its kernel still keeps the fence open; the fence's end
//! stays what it was until voters have renewed the grants. A voter moves a session and its grants to the new run
//! only if both the run and the session that the new one names are those that it knows, so an old run's late word, a
//! second heir and a copy of the memory get nothing.

use super::health::Track;
use super::*;
use haclusterd_proto::Incarnation;
use haclusterd_proto::control::Health as Verdict;

/// What a run leaves to its successor. It may be old: what it says counts for nothing without the voters and the
/// kernel agreeing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub incarnation: Incarnation,
    /// The set by which it held. By another one, another rule may say how long; then nothing is inherited.
    pub voters: VotersStamp,
    pub sessions: Vec<(NodeId, u64)>,
    pub held: Vec<(VipId, Term)>,
}

/// A memory whose run has ended, and until when the kernel keeps each fence open that this run opened.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Inheritance {
    pub memory: Memory,
    pub gates: Vec<(VipId, Instant)>,
}

impl Engine {
    /// Begins as the heir of an earlier run of this node.
    #[must_use]
    pub fn inherit(mut self, inheritance: &Inheritance, now: Instant) -> Engine {
        let Inheritance { memory, gates } = inheritance;
        if memory.voters != self.voters.stamp() {
            return self;
        }
        self.lease.succeed(memory.incarnation, &memory.sessions);
        for vip in &mut self.vips {
            let held = |(id, term): &&(VipId, Term)| *id == vip.id() && *term != Term::default();
            let term = memory.held.iter().find(held).map(|(_, term)| *term);
            let until = gates.iter().find(|(id, _)| *id == vip.id()).map(|(_, end)| *end);
            let (Some(term), Some(until)) = (term, until.filter(|end| *end > now)) else { continue };
            self.lease.inherit(vip.id(), until);
            (vip.seat, vip.highest, vip.heir) = (Seat::inherited(term, now), term, true);
            (vip.owner, vip.until) = (Owner::Us { term, until }, Some(until));
            self.heir = true;
        }
        for router in &mut self.routers {
            let held = memory.held.iter().any(|(id, _)| *id == router.id());
            let until = gates.iter().find(|(id, _)| *id == router.id()).map(|(_, end)| *end);
            if let Some(until) = until.filter(|end| held && *end > now) {
                router.router.inherit(until);
                self.heir = true;
            }
        }
        if self.heir {
            self.info("takes over from its earlier run; no VIP moves".into(), now);
        }
        self
    }

    /// Tells the edge what a successor would have to know, when that has changed.
    pub(super) fn remember(&mut self) {
        let led = || self.routers.iter().filter(|r| r.leads()).map(|r| (r.id(), Term::default()));
        let held = || self.vips.iter().filter_map(|vip| Some((vip.id(), vip.seat.holds()?))).chain(led());
        let known = &self.remembered;
        if known.voters == self.voters.stamp()
            && known.sessions.iter().copied().eq(self.lease.sessions())
            && known.held.iter().copied().eq(held())
        {
            return;
        }
        self.remembered = Memory {
            incarnation: self.config.record.incarnation,
            voters: self.voters.stamp(),
            sessions: self.lease.sessions().collect(),
            held: held().collect(),
        };
        self.out.push(Action::Remember(Box::new(self.remembered.clone())));
    }

    /// An heir goes by what its predecessor knew until its own checks and its interfaces have spoken.
    fn presumes(&self, now: Instant) -> bool {
        self.heir && now < self.started + facts::BOOT_WAIT
    }

    /// The effective priority by this node's checks. `None`: a check says that it must own nothing.
    pub(super) fn fitness(&self, now: Instant) -> Option<Priority> {
        self.fitness_of(self.config.base(), None, now)
    }

    /// The same of another base, and by some of the checks.
    pub(super) fn fitness_of(
        &self,
        base: Priority,
        tracks: Option<&[Track]>,
        now: Instant,
    ) -> Option<Priority> {
        if self.presumes(now) && self.health.verdict() == Verdict::Unknown {
            return Some(base);
        }
        match tracks {
            Some(tracks) => self.health.effective_by(tracks, base),
            None => self.health.effective(base),
        }
    }

    pub(super) fn is_well(&self, now: Instant) -> bool {
        self.fitness(now).is_some() && !self.is_sick(self.me())
    }

    /// Why the VIP's interface cannot be used.
    pub(super) fn out_of_service(&self, vip: &VipState, now: Instant) -> Option<String> {
        let unheard = vip.heir && !vip.reported && self.presumes(now);
        vip.interface.as_ref().err().filter(|_| !unheard).cloned()
    }
}
