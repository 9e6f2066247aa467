//! Keywords that nothing is made of, and what is to be said of each: of the global settings, of an instance, of a sync
//! group, and at the top of the file.

use super::finding::{Findings, Kind};
use super::tree::Statement;
use super::value::{boolean, text};
use crate::config::hint;

pub enum Use {
    /// haclusterd does it by itself, or has no need of it.
    Needless(&'static str),
    /// It has no equivalent; what to do.
    Missing(&'static str),
    /// An old word that keepalived complains of.
    Old,
}
use Use::{Missing, Needless, Old};

type Table = &'static [(&'static str, Use)];

/// A place in the file: the words that are read there, and the others.
pub struct Level {
    pub name: &'static str,
    pub read: &'static [&'static str],
    pub others: Table,
}

const NO_EFFECT: &str = "keepalived does nothing by it any more";
const LVS: Use = Missing("virtual servers are not run yet; keep them where they are");
const HOST: Use =
    Missing("write it into the host's own network configuration (ifupdown, netplan, systemd-networkd)");
const LINK: Use = Needless("a link is watched by netlink, which tells of its carrier at once");
const PROCESS: Use =
    Needless("haclusterd is one process, and its adverts have a thread of real-time priority");
const BUFFER: Use = Needless("its sockets need no such setting");
const ANNOUNCES: Use =
    Needless("a new master announces each address ten times within five seconds, from 0 to 5 s");
const SNMP: Use = Missing("ask `haclusterd status -o json` instead");
const DBUS: Use = Missing("use the command line, and `haclusterd status -o json`");
const FIREWALL: Use = Needless("haclusterd keeps an nftables table of its own");
const BFD: Use = Missing("watch the way out with a [[check]] of kind \"gateway\"");
const SCRIPTS: Use = Missing("start it from a systemd unit: ExecStartPre=, ExecStopPost=");

pub const ROOT: Level = Level {
    name: "the file",
    read: &[
        "global_defs",
        "vrrp_script",
        "vrrp_track_process",
        "track_file",
        "vrrp_track_file",
        "vrrp_sync_group",
        "vrrp_instance",
        "virtual_server",
        "virtual_server_group",
        "bfd_instance",
    ],
    others: &[
        ("SSL", LVS),
        ("garp_group", ANNOUNCES),
        ("interface_up_down_delays", Missing("give a [[check]] of kind \"interface\" a `fall`")),
        ("linkbeat_interfaces", LINK),
        ("linkbeat_use_polling", LINK),
        ("static_ipaddress", HOST),
        ("static_routes", HOST),
        ("static_rules", HOST),
        ("track_group", HOST),
        ("net_namespace", Missing("start the daemon in it: systemd's NetworkNamespacePath=")),
        ("net_namespace_ipvs", LVS),
        ("namespace_with_ipsets", FIREWALL),
        ("instance", Needless("a second daemon is told apart by --socket and --state-dir")),
        ("use_pid_dir", PROCESS),
        ("child_wait_time", PROCESS),
    ],
};

