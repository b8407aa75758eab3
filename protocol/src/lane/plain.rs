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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use bytes::Bytes;

    use crate::{
        Arrival, CallId, Codec, LaneDecoder, LaneEncoder, NodeId, Payload, Pid, ReplyRoute, Serial, Signal, SignalBody,
        Tag,
    };

    const LIMIT: usize = 64;

    fn ends() -> (NodeId, NodeId) {
        ("orders-0.18f".parse().unwrap(), "billing-1.2a".parse().unwrap())
    }

    fn message(body: &'static [u8], reply: Option<ReplyRoute>) -> Signal {
        let (sender, receiver) = ends();
        let payload = Payload { tag: Tag::from_static("Note"), codec: Codec::Bincode, body: Bytes::from_static(body) };
        Signal {
            from: Pid::new(sender, Serial(7)),
            to: (&Pid::new(receiver, Serial(9))).into(),
            body: SignalBody::Message { payload, reply, deadline_ms: None, credit: None },
        }
    }

    fn encoded(signal: &Signal) -> Vec<u8> {
        let (sender, receiver) = ends();
        let mut bytes = Vec::new();
        LaneEncoder::open(0, &mut bytes);
        LaneEncoder::new(sender, receiver).signal(signal, &mut bytes).unwrap();
        bytes
    }

    fn decoder(bytes: Vec<u8>) -> LaneDecoder {
        let (sender, receiver) = ends();
        let mut decoder = LaneDecoder::new(receiver, sender, LIMIT);
        decoder.push(bytes.into());
        decoder
    }

    #[test]
    fn a_message_alone_lies_as_it_came_and_is_the_same_signal() {
        let signal = message(b"body", None);
        let mut decoder = decoder(encoded(&signal));
        let Some(Arrival::Plain(plain)) = decoder.next_arrival().unwrap() else { unreachable!("it is plain") };
        assert_eq!((plain.from(), plain.to(), plain.codec()), (Serial(7), Serial(9), Codec::Bincode));
        assert_eq!((plain.tag_bytes(), plain.body()), (&b"Note"[..], &b"body"[..]));
        assert_eq!(decoder.signal_of(plain).unwrap(), signal);
        assert_eq!(decoder.next_arrival(), Ok(None));
    }

    #[test]
    fn one_that_is_answered_is_no_plain_one() {
        let (sender, _) = ends();
        let signal = message(b"body", Some(ReplyRoute { to: Pid::new(sender, Serial(7)), call: CallId(3) }));
        assert_eq!(decoder(encoded(&signal)).next_arrival(), Ok(Some(Arrival::Signal(signal))));
    }

    #[test]
    fn what_breaks_the_protocol_does_so_as_soon_as_somebody_looks_at_it() {
        // Beyond the limit.
        assert!(decoder(encoded(&message(&[0; LIMIT + 1], None))).next_arrival().is_err());
        // A tag that is no text.
        let mut bytes = encoded(&message(b"body", None));
        let tag = bytes.windows(4).position(|window| window == b"Note").unwrap();
        bytes[tag] = 0xff;
        let mut decoder = decoder(bytes);
        let Some(Arrival::Plain(plain)) = decoder.next_arrival().unwrap() else { unreachable!("it is plain") };
        let error = decoder.signal_of(plain).unwrap_err();
        assert_eq!(decoder.next_arrival(), Err(error), "the lane is broken");
    }
}
