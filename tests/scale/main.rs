//! What a node costs as the mesh grows: for each number of nodes, each a process of the operating system, how long the mesh
//! takes to form, and what it takes while nothing happens in it: memory, CPU, bytes. `tests/scale/run` builds and runs it.
//!
//! It prints a table in Markdown. The loopback is its own (`isolation.rs`), so every byte on it is the nodes'. Exit status: 0
//! if all was measured, 1 if a mesh did not form or lost a connection, 2 if it was misused, 77 if it cannot be done here.

use std::{
    error::Error,
    io::Write,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use rookery_tests::{
    fleet::{Fleet, News},
    isolation,
    machine::{Loopback, cpu_seconds, describe, resident_bytes, spread, today},
    program::rookery,
};
use tokio::signal::unix::{SignalKind, signal};

/// What test harnesses and `.ci/run` take for "not done here".
const SKIPPED: u8 = 77;

const MIB: f64 = 1024.0 * 1024.0;
const KIB: f64 = 1024.0;

/// What a node costs as the mesh grows.
#[derive(Debug, Parser)]
#[command(name = "scale")]
struct ScaleArgs {
    /// How many nodes, for each row.
    #[arg(default_values_t = [5, 10, 20, 50], value_parser = clap::value_parser!(u16).range(2..=500))]
    nodes: Vec<u16>,
    /// For how many seconds an idle mesh is measured.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// For how many seconds it is left alone before: a new connection still learns the path.
    #[arg(long, default_value_t = 15.0)]
    settle: f64,
}

/// What was measured of one mesh.
struct Row {
    nodes: usize,
    formed: Duration,
    /// Of all nodes together until it had formed, in seconds.
    cpu_to_form: f64,
    /// Of each node, idle, in bytes.
    resident: Vec<f64>,
    /// Of one node in a minute, idle, in seconds.
    cpu_a_minute: f64,
    /// What one node sends in a second, idle.
    bytes_a_second: f64,
    datagrams_a_second: f64,
}

fn main() -> ExitCode {
    let args = ScaleArgs::parse();
    if !isolation::is_inside() {
        // Comes back only if it cannot be done.
        let why = isolation::enter();
        complain(&format!("SKIPPED: no loopback of its own can be had here, so bytes cannot be counted: {why}"));
        return ExitCode::from(SKIPPED);
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("scale: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn complain(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

fn run(args: &ScaleArgs) -> Result<(), Box<dyn Error>> {
    isolation::loopback_up()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Whoever is the first process of its namespace is ended by no signal that it does not ask for.
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            done = measure_all(args) => done,
            _ = interrupt.recv() => Err("interrupted".into()),
            _ = terminate.recv() => Err("terminated".into()),
        }
    })
}

async fn measure_all(args: &ScaleArgs) -> Result<(), Box<dyn Error>> {
    let mut rows = Vec::new();
    for &nodes in &args.nodes {
        complain(&format!("{nodes} nodes"));
        rows.push(measure(usize::from(nodes), args).await?);
    }
    let mut out = std::io::stdout();
    writeln!(out, "{}; {}; idle for {} s\n", today(), describe(&rookery()), args.seconds)?;
    out.write_all(table(&rows).as_bytes())?;
    Ok(())
}

async fn measure(nodes: usize, args: &ScaleArgs) -> Result<Row, Box<dyn Error>> {
    let time = |seconds: f64| Duration::from_secs_f64(seconds.clamp(0.1, 86_400.0));
    let mut fleet = Fleet::prepare(nodes);
    let began = Instant::now();
    fleet.start(nodes)?;
    let (_, mut told) = fleet.meshed().await?;
    let formed = began.elapsed();
    let cpu = |fleet: &Fleet| fleet.os_pids().into_iter().map(cpu_seconds).sum::<f64>();
    let cpu_to_form = cpu(&fleet);
    tokio::time::sleep(time(args.settle)).await;
    let (since, cpu_before, network) = (Instant::now(), cpu(&fleet), Loopback::now());
    tokio::time::sleep(time(args.seconds)).await;
    let (network, used) = (Loopback::now().since(network), cpu(&fleet) - cpu_before);
    let node_seconds = since.elapsed().as_secs_f64() * nodes as f64;
    told.extend(fleet.news());
    if let Some(down) = told.iter().find(|told| matches!(told.news, News::Down(_))) {
        return Err(format!("a connection was lost: {down:?}").into());
    }
    if let Some((name, status, last)) = fleet.ended() {
        return Err(format!("{name} has ended: {status}: {last}").into());
    }
    Ok(Row {
        nodes,
        formed,
        cpu_to_form,
        resident: fleet.os_pids().into_iter().map(|pid| resident_bytes(pid) as f64).collect(),
        cpu_a_minute: used * 60.0 / node_seconds,
        bytes_a_second: network.bytes as f64 / node_seconds,
        datagrams_a_second: network.sent as f64 / node_seconds,
    })
}

/// In Markdown, with what a connection takes of memory below it.
fn table(rows: &[Row]) -> String {
    let mut table = "| nodes | connections | formed, ms | CPU to form, s | RSS a node, MiB: min, median, max | idle: CPU s a node \
                     and minute | idle: B/s sent by a node | idle: datagrams/s |\n|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for row in rows {
        let (min, median, max) = spread(&row.resident).unwrap_or_default();
        table += &format!(
            "| {} | {} | {:.0} | {:.2} | {:.1}, {:.1}, {:.1} | {:.3} | {:.0} | {:.1} |\n",
            row.nodes,
            row.nodes * (row.nodes - 1) / 2,
            row.formed.as_secs_f64() * 1e3,
            row.cpu_to_form,
            min / MIB,
            median / MIB,
            max / MIB,
            row.cpu_a_minute,
            row.bytes_a_second,
            row.datagrams_a_second,
        );
    }
    let points: Vec<(f64, f64)> =
        rows.iter().filter_map(|row| Some(((row.nodes - 1) as f64, spread(&row.resident)?.1))).collect();
    if let Some((slope, alone)) = line_through(&points) {
        let (kib, mib) = (slope / KIB, alone / MIB);
        table += &format!(
            "\nMemory of one more connection, at one end: {kib:.0} KiB (slope of the medians; {mib:.1} MiB without any).\n"
        );
    }
    table
}

/// The slope of the line of least squares, and where it begins. None of fewer than two different points.
fn line_through(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
    slope.is_finite().then_some((slope, y - slope * x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_through_its_points() {
        assert_eq!(line_through(&[(1.0, 5.0), (3.0, 9.0), (2.0, 7.0)]), Some((2.0, 3.0)));
        assert_eq!(line_through(&[(1.0, 5.0)]), None);
        assert_eq!(line_through(&[]), None);
    }
}
