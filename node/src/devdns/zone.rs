//! What the development DNS server serves, and what it answers to each question.
//!
//! Pure: names and records go in by [`Zone::set`], a question comes from the server's handler, and the reply
//! with its delay goes back to it. Faults are decided here too, so that the handler only sends.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::rdata::{A, AAAA, SOA, SRV};
use hickory_server::proto::rr::{LowerName, Name, RData, Record, RecordType};

/// TTL of records unless set: short, so that changes show.
const DEFAULT_TTL: Duration = Duration::from_secs(1);

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
    /// Address questions for the first so many pods of each service fail; all others are answered.
    PodsFail(usize),
}

/// What is served now.
pub(super) struct Zone {
    /// By the service's own name.
    services: BTreeMap<LowerName, Service>,
    /// How it misbehaves.
    pub(super) fault: Fault,
    /// Of all records, negative answers included.
    pub(super) ttl: Duration,
    /// Whether SRV responses carry their targets' addresses.
    pub(super) additionals: bool,
}

struct Service {
    /// The service's own name, absolute.
    origin: Name,
    /// The name of its SRV records.
    srv: LowerName,
    /// Each pod's absolute name and where it listens; a pod with two addresses stands here twice.
    pods: Vec<(Name, SocketAddr)>,
}

/// A response, apart from what the question itself determines.
pub(super) struct Reply {
    pub(super) code: ResponseCode,
    pub(super) answers: Vec<Record>,
    /// Tells how long a negative answer holds.
    pub(super) soa: Vec<Record>,
    pub(super) additionals: Vec<Record>,
}

impl Zone {
    pub(super) fn new() -> Self {
        Self { services: BTreeMap::new(), fault: Fault::None, ttl: DEFAULT_TTL, additionals: true }
    }

    /// Makes a service consist of these pods.
    pub(super) fn set(&mut self, service: &str, pods: Vec<(String, SocketAddr)>) -> io::Result<()> {
        let origin = absolute(service)?;
        let srv = LowerName::new(&absolute(&format!("_rookery._udp.{origin}"))?);
        let pods = pods
            .into_iter()
            .map(|(pod, addr)| Ok((absolute(&format!("{pod}.{origin}"))?, addr)))
            .collect::<io::Result<Vec<_>>>()?;
        self.services.insert(LowerName::new(&origin), Service { origin, srv, pods });
        Ok(())
    }

    /// Makes a service unknown.
    pub(super) fn remove(&mut self, service: &str) -> io::Result<()> {
        self.services.remove(&LowerName::new(&absolute(service)?));
        Ok(())
    }

    /// Decides the response and how long to wait with it; `None` is silence.
    pub(super) fn reply(&self, name: &LowerName, kind: RecordType) -> Option<(Reply, Duration)> {
        let at_once = Duration::ZERO;
        let srv = kind == RecordType::SRV;
        let is_service = self.services.contains_key(name);
        let pod_below = |first| self.service_of_pod(name).is_some_and(|(_, _, index)| index < first);
        match self.fault {
            Fault::Silent => None,
            Fault::Slow(delay) => Some((self.answer(name, kind), delay)),
            Fault::Empty => Some((self.negative(name, ResponseCode::NoError), at_once)),
            Fault::NxDomain => Some((self.negative(name, ResponseCode::NXDomain), at_once)),
            Fault::ServFail => Some((self.failure(), at_once)),
            Fault::NoSrv if srv => Some((self.negative(name, ResponseCode::NoError), at_once)),
            Fault::SrvFails if srv => Some((self.failure(), at_once)),
            Fault::SrvOnly if is_service => Some((self.negative(name, ResponseCode::NoError), at_once)),
            Fault::PodsFail(first) if pod_below(first) => Some((self.failure(), at_once)),
            _ => Some((self.answer(name, kind), at_once)),
        }
    }

    fn answer(&self, name: &LowerName, kind: RecordType) -> Reply {
        let found = if let Some(service) = self.services.get(name) {
            self.addresses(kind, service.pods.iter().map(|(_, addr)| (&service.origin, addr)))
        } else if let Some(service) = self.services.values().find(|service| service.srv == *name) {
            match kind {
                RecordType::SRV => return self.srv(service),
                _ => Vec::new(),
            }
        } else if let Some((service, pod, _)) = self.service_of_pod(name) {
            let same = service.pods.iter().filter(|(other, _)| other == pod);
            self.addresses(kind, same.map(|(pod, addr)| (pod, addr)))
        } else {
            return self.negative(name, ResponseCode::NXDomain);
        };
        if found.is_empty() {
            return self.negative(name, ResponseCode::NoError);
        }
        Reply { code: ResponseCode::NoError, answers: found, soa: Vec::new(), additionals: Vec::new() }
    }

    fn srv(&self, service: &Service) -> Reply {
        let owner: Name = service.srv.clone().into();
        let targets: BTreeSet<(&Name, u16)> = service.pods.iter().map(|(pod, addr)| (pod, addr.port())).collect();
        let answers: Vec<Record> = targets
            .into_iter()
            .map(|(pod, port)| {
                let data = RData::SRV(SRV::new(0, 100, port, pod.clone()));
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
        Reply { code: ResponseCode::NoError, answers, soa: Vec::new(), additionals }
    }

    fn addresses<'a>(&self, kind: RecordType, owners: impl Iterator<Item = (&'a Name, &'a SocketAddr)>) -> Vec<Record> {
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

    /// The service that a pod's name belongs to, the name as it was set, and the pod's index in it.
    fn service_of_pod(&self, name: &LowerName) -> Option<(&Service, &Name, usize)> {
        self.services.values().find_map(|service| {
            let index = service.pods.iter().position(|(pod, _)| LowerName::new(pod) == *name)?;
            service.pods.get(index).map(|(pod, _)| (service, pod, index))
        })
    }

    fn negative(&self, name: &LowerName, code: ResponseCode) -> Reply {
        let service = self.services.values().find(|s| LowerName::new(&s.origin).zone_of(name));
        let apex = service.map_or_else(Name::root, |service| service.origin.clone());
        let ttl = self.ttl_secs();
        let times = i32::try_from(ttl).unwrap_or(i32::MAX);
        let data = SOA::new(apex.clone(), apex.clone(), 1, times, times, times, ttl);
        let soa = vec![Record::from_rdata(apex, ttl, RData::SOA(data))];
        Reply { code, answers: Vec::new(), soa, additionals: Vec::new() }
    }

    fn failure(&self) -> Reply {
        Reply { code: ResponseCode::ServFail, answers: Vec::new(), soa: Vec::new(), additionals: Vec::new() }
    }

    fn ttl_secs(&self) -> u32 {
        u32::try_from(self.ttl.as_secs()).unwrap_or(u32::MAX)
    }
}

fn absolute(name: &str) -> io::Result<Name> {
    let mut parsed = Name::from_ascii(name)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not a DNS name: {error}")))?;
    parsed.set_fqdn(true);
    Ok(parsed)
}
