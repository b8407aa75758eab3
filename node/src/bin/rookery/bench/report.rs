//! What a bench prints: for each metric the median of its runs with the smallest and the largest, as a table's row or a
//! line of JSON; and which machine it was.

use std::{collections::BTreeMap, fs, io};

use serde_json::json;

use super::super::out;

/// Prints what is measured, as it is measured.
pub(super) struct Report {
    pub(super) json: bool,
}

/// Samples of one case by metric, in the order in which they were first told.
#[derive(Default)]
pub(super) struct Samples {
    order: Vec<(String, &'static str)>,
    values: BTreeMap<String, Vec<f64>>,
}

impl Samples {
    /// One more value of a metric.
    pub(super) fn add(&mut self, metric: impl Into<String>, unit: &'static str, value: f64) {
        let metric = metric.into();
        if !self.values.contains_key(&metric) {
            self.order.push((metric.clone(), unit));
        }
        self.values.entry(metric).or_default().push(value);
    }

    /// Latencies in nanoseconds, as `<what>_p50_us.<variant>` and so on.
    pub(super) fn latencies(&mut self, what: &str, variant: &str, nanos: &mut [u64]) {
        nanos.sort_unstable();
        let dot = if variant.is_empty() { "" } else { "." };
        for (name, per_mille) in [("p50", 500), ("p99", 990), ("p999", 999)] {
            if let Some(&value) = nanos.get((nanos.len() * per_mille / 1_000).min(nanos.len().saturating_sub(1))) {
                self.add(format!("{what}_{name}_us{dot}{variant}"), "µs", value as f64 / 1_000.0);
            }
        }
    }
}

/// Minimum, median and maximum.
fn summary(values: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some((*sorted.first()?, *sorted.get(sorted.len() / 2)?, *sorted.last()?))
}

/// A figure with as many digits as mean something.
fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 1_000_000.0 => format!("{:.2} M", value / 1e6),
        v if v >= 10_000.0 => format!("{:.1} k", value / 1e3),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

impl Report {
    /// Which machine it is, and what was built.
    pub(super) fn machine(&self) -> io::Result<()> {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = text("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let cpu = model.map_or("unknown", |(_, model)| model).trim();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let kernel = text("/proc/sys/kernel/osrelease").trim().to_owned();
        let memory = text("/proc/meminfo").split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        let memory_gib = memory.unwrap_or_default().div_ceil(1 << 20);
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        let version = env!("CARGO_PKG_VERSION");
        if self.json {
            return out::line(&json!({ "machine": { "cpu": cpu, "cores": cores, "memory_gib": memory_gib,
                "kernel": kernel, "build": build, "version": version } }));
        }
        let warning = if cfg!(debug_assertions) { "; figures of a debug build mean nothing" } else { "" };
        out::line(&format!(
            "{cpu}, {cores} cores, {memory_gib} GiB, Linux {kernel}, rookery {version} ({build}){warning}"
        ))
    }

    /// Prints the metrics of a case.
    pub(super) fn case(&self, case: &str, samples: &Samples) -> io::Result<()> {
        let mut rows = Vec::new();
        for (metric, unit) in &samples.order {
            let values = &samples.values[metric];
            let Some((min, median, max)) = summary(values) else { continue };
            if self.json {
                out::line(&json!({ "case": case, "metric": metric, "value": median, "unit": unit,
                    "min": min, "max": max, "n": values.len() }))?;
            }
            let n = values.len().to_string();
            rows.push(vec![metric.clone(), figure(median), (*unit).to_owned(), figure(min), figure(max), n]);
        }
        if self.json {
            return Ok(());
        }
        out::line(&format!("\n{case}"))?;
        out::table(&["metric", "median", "unit", "min", "max", "runs"], &[1, 3, 4, 5], rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_three_is_the_middle_one() {
        assert_eq!(summary(&[3.0, 1.0, 2.0]), Some((1.0, 2.0, 3.0)));
        assert_eq!(summary(&[]), None);
    }

    #[test]
    fn latencies_are_told_by_rank() {
        let mut samples = Samples::default();
        samples.latencies("rtt", "1pair", &mut (1..=1_000).rev().map(|us| us * 1_000).collect::<Vec<u64>>());
        let value = |metric: &str| samples.values[metric][0];
        assert_eq!(value("rtt_p50_us.1pair"), 501.0);
        assert_eq!(value("rtt_p99_us.1pair"), 991.0);
        assert_eq!(value("rtt_p999_us.1pair"), 1_000.0);
    }

    #[test]
    fn figures_have_as_many_digits_as_mean_something() {
        assert_eq!(figure(2_345_678.0), "2.35 M");
        assert_eq!(figure(23_456.0), "23.5 k");
        assert_eq!(figure(345.6), "346");
        assert_eq!(figure(4.56), "4.6");
        assert_eq!(figure(0.0456), "0.046");
    }
}
