//! What Linux tells of this machine, its processes and its network, for programs that measure nodes from outside. What cannot
//! be read counts as nothing: a process that has just ended uses nothing any more.

use std::fs;

/// Of `/proc/PID/statm`: pages are as large as this on every Linux that we run on.
const PAGE_BYTES: u64 = 4096;

/// Of `/proc/PID/stat`: ticks of a hundredth, as on every Linux that we run on.
const TICKS_PER_SECOND: f64 = 100.0;

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The machine in one line, with how `program` was built as far as that is known: by the directory that cargo puts it in.
#[must_use]
pub fn describe(program: &std::path::Path) -> String {
    let cpuinfo = text("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpu = model.map_or("unknown CPU", |(_, model)| model).trim();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = text("/proc/sys/kernel/osrelease").trim().to_owned();
    let build = if program.parent().is_some_and(|dir| dir.ends_with("release")) { "release" } else { "debug" };
    format!("{cpu}, {cores} cores, Linux {kernel}, {build} build")
}

/// Memory of a process that is resident, in bytes.
#[must_use]
pub fn resident_bytes(pid: u32) -> u64 {
    let statm = text(&format!("/proc/{pid}/statm"));
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * PAGE_BYTES
}

/// Seconds of CPU that a process has used so far.
#[must_use]
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = text(&format!("/proc/{pid}/stat"));
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

/// Time of all cores together since the machine was started, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpuTime {
    /// In which something ran.
    pub busy: f64,
    /// In all.
    pub all: f64,
}

impl CpuTime {
    /// So far.
    #[must_use]
    pub fn now() -> Self {
        let stat = text("/proc/stat");
        let ticks: Vec<f64> =
            stat.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8).flat_map(str::parse).collect();
        let all = ticks.iter().sum::<f64>() / TICKS_PER_SECOND;
        // The fourth and fifth are idle, and idle with a disk at work.
        let idle = ticks.iter().skip(3).take(2).sum::<f64>() / TICKS_PER_SECOND;
        Self { busy: all - idle, all }
    }

    /// The part of the time since `before` in which something ran.
    #[must_use]
    pub fn busy_since(self, before: Self) -> f64 {
        (self.busy - before.busy) / (self.all - before.all).max(f64::EPSILON)
    }
}

/// What has crossed the loopback of the network namespace that this process is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loopback {
    /// Bytes, with the headers of IP and UDP.
    pub bytes: u64,
    /// UDP datagrams that were sent.
    pub sent: u64,
    /// UDP datagrams that reached a socket.
    pub received: u64,
    /// UDP datagrams for which a socket had no room.
    pub overflowed: u64,
}

impl Loopback {
    /// So far.
    #[must_use]
    pub fn now() -> Self {
        let devices = text("/proc/net/dev");
        let loopback = devices.lines().find_map(|line| line.trim().strip_prefix("lo:"));
        let bytes = loopback.and_then(|line| line.split_whitespace().nth(8)?.parse().ok()).unwrap_or_default();
        let protocols = text("/proc/net/snmp");
        let mut rows = protocols.lines().filter_map(|line| line.strip_prefix("Udp: "));
        let (names, values) = (rows.next().unwrap_or_default(), rows.next().unwrap_or_default());
        let value = |wanted: &str| {
            let mut pairs = names.split_whitespace().zip(values.split_whitespace());
            pairs.find(|(name, _)| *name == wanted).and_then(|(_, value)| value.parse().ok()).unwrap_or_default()
        };
        Self { bytes, sent: value("OutDatagrams"), received: value("InDatagrams"), overflowed: value("RcvbufErrors") }
    }

    /// What has come since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            bytes: self.bytes - before.bytes,
            sent: self.sent - before.sent,
            received: self.received - before.received,
            overflowed: self.overflowed - before.overflowed,
        }
    }
}

/// Today, as `date` says it.
#[must_use]
pub fn today() -> String {
    let date = std::process::Command::new("date").args(["-u", "+%d %B %Y, %H:%M UTC"]).output();
    date.map(|date| String::from_utf8_lossy(&date.stdout).trim().to_owned()).unwrap_or_default()
}

/// The smallest, the middle and the largest of some figures.
#[must_use]
pub fn spread(figures: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some((*sorted.first()?, *sorted.get(sorted.len() / 2)?, *sorted.last()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_time_and_loopback() {
        let (pid, before) = (std::process::id(), CpuTime::now());
        assert!(resident_bytes(pid) > 1 << 20 && resident_bytes(u32::MAX) == 0);
        let started = std::time::Instant::now();
        while started.elapsed().as_millis() < 300 {
            std::hint::spin_loop();
        }
        assert!(cpu_seconds(pid) > 0.1, "{}", cpu_seconds(pid));
        assert!((0.05..=1.0).contains(&CpuTime::now().busy_since(before)));
        let before = Loopback::now();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(&[0; 1_000], socket.local_addr().unwrap()).unwrap();
        socket.recv(&mut [0; 2_000]).unwrap();
        let crossed = Loopback::now().since(before);
        assert!(crossed.bytes >= 1_028 && crossed.sent >= 1 && crossed.received >= 1, "{crossed:?}");
    }

    #[test]
    fn a_spread_is_the_ends_and_the_middle() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some((1.0, 2.0, 3.0)));
        assert_eq!(spread(&[]), None);
    }
}
