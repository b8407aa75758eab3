//! Where traces go, and which calls begin one.

use std::{fmt, str::FromStr};

/// OpenTelemetry's port for HTTP.
const DEFAULT_PORT: u16 = 4318;

/// Where a collector takes traces, by its specification.
const TRACES_PATH: &str = "/v1/traces";

/// How traces are recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceConfig {
    /// The collector.
    pub endpoint: Endpoint,
    /// The part of all calls which belong to no trace that begin one, 0 to 1. With 0 only what has begun elsewhere, or by
    /// [`Runtime::traced`](crate::Runtime::traced), is recorded.
    pub ratio: f64,
    /// `service.name`: what all instances of the program have in common.
    pub service: String,
    /// `service.instance.id`: which of them this is.
    pub instance: String,
}

/// A collector's address, as `http://127.0.0.1:4318`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address, without the brackets of IPv6.
    pub(super) host: String,
    pub(super) port: u16,
    /// With the part that is traces' own.
    pub(super) path: String,
}

/// A text that is no [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseEndpointError {
    /// TLS towards the collector is not spoken.
    #[error(
        "https is not spoken to a collector: use http to one on this machine or in this pod, which goes on by https"
    )]
    Https,
    /// It is something else.
    #[error("expected http://HOST:PORT, as http://127.0.0.1:4318")]
    NoEndpoint,
}

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, ParseEndpointError> {
        if text.starts_with("https://") {
            return Err(ParseEndpointError::Https);
        }
        let rest = text.strip_prefix("http://").ok_or(ParseEndpointError::NoEndpoint)?;
        let printable = rest.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'@'));
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| ParseEndpointError::NoEndpoint)?)
            }
            _ => (authority, DEFAULT_PORT),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        if host.is_empty() || port == 0 || !printable || bare.is_none() && host.contains([':', '[', ']']) {
            return Err(ParseEndpointError::NoEndpoint);
        }
        let base = path.trim_end_matches('/');
        let path = if base.ends_with(TRACES_PATH) { base.to_owned() } else { format!("{base}{TRACES_PATH}") };
        Ok(Self { host: host.to_owned(), port, path })
    }
}

impl Endpoint {
    /// As the header `Host` has it.
    pub(super) fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use super::*;

    #[test]
    fn endpoints_are_read_with_what_is_left_out() {
        for (text, whole) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://collector", "http://collector:4318/v1/traces"),
            ("http://collector:80/", "http://collector:80/v1/traces"),
            ("http://collector/otlp", "http://collector:4318/otlp/v1/traces"),
            ("http://collector:1/v1/traces", "http://collector:1/v1/traces"),
            ("http://[::1]:9", "http://[::1]:9/v1/traces"),
            ("http://[::1]", "http://[::1]:4318/v1/traces"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), whole);
        }
        assert_eq!("https://collector".parse::<Endpoint>(), Err(ParseEndpointError::Https));
        for text in
            ["", "collector:4318", "http://", "http://:1", "http://a:b", "http://a:0", "http://a b", "http://::1"]
        {
            assert_eq!(text.parse::<Endpoint>(), Err(ParseEndpointError::NoEndpoint), "{text}");
        }
    }
}
