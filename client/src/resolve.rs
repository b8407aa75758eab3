//! From a [`Server`] to addresses: as it is, or by DNS, SRV records first. Look-ups have a deadline and are made anew for
//! each try, so that a pod that has moved is found.

use std::{net::SocketAddr, time::Duration};

use hickory_resolver::{TokioResolver, proto::rr::RData};

use crate::endpoint::{DEFAULT_PORT, Server};

/// How long DNS may take for one server.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

/// How long SRV records are waited for when the addresses are known: they may be on their way.
const SRV_PATIENCE: Duration = Duration::from_millis(500);

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
    let (by_service, by_address) = (by_service(resolver, host), by_address(resolver, host, None));
    tokio::pin!(by_service, by_address);
    let addresses = tokio::select! {
        found = &mut by_service => return if found.is_empty() { by_address.await } else { Ok(found) },
        addresses = &mut by_address => addresses,
    };
    match tokio::time::timeout(SRV_PATIENCE, by_service).await {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => addresses,
    }
}

/// The pods of a headless Service, by its SRV records. Nothing: there are none, or DNS does not tell.
async fn by_service(resolver: &TokioResolver, host: &str) -> Vec<SocketAddr> {
    let Ok(found) = resolver.srv_lookup(format!("_rookery._udp.{host}")).await else { return Vec::new() };
    let mut addresses = Vec::new();
    for record in found.answers() {
        let RData::SRV(srv) = &record.data else { continue };
        if let Ok(ips) = resolver.lookup_ip(srv.target.clone()).await {
            addresses.extend(ips.iter().map(|ip| SocketAddr::new(ip, srv.port)));
        }
    }
    addresses
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

    /// What a server does when it is asked for SRV records; for addresses it has [`NODE`].
    #[derive(Clone, Copy)]
    enum Services {
        Silent,
        None,
        Port(u16),
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
                if let Some(answer) = answer(&query[..length], services) {
                    socket.send_to(&answer, from).unwrap();
                }
            }
        });
        let servers = vec![NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection])];
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = ResolverOpts::default();
        builder.build().unwrap()
    }

    /// RFC 1035, 4.1: the question again, and one record for its name.
    fn answer(query: &[u8], services: Services) -> Option<Vec<u8>> {
        let mut end = 12;
        while query[end] != 0 {
            end += 1 + usize::from(query[end]);
        }
        let kind = u16::from_be_bytes([query[end + 1], query[end + 2]]);
        let data = match (kind, services) {
            (A, _) => NODE.octets().to_vec(),
            (SRV, Services::Silent) => return None,
            (SRV, Services::Port(port)) => {
                let port = port.to_be_bytes();
                [&[0, 0, 0, 0, port[0], port[1]][..], b"\x04pod0\x04test\x00"].concat()
            }
            _ => Vec::new(),
        };
        let mut answer = [&query[..2], &[0x85, 0x80, 0, 1, 0, u8::from(!data.is_empty()), 0, 0, 0, 0]].concat();
        answer.extend(&query[12..end + 5]);
        if !data.is_empty() {
            answer.extend([0xc0, 12, 0, kind.to_be_bytes()[1], 0, 1, 0, 0, 0, 5, 0, u8::try_from(data.len()).unwrap()]);
            answer.extend(data);
        }
        Some(answer)
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
}
