//! Real endpoints on the loopback; where a process must die or a link go down, real processes and namespaces.

mod process;
mod rig;

use super::*;
use rig::{Ca, MEMBER_ALPN, eventually, pair};

#[tokio::test]
async fn datagrams_and_streams_go_both_ways() {
    let (mut a, mut b) = pair(&Ca::new()).await;
    assert!(a.transport.datagram(b.id, Bytes::from_static(b"advert")));
    assert_eq!(b.hears_datagram().await, (a.id, b"advert".to_vec()));
    assert!(b.transport.datagram(a.id, Bytes::from_static(b"answer")));
    assert_eq!(a.hears_datagram().await, (b.id, b"answer".to_vec()));

    let long = vec![7; STREAM_MAX];
    assert!(a.transport.stream(b.addr, long.clone()));
    assert_eq!(b.hears_stream().await, (a.addr, long.clone()));
    assert!(b.transport.stream(a.addr, long.clone()));
    assert_eq!(a.hears_stream().await, (b.addr, long));

    assert_eq!(a.transport.connected(), [(b.id, b.addr)]);
    assert_eq!(b.transport.connected(), [(a.id, a.addr)]);
    assert!(a.transport.rtt(b.id).unwrap() < Duration::from_secs(1));
    assert_eq!(a.transport.counters(), Counters::default());
}

#[tokio::test]
async fn who_leaves_is_missed_at_once_and_what_it_said_last_is_heard() {
    let (a, mut b) = pair(&Ca::new()).await;
    for n in 0..20u8 {
        assert!(a.transport.stream(b.addr, vec![n; 10_000]));
    }
    assert!(a.transport.datagram(b.id, Bytes::from_static(b"release")));
    a.transport.close(Duration::from_secs(60)).await;

    let (mut streams, mut released) = (0, false);
    let reason = b.hears("down", |event| match event {
        Event::Stream { .. } => {
            streams += 1;
            None
        }
        Event::Datagram { .. } => {
            released = true;
            None
        }
        Event::Down { reason, .. } => Some(reason),
        _ => None,
    });
    assert!(reason.await.contains("this node leaves"));
    assert_eq!((streams, released), (20, true));
    assert!(!a.transport.datagram(b.id, Bytes::new()), "a closed transport sends nothing");
}

#[tokio::test]
async fn a_peer_without_a_connection_costs_a_count_and_nothing_else() {
    let node = Ca::new().node();
    assert!(!node.transport.datagram(NodeId([9; 16]), Bytes::new()));
    assert!(!node.transport.stream(([127, 0, 0, 1], 1).into(), vec![]));
    let counters = node.transport.counters();
    assert_eq!((counters.datagrams_dropped, counters.streams_dropped), (1, 1));
}

#[tokio::test]
async fn a_node_of_another_cluster_gets_no_further_than_the_handshake() {
    let mut inside = Ca::new().node();
    let papers = Ca::new().papers();
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let client = papers.client(MEMBER_ALPN, true);
    assert!(endpoint.connect_with(client, inside.addr, rig::NAME).unwrap().await.is_err());
    eventually("the failure is counted", || inside.transport.counters().handshakes_failed == 1).await;
    assert!(inside.heard.try_recv().is_err(), "nothing is told about strangers");
}

