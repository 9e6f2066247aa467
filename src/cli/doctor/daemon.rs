//! What the daemon knows and may hurt.

use haclusterd_proto::control::{Member, MemberState, Snapshot};

/// Time enough to do something about it.
const CERTIFICATE: i64 = 7 * 86_400;

pub(super) fn findings(snapshot: &Snapshot) -> Vec<String> {
    let mut found = snapshot.warnings.clone();
    found.extend(snapshot.members.iter().filter_map(|member| of_member(member, snapshot)));
    found.extend(snapshot.members.iter().filter_map(of_certificate));
    let counter = |name: &str| snapshot.counters.get(name).copied();
    if counter("core_realtime") == Some(0) {
        found.push("the daemon's core is an ordinary thread, which other work may keep waiting: give it CAP_SYS_NICE (AmbientCapabilities= in its unit), unless node.realtime = false is meant".into());
    }
    if counter("core_resident") == Some(0) {
        found.push("the daemon's memory may be written out to disk: LimitMEMLOCK=infinity in its unit, or CAP_IPC_LOCK, unless node.realtime = false is meant".into());
    }
    let ours = env!("CARGO_PKG_VERSION");
    if snapshot.version != ours {
        found.push(format!(
            "the daemon is version {}, and this command {ours}: restart the daemon (no VIP moves)",
            snapshot.version
        ));
    }
    if let Some(me) = snapshot.members.iter().find(|member| member.me && member.standby) {
        found.push(format!("{} stands by, and owns nothing: `haclusterd unstandby` ends that", me.name));
    }
    found
}

/// Heard by others and not by this node: it is the path between the two.
fn of_member(member: &Member, snapshot: &Snapshot) -> Option<String> {
    let port = member.address.port();
    match member.state {
        MemberState::Joining => Some(format!(
            "{} is known by hearsay and not heard: let UDP port {port} through between {} and {} in both directions, in firewalls and security groups",
            member.name, snapshot.node, member.address
        )),
        MemberState::Failed => Some(format!(
            "{} is not heard any more: bring it back; if it runs, let UDP port {port} through between {} and {}",
            member.name, snapshot.node, member.address
        )),
        MemberState::Alive | MemberState::Suspect | MemberState::Left => None,
    }
}

fn of_certificate(member: &Member) -> Option<String> {
    let near = member.state != MemberState::Left && member.certificate_s < CERTIFICATE;
    near.then(|| {
        format!(
            "the certificate of {} ends in {}: docs/operations.md, Certificates",
            member.name,
            super::super::human::certificate(member.certificate_s)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::sample;
    use super::*;

    #[test]
    fn a_healthy_cluster_needs_nothing() {
        let mut snapshot = sample::three_nodes();
        snapshot.version = env!("CARGO_PKG_VERSION").into();
        assert_eq!(findings(&snapshot), Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_remedy() {
        let mut snapshot = sample::lb3_failed();
        snapshot.members[1].certificate_s = 3600;
        snapshot.members[0].standby = true;
        snapshot.counters.insert("core_realtime".into(), 0);
        let found = findings(&snapshot).join("\n");
        for words in
            ["lb3 is not heard any more", "UDP port", "of lb2 ends in 1h", "CAP_SYS_NICE", "lb1 stands by"]
        {
            assert!(found.contains(words), "{words}: {found}");
        }
    }
}
