//! Properties of the wire, for any value and any bytes: what is sent comes back the same however it is cut, and what is
//! not valid is an error and never a panic.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)] // A test may stop where it fails; modules of a test.

#[path = "properties/strategies.rs"]
mod strategies;

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*, sample::Index};
use rookery_protocol::{
    Arrival, ClusterName, Codec, ControlFrame, Destination, ExitReason, Frame, FrameDecoder, FrameKind, LaneDecoder,
    LaneEncoder, NodeId, NodeName, Pid, ProcessName, Recipient, RunBuffer, Serial, Signal, SignalBody, WireError,
    codec, frame,
    lane::MessageHead,
    limits::{FRAME_HEADER_BYTES, MAX_CONTROL_BODY_BYTES, MAX_EXIT_TEXT_BYTES},
};
use serde::{Serialize, de::DeserializeOwned};

use strategies::{brief, receiver, sender};

const LIMIT: usize = 1 << 16;

fn encoded(signals: &[Signal]) -> Vec<u8> {
    encoded_by(LaneEncoder::new(sender(), receiver()), signals)
}

fn encoded_by(mut encoder: LaneEncoder, signals: &[Signal]) -> Vec<u8> {
    let mut out = Vec::new();
    LaneEncoder::open(1, &mut out);
    for signal in signals {
        encoder.signal(signal, &mut out).unwrap();
    }
    out
}

/// Cuts `bytes` at the given places.
fn cut(bytes: &[u8], places: &[Index]) -> Vec<Bytes> {
    let mut at: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| Bytes::copy_from_slice(&bytes[pair[0]..pair[1]])).collect()
}

fn decoded(chunks: impl IntoIterator<Item = Bytes>) -> Result<Vec<Signal>, WireError> {
    let mut decoder = LaneDecoder::new(receiver(), sender(), LIMIT);
    let mut signals = Vec::new();
    for chunk in chunks {
        decoder.push(chunk);
        while let Some(signal) = decoder.next_signal()? {
            signals.push(signal);
        }
    }
    decoder.finish()?;
    Ok(signals)
}

fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = FrameDecoder::new(LIMIT);
    decoder.push(Bytes::copy_from_slice(bytes));
    std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
}

fn bytes_of(kind: FrameKind, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let start = frame::begin(&mut out, kind, flags);
    out.extend_from_slice(body);
    frame::finish(&mut out, start, 0);
    out
}

/// The payload at the end of a signal's frame has no length of its own.
fn open_end(signal: &Signal) -> usize {
    match &signal.body {
        SignalBody::Message { payload, .. } | SignalBody::Reply { outcome: Ok(payload), .. } => payload.body.len(),
        _ => 0,
    }
}

fn serde_round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let json = serde_json::to_string(value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&json).unwrap(), *value, "{json}");
    let mut bytes = Vec::new();
    codec::append(value, &mut bytes).unwrap();
    assert_eq!(codec::decode_payload::<T>(&bytes).unwrap(), *value);
    assert_eq!(codec::decode_control::<T>(&bytes).unwrap(), *value);
}

