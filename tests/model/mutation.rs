//! Rules of the protocol taken away, one at a time, by what the engine is told: the engine itself stays as it is.
//!
//! Each of them must lead to two owners somewhere. One that does not shows that the model looks away there.

use crate::world::{HOSTS, Packet, TICK, TIMERS, WITNESS};
use haclusterd::engine::time::{Instant, Timers};
use haclusterd_proto::Term;
use haclusterd_proto::cluster::{Advert, Answer, Grant, Message};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// M1: a grant counts from the receipt of the answer (H1).
    CountedFromReceipt,
    /// M2: a voter that restarted grants at once (V0).
    NoSilence,
    /// M3: the kernel does not end the address of a daemon that is paused (H3).
    NoGate,
    /// M4: an advert counts although a later one was heeded (V1).
    StaleAdverts,
    /// M5: a grant counts although the VIP was released after its advert.
    LateGrants,
    /// M6: the witness forgets a grant before its holder does.
    ShortVoter,
    /// M7: one grant of three is enough.
    NoQuorum,
    /// R1: a new run counts what it takes over from its own start.
    FreshHeir,
}

const LEASE_US: u64 = TIMERS.lease.as_micros() as u64;

/// What a mutation must know of a host: what it said last, and which adverts it was given.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The last advert, and when it was sent.
    spoke: (u64, Instant),
    /// The last advert that did not want the VIP.
    omitted: u64,
    /// The term that the last advert named, if it wanted the VIP.
    wants: Option<Term>,
    heeded: [u64; HOSTS],
}

impl Memory {
    pub fn sent(&mut self, advert: &Advert, now: Instant) {
        self.spoke = (advert.seq, now);
        self.wants = advert.bids.iter().find(|bid| bid.want).map(|bid| bid.term);
        if self.wants.is_none() {
            self.omitted = advert.seq;
        }
    }
}

impl Mutation {
    pub const ALL: [Mutation; 8] = [
        Mutation::CountedFromReceipt,
        Mutation::NoSilence,
        Mutation::NoGate,
        Mutation::StaleAdverts,
        Mutation::LateGrants,
        Mutation::ShortVoter,
        Mutation::NoQuorum,
        Mutation::FreshHeir,
    ];

    /// M6: half the lease, at the voter alone.
    pub fn timers(mutation: Option<Mutation>, at: usize) -> Timers {
        match mutation {
            Some(Mutation::ShortVoter) if at == WITNESS => Timers { lease: TICK * 2, ..TIMERS },
            _ => TIMERS,
        }
    }

    /// M2: since when a daemon that starts now believes to run.
    pub fn born(mutation: Option<Mutation>, now: Instant) -> Instant {
        match mutation {
            Some(Mutation::NoSilence) => {
                let earlier = now.micros() - TIMERS.silence().as_micros() as u64;
                Instant::from_micros(earlier)
            }
            _ => now,
        }
    }

    /// R1: until when a run that starts now may go on with what the kernel passes until `until`.
    pub fn inherited(mutation: Option<Mutation>, until: Instant, now: Instant) -> Instant {
        if mutation == Some(Mutation::FreshHeir) { now + TIMERS.holder() } else { until }
    }

    /// What the host hears instead of the packet's message.
    pub fn received(mutation: Option<Mutation>, packet: &Packet, memory: &mut Memory) -> Message {
        let mut message = (*packet.message).clone();
        match (mutation, &mut message) {
            (Some(Mutation::CountedFromReceipt), Message::Answer(answer)) if answer.seq > memory.omitted => {
                answer.seq = memory.spoke.0; // adverts are sent at every tick, so this one was sent now
            }
            (Some(Mutation::StaleAdverts), Message::Advert(advert)) => {
                let last = &mut memory.heeded[packet.from];
                *last = advert.seq.max(*last + 1);
                advert.seq = *last;
            }
            (Some(Mutation::LateGrants), Message::Answer(answer)) => late(answer, packet.asked, memory),
            (Some(Mutation::ShortVoter), Message::Answer(answer)) => answer.lease_us = LEASE_US,
            (Some(Mutation::NoQuorum), Message::Answer(answer)) => agree(answer, memory),
            _ => {}
        }
        message
    }

    /// M4: who sent the advert must know its answer again.
    pub fn answered(mutation: Option<Mutation>, advert: &Packet, answer: &mut Packet) {
        if let (Some(Mutation::StaleAdverts), Message::Advert(asked)) = (mutation, &*advert.message)
            && answer.to == advert.from
            && let Message::Answer(answer) = Arc::make_mut(&mut answer.message)
        {
            answer.seq = asked.seq;
        }
    }
}

/// M5: as if it answered the first advert that wanted the VIP again, but for the time of its own.
fn late(answer: &mut Answer, asked: Instant, memory: &Memory) {
    let (last, sent) = memory.spoke;
    let granted = answer.verdicts.iter().any(|verdict| verdict.grant == Grant::Granted);
    if granted && answer.seq <= memory.omitted && last > memory.omitted {
        answer.seq = last;
        let passed = u64::try_from(sent.since(asked).as_micros()).unwrap_or(LEASE_US);
        answer.lease_us = LEASE_US.saturating_sub(passed);
    }
}

/// M7: the host's own grant is enough, so whatever another voter says is a second one.
fn agree(answer: &mut Answer, memory: &Memory) {
    for verdict in Arc::make_mut(&mut answer.verdicts) {
        verdict.grant = if memory.wants.is_some() { Grant::Granted } else { Grant::Free };
        verdict.term = memory.wants.unwrap_or(verdict.term);
    }
}
