//! Messages of one process to another that follow each other on a lane: in one frame, addressed once. Most of what a process
//! sends in its turn is for one other, and its small messages cost less than their addresses.
//!
//! ```text
//! type u16 │ to serial u64 │ from serial u64 │ { length (1 or 2 bytes) │ payload } …
//! ```
//! A length below 128 is one byte; otherwise the low seven bits come first, with the high bit set, and then the next seven.

use bytes::Bytes;

use crate::{
    error::WireError,
    frame::{FLAG_SKIPPABLE, Frame, FrameKind},
    id::Serial,
    lane::{
        fields::Fields,
        plain::{BRIEF_PAYLOAD, BRIEF_TO_SERIAL, PlainMessage},
        types::Types,
    },
    limits::{FRAME_HEADER_BYTES, MAX_IN_RUN_BYTES, MAX_RUN_BYTES, MAX_RUN_MESSAGES},
    payload::{Codec, Tag},
};

/// A length that is one byte.
const ONE_BYTE: usize = 0x80;

/// The most that a length can say.
const MOST: usize = ONE_BYTE * ONE_BYTE - 1;

/// The sending end's last frame, if it is a run: the next message goes there if it belongs there.
#[derive(Debug)]
pub(super) struct OpenRun {
    /// Where the frame begins in the batch, and where it ends.
    start: usize,
    end: usize,
    number: u16,
    to: Serial,
    from: Serial,
    messages: usize,
}

impl OpenRun {
    /// Appends what stands before a payload of `body_bytes` to the run, or to a new one. A batch that has changed since is
    /// another one. `largest`: what the peer takes of a frame.
    pub(super) fn head(
        open: &mut Option<Self>,
        (number, to, from): (u16, Serial, Serial),
        body_bytes: usize,
        largest: usize,
        out: &mut Vec<u8>,
    ) {
        let before = out.len();
        let belongs = |run: &&mut Self| {
            (run.number, run.to, run.from, run.end) == (number, to, from, before)
                && run.messages < MAX_RUN_MESSAGES
                && before - run.start - FRAME_HEADER_BYTES + 2 + body_bytes <= largest.min(MAX_RUN_BYTES)
        };
        let (start, messages) = match open.as_mut().filter(belongs) {
            Some(run) => (run.start, run.messages + 1),
            None => {
                // Its length is written below.
                out.extend_from_slice(&frame_head(number, to, from, BRIEF_PAYLOAD));
                (before, 1)
            }
        };
        put_length(body_bytes, out);
        let end = out.len() + body_bytes;
        // As in `frame::finish`.
        #[allow(clippy::cast_possible_truncation)]
        out[start..start + 4].copy_from_slice(&((end - start - FRAME_HEADER_BYTES) as u32).to_le_bytes());
        *open = Some(Self { start, end, number, to, from, messages });
    }
}

/// Messages of one process to another, of one type, that are to go together: what stands in a run behind its addresses.
#[derive(Debug, Default)]
pub struct RunBuffer {
    bytes: Vec<u8>,
    messages: usize,
}

impl RunBuffer {
    /// Whether a payload of that size goes into a run at all.
    #[must_use]
    pub fn takes(body_bytes: usize) -> bool {
        body_bytes <= MAX_IN_RUN_BYTES
    }

    /// Whether there is room for one more payload of that size.
    #[must_use]
    pub fn has_room(&self, body_bytes: usize) -> bool {
        self.messages < MAX_RUN_MESSAGES && BRIEF_PAYLOAD + self.bytes.len() + 2 + body_bytes <= MAX_RUN_BYTES
    }

    /// Adds a payload, for which there is room.
    pub fn push(&mut self, body: &[u8]) {
        put_length(body.len(), &mut self.bytes);
        self.bytes.extend_from_slice(body);
        self.messages += 1;
    }

    /// How many messages there are.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Empties it. It keeps its memory, which is no more than a run's.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.messages = 0;
    }

    /// Appends all of it as one frame, if the peer takes one so large.
    pub(super) fn frame(&self, (number, to, from): (u16, Serial, Serial), largest: usize, out: &mut Vec<u8>) -> bool {
        let length = BRIEF_PAYLOAD + self.bytes.len();
        if length > largest {
            return false;
        }
        out.extend_from_slice(&frame_head(number, to, from, length));
        out.extend_from_slice(&self.bytes);
        true
    }

    /// The payloads, one after the other.
    pub(super) fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.bytes;
        std::iter::from_fn(move || {
            let (length, bytes) = length_at(rest)?;
            let body = rest.get(bytes..bytes + length)?;
            rest = rest.get(bytes + length..)?;
            Some(body)
        })
    }
}

/// What stands before the messages of a run whose body has so many bytes with that.
fn frame_head(number: u16, to: Serial, from: Serial, length: usize) -> [u8; FRAME_HEADER_BYTES + BRIEF_PAYLOAD] {
    let mut bytes = [0; FRAME_HEADER_BYTES + BRIEF_PAYLOAD];
    let (header, body) = bytes.split_at_mut(FRAME_HEADER_BYTES);
    // As in `frame::finish`.
    #[allow(clippy::cast_possible_truncation)]
    header[..4].copy_from_slice(&(length as u32).to_le_bytes());
    header[4] = FrameKind::Run as u8;
    body[..2].copy_from_slice(&number.to_le_bytes());
    body[2..10].copy_from_slice(&to.0.to_le_bytes());
    body[10..].copy_from_slice(&from.0.to_le_bytes());
    bytes
}

