//! A small authoritative DNS server for the demo and for tests; not for production.
//!
//! It answers over UDP and TCP as Kubernetes' DNS does for a headless Service: SRV `_rookery._udp.<service>`
//! with a target `<pod>.<service>` for each pod, A or AAAA for each pod, and for the service the addresses of
//! all. What it serves can be changed at any time from any thread, and it can be told to fail in the ways
//! that real servers do. It stops when it is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Edns, Header, HeaderCounts, Metadata, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA, SOA, SRV};
use hickory_server::proto::rr::{LowerName, Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

/// TTL of records unless set: short, so that changes show.
const DEFAULT_TTL: Duration = Duration::from_secs(1);

/// How long an idle TCP connection is kept.
const TCP_IDLE: Duration = Duration::from_secs(10);

/// Responses that may wait on one TCP connection.
const TCP_RESPONSES: usize = 32;

/// Tries to find a port that is free for UDP and for TCP alike.
const BIND_ATTEMPTS: usize = 32;

/// Largest UDP response, as the DNS flag day of 2020 agreed: larger ones are cut and asked again by TCP.
const UDP_BYTES: u16 = 1_232;

/// How the server misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Not at all.
    #[default]
    None,
    /// Every question: the name exists and has no records.
    Empty,
    /// Every question: no such name.
    NxDomain,
    /// Every question: the server failed.
    ServFail,
    /// No response to anything.
    Silent,
    /// The right response, this much later.
    Slow(Duration),
    /// Address questions for services fail as for a name without records; SRV and pods are answered.
    SrvOnly,
    /// SRV questions are answered as for a name without records.
    NoSrv,
    /// SRV questions fail; all others are answered.
    SrvFails,
    /// Address questions for pods fail, and SRV responses carry no additional records.
    PodsFail,
}

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
        let shared = Arc::new(Shared {
            zone: Mutex::new(Zone {
                services: BTreeMap::new(),
                fault: Fault::None,
                ttl: DEFAULT_TTL,
                additionals: true,
            }),
            queries: watch::Sender::new(0),
        });
        let mut server = Server::new(Handler {
            shared: shared.clone(),
        });
        server.register_socket(udp);
        server.register_listener(tcp, TCP_IDLE, TCP_RESPONSES);
        Ok(Self {
            _server: server,
            shared,
            addr,
        })
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
        let origin = absolute(service)?;
        let srv = absolute(&format!("_rookery._udp.{origin}"))?;
        let pods = pods
            .into_iter()
            .map(|(pod, addr)| Ok((absolute(&format!("{pod}.{origin}"))?, addr)))
            .collect::<io::Result<Vec<_>>>()?;
        let service = Service {
            srv: LowerName::new(&srv),
            origin: origin.clone(),
            pods,
        };
        self.shared
            .zone()
            .services
            .insert(LowerName::new(&origin), service);
        Ok(())
    }

    /// Makes `service` unknown.
    ///
    /// # Errors
    /// A name that DNS cannot carry.
    pub fn remove(&self, service: &str) -> io::Result<()> {
        let origin = absolute(service)?;
        self.shared.zone().services.remove(&LowerName::new(&origin));
        Ok(())
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
        f.debug_struct("DevDns")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
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
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        "found no port that is free for UDP and TCP",
    ))
}

fn absolute(name: &str) -> io::Result<Name> {
    let mut parsed = Name::from_ascii(name).map_err(|error| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} is not a DNS name: {error}"),
        )
    })?;
    parsed.set_fqdn(true);
    Ok(parsed)
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

struct Zone {
    /// By the service's own name.
    services: BTreeMap<LowerName, Service>,
    fault: Fault,
    ttl: Duration,
    additionals: bool,
}

struct Service {
    /// The service's own name, absolute.
    origin: Name,
    /// The name of its SRV records.
    srv: LowerName,
    /// Each pod's absolute name and where it listens.
    pods: Vec<(Name, SocketAddr)>,
}

/// A response, apart from what the question itself determines.
struct Reply {
    code: ResponseCode,
    answers: Vec<Record>,
    /// Tells how long a negative answer holds.
    soa: Vec<Record>,
    additionals: Vec<Record>,
}

impl Zone {
    /// Decides the response and how long to wait with it; `None` is silence.
    fn reply(&self, name: &LowerName, kind: RecordType) -> Option<(Reply, Duration)> {
        let at_once = Duration::ZERO;
        let srv = kind == RecordType::SRV;
        let is_service = self.services.contains_key(name);
        let is_pod = !is_service && self.service_of_pod(name).is_some();
        match self.fault {
            Fault::Silent => None,
            Fault::Slow(delay) => Some((self.answer(name, kind), delay)),
            Fault::Empty => Some((self.negative(name, ResponseCode::NoError), at_once)),
            Fault::NxDomain => Some((self.negative(name, ResponseCode::NXDomain), at_once)),
            Fault::ServFail => Some((self.failure(), at_once)),
            Fault::NoSrv if srv => Some((self.negative(name, ResponseCode::NoError), at_once)),
            Fault::SrvFails if srv => Some((self.failure(), at_once)),
            Fault::SrvOnly if is_service => {
                Some((self.negative(name, ResponseCode::NoError), at_once))
            }
            Fault::PodsFail if is_pod => Some((self.failure(), at_once)),
            Fault::PodsFail => {
                let reply = self.answer(name, kind);
                Some((
                    Reply {
                        additionals: Vec::new(),
                        ..reply
                    },
                    at_once,
                ))
            }
            Fault::None | Fault::NoSrv | Fault::SrvFails | Fault::SrvOnly => {
                Some((self.answer(name, kind), at_once))
            }
        }
    }

