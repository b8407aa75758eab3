//! What people are told of nodes and processes, in the words that the command line and the dashboard share.

use std::time::Duration;

use crate::{
    NodeId,
    system::{NodeInfo, ProcessInfo},
};

/// A size for people: `640 B`, `1.2 KiB`, `3.0 GiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while size >= 1000.0
        && let Some(larger) = units.next()
    {
        size /= 1024.0;
        unit = Some(larger);
    }
    format!("{size:.1} {}", unit.unwrap_or(&"KiB"))
}

/// A time span for people: `12.3 s`, `4 min`, `3.2 h`, `5.0 d`.
#[must_use]
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3_600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

/// A whole number with its thousands apart: `1,234,567`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The names of a process, those of the cluster last.
#[must_use]
pub fn names(info: &ProcessInfo) -> String {
    info.names.iter().chain(&info.cluster_names).map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// A behaviour without its path.
#[must_use]
pub fn short(behaviour: &str) -> &str {
    // The path ends where type parameters begin.
    let path = behaviour.split('<').next().unwrap_or_default();
    path.rfind("::").map_or(behaviour, |at| &behaviour[at + 2..])
}

/// What the process does; a call that it waits for says more than that it waits.
#[must_use]
pub fn state(info: &ProcessInfo) -> String {
    match &info.call {
        Some(_) => format!("{} (call)", info.state.as_str()),
        None => info.state.as_str().to_owned(),
    }
}

/// Whether those who are connected with a node hear it: `up`, or for how long it has been silent, and to whom if not to all.
#[must_use]
pub fn node_state(node: &NodeId, infos: &[NodeInfo]) -> String {
    let views: Vec<(&NodeInfo, Option<u64>)> = infos
        .iter()
        .filter_map(|info| Some((info, info.peers.iter().find(|peer| peer.node == *node)?.silent_ms)))
        .collect();
    let suspected_by: Vec<&str> =
        views.iter().filter(|(_, silent)| silent.is_some()).map(|(info, _)| info.node.name().as_str()).collect();
    let Some(silent_ms) = views.iter().filter_map(|(_, silent)| *silent).max() else { return "up".to_owned() };
    let silent = span(Duration::from_millis(silent_ms));
    if suspected_by.len() == views.len() {
        return format!("suspect, silent {silent}");
    }
    format!("suspect, silent {silent} to {}", suspected_by.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }
}
