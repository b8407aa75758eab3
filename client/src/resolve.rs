//! From a [`Server`] to addresses: as it is, or by DNS, SRV records first. Look-ups have a deadline and are made anew for
//! each try, so that a pod that has moved is found.

use std::{net::SocketAddr, time::Duration};

use hickory_resolver::{
    TokioResolver,
    proto::rr::{Name, RData},
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use crate::endpoint::{DEFAULT_PORT, Server};

/// How long DNS may take for one server.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

/// How long SRV records are waited for when the addresses are known: they may be on their way. Only they tell of another port than
/// [`DEFAULT_PORT`].
const SRV_PATIENCE: Duration = Duration::from_secs(1);

/// How long their targets are waited for: what has come by then is used.
const TARGETS_PATIENCE: Duration = Duration::from_millis(1_500);

/// How many targets of SRV records are looked up at a time: one after the other would take too long in a large Service, and a
/// resolver does not take any number of questions.
const PARALLEL_LOOKUPS: usize = 16;

/// How many addresses of one answer are tried.
const MAX_ADDRESSES: usize = 64;

/// The addresses of `server`, in the order of the answer.
///
/// # Errors
/// What DNS says, for people.
pub(crate) async fn addresses_of(server: &Server) -> Result<Vec<SocketAddr>, String> {
    let (host, port) = match server {
        Server::Address(address) => return Ok(vec![*address]),
        Server::Name { host, port } => (host, *port),
    };
    let looked_up = tokio::time::timeout(LOOKUP_TIMEOUT, look_up(host, port)).await;
    let mut addresses = looked_up.map_err(|_| format!("DNS does not answer for {host}"))??;
    addresses.truncate(MAX_ADDRESSES);
    Ok(addresses)
}

async fn look_up(host: &str, port: Option<u16>) -> Result<Vec<SocketAddr>, String> {
    let builder = TokioResolver::builder_tokio().map_err(|error| format!("DNS is not configured: {error}"))?;
    let resolver = builder.build().map_err(|error| format!("DNS is not configured: {error}"))?;
    ask(&resolver, host, port).await
}

/// Asks for SRV records and for addresses at once. Where a server keeps silent about the former, as Docker's own does when it has
/// nobody else to ask, the latter are there already.
async fn ask(resolver: &TokioResolver, host: &str, port: Option<u16>) -> Result<Vec<SocketAddr>, String> {
    if port.is_some() {
        return by_address(resolver, host, port).await;
    }
    let (services, by_address) = (services(resolver, host), by_address(resolver, host, None));
    tokio::pin!(services, by_address);
    let (services, addresses) = tokio::select! {
        services = &mut services => (services, None),
        addresses = &mut by_address => {
            (tokio::time::timeout(SRV_PATIENCE, services).await.unwrap_or_default(), Some(addresses))
        }
    };
    let found = targets(resolver, services).await;
    match addresses {
        _ if !found.is_empty() => Ok(found),
        Some(addresses) => addresses,
        None => by_address.await,
    }
}

/// The SRV records of a headless Service: names of pods, and ports. Nothing: there are none, or DNS does not tell.
async fn services(resolver: &TokioResolver, host: &str) -> Vec<(Name, u16)> {
    let Ok(found) = resolver.srv_lookup(format!("_rookery._udp.{host}")).await else { return Vec::new() };
    let records = found.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(srv) => Some((srv.target.clone(), srv.port)),
        _ => None,
    });
    records.take(MAX_ADDRESSES).collect()
}

/// The pods' addresses, in the order of the records. What DNS does not know is left out: such a pod has gone.
async fn targets(resolver: &TokioResolver, services: Vec<(Name, u16)>) -> Vec<SocketAddr> {
    let until = Instant::now() + TARGETS_PATIENCE;
    let (mut lookups, mut found) = (JoinSet::new(), Vec::new());
    let mut services = services.into_iter().enumerate();
    loop {
        while lookups.len() < PARALLEL_LOOKUPS
            && let Some((place, (target, port))) = services.next()
        {
            let resolver = resolver.clone();
            lookups.spawn(async move {
                let ips = resolver.lookup_ip(target).await;
                let ips = ips.map(|ips| ips.iter().map(|ip| SocketAddr::new(ip, port)).collect::<Vec<_>>());
                (place, ips.unwrap_or_default())
            });
        }
        // One that DNS says nothing of takes one of their places, and no more.
        let Ok(Some(one)) = timeout_at(until, lookups.join_next()).await else { break };
        found.extend(one);
    }
    found.sort_unstable_by_key(|(place, _)| *place);
    found.into_iter().flat_map(|(_, found)| found).collect()
}

