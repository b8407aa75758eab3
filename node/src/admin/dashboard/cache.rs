//! Pages, kept for a moment: whoever has several windows open, or reloads much, costs the cluster no more than one who does not.
//!
//! A page rests for nine times as long as it took, so that the walks over processes behind it take a tenth of a core at most, but no
//! longer than some seconds: most of what takes long is waiting for a node that does not answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use crate::admin::locked;

/// Pages that are kept.
const MAX_PAGES: usize = 64;

/// Pages that are made at once.
const MADE_AT_ONCE: usize = 4;

/// How long a page is kept at least, and at most.
const REST: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// And how many times as long as it took.
const REST_FOR_TIME: u32 = 9;

/// A page, and until when it is good.
type Kept = Arc<AsyncMutex<Option<(Instant, Arc<str>)>>>;

/// See the module.
pub(super) struct Cache {
    /// By the address; with when each was asked for last.
    pages: Mutex<HashMap<String, (Instant, Kept)>>,
    making: Semaphore,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self { pages: Mutex::default(), making: Semaphore::new(MADE_AT_ONCE) }
    }

    /// The page at `address`: as it is kept, or as `make` makes it. Two who ask at once wait for the same one.
    pub(super) async fn get(&self, address: String, make: impl Future<Output = String>) -> Arc<str> {
        let kept = self.kept(address);
        let mut page = kept.lock().await;
        if let Some((until, text)) = &*page
            && Instant::now() < *until
        {
            return text.clone();
        }
        // It is closed by nobody; should it be, the page is made all the same.
        let _permit = self.making.acquire().await.ok();
        let began = Instant::now();
        let text: Arc<str> = make.await.into();
        let rest = (began.elapsed() * REST_FOR_TIME).clamp(REST.0, REST.1);
        *page = Some((Instant::now() + rest, text.clone()));
        text
    }

    fn kept(&self, address: String) -> Kept {
        let mut pages = locked(&self.pages);
        if pages.len() >= MAX_PAGES && !pages.contains_key(&address) {
            let oldest = pages.iter().min_by_key(|(_, (asked, _))| *asked).map(|(address, _)| address.clone());
            oldest.and_then(|oldest| pages.remove(&oldest));
        }
        let entry = pages.entry(address).or_insert_with(|| (Instant::now(), Kept::default()));
        entry.0 = Instant::now();
        entry.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_is_made_once_for_many_and_few_are_kept() {
        let (cache, mut made) = (Cache::new(), 0);
        for _ in 0..3 {
            let page = cache.get("a".to_owned(), async {
                made += 1;
                "text".to_owned()
            });
            assert_eq!(&*page.await, "text");
        }
        assert_eq!(made, 1);
        for number in 0..1_000 {
            cache.get(format!("page {number}"), async { String::new() }).await;
        }
        assert_eq!(locked(&cache.pages).len(), MAX_PAGES);
    }
}
