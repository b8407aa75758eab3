//! Bulk streams: a body above a size travels on a stream of its own, so that it delays nobody else's signals (S4).
//!
//! ```text
//! lane          … │ MessageTicket: head, ticket, length │ … signals of other pairs go on
//! bulk stream   BulkOpen: ticket │ body ────────────────────────────▶ end of the stream
//! ```
//! Ticket and body arrive in any order. [`Reassembly`](super::Reassembly) puts them together.

use bytes::Bytes;

use crate::{
    decoder::FrameDecoder,
    error::WireError,
    frame::{self, FrameKind},
    lane::fields::Fields,
};

/// What ties a body to its signal. Each is used once on a connection, by the end that sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TicketNumber(pub u64);

/// What stands in a frame instead of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The stream that the body comes on.
    pub number: TicketNumber,
    /// The body's length.
    pub body_bytes: usize,
}

impl Ticket {
    pub(super) fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.0.to_le_bytes());
        // Bodies are bounded by a limit that a compile-time assertion keeps below 2^32.
        #[allow(clippy::cast_possible_truncation)]
        out.extend_from_slice(&(self.body_bytes as u32).to_le_bytes());
    }
}

/// The beginning of a stream, as it arrives: a lane, or a bulk stream with a ticket.
#[derive(Debug)]
pub struct BulkOpening {
    frames: FrameDecoder,
}

/// `BulkOpen`'s body.
const TICKET_BYTES: usize = 8;

impl Default for BulkOpening {
    fn default() -> Self {
        Self { frames: FrameDecoder::new(TICKET_BYTES) }
    }
}

impl BulkOpening {
    /// Whether a stream that begins with these bytes is a bulk stream; `None` until enough of them have arrived.
    #[must_use]
    pub fn announces(first: &[u8]) -> Option<bool> {
        first.get(4).map(|&kind| kind == FrameKind::BulkOpen as u8)
    }

    /// The first bytes of the stream of `ticket`.
    pub fn encode(ticket: TicketNumber, out: &mut Vec<u8>) {
        let start = frame::begin(out, FrameKind::BulkOpen, 0);
        out.extend_from_slice(&ticket.0.to_le_bytes());
        frame::finish(out, start, 0);
    }

    /// Takes the stream's next bytes. Gives the ticket, and the first bytes of the body, once the ticket has arrived.
    ///
    /// # Errors
    /// It begins otherwise.
    pub fn push(&mut self, chunk: Bytes) -> Result<Option<(TicketNumber, Bytes)>, WireError> {
        self.frames.push(chunk);
        let Some(frame) = self.frames.next_frame()? else { return Ok(None) };
        if frame.kind != FrameKind::BulkOpen {
            let detail = "a bulk stream begins with BulkOpen";
            return Err(WireError::Unexpected { kind: frame.kind.name(), detail });
        }
        let mut fields = Fields::new(frame);
        let ticket = TicketNumber(fields.u64("ticket")?);
        fields.end()?;
        Ok(Some((ticket, self.frames.take_rest())))
    }
}
