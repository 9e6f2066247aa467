//! One request over a connection of its own.

use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// What `read` makes of the answer.
pub(super) async fn exchange<B, T, E>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<B>,
    broken: fn(hyper::Error) -> E,
    read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, E>,
) -> Result<T, E>
where
    B: Body<Data = bytes::Bytes, Error = std::convert::Infallible> + Send + 'static,
{
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(broken)?;
    let exchange = async { read(sender.send_request(request).await.map_err(broken)?).await };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // The connection may end before its last frame is read.
        _ = connection => exchange.await,
    }
}
