//! The program in the operating system's eyes, as every Prometheus client tells it. From `/proc`; what is not there is not told.

use std::fs;

/// How many ticks of `/proc/self/stat` make a second: `USER_HZ`, which Linux has fixed for programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// See the module.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Program {
    pub(super) virtual_bytes: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
    /// Seconds since 1970.
    pub(super) started: Option<f64>,
}

impl Program {
    /// Reads four small files, and lists a folder.
    pub(super) fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let system = fs::read_to_string("/proc/stat").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        Self {
            virtual_bytes: field(&stat, 23),
            // The one that the list is read by is not counted.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|all| (all.count() as u64).saturating_sub(1)),
            max_fds: max_fds(&limits),
            started: started(&stat, &system),
        }
    }
}

/// A field of `proc_pid_stat(5)`, counted from 1. The second, the program's name, may hold anything.
fn field(stat: &str, number: usize) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(number.checked_sub(3)?)?.trim().parse().ok()
}

fn started(stat: &str, system: &str) -> Option<f64> {
    let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.trim().parse::<u32>().ok().map(f64::from)? + field(stat, 22)? as f64 / TICKS_PER_SECOND)
}

/// The soft limit; none if there is none.
fn max_fds(limits: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_understood_whatever_the_program_is_called() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 9 0 0 0 123 45 0 0 20 0 9 0 1050 4096000 2";
        assert_eq!(field(stat, 23), Some(4_096_000));
        assert_eq!(started(stat, "cpu 1 2\nbtime 1700000000\nprocesses 4\n"), Some(1_700_000_010.5));
        let limits = "Limit   Soft Limit   Hard Limit   Units\nMax open files            1024      4096      files\n";
        assert_eq!(max_fds(limits), Some(1_024));
        assert_eq!((field("", 23), started("", ""), max_fds("")), (None, None, None));
    }

    #[test]
    fn this_program_is_told() {
        let program = Program::now();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map(|now| now.as_secs_f64());
        assert!(
            program.started.zip(now.ok()).is_some_and(|(started, now)| started < now + 2.0 && now - started < 86_400.0)
        );
        assert!(
            program.open_fds.is_some_and(|fds| fds > 2) && program.virtual_bytes.is_some_and(|bytes| bytes > 1 << 20)
        );
    }
}
