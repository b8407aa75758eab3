//! The size of datagrams: QUIC needs ways that take 1,200 bytes beside the headers of IP and UDP.

use std::fs;

use super::{peers::Met, report::Report};

const CHECK: &str = "mtu";

/// What IPv6 asks of every link; enough for QUIC.
const LEAST: u32 = 1_280;

pub(super) fn check(report: &mut Report, met: &[Met]) {
    let interfaces = interfaces();
    for (name, mtu) in interfaces.iter().filter(|(_, mtu)| *mtu < LEAST) {
        let advice = "set it to 1280 or more; of a pod, the network plugin's settings do (an overlay takes some 50 bytes of the machine's own)";
        report.failed(
            CHECK,
            format!("interface {name} takes packets of {mtu} bytes at most, and QUIC needs {LEAST}"),
            advice,
        );
    }
    match met.iter().min_by_key(|met| met.mtu) {
        Some(met) => {
            let found =
                format!("datagrams of {} bytes and more get to all who answered ({} the least)", met.mtu, met.address);
            report.ok(CHECK, found);
        }
        None if interfaces.is_empty() => {
            report.skipped(CHECK, "this machine does not tell of its interfaces, and nobody answered")
        }
        None => {
            let told: Vec<String> = interfaces.iter().map(|(name, mtu)| format!("{name} {mtu}")).collect();
            report.ok(CHECK, format!("by interface: {}; no way was tried, as nobody answered", told.join(", ")));
        }
    }
}

/// The interfaces that are up, with the largest packet that each takes.
fn interfaces() -> Vec<(String, u32)> {
    let Ok(listed) = fs::read_dir("/sys/class/net") else { return Vec::new() };
    let read = |entry: fs::DirEntry| {
        let text = |file: &str| fs::read_to_string(entry.path().join(file)).ok();
        let name = entry.file_name().into_string().ok()?;
        // That of a tunnel is told as unknown.
        let is_up = text("operstate").is_some_and(|state| state.trim() != "down");
        Some((name, text("mtu")?.trim().parse().ok()?)).filter(|_| is_up)
    };
    let mut all: Vec<(String, u32)> = listed.filter_map(|entry| read(entry.ok()?)).collect();
    all.sort();
    all
}
