//! Whether the SIGTERM that has just come is the first half of a restart: then the VIPs need not move.

use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// systemd answers within milliseconds. Without an answer the stop is an ordinary one, and hands over.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);

pub async fn restarts() -> bool {
    let Some(unit) = std::fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| unit_of(&text)) else {
        return false;
    };
    let mut command = Command::new("systemctl");
    command.args(["list-jobs", "--plain", "--no-legend", "--no-pager"]);
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(ANSWER_WITHIN, command.output()).await {
        Ok(Ok(output)) => lists_restart(&String::from_utf8_lossy(&output.stdout), &unit),
        _ => false,
    }
}

/// `0::/system.slice/haclusterd.service`; `None` outside of a service.
fn unit_of(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|line| {
        line.strip_prefix("0::").or(line.split_once("name=systemd:").map(|(_, path)| path))
    })?;
    path.rsplit('/').find(|part| part.ends_with(".service")).map(str::to_owned)
}

/// `1234 haclusterd.service restart running`
fn lists_restart(jobs: &str, unit: &str) -> bool {
    jobs.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some(unit) && words.next().is_some_and(|job| job.ends_with("restart"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_read_from_the_control_group() {
        let unit = |text: &str| unit_of(text).unwrap_or_default();
        assert_eq!(unit("0::/system.slice/haclusterd.service\n"), "haclusterd.service");
        assert_eq!(unit("0::/system.slice/haclusterd.service/worker\n"), "haclusterd.service");
        assert_eq!(unit("12:pids:/x\n1:name=systemd:/system.slice/lb.service\n"), "lb.service");
        assert_eq!(unit("0::/user.slice/user-0.slice/session-1.scope\n"), "");
    }

    #[test]
    fn only_this_units_restart_counts() {
        let jobs = "  12 nginx.service restart waiting\n1234 haclusterd.service restart running\n";
        assert!(lists_restart(jobs, "haclusterd.service"));
        assert!(!lists_restart("1234 haclusterd.service stop running\n", "haclusterd.service"));
        assert!(!lists_restart("12 nginx.service restart waiting\n", "haclusterd.service"));
        assert!(lists_restart("7 haclusterd.service try-restart running\n", "haclusterd.service"));
    }
}
