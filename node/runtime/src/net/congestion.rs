//! Congestion control: Cubic, under a bound on the bytes under way that follows the path (bandwidth × delay).
//!
//! Cubic grows until something is lost. On a path that loses nothing, as loopback or a data centre's, its window comes
//! to hundreds of megabytes, and all of them wait in the receiver in front of a small message, whatever the priorities of
//! streams. What a path can hold is its rate of delivery times its shortest round trip; twice that keeps it busy, and
//! waiting stays below one round trip. A constant instead would starve a long path: 64 KiB on 100 ms are 0.6 MB/s.
//!
//! While no body goes apart, what is under way are messages of lanes, which would wait in their lane otherwise, and in
//! front of nobody else. Then the path is taken for longer, by what the receiver's thread may be away with its processes:
//! 16-byte messages of 64 senders went from 1.5 to 2.0 million a second by that in a quiet hour, on two cores of loopback.
//!
//! The rate is the largest of the last few spans in which the sender always had something to send, as in BBR
//! (<https://datatracker.ietf.org/doc/draft-ietf-ccwg-bbr/>); the window's growth and what loss does are Cubic's (RFC 9438).

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use quinn::{
    Connection,
    congestion::{Controller, ControllerFactory, CubicConfig},
};
use quinn_proto::RttEstimator;

/// What may be under way on any path: enough for two threads to take turns. Measured on two cores of loopback with bodies of
/// 64 MiB: 64, 128, 256 and 512 KiB gave a ping of 0.45, 0.7, 1.2 and 1.8 ms (p50; p99 1.6 to 2.7, 4.8, 4.9 and 5.7 ms) at
/// 357, 379, 382 and 406 MB/s.
const FLOOR_BYTES: u64 = 64 * 1024;

/// How much of what the path holds may be under way.
const GAIN: u64 = 2;

/// For how long a receiver may be away, with its processes or without a core.
const AWAY: Duration = Duration::from_millis(4);

/// What may be under way for that. More was no faster in the mean, and bodies of 64 KiB, which go on lanes, were slower by a tenth.
const AWAY_BYTES: u64 = 256 * 1024;

/// The rate is measured over no less than this, or it would be that of one burst of acknowledgements.
const SPAN: Duration = Duration::from_millis(4);

/// The rate that counts is the largest of so many spans.
const SPANS: usize = 10;

/// Makes controllers for connections.
#[derive(Debug, Default)]
pub(crate) struct BoundedCubicConfig(Arc<CubicConfig>);

impl ControllerFactory for BoundedCubicConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let bulk = Bulk::default();
        Box::new(BoundedCubic { cubic: self.0.clone().build(now, current_mtu), path: PathEstimate::new(now), bulk })
    }
}

/// Whether bodies go apart on a connection just now, which its writer of bodies tells its controller.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bulk(Arc<AtomicBool>);

impl Bulk {
    /// That of `connection`. One that has moved to another path has a new one: then bodies may be in front of messages.
    pub(crate) fn of(connection: &Connection) -> Self {
        let controller = connection.congestion_state().into_any().downcast::<BoundedCubic>();
        controller.map(|controller| controller.bulk).unwrap_or_default()
    }

    pub(crate) fn flows(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, flows: bool) {
        self.0.store(flows, Ordering::Relaxed);
    }
}

/// See the module.
struct BoundedCubic {
    cubic: Box<dyn Controller>,
    path: PathEstimate,
    bulk: Bulk,
}

impl BoundedCubic {
    fn bound(&self) -> u64 {
        self.path.bound(self.bulk.flows())
    }
}

impl Controller for BoundedCubic {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.path.delivered(now, bytes, app_limited, rtt.min());
        // What Cubic has beyond the bound is of no use, and would be what a loss is reckoned from.
        if self.cubic.window() < GAIN * self.bound() {
            self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
        }
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_packet_num_acked: Option<u64>) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.cubic.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window().min(self.bound())
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { cubic: self.cubic.clone_box(), path: self.path.clone(), bulk: self.bulk.clone() })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// What is known of the path from what was acknowledged.
#[derive(Debug, Clone)]
struct PathEstimate {
    /// When the span began.
    since: Instant,
    /// What was delivered in it.
    delivered: u64,
    /// The sender had nothing to send at some time in it: the rate is no less than was measured, and may be more.
    app_limited: bool,
    /// Bytes a second of the last spans, in a ring.
    rates: [u64; SPANS],
    /// The next place in the ring.
    next: usize,
    /// What may be under way.
    bound: u64,
    /// The same while no body goes apart.
    bound_of_lanes: u64,
}

impl PathEstimate {
    fn new(now: Instant) -> Self {
        let (bound, bound_of_lanes) = (FLOOR_BYTES, FLOOR_BYTES);
        Self { since: now, delivered: 0, app_limited: false, rates: [0; SPANS], next: 0, bound, bound_of_lanes }
    }

