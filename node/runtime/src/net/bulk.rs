//! Bulk streams: bodies above a size, each on a stream of its own beside the lanes (S4).
//!
//! ```text
//! Outbound ─ ticket ─▶ lane ─────────────────────────────────▶ read_lane: holds back the pair
//!          └ body ──▶ BulkQueue ─▶ write_bulk ─▶ stream ─▶ Bodies ─┘ until its body is there
//! ```
//! Lanes and control go before bulk by priority. A bounded number of bodies is under way at once, in the order of their
//! tickets, so a lane never waits for a body that waits for it.

use std::{
    cell::Cell,
    collections::{HashMap, VecDeque},
    future::poll_fn,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use rookery_protocol::{BulkOpening, Ticket, TicketNumber, WireError};
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    task::JoinSet,
};

use crate::{
    net::{
        congestion::Bulk,
        control::ConnectionError,
        outbound::{Leg, Outbound},
    },
    sync::lock,
};

/// A body above this travels apart. On its sender's lane one of this size holds up the others for 0.1 ms at 5 Gbit/s; a
/// stream of its own costs about as much as that.
pub const BULK_BYTES: usize = 64 * 1024;

/// Bodies of one connection and direction under way at once. More would not be faster, and the receiver holds them all.
pub const MAX_BULK_STREAMS: usize = 8;

/// Below lanes, which have 0, and control.
const PRIORITY: i32 = -1;

/// Bodies that wait for their streams.
#[derive(Debug)]
pub(crate) struct BulkQueue {
    state: Mutex<QueueState>,
    next_ticket: AtomicU64,
    /// Bytes of all bodies that are not wholly handed to QUIC.
    queued: AtomicUsize,
    /// From how many waiting bytes on senders wait.
    budget: usize,
    /// Senders that wait for room.
    room: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    /// In pieces, so that nothing has to be copied together.
    bodies: VecDeque<(TicketNumber, Vec<Bytes>)>,
    /// What the former connection still has to write.
    parting: VecDeque<(TicketNumber, Vec<Bytes>)>,
    /// Which connection it is that writes, of those that took each other's place.
    leg: Leg,
    /// The writer, while it has nothing to write.
    writer: Option<Waker>,
    closed: bool,
}

impl BulkQueue {
    pub(crate) fn new(budget: usize) -> Self {
        Self {
            state: Mutex::default(),
            next_ticket: AtomicU64::new(0),
            queued: AtomicUsize::new(0),
            budget,
            room: Notify::new(),
        }
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.queued_bytes() < self.budget
    }

    /// The ticket for a body; the body follows by [`push`](Self::push), in the order of the lane's tickets.
    pub(crate) fn ticket(&self, body_bytes: usize) -> Ticket {
        Ticket { number: TicketNumber(self.next_ticket.fetch_add(1, Ordering::Relaxed)), body_bytes }
    }

