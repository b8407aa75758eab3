//! What remote cases run on: a node in this process, and others as processes of the operating system, with certificates
//! made for the run. A child ends when this process does: it watches its standard input.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use clap::Args;
use rookery_node::{
    Behaviours, Node, NodeConfig, NodeId, NodeName,
    session::policy::Policy,
    tls::{Authority, ClusterName, Identity, Overwrite},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use super::{BenchError, host, workers};

/// How long the certificates of a run are valid.
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// After this, a node that is to start or a mesh that is to form has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bodies of 64 MiB are sent.
const MAX_MESSAGE_BYTES: usize = 80 * 1024 * 1024;

/// The node in this process, and its children.
pub(super) struct Stage {
    pub(super) node: Node,
    pub(super) children: Vec<ChildNode>,
    authority: Authority,
    dir: TempDir,
}

/// A node that is a process of the operating system.
pub(super) struct ChildNode {
    pub(super) id: NodeId,
    /// Where it listens, once it does.
    pub(super) address: SocketAddr,
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// When a child starts its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    AtOnce,
    /// When it is told to, once it says that it waits.
    Told,
}

/// The hidden command that a child is.
#[derive(Debug, Args)]
pub(crate) struct BenchNodeArgs {
    #[arg(long)]
    name: String,
    #[arg(long)]
    identity: std::path::PathBuf,
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    peer: Vec<String>,
    /// Says so when it knows so many nodes.
    #[arg(long)]
    expect: usize,
    /// Says that it is there, and starts its node when it is told to by a byte.
    #[arg(long)]
    wait: bool,
}

fn config(name: &str, identity: Identity, peers: &[String]) -> Result<NodeConfig, BenchError> {
    let mut config = NodeConfig::new(NodeName::new(name)?, identity);
    config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.discovery.peers = peers.iter().map(|peer| peer.parse()).collect::<Result<_, _>>()?;
    config.connections.max_message_bytes = MAX_MESSAGE_BYTES;
    config.default_policy = Policy::all("*");
    config.behaviours = behaviours()?;
    Ok(config)
}

fn behaviours() -> Result<Behaviours, BenchError> {
    Ok(host::register(workers::register(rookery_node::stock::behaviours())?)?)
}

/// Runs a child.
pub(super) async fn run_child(args: BenchNodeArgs) -> Result<(), BenchError> {
    let mut config = config(&args.name, Identity::from_dir(&args.identity)?, &args.peer)?;
    config.listen = args.listen;
    let mut stdin = tokio::io::stdin();
    let mut byte = [0];
    if args.wait {
        super::super::out::line(&"waits")?;
        if !matches!(stdin.read(&mut byte).await, Ok(1)) {
            return Ok(());
        }
    }
    let node = Node::start(config).await?;
    super::super::out::line(&format!("ready {} {}", node.listen_address(), node.node()))?;
    let meshed = async {
        while node.nodes().len() < args.expect {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        super::super::out::line(&"meshed")?;
        std::future::pending::<Result<(), BenchError>>().await
    };
    tokio::select! {
        told = meshed => told?,
        // A byte says to leave in good order, the end to end at once.
        read = stdin.read(&mut byte) => if matches!(read, Ok(1)) { node.shut_down("told to leave").await },
    }
    Ok(())
}

impl Stage {
    /// Starts the node of this process and `children` others, and waits until all know each other.
    pub(super) async fn start(children: usize) -> Result<Self, BenchError> {
        let authority = Authority::create(&ClusterName::try_from("bench")?)?;
        let dir = tempfile::Builder::new().prefix("rookery-bench-").tempdir()?;
        let pem = authority.issue_node("bench-0", &[], DAY)?;
        let identity = Identity::from_pem(&pem.ca, &pem.cert, &pem.key)?;
        let node = Node::start(config("bench-0", identity, &[])?).await?;
        let mut stage = Self { node, children: Vec::new(), authority, dir };
        stage.issue(children)?;
        for number in 1..=children {
            let peer = stage.node.listen_address().to_string();
            stage.spawn(number, &[peer], children + 1, When::AtOnce)?;
        }
        for child in &mut stage.children {
            child.ready().await?;
        }
        stage.meshed().await?;
        Ok(stage)
    }

    /// Makes certificates for so many children.
    pub(super) fn issue(&self, children: usize) -> Result<(), BenchError> {
        for number in 1..=children {
            let name = format!("bench-{number}");
            let dir = self.dir.path().join(&name);
            if !dir.exists() {
                self.authority.issue_node(&name, &[], DAY)?.write_to(&dir, Overwrite::Refuse)?;
            }
        }
        Ok(())
    }

    /// The identity of a client of this cluster.
    pub(super) fn client(&self, name: &str) -> Result<Identity, BenchError> {
        let pem = self.authority.issue_client(name, DAY)?;
        Ok(Identity::from_pem(&pem.ca, &pem.cert, &pem.key)?)
    }

    /// Starts a child, and does not wait for it.
    pub(super) fn spawn(
        &mut self,
        number: usize,
        peers: &[String],
        expect: usize,
        when: When,
    ) -> Result<(), BenchError> {
        let name = format!("bench-{number}");
        self.children.push(ChildNode::spawn(&name, &self.dir.path().join(&name), peers, expect, when)?);
        Ok(())
    }

    /// Waits until the children are there that start their nodes when they are told to.
    pub(super) async fn waiting(&mut self) -> Result<(), BenchError> {
        for child in &mut self.children {
            child.says("waits").await?;
        }
        Ok(())
    }

    /// Waits until this node and all children know each other.
    pub(super) async fn meshed(&mut self) -> Result<(), BenchError> {
        let expect = self.children.len() + 1;
        for child in &mut self.children {
            child.says("meshed").await?;
        }
        let since = Instant::now();
        while self.node.nodes().len() < expect {
            if since.elapsed() > PATIENCE {
                return Err(BenchError::from(format!("{expect} nodes do not find each other")));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Seconds of CPU that this process and its children have used so far.
    pub(super) fn cpu_seconds(&self) -> f64 {
        let children = self.children.iter().filter_map(|child| child.process.id());
        cpu_seconds("self") + children.map(|pid| cpu_seconds(&pid.to_string())).sum::<f64>()
    }

    /// The first child.
    pub(super) fn peer(&self) -> Result<&NodeId, BenchError> {
        Ok(&self.children.first().ok_or_else(|| BenchError::from("there is no other node"))?.id)
    }
}

impl ChildNode {
    fn spawn(name: &str, identity: &Path, peers: &[String], expect: usize, when: When) -> Result<Self, BenchError> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["bench-node", "--name", name, "--listen", "127.0.0.1:0", "--expect", &expect.to_string()])
            .arg("--identity")
            .arg(identity)
            .args(peers.iter().flat_map(|peer| ["--peer", peer.as_str()]))
            .args((when == When::Told).then_some("--wait"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        let mut process = command.spawn()?;
        let stdout = process.stdout.take().ok_or_else(|| BenchError::from(format!("{name} has no output")))?;
        // Known when it is ready.
        let id = NodeId::new(NodeName::new(name)?, rookery_node::Incarnation(0));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Ok(Self { id, address, process, lines: BufReader::new(stdout).lines() })
    }

    /// Waits until it listens.
    pub(super) async fn ready(&mut self) -> Result<(), BenchError> {
        let line = self.says("ready").await?;
        let mut words = line.split(' ').skip(1);
        let bad = || BenchError::from(format!("a node says: {line}"));
        self.address = words.next().and_then(|word| word.parse().ok()).ok_or_else(bad)?;
        self.id = words.next().and_then(|word| word.parse().ok()).ok_or_else(bad)?;
        Ok(())
    }

    async fn says(&mut self, word: &str) -> Result<String, BenchError> {
        let said = async {
            while let Some(line) = self.lines.next_line().await? {
                if line.starts_with(word) {
                    return Ok(line);
                }
            }
            Err(BenchError::from(format!("{} ended before it was {word}", self.id.name())))
        };
        tokio::time::timeout(PATIENCE, said).await.map_err(|_| BenchError::from(format!("no node is {word}")))?
    }

    /// The number that the operating system gave it.
    pub(super) fn os_pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Its memory that is resident, in bytes; of `/proc/PID/statm`, in pages as they are on every Linux that we run on.
    pub(super) fn resident_bytes(&self) -> u64 {
        const PAGE_BYTES: u64 = 4096;
        let statm = self.os_pid().and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/statm")).ok());
        let pages = statm.and_then(|statm| statm.split(' ').nth(1)?.parse::<u64>().ok());
        pages.unwrap_or_default() * PAGE_BYTES
    }

    /// Tells it to leave in good order; or to start its node, if it waits for that.
    pub(super) async fn tell(&mut self) -> Result<(), BenchError> {
        use tokio::io::AsyncWriteExt;
        if let Some(stdin) = &mut self.process.stdin {
            stdin.write_all(b"x").await?;
            stdin.flush().await?;
        }
        Ok(())
    }

    /// Sends it a signal, as `KILL`, by the system's `kill`: there is no safe call for it in the standard library.
    pub(super) async fn signal(&self, signal: &str) -> Result<(), BenchError> {
        if let Some(pid) = self.os_pid() {
            Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status().await?;
        }
        Ok(())
    }
}

/// Seconds of CPU that a process has used, of `/proc/PID/stat`; a tick is a hundredth on every Linux that we run on.
fn cpu_seconds(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
