//! What an operator does by hand: move a VIP, let a node stand by, ask what would be, and what was.

use crate::alone;
use crate::lab::Lab;
use crate::net::{CLIENT, Net};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Output;
use std::time::Duration;

const THREE: &[&str] = &["member", "member", "member"];
const VIP: &str = "10.0.0.100/24";
const SECOND: Duration = Duration::from_secs(1);

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The exit code is that, and the words are said.
fn ends(lab: &Lab, host: usize, words: &str, code: i32, text: &str) {
    let output = lab.nodes[host - 1].run(&words.split(' ').collect::<Vec<_>>());
    let said = said(&output);
    assert!(
        output.status.code() == Some(code) && said.contains(text),
        "{words}: {:?}: {said}",
        output.status
    );
}

#[test]
fn a_vip_goes_where_an_operator_wants_it() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        // From any node, and from one that is not concerned.
        let seen =
            lab.observe("moved by hand", SECOND, |lab| ends(lab, 3, "move 10.0.0.100 lb2", 0, "goes to lb2"));
        // What is answered in more than half a millisecond may be cut off.
        assert!(seen.never_two().ends_with(2).failed() <= 1);
        ends(&lab, 1, "status", 0, "moved here by an operator");
        ends(&lab, 1, "move 10.0.0.100 lb9", 1, "no member is named lb9");
        ends(&lab, 1, "move 10.9.9.9 lb1", 1, "there is no VIP 10.9.9.9");
        // Another move is the last word.
        ends(&lab, 2, "move 10.0.0.100 lb3 --for 3s", 0, "goes to lb3");
        std::thread::sleep(SECOND);
        lab.until_owned_by(3);
        // Then the priorities count again.
        lab.until_owned_by(1);
        ends(&lab, 2, "move 10.0.0.100 lb2", 0, "goes to lb2");
        let seen = lab.observe("its nginx killed", SECOND * 2, |lab| lab.node(2).kill_nginx());
        seen.never_two().ends_with(1);
        ends(&lab, 1, "move 10.0.0.100 lb2", 1, "could not own");
        lab.node(2).start_nginx();
        // lb2 is still the one that was named.
        lab.until_owned_by(2);
        ends(&lab, 2, "move 10.0.0.100 auto", 0, "by priorities again");
        lab.until_owned_by(1);
    });
}

#[test]
fn a_node_that_stands_by_owns_nothing() {
    alone(|| {
        let mut lab = Lab::form(THREE, VIP);
        ends(&lab, 2, "simulate --down lb1", 0, "lb2");
        ends(&lab, 2, "simulate --down lb1 --down lb3", 2, "too few");
        let stand_by = |lab: &mut Lab| ends(lab, 1, "standby --wait", 0, "stands by");
        let seen = lab.observe("standby", SECOND, stand_by);
        // What is answered in more than half a millisecond may be cut off.
        assert!(seen.never_two().ends_with(2).failed() <= 1);
        ends(&lab, 3, "members", 0, "standby");
        // Also after a restart.
        lab.node(1).signal(Signal::TERM);
        lab.node(1).reap();
        lab.node(1).start();
        let is_back = |lab: &Lab| {
            lab.nodes[0].ask("status").is_some_and(|all| all["cluster"]["voters_in_contact"] == 3)
        };
        lab.until("lb1 votes again", is_back);
        std::thread::sleep(SECOND);
        lab.until_owned_by(2);
        ends(&lab, 1, "events", 0, "stands by: an operator said so");
        lab.node(3).kill_nginx();
        let nobody = ["simulate", "--down", "lb2"];
        lab.until("lb3 is out", |lab| lab.nodes[1].run(&nobody).status.code() == Some(2));
        ends(&lab, 2, "standby", 1, "nobody else could own");
        ends(&lab, 1, "unstandby", 0, "a candidate again");
        lab.until_owned_by(1);
    });
}

#[test]
fn a_file_is_taken_whole_or_not_at_all_and_who_may_only_look_changes_nothing() {
    alone(|| {
        let lab = Lab::form(THREE, VIP);
        let node = &lab.nodes[0];
        ends(&lab, 1, "priority set 20", 0, "priority 20");
        lab.until_owned_by(2);
        assert!(node.config().contains("priority = 20"));
        let good = node.config();
        node.set_config(&good.replace("profile = \"lan\"", "profile = \"quick\""));
        ends(&lab, 1, "reload", 1, "cluster.profile");
        ends(&lab, 1, "priority set 90", 1, "cluster.profile");
        assert!(node.config().contains("priority = 20"), "what was refused is put back");
        node.set_config(
            &(good.replace("priority = 20", "priority = 150") + "\n[web]\nlisten = \"10.0.0.11:9746\"\n"),
        );
        ends(&lab, 1, "reload", 0, "is in force");
        lab.until_owned_by(1);
        assert!(fetch(lab.net, "/metrics").contains("haclusterd_vip_owner{vip=\"10.0.0.100\"} 1.0"));
        assert!(fetch(lab.net, "/healthz").ends_with("ok\n"));
        ends(&lab, 1, "metrics", 0, "haclusterd_voters_in_contact 3.0");
    });
}

/// The web server of lb1 begins to listen a moment after the reload.
fn fetch(net: Net, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    let ask = move || -> std::io::Result<String> {
        let mut stream = TcpStream::connect("10.0.0.11:9746")?;
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let asked = net.inside(CLIENT, move || {
        (0..50).find_map(|_| {
            std::thread::sleep(Duration::from_millis(100));
            ask().ok()
        })
    });
    asked.join().unwrap().expect("it answers")
}
