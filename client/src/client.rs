//! A client: one session after the other, as long as it is wanted.
//!
//! Servers are looked up and dialled in turn, for ever, with a growing wait between rounds; each session is run to its
//! end (`session.rs`), and the next begins with another address. Everything of the network runs on the client's I/O
//! thread, processes on the tokio runtime of whoever connects. It promises that every loss and every new session is
//! seen: by [`Client::state`], and by the processes of a lost session, which end.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rookery_runtime::{
    Behaviours, Incarnation, NodeId, NodeName, Runtime,
    net::{control::ConnectionError, io_thread::IoThread, settings::ConnectionSettings},
    protocol::handshake::{Features, Hello, PROTOCOL_MAX, PROTOCOL_MIN, Role},
    tls::{CertificateRole, Identity, IdentityUser, keep_renewed},
    trace::Tracer,
};
use tokio::{runtime::Handle, sync::watch, task::JoinSet};

use crate::{
    credentials::Credentials,
    endpoint::Server,
    error::ConnectError,
    moving::{CLOSES_WITHIN, Running},
    resolve::addresses_of,
    session::{self, Session},
};

/// The first wait after a failed round of dials; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);

/// How long a dial goes on alone before the next address is dialled beside it: a server that is gone says nothing, and
/// must not use up the time that the others need.
const DIAL_ALONE: Duration = Duration::from_millis(500);

/// The longest wait between rounds.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// After how long a silence a node is taken for lost, and another one is looked for: five missed keep-alives. A client has
/// nobody to ask about it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Within what time connections are renewed, unless told.
const RENEW_WITHIN: Duration = Duration::from_secs(30);

/// How a client is set up.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Its certificate, key and CA. The name in the certificate decides what it may (C3). One that was loaded from files is
    /// loaded again when they change, and the session goes over to a connection with what they hold then.
    pub identity: Identity,
    /// Where to look for nodes; any of them will do.
    pub servers: Vec<Server>,
    /// Its connections.
    pub connections: ConnectionSettings,
    /// What nodes may start in this client: nothing, by default.
    pub behaviours: Behaviours,
    /// What records traces of its calls; see [`Tracer::start`]. None: none are recorded.
    pub tracer: Option<Tracer>,
    /// Within what time after its identity has changed its session goes over to a new connection, at a time by chance: many clients may
    /// have the same files. When its node's identity has changed the node says when.
    pub renew_within: Duration,
    /// How long [`Client::connect`] looks for a node before it gives up.
    pub connect_timeout: Duration,
}

impl ClientConfig {
    /// A client of these nodes, with defaults: it looks for 10 s.
    pub fn new(identity: Identity, servers: impl IntoIterator<Item = Server>) -> Self {
        Self {
            identity,
            servers: servers.into_iter().collect(),
            connections: ConnectionSettings { lanes: 1, idle_timeout: IDLE_TIMEOUT, ..ConnectionSettings::default() },
            behaviours: Behaviours::new(),
            tracer: None,
            renew_within: RENEW_WITHIN,
            connect_timeout: Duration::from_secs(10),
        }
    }
}

/// Whether a client is connected. Told to whoever watches, so that every loss is seen.
#[derive(Debug, Clone)]
pub enum ClientState {
    /// It looks for a node.
    Connecting {
        /// What went wrong last, if something did.
        last: Option<String>,
    },
    /// It has a session.
    Connected(Runtime),
    /// It was closed.
    Closed {
        /// Why.
        reason: String,
    },
}

/// A client of a Rookery cluster. Cheap to clone; the last clone to go ends it without a goodbye, as a crash would.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    state: watch::Receiver<ClientState>,
    /// The runtime of the last session, from when its former one rests, also when it is lost.
    sessions: watch::Receiver<Option<Runtime>>,
    /// What was given last.
    latest: Mutex<Runtime>,
    closing: watch::Sender<bool>,
    credentials: Arc<Credentials>,
    _io: IoThread,
}