async fn by_address(resolver: &TokioResolver, host: &str, port: Option<u16>) -> Result<Vec<SocketAddr>, String> {
    let ips = resolver.lookup_ip(host).await.map_err(|error| match error.is_no_records_found() {
        true => format!("DNS has no addresses for {host}"),
        false => format!("{host}: {error}"),
    })?;
    Ok(ips.iter().map(|ip| SocketAddr::new(ip, port.unwrap_or(DEFAULT_PORT))).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use std::{
        net::{Ipv4Addr, UdpSocket},
        thread,
    };

    use hickory_resolver::{
        config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
        net::runtime::TokioRuntimeProvider,
    };

    use super::*;

    const A: u16 = 1;
    const SRV: u16 = 33;
    const NODE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);

    /// How many pods there are, where there are many.
    const PODS: u8 = 30;

    /// How long DNS takes for each of them.
    const SLOW: Duration = Duration::from_millis(100);

    /// What a server does when it is asked for SRV records; for addresses it has [`NODE`].
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Services {
        Silent,
        None,
        Port(u16),
        /// The same, and it takes its time to say so.
        Late(u16, Duration),
        /// So many pods, and DNS is slow to tell of each.
        Many(u16),
        /// The same, and of the first it tells nothing.
        OneLost(u16),
    }

    /// A DNS server for every name, which ends when nothing was asked for long.
    fn server(services: Services) -> TokioResolver {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut connection = ConnectionConfig::udp();
        connection.port = socket.local_addr().unwrap().port();
        thread::spawn(move || {
            let mut query = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                let Some((kind, answer)) = answer(&query[..length], services) else { continue };
                let is_pod = query[12..length].starts_with(b"\x05pod");
                let delay = match services {
                    Services::Late(_, late) if kind == SRV => late,
                    Services::Many(_) | Services::OneLost(_) if is_pod => SLOW,
                    _ => Duration::ZERO,
                };
                if matches!(services, Services::OneLost(_)) && query[12..length].starts_with(b"\x05pod00") {
                    continue;
                }
                let socket = socket.try_clone().unwrap();
                thread::spawn(move || {
                    thread::sleep(delay);
                    socket.send_to(&answer, from).unwrap();
                });
            }
        });
        let servers = vec![NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection])];
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = ResolverOpts::default();
        builder.build().unwrap()
    }

    /// RFC 1035, 4.1: the question again, and records for its name.
    fn answer(query: &[u8], services: Services) -> Option<(u16, Vec<u8>)> {
        let mut end = 12;
        while query[end] != 0 {
            end += 1 + usize::from(query[end]);
        }
        let kind = u16::from_be_bytes([query[end + 1], query[end + 2]]);
        let pod = |number: u8, port: u16| {
            let (name, port) = (format!("pod{number:02}"), port.to_be_bytes());
            [&[0, 0, 0, 0, port[0], port[1], 5][..], name.as_bytes(), b"\x04test\x00"].concat()
        };
        let all = match (kind, services) {
            (A, _) => vec![NODE.octets().to_vec()],
            (SRV, Services::Silent) => return None,
            (SRV, Services::Port(port) | Services::Late(port, _)) => vec![pod(0, port)],
            (SRV, Services::Many(port) | Services::OneLost(port)) => {
                (0..PODS).map(|number| pod(number, port)).collect()
            }
            _ => Vec::new(),
        };
        let count = u8::try_from(all.len()).unwrap();
        let mut answer = [&query[..2], &[0x85, 0x80, 0, 1, 0, count, 0, 0, 0, 0]].concat();
        answer.extend(&query[12..end + 5]);
        for data in all {
            answer.extend([0xc0, 12, 0, kind.to_be_bytes()[1], 0, 1, 0, 0, 0, 5, 0, u8::try_from(data.len()).unwrap()]);
            answer.extend(data);
        }
        Some((kind, answer))
    }

    async fn found(services: Services, port: Option<u16>) -> Vec<SocketAddr> {
        tokio::time::timeout(LOOKUP_TIMEOUT, ask(&server(services), "shop.test.", port)).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_server_that_keeps_silent_about_srv_hides_no_addresses() {
        assert_eq!(found(Services::Silent, None).await, [SocketAddr::from((NODE, DEFAULT_PORT))]);
    }

    #[tokio::test]
    async fn srv_tells_the_port_unless_one_is_given() {
        assert_eq!(found(Services::Port(4711), None).await, [SocketAddr::from((NODE, 4711))]);
        assert_eq!(found(Services::Port(4711), Some(17)).await, [SocketAddr::from((NODE, 17))]);
        assert_eq!(found(Services::None, None).await, [SocketAddr::from((NODE, DEFAULT_PORT))]);
    }

    #[tokio::test]
    async fn srv_that_comes_after_the_addresses_still_tells_the_port() {
        let late = Services::Late(4711, SRV_PATIENCE.mul_f64(0.6));
        assert_eq!(found(late, None).await, [SocketAddr::from((NODE, 4711))]);
    }

    #[tokio::test]
    async fn a_target_of_which_dns_says_nothing_hides_no_other() {
        let found = found(Services::OneLost(4711), None).await;
        assert_eq!(found, vec![SocketAddr::from((NODE, 4711)); usize::from(PODS) - 1]);
    }

    #[tokio::test]
    async fn a_large_service_keeps_its_port_however_long_all_its_pods_take() {
        assert!(SLOW * u32::from(PODS) >= LOOKUP_TIMEOUT, "one after the other they would be too late");
        assert_eq!(found(Services::Many(4711), None).await, vec![SocketAddr::from((NODE, 4711)); usize::from(PODS)]);
    }
}
