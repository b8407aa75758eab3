//! A small seeded generator for spreading times apart.
//!
//! The seed is handed in, so that a simulation or a failing test can be played again. It is
//! splitmix64: good enough to spread load, and never used where a guess would be an attack.

use std::time::Duration;

/// Spreads durations; the same seed gives the same sequence.
#[derive(Debug, Clone)]
pub struct Jitter {
    /// The generator's state; any value is valid.
    state: u64,
}

impl Jitter {
    /// A generator whose whole future is decided by `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A generator for another part, independent of this one's later values.
    pub fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    /// A duration between `from` and `to`, both included; `from` if they are the wrong way round.
    pub fn between(&mut self, from: Duration, to: Duration) -> Duration {
        from + to.saturating_sub(from).mul_f64(self.unit())
    }

    /// `nominal`, up to `share` of it shorter or longer; a share above 1 counts as 1.
    pub fn around(&mut self, nominal: Duration, share: f64) -> Duration {
        let share = share.clamp(0.0, 1.0);
        self.between(nominal.mul_f64(1.0 - share), nominal.mul_f64(1.0 + share))
    }

    /// The next value in 0..1.
    fn unit(&mut self) -> f64 {
        // 53 bits are what the fraction of an f64 holds exactly.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn spread_stays_within_its_share(seed: u64, millis in 1_u64..100_000, share in 0.0_f64..1.0) {
            let nominal = Duration::from_millis(millis);
            let spread = Jitter::new(seed).around(nominal, share);
            let slack = Duration::from_micros(1);
            prop_assert!(spread + slack >= nominal.mul_f64(1.0 - share));
            prop_assert!(spread <= nominal.mul_f64(1.0 + share) + slack);
        }
    }

    #[test]
    fn values_differ_between_draws_and_repeat_with_the_seed() {
        let (from, to) = (Duration::ZERO, Duration::from_secs(1));
        let draw = |seed| {
            let mut jitter = Jitter::new(seed);
            (0..8).map(|_| jitter.between(from, to)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let values = draw(7);
        assert!(values.iter().any(|value| *value != values[0]));
    }
}
