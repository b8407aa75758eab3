//! How handshakes ended, counted for the metrics. They are rare, beside what each of them costs: a lock does no harm.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use rookery_runtime::net::control::ConnectionError;

/// TLS alerts come as QUIC's errors of this range (RFC 9001, section 4.8).
const TLS_ERRORS: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;

/// Who a handshake was made with, and which end began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum With {
    /// A node that was dialled.
    DialledNode,
    /// A node that dialled.
    Node,
    /// A client.
    Client,
}

impl With {
    pub(crate) const ALL: [Self; 3] = [Self::DialledNode, Self::Node, Self::Client];

    /// As labels: role of the other end, and direction.
    pub(crate) fn labels(self) -> [&'static str; 2] {
        match self {
            Self::DialledNode => ["node", "dialled"],
            Self::Node => ["node", "accepted"],
            Self::Client => ["client", "accepted"],
        }
    }
}

/// How a handshake that came to nothing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failed {
    /// One end refused the other: why, and who did.
    Refused(&'static str, &'static str),
    /// It did not come so far.
    Broke(&'static str),
}

impl Failed {
    /// Strangers beyond the number of handshakes that may be under way.
    pub(super) const TOO_MANY: Self = Self::Refused("too_many", "us");

    pub(super) fn of(error: &ConnectionError) -> Self {
        use quinn::ConnectionError as Quic;
        match error {
            ConnectionError::RefusedByUs(refusal) => Self::Refused(refusal.code.name(), "us"),
            ConnectionError::RefusedByPeer(refusal) => Self::Refused(refusal.code.name(), "peer"),
            ConnectionError::Identity(_) => Self::Refused("certificate", "us"),
            ConnectionError::Quic(Quic::TransportError(error)) if TLS_ERRORS.contains(&error.code.into()) => {
                Self::Refused("tls", "us")
            }
            ConnectionError::Quic(Quic::ConnectionClosed(close)) if TLS_ERRORS.contains(&close.error_code.into()) => {
                Self::Refused("tls", "peer")
            }
            ConnectionError::Quic(Quic::ConnectionClosed(close))
                if close.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED =>
            {
                Self::Refused("busy", "peer")
            }
            ConnectionError::NoAnswer(_) | ConnectionError::Quic(Quic::TimedOut) => Self::Broke("no_answer"),
            ConnectionError::HandshakeTimeout(_) => Self::Broke("timeout"),
            ConnectionError::Socket(_) | ConnectionError::Dial(_) => Self::Broke("socket"),
            ConnectionError::Wire(_) => Self::Broke("protocol"),
            _ => Self::Broke("closed"),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Handshakes {
    counts: Mutex<Counts>,
}

/// What was counted so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// Those that came to a connection.
    pub(crate) done: BTreeMap<With, u64>,
    /// Those that did not.
    pub(crate) failed: BTreeMap<Failed, u64>,
}

impl Handshakes {
    pub(super) fn count_done(&self, with: With) {
        *self.locked().done.entry(with).or_default() += 1;
    }

    pub(super) fn count_failed(&self, how: Failed) {
        *self.locked().failed.entry(how).or_default() += 1;
    }

    pub(crate) fn so_far(&self) -> Counts {
        self.locked().clone()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