pub const GLOBAL: Level = Level {
    name: "global_defs",
    read: &[
        "router_id",
        "vrrp_version",
        "vrrp_strict",
        "script_user",
        "default_interface",
        "vrrp_garp_master_refresh",
        "smtp_alert",
        "smtp_alert_vrrp",
        "no_email_faults",
        "notification_email",
        "notification_email_from",
        "smtp_server",
        "smtp_helo_name",
        "smtp_connect_timeout",
        "notify_fifo",
        "vrrp_notify_fifo",
        "notify_fifo_script",
        "vrrp_notify_fifo_script",
        "vrrp_mcast_group4",
        "vrrp_mcast_group6",
        "vrrp_down_timer_adverts",
        "vrrp_garp_interval",
        "vrrp_gna_interval",
        "vrrp_garp_master_delay",
        "vrrp_garp_master_repeat",
        "vrrp_garp_lower_prio_delay",
        "vrrp_garp_lower_prio_repeat",
        "vrrp_garp_master_refresh_repeat",
        "enable_script_security",
        "include_check",
    ],
    others: &[
        ("tmp_config_directory", PROCESS),
        ("config_save_dir", PROCESS),
        ("process_names", PROCESS),
        ("process_name", PROCESS),
        ("vrrp_process_name", PROCESS),
        ("checker_process_name", PROCESS),
        ("bfd_process_name", PROCESS),
        ("startup_script", SCRIPTS),
        ("startup_script_timeout", SCRIPTS),
        ("shutdown_script", SCRIPTS),
        ("shutdown_script_timeout", SCRIPTS),
        ("smtp_alert_checker", LVS),
        ("checker_log_all_failures", LVS),
        ("lvs_sync_daemon", LVS),
        ("lvs_timeouts", LVS),
        ("lvs_flush", LVS),
        ("lvs_flush_on_stop", LVS),
        ("lvs_flush_onstop", LVS),
        ("lvs_notify_fifo", LVS),
        ("lvs_notify_fifo_script", LVS),
        ("nftables_ipvs", LVS),
        ("nftables_ipvs_priority", LVS),
        ("nftables_ipvs_start_fwmark", LVS),
        ("rs_init_notifies", LVS),
        ("no_checker_emails", LVS),
        ("vrrp_min_garp", ANNOUNCES),
        ("vrrp_garp_extra_if", Needless("announce_refresh announces on the interface of each address")),
        (
            "vrrp_lower_prio_no_advert",
            Needless("RFC 9568 6.4.3: a master answers a lower advert with its own"),
        ),
        ("vrrp_higher_prio_send_advert", Needless("who stays master announces its addresses again")),
        ("vrrp_iptables", Old),
        ("vrrp_ipsets", Old),
        ("nftables", FIREWALL),
        ("nftables_priority", FIREWALL),
        ("nftables_counters", FIREWALL),
        ("nftables_ifindex", FIREWALL),
        ("disable_local_igmp", Needless("macvlans get their settings by themselves")),
        ("vrrp_check_unicast_src", Needless("with unicast_peers, adverts of others are never taken")),
        ("vrrp_skip_check_adv_addr", Needless("another list of addresses is told of, and the advert counts")),
        ("vrrp_notify_priority_changes", Missing("`haclusterd explain` shows the priority and its terms")),
        ("fifo_write_vrrp_states_on_reload", Missing("a hook with `reconcile` tells the state again")),
        ("max_auto_priority", PROCESS),
        ("min_auto_priority_delay", PROCESS),
        ("vrrp_priority", PROCESS),
        ("checker_priority", PROCESS),
        ("bfd_priority", PROCESS),
        ("vrrp_no_swap", PROCESS),
        ("checker_no_swap", PROCESS),
        ("bfd_no_swap", PROCESS),
        ("vrrp_cpu_affinity", Missing("use systemd's CPUAffinity=")),
        ("checker_cpu_affinity", PROCESS),
        ("bfd_cpu_affinity", PROCESS),
        ("vrrp_rt_priority", PROCESS),
        ("checker_rt_priority", PROCESS),
        ("bfd_rt_priority", PROCESS),
        ("vrrp_rlimit_rttime", PROCESS),
        ("vrrp_rlimit_rtime", PROCESS),
        ("checker_rlimit_rttime", PROCESS),
        ("checker_rlimit_rtime", PROCESS),
        ("bfd_rlimit_rttime", PROCESS),
        ("bfd_rlimit_rtime", PROCESS),
        ("snmp_socket", SNMP),
        ("enable_snmp_keepalived", SNMP),
        ("enable_snmp_vrrp", SNMP),
        ("enable_snmp_checker", SNMP),
        ("enable_snmp_rfc", SNMP),
        ("enable_snmp_rfcv2", SNMP),
        ("enable_snmp_rfcv3", SNMP),
        ("enable_traps", SNMP),
        ("enable_dbus", DBUS),
        ("dbus_service_name", DBUS),
        ("dynamic_interfaces", Needless("an interface may come and go")),
        ("vrrp_netlink_cmd_rcv_bufs", BUFFER),
        ("vrrp_netlink_cmd_rcv_bufs_force", BUFFER),
        ("vrrp_netlink_monitor_rcv_bufs", BUFFER),
        ("vrrp_netlink_monitor_rcv_bufs_force", BUFFER),
        ("lvs_netlink_cmd_rcv_bufs", BUFFER),
        ("lvs_netlink_cmd_rcv_bufs_force", BUFFER),
        ("lvs_netlink_monitor_rcv_bufs", BUFFER),
        ("lvs_netlink_monitor_rcv_bufs_force", BUFFER),
        ("process_monitor_rcv_bufs", BUFFER),
        ("process_monitor_rcv_bufs_force", BUFFER),
        ("vrrp_rx_bufs_policy", BUFFER),
        ("vrrp_rx_bufs_multiplier", BUFFER),
        ("umask", Needless("what it writes only its own user can read")),
        (
            "vrrp_startup_delay",
            Missing("order the unit after what it waits for; `state = \"backup\"` waits three adverts"),
        ),
        ("vrrp_delay_after_boot", Missing("order the unit after what it waits for")),
        ("log_unknown_vrids", Needless("`haclusterd doctor --vrid` shows them")),
        ("vmac_prefix", Missing("name each with virtual_mac_interface")),
        ("vmac_addr_prefix", Missing("name each with virtual_mac_interface")),
        ("random_seed", PROCESS),
        ("reload_check_config", Needless("a reload takes all of a file or nothing of it")),
        ("reload_time_file", Missing("use a systemd timer: systemctl reload haclusterd")),
        ("reload_repeat", Missing("use a systemd timer: systemctl reload haclusterd")),
        ("reload_file", PROCESS),
        ("data_use_instance", PROCESS),
        ("use_symlink_paths", PROCESS),
        ("linkbeat_use_polling", LINK),
    ],
};

