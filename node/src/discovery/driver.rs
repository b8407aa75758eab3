//! The tasks that poll: one for each source, for ever, until the handle is dropped.
//!
//! Sources do not wait for each other: a static peer with a dead name server delays nobody. Each change
//! of state is one log line and one event; the receiver's pace holds the polls back, never the node's
//! start. The last good set and the times come from `watch`, the answers from `resolver`.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::jitter::Jitter;
use super::limits;
use super::peer_address::{Host, PeerAddress, host_name_problem};
use super::resolver::{Memory, Outcome, SourceResolver};
use super::sources::{DiscoveryConfig, DiscoveryEvent, Source};
use super::watch::SourceWatch;

/// Running discovery; dropping it ends its tasks.
#[derive(Debug)]
#[must_use = "dropping it ends discovery"]
pub struct Discovery {
    /// One task for each source that is polled, and one that tells the fixed ones.
    tasks: JoinSet<()>,
}

/// Why discovery cannot start: always the configuration's fault. DNS trouble is never an error here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// The service's name is none that DNS can carry.
    #[error("service name {name:?}: {problem}")]
    ServiceName {
        /// The name as configured.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A domain of the search list is none that DNS can carry.
    #[error("search domain {name:?}: {problem}")]
    SearchDomain {
        /// The name as configured.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More static peers than the limit.
    #[error("{0} static peers are configured and at most {max} are accepted: one good address is enough, or use a DNS service", max = limits::STATIC_PEERS)]
    TooManyPeers(usize),
    /// The default port, or that of a DNS server, is 0.
    #[error("{0} is port 0, which nobody can be reached at: use a port from 1 to 65535")]
    PortZero(&'static str),
    /// The times contradict each other.
    #[error(
        "the shortest poll interval, the longest and the look-up timeout must be above zero, and the shortest not above the longest"
    )]
    Times,
}

impl Discovery {
    /// Starts polling on the current tokio runtime. Returns at once, whatever DNS does; with neither
    /// service nor peers it does nothing (a cluster of one). `seed` decides the jitter.
    ///
    /// Discovery ends when the handle is dropped or the receiver of `events` is.
    ///
    /// # Errors
    /// A configuration that can never work; see [`DiscoveryError`].
    pub fn start(
        config: DiscoveryConfig,
        seed: u64,
        events: mpsc::Sender<DiscoveryEvent>,
    ) -> Result<Self, DiscoveryError> {
        check(&config)?;
        let config = Arc::new(config);
        let mut jitter = Jitter::new(seed);
        let mut tasks = JoinSet::new();
        let mut fixed = Vec::new();
        let mut polled = Vec::new();
        if let Some(service) = &config.service {
            let service: Arc<str> = service.as_str().into();
            polled.push((Source::Service(service.clone()), Target::Service(service)));
        }
        for peer in &config.peers {
            let source = Source::Peer(peer.to_string().into());
            let port = peer.port().unwrap_or(config.default_port);
            match peer.host() {
                Host::Ip(ip) => fixed.push((source, SocketAddr::new(*ip, port))),
                Host::Name(name) => {
                    polled.push((source, Target::Host(name.as_str().into(), port)));
                }
            }
        }
        if !fixed.is_empty() {
            tasks.spawn(tell_fixed(fixed, events.clone()));
        }
        for (source, target) in polled {
            let poller = Poller {
                watch: SourceWatch::new(source, config.poll_min, config.poll_max, jitter.fork()),
                target,
                config: config.clone(),
                memory: Memory::default(),
                resolver: None,
            };
            tasks.spawn(poller.run(events.clone()));
        }
        Ok(Self { tasks })
    }

    /// How many sources are being polled or told right now.
    pub fn running(&mut self) -> usize {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.len()
    }
}

