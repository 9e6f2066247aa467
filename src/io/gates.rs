//! The [`Fence`] of this host, or why it has none: then the address's own lifetime, in whole seconds, is all that
//! ends it when the daemon cannot.

use super::fence::{Fence, FenceError, Gate};
use std::net::IpAddr;

#[derive(Debug)]
pub struct Gates {
    fence: Result<Fence, String>,
    /// How often somebody else had removed or changed the fence.
    pub repairs: u64,
    /// Renewals that the kernel refused.
    pub failures: u64,
}

impl Gates {
    /// `keep`: what an earlier run left open and this one takes over.
    #[must_use]
    pub fn start(keep: &[Gate]) -> Gates {
        let fence = Fence::start(keep).map_err(|error| error.to_string());
        if let Err(reason) = &fence {
            tracing::warn!("no fence: {reason}");
        }
        Gates { fence, repairs: 0, failures: 0 }
    }

    /// Why there is none.
    #[must_use]
    pub fn missing(&self) -> Option<&str> {
        self.fence.as_ref().err().map(String::as_str)
    }

    pub fn open(&mut self, gates: &[Gate]) -> Result<(), String> {
        let Ok(fence) = &mut self.fence else { return Ok(()) };
        match fence.open(gates) {
            Ok(opened) => {
                if opened.repaired {
                    self.repairs += 1;
                    tracing::warn!(
                        "somebody removed or changed the fence (table netdev haclusterd); it stands again"
                    );
                }
                Ok(())
            }
            Err(error) => {
                self.failures += 1;
                Err(error.to_string())
            }
        }
    }

    /// What cannot be closed closes by itself when its lease ends.
    pub fn close(&mut self, addrs: &[IpAddr]) {
        self.tell(|fence| fence.close(addrs));
    }

    pub fn forget(&mut self, addrs: &[IpAddr]) {
        self.tell(|fence| fence.forget(addrs));
    }

    fn tell(&mut self, order: impl FnOnce(&mut Fence) -> Result<(), FenceError>) {
        let Ok(fence) = &mut self.fence else { return };
        if let Err(error) = order(fence) {
            self.failures += 1;
            tracing::warn!("the fence: {error}");
        }
    }

    /// Nothing of ours stays in the ruleset.
    pub fn remove(self) {
        if let Ok(Err(error)) = self.fence.map(Fence::remove) {
            tracing::warn!("the fence stays (`nft delete table netdev haclusterd` removes it): {error}");
        }
    }
}
