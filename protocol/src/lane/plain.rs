//! Messages in their most frequent form, looked at where they lie: from a process of the peer to one of this end by its
//! serial, with nothing beside the payload. Nothing is counted, copied or checked that its receiver does not need.

use crate::{
    frame::{FLAG_SKIPPABLE, Frame, FrameKind},
    id::Serial,
    lane::types::Types,
    payload::{Codec, Tag},
};

/// Where things stand in the body of a `Message`: nodes, serials, codec, and the length of the tag, which follows.
const TO_SERIAL: usize = 4;
const CODEC: usize = 20;
const TAG_BYTES: usize = 21;
const TAG: usize = 22;

/// The same in a `Brief`: the type's number, serials, payload.
const BRIEF_TO_SERIAL: usize = 2;
const BRIEF_PAYLOAD: usize = 18;

const SERIAL_BYTES: usize = 8;

/// A message between processes of a lane's two ends, without reply, deadline or credit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainMessage {
    frame: Frame,
    /// Where the serials stand: the receiver's, and then the sender's.
    serials: usize,
    /// Where the payload's body begins.
    body: usize,
    codec: Codec,
    /// Its tag, if it does not stand in the frame.
    tag: Option<Tag>,
}

impl PlainMessage {
    /// `frame` as one, if it is one whose payload has at most `max_bytes`; the frame as it was otherwise.
    pub(super) fn of(frame: Frame, types: &Types, max_bytes: usize) -> Result<Self, Frame> {
        let shape = match frame.kind {
            FrameKind::Brief => Self::brief(&frame, types, max_bytes),
            FrameKind::Message => Self::whole(&frame, max_bytes).map(|(codec, body)| (TO_SERIAL, body, codec, None)),
            _ => None,
        };
        match shape {
            Some((serials, body, codec, tag)) => Ok(Self { frame, serials, body, codec, tag }),
            None => Err(frame),
        }
    }

    fn brief(frame: &Frame, types: &Types, max_bytes: usize) -> Option<(usize, usize, Codec, Option<Tag>)> {
        let number = frame.body.first_chunk().map(|number| u16::from_le_bytes(*number))?;
        let (codec, tag) = types.get(number)?;
        let length = frame.body.len().checked_sub(BRIEF_PAYLOAD)?;
        let fits = frame.flags & !FLAG_SKIPPABLE == 0 && length <= max_bytes;
        fits.then(|| (BRIEF_TO_SERIAL, BRIEF_PAYLOAD, *codec, Some(tag.clone())))
    }

    fn whole(frame: &Frame, max_bytes: usize) -> Option<(Codec, usize)> {
        if frame.flags & !FLAG_SKIPPABLE != 0 {
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
        self.serial(self.serials)
    }

    /// Its sender, at the other.
    #[must_use]
    pub fn from(&self) -> Serial {
        self.serial(self.serials + SERIAL_BYTES)
    }

    /// How its payload is encoded.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The bytes of its payload's tag, which may be no text.
    #[must_use]
    pub fn tag_bytes(&self) -> &[u8] {
        match &self.tag {
            Some(tag) => tag.as_bytes(),
            None => self.frame.body.get(TAG..self.body).unwrap_or_default(),
        }
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
        Tag, limits::MAX_INTERNED_TYPES,
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
            body: SignalBody::Message { payload, reply, deadline_ms: None, credit: None, trace: None },
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

    fn numbered(signals: &[Signal]) -> Vec<u8> {
        let (sender, receiver) = ends();
        let mut bytes = Vec::new();
        LaneEncoder::open(0, &mut bytes);
        let mut encoder = LaneEncoder::new(sender, receiver);
        encoder.number_types();
        signals.iter().for_each(|signal| encoder.signal(signal, &mut bytes).unwrap());
        bytes
    }

    #[test]
    fn one_whose_type_has_a_number_lies_as_it_came_too() {
        let signal = message(b"body", None);
        let bytes = numbered(&[signal.clone(), signal.clone()]);
        assert_eq!(bytes.windows(4).filter(|window| *window == b"Note").count(), 1, "its type is told once");
        let mut decoder = decoder(bytes);
        for _ in 0..2 {
            let Some(Arrival::Plain(plain)) = decoder.next_arrival().unwrap() else { unreachable!("it is plain") };
            assert_eq!((plain.from(), plain.to(), plain.codec()), (Serial(7), Serial(9), Codec::Bincode));
            assert_eq!((plain.tag_bytes(), plain.body()), (&b"Note"[..], &b"body"[..]));
            assert_eq!(decoder.signal_of(plain).unwrap(), signal);
        }
        assert_eq!(decoder.next_arrival(), Ok(None));
    }

    #[test]
    fn types_beyond_the_limit_are_named() {
        let of = |number: usize| {
            let mut signal = message(b"body", None);
            let SignalBody::Message { payload, .. } = &mut signal.body else { unreachable!("it is a message") };
            payload.tag = Tag::new(number.to_string().into()).unwrap();
            signal
        };
        // Each twice, so that those that have a number are met again among those that have none.
        let signals: Vec<Signal> = (0..2 * (MAX_INTERNED_TYPES + 2)).map(|at| of(at / 2)).collect();
        let mut decoder = decoder(numbered(&signals));
        for signal in &signals {
            assert_eq!(decoder.next_signal().unwrap().as_ref(), Some(signal));
        }
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