impl Client {
    /// Connects to the first of the servers that takes this client, and waits for it. From then on the client keeps
    /// connected: when its node is lost it goes on to another one, for ever.
    ///
    /// # Errors
    /// The settings cannot work, no node could be reached in time, or one refused.
    pub async fn connect(config: ClientConfig) -> Result<Self, ConnectError> {
        if config.servers.is_empty() {
            return Err(ConnectError::NoServers);
        }
        let CertificateRole::Client { name } = &config.identity.own().role else {
            return Err(ConnectError::NotAClient);
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let incarnation = Incarnation(u64::try_from(now.as_micros()).unwrap_or(u64::MAX));
        let hello = Hello {
            versions: (PROTOCOL_MIN, PROTOCOL_MAX),
            features: Features::OURS,
            cluster: config.identity.own().cluster.clone(),
            role: Role::Client,
            node: NodeId::new(NodeName::new(name.as_str())?, incarnation),
            listen_port: 0,
            advertised: Vec::new(),
            max_message_bytes: u32::try_from(config.connections.max_message_bytes).unwrap_or(u32::MAX),
            lanes: 1,
            replace: false,
            extensions: Vec::new(),
        };
        let hello = hello.with_idle_timeout(config.connections.idle_timeout);
        let credentials = Arc::new(Credentials::new(config.identity.clone(), config.connections.transport())?);
        let (timeout, identity) = (config.connect_timeout, config.identity);
        let settings = session::Settings {
            credentials: credentials.clone(),
            hello,
            connections: config.connections,
            behaviours: config.behaviours,
            tracer: config.tracer,
            renew_within: config.renew_within,
            processes: Handle::try_current()?,
        };
        let (current, sessions) = watch::channel(None);
        let keeper = Keeper { servers: config.servers, settings, current };
        let io = IoThread::start("rookery-client").map_err(ConnectError::Thread)?;
        let (state, watched) = watch::channel(ClientState::Connecting { last: None });
        let (closing, close) = watch::channel(false);
        io.handle().spawn(keep_renewed(credentials.clone(), identity));
        io.handle().spawn(keeper.run(state, close));
        match tokio::time::timeout(timeout, connected(watched.clone())).await {
            Ok(Ok(runtime)) => {
                let latest = Mutex::new(runtime);
                Ok(Self(Arc::new(Inner { state: watched, sessions, latest, closing, credentials, _io: io })))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let tried = match &*watched.borrow() {
                    ClientState::Connecting { last: Some(last) } => last.clone(),
                    _ => "no answer came: does a node run there, and does UDP get through?".to_owned(),
                };
                Err(ConnectError::Unreachable { waited: timeout, tried })
            }
        }
    }

    /// Waits until the client is connected, and gives the session's runtime.
    ///
    /// # Errors
    /// The client was closed.
    pub async fn connected(&self) -> Result<Runtime, ConnectError> {
        connected(self.0.state.clone()).await
    }

    /// The runtime of the present session, or of the last one: then its calls answer `NoConnection`, and its processes
    /// have ended. [`connected`](Self::connected) waits for the next.
    ///
    /// Ask for it at each call: when its node is about to leave, the client goes to another one while what was asked is answered, and
    /// this is the new session's from then on. Addresses of the former one answer `NoConnection` once that has ended, a quarter of a
    /// second later at the soonest; a call that got `NoConnection` may have run (A3). A session that rests is never given, also not
    /// when the next one is lost before anybody has asked for it.
    #[must_use]
    pub fn runtime(&self) -> Runtime {
        let mut latest = self.0.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*self.0.sessions.borrow() {
            *latest = runtime.clone();
        }
        latest.clone()
    }

    /// From now on new connections use this identity, and the session goes over to one within [`ClientConfig::renew_within`]. For
    /// programs that have their identity from elsewhere: files are read again by the client itself.
    ///
    /// # Errors
    /// It is of another cluster, or of another client; the text says what to do. The one before stays.
    pub fn renew_identity(&self, identity: Identity) -> Result<(), String> {
        self.0.credentials.check(&identity)?;
        self.0.credentials.take(identity).map_err(|error| error.to_string())
    }

    /// Watches whether the client is connected: each loss and each new session is seen here. After one whose node was about to leave
    /// another one comes without a loss between; the processes of the former have a second to answer what they have begun, and end
    /// with `NoConnection`.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ClientState> {
        self.0.state.clone()
    }

    /// Ends the client in good order: its processes end with `Shutdown`, also those of a session whose place another one has just taken;
    /// what they sent is sent, whoever is tied to them or waits for their answers is told that reason, and the node is told. Who has
    /// not ended after a second is killed. What the client itself has asked is answered `NoConnection`.
    ///
    /// Once begun it goes on, also if nobody waits for it any more: a process of the client may call it, and ends while it waits.
    pub async fn close(self) {
        self.0.closing.send_replace(true);
        let closed = tokio::spawn(async move {
            let mut state = self.0.state.clone();
            let closed = state.wait_for(|state| matches!(state, ClientState::Closed { .. }));
            drop(tokio::time::timeout(CLOSES_WITHIN * 2, closed).await);
        });
        drop(closed.await);
    }
}

async fn connected(mut state: watch::Receiver<ClientState>) -> Result<Runtime, ConnectError> {
    let settled = state.wait_for(|state| !matches!(state, ClientState::Connecting { .. })).await;
    match settled.as_deref() {
        Ok(ClientState::Connected(runtime)) => Ok(runtime.clone()),
        _ => Err(ConnectError::Closed),
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({:?})", *self.0.state.borrow())
    }
}

/// Keeps a client connected.
struct Keeper {
    servers: Vec<Server>,
    settings: session::Settings,
    /// Tells which session is the last. Not the state: that is another one already when a session is lost that nobody asked for.
    current: watch::Sender<Option<Runtime>>,
}

