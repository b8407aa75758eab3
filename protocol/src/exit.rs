//! Why a process ended. Reasons cross nodes and SDKs unchanged, cut at [`MAX_EXIT_TEXT_BYTES`] (X4).
//!
//! The first seven are Erlang's (reference manual, "Processes", section "Errors"); `Panic` and `Error` tell what Rust
//! code did. A reason that a newer version invents arrives as `Other`, and is passed on as it came. Within bincode and
//! MessagePack a reason is the pair of number and text that stands in frames too; in JSON it is readable.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{limits::MAX_EXIT_TEXT_BYTES, text};

/// Why a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(remote = "Self")] // Makes functions for the readable form, which the implementations below use.
pub enum ExitReason {
    /// It did what it was there for. Links do not pass this on to a process that does not trap exits.
    Normal,
    /// It was asked to stop, by its supervisor for example.
    Shutdown,
    /// It stopped in an orderly way, and says why.
    ShutdownWith(String),
    /// Ends a process even if it traps exits, when sent by `exit`.
    Kill,
    /// It was ended by `Kill`: what its links and monitors see.
    Killed,
    /// There was no such process.
    NoProc,
    /// The connection to its node, or to its client, was lost. The process may still live.
    NoConnection,
    /// It panicked with this text.
    Panic(String),
    /// It gave up with this error.
    Error(String),
    /// What was asked is not allowed (C3).
    Refused(String),
    /// It lost its cluster name to another holder: the text names both (N2).
    NameConflict(String),
    /// A reason of a newer version: its number and text.
    Other(u8, String),
}

impl ExitReason {
    /// Whether a supervisor takes this for a clean end: `Normal`, `Shutdown`, `ShutdownWith(_)` (V2).
    #[must_use]
    pub fn is_clean(&self) -> bool {
        matches!(self, Self::Normal | Self::Shutdown | Self::ShutdownWith(_))
    }

    /// The reason with its text cut at [`MAX_EXIT_TEXT_BYTES`], at a character's border, with `…` as the last one.
    #[must_use]
    pub fn cut(mut self) -> Self {
        let text = match &mut self {
            Self::ShutdownWith(text) | Self::Panic(text) | Self::Error(text) => text,
            Self::Refused(text) | Self::NameConflict(text) => text,
            Self::Other(_, text) => text,
            _ => return self,
        };
        if text.len() > MAX_EXIT_TEXT_BYTES {
            *text = format!("{}…", text::cut(text, MAX_EXIT_TEXT_BYTES - '…'.len_utf8()));
        }
        self
    }

    /// As [`ExitReason::cut`], without a copy of what is short enough.
    pub(crate) fn as_cut(&self) -> Cow<'_, Self> {
        if self.to_wire().1.len() > MAX_EXIT_TEXT_BYTES { Cow::Owned(self.clone().cut()) } else { Cow::Borrowed(self) }
    }

    /// The number on the wire, and the text. A retired number is never used again.
    pub(crate) fn to_wire(&self) -> (u8, &str) {
        match self {
            Self::Normal => (0, ""),
            Self::Shutdown => (1, ""),
            Self::ShutdownWith(text) => (2, text),
            Self::Kill => (3, ""),
            Self::Killed => (4, ""),
            Self::NoProc => (5, ""),
            Self::NoConnection => (6, ""),
            Self::Panic(text) => (7, text),
            Self::Error(text) => (8, text),
            Self::Refused(text) => (9, text),
            Self::NameConflict(text) => (10, text),
            Self::Other(number, text) => (*number, text),
        }
    }

    /// The reason of that number, its text cut. `Other` with a number of a known reason becomes that reason.
    pub(crate) fn from_wire(number: u8, text: &str) -> Self {
        // A little more than the limit, so that `cut` still sees that it is too long.
        let text = text::cut(text, MAX_EXIT_TEXT_BYTES + '…'.len_utf8()).to_owned();
        let reason = match number {
            0 => Self::Normal,
            1 => Self::Shutdown,
            2 => Self::ShutdownWith(text),
            3 => Self::Kill,
            4 => Self::Killed,
            5 => Self::NoProc,
            6 => Self::NoConnection,
            7 => Self::Panic(text),
            8 => Self::Error(text),
            9 => Self::Refused(text),
            10 => Self::NameConflict(text),
            number => Self::Other(number, text),
        };
        reason.cut()
    }
}

impl Serialize for ExitReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reason = self.as_cut();
        if serializer.is_human_readable() {
            Self::serialize(&reason, serializer)
        } else {
            reason.to_wire().serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for ExitReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Ok(Self::deserialize(deserializer)?.cut())
        } else {
            let (number, text) = <(u8, String)>::deserialize(deserializer)?;
            Ok(Self::from_wire(number, &text))
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("normal"),
            Self::Shutdown => f.write_str("shutdown"),
            Self::ShutdownWith(text) => write!(f, "shutdown: {text}"),
            Self::Kill => f.write_str("kill"),
            Self::Killed => f.write_str("killed"),
            Self::NoProc => f.write_str("no such process"),
            Self::NoConnection => f.write_str("no connection"),
            Self::Panic(text) => write!(f, "panic: {text}"),
            Self::Error(text) => write!(f, "error: {text}"),
            Self::Refused(text) => write!(f, "refused: {text}"),
            Self::NameConflict(text) => write!(f, "name conflict: {text}"),
            Self::Other(number, text) => write!(f, "reason {number}: {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let reason = ExitReason::Panic("ä".repeat(MAX_EXIT_TEXT_BYTES)).cut();
        let ExitReason::Panic(text) = &reason else { unreachable!() };
        assert!(text.len() <= MAX_EXIT_TEXT_BYTES && text.ends_with('…'));
        assert_eq!(reason.clone().cut(), reason);
    }
}
