//! The life of one client's connection on its node.
//!
//! ```text
//! client's lane ─▶ speaks for itself? ─▶ policy ─▶ edges ─▶ here, another node, or another client
//! client's lane ◀─ edges (tap) ◀─ signals for the session's pids
//! ```
//! When it is lost, everybody tied to the client's processes is told in their name, and their names are freed.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use std::time::{Duration, Instant};

use quinn::Connection;
use rookery_protocol::{
    ControlFrame, CreditChange, NodeId, Pid, Recipient, Serial, SessionId, Signal, SignalBody, WireError,
    control::Goodbye,
    handshake::{Agreement, Features},
    lane::MessageHead,
};
use rookery_runtime::{
    Runtime, Unreachable,
    net::{
        control::{ConnectionError, Control},
        lanes::{Inbox, Incoming, read, write},
        outbound::{Outbound, Tap},
    },
};

use super::{
    departure::Departure,
    edges::{Edges, MAX_EDGES},
    policy::{Policy, policy_of},
    silence::silent,
};
use crate::mesh::{
    driver::{Mesh, told},
    peers::Client,
};

/// A client whose handshake is done.
pub(crate) struct NewClient {
    pub(crate) session: SessionId,
    pub(crate) name: String,
    pub(crate) connection: Connection,
    pub(crate) control: Control,
    pub(crate) agreement: Agreement,
}

/// Sees what goes to the client.
struct EdgeTap(Arc<Mutex<Edges>>);

impl Tap for EdgeTap {
    fn signal(&self, signal: &Signal) {
        locked(&self.0).passed(signal);
    }

    fn message(&self, to: Serial, head: &MessageHead<'_>) {
        locked(&self.0).message_passed(to, head.from, head.reply, head.credit);
    }
}

pub(crate) fn locked(edges: &Mutex<Edges>) -> MutexGuard<'_, Edges> {
    edges.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What may wait for one client before its senders do: there are many clients, and the node's budget is for a peer.
const CLIENT_BUDGET_BYTES: usize = 1024 * 1024;

/// Starts the client's session. Among the node's I/O.
pub(crate) fn open(mesh: &Arc<Mesh>, new: NewClient) {
    let NewClient { session, name, connection, control, agreement } = new;
    let edges = Arc::new(Mutex::new(Edges::default()));
    let budget = mesh.settings.outbound_budget_bytes.min(CLIENT_BUDGET_BYTES);
    // One lane: the client's signals, and the news of nodes, keep one order.
    let outbound = Outbound::new(mesh.own(), mesh.own(), 1, budget, agreement.peer.max_message_bytes);
    let outbound = outbound.with_features(agreement.features);
    let outbound = Arc::new(outbound.tapped(EdgeTap(edges.clone())));
    let departure = Departure::new(agreement.features.has(Features::LEAVING));
    let client = Arc::new(Client { session, name, outbound, connection, edges, departure });
    mesh.peers.insert_client(client.clone());
    tracing::info!(
        client = client.name,
        session = session.get(),
        address = %client.connection.remote_address(),
        "client connected"
    );
    let own = mesh.runtime.own_pid();
    for node in mesh.runtime.nodes() {
        let to = Pid::new(mesh.own().clone(), Serial::of_client(session, 0));
        mesh.runtime.signal(Signal { from: own.clone(), to: to.into(), body: SignalBody::NodeUp(node) });
    }
    let mesh = mesh.clone();
    tokio::spawn(async move {
        let end = serve(&mesh, &client, control, agreement).await;
        lost(&mesh, &client, &end);
    });
}

async fn serve(mesh: &Arc<Mesh>, client: &Arc<Client>, control: Control, agreement: Agreement) -> ConnectionError {
    let (mut sender, mut receiver) = control.split();
    let mut leaving = mesh.leaving.subscribe();
    let policy = policy_of(&mesh.policies, &mesh.default_policy, &client.name).clone();
    let inbox = Arc::new(ClientInbox {
        mesh: mesh.clone(),
        client: client.clone(),
        policy,
        refused: AtomicU64::new(0),
        traced: Mutex::default(),
    });
    let writing = write(&client.connection, &client.outbound);
    let incoming = Incoming {
        own: mesh.own().clone(),
        peer: mesh.own().clone(),
        // Whatever it says: each lane has tables and a message under way, and its signals have one order.
        lanes: agreement.peer.lanes.min(1),
        max_message_bytes: mesh.settings.max_message_bytes,
        bulk: agreement.features.has(Features::BULK),
    };
    let reading = read(&client.connection, incoming, inbox);
    let idle_timeout = agreement.peer.idle_timeout.unwrap_or(mesh.settings.idle_timeout);
    let silence = silent(&client.connection, idle_timeout.min(mesh.settings.idle_timeout));
    let mut draining = mesh.draining.subscribe();
    let mut tells = client.departure.is_understood();
    tokio::pin!(writing, reading, silence);
    loop {
        return tokio::select! {
            ended = &mut reading => match ended {
                Ok(()) => ConnectionError::Goodbye("disconnected".to_owned()),
                Err(error) => error,
            },
            ended = &mut writing => ended.err().unwrap_or(ConnectionError::StreamClosed("lane")),
            frame = receiver.receive() => match frame {
                Ok(ControlFrame::Goodbye(goodbye)) => {
                    // What it sent before it left comes before the end.
                    drop(tokio::time::timeout(FAREWELL, reading).await);
                    ConnectionError::Goodbye(goodbye.reason)
                }
                Ok(ControlFrame::Leaving(_)) => {
                    client.departure.found_another();
                    continue;
                }
                Ok(_) => WireError::Unexpected { kind: "handshake", detail: "the handshake is over" }.into(),
                Err(error) => error,
            },
            silent = &mut silence => ConnectionError::NoAnswer(silent),
            reason = told(&mut draining), if tells => {
                tells = false;
                let leaving = ControlFrame::Leaving(Goodbye { reason });
                drop(tokio::time::timeout(FAREWELL, sender.send(&leaving)).await);
                continue;
            }
            reason = told(&mut leaving) => {
                client.outbound.finish();
                let last = async {
                    drop(writing.await);
                    drop(sender.send(&ControlFrame::Goodbye(Goodbye { reason: reason.clone() })).await);
                    client.connection.closed().await;
                };
                drop(tokio::time::timeout(FAREWELL, last).await);
                ConnectionError::Leaving(reason)
            }
        };
    }
}

