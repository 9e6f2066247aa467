//! Checks of this host's nginx. A [`Probe`] is asked again and again and says how things are; what follows from
//! that is the engine's business.

mod http;
mod process;

use crate::config::Nginx;
use crate::engine::health::{CheckConfig, Outcome};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Called with every result of the named check; it must not block.
pub type Report = Arc<dyn Fn(&str, Outcome) + Send + Sync>;

/// The next result, when there is one: a probe keeps its own time.
trait Probe: Send {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>>;
}

/// The checks that are running; they end when it is dropped.
#[derive(Debug, Default)]
pub struct Running {
    _tasks: JoinSet<()>,
}

const PROCESS: &str = "nginx process";
const HTTP: &str = "nginx http";

/// How the engine is to count the results.
#[must_use]
pub fn checks(nginx: Option<&Nginx>) -> Vec<CheckConfig> {
    let Some(nginx) = nginx else { return Vec::new() };
    let Nginx { rise, fall, weight, .. } = *nginx;
    let named = |name: &str| CheckConfig { name: name.into(), rise, fall, weight };
    let process = nginx.pid_file.as_ref().map(|_| named(PROCESS));
    let http = nginx.http.as_ref().map(|_| named(HTTP));
    process.into_iter().chain(http).collect()
}

/// Must be called inside a tokio runtime.
#[must_use]
pub fn start(nginx: Option<&Nginx>, report: &Report) -> Running {
    let mut tasks = JoinSet::new();
    if let Some(pid_file) = nginx.and_then(|nginx| nginx.pid_file.clone()) {
        tasks.spawn(repeat(PROCESS, process::Process::new(pid_file), report.clone()));
    }
    if let Some(check) = nginx.and_then(|nginx| nginx.http.clone()) {
        tasks.spawn(repeat(HTTP, http::Http::new(check), report.clone()));
    }
    Running { _tasks: tasks }
}

async fn repeat(name: &'static str, mut probe: impl Probe, report: Report) {
    loop {
        let outcome = probe.next().await;
        report(name, outcome);
    }
}