fn check(config: &DiscoveryConfig) -> Result<(), DiscoveryError> {
    if let Some(name) = &config.service
        && let Some(problem) = service_problem(name)
    {
        return Err(DiscoveryError::ServiceName { name: name.clone(), problem });
    }
    for name in &config.search_domains {
        if let Some(problem) = host_name_problem(name) {
            return Err(DiscoveryError::SearchDomain { name: name.clone(), problem });
        }
    }
    if config.peers.len() > limits::STATIC_PEERS {
        return Err(DiscoveryError::TooManyPeers(config.peers.len()));
    }
    if config.default_port == 0 {
        return Err(DiscoveryError::PortZero("the default port"));
    }
    if config.dns_servers.iter().any(|server| server.port() == 0) {
        return Err(DiscoveryError::PortZero("a DNS server's port"));
    }
    let times = [config.poll_min, config.poll_max, config.lookup_timeout];
    if times.iter().any(std::time::Duration::is_zero) || config.poll_min > config.poll_max {
        return Err(DiscoveryError::Times);
    }
    Ok(())
}

/// A service is a bare name: with a port or as an address it is a static peer.
fn service_problem(name: &str) -> Option<&'static str> {
    match name.parse::<PeerAddress>() {
        Ok(address) if matches!(address.host(), Host::Ip(_)) => {
            Some("it is an address; a service is a DNS name, and an address is a static peer")
        }
        Ok(address) if address.port().is_some() => {
            Some("a service has no port: SRV records or the default port tell it")
        }
        Ok(_) | Err(_) => host_name_problem(name),
    }
}

/// What a poll asks for.
#[derive(Debug, Clone)]
enum Target {
    Service(Arc<str>),
    Host(Arc<str>, u16),
}

/// One source's endless task.
struct Poller {
    /// Decides what to tell and when to ask.
    watch: SourceWatch,
    /// What to ask for.
    target: Target,
    /// Of the whole discovery.
    config: Arc<DiscoveryConfig>,
    /// Of the last good answers.
    memory: Memory,
    /// `None` before the first poll and after a failure with the system's configuration, which is then
    /// read again: it may have been what was wrong.
    resolver: Option<SourceResolver>,
}

impl Poller {
    async fn run(mut self, events: mpsc::Sender<DiscoveryEvent>) {
        loop {
            let outcome = self.poll().await;
            for event in self.watch.handle_outcome(outcome) {
                log(&event);
                if events.send(event).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(self.watch.next_wait()) => {}
                () = events.closed() => return,
            }
        }
    }

    async fn poll(&mut self) -> Outcome {
        let resolver = match self.resolver.take().map_or_else(|| SourceResolver::new(&self.config), Ok) {
            Ok(resolver) => resolver,
            Err(reason) => return Outcome::Failed(reason),
        };
        let outcome = match &self.target {
            Target::Service(name) => resolver.poll_service(name, &mut self.memory).await,
            Target::Host(name, port) => resolver.poll_host(name, *port, &mut self.memory).await,
        };
        let read_again = self.config.dns_servers.is_empty() && matches!(outcome, Outcome::Failed(_));
        if !read_again {
            self.resolver = Some(resolver);
        }
        outcome
    }
}

async fn tell_fixed(fixed: Vec<(Source, SocketAddr)>, events: mpsc::Sender<DiscoveryEvent>) {
    for (source, address) in fixed {
        let event = DiscoveryEvent::Addresses { source, set: [address].into(), excess: 0 };
        log(&event);
        if events.send(event).await.is_err() {
            return;
        }
    }
}

fn log(event: &DiscoveryEvent) {
    match event {
        DiscoveryEvent::Addresses { source, set, excess } => {
            tracing::info!(%source, count = set.len(), addresses = %Few(set), "addresses found");
            if *excess > 0 {
                tracing::warn!(
                    %source,
                    left_out = excess,
                    limit = limits::ADDRESSES_PER_ANSWER,
                    "the answer has more addresses than are taken from one; peers tell the rest"
                );
            }
        }
        DiscoveryEvent::Trouble { source, reason } => {
            tracing::warn!(
                %source, %reason,
                "no addresses now; those known stay, and it is asked again for ever"
            );
        }
        DiscoveryEvent::Recovered { source } => {
            tracing::info!(%source, "DNS answers again");
        }
    }
}

/// Prints the first few addresses of a set: a log line stays a line.
struct Few<'a>(&'a std::collections::BTreeSet<SocketAddr>);

impl std::fmt::Display for Few<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 8;
        for (index, address) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{address}")?;
        }
        if self.0.len() > SHOWN { f.write_str(", …") } else { Ok(()) }
    }
}
