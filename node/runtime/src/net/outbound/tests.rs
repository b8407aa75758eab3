#![allow(clippy::unwrap_used)] // A test may stop where it fails.

use rookery_protocol::{Codec, FrameDecoder, FrameKind, Payload, Pid, SignalBody, Tag};

use std::task::Waker;

use super::*;

/// What a lane's writer finds, as kinds of frames.
fn frames(outbound: &Outbound) -> Vec<FrameKind> {
    let Poll::Ready(Ok(Some(chunks))) = outbound.poll_take(0, outbound.leg(), &Context::from_waker(Waker::noop()))
    else {
        return Vec::new();
    };
    let mut decoder = FrameDecoder::new(1 << 20);
    chunks.into_iter().for_each(|chunk| decoder.push(chunk));
    std::iter::from_fn(|| decoder.next_frame().unwrap()).map(|frame| frame.kind).collect()
}

#[test]
fn another_connection_begins_as_the_first_with_what_both_ends_have() {
    let (own, peer): (NodeId, NodeId) = ("a.1".parse().unwrap(), "b.1".parse().unwrap());
    let outbound = Outbound::new(&own, &peer, 1, 1 << 20, 1 << 20).with_features(Features::OURS);
    let send = || {
        let payload = Payload { tag: Tag::from_static("Note"), codec: Codec::Bincode, body: Bytes::from_static(b"16") };
        outbound
            .push(Signal {
                from: Pid::new(own.clone(), Serial(7)),
                to: (&Pid::new(peer.clone(), Serial(9))).into(),
                body: SignalBody::Message { payload, reply: None, deadline_ms: None, credit: None, trace: None },
            })
            .unwrap();
    };
    let as_one = [FrameKind::LaneOpen, FrameKind::TypeDef, FrameKind::Run];
    (0..3).for_each(|_| send());
    assert_eq!(frames(&outbound), as_one);
    let _ = outbound.turn().unwrap();
    (0..3).for_each(|_| send());
    assert_eq!(frames(&outbound), as_one, "and its types are told anew");
}

#[test]
fn what_is_let_go_with_a_connection_does_not_look_like_its_end() {
    let (own, peer): (NodeId, NodeId) = ("a.1".parse().unwrap(), "b.1".parse().unwrap());
    for turned in [false, true] {
        let outbound = Outbound::new(&own, &peer, 1, 1 << 20, 1 << 20);
        let first = outbound.leg();
        let link = Signal {
            from: Pid::new(own.clone(), Serial(7)),
            to: (&Pid::new(peer.clone(), Serial(9))).into(),
            body: SignalBody::Link,
        };
        outbound.push(link).unwrap();
        if turned {
            outbound.turn().unwrap();
        }
        let _ = outbound.close();
        let taken = outbound.poll_take(0, first, &Context::from_waker(Waker::noop()));
        assert!(matches!(taken, Poll::Ready(Err(GiveUp::LetGo))), "{taken:?}");
    }
}
