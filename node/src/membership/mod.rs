//! Membership: who is alive. The detector decides (`detector.rs`), its driver does (`driver.rs`).

pub(crate) mod detector;
pub(crate) mod driver;
pub(crate) mod limits;
#[cfg(test)]
mod simulation;
mod times;

pub use times::{BadDetectorSettings, DetectorSettings};