proptest! {
    #[test]
    fn signals_come_back_however_the_bytes_are_cut(
        signals in vec(strategies::signal(), 1..12),
        places in vec(any::<Index>(), 0..40),
    ) {
        let mut numbering = LaneEncoder::new(sender(), receiver());
        numbering.number_types();
        for bytes in [encoded(&signals), encoded_by(numbering, &signals)] {
            prop_assert_eq!(decoded(cut(&bytes, &places)).unwrap(), signals.clone());
            prop_assert_eq!(decoded(bytes.chunks(1).map(Bytes::copy_from_slice)).unwrap(), signals.clone());
        }
    }

    /// Whatever the peer knows of, and however little it takes in a frame.
    #[test]
    fn messages_put_together_are_what_they_were_one_by_one(
        bodies in vec(prop_oneof![9 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 0..1_024)], 1..300),
        numbers in any::<bool>(),
        largest in option::of(prop_oneof![Just(64 * 1024_usize), 1_024..6_000_usize]),
        elsewhere in any::<bool>(),
    ) {
        let encoder = || {
            let mut encoder = LaneEncoder::new(sender(), receiver());
            if numbers {
                encoder.number_types();
            }
            if let Some(largest) = largest {
                encoder.share_frames(largest);
            }
            encoder
        };
        let from = Pid::new(sender(), Serial(7));
        let node = if elsewhere { "other-0.1".parse().unwrap() } else { receiver() };
        let to = Destination::from(Pid::new(node, Serial(9)));
        let head = MessageHead {
            from: &from, to: &to, tag: b"Note", codec: Codec::Bincode, reply: None, deadline_ms: None, credit: None, trace: None,
        };
        let (mut one_by_one, mut encoder_of_those) = (Vec::new(), encoder());
        LaneEncoder::open(1, &mut one_by_one);
        for body in &bodies {
            encoder_of_those.message_head(&head, body.len(), &mut one_by_one).unwrap();
            one_by_one.extend(body);
        }
        let (mut together, mut encoder, mut buffer) = (Vec::new(), encoder(), RunBuffer::default());
        LaneEncoder::open(1, &mut together);
        let (mut frames_made, mut counted) = (0, 0);
        for body in &bodies {
            prop_assert!(RunBuffer::takes(body.len()));
            if !buffer.has_room(body.len()) {
                encoder.messages(&head, &buffer, &mut together).unwrap();
                (frames_made, counted) = (frames_made + 1, counted + buffer.messages());
                buffer.clear();
            }
            buffer.push(body);
        }
        encoder.messages(&head, &buffer, &mut together).unwrap();
        prop_assert_eq!(counted + buffer.messages(), bodies.len());
        prop_assert_eq!(decoded([together.clone()].map(Bytes::from)).unwrap(), decoded([one_by_one.clone()].map(Bytes::from)).unwrap());
        let runs = frames(&together).iter().filter(|frame| frame.kind == FrameKind::Run).count();
        if numbers && !elsewhere && largest.is_some_and(|largest| largest > 4 * 1024) {
            prop_assert_eq!(runs, frames_made + 1);
            prop_assert_eq!(together, one_by_one);
        }
    }

    /// Batches are taken between any two messages, and whoever takes a run puts any rest of it back.
    #[test]
    fn runs_come_back_however_they_are_batched_cut_and_taken(
        sent in vec((brief(), any::<bool>()), 1..60),
        largest in 1_024..6_000_usize,
        places in vec(any::<Index>(), 0..40),
        takes in vec(0..5_usize, 1..20),
    ) {
        let mut encoder = LaneEncoder::new(sender(), receiver());
        encoder.number_types();
        encoder.share_frames(largest);
        let (mut stream, mut batch) = (Vec::new(), Vec::new());
        LaneEncoder::open(1, &mut batch);
        for (signal, takes_batch) in &sent {
            encoder.signal(signal, &mut batch).unwrap();
            if *takes_batch {
                stream.extend(std::mem::take(&mut batch));
            }
        }
        stream.extend(batch);
        let signals: Vec<Signal> = sent.into_iter().map(|(signal, _)| signal).collect();
        prop_assert_eq!(decoded(cut(&stream, &places)).unwrap(), signals.clone());
        prop_assert!(frames(&stream).iter().all(|frame| frame.kind != FrameKind::Run || frame.body.len() <= largest.max(18 + 2 + 1_024)));

        let mut takes = takes.into_iter().cycle();
        let mut decoder = LaneDecoder::new(receiver(), sender(), LIMIT);
        let mut came = Vec::new();
        for chunk in cut(&stream, &places) {
            decoder.push(chunk);
            while let Some(arrival) = decoder.next_arrival().unwrap() {
                match arrival {
                    Arrival::Run(mut run) => {
                        for _ in 0..takes.next().unwrap() {
                            let Some(body) = run.peek() else { break };
                            came.push((run.from(), run.to(), Bytes::copy_from_slice(run.tag_bytes()), Bytes::copy_from_slice(body)));
                            run.advance();
                        }
                        decoder.put_back(run);
                    }
                    Arrival::Plain(it) => {
                        let (tag, body) = (Bytes::copy_from_slice(it.tag_bytes()), Bytes::copy_from_slice(it.body()));
                        came.push((it.from(), it.to(), tag, body));
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
        let told: Vec<_> = signals.into_iter().map(|signal| {
            let (Recipient::Serial(to), SignalBody::Message { payload, .. }) = (signal.to.to, signal.body) else { unreachable!() };
            (signal.from.serial(), to, Bytes::copy_from_slice(payload.tag.as_bytes()), payload.body)
        }).collect();
        prop_assert_eq!(came, told);
    }

    #[test]
    fn control_frames_come_back_however_the_bytes_are_cut(
        controls in vec(strategies::control(), 1..4),
        places in vec(any::<Index>(), 0..20),
    ) {
        let mut bytes = Vec::new();
        for control in &controls {
            control.encode(&mut bytes).unwrap();
        }
        let mut decoder = FrameDecoder::new(MAX_CONTROL_BODY_BYTES);
        let mut came = Vec::new();
        for chunk in cut(&bytes, &places) {
            decoder.push(chunk);
            while let Some(frame) = decoder.next_frame().unwrap() {
                came.push(ControlFrame::decode(&frame).unwrap());
            }
        }
        decoder.finish().unwrap();
        prop_assert_eq!(came, controls);
    }

    #[test]
    fn p2_any_pid_prints_and_parses_back(pid in strategies::pid()) {
        prop_assert_eq!(pid.to_string().parse::<Pid>().unwrap(), pid.clone());
        prop_assert_eq!(pid.node().to_string().parse::<NodeId>().unwrap(), pid.node().clone());
    }

    #[test]
    fn p2_ids_are_plain_data_in_bincode_and_json(
        pid in strategies::pid(),
        name in strategies::process_name(),
        session in strategies::session(),
        number in any::<u32>(),
    ) {
        serde_round_trip(&pid);
        serde_round_trip(pid.node());
        serde_round_trip(pid.node().name());
        serde_round_trip(&name);
        serde_round_trip(&session);
        let serial = Serial::of_client(session, number);
        prop_assert_eq!(serial.session(), Some(session));
        serde_round_trip(&serial);
    }

    #[test]
    fn a_text_that_is_no_id_is_an_error(text in any::<String>()) {
        for printed in [
            text.parse::<Pid>().map(|id| id.to_string()),
            text.parse::<NodeId>().map(|id| id.to_string()),
            text.parse::<NodeName>().map(|id| id.to_string()),
            text.parse::<ClusterName>().map(|id| id.to_string()),
            text.parse::<ProcessName>().map(|id| id.to_string()),
        ] {
            match printed {
                Ok(printed) => prop_assert_eq!(&printed, &text),
                Err(error) => prop_assert!(!error.to_string().contains(char::is_control)),
            }
        }
    }

    #[test]
    fn x4_reasons_cross_unchanged_and_cut_at_the_limit(
        reason in strategies::reason(),
        unit in any::<char>(),
        times in 0..2 * MAX_EXIT_TEXT_BYTES,
    ) {
        let long = ExitReason::Error(unit.to_string().repeat(times));
        for reason in [reason, long] {
            let exit = SignalBody::Exit { reason: reason.clone(), linked: true };
            let sent = Signal { from: Pid::new(sender(), Serial(1)), to: Pid::new(receiver(), Serial(2)).into(), body: exit };
            let came = decoded([Bytes::from(encoded(&[sent]))]).unwrap().remove(0);
            let cut = reason.clone().cut();
            if let (ExitReason::Error(long), ExitReason::Error(cut)) = (&reason, &cut) {
                prop_assert!(cut.len() <= MAX_EXIT_TEXT_BYTES);
                prop_assert!(long == cut || cut.ends_with('…') && long.starts_with(cut.trim_end_matches('…')));
                prop_assert_eq!(long == cut, long.len() <= MAX_EXIT_TEXT_BYTES);
            }
            serde_round_trip(&cut);
            prop_assert_eq!(came.body, SignalBody::Exit { reason: cut, linked: true });
        }
    }

    #[test]
    fn any_bytes_are_frames_or_an_error_and_nothing_more_is_held(
        bytes in vec(prop_oneof![3 => any::<u8>(), 2 => Just(0_u8), 1 => 1_u8..40], 0..400),
        places in vec(any::<Index>(), 0..10),
    ) {
        let mut decoder = FrameDecoder::new(64);
        let (mut pushed, mut given) = (0, 0);
        for chunk in cut(&bytes, &places) {
            pushed += chunk.len();
            decoder.push(chunk);
            while let Ok(Some(frame)) = decoder.next_frame() {
                prop_assert!(frame.body.len() <= 64);
                given += FRAME_HEADER_BYTES + frame.body.len();
                let _ = ControlFrame::decode(&frame);
            }
            prop_assert!(decoder.buffered() + given <= pushed);
            prop_assert!(decoder.buffered() <= 64);
        }
        // The same bytes, as the body of each frame there is.
        for &kind in FrameKind::ALL {
            let _ = ControlFrame::decode(&Frame { kind, flags: 0, body: Bytes::copy_from_slice(&bytes) });
            for flags in [0, 1, 2, 4, 7] {
                let _ = decoded([Bytes::from([encoded(&[]), bytes_of(kind, flags, &bytes)].concat())]);
            }
        }
    }

    #[test]
    fn a_signal_that_is_cut_short_is_an_error(signal in strategies::signal(), place in any::<Index>()) {
        let all = frames(&encoded(std::slice::from_ref(&signal)));
        for (at, frame) in all.iter().enumerate() {
            let end = if at + 1 == all.len() { open_end(&signal) } else { 0 };
            let place = place.index(frame.body.len() - end);
            let mut bytes: Vec<u8> = Vec::new();
            for before in &all[..at] {
                bytes.extend(bytes_of(before.kind, before.flags, &before.body));
            }
            bytes.extend(bytes_of(frame.kind, frame.flags, &frame.body[..place]));
            prop_assert!(decoded([Bytes::from(bytes)]).is_err(), "{} at {}", frame.kind.name(), place);
        }
    }

    #[test]
    fn a_control_frame_that_is_cut_short_is_an_error(control in strategies::control(), place in any::<Index>()) {
        let mut bytes = Vec::new();
        control.encode(&mut bytes).unwrap();
        let mut frame = frames(&bytes).remove(0);
        if !frame.body.is_empty() {
            frame.body.truncate(place.index(frame.body.len()));
            prop_assert!(ControlFrame::decode(&frame).is_err());
        }
    }

    #[test]
    fn a_byte_that_flips_never_panics(
        signals in vec(strategies::signal(), 1..4),
        control in strategies::control(),
        place in any::<Index>(),
        flip in 1_u8..,
    ) {
        let mut bytes = encoded(&signals);
        let at = place.index(bytes.len());
        bytes[at] ^= flip;
        let _ = decoded([Bytes::from(bytes)]);

        let mut bytes = Vec::new();
        control.encode(&mut bytes).unwrap();
        let at = place.index(bytes.len());
        bytes[at] ^= flip;
        let mut decoder = FrameDecoder::new(MAX_CONTROL_BODY_BYTES);
        decoder.push(Bytes::from(bytes));
        while let Ok(Some(frame)) = decoder.next_frame() {
            let _ = ControlFrame::decode(&frame);
        }
    }
}
