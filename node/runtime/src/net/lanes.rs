//! The lanes of a connection: a writer for each of ours, a reader for each of the peer's.
//!
//! ```text
//! Outbound ─▶ write_lane ─▶ QUIC stream ─▶ read_lane ─▶ handler
//! ```
//! A writer takes all that is queued at once and writes it in one go; a reader hands on all that has arrived before it
//! reads again. Both run on the thread of the connection's endpoint.

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;
use quinn::{Connection, RecvStream};
use rookery_protocol::{LaneDecoder, NodeId, Signal, WireError};
use tokio::task::JoinSet;

use crate::net::{
    control::ConnectionError,
    outbound::{Outbound, Traffic},
};

/// How many bytes are read at once: what a stream may have under way.
const READ_BYTES: usize = 256 * 1024;

/// Takes the signals of a connection, in the order of each lane.
pub trait Inbox: Send + Sync + 'static {
    /// Takes one. May wait, which holds up its lane.
    fn take(&self, signal: Signal) -> impl Future<Output = Result<(), WireError>> + Send;
    /// Is told how much has arrived since it was told last.
    fn arrived(&self, _more: Traffic) {}
}

/// Writes what is queued for one lane until it is closed and empty; then ends its stream.
///
/// # Errors
/// The connection is lost, or the lane cannot go on.
pub async fn write_lane(connection: &Connection, outbound: &Outbound, lane: usize) -> Result<(), ConnectionError> {
    let mut stream = connection.open_uni().await?;
    while let Some(mut chunks) = poll_fn(|cx| outbound.poll_take(lane, cx)).await? {
        let bytes = chunks.iter().map(Bytes::len).sum();
        let written = tokio::select! {
            biased;
            written = stream.write_all_chunks(&mut chunks) => written,
            error = outbound.too_slow(lane) => return Err(error.into()),
        };
        outbound.written(bytes);
        written.map_err(|error| match error {
            quinn::WriteError::ConnectionLost(error) => error.into(),
            _ => ConnectionError::StreamClosed("lane"),
        })?;
    }
    drop(stream.finish());
    Ok(())
}

/// Reads the peer's lanes until all of them have ended, which happens when it leaves in good order.
///
/// # Errors
/// The connection is lost, or the peer broke the protocol.
pub async fn read_lanes<I: Inbox>(
    connection: &Connection,
    own: &NodeId,
    peer: &NodeId,
    lanes: u8,
    max_message_bytes: usize,
    inbox: Arc<I>,
) -> Result<(), ConnectionError> {
    let mut readers = JoinSet::new();
    for _ in 0..lanes {
        let accepted = tokio::select! {
            accepted = connection.accept_uni() => accepted?,
            Some(ended) = readers.join_next(), if !readers.is_empty() => {
                flatten(ended)?;
                continue;
            }
        };
        let decoder = LaneDecoder::new(own.clone(), peer.clone(), max_message_bytes);
        readers.spawn(read_lane(accepted, decoder, inbox.clone()));
    }
    loop {
        tokio::select! {
            ended = readers.join_next() => match ended {
                Some(ended) => flatten(ended)?,
                None => return Ok(()),
            },
            more = connection.accept_uni() => {
                more?;
                let detail = "more lanes than were agreed on";
                return Err(WireError::Unexpected { kind: "LaneOpen", detail }.into());
            }
        }
    }
}

fn flatten(ended: Result<Result<(), ConnectionError>, tokio::task::JoinError>) -> Result<(), ConnectionError> {
    ended.unwrap_or(Err(ConnectionError::StreamClosed("lane")))
}

async fn read_lane<I: Inbox>(
    mut stream: RecvStream,
    mut decoder: LaneDecoder,
    inbox: Arc<I>,
) -> Result<(), ConnectionError> {
    let mut arrived = Traffic::default();
    loop {
        while let Some(signal) = decoder.next_signal()? {
            arrived.signals += 1;
            inbox.take(signal).await?;
        }
        inbox.arrived(std::mem::take(&mut arrived));
        match stream.read_chunk(READ_BYTES, true).await {
            Ok(Some(chunk)) => {
                arrived.bytes = chunk.bytes.len() as u64;
                decoder.push(chunk.bytes);
            }
            Ok(None) => return Ok(decoder.finish()?),
            Err(quinn::ReadError::ConnectionLost(error)) => return Err(error.into()),
            Err(_) => return Err(ConnectionError::StreamClosed("lane")),
        }
    }
}
