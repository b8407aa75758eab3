//! How patient a node is with peers that are silent. The defaults and what bounds them stand in `limits.rs`.

use std::time::Duration;

use thiserror::Error;

use super::limits::{DOWN_AFTER, MAX_DOWN_AFTER, MIN_SUSPECT_AFTER, SUSPECT_AFTER, SUSPICIONS_PER_DOWN};

/// When a peer that is silent is suspected, and when it is down if nobody else hears it either (D3). Shorter times are told of
/// a hung node sooner; longer ones forgive a node that is starved of CPU for longer. A process that has ended is noticed by its
/// closed port, whatever these say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DetectorSettings {
    /// Silence from which on it is suspected, and others are asked about it: 300 ms at least. 600 ms unless told.
    pub suspect_after: Duration,
    /// Silence after which a suspect is down that nobody else hears: twice the other at least. 2 s unless told.
    pub down_after: Duration,
}

impl Default for DetectorSettings {
    fn default() -> Self {
        Self { suspect_after: SUSPECT_AFTER, down_after: DOWN_AFTER }
    }
}

/// Times that leave no time to ask others, or that notice nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadDetectorSettings {
    /// Too short to tell silence from a lost packet.
    #[error(
        "a node cannot be suspected after {0:?}: {MIN_SUSPECT_AFTER:?} are the least, in which two pings may be lost"
    )]
    SuspectAfter(Duration),
    /// Others could not be asked in time, or it would take too long.
    #[error(
        "a node cannot be down after {0:?} of silence: it takes {SUSPICIONS_PER_DOWN} times what makes a suspect ({least:?}), \
         so that others can be asked, and at most {MAX_DOWN_AFTER:?}",
        least = *.1 * SUSPICIONS_PER_DOWN
    )]
    DownAfter(Duration, Duration),
}

impl DetectorSettings {
    /// Whether a node can work with these.
    ///
    /// # Errors
    /// It cannot; says what would do.
    pub fn check(&self) -> Result<(), BadDetectorSettings> {
        let Self { suspect_after, down_after } = *self;
        if suspect_after < MIN_SUSPECT_AFTER {
            return Err(BadDetectorSettings::SuspectAfter(suspect_after));
        }
        if down_after < suspect_after * SUSPICIONS_PER_DOWN || down_after > MAX_DOWN_AFTER {
            return Err(BadDetectorSettings::DownAfter(down_after, suspect_after));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use super::*;

    #[test]
    fn times_leave_room_to_ask_others() {
        let times = |suspect, down| DetectorSettings {
            suspect_after: Duration::from_millis(suspect),
            down_after: Duration::from_millis(down),
        };
        assert_eq!(DetectorSettings::default().check(), Ok(()));
        assert!(times(300, 600).check().is_ok() && times(30_000, 600_000).check().is_ok());
        assert!(times(299, 2_000).check().unwrap_err().to_string().contains("300ms are the least"));
        let error = times(600, 1_199).check().unwrap_err().to_string();
        assert!(error.contains("(1.2s)") && error.contains("at most 600s"), "{error}");
        assert!(times(600, 600_001).check().is_err());
    }
}
