//! A soak: many nodes, each a process of the operating system, talk for minutes on a machine that has no CPU time left, over a
//! loopback that loses packets if that is asked for, and nobody may take anybody for dead. `tests/soak/run` builds and runs
//! it.
//!
//! ```text
//! this process: a client of each node, callers ── loopback of its own, losing ──▶ node-00 … node-19  (`rookery start`)
//!       │ reads their logs: up, down, suspected, heard            burners, which take what CPU time they get
//!       ▼
//! a line each ten seconds, a table at the end
//! ```
//! Exit status: 0 if no node was declared down, 1 if one was, or ended, or nothing was carried; 2 if it was misused; 77 if it
//! cannot be done on this machine.

mod load;
mod report;

use std::{
    error::Error,
    io::Write,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use rookery_tests::{
    fleet::Fleet,
    isolation,
    machine::{CpuTime, Loopback, cpu_seconds, resident_bytes},
    stalls::Stalls,
};
use tokio::signal::unix::{SignalKind, signal};

use load::Load;
use report::{Report, Usage};

/// What test harnesses and `.ci/run` take for "not done here".
const SKIPPED: u8 = 77;

/// How often logs are read.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Many nodes under full load, and nobody may be taken for dead.
#[derive(Debug, Clone, Parser)]
#[command(name = "soak")]
struct SoakArgs {
    /// How many nodes.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(2..=200))]
    nodes: u16,
    /// For how long.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// How many percent of all UDP datagrams are lost, each by chance.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=50))]
    loss: u8,
    /// Callers a node, each of which waits for its answer.
    #[arg(long, default_value_t = 8)]
    callers: usize,
    /// Processes that do nothing but take CPU time; as many as there are cores if not said.
    #[arg(long)]
    burners: Option<usize>,
    /// Seconds between two lines.
    #[arg(long, default_value_t = 10)]
    every: u64,
    /// A burner.
    #[arg(long, hide = true)]
    burn: bool,
}

fn main() -> ExitCode {
    let args = SoakArgs::parse();
    if args.burn {
        load::burn();
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.is::<Impossible>() => {
            complain(&format!("SKIPPED: {error}"));
            ExitCode::from(SKIPPED)
        }
        Err(error) => {
            complain(&format!("soak: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// What was asked for cannot be had on this machine.
#[derive(Debug)]
struct Impossible(String);

impl std::fmt::Display for Impossible {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no packets can be made to be lost here: {}", self.0)
    }
}

impl Error for Impossible {}

fn complain(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

fn say(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Whether no node was declared down.
fn run(args: &SoakArgs) -> Result<bool, Box<dyn Error>> {
    if isolation::is_inside() {
        isolation::loopback_up()?;
    } else {
        // Comes back only if it cannot be done.
        let why = isolation::enter();
        if args.loss > 0 {
            return Err(Impossible(why).into());
        }
        complain(&format!("on the loopback that all share, since it cannot have one of its own: {why}"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        // Whoever is the first process of its namespace is ended by no signal that it does not ask for.
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            done = soak(args) => done,
            _ = interrupt.recv() => Err("interrupted".into()),
            _ = terminate.recv() => Err("terminated".into()),
        }
    })
}

async fn soak(args: &SoakArgs) -> Result<bool, Box<dyn Error>> {
    let nodes = usize::from(args.nodes);
    let stalls = Stalls::watch()?;
    let mut fleet = Fleet::prepare(nodes);
    fleet.start(nodes)?;
    let (formed, told) = fleet.meshed().await?;
    let mut report = Report::new(nodes, formed);
    report.take(told);
    say(&format!("{nodes} nodes have formed a mesh in {:.1} s", formed.as_secs_f64()))?;
    let mut load = Load::connect(&fleet).await?;
    if args.loss > 0 {
        isolation::lose(f64::from(args.loss) / 100.0).map_err(Impossible)?;
    }
    let burners = args.burners.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    report.rss_begin = resident(&fleet);
    let (since, begin, network) = (Instant::now(), usage(&fleet), Loopback::now());
    load.begin(args.callers, burners)?;
    say(&format!("{} callers and {burners} burners have begun", nodes * args.callers))?;
    let whole = Duration::from_secs_f64(args.minutes.clamp(0.0, 10_000.0) * 60.0);
    let every = Duration::from_secs(args.every.max(1));
    let (mut next, mut last, mut last_at) = (every, begin, Duration::ZERO);
    while since.elapsed() < whole {
        tokio::time::sleep(LOOK_AGAIN.min(whole.saturating_sub(since.elapsed()))).await;
        for line in report.take(fleet.news()) {
            say(&line)?;
        }
        if let Some((name, status, logged)) = fleet.ended() {
            report.ended.push(format!("{name}: {status}; the last that it logged: {logged}"));
            break;
        }
        if since.elapsed() >= next {
            let (now, at) = (usage(&fleet), since.elapsed());
            say(&report.line(at, &load.carried, &resident(&fleet), now.since(last, at - last_at)))?;
            (last, last_at, next) = (now, at, next + every);
        }
    }
    report.lasted = since.elapsed();
    report.usage = usage(&fleet).since(begin, report.lasted);
    report.rss_end = resident(&fleet);
    report.carry(&load.carried);
    let carried = load.carried.clone();
    let outcome = load.end().await;
    // What was under way when it ended counts as well.
    report.carry(&carried);
    report.outcome(outcome);
    report.network = Loopback::now().since(network);
    report.lost = isolation::lost();
    report.take(fleet.news());
    report.stall = stalls.longest();
    say(&report.table(args.loss, burners))?;
    Ok(report.is_good())
}

fn resident(fleet: &Fleet) -> Vec<f64> {
    fleet.os_pids().into_iter().map(|pid| resident_bytes(pid) as f64 / f64::from(1 << 20)).collect()
}

fn usage(fleet: &Fleet) -> Usage {
    Usage { nodes: fleet.os_pids().into_iter().map(cpu_seconds).sum(), machine: CpuTime::now() }
}
