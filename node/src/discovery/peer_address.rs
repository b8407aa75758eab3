//! The address of a static peer as an operator writes it.
//!
//! `host:port`, `ip:port`, `[v6]:port`, or any of the three without a port, which then is the default
//! one. A host name may end in a dot, which makes it absolute; otherwise the search list applies. Text
//! comes from flags, environment and configuration files; every mistake is told with the text itself.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest host name that DNS can carry, without its final dot (RFC 1035, 2.3.4).
const HOST_NAME_BYTES: usize = 253;

/// The longest label of a host name (RFC 1035, 2.3.4).
const LABEL_BYTES: usize = 63;

/// Where a static peer may be found: a host and, if it is not the default one, a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerAddress {
    /// The host; a name has been checked to be one that DNS can carry.
    host: Host,
    /// The port, never 0; `None` is the default port.
    port: Option<u16>,
}

/// A host, as an address or as a name that DNS resolves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An address: nothing is looked up.
    Ip(IpAddr),
    /// A name, looked up on each poll.
    Name(String),
}

/// Why a text is not the address of a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerAddressError {
    /// There is no host in it.
    #[error("peer address {0:?} has no host: write host:port, ip:port, [ipv6]:port, or one of them without the port")]
    NoHost(String),
    /// The port is not a number from 1 to 65535.
    #[error("peer address {input:?} has port {port:?}: a port is a number from 1 to 65535")]
    Port {
        /// The whole text.
        input: String,
        /// What stands where the port should.
        port: String,
    },
    /// What stands in brackets is not an IPv6 address, or the brackets do not match.
    #[error(
        "peer address {0:?} is not a valid [ipv6]:port: brackets hold one IPv6 address without a zone, such as [fd00::1]:4370"
    )]
    Brackets(String),
    /// The host is neither an address nor a name that DNS can carry.
    #[error("peer address {input:?} has host {host:?}: {problem}")]
    HostName {
        /// The whole text.
        input: String,
        /// The part that was read as the host.
        host: String,
        /// What is wrong with it, and what is accepted.
        problem: &'static str,
    },
}

impl PeerAddress {
    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port as written; `None` is the default port.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl FromStr for PeerAddress {
    type Err = PeerAddressError;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let text = input.trim();
        if let Some(rest) = text.strip_prefix('[') {
            let brackets = || PeerAddressError::Brackets(input.to_owned());
            let (inside, after) = rest.split_once(']').ok_or_else(brackets)?;
            let ip: Ipv6Addr = inside.parse().map_err(|_| brackets())?;
            let port = match after.strip_prefix(':') {
                Some(port) => Some(parse_port(input, port)?),
                None if after.is_empty() => None,
                None => return Err(brackets()),
            };
            return Ok(Self { host: Host::Ip(ip.into()), port });
        }
        // An IPv6 address without brackets cannot also have a port: there is no telling them apart.
        if let Ok(ip) = text.parse::<Ipv6Addr>() {
            return Ok(Self { host: Host::Ip(ip.into()), port: None });
        }
        let (host, port) = match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => {
                return Err(PeerAddressError::Brackets(input.to_owned()));
            }
            Some((host, port)) => (host, Some(parse_port(input, port)?)),
            None => (text, None),
        };
        if host.is_empty() {
            return Err(PeerAddressError::NoHost(input.to_owned()));
        }
        if let Ok(ip) = host.parse::<Ipv4Addr>() {
            return Ok(Self { host: Host::Ip(ip.into()), port });
        }
        match host_name_problem(host) {
            Some(problem) => {
                Err(PeerAddressError::HostName { input: input.to_owned(), host: host.to_owned(), problem })
            }
            None => Ok(Self { host: Host::Name(host.to_owned()), port }),
        }
    }
}

fn parse_port(input: &str, port: &str) -> Result<u16, PeerAddressError> {
    // `u16::from_str` takes a leading plus sign, which no port has.
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(number) if digits && number > 0 => Ok(number),
        _ => Err(PeerAddressError::Port { input: input.to_owned(), port: port.to_owned() }),
    }
}

