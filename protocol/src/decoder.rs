//! Cuts a stream of bytes into frames, as the bytes arrive. No length is believed before it is checked, memory grows
//! only with bytes that have arrived, and a frame that lies in one chunk is handed on without copying.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    error::WireError,
    frame::{FLAG_SKIPPABLE, Frame, FrameKind},
    limits::FRAME_HEADER_BYTES,
};

/// How many chunks may wait before their size is looked at.
const MANY_CHUNKS: usize = 128;

/// Chunks below this size, on average, are copied together.
const SMALL_CHUNK_BYTES: usize = 256;

/// An incremental decoder of one stream.
#[derive(Debug)]
pub struct FrameDecoder {
    /// Chunks that arrived and are not consumed; none is empty.
    chunks: VecDeque<Bytes>,
    /// The sum of their lengths.
    buffered: usize,
    /// The largest body accepted, in bytes.
    limit: usize,
    /// A header that was read and whose body has not wholly arrived.
    header: Option<Header>,
    /// An error ends the stream: it is given again and again.
    failed: Option<WireError>,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    length: usize,
    kind: u8,
    flags: u8,
}

impl FrameDecoder {
    /// A decoder that accepts bodies of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { chunks: VecDeque::new(), buffered: 0, limit, header: None, failed: None }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() && self.failed.is_none() {
            self.buffered += chunk.len();
            self.chunks.push_back(chunk);
            // A slice keeps the whole datagram that it was cut from: many tiny ones would pin far more than they hold.
            if self.chunks.len() >= MANY_CHUNKS && self.buffered / self.chunks.len() < SMALL_CHUNK_BYTES {
                let length = self.buffered;
                let whole = self.take(length);
                self.buffered = length;
                self.chunks.push_back(whole);
            }
        }
    }

    /// The next whole frame, or `None` until more bytes have arrived.
    ///
    /// # Errors
    /// [`WireError::FrameTooLarge`] or [`WireError::UnknownFrame`]; the stream cannot be used after either.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            if self.buffered < header.length {
                return Ok(None);
            }
            self.header = None;
            let body = self.take(header.length);
            if let Some(kind) = FrameKind::from_wire(header.kind) {
                return Ok(Some(Frame { kind, flags: header.flags, body }));
            }
        }
    }

    /// Tells whether the stream may end here.
    ///
    /// # Errors
    /// [`WireError::EndedWithinFrame`] when it may not, and the error that broke the stream if one did.
    pub fn finish(&self) -> Result<(), WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let want = self.header.map_or(FRAME_HEADER_BYTES, |header| header.length);
        if self.header.is_none() && self.buffered == 0 {
            return Ok(());
        }
        Err(WireError::EndedWithinFrame { have: self.buffered, want })
    }

    /// Bytes that have arrived and are not part of a frame that was given out.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// Takes what has arrived behind the last frame: the rest of the stream is something else.
    pub(crate) fn take_rest(&mut self) -> Bytes {
        self.take(self.buffered)
    }

    fn header(&mut self) -> Result<Option<Header>, WireError> {
        if self.header.is_none() && self.buffered >= FRAME_HEADER_BYTES {
            let mut bytes = [0; FRAME_HEADER_BYTES];
            self.copy_to(&mut bytes);
            let mut fields = &bytes[..];
            let header = Header { length: fields.get_u32_le() as usize, kind: fields.get_u8(), flags: fields.get_u8() };
            if header.length > self.limit {
                let error =
                    WireError::FrameTooLarge { kind: header.kind, length: header.length as u64, limit: self.limit };
                return Err(self.fail(error));
            }
            if FrameKind::from_wire(header.kind).is_none() && header.flags & FLAG_SKIPPABLE == 0 {
                return Err(self.fail(WireError::UnknownFrame { kind: header.kind }));
            }
            self.header = Some(header);
        }
        Ok(self.header)
    }

    fn fail(&mut self, error: WireError) -> WireError {
        self.chunks.clear();
        self.buffered = 0;
        self.failed = Some(error.clone());
        error
    }

    /// Takes as many bytes as `out` has, which are there.
    fn copy_to(&mut self, out: &mut [u8]) {
        self.buffered -= out.len();
        let mut filled = 0;
        while let Some(front) = self.chunks.front_mut()
            && filled < out.len()
        {
            let part = front.len().min(out.len() - filled);
            front.copy_to_slice(&mut out[filled..filled + part]);
            filled += part;
            if front.is_empty() {
                self.chunks.pop_front();
            }
        }
    }

    /// Takes `length` bytes, which are there: without copying when they lie in one chunk.
    fn take(&mut self, length: usize) -> Bytes {
        self.buffered -= length;
        match self.chunks.front_mut() {
            Some(front) if front.len() > length => return front.split_to(length),
            Some(front) if front.len() == length => return self.chunks.pop_front().unwrap_or_default(),
            _ => {}
        }
        // All of it has arrived, so this reserves no more than is held already.
        let mut taken = BytesMut::with_capacity(length);
        let mut left = length;
        while left > 0 {
            let Some(front) = self.chunks.front_mut() else { break };
            let part = front.split_to(left.min(front.len()));
            left -= part.len();
            taken.extend_from_slice(&part);
            if front.is_empty() {
                self.chunks.pop_front();
            }
        }
        taken.freeze()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use super::*;

    fn bytes_of(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
        let mut out = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
        out.extend_from_slice(&[kind, flags]);
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_are_cut() {
        let mut stream = bytes_of(1, 0, b"first");
        stream.extend(bytes_of(32, 0, b""));
        stream.extend(bytes_of(6, 1, b"third one"));
        for step in 1..=stream.len() {
            let mut decoder = FrameDecoder::new(1024);
            let mut frames = Vec::new();
            for chunk in stream.chunks(step) {
                decoder.push(Bytes::copy_from_slice(chunk));
                while let Some(frame) = decoder.next_frame().unwrap() {
                    frames.push(frame);
                }
            }
            decoder.finish().unwrap();
            let bodies: Vec<&[u8]> = frames.iter().map(|frame| &frame.body[..]).collect();
            assert_eq!(bodies, [&b"first"[..], b"", b"third one"]);
        }
    }

    #[test]
    fn a_huge_length_is_refused_before_anything_is_kept() {
        let mut decoder = FrameDecoder::new(1024);
        decoder.push(Bytes::from(vec![0xff; 64]));
        assert!(matches!(decoder.next_frame(), Err(WireError::FrameTooLarge { limit: 1024, .. })));
        assert_eq!(decoder.buffered(), 0);
        decoder.push(Bytes::from(bytes_of(1, 0, b"x")));
        assert!(decoder.next_frame().is_err(), "a broken stream stays broken");
    }

    #[test]
    fn unknown_kinds_are_skipped_only_if_they_say_so() {
        let mut decoder = FrameDecoder::new(1024);
        decoder.push(Bytes::from(bytes_of(200, FLAG_SKIPPABLE, b"from the future")));
        decoder.push(Bytes::from(bytes_of(37, 0, b"")));
        assert_eq!(decoder.next_frame().unwrap().unwrap().kind, FrameKind::Goodbye);
        decoder.push(Bytes::from(bytes_of(200, 0, b"")));
        assert_eq!(decoder.next_frame(), Err(WireError::UnknownFrame { kind: 200 }));
    }

    #[test]
    fn an_end_within_a_frame_is_told() {
        let mut decoder = FrameDecoder::new(1024);
        decoder.push(Bytes::from(bytes_of(1, 0, b"body")).slice(..8));
        assert_eq!(decoder.next_frame(), Ok(None));
        assert_eq!(decoder.finish(), Err(WireError::EndedWithinFrame { have: 2, want: 4 }));
    }
}
