//! What is said of particular shapes, and what is made of them.

use crate::verdict::node;
use haclusterd::config::keepalived::{Kind, Mode, read_text, to_toml};
use std::path::Path;

const INSTANCE: &str = "vrrp_instance A {
 interface eth0
 virtual_router_id 51
 virtual_ipaddress { 192.0.2.100/24 }
";

/// The findings, a line each, and the haclusterd.toml.
fn made_of(text: &str, mode: Mode) -> (String, String) {
    let mut read = read_text(text, Path::new("k.conf"), "lb1");
    let toml = to_toml(&mut read, mode, &node());
    let said: Vec<String> = read.findings.all.iter().map(ToString::to_string).collect();
    (said.join("\n"), toml)
}

#[track_caller]
fn check(text: &str, mode: Mode, said: &[&str], written: &[&str]) {
    let (all, toml) = made_of(text, mode);
    for part in said {
        assert!(all.contains(part), "{part:?} is not said:\n{all}");
    }
    for part in written {
        assert!(toml.contains(part), "{part:?} is not written:\n{toml}");
    }
}

#[test]
fn a_sync_group_of_one_tells_and_tracks() {
    let text = format!(
        "vrrp_script s {{\n script /bin/true\n}}\n{INSTANCE} notify_master /bin/own\n}}\nvrrp_sync_group G {{\n group {{ A }}\n \
         notify_master /bin/a\n notify_stop /bin/b\n track_script {{ s }}\n}}"
    );
    let one = "k.conf:10: the sync group G has one instance alone; ";
    check(&text, Mode::Vrrp, &[one], &["[[group]]", "notify_stop = [\"/bin/b\"]", "track = [\"s\"]"]);
    let twice = "notify_master of the sync group G is left out: A has one too";
    check(&text, Mode::Cluster, &[one, twice], &["[\"/bin/own\"]", "[\"/bin/b\"]", "name = \"A\""]);
}

#[test]
fn who_cannot_be_written_to_is_named_and_the_others_are_written_to() {
    let mail = "global_defs {\n notification_email {\n a@example.com\n root\n a b@\n }\n";
    let text = format!("{mail} smtp_server 192.0.2.1\n}}\n{INSTANCE}}}");
    let said = ["k.conf:5: b@ is no mail address"];
    check(&text, Mode::Vrrp, &said, &["to = [\"a@example.com\", \"root@localhost\", \"a@localhost\"]"]);
    let said = ["k.conf:3: nobody is written to, for no smtp_server is named"];
    check(&format!("{mail}}}\n{INSTANCE}}}"), Mode::Vrrp, &said, &[]);
}

#[test]
fn what_bash_knows_as_a_file_is_a_port() {
    let text = format!(
        "vrrp_script s {{\n script \"</dev/tcp/localhost/80\"\n}}\n{INSTANCE} track_script {{ s }}\n}}"
    );
    let written = ["kind = \"tcp\"\naddress = \"127.0.0.1:80\""];
    check(&text, Mode::Vrrp, &["k.conf:2: keepalived looks for a file"], &written);
}

#[test]
fn what_is_not_defined_is_told_where_it_stands() {
    let text = "vrrp_instance A {\n interface $if\n virtual_router_id $id\n}";
    let said =
        ["k.conf:2: interface $if: nothing above defines $if", "k.conf:3: virtual_router_id $id: nothing"];
    check(text, Mode::Vrrp, &said, &[]);
}

#[test]
fn an_address_owner_tracks_nothing_with_a_weight() {
    let text = format!(
        "vrrp_script s {{\n script /bin/true\n}}\n{INSTANCE} priority 255\n track_script {{ s weight 5\n }}\n}}"
    );
    check(&text, Mode::Vrrp, &["A: s is not tracked, for 255 is no sum"], &["track = []"]);
}

