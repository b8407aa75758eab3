//! Identities: plain data that can be copied, compared, hashed, printed and parsed back, in every SDK (P1, P2).
//!
//! A node is a name and an incarnation; a process is a node and a serial. An address is never an identity. Names are
//! checked when they are made, so whatever holds one need not check again. Cloning an id never allocates.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    error::ParseIdError,
    limits::{MAX_CLUSTER_NAME_BYTES, MAX_NAME_BYTES, MAX_NODE_NAME_BYTES},
};

/// Declares a checked, cheaply cloned text id.
macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident, $what:literal, $max:expr, $accepts:literal, $valid:expr) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and makes an id of it.
            ///
            /// # Errors
            /// Says what is accepted when `text` is empty, too long, or has a character that is not allowed.
            pub fn new(text: impl AsRef<str>) -> Result<Self, ParseIdError> {
                let text = text.as_ref();
                let valid: fn(u8) -> bool = $valid;
                if text.is_empty() || text.len() > $max || !text.bytes().all(valid) {
                    return Err(ParseIdError::new($what, text, $accepts));
                }
                Ok(Self(Arc::from(text)))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = ParseIdError;
            fn try_from(text: &str) -> Result<Self, ParseIdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdError;
            fn try_from(text: String) -> Result<Self, ParseIdError> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(text).map_err(de::Error::custom)
            }
        }
    };
}

text_id!(
    /// The name of a node: its DNS host name by default, as `orders-0`.
    NodeName,
    "node name",
    MAX_NODE_NAME_BYTES,
    "letters, digits, `-`, `_` and `.`, 1 to 253 of them",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')
);
text_id!(
    /// The name of a cluster. It stands in every certificate, so that nodes of two clusters can never mix.
    ClusterName,
    "cluster name",
    MAX_CLUSTER_NAME_BYTES,
    "lower-case letters, digits and `-`, 1 to 63 of them",
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'
);
text_id!(
    /// A name under which a process is registered.
    ProcessName,
    "process name",
    MAX_NAME_BYTES,
    "letters, digits and `-_.:/`, 1 to 255 of them",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/')
);
text_id!(
    /// The name under which a node knows how to start a behaviour.
    BehaviourName,
    "behaviour name",
    MAX_NAME_BYTES,
    "letters, digits and `-_.:/`, 1 to 255 of them",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/')
);

/// Which life of a node this is. It grows with each start, so that a process of an earlier life is never mistaken for
/// one of a later (P1). Printed in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// One life of one node. Printed as `orders-0.1f3a`.
#[derive(Clone)]
pub struct NodeId(Arc<NodeIdParts>);

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct NodeIdParts {
    name: NodeName,
    incarnation: Incarnation,
}

impl NodeId {
    /// Joins a name and an incarnation.
    #[must_use]
    pub fn new(name: NodeName, incarnation: Incarnation) -> Self {
        Self(Arc::new(NodeIdParts { name, incarnation }))
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.0.name
    }

    /// The node's incarnation.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.0.incarnation
    }
}

impl PartialEq for NodeId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || *self.0 == *other.0
    }
}

impl Eq for NodeId {}

impl std::hash::Hash for NodeId {
    // The incarnation tells lives apart almost always; equality does the rest.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.incarnation.0);
    }
}

impl PartialOrd for NodeId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for NodeId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.name, self.0.incarnation)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for NodeId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let bad = || ParseIdError::new("node id", text, "the form is `name.incarnation`, as `orders-0.1f3a`");
        let (name, incarnation) = text.rsplit_once('.').ok_or_else(bad)?;
        let incarnation = parse_hex(incarnation).ok_or_else(bad)?;
        Ok(Self::new(NodeName::new(name)?, Incarnation(incarnation)))
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (self.name(), self.incarnation()).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            let (name, incarnation) = <(NodeName, Incarnation)>::deserialize(deserializer)?;
            Ok(Self::new(name, incarnation))
        }
    }
}

/// The number of a client's session on the node that it is connected to. Never reused within an incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId(u32);

impl SessionId {
    /// The highest session number: a serial has 31 bits for it.
    pub const MAX: u32 = (1 << 31) - 1;

    /// A session's number, or `None` beyond [`SessionId::MAX`].
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        (number <= Self::MAX).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

/// The number of a process within one incarnation of its node; never used twice within it.
///
/// ```text
/// a process of the node:   0 │ generation (31) │ slot (32)
/// a process of a client:   1 │ session (31)    │ number in the session (32)
/// ```
/// Serial 0 is the node itself, and number 0 of a session is the client itself: what asks without being a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Serial(pub u64);

impl Serial {
    /// The node itself.
    pub const NODE: Self = Self(0);

    const CLIENT_BIT: u64 = 1 << 63;

