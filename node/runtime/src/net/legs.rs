//! What serves the other end of a connection, a node or a client: its lanes and control stream, until it ends, or until another connection
//! of the same two takes its place without a loss, as after a certificate was renewed.
//!
//! ```text
//!            agreed                 all read
//! old lanes ───┴── last ─▶ end         │
//! new lanes    └── first ──────────────┴─▶ read      at each end, in each direction
//! ```
//! Each end writes the last of what is queued to its old lanes and ends them, and goes on with new ones at once; it reads the peer's new
//! lanes only when all of the old ones have ended. So order is kept (S1) and nothing is lost, and nobody is told of anything (M5). When it
//! has read the old ones it ends its old control stream, by which the peer knows; when both have, the old connection goes (`crossing.rs`).
//! Whoever was dialled goes over first, and the other follows. Until then either may give it up, by closing the new connection.
//!
//! **Invariant:** once an end has gone over, either connection that goes before all of the old one was read is a loss, and both end with it.

mod crossing;
#[cfg(test)]
mod tests;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use quinn::{Connection, RecvStream};
use rookery_protocol::{ControlFrame, control::Goodbye, handshake::Agreement};
use tokio::{
    sync::mpsc,
    time::{interval, timeout},
};

use super::{
    control::{ConnectionError, Control, ControlReceiver, ControlSender, close_code},
    lanes::write_leg,
    outbound::{self, Outbound},
};

/// How long an end that has said goodbye waits for the other to hear it, or that has heard it reads on.
const FAREWELL: Duration = Duration::from_secs(1);

/// How often it is looked whether large bodies are still under way.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Something that goes on until it fails, or is done.
pub type Work = Pin<Box<dyn Future<Output = Result<(), ConnectionError>> + Send>>;

/// A connection that both ends have agreed on. `N` is what its owner wants to know of it.
#[derive(Debug)]
pub struct Made<N> {
    /// The connection.
    pub connection: Connection,
    /// Its control stream.
    pub control: Control,
    /// What was agreed on.
    pub agreement: Agreement,
    /// Whether this end has dialled.
    pub dialled: bool,
    /// The owner's.
    pub note: N,
}

/// Whoever is served, as this end knows it.
pub trait Served: Send + Sync + 'static {
    /// What is noted with each connection.
    type Note: Send;
    /// The sending side.
    fn outbound(&self) -> &Arc<Outbound>;
    /// Reads the lanes of a connection, of which the first may have been accepted already.
    fn reading(&self, connection: &Connection, agreement: &Agreement, first: Option<RecvStream>) -> Work;
    /// Fails when the connection has been silent for too long.
    fn watching(&self, _connection: &Connection, _agreement: &Agreement) -> Work {
        Box::pin(std::future::pending())
    }
    /// Takes a frame of the control stream.
    ///
    /// # Errors
    /// The connection ends with this.
    fn frame(&self, frame: ControlFrame) -> Result<(), ConnectionError>;
    /// Why the connection has ended, when nothing follows the end of the lanes.
    fn lanes_ended(&self) -> ConnectionError {
        ConnectionError::StreamClosed("lane")
    }
    /// Whether another connection may be about to take this one's place, for how long at most.
    fn is_renewal_expected(&self) -> Option<Duration>;
    /// A renewal was given up before anything had changed.
    fn stays(&self);
    /// Both ends have gone over to this connection. False if the peer was given up meanwhile.
    fn has_gone_over(&self, connection: &Connection, note: Self::Note) -> bool;
    /// Waits until this end is to leave, and says why.
    fn leaves(&self) -> impl Future<Output = String> + Send;
}

/// How long a renewal may take in its parts.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until the peer that was dialled goes over: its first lane is there. It does at once, or when its large bodies are written.
    pub peer: Duration,
    /// While nothing moves on the old connection, once this end has gone over.
    pub stalled: Duration,
    /// Until large bodies that are under way are written: what comes after them on the new connection has to wait for them (S4).
    pub bodies: Duration,
}

const PEER: Duration = Duration::from_secs(20);

/// Whoever reads so slowly that a minute brings nothing has stopped to read.
const STALLED: Duration = Duration::from_secs(60);

/// How long a renewal waits for large bodies at each end.
pub const BODIES: Duration = Duration::from_secs(5);

// An end that waits for its bodies must not be given up for that.
const _: () = assert!(2 * BODIES.as_secs() <= PEER.as_secs());

impl Default for Patience {
    fn default() -> Self {
        Self { peer: PEER, stalled: STALLED, bodies: BODIES }
    }
}

