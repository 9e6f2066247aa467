//! What to watch of an nginx: the operator's word, or else nginx's own, or else what is usual.

use super::super::conf::{Ask, Found, WORKER_CONNECTIONS};
use super::limit::Limits;
use super::logs::Wanted;
use super::master::Source;
use crate::config::{Http, Nginx, StatusSet, Url};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub request: Option<Http>,
    /// Why nothing is asked.
    pub unasked: String,
    pub stub_status: Option<Http>,
    pub limits: Limits,
    pub logs: Wanted,
}

impl Plan {
    /// `master`: the process that runs. `vips`: a question to one of them may be another host's to answer.
    pub fn new(nginx: &Nginx, master: Option<u32>, found: Result<&Found, &String>, vips: &[IpAddr]) -> Plan {
        let heard = found.ok();
        let pid_file = nginx.pid_file.clone().or_else(|| heard.map(|found| found.pid_file.clone()));
        let own = |ask: &&Ask| !vips.contains(&ask.address.ip());
        let first = || heard.and_then(|found| found.asks.iter().find(own));
        let asked = || first().map(|ask| of_ask(ask, nginx.certificate_warning));
        let unasked = match found {
            Ok(found) if !found.asks.is_empty() => "nginx listens on VIPs only: give `url`".to_owned(),
            Ok(_) => "nginx listens nowhere that could be asked: give `url`".to_owned(),
            Err(reason) => format!("nginx does not say where it listens ({reason}): give `url`"),
        };
        let log_dirs = nginx.log_dirs.clone().or_else(|| heard.map(|found| found.log_dirs.clone()));
        Plan {
            request: nginx.request.clone().or_else(asked),
            unasked,
            stub_status: nginx.stub_status.clone().map(|url| of_url(url, nginx.certificate_warning)),
            limits: Limits {
                master: match (pid_file, master) {
                    (Some(file), _) => Source::File(file),
                    (None, Some(pid)) => Source::Pid(pid),
                    (None, None) => Source::File("/run/nginx.pid".into()),
                },
                worker_connections: heard.map_or(WORKER_CONNECTIONS, |found| found.worker_connections),
                error_logs: heard.map(error_logs).unwrap_or_default(),
            },
            logs: Wanted {
                dirs: log_dirs.unwrap_or_else(usual_dirs),
                mounts: nginx.mounts.clone(),
                min_free_bytes: nginx.min_free_bytes,
                min_free_inodes: nginx.min_free_inodes,
            },
        }
    }
}

fn error_logs(found: &Found) -> Vec<PathBuf> {
    found.logs.iter().filter(|log| log.errors).map(|log| log.path.clone()).collect()
}

fn usual_dirs() -> Vec<PathBuf> {
    Some(PathBuf::from("/var/log/nginx")).filter(|dir| dir.is_dir()).into_iter().collect()
}

/// Nobody said what is there, so any answer will do, also that of a backend that is down: nginx gave it.
fn of_ask(ask: &Ask, certificate_warning: Duration) -> Http {
    let scheme = if ask.tls { "https" } else { "http" };
    let url = Url {
        text: format!("{scheme}://{}/", ask.address),
        tls: ask.tls,
        address: ask.address,
        host: ask.address.to_string(),
        path: "/".into(),
    };
    Http { host: ask.host.clone(), status: StatusSet::of(100..=599), ..of_url(url, certificate_warning) }
}

fn of_url(url: Url, certificate_warning: Duration) -> Http {
    Http { url, host: None, status: StatusSet::of(200..=399), body: None, ca: None, certificate_warning }
}
