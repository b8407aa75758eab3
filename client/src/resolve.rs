//! From a [`Server`] to addresses: as it is, or by DNS, SRV records first. Look-ups have a deadline and are made anew for
//! each try, so that a pod that has moved is found.

use std::{net::SocketAddr, time::Duration};

use hickory_resolver::{TokioResolver, proto::rr::RData};

use crate::endpoint::{DEFAULT_PORT, Server};

/// How long DNS may take for one server.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

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
    let mut addresses = Vec::new();
    if port.is_none()
        && let Ok(found) = resolver.srv_lookup(format!("_rookery._udp.{host}")).await
    {
        for record in found.answers() {
            let RData::SRV(srv) = &record.data else { continue };
            if let Ok(ips) = resolver.lookup_ip(srv.target.clone()).await {
                addresses.extend(ips.iter().map(|ip| SocketAddr::new(ip, srv.port)));
            }
        }
    }
    if addresses.is_empty() {
        let ips = resolver.lookup_ip(host).await.map_err(|error| match error.is_no_records_found() {
            true => format!("DNS has no addresses for {host}"),
            false => format!("{host}: {error}"),
        })?;
        addresses.extend(ips.iter().map(|ip| SocketAddr::new(ip, port.unwrap_or(DEFAULT_PORT))));
    }
    Ok(addresses)
}
