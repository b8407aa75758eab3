//! The life of one client's connection on its node.
//!
//! ```text
//! client's lane ─▶ speaks for itself? ─▶ policy ─▶ edges ─▶ here, another node, or another client
//! client's lane ◀─ edges (tap) ◀─ signals for the session's pids
//! ```
//! When it is lost, everybody tied to the client's processes is told in their name, and their names are freed.

use std::convert::Infallible;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use std::time::{Duration, Instant};

use rookery_protocol::{
    ControlFrame, CreditChange, NodeId, Pid, Recipient, Serial, SessionId, Signal, SignalBody, WireError,
    control::Goodbye, handshake::Features, lane::MessageHead,
};
use rookery_runtime::{
    Runtime, Unreachable,
    net::{
        control::ConnectionError,
        lanes::Inbox,
        legs::{Made, Patience, serve},
        outbound::{Outbound, Tap},
    },
};
use tokio::sync::mpsc;

use super::{
    departure::Departure,
    edges::{Edges, MAX_EDGES},
    policy::{Policy, policy_of},
    served::ServedClient,
};
use crate::mesh::{
    credentials::Version,
    driver::{Mesh, told},
    peers::Client,
};

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

/// Frames that wait for one client's control stream: the node asks it for little.
const MAX_CONTROL_QUEUE: usize = 4;

/// Starts the client's session. Among the node's I/O.
pub(crate) fn open(mesh: &Arc<Mesh>, session: SessionId, made: Made<Version>) {
    let agreement = &made.agreement;
    let edges = Arc::new(Mutex::new(Edges::default()));
    let budget = mesh.settings.outbound_budget_bytes.min(CLIENT_BUDGET_BYTES);
    // One lane: the client's signals, and the news of nodes, keep one order.
    let outbound = Outbound::new(mesh.own(), mesh.own(), 1, budget, agreement.peer.max_message_bytes);
    let outbound = outbound.with_features(agreement.features);
    let outbound = Arc::new(outbound.tapped(EdgeTap(edges.clone())));
    let (control, queue) = mpsc::channel(MAX_CONTROL_QUEUE);
    let (next, renewed) = mpsc::channel(1);
    let client = Arc::new(Client {
        session,
        name: agreement.peer.node.name().as_str().to_owned(),
        node: agreement.peer.node.clone(),
        outbound,
        connection: made.connection.clone(),
        edges,
        features: agreement.features,
        control,
        made_with: made.note,
        renewal: Arc::default(),
        pace: Arc::default(),
        next,
        departure: Arc::new(Departure::new(agreement.features.has(Features::LEAVING))),
    });
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
    let served = ServedClient::new(mesh, client);
    tokio::spawn(async move {
        let tells = tells_of_leaving(served.mesh(), served.client());
        let (connection, end) = tokio::select! {
            ended = serve(&served, made, queue, renewed, Patience::default()) => ended,
            never = tells => match never {},
        };
        lost(served.mesh(), served.client(), &end);
        connection.close(end.close_code(), end.to_string().as_bytes());
    });
}

/// Tells the client when this node is about to leave, if it understands that.
async fn tells_of_leaving(mesh: &Mesh, client: &Client) -> Infallible {
    if client.departure.is_understood() {
        let reason = told(&mut mesh.draining.subscribe()).await;
        drop(client.control.send(ControlFrame::Leaving(Goodbye { reason })).await);
    }
    std::future::pending().await
}

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
}

/// Takes what a client sends, by whatever connection it has.
pub(super) struct ClientInbox {
    mesh: Arc<Mesh>,
    client: Arc<Client>,
    policy: Policy,
    /// How often this client was refused something.
    refused: AtomicU64,
    /// When it was seen last to trace, and how many messages since a second before.
    traced: Mutex<Option<(Instant, u32)>>,
}

impl ClientInbox {
    pub(super) fn new(mesh: &Arc<Mesh>, client: &Arc<Client>) -> Self {
        let policy = policy_of(&mesh.policies, &mesh.default_policy, &client.name).clone();
        let (mesh, client) = (mesh.clone(), client.clone());
        Self { mesh, client, policy, refused: AtomicU64::new(0), traced: Mutex::default() }
    }
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
