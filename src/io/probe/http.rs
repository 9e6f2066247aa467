//! One request to nginx each interval, over a new connection, as a client would make it.

use super::Probe;
use crate::config::HttpCheck;
use crate::engine::health::Outcome;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::io;
use std::pin::Pin;
use tokio::net::TcpStream;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

/// Of the body; what comes after it is not read.
const MAX_BODY: usize = 64 * 1024;

pub(super) struct Http {
    check: HttpCheck,
    schedule: Interval,
}

impl Http {
    pub(super) fn new(check: HttpCheck) -> Http {
        let mut schedule = interval(check.interval);
        // A slow answer neither shifts the schedule nor is made up for.
        schedule.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Http { check, schedule }
    }

    async fn result(&mut self) -> Outcome {
        self.schedule.tick().await;
        let asked = timeout(self.check.timeout, ask(&self.check)).await;
        let late = || format!("no answer within {}", humantime::format_duration(self.check.timeout));
        match asked.unwrap_or_else(|_| Err(late())) {
            Ok(status) if self.check.status.contains(status) => Outcome::Pass,
            Ok(status) => Outcome::Fail(format!("{} answered {status}", self.check.url.text)),
            Err(reason) => Outcome::Fail(format!("{}: {reason}", self.check.url.text)),
        }
    }
}

impl Probe for Http {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>> {
        Box::pin(self.result())
    }
}

/// The status of the answer, once its body has come as well: an nginx that stalls in the middle is not well.
async fn ask(check: &HttpCheck) -> Result<u16, String> {
    let stream = TcpStream::connect(check.url.address).await.map_err(|error| refused(&error))?;
    let broken = |error: hyper::Error| format!("no proper answer ({error})");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = Request::get(&check.url.path)
        .header("host", &check.url.host)
        .header("user-agent", concat!("haclusterd/", env!("CARGO_PKG_VERSION")))
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status().as_u16();
        read(answer.into_body()).await.map_err(broken)?;
        Ok(status)
    };
    tokio::pin!(exchange);
    tokio::select! {
        status = &mut exchange => status,
        // The connection may end before its last frame is read.
        _ = connection => exchange.await,
    }
}

async fn read(mut body: Incoming) -> Result<(), hyper::Error> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, Bytes::len);
        if length > MAX_BODY {
            break;
        }
    }
    Ok(())
}

fn refused(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused: nothing listens there".into(),
        _ => format!("cannot connect: {error}"),
    }
}