/// One of the connections that serve a peer one after the other.
struct Leg {
    connection: Connection,
    reading: Work,
    /// All of the peer's lanes have ended.
    has_read: bool,
    writing: Work,
    /// All of ours have.
    has_written: bool,
    watching: Work,
    sender: ControlSender,
    receiver: ControlReceiver,
}

impl Leg {
    fn new<S: Served>(
        served: &S,
        made: Made<S::Note>,
        leg: outbound::Leg,
        lane: Option<RecvStream>,
    ) -> (Self, S::Note) {
        let Made { connection, control, agreement, note, .. } = made;
        let (sender, receiver) = control.split();
        let (written, outbound) = (connection.clone(), served.outbound().clone());
        let writing = Box::pin(async move { write_leg(&written, &outbound, leg).await });
        let reading = served.reading(&connection, &agreement, lane);
        let watching = served.watching(&connection, &agreement);
        let leg =
            Self { connection, reading, has_read: false, writing, has_written: false, watching, sender, receiver };
        (leg, note)
    }

    /// What the peer sent before it left comes before the end.
    async fn last_words(&mut self) {
        if !self.has_read {
            drop(timeout(FAREWELL, self.reading.as_mut()).await);
        }
    }

    /// Says all that is to be said, then goodbye; the peer closes when it has read it.
    async fn farewell(&mut self, outbound: &Outbound, reason: &str) {
        outbound.finish();
        let last = async {
            if !self.has_written {
                drop(self.writing.as_mut().await);
            }
            self.sender.send(&ControlFrame::Goodbye(Goodbye { reason: reason.to_owned() })).await?;
            if !self.has_read {
                drop(self.reading.as_mut().await);
            }
            self.connection.closed().await;
            Ok::<(), ConnectionError>(())
        };
        drop(timeout(FAREWELL, last).await);
    }
}

/// What ends an undisturbed time on one connection.
enum Stood<T> {
    /// What was waited for.
    Happened(T),
    /// All lanes of the peer ended in good order.
    AllRead,
}

/// What comes of the wait for a turn.
enum Turn {
    /// With the peer's first lane on the new connection, if that has come.
    GoOver(Option<RecvStream>),
    Stay,
}

/// Whoever is served, and what of this end goes to it.
struct Serving<'a, S: Served> {
    served: &'a S,
    queue: mpsc::Receiver<ControlFrame>,
    patience: Patience,
}

/// Serves the other end of `first` until the last of its connections ends; it is not closed then. `queue` is what goes out on the
/// control stream, `next` brings connections that are to take the place of the one that stands. Gives the last, and why it ended.
pub async fn serve<S: Served>(
    served: &S,
    first: Made<S::Note>,
    queue: mpsc::Receiver<ControlFrame>,
    mut next: mpsc::Receiver<Made<S::Note>>,
    patience: Patience,
) -> (Connection, ConnectionError) {
    let (leg, _) = Leg::new(served, first, served.outbound().leg(), None);
    let ended = Serving { served, queue, patience }.until_the_end(leg, &mut next).await;
    // One that came too late.
    next.close();
    while let Ok(late) = next.try_recv() {
        late.connection.close(close_code::REFUSED, b"the connection that it renews is lost");
    }
    ended
}

/// Sends what is queued for the control stream; ends only with an error. What is cut off by its end goes first the next time.
async fn send_all(sender: &mut ControlSender, queue: &mut mpsc::Receiver<ControlFrame>) -> ConnectionError {
    while let Some(frame) = queue.recv().await {
        if let Err(error) = sender.send(&frame).await {
            return error;
        }
    }
    // No more will come; the connection goes on.
    std::future::pending().await
}

/// Waits until no large body waits to be written, but no longer than that: what comes after them over another connection would have to
/// wait for them, whoever it is for (S4).
pub async fn until_no_bodies(outbound: &Outbound, at_most: Duration) {
    let mut looks = interval(LOOK_EVERY);
    let written = async {
        while outbound.has_bodies() {
            looks.tick().await;
        }
    };
    drop(timeout(at_most, written).await);
}

/// Takes what comes on the control stream.
async fn control<S: Served>(served: &S, receiver: &mut ControlReceiver) -> ConnectionError {
    loop {
        match receiver.receive().await.and_then(|frame| served.frame(frame)) {
            Ok(()) => {}
            Err(error) => return error,
        }
    }
}

