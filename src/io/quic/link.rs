//! The life of one connection to a member: up, read and written by tasks of its own, gone.
//!
//! A client of TLS 1.3 has its connection before the server has judged its certificate. Therefore the server opens
//! an empty stream as soon as it has accepted, and the dialler takes a connection for one only then.

use super::links::{Origin, Refusal};
use super::{Event, STREAM_MAX, Shared, code};
use futures::StreamExt;
use futures::future::join_all;
use haclusterd_proto::NodeId;
use quinn::{Connection, ReadToEndError, RecvStream, SendStream, VarInt};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{timeout, timeout_at};

/// Messages that wait for the peer; gossip repeats what it could not say.
const OUTBOX: usize = 64;
/// Streams of one peer that are read at once; the others wait in its windows. It bounds what we hold for it.
const READ_AT_ONCE: usize = 8;
/// How long one stream may take, in either direction.
const STREAM_TIME: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(super) struct Link {
    pub connection: Connection,
    pub node: NodeId,
    pub addr: SocketAddr,
    pub origin: Origin,
    pub outbox: mpsc::Sender<Outgoing>,
}

pub(super) enum Outgoing {
    Message(Vec<u8>),
    /// Answered when everything before it has left this host and the peer has said so.
    Flush(oneshot::Sender<()>),
}

/// From here on the connection is used. `dialler` is we or they.
pub(super) fn start(
    shared: &Arc<Shared>,
    connection: Connection,
    node: NodeId,
    dialler: NodeId,
) -> Result<(), Refusal> {
    let (outbox, messages) = mpsc::channel(OUTBOX);
    let addr = connection.remote_address();
    let link = Link { connection, node, addr, origin: Origin { dialler, since: Instant::now() }, outbox };
    match shared.links.insert(shared, &link) {
        Ok(()) => drop(shared.runtime.spawn(live(shared.clone(), link, messages))),
        Err(Refusal::Forbidden) => {
            shared.tally.forbidden.add();
            link.connection.close(code::FORBIDDEN, b"this node was removed from the cluster");
            return Err(Refusal::Forbidden);
        }
        Err(Refusal::Full) => {
            shared.tally.refused.add();
            link.connection.close(code::FULL, b"too many connections");
            return Err(Refusal::Full);
        }
    }
    Ok(())
}

impl Link {
    pub fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.outbox.send(Outgoing::Flush(done)).await.is_ok() {
            let _ = flushed.await;
        }
    }
}

async fn live(shared: Arc<Shared>, link: Link, messages: mpsc::Receiver<Outgoing>) {
    let writer = tokio::spawn(write(shared.clone(), link.clone(), messages));
    let streams = tokio::spawn(read_streams(shared.clone(), link.clone()));
    // The readers end when the connection has, and not before what had arrived is read.
    read_datagrams(&shared, &link).await;
    let _ = streams.await;
    writer.abort();
    let reason = link.connection.close_reason().map_or_else(String::new, |reason| reason.to_string());
    shared.links.remove(&shared, &link, reason);
}

async fn read_datagrams(shared: &Shared, link: &Link) {
    while let Ok(bytes) = link.connection.read_datagram().await {
        shared.tell(Event::Datagram { from: link.node, bytes });
        // quinn does not count towards tokio's budget: without this a flood would keep the worker to itself.
        tokio::task::coop::consume_budget().await;
    }
}

async fn read_streams(shared: Arc<Shared>, link: Link) {
    let accept = |connection: Connection| async move {
        let stream = connection.accept_uni().await.ok()?;
        Some((stream, connection))
    };
    futures::stream::unfold(link.connection.clone(), accept)
        .for_each_concurrent(READ_AT_ONCE, |stream| read_stream(&shared, &link, stream))
        .await;
}

async fn read_stream(shared: &Shared, link: &Link, mut stream: RecvStream) {
    match timeout(STREAM_TIME, stream.read_to_end(STREAM_MAX)).await {
        Ok(Ok(bytes)) if bytes.is_empty() => {}
        Ok(Ok(bytes)) => shared.tell(Event::Stream { from: link.node, addr: link.addr, bytes }),
        Ok(Err(ReadToEndError::TooLong)) => drop(shared.tally.oversize.add()),
        Ok(Err(ReadToEndError::Read(_))) | Err(_) => drop(shared.tally.unfinished.add()),
    }
    // Dropping what was not read to its end tells the peer to stop.
}

async fn write(shared: Arc<Shared>, link: Link, mut messages: mpsc::Receiver<Outgoing>) {
    if link.origin.dialler != shared.me {
        let _ = empty_stream(&link.connection).await;
    }
    let mut sent = VecDeque::with_capacity(OUTBOX);
    while let Some(next) = messages.recv().await {
        match next {
            Outgoing::Message(bytes) => match send(&link.connection, &bytes).await {
                Some(stream) => remember(&mut sent, stream),
                None => drop(shared.tally.streams_dropped.add()),
            },
            Outgoing::Flush(done) => {
                // Datagrams go before streams: when this one is acknowledged, they have left.
                sent.extend(empty_stream(&link.connection).await);
                join_all(sent.drain(..).map(|stream| async move { stream.stopped().await })).await;
                let _ = done.send(());
            }
        }
    }
}

async fn empty_stream(connection: &Connection) -> Option<SendStream> {
    let mut stream = connection.open_uni().await.ok()?;
    stream.finish().ok()?;
    Some(stream)
}

/// For a flush to wait for: a lost packet can let a later stream arrive first. The peer has long had older ones.
fn remember(sent: &mut VecDeque<SendStream>, stream: SendStream) {
    if sent.len() == OUTBOX {
        sent.pop_front();
    }
    sent.push_back(stream);
}

async fn send(connection: &Connection, bytes: &[u8]) -> Option<SendStream> {
    let deadline = tokio::time::Instant::now() + STREAM_TIME;
    let mut stream = timeout_at(deadline, connection.open_uni()).await.ok()?.ok()?;
    if let Ok(Ok(())) = timeout_at(deadline, stream.write_all(bytes)).await {
        return stream.finish().ok().map(|()| stream);
    }
    // A stream that is merely dropped would end as if it were whole.
    let _ = stream.reset(VarInt::from_u32(0));
    None
}
