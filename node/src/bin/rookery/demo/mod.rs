//! `rookery demo`: a mesh of real node processes on this machine forms, talks, loses a node and heals, told with measured
//! times. Nothing is pretended: the nodes are processes of the operating system that know nothing but a DNS name, the DNS
//! server is real, TLS is on, and the kill is a SIGKILL. Anything unexpected is a clear line and exit status 1.
//!
//! ```text
//! this process: CA ─▶ identities     DNS server     narrator ── client ──▶ node-1, node-2, … (one process each)
//! ```

mod cluster;
mod load;
mod narrator;
mod observer;
mod rolling;
mod story;
mod tree;

use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use cluster::Cluster;
use narrator::Narrator;

/// The whole story takes a few seconds; whatever takes longer than this has gone wrong.
const STORY_TIMEOUT: Duration = Duration::from_secs(60);

/// What else there is to tell than a mesh that loses nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Story {
    /// Each node is restarted in turn while clients write, and nothing is lost.
    Rolling,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// What is told: without it, a mesh forms, talks, loses nodes and heals.
    #[arg(value_enum)]
    story: Option<Story>,
    /// Of `rolling`: how many calls a second are aimed at.
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// How many nodes, 3 to 20.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=20))]
    nodes: u8,
    /// Leave the cluster running at the end, until Ctrl-C, and print commands to try.
    #[arg(long)]
    keep: bool,
}

/// What went otherwise than it should have.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unexpected(String);

impl Unexpected {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl From<std::io::Error> for Unexpected {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Runs the demo. True when everything went as it should.
pub(crate) fn run(args: &DemoArgs) -> std::io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(tell(args));
    runtime.shutdown_timeout(Duration::from_millis(200));
    done
}

async fn tell(args: &DemoArgs) -> std::io::Result<bool> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut narrator = Narrator::new();
    let mut cluster = None;
    let timeout = match args.story {
        None => STORY_TIMEOUT,
        Some(Story::Rolling) => STORY_TIMEOUT * u32::from(args.nodes),
    };
    let told = tokio::select! {
        told = tokio::time::timeout(timeout, told(args, &mut narrator, &mut cluster)) => {
            told.unwrap_or_else(|_| Err(Unexpected::new(format!("the demo did not end within {timeout:?}"))))
        }
        _ = interrupt.recv() => Err(Unexpected::new("interrupted")),
        _ = terminate.recv() => Err(Unexpected::new("terminated")),
    };
    let went_well = match &told {
        Ok(()) => true,
        Err(error) => {
            narrator.failure(&error.to_string())?;
            if let Some(cluster) = &mut cluster {
                let logs = cluster.keep_logs();
                narrator.hint(&format!("the nodes' logs are kept in {}", logs.display()))?;
            }
            false
        }
    };
    if went_well {
        narrator.summary()?;
    }
    if went_well
        && args.keep
        && let Some(cluster) = &mut cluster
    {
        narrator.commands(cluster)?;
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                ended = cluster.next_end() => narrator.says(&ended)?,
            }
            if !cluster.runs() {
                narrator.says("no node is left; that was the cluster")?;
                break;
            }
        }
    }
    if let Some(cluster) = cluster {
        cluster.stop().await;
    }
    Ok(went_well)
}

async fn told(args: &DemoArgs, narrator: &mut Narrator, cluster: &mut Option<Cluster>) -> Result<(), Unexpected> {
    match args.story {
        None => story::tell(args, narrator, cluster).await,
        Some(Story::Rolling) => rolling::tell(args.nodes, args.rate, narrator, cluster).await,
    }
}

impl Cluster {
    /// The program itself, as a person may type it.
    pub(crate) fn program() -> String {
        std::env::args().next().unwrap_or_else(|| "rookery".to_owned())
    }
}
