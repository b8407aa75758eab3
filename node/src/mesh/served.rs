//! What serves a peer: its connection's lanes and control stream, until it ends, or until another connection takes its place without a
//! loss, as after a certificate was renewed.
//!
//! ```text
//!            agreed                 all read
//! old lanes ───┴── last ─▶ end         │
//! new lanes    └── first ──────────────┴─▶ read      at each end, in each direction
//! ```
//! Each end writes the last of what is queued to its old lanes and ends them, and goes on with new ones at once; it reads the peer's new
//! lanes only when all of the old ones have ended. So order is kept (S1) and nothing is lost, and nobody is told of anything (M5). When it
//! has read the old ones it ends its old control stream, by which the peer knows; when both have, the old connection goes. Whoever was dialled
//! goes over first, and the other follows.
//!
//! **Invariant:** once an end has gone over, either connection that goes before all of the old one was read is a loss, and both end with it.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use rookery_protocol::{
    ControlFrame,
    control::Goodbye,
    handshake::{Agreement, Features},
};
use rookery_runtime::net::{
    control::{ConnectionError, Control, ControlReceiver, ControlSender, close_code},
    lanes::{Incoming, read, write_leg},
    outbound,
};
use tokio::{sync::mpsc, time::timeout};

use super::{
    driver::{FAREWELL, Mesh, told},
    handshakes::Established,
    inbox::PeerInbox,
    peers::Peer,
};

/// How long an old connection stays when both ends know that all of it was read: so that the last words are acknowledged.
const LINGER: Duration = Duration::from_secs(3);

type Work = Pin<Box<dyn Future<Output = Result<(), ConnectionError>> + Send>>;

/// One of the connections that serve a peer one after the other.
struct Leg {
    peer: Arc<Peer>,
    reading: Work,
    /// All of the peer's lanes have ended.
    has_read: bool,
    writing: Work,
    /// All of ours have.
    has_written: bool,
    sender: ControlSender,
    receiver: ControlReceiver,
}

/// How a leg has ended.
enum End {
    /// With the connection.
    Over(ConnectionError),
    /// Another one takes its place.
    Renewed(Box<Established>),
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

/// What a peer sent before it left comes before the end.
async fn last_words(old: &mut Leg, new: Option<&mut Leg>) {
    let read = async {
        if !old.has_read {
            old.reading.as_mut().await?;
        }
        match new {
            Some(new) if !new.has_read => new.reading.as_mut().await,
            _ => Ok(()),
        }
    };
    drop(timeout(FAREWELL, read).await);
}

impl Mesh {
    fn leg(&self, peer: Arc<Peer>, control: Control, agreement: &Agreement, leg: outbound::Leg) -> Leg {
        let (sender, receiver) = control.split();
        let (connection, outbound) = (peer.connection.clone(), peer.outbound.clone());
        let writing = Box::pin(async move { write_leg(&connection, &outbound, leg).await });
        let inbox = Arc::new(PeerInbox { runtime: self.runtime.clone(), peer: peer.clone() });
        let incoming = Incoming {
            own: self.own().clone(),
            peer: peer.node.clone(),
            lanes: agreement.peer.lanes,
            max_message_bytes: self.settings.max_message_bytes,
            bulk: agreement.features.has(Features::BULK),
        };
        let connection = peer.connection.clone();
        let reading = Box::pin(async move { read(&connection, incoming, inbox).await });
        Leg { peer, reading, has_read: false, writing, has_written: false, sender, receiver }
    }