    fn bound(&self, bulk: bool) -> u64 {
        if bulk { self.bound } else { self.bound_of_lanes }
    }

    fn delivered(&mut self, now: Instant, bytes: u64, app_limited: bool, shortest: Duration) {
        self.delivered += bytes;
        self.app_limited |= app_limited;
        let span = now.saturating_duration_since(self.since);
        if span < shortest.max(SPAN) {
            return;
        }
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX).max(1);
        let rate = u64::try_from(u128::from(self.delivered) * 1_000_000_000 / u128::from(nanos)).unwrap_or(u64::MAX);
        let largest = self.rates.iter().copied().max().unwrap_or_default();
        // A pause tells nothing about the path.
        if !self.app_limited || rate > largest {
            self.rates[self.next] = rate;
            self.next = (self.next + 1) % SPANS;
            let largest = self.rates.iter().copied().max().unwrap_or_default();
            let holds = |time: Duration| {
                let bytes = u128::from(largest) * time.as_nanos() / 1_000_000_000;
                u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(GAIN)
            };
            self.bound = holds(shortest).max(FLOOR_BYTES);
            self.bound_of_lanes = holds(AWAY).min(AWAY_BYTES).max(self.bound);
        }
        (self.since, self.delivered, self.app_limited) = (now, 0, false);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use super::*;

    /// Acknowledges `bytes_per_s` for two seconds over a path of that round trip, a millisecond at a time.
    fn after(bytes_per_s: u64, round_trip: Duration, app_limited: bool) -> u64 {
        let begin = Instant::now();
        let mut path = PathEstimate::new(begin);
        for ms in 1..=2_000_u64 {
            path.delivered(begin + Duration::from_millis(ms), bytes_per_s / 1_000, app_limited, round_trip);
        }
        path.bound(true)
    }

    #[test]
    fn the_bound_follows_the_path() {
        // 100 MB/s over 100 ms hold 10 MB.
        let long = after(100_000_000, Duration::from_millis(100), false);
        assert!((19_000_000..=21_000_000).contains(&long), "{long}");
        // 1.5 GB/s over 20 µs hold 30 kB.
        assert_eq!(after(1_500_000_000, Duration::from_micros(20), false), FLOOR_BYTES);
    }

    #[test]
    fn a_sender_that_pauses_does_not_lower_it() {
        let begin = Instant::now();
        let mut path = PathEstimate::new(begin);
        let ms = |ms| begin + Duration::from_millis(ms);
        for now in 1..=2_000 {
            path.delivered(ms(now), 100_000, false, Duration::from_millis(100));
        }
        let busy = path.bound(true);
        for now in 2_001..=60_000 {
            path.delivered(ms(now), 10, true, Duration::from_millis(100));
        }
        assert_eq!(path.bound(true), busy);
    }

    #[test]
    fn lanes_alone_have_more_under_way_on_a_fast_path_only() {
        let of = |bytes_per_s: u64, round_trip| {
            let begin = Instant::now();
            let mut path = PathEstimate::new(begin);
            for ms in 1..=100_u64 {
                path.delivered(begin + Duration::from_millis(ms), bytes_per_s / 1_000, false, round_trip);
            }
            (path.bound(true), path.bound(false))
        };
        assert_eq!(of(30_000_000, Duration::from_micros(50)), (FLOOR_BYTES, 240_000));
        assert_eq!(of(1_000_000_000, Duration::from_micros(50)), (100_000, AWAY_BYTES));
        // What it takes 64 ms to carry anyway is not made more of.
        assert_eq!(of(1_000_000, Duration::from_micros(50)), (FLOOR_BYTES, FLOOR_BYTES));
    }

    #[test]
    fn who_writes_bodies_is_heard_through_a_copy() {
        let now = Instant::now();
        let (cubic, path, bulk) =
            (Arc::new(CubicConfig::default()).build(now, 1_452), PathEstimate::new(now), Bulk::default());
        let mut controller = BoundedCubic { cubic, path, bulk };
        controller.path.bound_of_lanes = AWAY_BYTES;
        // As a connection gives it out.
        let copy = controller.clone_box().into_any().downcast::<BoundedCubic>().unwrap();
        copy.bulk.set(true);
        assert_eq!(controller.bound(), FLOOR_BYTES);
        copy.bulk.set(false);
        assert_eq!(controller.bound(), AWAY_BYTES);
    }

    #[test]
    fn a_path_that_became_narrow_lowers_it() {
        let begin = Instant::now();
        let mut path = PathEstimate::new(begin);
        for now in 1..=10_000_u64 {
            let bytes = if now < 2_000 { 100_000 } else { 10_000 };
            path.delivered(begin + Duration::from_millis(now), bytes, false, Duration::from_millis(100));
        }
        assert!(path.bound(true) < 2_200_000, "{}", path.bound(true));
    }
}