impl Keeper {
    async fn run(self, state: watch::Sender<ClientState>, mut closing: watch::Receiver<bool>) {
        let mut wait = RETRY_MIN;
        let mut first = 0;
        // One that was found while the former one stood.
        let (mut next, mut former) = (None, None::<Running>);
        let mut resting = JoinSet::new();
        loop {
            let round = match next.take() {
                Some(session) => Ok(session),
                None => tokio::select! {
                    round = self.dial_round(first) => round,
                    () = session::closed(&mut closing) => break,
                },
            };
            match round {
                Ok(session) => {
                    wait = RETRY_MIN;
                    tracing::info!(node = %session.node, address = %session.address, "connected");
                    self.current.send_replace(Some(session.runtime.clone()));
                    state.send_replace(ClientState::Connected(session.runtime.clone()));
                    // Now: nobody is given that one's runtime any more.
                    if let Some(former) = former.take() {
                        former.rest(&mut resting);
                    }
                    let mut running = Running::start(session, self.settings.clone(), closing.clone());
                    let found = match running.node_leaves().await {
                        Ok(()) => self.find_another(&mut running, first + 1).await,
                        Err(end) => Err(end),
                    };
                    let end = match found {
                        Ok(session) => {
                            (next, first) = (Some(session), first + 1);
                            former = Some(running);
                            continue;
                        }
                        Err(end) => end,
                    };
                    if *closing.borrow() {
                        break;
                    }
                    tracing::warn!(reason = %end, "connection lost");
                    state.send_replace(ClientState::Connecting { last: Some(end.to_string()) });
                    // Another node next: this one was just lost, to many clients at once perhaps.
                    first += 1;
                    tokio::select! {
                        () = tokio::time::sleep(RETRY_MIN.mul_f64(fraction())) => {}
                        () = session::closed(&mut closing) => break,
                    }
                }
                Err(tried) => {
                    state.send_replace(ClientState::Connecting { last: Some(tried) });
                    let jittered = wait.mul_f64(0.75 + 0.5 * fraction());
                    tokio::select! {
                        () = tokio::time::sleep(jittered) => {}
                        () = session::closed(&mut closing) => break,
                    }
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
        }
        drop(tokio::time::timeout(CLOSES_WITHIN, async { while resting.join_next().await.is_some() {} }).await);
        state.send_replace(ClientState::Closed { reason: "the client was closed".to_owned() });
    }

    /// Finds another node while the session stands whose node is about to leave; or tells why that has ended first.
    async fn find_another(&self, running: &mut Running, first: usize) -> Result<Session, ConnectionError> {
        // It has other clients as well.
        let (mut pause, mut wait) = (RETRY_MIN.mul_f64(fraction()), RETRY_MIN);
        loop {
            let found = async {
                tokio::time::sleep(pause).await;
                self.dial_round(first).await
            };
            match tokio::select! { end = running.ended() => return Err(end), round = found => round } {
                Ok(session) => return Ok(session),
                Err(tried) => tracing::debug!(reason = tried, "no other node takes this client yet"),
            }
            pause = wait.mul_f64(0.75 + 0.5 * fraction());
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// Tries every address once, beginning with the `first`; the first that takes this client wins.
    async fn dial_round(&self, first: usize) -> Result<Session, String> {
        let mut tried = Vec::new();
        let mut addresses = Vec::new();
        for server in &self.servers {
            match addresses_of(server).await {
                Ok(found) => addresses.extend(found),
                Err(error) => tried.push(error),
            }
        }
        if !addresses.is_empty() {
            let shift = first % addresses.len();
            addresses.rotate_left(shift);
        }
        let mut left = addresses.into_iter();
        // What still runs in it when this returns is given up.
        let mut dials = JoinSet::new();
        loop {
            let more = left.next();
            let wait = if more.is_some() { DIAL_ALONE } else { Duration::MAX };
            if let Some(address) = more {
                dials.spawn(self.dial(address));
            }
            match tokio::time::timeout(wait, dials.join_next()).await {
                Ok(Some(Ok((_, Ok(session))))) => return Ok(session),
                Ok(Some(Ok((address, Err(error))))) => {
                    tracing::debug!(%address, reason = %error, "dial failed");
                    tried.push(format!("{address}: {error}"));
                }
                Ok(Some(Err(error))) => tried.push(error.to_string()),
                Ok(None) => return Err(tried.join("; ")),
                Err(_) => {}
            }
        }
    }

    /// Dials one address, and gives up when the time for a handshake is over.
    fn dial(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = (SocketAddr, Result<Session, ConnectionError>)> + Send + use<> {
        let settings = self.settings.clone();
        async move {
            let limit = settings.connections.handshake_timeout;
            let dialled = tokio::time::timeout(limit, session::connect(address, &settings)).await;
            (address, dialled.unwrap_or(Err(ConnectionError::HandshakeTimeout(limit))))
        }
    }
}

/// A number between 0 and 1 that differs from client to client; nothing depends on its quality.
pub(crate) fn fraction() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    f64::from(now.subsec_nanos() % 1_000_000) / 1_000_000.0
}