    /// Serves a peer to the end of its last connection. Gives that, and why it ended.
    pub(super) async fn serve(
        self: &Arc<Self>,
        peer: Arc<Peer>,
        control: Control,
        agreement: Agreement,
        mut queue: mpsc::Receiver<ControlFrame>,
        mut next: mpsc::Receiver<Established>,
    ) -> (Arc<Peer>, ConnectionError) {
        let first = peer.outbound.leg();
        let mut leg = self.leg(peer, control, &agreement, first);
        if let Err(error) = self.gossip(&leg.peer, &mut leg.sender).await {
            return (leg.peer, error);
        }
        loop {
            let renewed = match self.serve_leg(&mut leg, &mut queue, &mut next).await {
                End::Over(error) => return (leg.peer, error),
                End::Renewed(renewed) => *renewed,
            };
            let connection = renewed.connection.clone();
            let gone = match renewed.dialled {
                true => self.until_the_peer_goes(&mut leg, &connection, &mut queue).await,
                false => Ok(true),
            };
            let gone_over = match gone {
                Ok(true) => self.go_over(&mut leg, renewed, &mut queue).await,
                Ok(false) => {
                    // Nothing has changed, and it is tried again.
                    leg.peer.renewal.done();
                    continue;
                }
                Err(error) => Err(error),
            };
            leg = match gone_over {
                Ok(leg) => leg,
                Err(error) => {
                    connection.close(error.close_code(), error.to_string().as_bytes());
                    return (leg.peer, error);
                }
            };
        }
    }

    async fn serve_leg(
        &self,
        leg: &mut Leg,
        queue: &mut mpsc::Receiver<ControlFrame>,
        next: &mut mpsc::Receiver<Established>,
    ) -> End {
        let mut leaving = self.leaving.subscribe();
        if leg.has_read {
            return self.after_the_last_lane(leg, next).await;
        }
        let Leg { peer, reading, writing, sender, receiver, .. } = leg;
        let end = tokio::select! {
            ended = &mut *reading => match ended {
                Ok(()) => {
                    leg.has_read = true;
                    return self.after_the_last_lane(leg, next).await;
                }
                Err(error) => error,
            },
            ended = &mut *writing => ended.err().unwrap_or(ConnectionError::StreamClosed("lane")),
            error = send_all(sender, queue) => error,
            Some(renewed) = next.recv() => return End::Renewed(Box::new(renewed)),
            end = self.control_loop(peer, receiver) => match end {
                // What it sent before it left comes before the end.
                ConnectionError::Goodbye(reason) => {
                    drop(timeout(FAREWELL, reading).await);
                    ConnectionError::Goodbye(reason)
                }
                end => end,
            },
            reason = told(&mut leaving) => {
                // Say all that is to be said, then goodbye; the peer closes when it has read it.
                peer.outbound.finish();
                let last = async {
                    drop(writing.await);
                    sender.send(&ControlFrame::Goodbye(Goodbye { reason: reason.clone() })).await?;
                    drop(reading.await);
                    peer.connection.closed().await;
                    Ok::<(), ConnectionError>(())
                };
                drop(timeout(FAREWELL, last).await);
                ConnectionError::Leaving(reason)
            }
        };
        End::Over(end)
    }

    /// All lanes of the peer ended in good order: its goodbye is on its way, or another connection.
    async fn after_the_last_lane(&self, leg: &mut Leg, next: &mut mpsc::Receiver<Established>) -> End {
        let limit = if leg.peer.renewal.is_expected() { self.settings.handshake_timeout } else { FAREWELL };
        tokio::select! {
            Some(renewed) = next.recv() => End::Renewed(Box::new(renewed)),
            end = timeout(limit, self.control_loop(&leg.peer, &mut leg.receiver)) => {
                End::Over(end.unwrap_or(ConnectionError::StreamClosed("lane")))
            }
        }
    }

    /// Whoever has dialled goes on as before until the peer has gone over, which it sees by the end of the old lanes. Until then nothing
    /// is lost with the new connection: a peer that was stopped for a while may have given up the handshake. Gives whether it has gone.
    async fn until_the_peer_goes(
        &self,
        leg: &mut Leg,
        new: &quinn::Connection,
        queue: &mut mpsc::Receiver<ControlFrame>,
    ) -> Result<bool, ConnectionError> {
        if leg.has_read {
            return Ok(true);
        }
        let Leg { peer, reading, writing, sender, receiver, .. } = leg;
        let end = tokio::select! {
            ended = &mut *reading => return ended.map(|()| {
                leg.has_read = true;
                true
            }),
            ended = &mut *writing => ended.err().unwrap_or(ConnectionError::StreamClosed("lane")),
            error = send_all(sender, queue) => error,
            _ = new.closed() => return Ok(false),
            end = self.control_loop(peer, receiver) => end,
        };
        if matches!(end, ConnectionError::Goodbye(_)) {
            last_words(leg, None).await;
        }
        Err(end)
    }

