//! Addresses as operators write them: with or without a port, IPv4, IPv6 with or without brackets, host names.
//!
//! Three kinds, as the options need them: a socket address to listen on, an IP address whose port may be left out,
//! and a host whose name DNS knows. Parsing is pure; no name is looked up here.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::value::{Wrong, dns_name};

/// Port of a node that names none. Registered with nobody; the one in every manifest of ours.
pub(crate) const DEFAULT_PORT: u16 = 4370;
/// Port of a DNS server that names none.
pub(crate) const DNS_PORT: u16 = 53;

/// An address at which others reach this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AdvertisedAddress {
    /// The address; never the unspecified one.
    pub(crate) ip: IpAddr,
    /// The port, or none for the one that the node comes to listen on.
    pub(crate) port: Option<u16>,
}

impl AdvertisedAddress {
    /// Reads `ip` or `ip:port`.
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        let (ip, port) = ip_and_port(text)?;
        if ip.is_unspecified() || ip.is_multicast() {
            return Err("is no address that others can dial".to_owned());
        }
        Ok(Self { ip, port })
    }

    /// The full address, once it is known which port the node listens on.
    pub(crate) fn with_default_port(self, listening: u16) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.unwrap_or(listening))
    }
}

impl fmt::Display for AdvertisedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}", SocketAddr::new(self.ip, port)),
            None => write!(f, "{}", self.ip),
        }
    }
}

/// A node to dial, by name or by IP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerAddress {
    /// Where it is.
    pub(crate) host: Host,
    /// Its port.
    pub(crate) port: u16,
}

/// What stands before the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// An address as it is.
    Ip(IpAddr),
    /// A name for DNS, in lower case and without a dot at its end.
    Name(String),
}

impl PeerAddress {
    /// Reads `host`, `host:port`, `ip` or `ip:port`.
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        if let Ok((ip, port)) = ip_and_port(text) {
            if ip.is_unspecified() || ip.is_multicast() {
                return Err("is no address that can be dialled".to_owned());
            }
            return Ok(Self { host: Host::Ip(ip), port: port.unwrap_or(DEFAULT_PORT) });
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, parse_port(port)?),
            None => (text, DEFAULT_PORT),
        };
        let name = dns_name(name)?;
        // `10.0.0` and `256.1.1.1` are slips in an IP address: no top-level domain is a number.
        if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err("is neither an IP address nor a host name".to_owned());
        }
        Ok(Self { host: Host::Name(name), port })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => write!(f, "{}", SocketAddr::new(*ip, self.port)),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// Reads an address to listen on; the port must be there.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, Wrong> {
    match ip_and_port(text)? {
        (ip, Some(port)) => Ok(SocketAddr::new(ip, port)),
        (_, None) => Err("has no port".to_owned()),
    }
}

/// Reads a DNS server's address.
pub(crate) fn dns_server(text: &str) -> Result<SocketAddr, Wrong> {
    let (ip, port) = ip_and_port(text)?;
    Ok(SocketAddr::new(ip, port.unwrap_or(DNS_PORT)))
}

fn ip_and_port(text: &str) -> Result<(IpAddr, Option<u16>), Wrong> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok((ip, None));
    }
    // A bare IPv6 address is taken above, so what stands after the last colon here can only be a port.
    let (ip, port) = match (text.strip_prefix('['), text.rsplit_once(':')) {
        (Some(rest), _) => match rest.split_once(']') {
            Some((ip, "")) => (ip, None),
            Some((ip, port)) => (ip, port.strip_prefix(':')),
            None => return Err("has a `[` without its `]`".to_owned()),
        },
        (None, Some((ip, port))) => (ip, Some(port)),
        (None, None) => (text, None),
    };
    let ip = ip.parse::<IpAddr>().map_err(|_| format!("has no IP address in `{ip}`"))?;
    Ok((ip, port.map(parse_port).transpose()?))
}

fn parse_port(text: &str) -> Result<u16, Wrong> {
    text.parse().map_err(|_| format!("has no port from 0 to 65535 in `{text}`"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;

    #[test]
    fn listen_needs_an_ip_and_a_port() {
        assert_eq!(listen_address("[::]:4370").unwrap().to_string(), "[::]:4370");
        assert_eq!(listen_address("127.0.0.1:0").unwrap().port(), 0);
        assert!(listen_address("127.0.0.1").unwrap_err().contains("no port"));
        assert!(listen_address("::1").unwrap_err().contains("no port"));
        assert!(listen_address("localhost:1").unwrap_err().contains("localhost"));
        assert!(listen_address("127.0.0.1:99999").unwrap_err().contains("99999"));
        assert!(listen_address("[::1").is_err());
    }

    #[test]
    fn advertised_address_takes_the_port_listened_on() {
        let plain = AdvertisedAddress::parse("fd00::7").unwrap();
        assert_eq!(plain.with_default_port(9).to_string(), "[fd00::7]:9");
        let full = AdvertisedAddress::parse("[fd00::7]:1").unwrap();
        assert_eq!(full.with_default_port(9).to_string(), "[fd00::7]:1");
        assert!(AdvertisedAddress::parse("0.0.0.0:1").is_err());
    }

    #[test]
    fn peers_are_names_or_addresses() {
        for (given, shown) in [
            ("orders-0.orders", "orders-0.orders:4370"),
            ("Orders:1", "orders:1"),
            ("10.0.0.1", "10.0.0.1:4370"),
            ("::1", "[::1]:4370"),
            ("[::1]:5", "[::1]:5"),
        ] {
            assert_eq!(PeerAddress::parse(given).unwrap().to_string(), shown);
        }
        for bad in ["", ":1", "a:b", "a:70000", "10.0.0", "256.1.1.1:4", "a b", "0.0.0.0"] {
            assert!(PeerAddress::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn dns_server_has_port_53_unless_it_says_otherwise() {
        assert_eq!(dns_server("10.96.0.10").unwrap().to_string(), "10.96.0.10:53");
        assert_eq!(dns_server("[::1]:5353").unwrap().to_string(), "[::1]:5353");
    }
}
