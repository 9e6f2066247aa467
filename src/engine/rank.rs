//! Who should own a VIP: one total order, the same on every node that sees the same facts.

use haclusterd_proto::{NodeId, Priority, VipId};
use std::cmp::Reverse;
use std::hash::Hasher;

/// What one candidate brings to the election of one VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub node: NodeId,
    /// Effective priority. `None`: no candidate.
    pub priority: Option<Priority>,
    /// An operator moved the VIP there.
    pub pinned: bool,
    /// Holds the VIP now.
    pub incumbent: bool,
    /// A check of its is down.
    pub sick: bool,
    /// Has failed too often of late.
    pub held_down: bool,
}

/// The smaller key owns. Fields in the order in which they decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    ineligible: bool,
    /// No weight makes up for a check that is down.
    sick: bool,
    /// Rather anybody else.
    held_down: bool,
    pinned: Reverse<bool>,
    /// With `preempt = false` an eligible owner stays, whoever comes.
    stays: Reverse<bool>,
    priority: Reverse<u8>,
    /// Equal priorities never move a VIP.
    incumbent: Reverse<bool>,
    /// Rendezvous hash: spreads VIPs of equal priorities over the nodes.
    hash: u64,
    node: NodeId,
}

impl Standing {
    #[must_use]
    pub fn key(&self, vip: VipId, preempt: bool) -> Key {
        Key {
            ineligible: self.priority.is_none(),
            sick: self.sick,
            held_down: self.held_down,
            pinned: Reverse(self.pinned),
            stays: Reverse(!preempt && self.incumbent),
            priority: Reverse(self.priority.map_or(0, |p| p.0)),
            incumbent: Reverse(self.incumbent),
            hash: rendezvous(vip, self.node),
            node: self.node,
        }
    }
}

/// The eligible candidates, best first.
#[must_use]
pub fn order(vip: VipId, preempt: bool, mut standings: Vec<Standing>) -> Vec<NodeId> {
    standings.retain(|s| s.priority.is_some());
    standings.sort_by_key(|s| s.key(vip, preempt));
    standings.into_iter().map(|s| s.node).collect()
}

fn rendezvous(vip: VipId, node: NodeId) -> u64 {
    let mut hash = siphasher::sip::SipHasher13::new();
    hash.write_u64(vip.0);
    hash.write(&node.0);
    hash.finish()
}

/// A node's own small delay, so that two that failed together do not retry together.
#[must_use]
pub fn jitter_ms(vip: VipId, node: NodeId, attempt: u64, below: u64) -> u64 {
    rendezvous(VipId(vip.0 ^ attempt.rotate_left(32)), node) % below
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: VipId = VipId(7);

    fn standing(node: u8, priority: u8, incumbent: bool) -> Standing {
        let priority = Some(Priority(priority));
        Standing {
            node: NodeId([node; 16]),
            priority,
            pinned: false,
            incumbent,
            sick: false,
            held_down: false,
        }
    }

    fn best(preempt: bool, standings: &[Standing]) -> u8 {
        order(VIP, preempt, standings.to_vec())[0].0[0]
    }

    #[test]
    fn priority_decides() {
        assert_eq!(best(true, &[standing(1, 100, true), standing(2, 150, false)]), 2);
    }

    #[test]
    fn without_preemption_the_owner_stays() {
        assert_eq!(best(false, &[standing(1, 100, true), standing(2, 150, false)]), 1);
    }

    #[test]
    fn equal_priorities_never_move_a_vip() {
        assert_eq!(best(true, &[standing(1, 100, true), standing(2, 100, false)]), 1);
        assert_eq!(best(true, &[standing(1, 100, false), standing(2, 100, true)]), 2);
    }

    #[test]
    fn who_is_no_candidate_is_not_ranked() {
        let out = Standing { priority: None, ..standing(1, 0, true) };
        assert_eq!(order(VIP, false, vec![out, standing(2, 1, false)]), [NodeId([2; 16])]);
    }

    #[test]
    fn who_is_held_down_comes_last_and_is_not_out() {
        let held = Standing { held_down: true, ..standing(1, 200, true) };
        assert_eq!(best(false, &[held, standing(2, 1, false)]), 2);
        assert_eq!(best(false, &[held]), 1);
    }

    #[test]
    fn no_weight_makes_up_for_a_check_that_is_down() {
        let sick = Standing { sick: true, ..standing(1, 200, true) };
        let held_down = Standing { held_down: true, ..standing(2, 1, false) };
        assert_eq!(best(false, &[sick, held_down]), 2);
        assert_eq!(best(false, &[sick, Standing { sick: true, ..standing(2, 1, false) }]), 1);
    }

    #[test]
    fn many_vips_of_equal_priority_spread() {
        let nodes = [standing(1, 100, false), standing(2, 100, false)];
        let first = (0..100).filter(|n| order(VipId(*n), true, nodes.to_vec())[0].0[0] == 1).count();
        assert!((30..=70).contains(&first), "{first}");
    }
}
