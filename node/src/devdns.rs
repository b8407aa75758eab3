//! A small authoritative DNS server for the demo and for tests; not for production.
//!
//! It answers over UDP and TCP as Kubernetes' DNS does for a headless Service: SRV at
//! `_rookery._udp.<service>` with a target `<pod>.<service>` for each pod, A or AAAA for each pod, and for
//! the service the addresses of all. What it serves can be changed at any time from any thread, and it can
//! be told to fail in the ways that real servers do. It stops when it is dropped.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Edns, Header, HeaderCounts, Metadata};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

mod zone;

pub use zone::Fault;
use zone::Zone;

/// How long an idle TCP connection is kept.
const TCP_IDLE: Duration = Duration::from_secs(10);

/// Responses that may wait on one TCP connection.
const TCP_RESPONSES: usize = 32;

/// Tries to find a port that is free for UDP and for TCP alike.
const BIND_ATTEMPTS: usize = 32;

/// Largest UDP response, as the DNS flag day of 2020 agreed: larger ones are cut and asked again by TCP.
const UDP_BYTES: u16 = 1_232;

/// A running DNS server.
pub struct DevDns {
    /// Owns the tasks: dropped with this handle, and they with it.
    _server: Server<Handler>,
    /// Shared with the tasks.
    shared: Arc<Shared>,
    /// The same port for UDP and TCP.
    addr: SocketAddr,
}

impl DevDns {
    /// Binds UDP and TCP to `bind`, whose port may be 0, and answers from now on.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(bind: SocketAddr) -> io::Result<Self> {
        let (udp, tcp) = bind_both(bind).await?;
        let addr = udp.local_addr()?;
        let shared = Arc::new(Shared { zone: Mutex::new(Zone::new()), queries: watch::Sender::new(0) });
        let mut server = Server::new(Handler { shared: shared.clone() });
        server.register_socket(udp);
        server.register_listener(tcp, TCP_IDLE, TCP_RESPONSES);
        Ok(Self { _server: server, shared, addr })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Makes `service` consist of these pods, each a name and where it listens; replaces its former ones.
    /// With no pods the service has a name and no records.
    ///
    /// # Errors
    /// A name that DNS cannot carry.
    pub fn set(&self, service: &str, pods: Vec<(String, SocketAddr)>) -> io::Result<()> {
        self.shared.zone().set(service, pods)
    }

    /// Makes `service` unknown.
    ///
    /// # Errors
    /// A name that DNS cannot carry.
    pub fn remove(&self, service: &str) -> io::Result<()> {
        self.shared.zone().remove(service)
    }

    /// Misbehaves like this from the next question on.
    pub fn set_fault(&self, fault: Fault) {
        self.shared.zone().fault = fault;
    }

    /// The TTL of all records, and how long "no such name" may be believed; whole seconds.
    pub fn set_ttl(&self, ttl: Duration) {
        self.shared.zone().ttl = ttl;
    }

    /// Whether SRV responses carry their targets' addresses along (they do unless set).
    pub fn set_additionals(&self, additionals: bool) {
        self.shared.zone().additionals = additionals;
    }

    /// How many questions came so far, answered or not.
    pub fn queries(&self) -> u64 {
        *self.shared.queries.borrow()
    }

    /// Waits until this many questions have come since the start.
    pub async fn queried(&self, at_least: u64) {
        let mut queries = self.shared.queries.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = queries.wait_for(|queries| *queries >= at_least).await;
    }
}

impl std::fmt::Debug for DevDns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevDns").field("addr", &self.addr).finish_non_exhaustive()
    }
}

async fn bind_both(bind: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    for _ in 0..BIND_ATTEMPTS {
        let udp = UdpSocket::bind(bind).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            // The port that UDP was given is taken for TCP: the next one may not be.
            Err(error) if bind.port() == 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "found no port that is free for UDP and TCP"))
}

/// What the handle and the tasks share.
struct Shared {
    /// What is served. Held only to read or change it, never while waiting.
    zone: Mutex<Zone>,
    /// Questions so far.
    queries: watch::Sender<u64>,
}

impl Shared {
    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server's side of each question.
struct Handler {
    shared: Arc<Shared>,
}

impl Handler {
    async fn respond<R: ResponseHandler>(&self, request: &Request, mut to: R) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        let reply = match request.request_info() {
            Ok(info) => self.shared.zone().reply(info.query.name(), info.query.query_type()),
            Err(_) => None,
        };
        // Counted after the look at the zone: who saw the count knows that the answer was decided.
        self.shared.queries.send_modify(|queries| *queries += 1);
        let Some((reply, delay)) = reply else {
            return info(metadata);
        };
        tokio::time::sleep(delay).await;
        metadata.response_code = reply.code;
        let mut edns = Edns::new();
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if request.edns.is_some() {
            edns.set_max_payload(request.max_payload().min(UDP_BYTES));
            builder.edns(&edns);
        }
        let response = builder.build(metadata, &reply.answers, [], &reply.soa, &reply.additionals);
        // Who asked may be gone; there is nobody to tell.
        to.send_response(response).await.unwrap_or_else(|_| info(metadata))
    }
}

fn info(metadata: Metadata) -> ResponseInfo {
    ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
}

// Written out, where the trait's authors use a macro, so that no dependency is needed for one function.
impl RequestHandler for Handler {
    fn handle_request<'a, 'b, 'c, R, T>(
        &'a self,
        request: &'b Request,
        response_handle: R,
    ) -> Pin<Box<dyn Future<Output = ResponseInfo> + Send + 'c>>
    where
        R: ResponseHandler + 'c,
        T: Time + 'c,
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(self.respond(request, response_handle))
    }
}
