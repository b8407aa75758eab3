//! The context of a trace, as W3C has it (<https://www.w3.org/TR/trace-context/>): which trace a message belongs to, and which part of it
//! has sent it. It travels with a message whose trace is recorded, and with no other.

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
    str::FromStr,
};

/// What a context takes on the wire.
pub(crate) const CONTEXT_BYTES: usize = 16 + 8 + 1;

/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;

/// A trace: all that follows from one beginning, wherever it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(pub NonZeroU128);

/// One part of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(pub NonZeroU64);

/// Where in which trace something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The part of it that what is made next belongs to.
    pub span: SpanId,
    /// W3C's flags, passed on as they are; bit 0 says that the trace is recorded.
    pub flags: u8,
}

impl TraceContext {
    /// That of a trace which is recorded.
    #[must_use]
    pub fn sampled(trace: TraceId, span: SpanId) -> Self {
        Self { trace, span, flags: SAMPLED }
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same trace, and another part of it.
    #[must_use]
    pub fn within(&self, span: SpanId) -> Self {
        Self { span, ..*self }
    }

    pub(crate) fn to_wire(self) -> [u8; CONTEXT_BYTES] {
        let mut bytes = [0; CONTEXT_BYTES];
        let (trace, rest) = bytes.split_at_mut(16);
        trace.copy_from_slice(&self.trace.0.get().to_be_bytes());
        let (span, flags) = rest.split_at_mut(8);
        span.copy_from_slice(&self.span.0.get().to_be_bytes());
        flags.copy_from_slice(&[self.flags]);
        bytes
    }

    /// `None` if one of the ids is zero.
    pub(crate) fn from_wire(trace: [u8; 16], span: [u8; 8], flags: u8) -> Option<Self> {
        Some(Self {
            trace: TraceId(NonZeroU128::new(u128::from_be_bytes(trace))?),
            span: SpanId(NonZeroU64::new(u64::from_be_bytes(span))?),
            flags,
        })
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// As the header `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a traceparent: expected 00-<32 hex digits>-<16 hex digits>-<2 hex digits> in lower case, with neither id zero"
)]
pub struct ParseTraceError;

impl FromStr for TraceContext {
    type Err = ParseTraceError;

    /// Reads the header `traceparent`; of a later version what the first one has.
    fn from_str(text: &str) -> Result<Self, ParseTraceError> {
        let mut parts = text.trim().split('-');
        let mut part = |digits: usize| {
            let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            parts.next().filter(|part| part.len() == digits && part.bytes().all(lower)).ok_or(ParseTraceError)
        };
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        if version == "ff" || version == "00" && parts.next().is_some() {
            return Err(ParseTraceError);
        }
        let trace = u128::from_str_radix(trace, 16).ok().and_then(NonZeroU128::new).ok_or(ParseTraceError)?;
        let span = u64::from_str_radix(span, 16).ok().and_then(NonZeroU64::new).ok_or(ParseTraceError)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| ParseTraceError)?;
        Ok(Self { trace: TraceId(trace), span: SpanId(span), flags })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_reads_back_as_it_was_written() {
        let context: TraceContext = GOOD.parse().unwrap();
        assert_eq!(context.to_string(), GOOD);
        assert!(context.is_sampled());
        let later = format!("01{}-more", &GOOD[2..]);
        assert_eq!(later.parse::<TraceContext>().unwrap(), context, "a later version may say more");
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473+-00f067aa0ba902b7-01",
        ] {
            assert_eq!(bad.parse::<TraceContext>(), Err(ParseTraceError), "{bad}");
        }
    }
}
