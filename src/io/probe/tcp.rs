//! Does something listen there?

use super::{http, schedule};
use crate::config::Check;
use crate::engine::health::Outcome;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Interval, timeout};

pub(super) struct Probe {
    address: SocketAddr,
    schedule: Interval,
    timeout: Duration,
}

impl Probe {
    pub fn new(check: &Check, address: SocketAddr) -> Probe {
        Probe { address, schedule: schedule(check), timeout: check.timeout }
    }
}

impl super::Probe for Probe {
    async fn next(&mut self) -> Outcome {
        self.schedule.tick().await;
        let fail = |reason| Outcome::Fail(format!("{}: {reason}", self.address));
        match timeout(self.timeout, TcpStream::connect(self.address)).await {
            Ok(Ok(_)) => Outcome::Pass,
            Ok(Err(error)) => fail(http::refused(&error)),
            Err(_) => fail(http::late("connection", self.timeout)),
        }
    }
}
