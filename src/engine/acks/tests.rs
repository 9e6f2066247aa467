use super::*;

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 100));

fn vip(number: u64) -> VipId {
    VipId(number)
}

fn ip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn peer(last: u8) -> Peer {
    Peer { addr: ip(last), mac: Some(MacAddr([2, 0, 0, 0, 0, last])), gateway: false }
}

fn gateway() -> Peer {
    Peer { addr: ip(254), mac: None, gateway: true }
}

fn begun(peers: &[Peer]) -> Acks {
    let mut acks = Acks::default();
    begin(&mut acks, vip(1), peers);
    acks
}

fn begin(acks: &mut Acks, vip: VipId, peers: &[Peer]) {
    acks.begin(vip);
    acks.meet(peers.iter().map(|peer| (vip, 7, FROM, *peer)));
}

fn asked(acks: &mut Acks) -> Vec<IpAddr> {
    acks.ask(&[vip(1)]).iter().map(|question| question.to).collect()
}

#[test]
fn who_has_answered_is_asked_no_more() {
    let mut acks = begun(&[gateway(), peer(7), peer(8)]);
    assert_eq!(asked(&mut acks), [ip(254), ip(7), ip(8)]);
    acks.answered(vip(1), FROM, ip(7));
    acks.answered(vip(1), FROM, ip(7));
    acks.answered(vip(1), FROM, ip(99));
    assert_eq!(asked(&mut acks), [ip(254), ip(8)]);
    let verdict = acks.verdict(vip(1)).unwrap();
    assert_eq!((verdict.asked, verdict.acked), (3, 1));
    assert_eq!(acks.counts, Counts { asked: 5, acked: 1, silent: 0, left_out: 0 });
}

#[test]
fn when_all_have_answered_it_is_said_once() {
    let mut acks = begun(&[peer(7)]);
    asked(&mut acks);
    acks.answered(vip(1), FROM, ip(7));
    assert_eq!(acks.news(vip(1), false), None, "more neighbours may be found");
    asked(&mut acks);
    asked(&mut acks);
    let news = acks.news(vip(1), false).unwrap();
    assert_eq!(news.to_string(), "1 of 1 neighbour acknowledged that it is here");
    assert_eq!(acks.news(vip(1), true), None);
    assert_eq!(acks.verdict(vip(1)), Some(news));
    assert_eq!(asked(&mut acks), Vec::<IpAddr>::new());
}

#[test]
fn the_same_is_not_said_again_when_it_is_announced_again() {
    let mut acks = begun(&[peer(7), peer(8)]);
    for (answers, text) in [
        (&[7][..], Some("1 of 2 neighbours acknowledged that it is here; no answer from 10.0.0.8")),
        (&[7][..], None),
        (&[7, 8][..], Some("2 of 2 neighbours acknowledged that it is here")),
    ] {
        asked(&mut acks);
        answers.iter().for_each(|last| acks.answered(vip(1), FROM, ip(*last)));
        let news = acks.news(vip(1), true).map(|verdict| verdict.to_string());
        assert_eq!(news.as_deref(), text);
        begin(&mut acks, vip(1), &[peer(7), peer(8)]);
    }
}

#[test]
fn an_answer_to_one_address_is_not_one_to_all() {
    let mut acks = begun(&[peer(7)]);
    acks.meet([(vip(1), 7, ip(101), peer(7))]);
    assert_eq!(acks.ask(&[vip(1)]).len(), 2);
    acks.answered(vip(1), ip(101), ip(7));
    assert_eq!(
        acks.news(vip(1), true),
        Some(Verdict { asked: 1, acked: 0, silent: vec![ip(7)] }),
        "it may still have the other elsewhere"
    );
}

#[test]
fn one_host_is_asked_once_whatever_its_addresses() {
    let other = Peer { addr: ip(17), ..peer(7) };
    assert_eq!(asked(&mut begun(&[peer(7), other, peer(7)])), [ip(7)]);
}

#[test]
fn the_third_question_goes_to_everybody() {
    let mut acks = begun(&[peer(7)]);
    let mut direct = || acks.ask(&[vip(1)])[0].mac.is_some();
    assert_eq!([direct(), direct(), direct(), direct()], [true, true, false, false]);
}

#[test]
fn of_many_vips_only_the_gateway_is_asked() {
    let mut acks = Acks::default();
    let peers: Vec<Peer> = (1..=10).map(peer).chain([gateway()]).collect();
    let vips: Vec<VipId> = (1..=100).map(vip).collect();
    vips.iter().for_each(|vip| begin(&mut acks, *vip, &peers));
    let first = acks.ask(&vips);
    assert_eq!(first.len(), MAX_ROUND);
    assert_eq!(first.iter().filter(|question| question.to == ip(254)).count(), 100);
    acks.ask(&vips);
    acks.meet(vips.iter().flat_map(|vip| peers.iter().map(|peer| (*vip, 7, FROM, *peer))));
    assert_eq!(acks.counts.left_out, 1000 - MAX_OTHERS as u64);
}

#[test]
fn who_was_asked_least_comes_first() {
    let mut acks = Acks::default();
    let vips: Vec<VipId> = (1..=1000).map(vip).collect();
    vips.iter().for_each(|vip| begin(&mut acks, *vip, &[gateway()]));
    (0..8).for_each(|_| assert_eq!(acks.ask(&vips).len(), MAX_ROUND));
    let asked = |vip: &&VipId| acks.verdict(**vip).unwrap().asked == 1;
    assert_eq!(vips.iter().filter(asked).count(), 1000);
}

#[test]
fn what_could_not_be_asked_did_not_fail_to_answer() {
    let mut acks = begun(&[peer(7)]);
    assert_eq!(acks.news(vip(1), true), None);
    assert_eq!(acks.verdict(vip(1)), Some(Verdict::default()));
    acks.forget(vip(1));
    assert_eq!(acks.verdict(vip(1)), None);
}

#[test]
fn a_line_names_a_few_and_counts_the_rest() {
    let silent = (1..=10).map(ip).collect();
    let text = Verdict { asked: 12, acked: 2, silent }.to_string();
    assert!(text.starts_with("2 of 12 neighbours"), "{text}");
    assert!(text.ends_with("10.0.0.7, 10.0.0.8 and 2 more"), "{text}");
}