impl<S: Served> Serving<'_, S> {
    async fn until_the_end(
        mut self,
        mut leg: Leg,
        next: &mut mpsc::Receiver<Made<S::Note>>,
    ) -> (Connection, ConnectionError) {
        loop {
            let renewed = match self.until_renewed(&mut leg, next).await {
                Ok(renewed) => renewed,
                Err(error) => return (leg.connection, error),
            };
            let connection = renewed.connection.clone();
            let gone_over = match self.turn(&mut leg, &renewed).await {
                Ok(Turn::GoOver(lane)) => self.go_over(&mut leg, renewed, lane).await,
                Ok(Turn::Stay) => Ok(None),
                Err(error) => Err(error),
            };
            match gone_over {
                Ok(Some(new)) => leg = new,
                Ok(None) => {
                    // Nothing has changed, and it is tried again.
                    connection.close(close_code::REFUSED, b"the former connection stays");
                    self.served.stays();
                }
                Err(error) => {
                    connection.close(error.close_code(), error.to_string().as_bytes());
                    return (leg.connection, error);
                }
            }
        }
    }

    /// One connection serves until `happens`.
    async fn stand<T>(&mut self, leg: &mut Leg, happens: impl Future<Output = T>) -> Result<Stood<T>, ConnectionError> {
        let served = self.served;
        let Leg { reading, has_read, writing, watching, sender, receiver, .. } = &mut *leg;
        let end = tokio::select! {
            ended = reading.as_mut(), if !*has_read => match ended {
                Ok(()) => {
                    leg.has_read = true;
                    return Ok(Stood::AllRead);
                }
                Err(error) => error,
            },
            ended = writing.as_mut() => ended.err().unwrap_or(ConnectionError::StreamClosed("lane")),
            error = send_all(sender, &mut self.queue) => error,
            end = control(served, receiver) => end,
            silent = watching.as_mut() => silent.err().unwrap_or(ConnectionError::StreamClosed("lane")),
            it = happens => return Ok(Stood::Happened(it)),
            reason = served.leaves() => ConnectionError::Leaving(reason),
        };
        match &end {
            ConnectionError::Goodbye(_) => leg.last_words().await,
            ConnectionError::Leaving(reason) => leg.farewell(served.outbound(), reason).await,
            _ => {}
        }
        Err(end)
    }

    /// Serves until another connection is to take this one's place.
    async fn until_renewed(
        &mut self,
        leg: &mut Leg,
        next: &mut mpsc::Receiver<Made<S::Note>>,
    ) -> Result<Made<S::Note>, ConnectionError> {
        if !leg.has_read {
            let came = async {
                match next.recv().await {
                    Some(renewed) => renewed,
                    None => std::future::pending().await,
                }
            };
            if let Stood::Happened(renewed) = self.stand(leg, came).await? {
                return Ok(renewed);
            }
        }
        self.after_the_last_lane(leg, next).await
    }

    /// All lanes of the peer ended in good order: its goodbye is on its way, or another connection.
    async fn after_the_last_lane(
        &self,
        leg: &mut Leg,
        next: &mut mpsc::Receiver<Made<S::Note>>,
    ) -> Result<Made<S::Note>, ConnectionError> {
        let limit = self.served.is_renewal_expected().unwrap_or(FAREWELL);
        tokio::select! {
            Some(renewed) = next.recv() => Ok(renewed),
            end = timeout(limit, control(self.served, &mut leg.receiver)) => {
                Err(end.unwrap_or_else(|_| self.served.lanes_ended()))
            }
        }
    }

    /// The old connection goes on until it is this end's turn. Until then nothing is lost with the new one: a peer that was stopped for
    /// a while may have given up the handshake.
    async fn turn(&mut self, leg: &mut Leg, next: &Made<S::Note>) -> Result<Turn, ConnectionError> {
        if leg.has_read {
            return Ok(Turn::GoOver(None));
        }
        let (dialled, patience, outbound) = (next.dialled, self.patience, self.served.outbound().clone());
        let turn = async {
            if dialled {
                // The peer has gone when its first lane is there. Its old ones may take long: the path may be narrow.
                return match timeout(patience.peer, next.connection.accept_uni()).await {
                    Ok(Ok(lane)) => Turn::GoOver(Some(lane)),
                    Ok(Err(_)) | Err(_) => Turn::Stay,
                };
            }
            until_no_bodies(&outbound, patience.bodies).await;
            Turn::GoOver(None)
        };
        let gone = next.connection.closed();
        let turned = self.stand(leg, async {
            tokio::select! {
                biased;
                _ = gone => Turn::Stay,
                turn = turn => turn,
            }
        });
        match turned.await? {
            Stood::Happened(turn) => Ok(turn),
            Stood::AllRead => Ok(Turn::GoOver(None)),
        }
    }
}