fn put_length(length: usize, out: &mut Vec<u8>) {
    debug_assert!(length <= MAX_IN_RUN_BYTES, "{length} is no length within a run");
    // Both are below 2^8.
    #[allow(clippy::cast_possible_truncation)]
    if length < ONE_BYTE {
        out.push(length as u8);
    } else {
        out.extend_from_slice(&[(length % ONE_BYTE + ONE_BYTE) as u8, (length / ONE_BYTE) as u8]);
    }
}

/// The length at the beginning of `bytes`, and how many bytes it takes.
#[inline]
fn length_at(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes {
        [low, ..] if usize::from(low) < ONE_BYTE => Some((usize::from(low), 1)),
        [low, high, ..] if usize::from(high) < ONE_BYTE => {
            Some((usize::from(low) - ONE_BYTE + usize::from(high) * ONE_BYTE, 2))
        }
        _ => None,
    }
}

/// Messages of one process of the peer to one of this end, in order, looked at where they lie. Each is what a
/// [`PlainMessage`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The frame's body. What is left of it begins with `next`, and has been looked at.
    body: Bytes,
    next: usize,
    codec: Codec,
    tag: Tag,
}

impl Run {
    /// Takes a frame; each message in it is looked at for its length.
    pub(super) fn of(frame: Frame, types: &Types, max_bytes: usize) -> Result<Self, WireError> {
        let (flags, body) = (frame.flags & !FLAG_SKIPPABLE, frame.body.clone());
        let mut fields = Fields::new(frame);
        if flags != 0 {
            return Err(fields.invalid("flags", format!("bits {flags:#04x} mean nothing to this version")));
        }
        if body.len() > MAX_RUN_BYTES {
            return Err(fields.invalid("body", format!("of {} bytes; there are at most {MAX_RUN_BYTES}", body.len())));
        }
        let number = fields.u16("type")?;
        fields.u64("to serial")?;
        fields.u64("from serial")?;
        let Some((codec, tag)) = types.get(number) else {
            return Err(fields.invalid("type", format!("{number} was not defined on this lane")));
        };
        let (mut at, mut messages) = (BRIEF_PAYLOAD, 0);
        loop {
            messages += 1;
            if messages > MAX_RUN_MESSAGES {
                return Err(fields.invalid("body", format!("of more than {MAX_RUN_MESSAGES} messages")));
            }
            // The first has to be there.
            let (length, bytes) = length_at(&body[at..]).ok_or_else(|| fields.truncated("length"))?;
            if length > max_bytes.min(MAX_IN_RUN_BYTES) {
                let most = max_bytes.min(MAX_IN_RUN_BYTES);
                return Err(fields.invalid("length", format!("{length}; there are at most {most}")));
            }
            at += bytes + length;
            match at.cmp(&body.len()) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => break,
                std::cmp::Ordering::Greater => return Err(fields.truncated("payload")),
            }
        }
        Ok(Self { codec: *codec, tag: tag.clone(), body, next: BRIEF_PAYLOAD })
    }

    fn serial(&self, at: usize) -> Serial {
        let bytes = self.body.get(at..).and_then(|rest| rest.first_chunk().copied());
        Serial(u64::from_le_bytes(bytes.unwrap_or_default()))
    }

    /// Their receiver, at this end.
    #[must_use]
    pub fn to(&self) -> Serial {
        self.serial(BRIEF_TO_SERIAL)
    }

    /// Their sender, at the other.
    #[must_use]
    pub fn from(&self) -> Serial {
        self.serial(BRIEF_TO_SERIAL + 8)
    }

    /// How their payloads are encoded.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The bytes of their payloads' tag.
    #[must_use]
    pub fn tag_bytes(&self) -> &[u8] {
        self.tag.as_bytes()
    }

    /// The bytes of the next one's payload; `None` when all are taken.
    #[inline]
    #[must_use]
    pub fn peek(&self) -> Option<&[u8]> {
        let (length, bytes) = length_at(self.body.get(self.next..)?)?;
        self.body.get(self.next + bytes..self.next + bytes + length)
    }

    /// Takes the one that [`peek`](Self::peek) gives.
    #[inline]
    pub fn advance(&mut self) {
        if let Some((length, bytes)) = self.body.get(self.next..).and_then(length_at) {
            self.next += bytes + length;
        }
    }

    /// Takes the next one as a message of its own.
    pub(super) fn next_message(&mut self) -> Option<PlainMessage> {
        let length = self.peek()?.len();
        self.advance();
        Some(PlainMessage::of_run(self.body.clone(), self.next - length..self.next, self.codec, self.tag.clone()))
    }
}

const _: () = assert!(MAX_IN_RUN_BYTES <= MOST);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_read_as_it_was_written() {
        for length in 0..=MAX_IN_RUN_BYTES {
            let mut bytes = Vec::new();
            put_length(length, &mut bytes);
            assert_eq!(length_at(&bytes), Some((length, bytes.len())));
        }
        assert_eq!((length_at(&[]), length_at(&[0x80]), length_at(&[0x80, 0x80])), (None, None, None));
    }
}
