//! Keeps the history of a run, in memory for the checker and in a file for people.
//!
//! An operation is entered when it is over. One whose process is ended meanwhile is entered all the same, as one of which nobody
//! knows whether it was done: it may have been, and a checker that did not know of it would find its traces inexplicable.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::history::{Entry, Outcome, What};

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder(Arc<Inner>);

struct Inner {
    since: Instant,
    kept: Mutex<Kept>,
}

struct Kept {
    entries: Vec<Entry>,
    file: BufWriter<File>,
    /// Why the file is not whole, if it is not.
    trouble: Option<io::Error>,
}

impl Recorder {
    pub(crate) fn create(file: &Path) -> io::Result<Self> {
        let file = BufWriter::new(File::create(file)?);
        let kept = Kept { entries: Vec::new(), file, trouble: None };
        Ok(Self(Arc::new(Inner { since: Instant::now(), kept: Mutex::new(kept) })))
    }

    /// Milliseconds since the beginning.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.0.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Enters what happens now.
    pub(crate) fn note(&self, what: What) {
        let now = self.now();
        self.enter(Entry { begin: now, end: now, what });
    }

    /// Enters what was asked for then, and is answered now.
    pub(crate) fn found(&self, begin: u64, what: What) {
        self.enter(Entry { begin, end: self.now(), what });
    }

    /// An operation begins. `what` has the outcome that is entered if nobody says how it came out.
    pub(crate) fn begin(&self, what: What) -> Pending {
        Pending { recorder: self.clone(), begin: self.now(), what: Some(what) }
    }

    /// All that was entered so far, in the order of what happened first.
    pub(crate) fn history(&self) -> Vec<Entry> {
        let mut entries = self.kept().entries.clone();
        entries.sort_by_key(|entry| entry.begin);
        entries
    }

    /// How many operations there were: answered, failed and unknown.
    pub(crate) fn counts(&self) -> [u64; 3] {
        let mut counts = [0; 3];
        for entry in &self.kept().entries {
            match entry.what.outcome() {
                Some(Outcome::Ok) => counts[0] += 1,
                Some(Outcome::Fail(_)) => counts[1] += 1,
                Some(Outcome::Info(_)) => counts[2] += 1,
                None => {}
            }
        }
        counts
    }

    /// Sees to it that the file is whole.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let mut kept = self.kept();
        match kept.trouble.take() {
            Some(error) => Err(error),
            None => kept.file.flush(),
        }
    }

    fn enter(&self, entry: Entry) {
        let mut kept = self.kept();
        let written = serde_json::to_string(&entry).map_err(io::Error::other);
        let written = written.and_then(|line| writeln!(kept.file, "{line}"));
        if let Err(error) = written {
            kept.trouble.get_or_insert(error);
        }
        kept.entries.push(entry);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An operation that is under way.
pub(crate) struct Pending {
    recorder: Recorder,
    begin: u64,
    /// `None` once it is entered.
    what: Option<What>,
}

impl Pending {
    /// It came out like this.
    pub(crate) fn end(mut self, outcome: Outcome) {
        if let Some(what) = &mut self.what {
            what.set_outcome(outcome);
        }
    }

    /// As [`end`](Self::end), with what is known only now.
    pub(crate) fn end_with(mut self, outcome: Outcome, change: impl FnOnce(&mut What)) {
        if let Some(what) = &mut self.what {
            what.set_outcome(outcome);
            change(what);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(what) = self.what.take() {
            let end = self.recorder.now();
            self.recorder.enter(Entry { begin: self.begin, end, what });
        }
    }
}

/// What an operation is entered as whose process ended before it was answered.
pub(crate) fn unanswered() -> Outcome {
    Outcome::Info("whoever asked has ended".to_owned())
}