/// What keeps `name` from being a host or service name that DNS can carry; `None` if nothing does.
pub(super) fn host_name_problem(name: &str) -> Option<&'static str> {
    let relative = name.strip_suffix('.').unwrap_or(name);
    if relative.is_empty() {
        return Some("it is empty: write a host name");
    }
    if relative.len() > HOST_NAME_BYTES {
        return Some("it is longer than the 253 characters that DNS allows");
    }
    let mut last = "";
    for label in relative.split('.') {
        if label.is_empty() {
            return Some("it has an empty part between two dots");
        }
        if label.len() > LABEL_BYTES {
            return Some("a part between dots is longer than the 63 characters that DNS allows");
        }
        // Underscores are no part of a host name, but some clusters' names have them.
        if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            return Some(
                "a name has letters, digits, '-', '_' and dots (write an international name in its xn-- form)",
            );
        }
        last = label;
    }
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some("it looks like an IPv4 address but is not one: four numbers from 0 to 255");
    }
    None
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Host::Ip(IpAddr::V6(ip)), Some(port)) => write!(f, "[{ip}]:{port}"),
            (Host::Ip(ip), Some(port)) => write!(f, "{ip}:{port}"),
            (Host::Ip(ip), None) => write!(f, "{ip}"),
            (Host::Name(name), Some(port)) => write!(f, "{name}:{port}"),
            (Host::Name(name), None) => f.write_str(name),
        }
    }
}

impl TryFrom<String> for PeerAddress {
    type Error = PeerAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PeerAddress> for String {
    fn from(address: PeerAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    // Tests say what they expect by failing.
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_accepted_form_prints_back() {
        for (text, port) in [
            ("orders-0.orders:4371", Some(4371)),
            ("orders-0.orders.default.svc.cluster.local.", None),
            ("host", None),
            ("10.0.0.7", None),
            ("10.0.0.7:1", Some(1)),
            ("[fd00::7]:65535", Some(65535)),
            ("fd00::7", None),
            ("::1", None),
        ] {
            let address: PeerAddress = text.parse().unwrap();
            assert_eq!(address.port(), port, "{text}");
            assert_eq!(address.to_string(), text);
        }
        let bracketed: PeerAddress = " [::1] ".parse().unwrap();
        assert_eq!(bracketed.host(), &Host::Ip(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(bracketed.port(), None);
    }

    #[test]
    fn each_mistake_is_told_with_the_text() {
        for (text, expect) in [
            ("", "has no host"),
            (":4370", "has no host"),
            ("host:", "port is a number from 1 to 65535"),
            ("host:0", "port is a number from 1 to 65535"),
            ("host:65536", "port is a number from 1 to 65535"),
            ("host:+1", "port is a number from 1 to 65535"),
            ("[fd00::7", "not a valid [ipv6]:port"),
            ("[10.0.0.7]:1", "not a valid [ipv6]:port"),
            ("[fe80::1%eth0]:1", "not a valid [ipv6]:port"),
            ("[::1]4370", "not a valid [ipv6]:port"),
            ("fd00::zz:4370", "not a valid [ipv6]:port"),
            ("10.0.0.256:4370", "looks like an IPv4 address"),
            ("a..b:4370", "empty part"),
            ("with space:4370", "letters, digits"),
            (".", "it is empty"),
        ] {
            let error = text.parse::<PeerAddress>().unwrap_err().to_string();
            assert!(error.contains(expect), "{text:?} gave {error}");
            assert!(error.contains(&format!("{text:?}")), "{error} does not quote {text:?}");
        }
        assert!("a".repeat(64).parse::<PeerAddress>().is_err());
        assert!(["a"; 127].join(".").parse::<PeerAddress>().is_ok());
        assert!(["a"; 128].join(".").parse::<PeerAddress>().is_err());
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_parses_prints_back(text in ".{0,40}") {
            if let Ok(address) = text.parse::<PeerAddress>() {
                prop_assert_eq!(address.to_string().parse::<PeerAddress>(), Ok(address));
            }
        }
    }
}
