//! How long the node's threads let one wait: what the beats of `pulse.rs` took, in classes.

use std::time::Duration;

use super::text::Classes;
use crate::admin::{
    limits::BEAT_DEADLINE,
    pulse::{Outcome, Stuck},
};

/// Upper bounds of the classes, in seconds: from what an idle machine takes to the deadline of a beat.
const BOUNDS: [f64; 10] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.0];

#[derive(Debug, Clone, Default)]
pub(super) struct Lag {
    processes: OneLag,
    io: OneLag,
}

#[derive(Debug, Clone, Default)]
struct OneLag {
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Lag {
    pub(super) fn observe(&mut self, beat: &Outcome) {
        self.processes.observe(&beat.process);
        self.io.observe(&beat.io);
    }

    pub(super) fn classes(&self) -> [([&'static str; 1], Classes<'_>); 2] {
        [(["processes"], self.processes.classes()), (["io"], self.io.classes())]
    }
}

impl OneLag {
    fn observe(&mut self, took: &Result<Duration, Stuck>) {
        let took = match took {
            Ok(took) => *took,
            // At least so long: above all bounds.
            Err(Stuck::Silent) => BEAT_DEADLINE + Duration::from_millis(1),
            // It leaves.
            Err(Stuck::Gone(_)) => return,
        };
        let class = BOUNDS.partition_point(|bound| *bound < took.as_secs_f64());
        if let Some(count) = self.counts.get_mut(class) {
            *count += 1;
        }
        self.sum += took;
    }

    fn classes(&self) -> Classes<'_> {
        Classes { bounds: &BOUNDS, counts: &self.counts, sum_seconds: self.sum.as_secs_f64() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_answer_is_above_all_bounds_and_what_leaves_is_not_counted() {
        let mut lag = Lag::default();
        lag.observe(&Outcome { process: Err(Stuck::Silent), io: Ok(Duration::from_micros(200)) });
        lag.observe(&Outcome { process: Err(Stuck::Gone(String::new())), io: Ok(Duration::from_micros(50)) });
        let [(_, processes), (_, io)] = lag.classes();
        assert_eq!((processes.counts.iter().sum::<u64>(), processes.counts.last()), (1, Some(&1)));
        assert_eq!(io.counts.get(..3), Some([1, 1, 0].as_slice()));
    }
}
