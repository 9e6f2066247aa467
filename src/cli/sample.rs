//! Snapshots for the tests of what is printed.

use haclusterd_proto::Role;
use haclusterd_proto::control::{
    Cluster, Event, Health, Member, MemberState, Mode, SCHEMA, Snapshot, Vip, VipState,
};
use haclusterd_proto::member::CheckState;

const DAY_MS: u64 = 86_400_000;

/// lb1 answers and holds the one VIP, which has two addresses.
pub fn three_nodes() -> Snapshot {
    Snapshot {
        schema: SCHEMA,
        version: "0.1.0".into(),
        node: "lb1".into(),
        cluster: Cluster {
            id: "3f9a01bc5d6e7f8091a2b3c4d5e6f708".into(),
            mode: Mode::Quorum,
            protection: "at most one owner, by the lease of a majority".into(),
            voters: ["lb1", "lb2", "lb3"].map(String::from).into(),
            voters_version: 3,
            witnesses: vec![],
            voters_chosen: false,
            voters_change: None,
            voters_in_contact: 3,
            quorum: 2,
            members_alive: 3,
            fence: true,
        },
        members: vec![member(1, 150, 24), member(2, 100, 29), member(3, 100, 29)],
        vips: vec![Vip {
            name: "web".into(),
            id: "00c0ffee00c0ffee".into(),
            addresses: vec!["10.0.0.100/24".into(), "fd00::100/64".into()],
            interface: "eth0".into(),
            owner: Some("lb1".into()),
            mine: true,
            state: VipState::Active,
            term: 7,
            since_ms: Some(4 * DAY_MS + 7_300_000),
            lease_ms: Some(430),
            neighbors_asked: Some(4),
            neighbors_acked: Some(3),
            neighbors_silent: vec!["10.0.0.7".into()],
            moved_to: None,
            next: Some("lb2".into()),
            why: "priority 150 > 100".into(),
        }],
        warnings: vec![],
        events: vec![],
        counters: [("packets_dropped".to_owned(), 0)].into(),
    }
}

pub fn lb3_failed() -> Snapshot {
    let mut snapshot = three_nodes();
    let lb3 = &mut snapshot.members[2];
    (lb3.state, lb3.priority, lb3.seen_ms) = (MemberState::Failed, None, Some(41_300));
    (snapshot.cluster.voters_in_contact, snapshot.cluster.members_alive) = (2, 2);
    snapshot.events = vec![event(41_000, "lb3 failed"), event(DAY_MS, "lb1 took web: priority 150 > 100")];
    snapshot
}

pub fn two_nodes() -> Snapshot {
    let mut snapshot = three_nodes();
    snapshot.members.truncate(2);
    let cluster = &mut snapshot.cluster;
    (cluster.mode, cluster.protection) = (Mode::TwoNode, "best effort, guarded by ARP".into());
    cluster.voters.truncate(2);
    (cluster.voters_in_contact, cluster.members_alive) = (2, 2);
    snapshot.vips[0].lease_ms = None;
    snapshot
}

pub fn conflict() -> Snapshot {
    let mut snapshot = three_nodes();
    let vip = &mut snapshot.vips[0];
    (vip.state, vip.owner, vip.mine, vip.name) = (VipState::Conflict, None, false, String::new());
    (vip.since_ms, vip.lease_ms, vip.next) = (None, None, None);
    vip.why = "02:00:00:00:00:99 answers for 10.0.0.100".into();
    snapshot.warnings = vec!["10.0.0.100 is in use by 02:00:00:00:00:99, no member: free it there".into()];
    snapshot
}

/// A member of each kind that a table tells apart.
pub fn all_sorts() -> Snapshot {
    let mut snapshot = three_nodes();
    let mut members = (1..=8).map(|number| member(number, 100, 29)).collect::<Vec<_>>();
    (members[1].health, members[1].priority) = (Health::Failed, Some(90));
    members[1].reason = "slow: no answer within 1s".into();
    (members[2].health, members[2].priority) = (Health::Failed, None);
    members[2].reason = "no answer\nwithin 1s".into();
    (members[3].health, members[3].config_differs) = (Health::Unknown, true);
    (members[4].health, members[4].state) = (Health::Unchecked, MemberState::Suspect);
    (members[5].role, members[5].name) = (Role::Witness, "wit1".into());
    (members[6].state, members[6].certificate_s) = (MemberState::Left, -1);
    (members[7].state, members[7].version) = (MemberState::Joining, String::new());
    (members[7].seen_ms, members[7].rtt_us) = (None, None);
    snapshot.members = members;
    snapshot
}

pub fn event(age_ms: u64, text: &str) -> Event {
    Event { age_ms, text: text.into() }
}

fn member(number: u8, base_priority: u8, certificate_days: i64) -> Member {
    let me = number == 1;
    Member {
        name: format!("lb{number}"),
        id: format!("{number:02x}").repeat(16),
        me,
        address: ([10, 0, 0, 10 + number], 7946).into(),
        state: MemberState::Alive,
        role: Role::Member,
        voter: number <= 3,
        standby: false,
        issuer: me,
        health: Health::Ok,
        reason: String::new(),
        base_priority,
        priority: Some(base_priority),
        held_down_ms: None,
        checks: vec![CheckState {
            name: "nginx".into(),
            health: Health::Ok,
            adds: Some(0),
            reason: String::new(),
        }],
        vips: if me { vec!["web".into()] } else { vec![] },
        seen_ms: (!me).then_some(120),
        rtt_us: (!me).then_some(410),
        certificate_s: certificate_days * 86_400 + 3_600,
        version: "0.1.0".into(),
        incarnation: format!("{:02x}", 0xa0 + number).repeat(16),
        config_differs: false,
    }
}
