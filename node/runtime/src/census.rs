//! How many messages wait in all mailboxes together, and in the longest: a walk over every process, a few table slots at a time, as
//! in `listing.rs`.

use crate::{process::table::Cursor, runtime::Runtime};

/// How many slots of the table are looked at in one step: some tens of microseconds.
const SLOTS_A_STEP: usize = 512;

/// Processes are counted by whether more messages wait for them than this.
pub const QUEUE_STEPS: [u64; 6] = [0, 10, 100, 1_000, 10_000, 100_000];

/// What waits in the mailboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Messages and events that wait, in all mailboxes together.
    pub queued: u64,
    /// In the longest mailbox.
    pub longest: u64,
    /// How many processes have more waiting than each of [`QUEUE_STEPS`].
    pub over: [u64; QUEUE_STEPS.len()],
}

impl Census {
    fn add(&mut self, waiting: u64) {
        self.queued += waiting;
        self.longest = self.longest.max(waiting);
        for (over, step) in self.over.iter_mut().zip(QUEUE_STEPS) {
            *over += u64::from(waiting > step);
        }
    }
}

impl Runtime {
    /// Looks at each mailbox. Lets others run now and then; of a million processes it takes some tenths of a second, true of no
    /// one moment.
    pub async fn census(&self) -> Census {
        let mut census = Census::default();
        let mut cursor = Some(Cursor::default());
        let mut page = Vec::with_capacity(SLOTS_A_STEP);
        while let Some(from) = cursor {
            cursor = self.table().page(from, SLOTS_A_STEP, &mut page);
            for process in page.drain(..) {
                census.add(process.mailbox_len() as u64);
            }
            tokio::task::yield_now().await;
        }
        census
    }
}
