//! What the daemon knows, in the words of Prometheus: `/metrics`, and `haclusterd metrics`. docs/metrics.md names each.

use haclusterd_proto::control::{Health, Member, MemberState, Snapshot, Vip, VipState};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Level = Gauge<f64, AtomicU64>;

/// Counters of the snapshot that go up and down.
const LEVELS: [&str; 4] = ["core_realtime", "core_resident", "core_late_p999_us", "core_late_max_us"];

#[must_use]
pub fn text(snapshot: &Snapshot) -> String {
    let mut registry = Registry::with_prefix("haclusterd");
    cluster(&mut registry, snapshot);
    vips(&mut registry, &snapshot.vips);
    members(&mut registry, &snapshot.members);
    checks(&mut registry, snapshot);
    core(&mut registry, snapshot);
    for (name, count) in snapshot.counters.iter().filter(|(name, _)| !LEVELS.contains(&name.as_str())) {
        let counter = Counter::<u64>::default();
        counter.inc_by(*count);
        registry.register(name, "Since the daemon started", counter);
    }
    let mut text = String::new();
    // A string takes whatever it is given.
    let _ = encode(&mut text, &registry);
    text
}

fn level(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Level::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

/// One value for each set of labels that has one.
fn levels(
    registry: &mut Registry,
    (name, help, unit): (&str, &str, Option<Unit>),
    values: impl Iterator<Item = (Labels, Option<f64>)>,
) {
    let family = Family::<Labels, Level>::default();
    for (labels, value) in values {
        if let Some(value) = value {
            family.get_or_create(&labels).set(value);
        }
    }
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, family),
        None => registry.register(name, help, family),
    }
}

fn yes(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

#[allow(clippy::cast_precision_loss, reason = "a metric is a float")]
fn count(number: u64) -> f64 {
    number as f64
}

fn number(count: usize) -> f64 {
    self::count(count as u64)
}

fn cluster(registry: &mut Registry, snapshot: &Snapshot) {
    let of = &snapshot.cluster;
    let labels = vec![
        ("version", snapshot.version.clone()),
        ("node", snapshot.node.clone()),
        ("cluster", of.id.clone()),
        ("mode", of.mode.to_string()),
    ];
    levels(registry, ("build", "Always 1; what runs where", None), [(labels, Some(1.0))].into_iter());
    level(registry, "voters", "Voters of the cluster", number(of.voters.len()));
    level(registry, "voters_in_contact", "Voters that heed this node", number(of.voters_in_contact));
    level(registry, "voters_needed", "How many make a majority", number(of.quorum));
    level(registry, "voters_version", "Version of the list of voters", count(of.voters_version));
    level(registry, "members_alive", "Members that are heard, this node included", number(of.members_alive));
    level(registry, "fence", "1: the kernel closes a VIP whose daemon does not renew it", yes(of.fence));
    level(registry, "warnings", "What `haclusterd status` warns of", number(snapshot.warnings.len()));
}

fn vips(registry: &mut Registry, vips: &[Vip]) {
    let each = |value: fn(&Vip) -> Option<f64>| {
        vips.iter().map(move |vip| (vec![("vip", vip.name.clone())], value(vip)))
    };
    levels(
        registry,
        ("vip_owned", "1: one member has it, as this node knows", None),
        each(|vip| Some(yes(vip.state == VipState::Active))),
    );
    levels(registry, ("vip_owner", "1: this node has it", None), each(|vip| Some(yes(vip.mine))));
    levels(
        registry,
        ("vip_conflict", "1: a stranger answers for it, or two members hold it", None),
        each(|vip| Some(yes(vip.state == VipState::Conflict))),
    );
    levels(registry, ("vip_term", "Counts its owners", None), each(|vip| Some(count(vip.term))));
    levels(
        registry,
        ("vip_lease_remaining", "Until its lease ends; on its owner", Some(Unit::Seconds)),
        each(|vip| vip.lease_ms.map(|ms| count(ms) / 1000.0)),
    );
    levels(
        registry,
        ("vip_owner_age", "Since its owner took it", Some(Unit::Seconds)),
        each(|vip| vip.since_ms.map(|ms| count(ms) / 1000.0)),
    );
}

fn members(registry: &mut Registry, members: &[Member]) {
    let each = |value: fn(&Member) -> Option<f64>| {
        members.iter().map(move |member| (vec![("member", member.name.clone())], value(member)))
    };
    levels(
        registry,
        ("member_alive", "1: its adverts come", None),
        each(|member| Some(yes(member.state == MemberState::Alive))),
    );
    levels(
        registry,
        ("member_healthy", "1: all its checks pass", None),
        each(|member| {
            Some(yes(!matches!(member.health, Health::Failed | Health::Unknown | Health::Saturated)))
        }),
    );
    levels(
        registry,
        ("member_priority", "Effective priority; 0: no candidate", None),
        each(|member| Some(f64::from(member.priority.unwrap_or(0)))),
    );
    levels(
        registry,
        ("member_standby", "1: an operator wants it to own nothing", None),
        each(|member| Some(yes(member.standby))),
    );
    levels(
        registry,
        ("member_config_differs", "1: its VIPs or timers are others than here", None),
        each(|member| Some(yes(member.config_differs))),
    );
    levels(
        registry,
        ("member_rtt", "Of an advert and its answer; of voters", Some(Unit::Seconds)),
        each(|member| member.rtt_us.map(|us| count(us) / 1e6)),
    );
    levels(
        registry,
        ("member_certificate_remaining", "Until its certificate ends", Some(Unit::Seconds)),
        #[allow(clippy::cast_precision_loss, reason = "a metric is a float")]
        each(|member| Some(member.certificate_s as f64)),
    );
}

fn checks(registry: &mut Registry, snapshot: &Snapshot) {
    let mine = snapshot.members.iter().filter(|member| member.me).flat_map(|member| &member.checks);
    levels(
        registry,
        ("check_healthy", "1: the check of this node passes", None),
        mine.map(|check| {
            let well = matches!(check.health, Health::Ok | Health::Warn | Health::Unchecked);
            (vec![("check", check.name.clone())], Some(yes(well)))
        }),
    );
}

fn core(registry: &mut Registry, snapshot: &Snapshot) {
    let value = |name: &str| count(snapshot.counters.get(name).copied().unwrap_or_default());
    level(registry, "core_realtime", "1: the core is a real-time thread", value("core_realtime"));
    level(registry, "core_resident", "1: the daemon's memory stays resident", value("core_resident"));
    let late = [("0.999", "core_late_p999_us"), ("1", "core_late_max_us")];
    levels(
        registry,
        ("core_late", "How late the core did what was due, in the last ten minutes", Some(Unit::Seconds)),
        late.into_iter()
            .map(|(quantile, name)| (vec![("quantile", quantile.to_owned())], Some(value(name) / 1e6))),
    );
}
