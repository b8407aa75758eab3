//! What can be wrong with bytes from the other end. Every variant tells what was read and what was allowed, so that
//! the log line of a closed connection explains itself. None of these is ever a panic.

use thiserror::Error;

/// Bytes that break the protocol. The connection they came on is closed with this text as its reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WireError {
    /// A frame announced a body that is larger than allowed on this stream.
    #[error("a frame of kind {kind} announces {length} bytes; at most {limit} are accepted here")]
    FrameTooLarge {
        /// The number of the frame's kind.
        kind: u8,
        /// The announced length in bytes.
        length: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// A frame of a kind that this version does not know, and that may not be skipped.
    #[error("a frame of unknown kind {kind} that is not marked as skippable: the peer is newer, or no Rookery")]
    UnknownFrame {
        /// The number of the frame's kind.
        kind: u8,
    },
    /// A known frame in a place where it has no business.
    #[error("a {kind} frame does not belong on the {stream} stream")]
    Misplaced {
        /// Which frame it was.
        kind: &'static str,
        /// Which stream it came on.
        stream: &'static str,
    },
    /// A frame's body ended before its last field.
    #[error("a {kind} frame ends in the middle of its {field}")]
    Truncated {
        /// Which frame it was.
        kind: &'static str,
        /// The field that was cut.
        field: &'static str,
    },
    /// A frame's body has bytes after its last field.
    #[error("a {kind} frame has {extra} bytes after its end")]
    Trailing {
        /// Which frame it was.
        kind: &'static str,
        /// How many bytes are left.
        extra: usize,
    },
    /// A field has a value that it cannot have.
    #[error("the {field} of a {kind} frame is not valid: {detail}")]
    Invalid {
        /// Which frame it was.
        kind: &'static str,
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// A frame names a node by a number that was not defined before.
    #[error("a frame names node number {index}, which was not defined on this lane")]
    UnknownNode {
        /// The number.
        index: u16,
    },
    /// The table of node names of one lane is full.
    #[error("a lane has named {limit} nodes: the connection has to be made anew")]
    TooManyNodes {
        /// The limit.
        limit: usize,
    },
    /// A control body could not be decoded.
    #[error("the body of a {kind} frame cannot be decoded: {detail}")]
    Body {
        /// Which frame it was.
        kind: &'static str,
        /// What the codec says.
        detail: String,
    },
    /// A stream ended within a frame.
    #[error("the stream ended within a frame: {have} of {want} bytes")]
    EndedWithinFrame {
        /// Bytes that had arrived.
        have: usize,
        /// Bytes that were needed.
        want: usize,
    },
    /// A frame that is well formed but wrong in the present state.
    #[error("a {kind} frame is not expected here: {detail}")]
    Unexpected {
        /// Which frame it was.
        kind: &'static str,
        /// The state and what it expects.
        detail: &'static str,
    },
}

/// How much of an offending text an error shows: a line of a terminal.
const MAX_SHOWN_CHARS: usize = 80;

/// A text that is no valid id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is no valid {what}: {detail}")]
pub struct ParseIdError {
    /// What was wanted: "pid", "node name", …
    pub what: &'static str,
    /// The offending text for display: cut, and control characters replaced.
    pub text: String,
    /// What is accepted.
    pub detail: &'static str,
}

impl ParseIdError {
    pub(crate) fn new(what: &'static str, text: &str, detail: &'static str) -> Self {
        // The text may come from a peer, and goes to logs and terminals: no escape sequences, no second line.
        let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        let more = text.chars().nth(MAX_SHOWN_CHARS).map(|_| '…');
        let text = text.chars().take(MAX_SHOWN_CHARS).map(shown).chain(more).collect();
        Self { what, text, detail }
    }
}
