//! The chaos: nodes, each in a network namespace of its own, to which one fault after the other happens while many clients use
//! them; and a checker that judges by all that the clients saw. `tests/chaos/run` is the one command; the short run of CI is
//! `tests/tests/chaos.rs`.
//!
//! ```text
//! load (clients) ─▶ history ─▶ checker ─▶ report
//!                      ▲
//! nemesis (faults) ────┴──── probe (is all whole again?)
//! ```

mod chance;
mod checker;
mod cluster;
mod cpu;
mod evidence;
mod history;
mod load;
mod nemesis;
mod network;
mod probe;
mod recorder;
mod report;
mod run;

use std::{error::Error, io::Write, path::PathBuf, process::ExitCode, time::SystemTime};

use clap::Parser;
use rookery_tests::isolation;
use tokio::signal::unix::{SignalKind, signal};

use crate::nemesis::Kind;

/// Exit status of what could not be done here.
const SKIPPED: u8 = 77;

/// Nodes to which one fault after the other happens, and a checker that judges what their clients saw.
#[derive(Debug, Clone, Parser)]
#[command(name = "chaos")]
pub(crate) struct ChaosArgs {
    /// Nodes, each a process of the operating system.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(3..=20))]
    pub(crate) nodes: u8,
    /// Clients of each node, beside one that goes to any.
    #[arg(long, default_value_t = 2)]
    pub(crate) clients: u8,
    /// For how long faults happen.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) minutes: f64,
    /// Which faults, in turn; all if not said.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) faults: Vec<Kind>,
    /// How many seconds a fault lasts; some last longer.
    #[arg(long, default_value_t = 12.0)]
    pub(crate) seconds: f64,
    /// What chance begins with: which nodes are hit, and what clients do. Another one each time if not said.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Where the history and the nodes' logs are kept.
    #[arg(long, value_name = "DIRECTORY", default_value = "target/chaos")]
    pub(crate) keep: PathBuf,
    /// Prints the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

fn main() -> ExitCode {
    let args = ChaosArgs::parse();
    match start(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.is::<Impossible>() => {
            complain(&format!("SKIPPED: {error}"));
            ExitCode::from(SKIPPED)
        }
        Err(error) => {
            complain(&format!("chaos: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// What is needed cannot be had on this machine.
#[derive(Debug)]
struct Impossible(String);

impl std::fmt::Display for Impossible {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "nodes cannot have networks of their own here: {}", self.0)
    }
}

impl Error for Impossible {}

pub(crate) fn complain(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Whether no promise was broken.
fn start(args: &ChaosArgs) -> Result<bool, Box<dyn Error>> {
    if !isolation::is_inside() {
        // Comes back only if it cannot be done.
        return Err(Impossible(isolation::enter()).into());
    }
    network::make(usize::from(args.nodes)).map_err(Impossible)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let seed = args.seed.unwrap_or(u64::from(now.subsec_nanos()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        // Whoever is the first process of its namespace is ended by no signal that it does not ask for.
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            done = run::run(args, seed) => done,
            _ = interrupt.recv() => Err("interrupted".into()),
            _ = terminate.recv() => Err("terminated".into()),
        }
    })
}
