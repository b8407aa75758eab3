//! Look-ups of one source: questions to DNS go out, one outcome comes back.
//!
//! A service is asked for by SRV first, `_rookery._udp.<service>`; where there is none, by A and AAAA
//! with the default port. Every outcome is an answer, empty, or failed, and none is cached here or in
//! the library below: the caller's polls are what respects the TTL. Priority and weight of SRV have no
//! meaning in a mesh, which dials every member.
//!
//! A name that fails to resolve while its neighbours do keeps its former addresses, so that half an
//! answer never looks like half a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::task::JoinSet;

use super::limits;
use super::sources::DiscoveryConfig;

/// What a poll of one source gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// At least one address.
    Answer {
        /// All of them, at most [`limits::ADDRESSES_PER_ANSWER`].
        addresses: BTreeSet<SocketAddr>,
        /// The shortest TTL among the records used.
        valid_for: Duration,
        /// How many addresses were left out for the limit.
        excess: usize,
    },
    /// The server says that there are none.
    Empty,
    /// No usable answer; the text says what happened and with what name.
    Failed(String),
}

/// What stays known of one source from poll to poll.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// SRV has answered before: its failure then is no reason to guess ports.
    srv_seen: bool,
    /// The last good addresses of each name and record type; holds only what the last poll asked for.
    known: BTreeMap<Question, BTreeSet<IpAddr>>,
}

/// A name and a record type. The name is compared without regard to case, as DNS does.
type Question = (Name, RecordType);

/// The result of one question.
enum Reply {
    Records(Lookup),
    None,
    Failed(String),
}

/// Asks DNS. A copy shares its sockets.
#[derive(Clone)]
pub(super) struct SourceResolver {
    resolver: TokioResolver,
    /// For one question with all its candidates of the search list.
    timeout: Duration,
    /// Where no record tells a port.
    default_port: u16,
}

impl SourceResolver {
    /// Reads the system's configuration, unless servers are given.
    ///
    /// # Errors
    /// What is wrong with the configuration, as text. It can change: trying again makes sense.
    pub(super) fn new(config: &DiscoveryConfig) -> Result<Self, String> {
        let mut builder = if config.dns_servers.is_empty() {
            TokioResolver::builder_tokio().map_err(|error| {
                format!("the system's DNS configuration (/etc/resolv.conf) is not usable: {error}; correct it or name DNS servers in the configuration")
            })?
        } else {
            let provider = TokioRuntimeProvider::default();
            Resolver::builder_with_config(resolver_config(config)?, provider)
        };
        let options = builder.options_mut();
        options.timeout = config.lookup_timeout;
        options.attempts = 1;
        // No cache: a poll is made when the former answer has run out, and must see what is there now.
        options.cache_size = 0;
        // Whole seconds are what the library keeps: rounded up, so that a TTL never counts as none.
        let poll_max_secs = config.poll_max.as_secs_f64().ceil();
        options.positive_max_ttl = Duration::try_from_secs_f64(poll_max_secs).ok();
        options.negative_max_ttl = Some(limits::NEGATIVE_TTL_MAX);
        // The library's own choice of ports spans everything above 1023 and could sit, for a moment, on
        // the very port that a node on this machine is about to listen on.
        options.os_port_selection = true;
        let resolver = builder.build().map_err(|error| format!("cannot set up DNS: {error}"))?;
        Ok(Self { resolver, timeout: config.lookup_timeout, default_port: config.default_port })
    }

    /// One poll of a service: SRV, else A and AAAA.
    pub(super) async fn poll_service(&self, service: &str, memory: &mut Memory) -> Outcome {
        let srv_failure = match self.ask(&format!("_rookery._udp.{service}"), RecordType::SRV).await {
            Reply::Records(lookup) => {
                memory.srv_seen = true;
                return self.resolve_targets(&lookup, memory).await;
            }
            Reply::Failed(reason) if memory.srv_seen => return Outcome::Failed(reason),
            Reply::Failed(reason) => Some(reason),
            Reply::None => None,
        };
        let by_address = self.poll_host(service, self.default_port, memory).await;
        match (by_address, srv_failure) {
            // Servers that know no SRV may fail instead of saying so; then what A and AAAA say counts.
            (Outcome::Empty, Some(reason)) => Outcome::Failed(reason),
            (outcome, _) => outcome,
        }
    }

