//! The streams of a connection: a writer for each of our lanes, a reader for each of the peer's, and bulk streams beside
//! them (`bulk.rs`).
//!
//! ```text
//! Outbound ─▶ write_lane ─▶ QUIC stream ─▶ read_lane ─▶ handler
//! ```
//! A writer takes all that is queued at once and writes it in one go; a reader hands on all that has arrived before it
//! reads again. All run on the thread that drives the connection's endpoint just then.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use rookery_protocol::{
    Arrival, BulkOpening, Destination, LaneDecoder, NodeId, Pid, PlainMessage, Reassembly, Run, Signal, WireError,
};
use tokio::task::JoinSet;

use crate::{
    net::{
        arriving,
        bulk::{Bodies, LaneBodies, MAX_BULK_STREAMS, next_chunk, write_bulk},
        control::{ConnectionError, close_code},
        outbound::{Leg, Outbound, Traffic},
    },
    runtime::Runtime,
    tally::{Kind, Route},
};

/// What of one lane may be held back behind bodies that are under way. Beyond it the lane is not read until some of it has
/// been delivered: what a sender has sent behind its own large message.
const HELD_BYTES: usize = 8 * 1024 * 1024;

/// After so many signals a lane lets the other tasks of its thread run: some milliseconds at most.
const YIELD_AFTER: u64 = 4_096;

/// Takes the signals of a connection, in the order of each lane.
pub trait Inbox: Send + Sync + 'static {
    /// Whose processes the signals are for.
    fn runtime(&self) -> &Runtime;
    /// Takes one. Gives it back if it has to wait first, which holds up its lane.
    ///
    /// # Errors
    /// The peer may not send this: the connection is to be closed.
    fn take(&self, signal: Signal) -> Result<Option<Signal>, WireError>;
    /// Takes a message from where it lies, if nothing speaks against it. Otherwise false: it comes again by
    /// [`take`](Self::take).
    fn take_plain(&self, _message: &PlainMessage) -> bool {
        false
    }
    /// As [`take_plain`](Self::take_plain), of several: takes those at the beginning that it can, and tells how many.
    fn take_run(&self, _run: &mut Run) -> u64 {
        0
    }
    /// Takes one that was given back, once it has waited.
    fn wait(&self, _signal: Signal) -> impl Future<Output = ()> + Send {
        async {}
    }
    /// Who gets what is sent there just now; `None` if it may be anybody. For what is held back behind a large message.
    fn receiver(&self, to: &Destination) -> Option<Pid> {
        self.runtime().receiver(to)
    }
    /// Is told how much has arrived since it was told last.
    fn arrived(&self, _more: Traffic) {}
}

/// Writes what is queued, on lanes and bulk streams, until the sending side is closed and all of it is written, or another
/// connection takes this one's place ([`Outbound::turn`]); then ends the streams.
///
/// # Errors
/// The connection is lost, or a lane cannot go on.
pub async fn write(connection: &Connection, outbound: &Arc<Outbound>) -> Result<(), ConnectionError> {
    write_leg(connection, outbound, outbound.leg()).await
}

/// As [`write()`], for the connection that is, or was, that one of those that took each other's place.
///
/// # Errors
/// As `write`.
pub async fn write_leg(connection: &Connection, outbound: &Arc<Outbound>, leg: Leg) -> Result<(), ConnectionError> {
    let mut writers = JoinSet::new();
    for lane in 0..outbound.lanes() {
        // All lanes before the first bulk stream: a body must not take the place of the lane that tells of it.
        let stream = connection.open_uni().await?;
        let outbound = outbound.clone();
        writers.spawn(async move { write_lane(stream, &outbound, lane, leg).await });
    }
    let (connection, outbound) = (connection.clone(), outbound.clone());
    writers.spawn(async move { write_bulk(&connection, &outbound, leg).await });
    while let Some(ended) = writers.join_next().await {
        ended.unwrap_or(Err(ConnectionError::StreamClosed("lane")))?;
    }
    Ok(())
}

/// A lane that is written. Unless it is ended, it is broken off: QUIC would end it in good order, and the peer take what came for all.
struct Written {
    stream: SendStream,
    has_ended: bool,
}

impl Drop for Written {
    fn drop(&mut self) {
        if !self.has_ended {
            drop(self.stream.reset(close_code::PROTOCOL));
        }
    }
}

