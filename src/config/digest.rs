//! A number that is equal on two nodes exactly when their shared settings are.

use super::{Config, Vip};
use ipnet::IpNet;
use std::fmt::Write;

impl Config {
    /// Over what must be the same on every node: the VIPs' addresses and preemption, the timers, the number of
    /// voters. Not over names, interfaces and the gateway, which hosts may rightly see differently.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.canonical().as_bytes());
        digest.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn canonical(&self) -> String {
        let timers = self.cluster.timers;
        let mut text = format!(
            "haclusterd configuration v1\nvoters_max {}\nadvert_us {}\nlease_us {}\n",
            self.cluster.voters_max,
            timers.advert.as_micros(),
            timers.lease.as_micros()
        );
        if self.cluster.strict_pair {
            text.push_str("on_minority release\n");
        }
        if !self.cluster.strict_health {
            text.push_str("strict_health false\n");
        }
        let mut vips: Vec<String> = self.vips.iter().map(canonical_vip).collect();
        vips.sort_unstable();
        vips.iter().for_each(|vip| text.push_str(vip));
        text
    }
}

fn canonical_vip(vip: &Vip) -> String {
    let mut addresses: Vec<IpNet> = vip.addresses.iter().map(|address| address.net).collect();
    addresses.sort_unstable();
    let mut text = "vip".to_owned();
    for address in addresses {
        let _ = write!(text, " {address}");
    }
    let _ = writeln!(text, " preempt {} delay_us {}", vip.preempt, vip.preempt_delay.as_micros());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn digest(rest: &str) -> u64 {
        let text = format!("[node]\nname = 'n'\nlisten = '10.0.0.1'\ninterface = 'eth0'\n{rest}");
        Config::parse(&text, Path::new("test.toml")).unwrap().digest()
    }

    #[test]
    fn order_names_and_interfaces_do_not_count() {
        let a =
            digest("[[vip]]\naddresses = ['10.0.0.8/24', 'fd00::8/64']\n[[vip]]\naddresses = ['10.0.0.9']");
        let b = digest(
            "[cluster]\nprofile = 'lan'\ngateway = '10.0.0.254'\n[[vip]]\nname = 'x'\ninterface = 'eth7'\n\
             addresses = '10.0.0.9/32'\n[[vip]]\naddresses = ['fd00::8/64', '10.0.0.8/24']",
        );
        assert_eq!(a, b);
    }

    #[test]
    fn what_must_be_equal_counts() {
        let base = digest("[[vip]]\naddresses = ['10.0.0.9']");
        for other in [
            "[[vip]]\naddresses = ['10.0.0.8']",
            "[[vip]]\naddresses = ['10.0.0.9/24']",
            "[[vip]]\naddresses = ['10.0.0.9']\npreempt = false",
            "[[vip]]\naddresses = ['10.0.0.9']\npreempt_delay = '5s'",
            "[cluster]\nprofile = 'wan'\n[[vip]]\naddresses = ['10.0.0.9']",
            "[cluster]\nstrict_health = false\n[[vip]]\naddresses = ['10.0.0.9']",
            "[cluster]\nvoters_max = 5\n[[vip]]\naddresses = ['10.0.0.9']",
            "",
        ] {
            assert_ne!(base, digest(other), "{other}");
        }
    }

    #[test]
    fn the_value_is_the_same_in_every_release() {
        assert_eq!(digest(""), 15_872_980_427_282_132_234);
    }
}
