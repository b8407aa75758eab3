//! The node of a session, as whoever serves its connections knows it (`rookery_runtime::net::legs`).

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quinn::{Connection, RecvStream};
use rookery_runtime::{
    NodeId, Runtime,
    net::{
        control::ConnectionError,
        lanes::{Incoming, read},
        legs::{Served, Work},
        outbound::Outbound,
    },
    protocol::{
        ControlFrame, WireError,
        handshake::{Agreement, Features},
    },
};
use tokio::sync::{Notify, watch};

use crate::{
    credentials::Version,
    moving::{Wanted, wanted},
    session::{SessionInbox, SessionUplink},
};

/// The connection that a session has just now.
pub(crate) struct Standing {
    made: Mutex<(Connection, Version)>,
    /// The node asks for another one.
    pub(crate) asked: Notify,
    /// A renewal has come to its end, or to nothing.
    pub(crate) settled: Notify,
    /// Another one may be about to take its place.
    pub(crate) renewing: AtomicBool,
}

impl Standing {
    pub(crate) fn new(connection: Connection, made_with: Version) -> Self {
        Self {
            made: Mutex::new((connection, made_with)),
            asked: Notify::new(),
            settled: Notify::new(),
            renewing: AtomicBool::new(false),
        }
    }

    pub(crate) fn connection(&self) -> Connection {
        self.made().0.clone()
    }

    /// The identity that it was made with.
    pub(crate) fn made_with(&self) -> Version {
        self.made().1
    }

    fn made(&self) -> MutexGuard<'_, (Connection, Version)> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub(crate) struct ServedNode {
    pub(crate) runtime: Runtime,
    pub(crate) node: NodeId,
    pub(crate) uplink: Arc<SessionUplink>,
    pub(crate) max_message_bytes: usize,
    pub(crate) handshake_timeout: Duration,
    pub(crate) standing: Arc<Standing>,
    /// What is wanted of the session.
    pub(crate) wants: watch::Receiver<Wanted>,
    /// Is told when the node is about to leave.
    pub(crate) leaves: watch::Sender<bool>,
}

impl Served for ServedNode {
    /// The identity that this client showed.
    type Note = Version;

    fn outbound(&self) -> &Arc<Outbound> {
        self.uplink.outbound()
    }

    fn reading(&self, connection: &Connection, agreement: &Agreement, first: Option<RecvStream>) -> Work {
        let inbox = Arc::new(SessionInbox { runtime: self.runtime.clone(), uplink: self.uplink.clone() });
        let incoming = Incoming {
            own: self.node.clone(),
            peer: self.node.clone(),
            lanes: agreement.peer.lanes.min(1),
            max_message_bytes: self.max_message_bytes,
            bulk: agreement.features.has(Features::BULK),
        };
        let connection = connection.clone();
        Box::pin(async move { read(&connection, incoming, inbox, first).await })
    }

    fn frame(&self, frame: ControlFrame) -> Result<(), ConnectionError> {
        match frame {
            ControlFrame::Goodbye(goodbye) => Err(ConnectionError::Goodbye(goodbye.reason)),
            ControlFrame::Renew => {
                self.standing.asked.notify_one();
                Ok(())
            }
            ControlFrame::Leaving(leaving) => {
                tracing::info!(reason = leaving.reason, "the node is about to leave; another one is looked for");
                self.leaves.send_replace(true);
                Ok(())
            }
            _ => Err(WireError::Unexpected { kind: "handshake", detail: "the handshake is over" }.into()),
        }
    }

    fn lanes_ended(&self) -> ConnectionError {
        ConnectionError::Goodbye("the node leaves".to_owned())
    }

    fn is_renewal_expected(&self) -> Option<Duration> {
        self.standing.renewing.load(Ordering::Relaxed).then_some(self.handshake_timeout)
    }

    fn stays(&self) {
        self.standing.settled.notify_one();
    }

    fn has_gone_over(&self, connection: &Connection, made_with: Version) -> bool {
        *self.standing.made() = (connection.clone(), made_with);
        self.standing.settled.notify_one();
        tracing::info!(node = %self.node, "connection renewed with the present certificates");
        true
    }

    async fn leaves(&self) -> String {
        wanted(&mut self.wants.clone(), Wanted::Closed).await;
        "the client is done".to_owned()
    }
}
