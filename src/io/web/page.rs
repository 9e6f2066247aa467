//! The page, one file, and what keeps it up to date: server-sent events, a second apart.

use super::{Body, PAUSE, View, answer, plain, respond};
use bytes::Bytes;
use futures::stream;
use haclusterd_proto::control::{LoggedEvent, Snapshot};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const PAGE: &str = include_str!("page.html");
/// Nothing from anywhere else, and nothing into another page.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
     img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
/// Events that a new viewer is shown.
const SHOWN: usize = 100;

#[derive(Serialize)]
struct News<'a> {
    /// Absent: the daemon's core does not answer.
    snapshot: Option<&'a Snapshot>,
    events: &'a [LoggedEvent],
}

pub(super) fn page() -> Response<Body> {
    answer(StatusCode::OK, "text/html; charset=utf-8", PAGE)
}

pub(super) fn live(view: &View, viewers: &Arc<Semaphore>) -> Response<Body> {
    let Ok(seat) = viewers.clone().try_acquire_owned() else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "too many look at once\n");
    };
    let frames = stream::unfold(Viewer { view: view.clone(), shown: None, _seat: seat }, Viewer::next);
    respond(StatusCode::OK, "text/event-stream", StreamBody::new(frames).boxed_unsync())
}

struct Viewer {
    view: View,
    /// The last event that was sent.
    shown: Option<u64>,
    _seat: OwnedSemaphorePermit,
}

impl Viewer {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>, Infallible>, Viewer)> {
        if self.shown.is_some() {
            tokio::time::sleep(PAUSE).await;
        }
        let snapshot = (self.view.ask)().await;
        let mut events = self.view.events.after(self.shown.unwrap_or(0));
        events.drain(..events.len().saturating_sub(SHOWN));
        self.shown = Some(events.last().map_or(self.shown.unwrap_or(0), |event| event.id));
        let news = News { snapshot: snapshot.as_ref(), events: &events };
        let text = serde_json::to_string(&news).unwrap_or_default();
        Some((Ok(Frame::data(format!("data: {text}\n\n").into())), self))
    }
}
