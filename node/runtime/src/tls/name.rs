//! The names that stand in a certificate's URI: of the cluster, and of a client. Both are validated
//! where they enter, so that a name can be put into a URI, a path or a log line as it is. They come
//! from the command line, the configuration and peers' certificates.

use std::fmt;

use super::limits::{CLIENT_NAME_MAX_BYTES, QUOTED_MAX_CHARS};

/// The name of a client: 1 to 253 of letters, digits, `-`, `.` and `_`, beginning with a letter or
/// digit. Case counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientName(String);

/// A name that is refused: what was given, and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a {kind} name: {accepted}")]
pub struct NameError {
    /// What was given, shortened.
    given: String,
    /// What it was to be.
    kind: &'static str,
    /// What is accepted.
    accepted: &'static str,
}

impl ClientName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for ClientName {
    type Error = NameError;

    fn try_from(name: &str) -> Result<Self, NameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if name.len() <= CLIENT_NAME_MAX_BYTES
            && name.bytes().all(allowed)
            && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        {
            return Ok(Self(name.to_owned()));
        }
        Err(NameError {
            given: shorten(name),
            kind: "client",
            accepted: "use 1 to 253 of the characters a-z, A-Z, 0-9, -, . and _, beginning with a letter or a digit",
        })
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ClientName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ClientName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::try_from(name)
    }
}

/// Text from outside, cut to what an error may repeat.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(QUOTED_MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_client_name_can_be_a_path_segment() {
        for good in ["alice", "ci.build_7", "A-1", &"x".repeat(253)] {
            assert_eq!(ClientName::try_from(good).unwrap().to_string(), good);
        }
        for bad in ["", ".", "..", ".hidden", "-x", "a/b", "a b", "a%2f", "é", &"x".repeat(254)] {
            assert!(ClientName::try_from(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_error_repeats_no_more_than_the_limit() {
        let error = ClientName::try_from("é".repeat(10_000).as_str()).unwrap_err().to_string();
        assert!(error.chars().count() < QUOTED_MAX_CHARS + 130, "{error}");
    }
}
