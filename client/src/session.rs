//! One session: a connection with one node, and the processes that live in it.
//!
//! ```text
//! dial ─▶ handshake ─▶ Session { runtime } ─▶ run: lane out, lane in, control stream ─▶ why it ended
//!                                             └ another connection, in place of the first (`renewing.rs`)
//! ```
//! What the node sends is for processes of this session, or news of nodes; anything else ends the session. When `run`
//! returns, the session's processes have been told to end with `NoConnection`.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quinn::{Connection, EndpointConfig};
use rookery_runtime::{
    Behaviours, Destination, NodeId, Runtime, RuntimeConfig, Uplink,
    net::{
        control::{ConnectionError, Control, Verdict, close_code, facts_of, shake_hands},
        lanes::Inbox,
        legs::{Made, Patience, serve},
        outbound::Outbound,
        settings::ConnectionSettings,
        socket,
    },
    protocol::{
        ControlFrame, Signal, SignalBody, WireError,
        control::Goodbye,
        handshake::{Features, Hello},
    },
    tls::{PeerIdentity, SERVER_NAME},
    trace::Tracer,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use crate::{
    credentials::{Credentials, Version},
    moving::{Wanted, wanted},
    renewing::Renewer,
    served::{ServedNode, Standing},
};

/// How long a client that leaves waits for its node to hear it.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

/// What leads out of a session: its node.
pub(crate) struct SessionUplink {
    outbound: Arc<Outbound>,
    nodes: Mutex<BTreeSet<NodeId>>,
}

impl SessionUplink {
    pub(crate) fn outbound(&self) -> &Arc<Outbound> {
        &self.outbound
    }

    fn nodes_mut(&self) -> MutexGuard<'_, BTreeSet<NodeId>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Uplink for SessionUplink {
    fn connection(&self, _to: &Destination) -> Option<Arc<Outbound>> {
        (!self.outbound.is_closed()).then(|| self.outbound.clone())
    }

    fn connections(&self) -> Vec<Arc<Outbound>> {
        vec![self.outbound.clone()]
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.nodes_mut().iter().cloned().collect()
    }
}

/// A session that is made, before it is run.
pub(crate) struct Session {
    pub(crate) runtime: Runtime,
    pub(crate) node: NodeId,
    pub(crate) address: SocketAddr,
    made: Made<Version>,
    uplink: Arc<SessionUplink>,
}

/// What sessions of a client have in common.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) hello: Hello,
    pub(crate) connections: ConnectionSettings,
    pub(crate) behaviours: Behaviours,
    pub(crate) tracer: Option<Tracer>,
    /// Within what time after the identity has changed a session goes over to a new connection.
    pub(crate) renew_within: Duration,
    /// Processes run on it.
    pub(crate) processes: Handle,
}

/// Connects to `address`, as far as TLS goes.
pub(crate) async fn connect_to(
    address: SocketAddr,
    config: quinn::ClientConfig,
) -> Result<Connection, ConnectionError> {
    // A fresh port for each dial: an address translation that has gone stale for an old one does no harm.
    let any = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let any = SocketAddr::new(any, 0);
    let endpoint = socket::endpoint(any, EndpointConfig::default(), None).map_err(ConnectionError::Socket)?;
    let connecting = endpoint.connect_with(config, address, SERVER_NAME).map_err(ConnectionError::Dial)?;
    Ok(connecting.await?)
}

/// Connects to the node at `address`.
pub(crate) async fn connect(address: SocketAddr, settings: &Settings) -> Result<Session, ConnectionError> {
    let (client_config, note) = settings.credentials.client_config();
    let connection = connect_to(address, client_config).await?;
    let identity = PeerIdentity::of_connection(&connection)?;
    let facts = facts_of(&identity);
    let mut control = Control::open(&connection).await?;
    let agreed = shake_hands(&mut control, true, settings.hello.clone(), facts, |_| Verdict::Admit(None)).await;
    let agreement = match agreed {
        Ok(agreement) => agreement,
        Err(error) => {
            connection.close(close_code::REFUSED, error.to_string().as_bytes());
            return Err(error);
        }
    };
    let node = agreement.peer.node.clone();
    let budget = settings.connections.outbound_budget_bytes;
    let outbound = Outbound::new(&node, &node, 1, budget, agreement.peer.max_message_bytes);
    let outbound = Arc::new(outbound.with_features(agreement.features));
    let config = RuntimeConfig {
        session: agreement.session,
        max_message_bytes: settings.connections.max_message_bytes,
        behaviours: settings.behaviours.clone(),
        tracer: settings.tracer.clone(),
        ..RuntimeConfig::new(node.clone())
    };
    let runtime = {
        let _entered = settings.processes.enter();
        Runtime::new(config).map_err(|_| ConnectionError::StreamClosed("control"))?
    };
    let uplink = Arc::new(SessionUplink { outbound, nodes: Mutex::new(BTreeSet::from([node.clone()])) });
    runtime.set_uplink(uplink.clone());
    let made = Made { connection, control, agreement, dialled: true, note };
    Ok(Session { runtime, node, address, made, uplink })
}

