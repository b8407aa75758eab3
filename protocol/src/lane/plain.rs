//! Messages in their most frequent form, looked at where they lie: from a process of the peer to one of this end by its
//! serial, with nothing beside the payload. Nothing is counted, copied or checked that its receiver does not need.

use crate::{
    frame::{FLAG_SKIPPABLE, Frame, FrameKind},
    id::Serial,
    payload::Codec,
};

/// Where things stand in the frame's body: nodes, serials, codec, and the length of the tag, which follows.
const TO_SERIAL: usize = 4;
const FROM_SERIAL: usize = 12;
const CODEC: usize = 20;
const TAG_BYTES: usize = 21;
const TAG: usize = 22;

/// A message between processes of a lane's two ends, without reply, deadline or credit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainMessage {
    frame: Frame,
    /// Where the payload's body begins.
    body: usize,
    codec: Codec,
}

impl PlainMessage {
    /// `frame` as one, if it is one whose payload has at most `max_bytes`; the frame as it was otherwise.
    pub(super) fn of(frame: Frame, max_bytes: usize) -> Result<Self, Frame> {
        match Self::shape(&frame, max_bytes) {
            Some((codec, body)) => Ok(Self { frame, body, codec }),
            None => Err(frame),
        }
    }

    fn shape(frame: &Frame, max_bytes: usize) -> Option<(Codec, usize)> {
        if frame.kind != FrameKind::Message || frame.flags & !FLAG_SKIPPABLE != 0 {
            return None;
        }
        // Node 0 at both ends: the lane's own.
        let (nodes, _) = frame.body.split_first_chunk::<TO_SERIAL>()?;
        let codec = Codec::from_wire(*frame.body.get(CODEC)?)?;
        let body = TAG + usize::from(*frame.body.get(TAG_BYTES)?);
        let length = frame.body.len().checked_sub(body)?;
        (*nodes == [0; TO_SERIAL] && length <= max_bytes).then_some((codec, body))
    }

    fn serial(&self, at: usize) -> Serial {
        let bytes = self.frame.body.get(at..).and_then(|rest| rest.first_chunk().copied());
        Serial(u64::from_le_bytes(bytes.unwrap_or_default()))
    }

    /// Its receiver, at this end.
    #[must_use]
    pub fn to(&self) -> Serial {
        self.serial(TO_SERIAL)
    }

    /// Its sender, at the other.
    #[must_use]
    pub fn from(&self) -> Serial {
        self.serial(FROM_SERIAL)
    }

    /// How its payload is encoded.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The bytes of its payload's tag, which may be no text.
    #[must_use]
    pub fn tag_bytes(&self) -> &[u8] {
        self.frame.body.get(TAG..self.body).unwrap_or_default()
    }

    /// The bytes of its payload.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.frame.body.get(self.body..).unwrap_or_default()
    }

    pub(super) fn into_frame(self) -> Frame {
        self.frame
    }
}
