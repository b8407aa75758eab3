//! Restart intensity (V3): how many restarts there were within the last period. Pure; the time is an argument.
//!
//! As OTP's supervisor counts ("Maximum Restart Intensity" in its manual): with intensity `n` and period `p`, the
//! restart that would be the `n + 1`th within `p` is not carried out. A restart that is exactly `p` old still counts.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The restarts of the last period.
#[derive(Debug)]
pub struct Intensity {
    /// How many restarts are allowed within `period`.
    allowed: u32,
    /// The window.
    period: Duration,
    /// When they were, oldest first. Never more than `allowed`.
    restarts: VecDeque<Instant>,
}

/// There were too many restarts within the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl Intensity {
    /// Allows so many restarts within `period`; 0 allows none at all.
    #[must_use]
    pub fn new(allowed: u32, period: Duration) -> Self {
        Self { allowed, period, restarts: VecDeque::new() }
    }

    /// Counts a restart; gives how many there were within the period, this one among them.
    ///
    /// # Errors
    /// It is one too many.
    pub fn add(&mut self, now: Instant) -> Result<u32, TooMany> {
        let before = self.count(now);
        if before >= self.allowed {
            return Err(TooMany);
        }
        self.restarts.push_back(now);
        Ok(before + 1)
    }

    /// How many restarts there were within the period.
    pub fn count(&mut self, now: Instant) -> u32 {
        while self.restarts.front().is_some_and(|&then| now.saturating_duration_since(then) > self.period) {
            self.restarts.pop_front();
        }
        u32::try_from(self.restarts.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v3_restarts_count_for_one_period() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut intensity = Intensity::new(2, Duration::from_secs(1));
        assert_eq!(intensity.add(at(0)), Ok(1));
        assert_eq!(intensity.add(at(500)), Ok(2));
        assert_eq!(intensity.add(at(1000)), Err(TooMany), "one that is a whole period old still counts");
        assert_eq!(intensity.add(at(1001)), Ok(2));
        assert_eq!(intensity.add(at(9000)), Ok(1));
    }

    #[test]
    fn v3_intensity_zero_allows_no_restart() {
        assert_eq!(Intensity::new(0, Duration::from_secs(5)).add(Instant::now()), Err(TooMany));
    }
}