pub const INSTANCE: Level = Level {
    name: "vrrp_instance",
    read: &[
        "state",
        "interface",
        "virtual_router_id",
        "priority",
        "version",
        "advert_int",
        "authentication",
        "virtual_ipaddress",
        "virtual_ipaddress_excluded",
        "virtual_routes",
        "virtual_rules",
        "unicast_peer",
        "unicast_src_ip",
        "vrrp_unicast_bind",
        "mcast_src_ip",
        "nopreempt",
        "preempt",
        "preempt_delay",
        "accept",
        "no_accept",
        "strict_mode",
        "use_vmac",
        "vmac_xmit_base",
        "use_ipvlan",
        "track_interface",
        "track_script",
        "track_file",
        "track_process",
        "garp_master_refresh",
        "garp_master_delay",
        "garp_master_repeat",
        "garp_lower_prio_delay",
        "garp_lower_prio_repeat",
        "garp_master_refresh_repeat",
        "down_timer_adverts",
        "unicast_ttl",
        "unicast_fault_no_peer",
        "v3_checksum_as_v2",
        "notify",
        "notify_master",
        "notify_backup",
        "notify_fault",
        "notify_stop",
        "smtp_alert",
    ],
    others: &[
        ("vrf", Missing("start the daemon in it (ip vrf exec)")),
        ("use_vmac_addr", Missing("give the addresses of other interfaces a virtual router of their own")),
        ("native_ipv6", Needless(NO_EFFECT)),
        ("dont_track_primary", Missing("without its interface nobody can be master here")),
        ("track_bfd", BFD),
        ("track_src_ip", Needless("without an address to send from a virtual router is in fault")),
        ("mcast_dst_ip", Missing("adverts go to 224.0.0.18 and ff02::12, or name unicast_peers")),
        ("check_unicast_src", Needless("with unicast_peers, adverts of others are never taken")),
        ("old_unicast_checksum", Needless("both checksums are accepted")),
        ("garp_extra_if", Needless("announce_refresh announces on the interface of each address")),
        ("vmac_garp_intvl", Needless("announce_refresh announces on the interface of each address")),
        ("lower_prio_no_advert", Needless("RFC 9568 6.4.3: a master answers a lower advert with its own")),
        ("higher_prio_send_advert", Needless("who stays master announces its addresses again")),
        ("promote_secondaries", Needless("an address that is lost is added again at once")),
        ("skip_check_adv_addr", Needless("another list of addresses is told of, and the advert counts")),
        ("owner_ignore_adverts", Needless("an address owner (priority 255) yields to nobody")),
        ("debug", Needless(NO_EFFECT)),
        ("notify_deleted", Missing("notify_stop is run when a virtual router is removed")),
        (
            "notify_master_rx_lower_pri",
            Missing("a [[hook]] with `reconcile` sets right what another master has changed"),
        ),
        ("notify_priority_changes", Missing("`haclusterd explain` shows the priority and its terms")),
        ("kernel_rx_buf_size", BUFFER),
        ("linkbeat_use_polling", LINK),
        ("lvs_sync_daemon_interface", LVS),
        (
            "auth_hmac",
            Missing(
                "it is of keepalived 2.4, whose packets are signed; all hosts must leave it out, or use `[[vip]]`, which is encrypted",
            ),
        ),
    ],
};

pub const AUTHENTICATION: Level =
    Level { name: "authentication", read: &["auth_type", "auth_pass"], others: &[] };

pub const GROUP: Level = Level {
    name: "vrrp_sync_group",
    read: &[
        "group",
        "track_interface",
        "track_script",
        "track_file",
        "track_process",
        "sync_group_tracking_weight",
        "notify",
        "notify_master",
        "notify_backup",
        "notify_fault",
        "notify_stop",
        "smtp_alert",
    ],
    others: &[
        ("track_bfd", BFD),
        ("global_tracking", Needless(NO_EFFECT)),
        ("notify_priority_changes", Missing("`haclusterd explain` shows the priority and its terms")),
        ("notify_deleted", Missing("notify_stop is run when a virtual router is removed")),
    ],
};

pub const SCRIPT: Level = Level {
    name: "vrrp_script",
    read: &["script", "interval", "timeout", "weight", "rise", "fall", "user", "init_fail"],
    others: &[],
};