    /// One poll of a host by A and AAAA, all with this port.
    pub(super) async fn poll_host(&self, host: &str, port: u16, memory: &mut Memory) -> Outcome {
        let name = match parse_name(host) {
            Ok(name) => name,
            Err(reason) => return Outcome::Failed(reason),
        };
        let ports = BTreeMap::from([(name, BTreeSet::from([port]))]);
        self.gather(ports, Gathered::default(), memory).await
    }

    /// The addresses of an SRV answer's targets: from its additional records where they are there.
    async fn resolve_targets(&self, lookup: &Lookup, memory: &mut Memory) -> Outcome {
        let mut ports: BTreeMap<Name, BTreeSet<u16>> = BTreeMap::new();
        let mut ttl = remaining(lookup);
        let (mut targets, mut excess) = (BTreeSet::new(), 0);
        for record in lookup.answers() {
            // A target of "." says that the service is decidedly not there (RFC 2782); port 0 is nowhere.
            if let RData::SRV(srv) = &record.data
                && !srv.target.is_root()
                && srv.port != 0
            {
                targets.insert((srv.target.clone(), srv.port));
            }
        }
        while targets.len() > limits::ADDRESSES_PER_ANSWER {
            targets.pop_last();
            excess += 1;
        }
        for (target, port) in targets {
            ports.entry(target).or_default().insert(port);
        }
        let mut gathered = Gathered { excess, ..Gathered::default() };
        for record in lookup.additionals() {
            let Some(ip) = record_ip(record) else {
                continue;
            };
            let Some(target_ports) = ports.get(&record.name) else {
                continue;
            };
            ttl = ttl.min(Duration::from_secs(record.ttl.into()));
            gathered.insert(ip, target_ports);
            gathered.known.entry((record.name.clone(), record.record_type())).or_default().insert(ip);
        }
        // A target with any additional record needs no question of its own.
        ports.retain(|target, _| {
            !gathered.known.contains_key(&(target.clone(), RecordType::A))
                && !gathered.known.contains_key(&(target.clone(), RecordType::AAAA))
        });
        gathered.ttl = Some(ttl);
        self.gather(ports, gathered, memory).await
    }

    /// Asks A and AAAA of each name, a few names at a time, and adds what comes to `gathered`.
    async fn gather(
        &self,
        ports: BTreeMap<Name, BTreeSet<u16>>,
        mut gathered: Gathered,
        memory: &mut Memory,
    ) -> Outcome {
        // Twice the time of one question: the first few names may each need all of theirs.
        let deadline = tokio::time::Instant::now() + self.timeout * 2;
        let mut questions = ports
            .keys()
            .flat_map(|name| [(name.clone(), RecordType::A), (name.clone(), RecordType::AAAA)])
            .collect::<BTreeSet<Question>>();
        let mut waiting = questions.clone().into_iter();
        let mut running = JoinSet::new();
        loop {
            while running.len() < limits::PARALLEL_LOOKUPS * 2 {
                let Some((name, kind)) = waiting.next() else {
                    break;
                };
                let resolver = self.clone();
                running.spawn(async move {
                    let reply = resolver.ask_name(name.clone(), kind).await;
                    ((name, kind), reply)
                });
            }
            match tokio::time::timeout_at(deadline, running.join_next()).await {
                Ok(Some(Ok((question, reply)))) => {
                    questions.remove(&question);
                    gathered.handle_reply(question, reply, &ports, memory);
                }
                Ok(Some(Err(_))) => {}
                Ok(None) | Err(_) => break,
            }
        }
        // What is left had no time, or its task ended early.
        for question in questions {
            let reason = format!("{} {}: no answer in time", question.0, question.1);
            gathered.handle_reply(question, Reply::Failed(reason), &ports, memory);
        }
        gathered.finish(memory)
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Reply {
        match parse_name(name) {
            Ok(name) => self.ask_name(name, kind).await,
            Err(reason) => Reply::Failed(reason),
        }
    }

    async fn ask_name(&self, name: Name, kind: RecordType) -> Reply {
        let asked = name.clone();
        match tokio::time::timeout(self.timeout, self.resolver.lookup(name, kind)).await {
            Ok(Ok(lookup)) if lookup.answers().iter().any(|r| r.record_type() == kind) => Reply::Records(lookup),
            Ok(Ok(_)) => Reply::None,
            Ok(Err(error)) if error.is_no_records_found() => Reply::None,
            Ok(Err(NetError::Timeout)) | Err(_) => Reply::Failed(format!(
                "{asked} {kind}: no answer from DNS within {:?}; check that the server is reachable",
                self.timeout
            )),
            Ok(Err(error)) => Reply::Failed(format!("{asked} {kind}: {error}")),
        }
    }
}

/// What a poll has found so far.
#[derive(Default)]
struct Gathered {
    addresses: BTreeSet<SocketAddr>,
    /// The shortest TTL so far.
    ttl: Option<Duration>,
    /// The first failure, told if nothing else was found.
    failure: Option<String>,
    /// Whether this poll itself gave a record: what is only remembered makes no answer.
    fresh: bool,
    /// Addresses left out for the limit.
    excess: usize,
    /// What the next poll may fall back on.
    known: BTreeMap<Question, BTreeSet<IpAddr>>,
}

impl Gathered {
    fn insert(&mut self, ip: IpAddr, ports: &BTreeSet<u16>) {
        self.fresh = true;
        self.addresses.extend(ports.iter().map(|port| SocketAddr::new(ip.to_canonical(), *port)));
    }