    fn answer(&self, name: &LowerName, kind: RecordType) -> Reply {
        let found = if let Some(service) = self.services.get(name) {
            self.addresses(
                kind,
                service.pods.iter().map(|(_, addr)| (&service.origin, addr)),
            )
        } else if let Some(service) = self.services.values().find(|service| service.srv == *name) {
            match kind {
                RecordType::SRV => return self.srv(service),
                _ => Vec::new(),
            }
        } else if let Some((service, pod)) = self.service_of_pod(name) {
            let same = service.pods.iter().filter(|(other, _)| other == pod);
            self.addresses(kind, same.map(|(pod, addr)| (pod, addr)))
        } else {
            return self.negative(name, ResponseCode::NXDomain);
        };
        if found.is_empty() {
            return self.negative(name, ResponseCode::NoError);
        }
        Reply {
            code: ResponseCode::NoError,
            answers: found,
            soa: Vec::new(),
            additionals: Vec::new(),
        }
    }

    fn srv(&self, service: &Service) -> Reply {
        let owner: Name = service.srv.clone().into();
        let answers: Vec<Record> = service
            .pods
            .iter()
            .map(|(pod, addr)| {
                let data = RData::SRV(SRV::new(0, 100, addr.port(), pod.clone()));
                Record::from_rdata(owner.clone(), self.ttl_secs(), data)
            })
            .collect();
        if answers.is_empty() {
            return self.negative(&service.srv, ResponseCode::NoError);
        }
        let pods = || service.pods.iter().map(|(pod, addr)| (pod, addr));
        let mut additionals = Vec::new();
        if self.additionals {
            additionals = self.addresses(RecordType::A, pods());
            additionals.extend(self.addresses(RecordType::AAAA, pods()));
        }
        Reply {
            code: ResponseCode::NoError,
            answers,
            soa: Vec::new(),
            additionals,
        }
    }

    fn addresses<'a>(
        &self,
        kind: RecordType,
        owners: impl Iterator<Item = (&'a Name, &'a SocketAddr)>,
    ) -> Vec<Record> {
        let mut records = Vec::new();
        let mut seen = BTreeSet::new();
        for (owner, addr) in owners {
            let data = match (addr.ip(), kind) {
                (IpAddr::V4(ip), RecordType::A) => RData::A(A(ip)),
                (IpAddr::V6(ip), RecordType::AAAA) => RData::AAAA(AAAA(ip)),
                _ => continue,
            };
            // Pods that differ by port alone share their address: a record set has no duplicates.
            if seen.insert((owner, addr.ip())) {
                records.push(Record::from_rdata(owner.clone(), self.ttl_secs(), data));
            }
        }
        records
    }

    fn service_of_pod(&self, name: &LowerName) -> Option<(&Service, &Name)> {
        self.services.values().find_map(|service| {
            let pod = service
                .pods
                .iter()
                .find(|(pod, _)| LowerName::new(pod) == *name);
            pod.map(|(pod, _)| (service, pod))
        })
    }

    fn negative(&self, name: &LowerName, code: ResponseCode) -> Reply {
        let service = self
            .services
            .values()
            .find(|s| LowerName::new(&s.origin).zone_of(name));
        let apex = service.map_or_else(Name::root, |service| service.origin.clone());
        let ttl = self.ttl_secs();
        let times = i32::try_from(ttl).unwrap_or(i32::MAX);
        let data = SOA::new(apex.clone(), apex.clone(), 1, times, times, times, ttl);
        let soa = vec![Record::from_rdata(apex, ttl, RData::SOA(data))];
        Reply {
            code,
            answers: Vec::new(),
            soa,
            additionals: Vec::new(),
        }
    }

    fn failure(&self) -> Reply {
        Reply {
            code: ResponseCode::ServFail,
            answers: Vec::new(),
            soa: Vec::new(),
            additionals: Vec::new(),
        }
    }

    fn ttl_secs(&self) -> u32 {
        u32::try_from(self.ttl.as_secs()).unwrap_or(u32::MAX)
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
            Ok(info) => self
                .shared
                .zone()
                .reply(info.query.name(), info.query.query_type()),
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
        to.send_response(response)
            .await
            .unwrap_or_else(|_| info(metadata))
    }
}

fn info(metadata: Metadata) -> ResponseInfo {
    ResponseInfo::from(Header {
        metadata,
        counts: HeaderCounts::default(),
    })
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
