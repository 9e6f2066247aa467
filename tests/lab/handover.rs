//! From VRRP to the cluster: the VIP stays where it is, and no client notices.

use crate::alone;
use crate::lab::Lab;
use rustix::process::Signal;
use std::net::IpAddr;
use std::time::Duration;

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 100));
const VIP: &str = "[[vip]]\naddresses = ['10.0.0.100/24']\n";
const VRRP: &str = "[[vrrp]]\nvrid = 51\nadvert_interval = '100ms'\naddresses = ['10.0.0.100/24']\n";

/// A cluster that has another VIP so far.
fn form() -> Lab {
    let mut lab = Lab::form(&["member", "member", "witness"], "10.0.0.99/24");
    lab.vip = vec![ADDRESS];
    lab
}

fn reload(lab: &mut Lab, host: usize, base: &str, more: &[&str]) {
    lab.node(host).set_config(&(base.to_owned() + &more.concat()));
    lab.node(host).signal(Signal::HUP);
}

fn owned_by_the_cluster(lab: &Lab, host: usize) -> bool {
    let status = lab.nodes[host - 1].ask("status").unwrap_or_default();
    let vips = status["vips"].as_array().cloned().unwrap_or_default();
    vips.iter()
        .any(|vip| vip["name"] == "10.0.0.100" && vip["mine"] == true && vip["term"].as_u64() > Some(0))
}

/// `order`: in which the hosts are told that VRRP is no longer needed.
fn goes_over(order: [usize; 2]) {
    let mut lab = form();
    let bases = [lab.node(1).config(), lab.node(2).config()];
    for host in [1, 2] {
        reload(&mut lab, host, &bases[host - 1], &[VRRP]);
    }
    let net = lab.net;
    lab.until("lb1 is the master", |_| net.has(1, ADDRESS) && !net.has(2, ADDRESS));
    let seen = lab.observe("VRRP and the cluster", Duration::from_secs(2), |lab| {
        [1, 2].iter().for_each(|&host| reload(lab, host, &bases[host - 1], &[VIP, VRRP]));
        lab.until("the cluster's owner is the master", |lab| owned_by_the_cluster(lab, 1));
    });
    assert_eq!((seen.holding.order.as_slice(), seen.failed()), (&[1][..], 0), "{seen:?}");
    let seen = lab.observe("the cluster alone", Duration::from_secs(2), |lab| {
        order.iter().for_each(|&host| {
            reload(lab, host, &bases[host - 1], &[VIP]);
            std::thread::sleep(Duration::from_secs(1));
        });
    });
    assert_eq!((seen.holding.order.as_slice(), seen.failed()), (&[1][..], 0), "{seen:?}");
    let seen = lab.observe("and its owner is lost", Duration::from_secs(2), |lab| lab.net.cut(1));
    assert!(seen.gap() < Duration::from_millis(900), "{seen:?}");
    seen.never_two();
}

#[test]
fn a_vip_goes_over_to_the_cluster_unnoticed() {
    alone(|| {
        goes_over([1, 2]);
        goes_over([2, 1]);
    });
}

/// Until VRRP is given up, it decides; and the way back is open.
#[test]
fn before_that_vrrp_decides_and_the_cluster_follows() {
    alone(|| {
        let mut lab = form();
        let bases = [lab.node(1).config(), lab.node(2).config()];
        [1, 2].iter().for_each(|&host| reload(&mut lab, host, &bases[host - 1], &[VIP, VRRP]));
        lab.until("the cluster's owner is the master", |lab| owned_by_the_cluster(lab, 1));
        let seen = lab.observe("the master's nginx is killed", Duration::from_secs(2), |lab| {
            lab.node(1).kill_nginx();
        });
        assert_eq!(seen.ends_with(2).failed(), 0, "{seen:?}");
        assert!(seen.never_two().gap() < Duration::from_millis(200), "priority 0 is heeded: {seen:?}");
        lab.until("the cluster follows", |lab| owned_by_the_cluster(lab, 2));
        lab.node(1).start_nginx();
        let seen = lab.observe("back to VRRP", Duration::from_secs(2), |lab| {
            [1, 2].iter().for_each(|&host| reload(lab, host, &bases[host - 1], &[VRRP]));
        });
        seen.never_two();
        assert!(seen.failed() <= 1, "a request that was under way when lb1 took it back: {seen:?}");
    });
}