    fn handle_reply(
        &mut self,
        question: Question,
        reply: Reply,
        ports: &BTreeMap<Name, BTreeSet<u16>>,
        memory: &Memory,
    ) {
        let Some(ports) = ports.get(&question.0) else {
            return;
        };
        match reply {
            Reply::Records(lookup) => {
                let ttl = remaining(&lookup);
                self.ttl = Some(self.ttl.map_or(ttl, |shortest| shortest.min(ttl)));
                let ips: BTreeSet<IpAddr> = lookup.answers().iter().filter_map(record_ip).collect();
                for ip in &ips {
                    self.insert(*ip, ports);
                }
                self.known.insert(question, ips);
            }
            Reply::None => {}
            Reply::Failed(reason) => {
                self.failure.get_or_insert(reason);
                if let Some(ips) = memory.known.get(&question) {
                    for ip in ips {
                        self.addresses.extend(ports.iter().map(|port| SocketAddr::new(*ip, *port)));
                    }
                    self.known.insert(question, ips.clone());
                }
            }
        }
    }

    fn finish(mut self, memory: &mut Memory) -> Outcome {
        if !self.fresh {
            // The memory stays as it was: it is the last good one.
            return self.failure.map_or(Outcome::Empty, Outcome::Failed);
        }
        while self.addresses.len() > limits::ADDRESSES_PER_ANSWER {
            self.addresses.pop_last();
            self.excess += 1;
        }
        memory.known = self.known;
        Outcome::Answer { addresses: self.addresses, valid_for: self.ttl.unwrap_or_default(), excess: self.excess }
    }
}

fn resolver_config(config: &DiscoveryConfig) -> Result<ResolverConfig, String> {
    let servers = config.dns_servers.iter().map(|server| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
            .into_iter()
            .map(|mut connection| {
                connection.port = server.port();
                connection
            })
            .collect();
        NameServerConfig::new(server.ip(), true, connections)
    });
    let search = config.search_domains.iter().map(|domain| parse_name(domain)).collect::<Result<_, _>>()?;
    Ok(ResolverConfig::from_parts(None, search, servers.collect()))
}

fn parse_name(name: &str) -> Result<Name, String> {
    Name::from_ascii(name).map_err(|error| format!("{name:?} is not a DNS name: {error}"))
}

fn record_ip(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    }
}

fn remaining(lookup: &Lookup) -> Duration {
    lookup.valid_until().saturating_duration_since(Instant::now())
}