const FAREWELL: std::time::Duration = std::time::Duration::from_secs(1);

/// The client is gone: in the name of its processes, tells everybody who must know (L5, M4).
fn lost(mesh: &Mesh, client: &Client, end: &ConnectionError) {
    tracing::info!(client = client.name, session = client.session.get(), reason = %end, "client disconnected");
    mesh.peers.remove_client(client.session);
    let tied = client.outbound.close();
    mesh.runtime.client_lost(client.session, tied);
    let signals = client.edges().lost(mesh.own());
    for signal in signals {
        mesh.runtime.signal(signal);
    }
    client.connection.close(end.close_code(), end.to_string().as_bytes());
}

/// Takes what a client sends.
struct ClientInbox {
    mesh: Arc<Mesh>,
    client: Arc<Client>,
    policy: Policy,
    /// How often this client was refused something.
    refused: AtomicU64,
    /// When it was seen last to trace, and how many messages since a second before.
    traced: Mutex<Option<(Instant, u32)>>,
}

/// Messages of a client in a second whose own traces are gone on with. What is recorded costs all who handle it, and the spans of all share
/// one queue.
const TRACED_PER_SECOND: u32 = 100;

impl ClientInbox {
    /// Whether one more message may belong to a trace that this client has begun.
    fn may_trace(&self) -> bool {
        let mut traced = self.traced.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match &mut *traced {
            Some((since, count)) if now.saturating_duration_since(*since) < Duration::from_secs(1) => {
                *count += 1;
                *count <= TRACED_PER_SECOND
            }
            _ => {
                *traced = Some((now, 1));
                true
            }
        }
    }
}

impl Inbox for ClientInbox {
    fn runtime(&self) -> &Runtime {
        &self.mesh.runtime
    }

    fn take(&self, mut signal: Signal) -> Result<Option<Signal>, WireError> {
        let runtime: &Runtime = &self.mesh.runtime;
        let own: &NodeId = self.mesh.own();
        if signal.from.node() != own || signal.from.serial().session() != Some(self.client.session) {
            let detail = "a client speaks for its own processes";
            return Err(WireError::Unexpected { kind: "signal", detail });
        }
        // First of all: what is refused below is answered, and must not answer what the client was not asked.
        if !self.client.edges().allows(&signal) {
            tracing::debug!(client = self.client.name, from = %signal.from, "an answer that nobody waits for");
            runtime.answer_credit(&mut signal, CreditChange::More(1));
            return Ok(None);
        }
        if let Err(detail) = self.policy.check(&self.client.name, self.client.session, &signal) {
            runtime.count_refused_to_client();
            self.client.edges().let_go(&signal);
            let so_far = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
            // A client that goes on and on shall not fill the log.
            if so_far.is_power_of_two() {
                let (from, to) = (&signal.from, &signal.to);
                tracing::info!(client = self.client.name, %from, %to, reason = detail, so_far, "signal of a client refused");
            }
            runtime.bounce(signal, &Unreachable::Refused(detail));
            return Ok(None);
        }
        if let Recipient::ClusterName(name) = &signal.to.to {
            let holder = runtime.holder_of_cluster_name(name);
            self.client.edges().found(&mut signal, holder);
            if matches!(signal.to.to, Recipient::ClusterName(_)) {
                runtime.bounce(signal, &Unreachable::NoProc);
                return Ok(None);
            }
        }
        {
            let mut edges = self.client.edges();
            edges.sent(&signal);
            if edges.len() > MAX_EDGES {
                let detail = "the client has more links, monitors and calls than one may have";
                return Err(WireError::Unexpected { kind: "signal", detail });
            }
        }
        if let SignalBody::Message { payload, trace, .. } = &mut signal.body {
            if trace.is_some() && !self.may_trace() {
                *trace = None;
            }
            if trace.is_none() {
                *trace = runtime.begin_for_client(&self.client.name, payload.tag.as_str());
            }
        }
        match &signal.to.to {
            // What is for a group goes on from here to other nodes; see below.
            Recipient::Group(_) => Ok(Some(signal)),
            _ if runtime.is_own(&signal.to) => {
                runtime.receive(signal, None);
                Ok(None)
            }
            _ => Ok(Some(signal)),
        }
    }

    /// A node that is slow holds up this client, which its own connection then tells to wait; with whatever it sends, or a
    /// flood of what does not wait would have that node given up.
    async fn wait(&self, signal: Signal) {
        let runtime: &Runtime = &self.mesh.runtime;
        let (from, bytes) = (signal.from.serial(), signal.body.payload_bytes());
        match &signal.to.to {
            Recipient::Group(group) if runtime.is_own(&signal.to) => {
                runtime.room_for_group(from, group, bytes).await;
                runtime.receive(signal, None);
            }
            _ => {
                runtime.room(from, &signal.to, bytes).await;
                runtime.signal(signal);
            }
        }
    }
}
