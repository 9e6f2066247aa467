//! One request each interval, over a new connection, as a client would make it.

use super::{schedule, tls};
use crate::config::{Check, Http};
use crate::engine::health::Outcome;
use crate::io::clock;
use crate::io::http::exchange;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::{Request, Response};
use rustls::ClientConfig;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Interval, timeout};

/// Of the body; what comes after it is not read.
const MAX_BODY: usize = 64 * 1024;

pub(super) struct Probe {
    client: Client,
    schedule: Interval,
    timeout: Duration,
}

impl Probe {
    pub fn new(check: &Check, http: Http) -> Probe {
        Probe { client: Client::new(http), schedule: schedule(check), timeout: check.timeout }
    }
}

impl super::Probe for Probe {
    async fn next(&mut self) -> Outcome {
        self.schedule.tick().await;
        match self.client.ask(self.timeout).await {
            Ok(answer) => answer.outcome,
            Err(failure) => Outcome::Fail(failure.text),
        }
    }
}

/// Makes requests; what can be prepared is.
pub(super) struct Client {
    http: Http,
    tls: Result<Arc<ClientConfig>, String>,
}

pub(super) struct Answer {
    /// Passes, perhaps with a warning.
    pub outcome: Outcome,
    pub body: Vec<u8>,
}

/// Why there was no answer, or what was wrong with it.
#[derive(Debug)]
pub(super) struct Failure {
    pub kind: Kind,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The connection was accepted, and closed before all was said.
    Closed,
    /// Nothing came in time.
    Late,
    /// It answered, and not as it should.
    Wrong,
}

impl Client {
    pub fn new(http: Http) -> Client {
        let tls = match http.url.tls {
            true => tls::config(http.ca.as_deref()),
            false => Err("it speaks no TLS".into()),
        };
        Client { http, tls }
    }

    /// The reason of a failure names the URL.
    pub async fn ask(&self, patience: Duration) -> Result<Answer, Failure> {
        let late = || Failure::new(Kind::Late, late("answer", patience));
        let asked = timeout(patience, self.connect()).await.unwrap_or_else(|_| Err(late()));
        asked.map_err(|failure| Failure {
            text: format!("{}: {}", self.http.url.text, failure.text),
            ..failure
        })
    }

    async fn connect(&self) -> Result<Answer, Failure> {
        let stream = TcpStream::connect(self.http.url.address).await;
        let stream = stream.map_err(|error| Failure::new(closing(&error), refused(&error)))?;
        if !self.http.url.tls {
            return self.exchange(stream, None).await;
        }
        let wrong = |text| Failure::new(Kind::Wrong, text);
        let config = self.tls.clone().map_err(wrong)?;
        let name = tls::server_name(&self.http).map_err(wrong)?;
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await;
        let stream = stream.map_err(|error| Failure::new(closing(&error), format!("TLS: {error}")))?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
        let warning = match certificate {
            Some(der) => tls::judge(&der, clock::wall(), self.http.certificate_warning),
            None => Err("it shows no certificate".into()),
        };
        let warning = warning.map_err(wrong)?;
        self.exchange(stream, warning).await
    }

    /// The whole answer: an nginx that stalls in the middle is not well.
    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        warning: Option<String>,
    ) -> Result<Answer, Failure> {
        let judge = async |answer: Response<Incoming>| {
            let status = answer.status().as_u16();
            let body = read(answer.into_body()).await.map_err(broken)?;
            self.judge(status, body, warning)
        };
        exchange(stream, self.request()?, broken, judge).await
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, Failure> {
        let url = &self.http.url;
        Request::get(&url.path)
            .header("host", self.http.host.as_deref().unwrap_or(&url.host))
            .header("user-agent", concat!("haclusterd/", env!("CARGO_PKG_VERSION")))
            .header("connection", "close")
            .body(Empty::new())
            .map_err(|error| Failure::new(Kind::Wrong, error.to_string()))
    }

    fn judge(&self, status: u16, body: Vec<u8>, warning: Option<String>) -> Result<Answer, Failure> {
        if !self.http.status.contains(status) {
            return Err(Failure::new(Kind::Wrong, format!("answered {status}")));
        }
        if let Some(wanted) = self.http.body.as_ref().filter(|wanted| !contains(&body, wanted.as_bytes())) {
            let text = format!("answered {status}, but not {wanted:?} in the body's first 64 KiB");
            return Err(Failure::new(Kind::Wrong, text));
        }
        let text = |warning| format!("{}: {warning}", self.http.url.text);
        Ok(Answer { outcome: warning.map_or(Outcome::Pass, |w| Outcome::Warn(text(w))), body })
    }
}

impl Failure {
    pub fn new(kind: Kind, text: impl Into<String>) -> Failure {
        Failure { kind, text: text.into() }
    }
}

fn contains(body: &[u8], wanted: &[u8]) -> bool {
    body.windows(wanted.len().max(1)).any(|window| window == wanted)
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            all.extend(&data[..data.len().min(MAX_BODY - all.len())]);
        }
        if all.len() == MAX_BODY {
            break;
        }
    }
    Ok(all)
}

fn broken(error: hyper::Error) -> Failure {
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
    let reset = source.is_some_and(|source| closing(source) == Kind::Closed);
    match error.is_incomplete_message() || error.is_canceled() || error.is_closed() || reset {
        true => Failure::new(Kind::Closed, "closed the connection without a whole answer"),
        false => Failure::new(Kind::Wrong, format!("no proper answer ({error})")),
    }
}

fn closing(error: &io::Error) -> Kind {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.kind() {
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => Kind::Closed,
        _ => Kind::Wrong,
    }
}

pub(super) fn refused(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused: nothing listens there".into(),
        _ => format!("cannot connect: {error}"),
    }
}

pub(super) fn late(what: &str, patience: Duration) -> String {
    format!("no {what} within {}", humantime::format_duration(patience))
}
