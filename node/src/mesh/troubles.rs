//! What was last logged of an address's troubles: whoever is in trouble tries again and again, and an operator is to read
//! of each trouble once, and now and then while it lasts, not at every try.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// How many addresses are remembered: as many as the dialling book holds. Beyond it all are forgotten, and told anew.
const MAX_REMEMBERED: usize = 4096;

/// After this time a trouble that lasts is told again.
const TOLD_AGAIN: Duration = Duration::from_secs(10 * 60);

/// See the module.
#[derive(Debug)]
pub(super) struct Troubles<K>(HashMap<K, (String, Instant)>);

impl<K> Default for Troubles<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Troubles<K> {
    /// Whether this trouble of `who` is to be told. It counts as told then.
    pub(super) fn is_news(&mut self, who: K, reason: &str, now: Instant) -> bool {
        if let Some((last, at)) = self.0.get(&who)
            && last == reason
            && now.saturating_duration_since(*at) < TOLD_AGAIN
        {
            return false;
        }
        if self.0.len() >= MAX_REMEMBERED {
            self.0.clear();
        }
        self.0.insert(who, (reason.to_owned(), now));
        true
    }

    /// The trouble is over: it is news when it comes back.
    pub(super) fn over(&mut self, who: &K) {
        self.0.remove(who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_once_and_again_when_it_changes_lasts_or_comes_back() {
        let mut troubles = Troubles::default();
        let now = Instant::now();
        assert!(troubles.is_news(1, "no answer", now));
        assert!(!troubles.is_news(1, "no answer", now + Duration::from_secs(1)));
        assert!(troubles.is_news(2, "no answer", now));
        assert!(troubles.is_news(1, "refused", now));
        assert!(troubles.is_news(1, "refused", now + TOLD_AGAIN));
        troubles.over(&2);
        assert!(troubles.is_news(2, "no answer", now));
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let mut troubles = Troubles::default();
        let now = Instant::now();
        assert!((0..10 * MAX_REMEMBERED).all(|who| troubles.is_news(who, "no answer", now)));
        assert!(troubles.0.len() <= MAX_REMEMBERED);
    }
}
