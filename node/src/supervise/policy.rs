//! How a supervisor treats its children: plain data that the state machine decides by, that stands in child specs, and
//! that travels in messages. The words are those of OTP's supervisor.

use std::{fmt, sync::Arc, time::Duration};

use rookery_runtime::ExitReason;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use crate::supervise::limits::{DEFAULT_SHUTDOWN, MAX_CHILD_ID_BYTES};

/// Which children are restarted when one has to be (V1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// That one.
    #[default]
    OneForOne,
    /// All: the others are stopped in reverse order, then all are started in order.
    OneForAll,
    /// That one and those that were started after it.
    RestForOne,
    /// That one. The children are dynamic: each is started on request, from one template; all are stopped at once, and one
    /// that has ended for good leaves nothing behind.
    SimpleOneForOne,
}

impl Strategy {
    /// Whether children that are started later may rely on those before.
    #[must_use]
    pub fn is_ordered(self) -> bool {
        matches!(self, Self::OneForAll | Self::RestForOne)
    }
}

/// Whether a supervisor shuts down by itself when significant children have ended by themselves (V5), as in OTP 24 and
/// later. One that is stopped by the supervisor, or is started again, does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoShutdown {
    /// No; it takes no significant children then.
    #[default]
    Never,
    /// When one of them has.
    AnySignificant,
    /// When the last of them that was left has.
    AllSignificant,
}

/// What a child is, for who asks: OTP's `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildType {
    /// No supervisor.
    #[default]
    Worker,
    /// A supervisor, with children of its own.
    Supervisor,
}

impl ChildType {
    /// How such a child is ended unless told: a supervisor has all the time that its tree needs, as in OTP.
    #[must_use]
    pub fn default_shutdown(self) -> Shutdown {
        match self {
            Self::Worker => Shutdown::default(),
            Self::Supervisor => Shutdown::Forever,
        }
    }
}

/// When a child that has ended is started again (V2). A clean end is `Normal`, `Shutdown` or `ShutdownWith(_)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// When its end was not clean.
    Transient,
    /// Never; its spec goes with it.
    Temporary,
}

impl Restart {
    /// Whether a child that ended with `reason` is started again.
    #[must_use]
    pub fn applies_to(self, reason: &ExitReason) -> bool {
        match self {
            Self::Permanent => true,
            Self::Transient => !reason.is_clean(),
            Self::Temporary => false,
        }
    }
}

/// How a child is ended (V4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shutdown {
    /// By `Kill`, at once.
    Kill,
    /// By `Shutdown`, and by `Kill` when it has not ended after so many milliseconds.
    Within(#[serde(with = "milliseconds")] Duration),
    /// By `Shutdown`, and waits as long as it takes. For children that are supervisors.
    Forever,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::Within(DEFAULT_SHUTDOWN)
    }
}

/// How long to wait before a restart (V6): twice as long after each that follows another soon, within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub min: Duration,
    /// The longest wait. A child that has run for so long begins with the first wait again.
    pub max: Duration,
}

impl Backoff {
    /// The wait after `failures` restarts in a row.
    #[must_use]
    pub fn delay(&self, failures: u32) -> Duration {
        self.min.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(self.max)
    }
}

/// A child's name within its supervisor.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChildId(Arc<str>);

/// A text that is no child id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no child id: it takes 1 to {MAX_CHILD_ID_BYTES} bytes without control characters")]
pub struct BadChildId(String);

impl ChildId {
    /// Checks `text` and makes an id of it.
    ///
    /// # Errors
    /// It is empty, too long, or has control characters.
    pub fn new(text: impl AsRef<str>) -> Result<Self, BadChildId> {
        let text = text.as_ref();
        if text.is_empty() || text.len() > MAX_CHILD_ID_BYTES || text.chars().any(char::is_control) {
            return Err(BadChildId(text.chars().filter(|c| !c.is_control()).take(MAX_CHILD_ID_BYTES).collect()));
        }
        Ok(Self(Arc::from(text)))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ChildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for ChildId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ChildId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// A duration as a number of milliseconds, since people type it.
mod milliseconds {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v2_clean_is_normal_shutdown_and_shutdown_with() {
        let clean = [ExitReason::Normal, ExitReason::Shutdown, ExitReason::ShutdownWith("done".to_owned())];
        let unclean = [
            ExitReason::Kill,
            ExitReason::Killed,
            ExitReason::NoProc,
            ExitReason::NoConnection,
            ExitReason::Panic(String::new()),
            ExitReason::Error(String::new()),
            ExitReason::Refused(String::new()),
            ExitReason::Other(77, String::new()),
        ];
        for reason in clean.iter().chain(&unclean) {
            assert!(Restart::Permanent.applies_to(reason), "{reason}");
            assert!(!Restart::Temporary.applies_to(reason), "{reason}");
            assert_eq!(Restart::Transient.applies_to(reason), unclean.contains(reason), "{reason}");
        }
    }

    #[test]
    fn v6_backoff_doubles_up_to_its_bound() {
        let backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(1) };
        let delays = [0, 1, 2, 3, 4, 40].map(|failures| backoff.delay(failures).as_millis());
        assert_eq!(delays, [100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn child_ids_are_checked() {
        assert!(ChildId::new("orders/4711").is_ok());
        for text in [String::new(), "a\nb".to_owned(), "x".repeat(MAX_CHILD_ID_BYTES + 1)] {
            assert!(ChildId::new(text).is_err());
        }
    }
}
