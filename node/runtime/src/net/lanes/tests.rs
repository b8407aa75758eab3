//! How long a lane goes on before others have their turn.

#![allow(clippy::unwrap_used)] // A test may stop where it fails.

use std::{
    pin::pin,
    sync::atomic::AtomicU64,
    task::{Context, Poll, Waker},
};

use rookery_protocol::{LaneEncoder, Serial, SignalBody};

use super::*;
use crate::RuntimeConfig;

/// Counts what it is given.
struct Counter {
    runtime: Runtime,
    taken: AtomicU64,
}

impl Inbox for Counter {
    fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    fn take(&self, _signal: Signal) -> Result<Option<Signal>, WireError> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        Ok(None)
    }
}

/// How many signals of so many, which have arrived at once, are handed on in each turn.
fn turns(count: u64) -> Vec<u64> {
    let (own, peer): (NodeId, NodeId) = ("own.1".parse().unwrap(), "peer.1".parse().unwrap());
    let mut bytes = Vec::new();
    LaneEncoder::open(0, &mut bytes);
    let mut encoder = LaneEncoder::new(peer.clone(), own.clone());
    for number in 0..count {
        let (from, to) = (Pid::new(peer.clone(), Serial(1)), Pid::new(own.clone(), Serial(number + 1)));
        encoder.signal(&Signal { from, to: to.into(), body: SignalBody::Link }, &mut bytes).unwrap();
    }
    let runtime = Runtime::new(RuntimeConfig::new(own.clone())).unwrap();
    let inbox = Arc::new(Counter { runtime, taken: AtomicU64::new(0) });
    let incoming = Incoming { own: own.clone(), peer: peer.clone(), lanes: 1, max_message_bytes: 1_024, bulk: false };
    let reading = Reading { incoming, inbox: inbox.clone(), opened: AtomicUsize::new(0), bodies: Bodies::default() };
    let mut lane = LaneReader {
        decoder: LaneDecoder::new(own, peer, 1_024),
        reassembly: Reassembly::default(),
        bodies: Arc::default(),
    };
    lane.decoder.push(Bytes::from(bytes));
    let (mut signals, mut turns) = (0, Vec::new());
    let mut deliver = pin!(reading.deliver(&mut lane, &mut signals));
    loop {
        let polled = deliver.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        turns.push(inbox.taken.swap(0, Ordering::Relaxed));
        match polled {
            Poll::Ready(delivered) => break delivered.unwrap(),
            Poll::Pending => assert!(turns.len() < 100, "{turns:?}"),
        }
    }
    turns
}

#[tokio::test]
async fn a_lane_lets_others_have_their_turn_however_small_its_signals_are() {
    assert_eq!(turns(YIELD_AFTER - 1), [YIELD_AFTER - 1]);
    let [first, second, rest] = turns(2 * YIELD_AFTER + 1_000)[..] else { unreachable!("three turns") };
    assert!([first, second].iter().all(|turn| (YIELD_AFTER..YIELD_AFTER + arriving::BATCH).contains(turn)));
    assert_eq!(first + second + rest, 2 * YIELD_AFTER + 1_000);
}