    /// Goes over from one connection to the next, of the same two nodes.
    async fn go_over(
        &self,
        old: &mut Leg,
        next: Established,
        queue: &mut mpsc::Receiver<ControlFrame>,
    ) -> Result<Leg, ConnectionError> {
        let peer = Arc::new(old.peer.renewed(next.connection, next.made_with));
        let turned = peer.outbound.turn().ok_or(ConnectionError::StreamClosed("lane"))?;
        let mut new = self.leg(peer, next.control, &next.agreement, turned);
        // Whether the peer knows that this end has read all of the old one, and the other way round.
        let (mut said, mut heard) = (false, false);
        let mut leaving = self.leaving.subscribe();
        loop {
            if old.has_read && !said {
                old.sender.finish().await?;
                said = true;
            }
            if said && heard && old.has_written {
                break;
            }
            let ended = tokio::select! {
                ended = &mut old.reading, if !old.has_read => ended.map(|()| old.has_read = true),
                ended = &mut old.writing, if !old.has_written => ended.map(|()| old.has_written = true),
                end = self.control_loop(&old.peer, &mut old.receiver), if !heard => match end {
                    ConnectionError::StreamClosed(_) => {
                        heard = true;
                        Ok(())
                    }
                    // It has not gone over, and leaves.
                    end @ ConnectionError::Goodbye(_) => {
                        last_words(old, None).await;
                        return Err(end);
                    }
                    end => Err(end),
                },
                // From here on what fails is the new one's.
                ended = &mut new.reading, if old.has_read && !new.has_read => {
                    new.has_read = ended.map(|()| true)?;
                    Ok(())
                }
                ended = &mut new.writing => return Err(ended.err().unwrap_or(ConnectionError::StreamClosed("lane"))),
                end = self.control_loop(&new.peer, &mut new.receiver) => {
                    if matches!(end, ConnectionError::Goodbye(_)) {
                        last_words(old, Some(&mut new)).await;
                    }
                    return Err(end);
                }
                error = send_all(&mut new.sender, queue) => return Err(error),
                reason = told(&mut leaving) => {
                    // As from one connection: all that is to be said, then goodbye.
                    new.peer.outbound.finish();
                    let last = async {
                        if !old.has_written {
                            drop(old.writing.as_mut().await);
                        }
                        drop(new.writing.as_mut().await);
                        new.sender.send(&ControlFrame::Goodbye(Goodbye { reason: reason.clone() })).await?;
                        if !old.has_read {
                            old.reading.as_mut().await?;
                        }
                        drop(new.reading.as_mut().await);
                        new.peer.connection.closed().await;
                        Ok::<(), ConnectionError>(())
                    };
                    drop(timeout(FAREWELL, last).await);
                    return Err(ConnectionError::Leaving(reason));
                }
            };
            match ended {
                Err(error) if error.is_renewed() && old.has_read => (heard, old.has_written) = (true, true),
                ended => ended?,
            }
        }
        if !self.peers.renew(&new.peer) {
            return Err(ConnectionError::StreamClosed("lane"));
        }
        new.peer.renewal.done();
        let former = old.peer.connection.clone();
        tokio::spawn(async move {
            drop(timeout(LINGER, former.closed()).await);
            former.close(close_code::RENEWED, b"another connection has taken its place");
        });
        let rtt = format_args!("{:.1?}", new.peer.connection.rtt()).to_string();
        tracing::info!(node = %new.peer.node, rtt, "connection renewed with the present certificates");
        Ok(new)
    }
}
