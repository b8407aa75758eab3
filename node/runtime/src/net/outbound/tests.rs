#![allow(clippy::unwrap_used)] // A test may stop where it fails.

use rookery_protocol::{Codec, FrameDecoder, FrameKind, Payload, Pid, SignalBody, Tag, UnlinkId};

use std::{
    sync::{Arc, atomic::AtomicUsize},
    task::{Wake, Waker},
};

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

/// A lane's writer that counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn what_may_wait_goes_before_what_is_sent_behind_it_or_when_it_is_time() {
    let (own, peer): (NodeId, NodeId) = ("a.1".parse().unwrap(), "b.1".parse().unwrap());
    let outbound = Outbound::new(&own, &peer, 1, 1 << 20, 1 << 20);
    let signal =
        |body| Signal { from: Pid::new(own.clone(), Serial(7)), to: (&Pid::new(peer.clone(), Serial(9))).into(), body };
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let times = || woken.0.load(Ordering::Relaxed);
    let wait = || outbound.poll_take(0, outbound.leg(), &Context::from_waker(&waker)).is_pending();
    drop(frames(&outbound));
    assert!(wait());

    outbound.push_later(signal(SignalBody::Link)).unwrap();
    assert_eq!(times(), 0);
    outbound.push(signal(SignalBody::Unlink(UnlinkId(1)))).unwrap();
    assert_eq!(times(), 1);
    assert_eq!(frames(&outbound), [FrameKind::Link, FrameKind::Unlink]);
    assert!(wait());

    outbound.push_later(signal(SignalBody::Link)).unwrap();
    outbound.push_later(signal(SignalBody::Unlink(UnlinkId(1)))).unwrap();
    assert_eq!(times(), 1);
    outbound.wake_writers();
    assert_eq!(times(), 2);
    assert_eq!(frames(&outbound), [FrameKind::Link, FrameKind::Unlink]);
    assert!(wait());
    outbound.wake_writers();
    assert_eq!(times(), 2, "there is nothing to write");

    outbound.push_later(signal(SignalBody::Link)).unwrap();
    outbound.finish();
    assert_eq!((times(), frames(&outbound)), (3, vec![FrameKind::Link]), "the last is written as well");
}
