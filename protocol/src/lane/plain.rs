//! Messages in their most frequent form, looked at where they lie: from a process of the peer to one of this end by its
//! serial, with nothing beside the payload. Nothing is counted, copied or checked that its receiver does not need.

use std::ops::Range;

use bytes::Bytes;

use crate::{
    frame::{FLAG_SKIPPABLE, Frame, FrameKind},
    id::Serial,
    lane::types::Types,
    payload::{Codec, Payload, Tag},
};

/// Where things stand in the body of a `Message`: nodes, serials, codec, and the length of the tag, which follows.
const TO_SERIAL: usize = 4;
const CODEC: usize = 20;
const TAG_BYTES: usize = 21;
const TAG: usize = 22;

/// The same in a `Brief`: the type's number, serials, payload.
pub(super) const BRIEF_TO_SERIAL: usize = 2;
pub(super) const BRIEF_PAYLOAD: usize = 18;

const SERIAL_BYTES: usize = 8;

/// A message between processes of a lane's two ends, without reply, deadline or credit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainMessage {
    frame: Frame,
    /// Where the serials stand: the receiver's, and then the sender's.
    serials: usize,
    /// Where the payload's body begins.
    body: usize,
    /// Where it ends, if the frame is a run.
    end: Option<usize>,
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
            Some((serials, body, codec, tag)) => Ok(Self { frame, serials, body, end: None, codec, tag }),
            None => Err(frame),
        }
    }

    /// One of the messages of a run, whose payload's body lies there.
    pub(super) fn of_run(run: Bytes, payload: Range<usize>, codec: Codec, tag: Tag) -> Self {
        let frame = Frame { kind: FrameKind::Run, flags: 0, body: run };
        Self { frame, serials: BRIEF_TO_SERIAL, body: payload.start, end: Some(payload.end), codec, tag: Some(tag) }
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
        let end = self.end.unwrap_or(self.frame.body.len());
        self.frame.body.get(self.body..end).unwrap_or_default()
    }

    /// Its payload, if it is one of a run: that has been looked at.
    pub(super) fn payload_in_run(&self) -> Option<Payload> {
        let (end, tag) = (self.end?, self.tag.clone()?);
        Some(Payload { tag, codec: self.codec, body: self.frame.body.slice(self.body..end) })
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
        Arrival, CallId, Codec, FrameDecoder, FrameKind, LaneDecoder, LaneEncoder, NodeId, Payload, Pid, ReplyRoute,
        Serial, Signal, SignalBody, Tag, limits::MAX_INTERNED_TYPES,
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
    fn messages_of_one_to_another_share_a_frame_while_nothing_comes_between() {
        let (sender, receiver) = ends();
        let mut encoder = LaneEncoder::new(sender, receiver);
        encoder.number_types();
        encoder.share_frames(1_024);
        let (alike, mut other) = (message(b"sixteen bytes ..", None), message(b"", None));
        other.to = (&Pid::new(ends().1, Serial(8))).into();
        let mut frames = |signals: &[&Signal], batches: usize| {
            let mut lengths = Vec::new();
            for _ in 0..batches {
                let mut batch = Vec::new();
                signals.iter().for_each(|signal| encoder.signal(signal, &mut batch).unwrap());
                let mut decoder = FrameDecoder::new(usize::MAX);
                decoder.push(batch.into());
                while let Some(frame) = decoder.next_frame().unwrap() {
                    lengths.push((frame.kind, frame.body.len()));
                }
            }
            lengths
        };
        let (run, link) = (FrameKind::Run, Signal { body: SignalBody::Link, ..alike.clone() });
        assert_eq!(frames(&[&alike], 1), [(FrameKind::TypeDef, 8), (run, 18 + 17)]);
        assert_eq!(frames(&[&alike; 3], 2), [(run, 18 + 3 * 17), (run, 18 + 3 * 17)], "a batch has its own");
        assert_eq!(frames(&[&alike, &other, &alike, &alike], 1), [(run, 35), (run, 19), (run, 52)]);
        assert_eq!(frames(&[&alike, &link, &alike], 1), [(run, 35), (FrameKind::Link, 20), (run, 35)]);
        other.to = alike.to.clone();
        let counts: Vec<usize> = frames(&vec![&other; 300], 1).into_iter().map(|(_, length)| length - 18).collect();
        assert_eq!(counts, [256, 44], "however small they are");
        let full = (1_024 - 18) / 17;
        assert_eq!(frames(&vec![&alike; full + 2], 1), [(run, 18 + full * 17), (run, 18 + 2 * 17)], "one is full");
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