impl Session {
    /// What it sends goes by this.
    pub(crate) fn outbound(&self) -> &Arc<Outbound> {
        self.uplink.outbound()
    }

    /// Runs the session to its end: lost, or closed by us. Its processes have ended when this returns. `leaves` is told when the node
    /// is about to leave.
    pub(crate) async fn run(
        self,
        settings: Settings,
        wants: watch::Receiver<Wanted>,
        leaves: watch::Sender<bool>,
    ) -> ConnectionError {
        let Self { runtime, node, address, made, uplink } = self;
        let standing = Arc::new(Standing::new(made.connection.clone(), made.note));
        let outbound = uplink.outbound.clone();
        let _ends = Ends { runtime: runtime.clone(), outbound: outbound.clone(), standing: standing.clone() };
        let mut addresses = vec![address];
        addresses.extend(made.agreement.peer.advertised.iter().filter(|other| **other != address));
        let (next, renewed) = mpsc::channel(1);
        let renewer = Renewer {
            credentials: settings.credentials,
            hello: settings.hello,
            session: made.agreement.session,
            node: node.clone(),
            addresses,
            features: made.agreement.features,
            handshake_timeout: settings.connections.handshake_timeout,
            spread: settings.renew_within,
            standing: standing.clone(),
            outbound,
            next,
        };
        let max_message_bytes = settings.connections.max_message_bytes;
        let handshake_timeout = settings.connections.handshake_timeout;
        let (control, queue) = mpsc::channel(1);
        let (mut rests, tells) = (wants.clone(), made.agreement.features.has(Features::LEAVING));
        let rests = async {
            wanted(&mut rests, Wanted::Resting).await;
            if tells {
                let leaving = Goodbye { reason: "the client has found another node".to_owned() };
                drop(control.send(ControlFrame::Leaving(leaving)).await);
            }
            std::future::pending::<Infallible>().await
        };
        let served =
            ServedNode { runtime, node, uplink, max_message_bytes, handshake_timeout, standing, wants, leaves };
        tokio::select! {
            (connection, end) = serve(&served, made, queue, renewed, Patience::default()) => {
                connection.close(end.close_code(), end.to_string().as_bytes());
                end
            }
            never = renewer.run() => match never {},
            never = rests => match never {},
        }
    }
}

/// Ends the session for its processes, also when the client is dropped while it runs: they would wait for ever for a
/// connection that nobody serves.
struct Ends {
    runtime: Runtime,
    outbound: Arc<Outbound>,
    standing: Arc<Standing>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        drop(self.outbound.close());
        self.runtime.session_lost();
        self.standing.connection().close(close_code::GOODBYE, b"goodbye");
    }
}

/// Waits until the client is to be closed. One that is dropped is not: it ends as by a crash.
pub(crate) async fn closed(closing: &mut watch::Receiver<bool>) {
    if closing.wait_for(|closing| *closing).await.is_err() {
        std::future::pending().await
    }
}

/// Takes what the node sends.
pub(crate) struct SessionInbox {
    pub(crate) runtime: Runtime,
    pub(crate) uplink: Arc<SessionUplink>,
}

impl Inbox for SessionInbox {
    fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    fn take(&self, signal: Signal) -> Result<Option<Signal>, WireError> {
        if !self.runtime.is_own(&signal.to) {
            let detail = "a client is sent what is for its own processes";
            return Err(WireError::Unexpected { kind: "signal", detail });
        }
        match &signal.body {
            SignalBody::NodeUp(node) => {
                self.uplink.nodes_mut().insert(node.clone());
                self.runtime.node_up(node);
            }
            SignalBody::NodeDown { node, reason } => {
                self.uplink.nodes_mut().remove(node);
                self.runtime.node_lost(node, self.uplink.outbound.tied(), reason);
            }
            _ => self.runtime.receive(signal, Some(&self.uplink.outbound)),
        }
        Ok(None)
    }
}
