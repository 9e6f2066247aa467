//! Cases of voters that operators change, and of what they are told.

use crate::alone;
use crate::lab::Lab;
use rustix::process::Signal;
use std::time::Duration;

const VIP: &str = "10.0.0.100/24";

fn voters(lab: &Lab) -> Vec<String> {
    let status = lab.nodes[0].ask("status").unwrap_or_default();
    let all = status["cluster"]["voters"].as_array().cloned().unwrap_or_default();
    all.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

fn refused(lab: &Lab, host: usize, words: &[&str]) -> String {
    let done = lab.nodes[host - 1].run(words);
    assert_eq!(done.status.code(), Some(1), "{words:?}: {}", String::from_utf8_lossy(&done.stdout));
    String::from_utf8(done.stderr).unwrap()
}

#[test]
fn voters_are_added_removed_and_made_witnesses_by_command() {
    alone(|| {
        let mut lab = Lab::form(&["member", "member", "member", "member"], VIP);
        let fourth =
            (2..=4).map(|host| format!("lb{host}")).find(|name| !voters(&lab).contains(name)).unwrap();
        let add = |lab: &mut Lab| {
            lab.nodes[0].must(&["voter", "add", &fourth]);
            lab.nodes[0].must(&["voter", "remove", "lb2"]);
            lab.nodes[0].must(&["voter", "add", "lb3", "--witness"]);
        };
        lab.observe("voters changed by command", Duration::from_secs(1), add).never_two().ends_with(1);
        let mut now = voters(&lab);
        now.sort_unstable();
        assert_eq!(now, ["lb1", "lb3", "lb4"]);
        assert!(lab.nodes[0].must(&["voter", "list"]).contains("lb3 (witness), "));
        assert!(refused(&lab, 2, &["voter", "add", "lb2"]).contains("run this on lb1"));
        assert!(refused(&lab, 1, &["voter", "add", "lb9"]).contains("the members are lb"));
        assert!(refused(&lab, 1, &["voter", "remove", "lb2"]).contains("does not vote"));
        // The best of those that may hold it.
        let kill = |lab: &mut Lab| {
            lab.node(2).kill_nginx();
            lab.node(1).kill_nginx();
        };
        lab.observe("witness by command", Duration::from_secs(2), kill).never_two().ends_with(4);
        lab.nodes[0].must(&["voter", "auto"]);
    });
}

#[test]
fn of_two_administrators_one_is_refused() {
    alone(|| {
        let lab = Lab::form(&["member", "member", "member", "member"], VIP);
        lab.nodes[0].must(&["voter", "remove", &voters(&lab)[1]]);
        // The first waits until the last change has settled.
        let all: Vec<_> = std::thread::scope(|scope| {
            let ask = |name| {
                let node = &lab.nodes[0];
                scope.spawn(move || node.run(&["voter", "add", name]))
            };
            let asked = ["lb2", "lb3", "lb4"].map(ask);
            asked.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let said: Vec<String> =
            all.iter().map(|done| String::from_utf8_lossy(&done.stderr).into_owned()).collect();
        let refused = said.iter().filter(|text| text.contains("another change is under way"));
        assert!(refused.count() >= 1, "{said:?}");
        assert!(all.iter().any(|done| done.status.success()), "{said:?}");
    });
}

#[test]
fn a_member_that_is_gone_for_good_is_removed() {
    alone(|| {
        let mut lab = Lab::form(&["member", "member", "member", "member"], VIP);
        assert!(refused(&lab, 1, &["remove", "lb3"]).contains("is alive"));
        lab.node(3).kill();
        lab.until("its silence is noticed", |lab| lab.nodes[0].run(&["remove", "lb3"]).status.success());
        for host in [1, 2, 4] {
            lab.until("it is no member", |lab| {
                let members = lab.nodes[host - 1].ask("members").unwrap_or_default();
                let all = members["members"].as_array().cloned().unwrap_or_default();
                all.len() == 3 && all.iter().all(|member| member["name"] != "lb3")
            });
        }
        lab.node(3).start();
        lab.until("the others refuse it", |lab| lab.nodes[2].log().contains("removed from the cluster"));
        lab.until("another votes instead", |lab| voters(lab).len() == 3);
        assert_eq!(lab.vip(1)["mine"], true);
    });
}

#[test]
fn a_lost_majority_is_recovered_by_an_operator_who_vouches() {
    alone(|| {
        let mut lab = Lab::form(&["member", "member", "member"], VIP);
        assert!(
            refused(&lab, 1, &["voter", "recover", "--keep", "lb1", "--the-others-are-off"])
                .contains("nothing is to be recovered")
        );
        lab.node(2).kill();
        lab.node(3).kill();
        lab.until("nobody owns it", |lab| lab.vip(1)["state"] == "unowned");
        assert!(refused(&lab, 1, &["voter", "recover", "--keep", "lb1"]).contains("--the-others-are-off"));
        lab.nodes[0].must(&["voter", "recover", "--keep", "lb1", "--the-others-are-off"]);
        lab.until_owned_by(1);
        lab.node(2).start();
        lab.node(3).start();
        lab.until("all vote again", |lab| voters(lab).len() == 3);
    });
}

/// The pair's majority is both.
#[test]
fn two_nodes_that_need_each_other_never_split() {
    alone(|| {
        let mut lab = Lab::form(&["member", "member"], VIP);
        for host in 1..=2 {
            let strict = lab.node(host).config().replace("[cluster]", "[cluster]\non_minority = \"release\"");
            lab.node(host).set_config(&strict);
            lab.node(host).signal(Signal::HUP);
        }
        lab.until("a majority is two", |lab| {
            (0..2).all(|at| lab.nodes[at].ask("status").is_some_and(|s| s["cluster"]["mode"] == "quorum"))
        });
        lab.until_owned_by(1);
        let apart = lab.observe("two strict nodes: cut apart", Duration::from_secs(2), |lab| lab.net.cut(1));
        assert_eq!(
            (apart.never_two().holding.holders.len(), lab.vip(2)["state"].as_str()),
            (0, Some("unowned"))
        );
        let whole =
            lab.observe("two strict nodes: whole again", Duration::from_secs(3), |lab| lab.net.mend());
        whole.never_two().ends_with(1);
        assert!(whole.clients[0].answered.len() <= 3, "no to and fro: {whole:?}");
    });
}

#[test]
fn an_nginx_that_fails_again_and_again_comes_last_for_a_while() {
    alone(|| {
        let mut lab = Lab::form(&["member", "member", "member"], VIP);
        for _ in 0..3 {
            lab.node(1).kill_nginx();
            lab.until_owned_by(2);
            lab.node(1).start_nginx();
            lab.until("nginx is well again", |lab| {
                let members = lab.nodes[1].ask("members").unwrap_or_default();
                members["members"][0]["health"] == "ok"
            });
            if lab.nodes[1].ask("members").unwrap()["members"][0]["held_down_ms"].is_null() {
                lab.until_owned_by(1);
            }
        }
        assert_eq!(lab.vip(2)["mine"], true);
        let said = String::from_utf8(lab.nodes[0].run(&["status"]).stdout).unwrap();
        assert!(said.contains("lb1 has failed again and again: held down for"), "{said}");
        let nginx = |lab: &mut Lab| {
            lab.node(2).kill_nginx();
            lab.node(3).kill_nginx();
        };
        lab.observe("only who is held down is well", Duration::from_secs(1), nginx).never_two().ends_with(1);
    });
}