    /// The serial of a client's process.
    #[must_use]
    pub fn of_client(session: SessionId, number: u32) -> Self {
        Self(Self::CLIENT_BIT | (u64::from(session.0) << 32) | u64::from(number))
    }

    /// The session that this process lives in, if it is a client's.
    #[must_use]
    pub fn session(self) -> Option<SessionId> {
        // The shift leaves 31 bits, so the cast loses nothing.
        #[allow(clippy::cast_possible_truncation)]
        (self.0 & Self::CLIENT_BIT != 0).then_some(SessionId(((self.0 & !Self::CLIENT_BIT) >> 32) as u32))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A process: unique in the cluster for ever (P1). Printed as `<orders-0.1f3a.42>` and parsed back (P2).
///
/// A pid is plain data. It says nothing about whether the process lives; sending to a dead one is no error (S3).
///
/// ```
/// use rookery_protocol::Pid;
/// let pid: Pid = "<orders-0.1f3a.42>".parse()?;
/// assert_eq!(pid.node().name().as_str(), "orders-0");
/// assert_eq!(pid.to_string(), "<orders-0.1f3a.42>");
/// # Ok::<(), rookery_protocol::ParseIdError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pid {
    node: NodeId,
    serial: Serial,
}

impl Pid {
    /// The process `serial` of `node`.
    #[must_use]
    pub fn new(node: NodeId, serial: Serial) -> Self {
        Self { node, serial }
    }

    /// The node that the process lives on; for a client's process, the node that its client is connected to.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The node, or the client, that the process belongs to, as what asks without being a process.
    #[must_use]
    pub fn owner(&self) -> Self {
        let serial = self.serial.session().map_or(Serial::NODE, |session| Serial::of_client(session, 0));
        Self { node: self.node.clone(), serial }
    }

    /// The process's number on its node.
    #[must_use]
    pub fn serial(&self) -> Serial {
        self.serial
    }
}

impl std::hash::Hash for Pid {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.node.0.incarnation.0 ^ self.serial.0.rotate_left(32));
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.width().is_some() {
            return f.pad(&format!("<{}.{}>", self.node, self.serial));
        }
        write!(f, "<{}.{}>", self.node, self.serial)
    }
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Pid {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let bad = || ParseIdError::new("pid", text, "the form is `<node.incarnation.serial>`, as `<orders-0.1f3a.42>`");
        let inner = text.strip_prefix('<').and_then(|t| t.strip_suffix('>')).ok_or_else(bad)?;
        let (node, serial) = inner.rsplit_once('.').ok_or_else(bad)?;
        let serial = parse_decimal(serial).ok_or_else(bad)?;
        Ok(Self { node: node.parse().map_err(|_| bad())?, serial: Serial(serial) })
    }
}

impl Serialize for Pid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (self.node.name(), self.node.incarnation(), self.serial).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Pid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            let (name, incarnation, serial) = <(NodeName, Incarnation, Serial)>::deserialize(deserializer)?;
            Ok(Self::new(NodeId::new(name, incarnation), serial))
        }
    }
}

/// One form a number: no sign, no leading zero, lower case. So a printed id is also a canonical one.
fn parse_hex(text: &str) -> Option<u64> {
    let canonical = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (canonical && (text == "0" || !text.starts_with('0'))).then(|| u64::from_str_radix(text, 16).ok())?
}

fn parse_decimal(text: &str) -> Option<u64> {
    let canonical = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (canonical && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok())?
}

/// Declares a numeric id.
macro_rules! number_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number_id!(
    /// A reference to a monitor; unique within the incarnation of the node, or the session of the client, that made it.
    Ref
);
number_id!(
    /// One request that waits for its reply; unique within the node's incarnation or the client's session.
    CallId
);
number_id!(
    /// One `unlink` that waits for its acknowledgement (L4).
    UnlinkId
);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use super::*;

    #[test]
    fn p2_pid_prints_and_parses_back() {
        for text in ["<orders-0.1f3a.42>", "<a.b.c.0.0>", "<node_1.ffffffffffffffff.18446744073709551615>"] {
            assert_eq!(text.parse::<Pid>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn malformed_pids_are_refused_with_the_form() {
        for text in ["", "<>", "<a.1>", "a.1.1", "<a.1.1", "<a.01.1>", "<a.1.+1>", "<a.1F.1>", "<.1.1>", "<ä.1.1>"] {
            let error = text.parse::<Pid>().unwrap_err().to_string();
            assert!(error.contains("<orders-0.1f3a.42>"), "{error}");
        }
    }

    #[test]
    fn client_serials_carry_their_session() {
        let session = SessionId::new(SessionId::MAX).unwrap();
        assert_eq!(Serial::of_client(session, 7).session(), Some(session));
        assert_eq!(Serial(7).session(), None);
        assert_eq!(SessionId::new(SessionId::MAX + 1), None);
    }
}
