//! What others may look at over HTTP, and change nothing by: metrics, health, and a page for a browser.
//!
//! It is off unless configured. Everything in it has a bound: connections, the time for a request's head, viewers of the
//! live page. It answers GET only.

pub mod metrics;
mod page;

use super::events::Events;
use crate::config::Web;
use bytes::Bytes;
use futures::future::BoxFuture;
use haclusterd_proto::control::{Snapshot, VipState};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Scrapers and a few browsers. More wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 32;
/// Each looks every second.
const MAX_VIEWERS: usize = 8;
const HEAD_WITHIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(1);
const TEXT: &str = "text/plain; charset=utf-8";

pub type Ask = Arc<dyn Fn() -> BoxFuture<'static, Option<Snapshot>> + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What a request is answered from.
#[derive(Clone)]
pub struct View {
    pub ask: Ask,
    pub events: Arc<Events>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

/// Serves until dropped, by what is configured last.
#[derive(Debug, Default)]
pub struct Running(Option<(Web, JoinHandle<()>)>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some((_, task)) = self.0.take() {
            task.abort();
        }
    }
}

impl Running {
    pub fn update(&mut self, web: Option<&Web>, view: &View) {
        if self.0.as_ref().map(|(old, _)| old) == web {
            return;
        }
        *self = Running(web.map(|web| (*web, tokio::spawn(serve(*web, view.clone())))));
    }
}

/// That the port is taken must not keep a node from serving its VIPs.
async fn serve(web: Web, view: View) {
    let mut told = false;
    let listener = loop {
        match TcpListener::bind(web.listen).await {
            Ok(listener) => break listener,
            Err(error) if !told => {
                told = true;
                tracing::warn!("web.listen {}: {error}; tried again every second", web.listen);
            }
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    };
    let site = Arc::new(Site { web, view, viewers: Arc::new(Semaphore::new(MAX_VIEWERS)) });
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(slot) = slots.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let site = site.clone();
        tokio::spawn(async move {
            let answer = hyper::service::service_fn(move |request| {
                let site = site.clone();
                async move { Ok::<_, Infallible>(site.answer(&request).await) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            let served = server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).keep_alive(false);
            let _ = served.serve_connection(TokioIo::new(stream), answer).await;
            drop(slot);
        });
    }
}

struct Site {
    web: Web,
    view: View,
    viewers: Arc<Semaphore>,
}

impl Site {
    async fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        if request.method() != Method::GET {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        if !self.is_addressed(request) {
            return plain(
                StatusCode::FORBIDDEN,
                "ask by the address that web.listen names, or by localhost\n",
            );
        }
        match (request.uri().path(), self.web.page) {
            ("/metrics", _) => self.metrics().await,
            ("/healthz", _) => self.health().await,
            ("/", true) => page::page(),
            ("/live", true) => page::live(&self.view, &self.viewers),
            _ => {
                plain(StatusCode::NOT_FOUND, "there are /metrics and /healthz, and / with web.page = true\n")
            }
        }
    }

    /// A page of another site must not be able to look at a loopback address by a name of its own.
    fn is_addressed<B>(&self, request: &Request<B>) -> bool {
        let Some(host) = request.headers().get(HOST).and_then(|host| host.to_str().ok()) else { return true };
        let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        let name = name.map_or(host, |(name, _)| name).trim_matches(['[', ']']);
        !self.web.listen.ip().is_loopback() || name == "localhost" || name.parse::<IpAddr>().is_ok()
    }

    async fn metrics(&self) -> Response<Body> {
        match (self.view.ask)().await {
            Some(snapshot) => answer(StatusCode::OK, metrics::CONTENT_TYPE, metrics::text(&snapshot)),
            None => silent(),
        }
    }

    /// For those who restart what hangs, and those who only want a word.
    async fn health(&self) -> Response<Body> {
        let Some(snapshot) = (self.view.ask)().await else { return silent() };
        let owned = snapshot.vips.iter().all(|vip| vip.state == VipState::Active);
        plain(StatusCode::OK, if owned { "ok\n" } else { "ok, but a VIP has no owner\n" })
    }
}

fn silent() -> Response<Body> {
    plain(StatusCode::SERVICE_UNAVAILABLE, "the daemon's core does not answer\n")
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    answer(status, TEXT, text)
}

fn answer(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    respond(status, kind, Full::new(text.into()).boxed_unsync())
}

fn respond(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("content-security-policy", HeaderValue::from_static(page::POLICY));
    response
}

#[cfg(test)]
mod tests;
