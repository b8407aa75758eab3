//! `deploy/METRICS.md` is what people read, and what alerts and dashboards are written by: it has to have each metric, with what the
//! code says of it, and no other.

use super::table::{ALL, Metric};

fn row(metric: &Metric) -> String {
    let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    format!("| `{}` | {} | {} | {} |", metric.name, metric.kind.name(), labels.join(", "), metric.help)
}

#[test]
fn each_metric_is_in_the_table_that_people_read_and_no_other() {
    let table = include_str!("../../../../deploy/METRICS.md");
    let written: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
    let known: Vec<String> = ALL.iter().map(row).collect();
    let missing: Vec<&String> = known.iter().filter(|row| !written.contains(&row.as_str())).collect();
    assert!(
        missing.is_empty(),
        "deploy/METRICS.md needs:\n{}",
        missing.iter().map(|row| format!("{row}\n")).collect::<String>()
    );
    let unknown: Vec<&&str> = written.iter().filter(|row| !known.iter().any(|known| known == **row)).collect();
    assert!(unknown.is_empty(), "deploy/METRICS.md has what there is not: {unknown:?}");
}

#[test]
fn names_are_by_the_conventions() {
    for metric in ALL {
        let is_counter = metric.kind == super::table::Kind::Counter;
        assert_eq!(
            metric.name.ends_with("_total"),
            is_counter,
            "{}: counters end in _total, and nothing else",
            metric.name
        );
        assert!(metric.name.starts_with("rookery_") || metric.name.starts_with("process_"), "{}", metric.name);
        assert!(metric.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", metric.name);
        assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{}", metric.name);
    }
    let mut names: Vec<&str> = ALL.iter().map(|metric| metric.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ALL.len(), "a name twice");
}
