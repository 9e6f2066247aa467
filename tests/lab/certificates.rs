//! Certificates are renewed before they end, and nobody notices.

use crate::alone;
use crate::lab::Lab;
use crate::nemesis::clocks;
use serde_json::Value;
use std::time::Duration;

const DAY: i64 = 86_400;

/// The days that are left of each member's certificate, as the node sees them.
fn days_left(lab: &Lab, host: usize) -> Vec<i64> {
    let all = lab.nodes[host - 1].ask("members").unwrap_or_default();
    let days = |member: &Value| member["certificate_s"].as_i64().unwrap_or_default() / DAY;
    all["members"].as_array().map(|all| all.iter().map(days).collect()).unwrap_or_default()
}

#[test]
fn a_certificate_is_renewed_in_time_and_outlives_the_first() {
    alone(|| {
        let mut lab = Lab::form_of(&["member"; 3], "10.0.0.100/24", clocks::give);
        assert_eq!(days_left(&lab, 1), [29; 3]);
        let pass = |lab: &Lab, days: i64| lab.nodes.iter().for_each(|node| clocks::step(node, days * DAY));
        let renewed = |lab: &mut Lab| {
            pass(lab, 25);
            lab.until("all certificates are new, and all know it", |lab| {
                (1..=3).all(|host| days_left(lab, host) == [29; 3])
            });
        };
        let seen = lab.observe("25 days later", Duration::from_secs(1), renewed);
        assert_eq!(seen.never_two().ends_with(1).failed(), 0);
        // The first ones have ended long ago.
        pass(&lab, 45);
        lab.node(2).kill();
        std::thread::sleep(Duration::from_secs(1));
        lab.node(2).start();
        lab.until("lb2 is back", |lab| {
            lab.nodes[0].ask("status").is_some_and(|all| all["cluster"]["voters_in_contact"] == 3)
        });
        lab.nodes[0].must(&["move", "10.0.0.100", "lb2"]);
    });
}