async fn write_lane(stream: SendStream, outbound: &Outbound, lane: usize, leg: Leg) -> Result<(), ConnectionError> {
    let mut lane_stream = Written { stream, has_ended: false };
    let stream = &mut lane_stream.stream;
    while let Some(mut chunks) = poll_fn(|cx| outbound.poll_take(lane, leg, cx)).await? {
        let bytes = chunks.iter().map(Bytes::len).sum();
        let written = tokio::select! {
            biased;
            written = stream.write_all_chunks(&mut chunks) => written,
            error = outbound.too_slow(lane) => return Err(error.into()),
        };
        outbound.written(lane, bytes);
        written.map_err(|error| match error {
            quinn::WriteError::ConnectionLost(error) => error.into(),
            _ => ConnectionError::StreamClosed("lane"),
        })?;
    }
    drop(stream.finish());
    lane_stream.has_ended = true;
    Ok(())
}

/// What a connection's streams bring, and from whom.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// This end.
    pub own: NodeId,
    /// The other end.
    pub peer: NodeId,
    /// The lanes that were agreed on.
    pub lanes: u8,
    /// The largest payload that is taken.
    pub max_message_bytes: usize,
    /// Whether bulk streams were agreed on.
    pub bulk: bool,
}

/// Reads the peer's streams until all of its lanes have ended, which happens when it leaves in good order.
///
/// # Errors
/// The connection is lost, or the peer broke the protocol.
pub async fn read<I: Inbox>(
    connection: &Connection,
    incoming: Incoming,
    inbox: Arc<I>,
    first: Option<RecvStream>,
) -> Result<(), ConnectionError> {
    let bulk = if incoming.bulk { MAX_BULK_STREAMS } else { 0 };
    let streams = u32::from(incoming.lanes) + u32::try_from(bulk).unwrap_or_default();
    connection.set_max_concurrent_uni_streams(VarInt::from_u32(streams));
    let mut lanes_left = incoming.lanes;
    let reading = Arc::new(Reading { incoming, inbox, opened: AtomicUsize::new(0), bodies: Bodies::default() });
    let mut readers = JoinSet::new();
    let begin = |readers: &mut JoinSet<_>, stream: RecvStream| {
        let reading = reading.clone();
        readers.spawn(async move { reading.stream(stream).await });
    };
    if let Some(stream) = first {
        begin(&mut readers, stream);
    }
    while lanes_left > 0 {
        tokio::select! {
            accepted = connection.accept_uni() => begin(&mut readers, accepted?),
            Some(ended) = readers.join_next(), if !readers.is_empty() => {
                match ended.unwrap_or(Err(ConnectionError::StreamClosed("lane")))? {
                    Ended::Lane => lanes_left -= 1,
                    Ended::Body => {}
                }
            }
        }
    }
    Ok(())
}

/// What all streams of one connection share.
struct Reading<I> {
    incoming: Incoming,
    inbox: Arc<I>,
    /// Lanes so far.
    opened: AtomicUsize,
    bodies: Bodies,
}

/// A stream that has ended in good order.
enum Ended {
    Lane,
    Body,
}

impl<I: Inbox> Reading<I> {
    async fn stream(&self, mut stream: RecvStream) -> Result<Ended, ConnectionError> {
        let mut first = BytesMut::new();
        let bulk = loop {
            if let Some(bulk) = BulkOpening::announces(&first) {
                break bulk;
            }
            match next_chunk(&mut stream).await? {
                Some(chunk) => first.extend_from_slice(&chunk),
                None => break false,
            }
        };
        if bulk && self.incoming.bulk {
            self.bodies.read(stream, first.freeze(), self.incoming.max_message_bytes).await?;
            return Ok(Ended::Body);
        }
        if self.opened.fetch_add(1, Ordering::Relaxed) >= usize::from(self.incoming.lanes) {
            let detail = "more lanes than were agreed on";
            return Err(WireError::Unexpected { kind: "LaneOpen", detail }.into());
        }
        self.lane(stream, first.freeze()).await?;
        Ok(Ended::Lane)
    }

