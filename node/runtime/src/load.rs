//! How busy this is: the threads that run processes, and the program in the operating system's eyes. Counters, so that
//! whoever asks twice knows what happened in between.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::runtime::Runtime;

/// How many ticks of `/proc/self/stat` make a second: `USER_HZ`, which Linux has fixed for programs.
const TICKS_PER_SECOND: u64 = 100;

/// The size of a page of `/proc/self/statm` on the machines that Rookery's images run on.
const PAGE_BYTES: u64 = 4096;

/// How busy a node or client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Threads that run processes.
    pub workers: u32,
    /// For how long they have run something, all together, in microseconds. Divided by `workers` and by the time between
    /// two questions, the share that was used.
    pub busy_us: u64,
    /// Processes that could run and wait for a thread, as far as they are not some thread's already.
    pub queued: u64,
    /// CPU time of the whole program, in milliseconds; none where the system does not tell (it does on Linux).
    pub cpu_ms: Option<u64>,
    /// Resident memory of the whole program, in bytes; none where the system does not tell.
    pub memory_bytes: Option<u64>,
}

impl Runtime {
    /// How busy this node or client is. Reads two small files of `/proc`.
    #[must_use]
    pub fn load(&self) -> Load {
        let (workers, busy_us, queued) = self.executor().load();
        Load {
            workers: u32::try_from(workers).unwrap_or(u32::MAX),
            busy_us,
            queued: queued as u64,
            cpu_ms: fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_ms(&stat)),
            memory_bytes: fs::read_to_string("/proc/self/statm").ok().and_then(|statm| memory_bytes(&statm)),
        }
    }
}

/// User and system time: fields 14 and 15 of `proc_pid_stat(5)`. The second, the program's name, may hold anything.
fn cpu_ms(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut ticks = fields.split(' ').skip(11).map(str::parse::<u64>);
    Some((ticks.next()?.ok()? + ticks.next()?.ok()?) * 1_000 / TICKS_PER_SECOND)
}

/// Resident pages: field 2 of `/proc/self/statm`.
fn memory_bytes(statm: &str) -> Option<u64> {
    Some(statm.split(' ').nth(1)?.parse::<u64>().ok()? * PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_understood_whatever_the_program_is_called() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 9 0 0 0 123 45 0 0 20 0 9 0 100 1 2";
        assert_eq!(cpu_ms(stat), Some(1_680));
        assert_eq!(memory_bytes("100 25 3 1 0 9 0\n"), Some(25 * PAGE_BYTES));
        assert_eq!((cpu_ms(""), memory_bytes("1")), (None, None));
    }
}