    pub(crate) fn push(&self, number: TicketNumber, body: Vec<Bytes>) {
        self.queued.fetch_add(length(&body), Ordering::Relaxed);
        let mut state = lock(&self.state);
        state.bodies.push_back((number, body));
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// Waits until there is room. One waiter is told at a time: each has a large message to encode.
    pub(crate) async fn room(&self, closed: impl Fn() -> bool) {
        while !self.has_room() && !closed() {
            self.room.notified().await;
        }
        // Whoever waits behind may find room as well.
        if self.has_room() || closed() {
            self.room.notify_one();
        }
    }

    fn poll_take(&self, leg: Leg, cx: &Context<'_>) -> Poll<Option<(TicketNumber, Vec<Bytes>)>> {
        let mut state = lock(&self.state);
        if leg != state.leg {
            return Poll::Ready(state.parting.pop_front());
        }
        match state.bodies.pop_front() {
            Some(next) => Poll::Ready(Some(next)),
            None if state.closed => Poll::Ready(None),
            None => {
                state.writer = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// What is queued is the former connection's, what comes is the next one's.
    pub(crate) fn turn(&self, leg: Leg) {
        let mut state = lock(&self.state);
        let bodies = std::mem::take(&mut state.bodies);
        state.parting.extend(bodies);
        state.leg = leg;
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
    }

    fn written(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
        self.room.notify_one();
    }

    /// Takes no more bodies; those that are queued are still written.
    pub(crate) fn finish(&self) {
        let writer = {
            let mut state = lock(&self.state);
            state.closed = true;
            state.writer.take()
        };
        if let Some(writer) = writer {
            writer.wake();
        }
        self.room.notify_one();
    }

    /// What waits goes nowhere any more: the connection is lost.
    pub(crate) fn discard(&self) {
        let bodies = {
            let mut state = lock(&self.state);
            let mut bodies = std::mem::take(&mut state.parting);
            bodies.append(&mut state.bodies);
            bodies
        };
        self.queued.fetch_sub(bodies.iter().map(|(_, body)| length(body)).sum(), Ordering::Relaxed);
        self.finish();
    }
}

fn length(body: &[Bytes]) -> usize {
    body.iter().map(Bytes::len).sum()
}

/// What of a body is handed to QUIC at once.
const PIECE_BYTES: usize = 64 * 1024;

/// For so long after the last body was handed over bodies are taken to flow: its end waits in QUIC.
const AFTER_BULK: Duration = Duration::from_millis(50);

/// After so long the thread lets others run.
const BREATH: Duration = Duration::from_micros(100);

thread_local! {
    static BREATHED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Lets other threads run for a moment, now and then. While bodies flow, the I/O thread never sleeps; where there are no more
/// cores than threads, whoever it has woken would wait for the end of its time slice, which is milliseconds.
fn breathe() {
    let now = Instant::now();
    let due = BREATHED.get().is_none_or(|last| now.duration_since(last) > BREATH);
    if due {
        std::thread::yield_now();
        BREATHED.set(Some(Instant::now()));
    }
}

/// Writes bodies until the connection's sending side is closed and all of them are written.
///
/// # Errors
/// The connection is lost.
pub(crate) async fn write_bulk(
    connection: &Connection,
    outbound: &Arc<Outbound>,
    leg: Leg,
) -> Result<(), ConnectionError> {
    let Some(queue) = outbound.bulk() else { return Ok(()) };
    let bulk = Bulk::of(connection);
    let mut writing = JoinSet::new();
    loop {
        let next = tokio::select! {
            next = poll_fn(|cx| queue.poll_take(leg, cx)), if writing.len() < MAX_BULK_STREAMS => next,
            Some(ended) = writing.join_next(), if !writing.is_empty() => {
                written(ended)?;
                continue;
            }
            () = tokio::time::sleep(AFTER_BULK), if writing.is_empty() && bulk.flows() => {
                bulk.set(false);
                continue;
            }
        };
        let Some((number, body)) = next else { break };
        bulk.set(true);
        // In the order of the tickets; waits for the peer to allow one more stream.
        let stream = connection.open_uni().await?;
        let outbound = outbound.clone();
        writing.spawn(async move {
            let bytes = length(&body);
            let written = write_body(stream, number, body).await;
            if let Some(queue) = outbound.bulk() {
                queue.written(bytes);
            }
            written
        });
    }
    while let Some(ended) = writing.join_next().await {
        written(ended)?;
    }
    Ok(())
}

fn written(ended: Result<Result<(), ConnectionError>, tokio::task::JoinError>) -> Result<(), ConnectionError> {
    ended.unwrap_or(Err(ConnectionError::StreamClosed("bulk")))
}

async fn write_body(mut stream: SendStream, number: TicketNumber, body: Vec<Bytes>) -> Result<(), ConnectionError> {
    drop(stream.set_priority(PRIORITY));
    let mut opening = Vec::new();
    BulkOpening::encode(number, &mut opening);
    let lost = |error| match error {
        quinn::WriteError::ConnectionLost(error) => error.into(),
        _ => ConnectionError::StreamClosed("bulk"),
    };
    stream.write_chunk(Bytes::from(opening)).await.map_err(lost)?;
    for mut rest in body {
        while !rest.is_empty() {
            let piece = rest.split_to(PIECE_BYTES.min(rest.len()));
            stream.write_chunk(piece).await.map_err(lost)?;
            breathe();
        }
    }
    drop(stream.finish());
    Ok(())
}

/// Where the bodies of one connection meet the lanes that wait for them.
pub(crate) struct Bodies {
    state: Mutex<BodiesState>,
    /// For bodies that come before their tickets; what a ticket has come for needs none.
    early: Semaphore,
    /// A ticket has come.
    expected: Notify,
}

#[derive(Default)]
struct BodiesState {
    /// Tickets that have come, and who waits.
    expected: HashMap<TicketNumber, (Arc<LaneBodies>, usize)>,
    /// Bodies that have come before.
    early: HashMap<TicketNumber, Bytes>,
}

/// The bodies that have arrived for one lane.
#[derive(Default)]
pub(crate) struct LaneBodies {
    arrived: Mutex<Vec<(TicketNumber, Bytes)>>,
    told: Notify,
}

impl LaneBodies {
    /// Waits until a body has arrived.
    pub(crate) async fn told(&self) {
        self.told.notified().await;
    }

    pub(crate) fn take(&self) -> Vec<(TicketNumber, Bytes)> {
        std::mem::take(&mut lock(&self.arrived))
    }
}

impl Default for Bodies {
    fn default() -> Self {
        Self { state: Mutex::default(), early: Semaphore::new(MAX_BULK_STREAMS), expected: Notify::new() }
    }
}

impl Bodies {
    /// A lane has come to a ticket. Its body goes to `lane`, at once if it has arrived.
    pub(crate) fn expect(&self, ticket: Ticket, lane: &Arc<LaneBodies>) {
        let mut state = lock(&self.state);
        match state.early.remove(&ticket.number) {
            Some(body) => {
                drop(state);
                self.early.add_permits(1);
                lane.arrive(ticket.number, body);
            }
            None => {
                state.expected.insert(ticket.number, (lane.clone(), ticket.body_bytes));
                drop(state);
                self.expected.notify_waiters();
            }
        }
    }

    fn length(&self, number: TicketNumber) -> Option<usize> {
        lock(&self.state).expected.get(&number).map(|(_, bytes)| *bytes)
    }

    /// Waits until the body may be read: its ticket has come, or few enough bodies are early.
    async fn admit<'a>(&'a self, number: TicketNumber) -> Admitted<'a> {
        loop {
            let mut told = std::pin::pin!(self.expected.notified());
            told.as_mut().enable();
            if self.length(number).is_some() {
                return Admitted::Expected;
            }
            tokio::select! {
                biased;
                () = told => {}
                permit = self.early.acquire() => match permit {
                    Ok(permit) => return Admitted::Early(permit),
                    // Is never closed.
                    Err(_) => return Admitted::Expected,
                }
            }
        }
    }

    fn arrive(&self, number: TicketNumber, body: Bytes, admitted: Admitted<'_>) {
        let mut state = lock(&self.state);
        match state.expected.remove(&number) {
            Some((lane, _)) => {
                drop(state);
                lane.arrive(number, body);
            }
            None => {
                // Given back when its ticket has come.
                if let Admitted::Early(permit) = admitted {
                    permit.forget();
                }
                state.early.insert(number, body);
            }
        }
    }

    /// Reads one bulk stream, whose first bytes have been read.
    pub(crate) async fn read(
        &self,
        mut stream: RecvStream,
        first: Bytes,
        max_bytes: usize,
    ) -> Result<(), ConnectionError> {
        let mut opening = BulkOpening::default();
        let mut opened = opening.push(first)?;
        while opened.is_none() {
            match next_chunk(&mut stream).await? {
                Some(chunk) => opened = opening.push(chunk)?,
                None => return Err(WireError::EndedWithinFrame { have: 0, want: 1 }.into()),
            }
        }
        let Some((number, rest)) = opened else { return Ok(()) };
        let admitted = self.admit(number).await;
        let mut body = Vec::from(rest);
        while let Some(chunk) = next_chunk(&mut stream).await? {
            if body.len() + chunk.len() > max_bytes {
                let detail = format!("a body of more than {max_bytes} bytes");
                return Err(WireError::Invalid { kind: "BulkOpen", field: "body", detail }.into());
            }
            if body.capacity() - body.len() < chunk.len() {
                // Memory grows with what has arrived: sixteenfold, up to what the ticket says.
                let known = self.length(number).unwrap_or(body.len() * 2);
                body.reserve_exact(
                    (body.len() * 15).max(GROWTH_BYTES).min(known.saturating_sub(body.len())).max(chunk.len()),
                );
            }
            body.extend_from_slice(&chunk);
            breathe();
        }
        self.arrive(number, Bytes::from(body), admitted);
        Ok(())
    }
}

/// By how much a body's buffer grows at least.
const GROWTH_BYTES: usize = 256 * 1024;

/// Why a body may be read.
enum Admitted<'a> {
    Expected,
    Early(SemaphorePermit<'a>),
}

impl LaneBodies {
    fn arrive(&self, number: TicketNumber, body: Bytes) {
        lock(&self.arrived).push((number, body));
        self.told.notify_one();
    }
}

/// How many bytes are read at once.
const READ_BYTES: usize = 256 * 1024;

/// The next bytes of a stream of the peer's.
pub(crate) async fn next_chunk(stream: &mut RecvStream) -> Result<Option<Bytes>, ConnectionError> {
    match stream.read_chunk(READ_BYTES, true).await {
        Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
        Err(quinn::ReadError::ConnectionLost(error)) => Err(error.into()),
        Err(_) => Err(ConnectionError::StreamClosed("lane")),
    }
}
