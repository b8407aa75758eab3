//! `rookery bench`: measures what this machine does with processes, here and between nodes that are processes of the
//! operating system, over TLS as always.
//!
//! ```text
//! this process: node bench-0, senders, clocks ── QUIC ──▶ bench-1, bench-2, …  (`rookery bench-node`, one process each)
//! ```
//! Each case warms up, runs at least three times, and tells the median with the smallest and the largest.

mod bare;
mod client;
mod cluster;
mod directory;
mod host;
mod local;
mod memory;
mod remote;
mod report;
mod stage;
mod workers;

use std::io::{self, Write};

use clap::{Args, ValueEnum, error::ErrorKind};
use rookery_client::{ClientConfig, Server};

use super::connect::IdentityArgs;
pub(crate) use bare::BenchQuinnArgs;
use report::{Report, Samples};
pub(crate) use stage::BenchNodeArgs;

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to measure; all of it if not said.
    #[arg(value_enum)]
    cases: Vec<Case>,
    /// List the cases, and measure nothing.
    #[arg(long)]
    list: bool,
    /// A line of JSON for each metric.
    #[arg(long)]
    json: bool,
    /// How often each is measured.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(3..=1000))]
    runs: u16,
    /// How long a run takes, where that can be chosen.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    seconds: f64,
    /// Short runs, to see that it works: the figures mean little.
    #[arg(long)]
    quick: bool,
    /// Measure a cluster that runs, as a client of it: client-rtt, client-throughput and remote-call. The client's policy
    /// must let it start and link `echo` and `counter`.
    #[arg(long, value_name = "SERVER", value_delimiter = ',', help_heading = "Connection")]
    connect: Vec<Server>,
    #[command(flatten)]
    identity: IdentityArgs,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// Messages one way within a node, from one and from eight senders.
    LocalSend,
    /// Calls of a server within a node.
    LocalCall,
    /// Messages to and fro between two processes of a node.
    LocalPingpong,
    /// One message that goes round through a thousand processes of a node.
    Ring,
    /// Processes that end at once.
    Spawn,
    /// What a node takes of memory, and what a process does, of a million that wait.
    IdleMemory,
    /// From the kill of a supervised child until the next one runs.
    Restart,
    /// Round trips of 16 bytes between two nodes, by messages both ways.
    Rtt,
    /// Messages one way between two nodes.
    Throughput,
    /// Large messages one way between two nodes.
    Bulk,
    /// What 64 MiB bodies do to a ping between other processes of the same two nodes.
    Hol,
    /// Calls to another node.
    RemoteCall,
    /// Processes started on another node.
    RemoteSpawn,
    /// From a process's end on another node to the `Down` here.
    MonitorDown,
    /// Names that are taken in a cluster of five, until all nodes know them.
    Names,
    /// Ten thousand processes that join a group, until all of three nodes know all.
    Groups,
    /// One message to a group of ten thousand on three nodes, until all have it.
    Fanout,
    /// From a node's end to the `NodeDown` here: orderly, killed, hung.
    Nodedown,
    /// Until a mesh has formed.
    Mesh,
    /// Round trips of 16 bytes between a client and its node, by calls.
    ClientRtt,
    /// Messages one way from a client to its node.
    ClientThroughput,
    /// quinn without Rookery, to hold the others against.
    BareQuinn,
}

impl Case {
    /// Those that a client can measure with what every cluster has.
    const OF_A_CLIENT: [Self; 3] = [Self::ClientRtt, Self::ClientThroughput, Self::RemoteCall];
}

/// Why nothing was measured, in words.
pub(crate) type BenchError = Box<dyn std::error::Error + Send + Sync>;

/// How much is measured.
struct Plan {
    runs: usize,
    seconds: f64,
    quick: bool,
    /// The cluster that runs, if that is to be measured.
    cluster: Option<ClientConfig>,
}

impl Plan {
    /// How long is run without being counted.
    fn warm_up(&self) -> f64 {
        self.seconds / 3.0
    }

    /// So many, or few if it is to be quick.
    fn count(&self, count: usize) -> usize {
        if self.quick { count.div_ceil(20) } else { count }
    }

