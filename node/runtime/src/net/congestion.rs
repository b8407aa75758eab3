//! Congestion control: Cubic, under a bound on the bytes under way that follows the path (bandwidth × delay).
//!
//! Cubic grows until something is lost. On a path that loses nothing, as loopback or a data centre's, its window comes
//! to hundreds of megabytes, and all of them wait in the receiver in front of a small message, whatever the priorities of
//! streams. What a path can hold is its rate of delivery times its shortest round trip; twice that keeps it busy, and
//! waiting stays below one round trip. A constant instead would starve a long path: 64 KiB on 100 ms are 0.6 MB/s.
//!
//! The rate is the largest of the last few spans in which the sender always had something to send, as in BBR
//! (<https://datatracker.ietf.org/doc/draft-ietf-ccwg-bbr/>); the window's growth and what loss does are Cubic's (RFC 9438).

use std::{any::Any, sync::Arc, time::Duration, time::Instant};

use quinn::congestion::{Controller, ControllerFactory, CubicConfig};
use quinn_proto::RttEstimator;

/// What may be under way on any path: enough for two threads to take turns. Measured on two cores of loopback with bodies of
/// 64 MiB: 64, 128, 256 and 512 KiB gave a ping of 0.45, 0.7, 1.2 and 1.8 ms (p50; p99 1.6 to 2.7, 4.8, 4.9 and 5.7 ms) at
/// 357, 379, 382 and 406 MB/s.
const FLOOR_BYTES: u64 = 64 * 1024;

/// How much of what the path holds may be under way.
const GAIN: u64 = 2;

/// The rate is measured over no less than this, or it would be that of one burst of acknowledgements.
const SPAN: Duration = Duration::from_millis(4);

/// The rate that counts is the largest of so many spans.
const SPANS: usize = 10;

/// Makes controllers for connections.
#[derive(Debug, Default)]
pub(crate) struct BoundedCubicConfig(Arc<CubicConfig>);

impl ControllerFactory for BoundedCubicConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(BoundedCubic { cubic: self.0.clone().build(now, current_mtu), path: PathEstimate::new(now) })
    }
}

/// See the module.
struct BoundedCubic {
    cubic: Box<dyn Controller>,
    path: PathEstimate,
}

impl Controller for BoundedCubic {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.path.delivered(now, bytes, app_limited, rtt.min());
        // What Cubic has beyond the bound is of no use, and would be what a loss is reckoned from.
        if self.cubic.window() < GAIN * self.path.bound() {
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
        self.cubic.window().min(self.path.bound())
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { cubic: self.cubic.clone_box(), path: self.path.clone() })
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
}

impl PathEstimate {
    fn new(now: Instant) -> Self {
        Self { since: now, delivered: 0, app_limited: false, rates: [0; SPANS], next: 0, bound: FLOOR_BYTES }
    }

    fn bound(&self) -> u64 {
        self.bound
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
            let holds = u128::from(largest) * shortest.as_nanos() / 1_000_000_000;
            self.bound = u64::try_from(holds).unwrap_or(u64::MAX).saturating_mul(GAIN).max(FLOOR_BYTES);
        }
        (self.since, self.delivered, self.app_limited) = (now, 0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Acknowledges `bytes_per_s` for two seconds over a path of that round trip, a millisecond at a time.
    fn after(bytes_per_s: u64, round_trip: Duration, app_limited: bool) -> u64 {
        let begin = Instant::now();
        let mut path = PathEstimate::new(begin);
        for ms in 1..=2_000_u64 {
            path.delivered(begin + Duration::from_millis(ms), bytes_per_s / 1_000, app_limited, round_trip);
        }
        path.bound()
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
        let busy = path.bound();
        for now in 2_001..=60_000 {
            path.delivered(ms(now), 10, true, Duration::from_millis(100));
        }
        assert_eq!(path.bound(), busy);
    }

    #[test]
    fn a_path_that_became_narrow_lowers_it() {
        let begin = Instant::now();
        let mut path = PathEstimate::new(begin);
        for now in 1..=10_000_u64 {
            let bytes = if now < 2_000 { 100_000 } else { 10_000 };
            path.delivered(begin + Duration::from_millis(now), bytes, false, Duration::from_millis(100));
        }
        assert!(path.bound() < 2_200_000, "{}", path.bound());
    }
}