#[tokio::test]
async fn a_client_that_trusts_us_but_is_not_ours_is_never_up() {
    let (ca, other) = (Ca::new(), Ca::new());
    let mut inside = ca.node();
    let impostor = ca.papers().with_certificate_of(&other.papers());
    let mut outside = impostor.start(([127, 0, 0, 1], 0).into());
    outside.keep(&[&inside]);
    eventually("the dial fails", || outside.transport.counters().dials_failed >= 2).await;
    assert!(inside.transport.counters().handshakes_failed >= 2);
    assert!(inside.heard.try_recv().is_err());
    assert!(outside.heard.try_recv().is_err(), "TLS had told the client that it was connected");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_closed_and_counted() {
    let ca = Ca::new();
    let mut node = ca.node();
    let connection = ca.papers().dial(node.addr, MEMBER_ALPN, false).await;
    assert!(connection.closed().await.to_string().contains("not a member"));
    assert_eq!(node.transport.counters().unknown, 1);
    assert!(node.heard.try_recv().is_err());
}

#[tokio::test]
async fn a_joining_node_is_handed_over() {
    let ca = Ca::new();
    let mut node = ca.node();
    let connection = ca.papers().dial(node.addr, JOIN_ALPN, false).await;
    let joining = |event| if let Event::Join(connection) = event { Some(connection) } else { None };
    let theirs = node.hears("join", joining).await;
    theirs.close(code::LEAVING, b"done");
    assert!(connection.closed().await.to_string().contains("done"));
    assert!(node.transport.connected().is_empty());
}

#[tokio::test]
async fn too_many_joining_nodes_are_sent_away() {
    let ca = Ca::new();
    let (node, papers) = (ca.node(), ca.papers());
    let mut joining = vec![];
    for _ in 0..accept::JOINS {
        joining.push(papers.dial(node.addr, JOIN_ALPN, false).await);
    }
    eventually("all places are taken", || node.transport.0.joins.available_permits() == 0).await;
    let late = papers.dial(node.addr, JOIN_ALPN, false).await;
    assert!(late.closed().await.to_string().contains("too many"));
    assert_eq!(node.transport.counters().refused, 1);
}

#[tokio::test]
async fn a_crowd_of_handshakes_keeps_no_member_out() {
    let ca = Ca::new();
    let (mut node, mut member, papers) = (ca.node(), ca.node(), ca.papers());
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let dial = |_| endpoint.connect_with(papers.client(MEMBER_ALPN, false), node.addr, rig::NAME).unwrap();
    let crowd = tokio::spawn(futures::future::join_all((0..60).map(dial)));
    member.keep(&[&node]);
    node.hears_up(member.id).await;
    member.hears_up(node.id).await;
    let crowd = crowd.await.unwrap();
    let Counters { unknown, refused, .. } = node.transport.counters();
    let entered = crowd.iter().filter(|handshake| handshake.is_ok()).count() as u64;
    assert!(unknown <= entered && entered + refused >= 60, "{unknown} {entered} {refused}");
}

#[tokio::test]
async fn another_host_with_our_key_is_told_apart() {
    let ca = Ca::new();
    let papers = ca.papers();
    let (mut original, mut copy) =
        (papers.start(([127, 0, 0, 1], 0).into()), papers.start(([127, 0, 0, 1], 0).into()));
    copy.transport.set_peers(&[(None, original.addr)]);
    let clone = |event| if let Event::Clone { addr } = event { Some(addr) } else { None };
    assert_eq!(original.hears("clone", clone).await, copy.addr);
    assert_eq!(copy.hears("clone", clone).await, original.addr);
    assert!(original.transport.connected().is_empty() && copy.transport.connected().is_empty());
}

#[tokio::test]
async fn another_node_at_the_expected_address_is_not_taken_for_the_peer() {
    let ca = Ca::new();
    let (a, b) = (ca.node(), ca.node());
    a.transport.set_peers(&[(Some(NodeId([9; 16])), b.addr)]);
    eventually("the dial fails", || a.transport.counters().dials_failed > 0).await;
    assert!(a.transport.connected().is_empty());
}

#[tokio::test]
async fn what_is_too_long_is_dropped_and_counted_and_the_connection_goes_on() {
    let ca = Ca::new();
    let (a, mut b) = pair(&ca).await;
    assert!(!a.transport.datagram(b.id, vec![0; 2000].into()));
    assert!(!a.transport.stream(b.addr, vec![0; STREAM_MAX + 1]));
    assert_eq!(a.transport.counters().oversize, 2);

    let raw = ca.papers().dial(b.addr, MEMBER_ALPN, true).await;
    let mut stream = raw.open_uni().await.unwrap();
    let _ = stream.write_all(&vec![0; STREAM_MAX + 1]).await;
    let _ = stream.finish();
    eventually("their stream is counted", || b.transport.counters().oversize == 1).await;
    raw.send_datagram(Bytes::from_static(b"still here")).unwrap();
    assert_eq!(b.hears_datagram().await.1, b"still here");
}

#[tokio::test]
async fn a_peer_that_never_ends_its_streams_stalls_nobody_else() {
    let ca = Ca::new();
    let (a, mut b) = pair(&ca).await;
    let raw = ca.papers().dial(b.addr, MEMBER_ALPN, true).await;
    let mut held = vec![];
    for _ in 0..60 {
        let mut stream = raw.open_uni().await.unwrap();
        stream.write_all(b"and").await.unwrap();
        held.push(stream);
    }
    assert!(a.transport.stream(b.addr, b"prompt".to_vec()));
    assert_eq!(b.hears_stream().await, (a.addr, b"prompt".to_vec()));
    eventually("they are given up", || b.transport.counters().unfinished >= 8).await;
}

#[tokio::test]
async fn simultaneous_dials_converge_on_the_smaller_diallers_connection() {
    let ca = Ca::new();
    let (mut a, mut b) = (ca.node(), ca.node());
    let to = |node: &rig::Node| dial::Peer { node: Some(node.id), addr: node.addr };
    let (first, second) =
        tokio::join!(dial::dial(&a.transport.0, to(&b)), dial::dial(&b.transport.0, to(&a)));
    first.unwrap();
    second.unwrap();
    a.hears_up(b.id).await;
    b.hears_up(a.id).await;
    let dialler =
        |of: &rig::Node, to: &rig::Node| of.transport.0.links.to_node(to.id).unwrap().origin.dialler;
    eventually("both have both", || [&a, &b].iter().all(|n| n.transport.0.links.all().len() == 2)).await;
    assert_eq!(dialler(&a, &b), a.id.min(b.id));
    assert_eq!(dialler(&b, &a), a.id.min(b.id));
    assert!(a.heard.try_recv().is_err(), "one Up, whatever the number of connections");
}

#[tokio::test]
async fn the_newest_of_many_connections_is_written_to_and_the_oldest_closed() {
    let ca = Ca::new();
    let (node, papers) = (ca.node(), ca.papers());
    let mut theirs = vec![];
    for _ in 0..6 {
        let connection = papers.dial(node.addr, MEMBER_ALPN, true).await;
        connection.accept_uni().await.unwrap();
        theirs.push(connection);
    }
    assert!(theirs[1].closed().await.to_string().contains("newer connections"));
    assert_eq!(theirs.iter().filter(|c| c.close_reason().is_none()).count(), 4);
    assert!(node.transport.datagram(papers.id, Bytes::from_static(b"to you")));
    assert_eq!(&theirs[5].read_datagram().await.unwrap()[..], b"to you");
}

#[tokio::test]
async fn a_forbidden_node_is_closed_and_stays_out() {
    let (mut a, b) = pair(&Ca::new()).await;
    b.transport.forbid(a.id);
    assert!(a.hears_down(b.id).await.contains("removed from the cluster"));
    eventually("it comes again", || b.transport.counters().forbidden > 0).await;
    assert!(b.transport.connected().is_empty());
    assert!(a.transport.connected().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_datagrams_does_not_stop_streams() {
    let (a, mut b) = pair(&Ca::new()).await;
    let (transport, to) = (a.transport.clone(), b.id);
    let flood = tokio::spawn(async move {
        loop {
            let _ = transport.datagram(to, vec![0; 1000].into());
            tokio::task::yield_now().await;
        }
    });
    for n in 0..50u8 {
        assert!(a.transport.stream(b.addr, vec![n; 20_000]));
        let (_, bytes) = b.hears_stream().await;
        assert_eq!(bytes[0], n);
    }
    flood.abort();
}

#[tokio::test]
async fn a_dead_endpoint_is_opened_anew_at_the_same_place() {
    let (mut a, mut b) = pair(&Ca::new()).await;
    let endpoint = locked(&b.transport.0.endpoint).clone().unwrap();
    endpoint.close(code::LEAVING, b"a defect");
    drop(endpoint);
    b.hears_down(a.id).await;
    a.hears_down(b.id).await;
    a.hears_up(b.id).await;
    b.hears_up(a.id).await;
    assert_eq!(b.transport.counters().restarts, 1);
    assert_eq!(a.transport.connected(), [(b.id, b.addr)]);
}

#[tokio::test]
async fn an_address_that_cannot_be_ours_is_refused_with_the_reason() {
    let ca = Ca::new();
    let papers = ca.papers();
    let start = |bind: &str| papers.try_start(bind.parse().unwrap()).err().unwrap().to_string();
    assert!(start("0.0.0.0:7946").contains("wildcard"));
    assert!(start("203.0.113.9:7946").contains("is the address on this host"));
}