    /// The sizes of the meshes that are formed.
    fn meshes(&self) -> Vec<usize> {
        if self.quick { vec![3] } else { vec![5, 10, 20] }
    }

    /// Shows that it is alive.
    fn say(&self, variant: &str) {
        drop(writeln!(io::stderr(), "  {variant}, {} runs", self.runs));
    }
}

/// Runs the cases.
pub(crate) fn run(args: &BenchArgs) -> Result<(), BenchError> {
    let all = Case::value_variants();
    if args.list {
        for case in all {
            let value = case.to_possible_value();
            let help = value.as_ref().and_then(|value| value.get_help()).map(ToString::to_string).unwrap_or_default();
            super::out::line(&format!("{:18}{help}", name(*case)))?;
        }
        return Ok(());
    }
    let connected = !args.connect.is_empty();
    let cases = match args.cases.as_slice() {
        [] if connected => &Case::OF_A_CLIENT,
        [] => all,
        cases => cases,
    };
    if let Some(case) = cases.iter().find(|case| connected && !Case::OF_A_CLIENT.contains(case)) {
        let cases = Case::OF_A_CLIENT.map(name).join(", ");
        let text = format!("{} starts nodes of its own; --connect is for {cases}\n", name(*case));
        clap::Error::raw(ErrorKind::ArgumentConflict, text).exit();
    }
    let cluster =
        connected.then(|| Ok::<_, BenchError>(ClientConfig::new(args.identity.load()?, args.connect.clone())));
    let seconds = if args.quick { 0.1 } else { args.seconds.clamp(0.05, 600.0) };
    let plan = Plan { runs: usize::from(args.runs), seconds, quick: args.quick, cluster: cluster.transpose()? };
    let report = Report { json: args.json };
    report.machine()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("rookery-process").enable_all().build()?;
    for &case in cases {
        drop(writeln!(io::stderr(), "{}", name(case)));
        let mut samples = Samples::default();
        runtime.block_on(measure(case, &plan, &mut samples))?;
        report.case(&name(case), &samples)?;
    }
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    Ok(())
}

/// Runs a node that a bench has started.
pub(crate) fn run_node(args: BenchNodeArgs) -> Result<(), BenchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("rookery-process").enable_all().build()?;
    let ended = runtime.block_on(stage::run_child(args));
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    ended
}

/// Runs the other end of `bare-quinn`.
pub(crate) fn run_quinn(args: BenchQuinnArgs) -> Result<(), BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(bare::serve(args));
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    ended
}

fn name(case: Case) -> String {
    case.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

async fn measure(case: Case, plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    match case {
        Case::LocalSend => local::send(plan, samples).await,
        Case::LocalCall => local::call(plan, samples).await,
        Case::LocalPingpong => local::pingpong(plan, samples).await,
        Case::Ring => local::ring(plan, samples).await,
        Case::Spawn => local::spawn(plan, samples).await,
        Case::IdleMemory => memory::idle(plan, samples).await,
        Case::Restart => local::restart(plan, samples).await,
        Case::Rtt => remote::rtt(plan, samples).await,
        Case::Throughput => remote::throughput(plan, samples).await,
        Case::Bulk => remote::bulk(plan, samples).await,
        Case::Hol => remote::hol(plan, samples).await,
        Case::RemoteCall if plan.cluster.is_some() => client::remote_call(plan, samples).await,
        Case::RemoteCall => remote::remote_call(plan, samples).await,
        Case::RemoteSpawn => remote::remote_spawn(plan, samples).await,
        Case::MonitorDown => remote::monitor_down(plan, samples).await,
        Case::Names => directory::names(plan, samples).await,
        Case::Groups => directory::groups(plan, samples).await,
        Case::Fanout => directory::fanout(plan, samples).await,
        Case::Nodedown => cluster::nodedown(plan, samples).await,
        Case::Mesh => cluster::mesh(plan, samples).await,
        Case::ClientRtt => client::rtt(plan, samples).await,
        Case::ClientThroughput => client::throughput(plan, samples).await,
        Case::BareQuinn => bare::bare_quinn(plan, samples).await,
    }
}
