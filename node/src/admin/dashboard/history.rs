//! The last two minutes of a node, a sample a second, for the charts. Pure: counters go in, rates come out.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Samples that are kept.
pub(super) const MOST_SAMPLES: usize = 120;

/// How far apart samples are.
pub(in crate::admin) const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// What is counted, up to one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counters {
    /// Messages by route: within the node, sent, received; calls and replies among them.
    pub(super) messages: [u64; 3],
    /// Calls among them.
    pub(super) calls: [u64; 3],
    /// For how long the threads of processes have run something, in microseconds, all together.
    pub(super) busy_us: u64,
}

/// One second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// Messages a second, by route.
    pub(super) messages: [f64; 3],
    /// Calls a second, by route.
    pub(super) calls: [f64; 3],
    /// How many threads were busy.
    pub(super) busy: f64,
    /// Messages that waited in all mailboxes; none while nobody looks.
    pub(super) waiting: Option<f64>,
    /// The round trip to the peer in the middle, and to the furthest, in milliseconds; none without peers.
    pub(super) rtt_ms: Option<[f64; 2]>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct History {
    last: Option<(Instant, Counters)>,
    /// Oldest first; never more than [`MOST_SAMPLES`].
    samples: VecDeque<Sample>,
}

impl History {
    /// A second has passed, or about one.
    pub(super) fn handle_tick(&mut self, now: Instant, counters: Counters, waiting: Option<u64>, rtts_us: &mut [u64]) {
        let before = self.last.replace((now, counters));
        let Some((then, before)) = before else { return };
        let seconds = now.saturating_duration_since(then).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let rates = |now: [u64; 3], [local, sent, received]: [u64; 3]| {
            [rate(now[0], local), rate(now[1], sent), rate(now[2], received)]
        };
        rtts_us.sort_unstable();
        let ms = |us: &u64| *us as f64 / 1e3;
        let middle = rtts_us.get(rtts_us.len() / 2).map(ms);
        if self.samples.len() == MOST_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
            messages: rates(counters.messages, before.messages),
            calls: rates(counters.calls, before.calls),
            busy: rate(counters.busy_us, before.busy_us) / 1e6,
            waiting: waiting.map(|waiting| waiting as f64),
            rtt_ms: middle.zip(rtts_us.last().map(ms)).map(|(middle, most)| [middle, most]),
        });
    }

    /// One figure of each sample, oldest first.
    pub(super) fn line(&self, figure: impl Fn(&Sample) -> Option<f64>) -> Vec<Option<f64>> {
        self.samples.iter().map(figure).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_by_the_time_that_passed_and_old_samples_go() {
        let (start, mut history) = (Instant::now(), History::default());
        let counters = |n: u64| Counters { messages: [n, 2 * n, 0], calls: [0, n, 0], busy_us: n * 5_000 };
        history.handle_tick(start, counters(0), None, &mut []);
        assert_eq!(history.samples.len(), 0);
        history.handle_tick(start + Duration::from_secs(2), counters(100), Some(7), &mut [3_000, 500, 900]);
        let expected = Sample {
            messages: [50.0, 100.0, 0.0],
            calls: [0.0, 50.0, 0.0],
            busy: 0.25,
            waiting: Some(7.0),
            rtt_ms: Some([0.9, 3.0]),
        };
        assert_eq!(history.samples.front(), Some(&expected));
        for second in 3..500 {
            history.handle_tick(start + Duration::from_secs(second), counters(100), None, &mut []);
        }
        assert_eq!(history.line(|sample| sample.waiting), vec![None; MOST_SAMPLES]);
    }
}
