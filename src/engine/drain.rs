//! The end of a run: VIPs first, then the vote of a node that leaves for good, then the exit.

use super::*;

impl Engine {
    pub(super) fn shutdown(&mut self, leave: bool, now: Instant) {
        if matches!(self.drain, Some(Drain::Stopping { .. })) {
            self.config.record.leaving |= leave;
        }
        if self.drain.is_none() {
            self.config.record.leaving = leave;
            self.drain = Some(Drain::Stopping { since: now });
            let why = if leave { "leaving the cluster" } else { "stopping" };
            self.info(why.into(), now);
        }
    }

    /// Until the next run is here, or nobody could take over before.
    pub(super) fn outlasts_a_restart(&self, now: Instant) -> bool {
        let mut held = self.vips.iter().filter(|vip| vip.seat.holds().is_some());
        self.voters.mode() != Mode::Quorum
            || self.config.timers.lease >= RESTART
            || held.any(|vip| !self.has_rival(vip.id(), now))
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.config.record.leaving
    }

    pub(super) fn finish_drain(&mut self, now: Instant) {
        let Some(drain) = &self.drain else { return };
        let clear = self.vips.iter().all(|v| v.addresses.is_absent() && !v.seat.wants())
            && self.routers.iter().all(|router| router.addresses.is_absent())
            && !self.dirty;
        let alone = self.listeners().is_empty();
        match drain {
            Drain::Stopping { since } if clear || now >= *since + DRAIN => {
                if !clear {
                    self.warn(
                        "an address could not be removed in time; the kernel drops it within seconds".into(),
                        now,
                    );
                }
                self.drain = Some(if self.is_leaving() && !alone {
                    Drain::Leaving { since: now }
                } else {
                    Drain::Done
                });
                if matches!(self.drain, Some(Drain::Done)) {
                    self.out.push(Action::Exit);
                } else {
                    self.publish(now);
                }
            }
            Drain::Leaving { since } => {
                let voter = self.voters.is_voter(self.me());
                let said = now >= *since + FAREWELL;
                if (said && !voter) || now >= *since + self.patience_to_leave() {
                    if voter {
                        self.warn(
                            "left, but its vote is still counted: the issuer has not replaced it in time"
                                .into(),
                            now,
                        );
                    }
                    self.drain = Some(Drain::Done);
                    self.out.push(Action::Exit);
                }
            }
            Drain::Stopping { .. } | Drain::Done => {}
        }
    }

    /// Another voter may have to be added before this one is taken off, and each step takes two leases.
    pub(super) fn patience_to_leave(&self) -> Duration {
        LEAVE + self.config.timers.lease * 6
    }
}
