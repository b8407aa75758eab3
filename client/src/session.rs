//! One session: a connection with one node, and the processes that live in it.
//!
//! ```text
//! dial ─▶ handshake ─▶ Session { runtime } ─▶ run: lane out, lane in, control stream ─▶ why it ended
//! ```
//! What the node sends is for processes of this session, or news of nodes; anything else ends the session. When `run`
//! returns, the session's processes have been told to end with `NoConnection`.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quinn::{Connection, EndpointConfig};
use rookery_runtime::{
    Behaviours, Destination, NodeId, Runtime, RuntimeConfig, Uplink,
    net::{
        control::{ConnectionError, Control, Verdict, close_code, facts_of, shake_hands},
        lanes::{Inbox, Incoming, read, write},
        outbound::Outbound,
        settings::ConnectionSettings,
        socket,
    },
    protocol::{
        ControlFrame, Signal, SignalBody, WireError,
        control::Goodbye,
        handshake::{Agreement, Features, Hello},
    },
    tls::{PeerIdentity, SERVER_NAME},
    trace::Tracer,
};
use tokio::{runtime::Handle, sync::watch};

use crate::moving::{Wanted, wanted};

/// How long a client that leaves waits for its node to hear it.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

/// What leads out of a session: its node.
pub(crate) struct SessionUplink {
    outbound: Arc<Outbound>,
    nodes: Mutex<BTreeSet<NodeId>>,
}

impl SessionUplink {
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
    connection: Connection,
    control: Control,
    agreement: Agreement,
    uplink: Arc<SessionUplink>,
    max_message_bytes: usize,
}

/// Connects to the node at `address`. Processes of the session will run on `processes`.
pub(crate) async fn connect(
    address: SocketAddr,
    client_config: quinn::ClientConfig,
    hello: Hello,
    settings: &ConnectionSettings,
    behaviours: Behaviours,
    tracer: Option<Tracer>,
    processes: &Handle,
) -> Result<Session, ConnectionError> {
    // A fresh port for each dial: an address translation that has gone stale for an old one does no harm.
    let any = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let any = SocketAddr::new(any, 0);
    let endpoint = socket::endpoint(any, EndpointConfig::default(), None).map_err(ConnectionError::Socket)?;
    let connecting = endpoint.connect_with(client_config, address, SERVER_NAME).map_err(ConnectionError::Dial)?;
    let connection = connecting.await?;
    let identity = PeerIdentity::of_connection(&connection)?;
    let facts = facts_of(&identity);
    let mut control = Control::open(&connection).await?;
    let agreed = shake_hands(&mut control, true, hello, facts, |_| Verdict::Admit(None)).await;
    let agreement = match agreed {
        Ok(agreement) => agreement,
        Err(error) => {
            connection.close(close_code::REFUSED, error.to_string().as_bytes());
            return Err(error);
        }
    };
    let node = agreement.peer.node.clone();
    let budget = settings.outbound_budget_bytes;
    let outbound = Outbound::new(&node, &node, 1, budget, agreement.peer.max_message_bytes);
    let outbound = Arc::new(outbound.with_features(agreement.features));
    let config = RuntimeConfig {
        session: agreement.session,
        max_message_bytes: settings.max_message_bytes,
        behaviours,
        tracer,
        ..RuntimeConfig::new(node.clone())
    };
    let runtime = {
        let _entered = processes.enter();
        Runtime::new(config).map_err(|_| ConnectionError::StreamClosed("control"))?
    };
    let uplink = Arc::new(SessionUplink { outbound, nodes: Mutex::new(BTreeSet::from([node.clone()])) });
    runtime.set_uplink(uplink.clone());
    let max_message_bytes = settings.max_message_bytes;
    Ok(Session { runtime, node, address, connection, control, agreement, uplink, max_message_bytes })
}

impl Session {
    /// Runs the session to its end: lost, or closed by us. Its processes have ended when this returns. `leaves` is told when the node
    /// is about to leave.
    pub(crate) async fn run(self, mut wants: watch::Receiver<Wanted>, leaves: watch::Sender<bool>) -> ConnectionError {
        let Self { runtime, node, connection, control, agreement, uplink, max_message_bytes, .. } = self;
        let (mut sender, mut receiver) = control.split();
        let outbound = uplink.outbound.clone();
        let _ends = Ends { runtime: runtime.clone(), outbound: outbound.clone(), connection: connection.clone() };
        let inbox = Arc::new(SessionInbox { runtime: runtime.clone(), uplink: uplink.clone() });
        let writing = write(&connection, &outbound);
        let incoming = Incoming {
            own: node.clone(),
            peer: node,
            lanes: agreement.peer.lanes.min(1),
            max_message_bytes,
            bulk: agreement.features.has(Features::BULK),
        };
        let reading = read(&connection, incoming, inbox);
        let mut rests = wants.clone();
        let mut tells = agreement.features.has(Features::LEAVING);
        tokio::pin!(writing, reading);
        loop {
            return tokio::select! {
                ended = &mut reading => match ended {
                    Ok(()) => ConnectionError::Goodbye("the node leaves".to_owned()),
                    Err(error) => error,
                },
                ended = &mut writing => ended.err().unwrap_or(ConnectionError::StreamClosed("lane")),
                frame = receiver.receive() => match frame {
                    Ok(ControlFrame::Goodbye(goodbye)) => {
                        drop(tokio::time::timeout(FAREWELL, &mut reading).await);
                        ConnectionError::Goodbye(goodbye.reason)
                    }
                    Ok(ControlFrame::Leaving(leaving)) => {
                        tracing::info!(reason = leaving.reason, "the node is about to leave; another one is looked for");
                        leaves.send_replace(true);
                        continue;
                    }
                    Ok(_) => WireError::Unexpected { kind: "handshake", detail: "the handshake is over" }.into(),
                    Err(error) => error,
                },
                () = wanted(&mut rests, Wanted::Resting), if tells => {
                    tells = false;
                    let leaving = Goodbye { reason: "the client has found another node".to_owned() };
                    drop(tokio::time::timeout(FAREWELL, sender.send(&ControlFrame::Leaving(leaving))).await);
                    continue;
                }
                () = wanted(&mut wants, Wanted::Closed) => {
                    outbound.finish();
                    let last = async {
                        drop(writing.await);
                        let goodbye = Goodbye { reason: "the client is done".to_owned() };
                        drop(sender.send(&ControlFrame::Goodbye(goodbye)).await);
                        connection.closed().await;
                    };
                    drop(tokio::time::timeout(FAREWELL, last).await);
                    ConnectionError::Goodbye("closed here".to_owned())
                }
            };
        }
    }
}

/// Ends the session for its processes, also when the client is dropped while it runs: they would wait for ever for a
/// connection that nobody serves.
struct Ends {
    runtime: Runtime,
    outbound: Arc<Outbound>,
    connection: Connection,
}

impl Drop for Ends {
    fn drop(&mut self) {
        drop(self.outbound.close());
        self.runtime.session_lost();
        self.connection.close(close_code::GOODBYE, b"goodbye");
    }
}

/// Waits until the client is to be closed.
pub(crate) async fn closed(closing: &mut watch::Receiver<bool>) {
    drop(closing.wait_for(|closing| *closing).await);
}

/// Takes what the node sends.
struct SessionInbox {
    runtime: Runtime,
    uplink: Arc<SessionUplink>,
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