#[test]
fn a_virtual_mac_has_a_name_or_an_address() {
    let one = |word: &str| format!("{INSTANCE} use_vmac {word}\n}}");
    check(&one("v0"), Mode::Vrrp, &[], &["virtual_mac = true", "virtual_mac_interface = \"v0\""]);
    check(&one("02:00:00:00:00:01"), Mode::Vrrp, &["a MAC of one's own"], &["virtual_mac = true"]);
    check(&one("01:00:5e:00:00:01"), Mode::Vrrp, &["is a multicast MAC"], &["virtual_mac = true"]);
}

#[test]
fn without_an_address_it_is_told_what_goes_along() {
    let text = "vrrp_instance A {\n interface eth0\n virtual_router_id 51\n notify_master /bin/a\n}";
    check(text, Mode::Vrrp, &["is left out, with what it tracks and notifies"], &[]);
}

#[test]
fn a_brace_that_is_missing_is_looked_for_where_the_next_block_begins() {
    let text = format!("vrrp_script s {{\n script /bin/true\n{INSTANCE}}}\n");
    check(&text, Mode::Vrrp, &["close the block above vrrp_instance A in line 3"], &[]);
}

#[test]
fn rules_without_a_priority_are_counted_down_over_the_whole_file() {
    let rules = |more: &str| format!("virtual_rules {{\n from 192.0.2.0/24 table 5\n{more} }}\n}}\n");
    let second = INSTANCE.replace("instance A", "instance B").replace(" 51", " 52").replace(".100", ".101");
    let text = format!(
        "static_rules {{\n from 198.51.100.0/24 table 5\n}}\n{INSTANCE}{}{second}{}",
        rules(""),
        rules(" from 2001:db8::/64 table 5\n")
    );
    let said = ["k.conf:9: the rule has no priority, and gets 16383", "16382", "gets 16384"];
    check(
        &text,
        Mode::Vrrp,
        &said,
        &["lookup 5 priority 16383", "lookup 5 priority 16382", "lookup 5 priority 16384"],
    );
}

#[test]
fn a_missing_value_ends_keepalived_or_does_not() {
    let of = |word: &str| {
        let text = format!("global_defs {{\n {word}\n}}\n{INSTANCE}}}\n");
        let read = read_text(&text, Path::new("k.conf"), "lb1");
        read.findings.all.iter().map(|finding| finding.kind).collect::<Vec<Kind>>()
    };
    assert!(of("umask").contains(&Kind::Fatal));
    assert!(of("debug").contains(&Kind::Fatal));
    assert_eq!(of("router_id"), [Kind::Invalid]);
}

#[test]
fn an_address_that_cannot_be_taken_goes_alone() {
    let text = format!(
        "{INSTANCE} virtual_ipaddress_excluded {{\n 192.0.2.102\n 192.0.2.255/24\n 192.0.2.103\n }}\n}}"
    );
    check(&text, Mode::Vrrp, &["k.conf:7: "], &["192.0.2.102/32", "192.0.2.103/32"]);
}

#[test]
fn what_is_too_much_is_told_and_the_others_are_written() {
    let addresses = |from: u32, count: u32| -> String {
        (from..from + count).map(|i| format!(" 10.0.{}.{}\n", i / 256, i % 256)).collect()
    };
    let mut text = String::new();
    for i in 0..6 {
        let own = addresses(1 + i * 200, 200);
        text += &format!(
            "vrrp_instance I{i} {{\n interface eth0\n virtual_router_id {}\n virtual_ipaddress {{\n{own} }}\n}}\n",
            i + 1
        );
    }
    check(&text, Mode::Vrrp, &["I5 is left out: with its addresses there are more than 1024"], &["\"I4\""]);

    let text = format!("{INSTANCE} virtual_ipaddress_excluded {{\n{} }}\n}}\n", addresses(1, 70));
    check(&text, Mode::Vrrp, &["10.0.0.65 and those after it are left out"], &["10.0.0.64/32"]);
}
