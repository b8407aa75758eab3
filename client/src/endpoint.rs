//! Where a client looks for nodes: an address, or a DNS name.
//!
//! Texts come from the command line, the environment or a program, and are checked here; what is accepted parses back
//! from its printed form. `resolve.rs` makes addresses of it, at each try anew.

use std::{fmt, net::SocketAddr, str::FromStr};

use thiserror::Error;

/// The port of a node, where none is given and DNS does not tell one.
pub(crate) const DEFAULT_PORT: u16 = 4370;

/// A place to connect to: `10.0.0.7:4370`, `[::1]:4370`, `orders-0.orders:4370`, or `orders`, whose SRV records
/// (`_rookery._udp.orders`) tell the ports, as those of a headless Service do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// An address.
    Address(SocketAddr),
    /// A DNS name with a port, or without one.
    Name {
        /// The name; one with a dot at its end is absolute.
        host: String,
        /// The port; none: SRV records tell it, or it is 4370.
        port: Option<u16>,
    },
}

/// A text that is no [`Server`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no place to connect to: use `host`, `host:port`, `ip:port` or `[ipv6]:port`")]
pub struct ParseServerError(String);

impl FromStr for Server {
    type Err = ParseServerError;

    fn from_str(text: &str) -> Result<Self, ParseServerError> {
        let bad = || ParseServerError(text.to_owned());
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if address.port() == 0 { Err(bad()) } else { Ok(Self::Address(address)) };
        }
        if let Ok(ip) = text.trim_matches(['[', ']']).parse() {
            return Ok(Self::Address(SocketAddr::new(ip, DEFAULT_PORT)));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?)),
            None => (text, None),
        };
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let labels = host.strip_suffix('.').unwrap_or(host);
        if labels.is_empty() || labels.len() > 253 || !labels.split('.').all(label) {
            return Err(bad());
        }
        Ok(Self::Name { host: host.to_owned(), port })
    }
}

impl From<SocketAddr> for Server {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { host, port: Some(port) } => write!(f, "{host}:{port}"),
            Self::Name { host, port: None } => f.write_str(host),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use super::Server;

    #[test]
    fn servers_print_and_parse_back() {
        for text in ["127.0.0.1:4370", "[::1]:9", "orders", "orders.shop.svc.cluster.local.", "orders-0.orders:4370"] {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), text);
        }
        assert_eq!("127.0.0.1".parse::<Server>().unwrap().to_string(), "127.0.0.1:4370");
        for text in ["", ":4370", "host:", "host:x", "host:0", "host:70000", "a b", "-..-", "127.0.0.1:0"] {
            assert!(text.parse::<Server>().is_err(), "{text}");
        }
    }
}
