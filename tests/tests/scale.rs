//! `tests/scale/run`, small: it measures what it says, and makes a table of it. Figures are not judged here.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used)]

use std::{
    io::Write,
    process::{Command, Stdio},
};

use rookery_tests::program::rookery;

#[test]
fn each_mesh_is_a_row_of_figures_that_can_be() {
    drop(rookery());
    let arguments = ["2", "3", "--seconds", "2", "--settle", "0.5"];
    let output = Command::new(env!("CARGO_BIN_EXE_scale")).args(arguments).stdin(Stdio::null()).output().unwrap();
    if output.status.code() == Some(77) {
        // Straight to standard error, since the harness keeps what passing tests say.
        std::io::stderr().write_all(&output.stderr).unwrap();
        return;
    }
    let (table, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{table}{said}");
    let figures =
        |line: &str| -> Vec<f64> { line.split(['|', ',']).filter_map(|figure| figure.trim().parse().ok()).collect() };
    let rows: Vec<Vec<f64>> = table.lines().map(figures).filter(|row| row.len() == 10).collect();
    let known: Vec<_> = rows.iter().map(|row| (row[0], row[1])).collect();
    assert_eq!(known, [(2.0, 1.0), (3.0, 3.0)], "{table}");
    for row in rows {
        let [_, _, formed_ms, cpu_to_form, min_mib, median_mib, max_mib, cpu_a_minute, bytes, _] = row[..] else {
            unreachable!("{row:?}")
        };
        assert!(formed_ms > 1.0 && cpu_to_form > 0.0, "{table}");
        assert!(1.0 < min_mib && min_mib <= median_mib && median_mib <= max_mib && max_mib < 1_000.0, "{table}");
        // Idle nodes ping each other, and do little else.
        assert!((0.0..30.0).contains(&cpu_a_minute) && (10.0..1e6).contains(&bytes), "{table}");
    }
    assert!(table.contains("Memory of one more connection"), "{table}");
}