    async fn lane(&self, mut stream: RecvStream, first: Bytes) -> Result<(), ConnectionError> {
        let Incoming { own, peer, max_message_bytes, .. } = &self.incoming;
        let mut lane = LaneReader {
            decoder: LaneDecoder::new(own.clone(), peer.clone(), *max_message_bytes),
            reassembly: Reassembly::default(),
            bodies: Arc::default(),
        };
        let mut arrived = Traffic { signals: 0, bytes: first.len() as u64 };
        lane.decoder.push(first);
        loop {
            self.deliver(&mut lane, &mut arrived.signals).await?;
            self.inbox.arrived(std::mem::take(&mut arrived));
            let chunk = if lane.reassembly.is_empty() {
                next_chunk(&mut stream).await?
            } else {
                tokio::select! {
                    () = lane.bodies.told() => {
                        self.deliver_bodies(&mut lane).await?;
                        continue;
                    }
                    chunk = next_chunk(&mut stream), if lane.reassembly.held_bytes() < HELD_BYTES => chunk?,
                }
            };
            let Some(chunk) = chunk else { break };
            arrived.bytes = chunk.len() as u64;
            lane.decoder.push(chunk);
        }
        lane.decoder.finish()?;
        while !lane.reassembly.is_empty() {
            lane.bodies.told().await;
            self.deliver_bodies(&mut lane).await?;
        }
        Ok(())
    }

    /// Hands on what has wholly arrived.
    async fn deliver(&self, lane: &mut LaneReader, signals: &mut u64) -> Result<(), ConnectionError> {
        let mut last_yield = *signals;
        loop {
            match arriving::batch(self.inbox.runtime(), || self.batch(lane, signals))? {
                Step::Done => return Ok(()),
                // Others have their turn, however small the messages are of which a chunk is made.
                Step::More if *signals - last_yield >= YIELD_AFTER => {
                    last_yield = *signals;
                    tokio::task::yield_now().await;
                }
                Step::More => {}
                Step::Wait(signal) => self.inbox.wait(signal).await,
            }
        }
    }

    fn batch(&self, lane: &mut LaneReader, signals: &mut u64) -> Result<Step, WireError> {
        let until = *signals + arriving::BATCH;
        while *signals < until {
            let arrival = match self.incoming.bulk {
                true => lane.decoder.next_arrival()?,
                false => lane.decoder.next_signal()?.map(Arrival::Signal),
            };
            let Some(arrival) = arrival else { return Ok(Step::Done) };
            if let Arrival::Run(mut run) = arrival {
                if lane.reassembly.is_empty() {
                    let taken = self.inbox.take_run(&mut run);
                    self.inbox.runtime().count_many(Route::Received, Kind::Message, taken);
                    *signals += taken;
                }
                lane.decoder.put_back(run);
                continue;
            }
            *signals += 1;
            let arrival = match arrival {
                Arrival::Plain(message) if lane.reassembly.is_empty() && self.inbox.take_plain(&message) => {
                    self.inbox.runtime().count(Route::Received, Kind::Message);
                    continue;
                }
                Arrival::Plain(message) => Arrival::Signal(lane.decoder.signal_of(message)?),
                other => other,
            };
            if let Arrival::Signal(signal) | Arrival::Ticketed(signal, _) = &arrival {
                self.inbox.runtime().count(Route::Received, Kind::of(&signal.body));
            }
            let taken = match arrival {
                Arrival::Plain(_) | Arrival::Run(_) => None,
                Arrival::Signal(signal) if lane.reassembly.is_empty() => self.inbox.take(signal)?,
                Arrival::Signal(signal) => {
                    let receiver = self.inbox.receiver(&signal.to);
                    match lane.reassembly.pass(signal, receiver) {
                        Some(signal) => self.inbox.take(signal)?,
                        None => None,
                    }
                }
                Arrival::Ticketed(signal, ticket) => {
                    let receiver = self.inbox.receiver(&signal.to);
                    lane.reassembly.expect(signal, receiver, ticket)?;
                    self.bodies.expect(ticket, &lane.bodies);
                    None
                }
            };
            if let Some(signal) = taken {
                return Ok(Step::Wait(signal));
            }
        }
        Ok(Step::More)
    }

    async fn deliver_bodies(&self, lane: &mut LaneReader) -> Result<(), ConnectionError> {
        for (number, body) in lane.bodies.take() {
            lane.reassembly.body(number, body)?;
        }
        while let Some(signal) = lane.reassembly.next_ready() {
            if let Some(signal) = self.inbox.take(signal)? {
                self.inbox.wait(signal).await;
            }
        }
        Ok(())
    }
}

/// How a batch has ended.
enum Step {
    /// Nothing is left that has wholly arrived.
    Done,
    /// Something may be.
    More,
    /// This has to wait first.
    Wait(Signal),
}

/// The receiving end of one lane.
struct LaneReader {
    decoder: LaneDecoder,
    reassembly: Reassembly,
    /// Brings what `reassembly` waits for.
    bodies: Arc<LaneBodies>,
}

#[cfg(test)]
mod tests;
