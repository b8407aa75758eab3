//! Renews a session's connection when its node asks for it, or when this client has another identity than it was made with: dials the
//! same node anew, and goes over without a loss. The session, its processes and their ties notice nothing.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rookery_runtime::{
    NodeId,
    net::{
        control::{ConnectionError, Control, Verdict, close_code, facts_of, session_proof, shake_hands},
        legs::{BODIES, Made, until_no_bodies},
        outbound::Outbound,
    },
    protocol::{
        SessionId,
        handshake::{Features, Hello, Refusal, RefusalCode, RenewedSession},
        limits::RENEWAL_EVERY,
    },
    tls::PeerIdentity,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    client::fraction,
    credentials::{Credentials, Version},
    served::Standing,
    session::connect_to,
};

/// After so long a renewal that came to nothing is tried again at the soonest; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(500);

/// How much longer than it has to a client waits that has renewed too often, at most, in parts of that: others may have for the same cause.
const TOO_OFTEN_SPREAD: f64 = 0.25;

/// The longest wait: behind an address that leads to several nodes the right one is found by chance.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What a session needs to dial its node again.
pub(crate) struct Renewer {
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) hello: Hello,
    pub(crate) session: Option<SessionId>,
    pub(crate) node: NodeId,
    /// Where it was reached, and where it says that it can be.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) features: Features,
    pub(crate) handshake_timeout: Duration,
    /// Within what time after the identity has changed: many clients may have the same files.
    pub(crate) spread: Duration,
    pub(crate) standing: Arc<Standing>,
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) next: mpsc::Sender<Made<Version>>,
}

impl Renewer {
    /// Looks after the connection as long as the session lasts.
    pub(crate) async fn run(self) -> Infallible {
        let Some(session) = self.session.filter(|_| self.features.has(Features::RENEW_SESSION)) else {
            // A node of a release before this: the connection goes on with what it was made with.
            return std::future::pending().await;
        };
        let mut changes = self.credentials.changes();
        loop {
            let asked = self.standing.asked.notified();
            let is_old = *changes.borrow_and_update() != self.standing.made_with();
            if is_old {
                let due = Instant::now() + self.spread.mul_f64(fraction());
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = asked => {}
                }
            } else {
                tokio::select! {
                    // The credentials live as long as the client.
                    _ = changes.changed() => continue,
                    () = asked => {}
                }
            }
            self.renew(session).await;
            // What was asked for meanwhile is done.
            drop(timeout(Duration::ZERO, self.standing.asked.notified()).await);
        }
    }

    /// Tries until the session has gone over.
    async fn renew(&self, session: SessionId) {
        let mut wait = RETRY_MIN;
        loop {
            until_no_bodies(&self.outbound, BODIES).await;
            let former = self.standing.connection().stable_id();
            self.standing.renewing.store(true, Ordering::Relaxed);
            let mut too_often = false;
            match self.dial(session).await {
                Ok(made) => {
                    if self.next.send(made).await.is_ok() {
                        self.standing.settled.notified().await;
                    }
                }
                Err(reason) => {
                    too_often = is_too_often(&reason);
                    tracing::debug!(node = %self.node, %reason, "the connection was not renewed; it goes on, and is tried again");
                }
            }
            self.standing.renewing.store(false, Ordering::Relaxed);
            if self.standing.connection().stable_id() != former {
                return;
            }
            if too_often {
                sleep(RENEWAL_EVERY.mul_f64(1.0 + TOO_OFTEN_SPREAD * fraction())).await;
                continue;
            }
            sleep(wait.mul_f64(1.0 + fraction())).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// Dials the node at each of its addresses; the last error counts.
    async fn dial(&self, session: SessionId) -> Result<Made<Version>, ConnectionError> {
        let mut last = ConnectionError::StreamClosed("control");
        for address in &self.addresses {
            let limit = self.handshake_timeout;
            match timeout(limit, self.dial_at(*address, session)).await {
                Ok(Ok(made)) => return Ok(made),
                // The others lead to the same node. Behind an address of several another one may have said so.
                Ok(Err(error)) if is_too_often(&error) && self.is_said_by_node(&error) => return Err(error),
                Ok(Err(error)) => last = error,
                Err(_) => last = ConnectionError::HandshakeTimeout(limit),
            }
        }
        Err(last)
    }

    fn is_said_by_node(&self, error: &ConnectionError) -> bool {
        matches!(error, ConnectionError::RefusedByPeer(refusal) if refusal.by.as_ref() == Some(&self.node))
    }

    async fn dial_at(&self, address: SocketAddr, session: SessionId) -> Result<Made<Version>, ConnectionError> {
        let (config, note) = self.credentials.client_config();
        let connection = connect_to(address, config).await?;
        let facts = facts_of(&PeerIdentity::of_connection(&connection)?);
        let mut control = Control::open(&connection).await?;
        let Some(proof) = session_proof(&self.standing.connection()) else {
            return Err(ConnectionError::StreamClosed("control"));
        };
        let hello = self.hello.clone().with_session(&RenewedSession { session, proof });
        let agreed = shake_hands(&mut control, true, hello, facts, |peer| match peer.node == self.node {
            true => Verdict::Admit(None),
            false => Verdict::Refuse(RefusalCode::Duplicate, format!("{} was dialled for", self.node)),
        });
        let agreement = agreed.await.and_then(|agreement| match agreement.session == Some(session) {
            true => Ok(agreement),
            false => {
                let text = "another session was given than the one that is to go on".to_owned();
                let code = RefusalCode::BadHello;
                Err(ConnectionError::RefusedByUs(Refusal {
                    code,
                    text,
                    by: Some(self.hello.node.clone()),
                    newer_life: None,
                }))
            }
        });
        match agreement {
            Ok(agreement) => Ok(Made { connection, control, agreement, dialled: true, note }),
            Err(error) => {
                connection.close(close_code::REFUSED, error.to_string().as_bytes());
                Err(error)
            }
        }
    }
}

/// Whether the node has said that this session is renewed too often.
fn is_too_often(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::RefusedByPeer(refusal) if refusal.code == RefusalCode::Busy)
}