pub const PROCESS_LEVEL: Level = Level {
    name: "vrrp_track_process",
    read: &[
        "process",
        "param_match",
        "weight",
        "quorum",
        "quorum_max",
        "full_command",
        "delay",
        "fork_delay",
        "terminate_delay",
    ],
    others: &[],
};

pub const FILE: Level = Level { name: "track_file", read: &["file", "weight", "init_file"], others: &[] };

/// Of these keepalived takes on and off only.
const SWITCHES: [&str; 7] = [
    "vrrp_lower_prio_no_advert",
    "vrrp_higher_prio_send_advert",
    "lower_prio_no_advert",
    "higher_prio_send_advert",
    "vrrp_notify_priority_changes",
    "notify_priority_changes",
    "smtp_alert_checker",
];

/// Of no use to the reader either, but keepalived does not start if their value is missing.
const VALUED: [&str; 24] = [
    "bfd_process_name",
    "bfd_rlimit_rtime",
    "bfd_rlimit_rttime",
    "checker_process_name",
    "checker_rlimit_rtime",
    "checker_rlimit_rttime",
    "config_save_dir",
    "debug",
    "lvs_sync_daemon_interface",
    "mcast_dst_ip",
    "nftables_ipvs_priority",
    "nftables_ipvs_start_fwmark",
    "nftables_priority",
    "notify_master_rx_lower_pri",
    "process_name",
    "random_seed",
    "umask",
    "vmac_addr_prefix",
    "vmac_prefix",
    "vrf",
    "vrrp_process_name",
    "vrrp_rlimit_rtime",
    "vrrp_rlimit_rttime",
    "vrrp_startup_delay",
];

/// Of a word that the reader has no use for.
pub fn other(level: &Level, statement: &Statement, findings: &mut Findings) {
    let key = statement.key.as_str();
    if SWITCHES.contains(&key) {
        boolean(findings, statement);
    }
    if VALUED.contains(&key) {
        text(findings, statement);
    }
    let shown = if level.name == ROOT.name || level.name == GLOBAL.name {
        key.to_owned()
    } else {
        format!("{} {key}", level.name)
    };
    match level.others.iter().find(|(word, _)| *word == key) {
        Some((_, Needless(why))) => {
            findings.add(Kind::Note, &statement.at, format!("{shown} is not needed"), *why)
        }
        Some((_, Missing(remedy))) => {
            findings.add(Kind::Missing, &statement.at, format!("{shown} has no equivalent"), *remedy);
        }
        Some((_, Old)) => findings.add(
            Kind::Invalid,
            &statement.at,
            format!("{shown} is old, and of no effect"),
            "remove it",
        ),
        None => unknown(level, statement, findings),
    }
}

fn unknown(level: &Level, statement: &Statement, findings: &mut Findings) {
    let known: Vec<&'static str> =
        level.read.iter().copied().chain(level.others.iter().map(|(word, _)| *word)).collect();
    let remedy = match hint::nearest(&statement.key, &known) {
        Some(near) => format!("did you mean {near}? keepalived overlooks the line"),
        None if statement.body.is_some() => {
            "it is left out as a whole; keepalived reads its lines as if they stood outside".into()
        }
        None => "keepalived overlooks it as well: remove it".into(),
    };
    findings.add(
        Kind::Invalid,
        &statement.at,
        format!("{} is no keyword of {}", statement.key, level.name),
        remedy,
    );
}

/// Blocks of lines: what stands before the brace is told.
const LISTS: [&str; 11] = [
    "notification_email",
    "group",
    "virtual_ipaddress",
    "virtual_ipaddress_excluded",
    "virtual_routes",
    "virtual_rules",
    "unicast_peer",
    "track_interface",
    "track_script",
    "track_process",
    "track_bfd",
];

pub fn is_list(key: &str) -> bool {
    LISTS.contains(&key)
}

/// A block where one is needed, and none where none is.
pub fn shape(statement: &Statement, block: bool, findings: &mut Findings) -> bool {
    if let (true, Some(word)) = (block && is_list(&statement.key), statement.arg(0)) {
        let what = format!("{} has no name, and {word} stands before its {{", statement.key);
        findings.add(Kind::Invalid, &statement.at, what, "remove the word, which is overlooked");
    }
    match (block, statement.body.is_some()) {
        (true, false) => {
            let what = format!("{} has no block", statement.key);
            findings.add(Kind::Invalid, &statement.at, what, "write { after it, and } at its end");
            false
        }
        (false, true) => {
            let what = format!("{} takes no block", statement.key);
            findings.add(
                Kind::Invalid,
                &statement.at,
                what,
                "remove the braces; what is in them is left out",
            );
            true
        }
        _ => true,
    }
}
