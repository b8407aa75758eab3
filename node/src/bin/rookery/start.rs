//! `rookery start`: runs a node until it is told to stop.
//!
//! Settings become a [`NodeConfig`]; the stock behaviours of `--boot`, under their own names, and the trees of the file
//! are started by a supervisor, `rookery:boot`. SIGTERM or SIGINT ends the node in good order, a second one at once.
//!
//! A node whose clock was wrong can be older than its last life, by what others know, and is refused by them for ever. It lives,
//! so nobody else starts it again: it is ended here, and another one started that is newer.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rookery_node::{
    AdminConfig, ConnectionSettings, DetectorSettings, Node, NodeConfig, NodeName, Outlived, SpawnOptions, Start,
    StartError,
    admin::dashboard::{DashboardConfig, Token},
    discovery::DiscoveryConfig,
    session::policy::{Pattern, Policy},
    stock,
    supervise::{ChildId, ChildSpec, ChildStart, ClusterSupervisor, Strategy, Supervisor, SupervisorSpec},
    tls::{Identity, LoadError},
    trace::config::TraceConfig,
};
use thiserror::Error;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use super::settings::{ClientPolicy, Glob, Host, IdentitySource, Settings, Tree};

/// How often a node starts anew since it was outlived. Once is enough for a clock that was wrong; two nodes that have one name and
/// take turns are not to go on for ever, and whoever watches over this one is to see that.
const MAX_NEW_LIVES: usize = 3;

/// For how long the ports of the last life may still be taken.
const PORTS_FREE_WITHIN: Duration = Duration::from_secs(5);

/// Why a node does not run.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    /// The identity.
    #[error("{0}")]
    Identity(#[from] LoadError),
    /// The certificate is of another cluster.
    #[error(
        "the certificate is of cluster `{has}`, but --cluster says `{wants}`: issue one for it, or leave --cluster out"
    )]
    Cluster {
        /// What the certificate says.
        has: String,
        /// What was set.
        wants: String,
    },
    /// The dashboard's token.
    #[error("cannot use the dashboard's token in {}: {why}", file.display())]
    Token {
        /// Its file.
        file: PathBuf,
        /// Why not.
        why: String,
    },
    /// A name.
    #[error("{0}")]
    Name(String),
    /// The node.
    #[error("cannot start the node: {0}")]
    Start(#[from] StartError),
    /// What it starts at once.
    #[error("cannot start the behaviours of --boot and the supervisors of the file: {0}")]
    Boot(String),
    /// Newer lives of it come and go.
    #[error(
        "gave up after {MAX_NEW_LIVES} new lives: {0}; look for another node of this name, and at the clocks of both machines"
    )]
    Outlived(Outlived),
    /// The operating system.
    #[error("cannot run: {0}")]
    System(#[from] std::io::Error),
}

/// Runs the node that `settings` describe. Returns when it has left in good order.
pub(crate) fn run(settings: Settings) -> Result<(), RunError> {
    // For signals of the operating system, and the timers of processes: the node has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(run_until_stopped(settings));
    // What does not end by itself, as a blocking call of a process, is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(500));
    ended
}

async fn run_until_stopped(settings: Settings) -> Result<(), RunError> {
    // Before anything can be told to stop.
    let mut stop = Stop { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let mut config = node_config(settings.clone())?;
    for begun_anew in 0.. {
        let node = start(config, begun_anew > 0).await?;
        let had_admin = node.admin_address().is_some();
        let Some(outlived) = live(node, &settings, &mut stop).await? else { break };
        if begun_anew == MAX_NEW_LIVES {
            return Err(RunError::Outlived(outlived));
        }
        // Its files may hold another identity by now.
        config = node_config(settings.clone())?;
        config.incarnation = Some(outlived.next());
        config.admin = config.admin.filter(|_| had_admin).map(|admin| AdminConfig { required: true, ..admin });
        tracing::warn!(newest = %outlived.newest, known_by = %outlived.by, "begins anew, with a larger incarnation");
    }
    Ok(())
}

/// Starts the node, `anew` where another one was there just now, whose ports are about to be free.
async fn start(config: NodeConfig, anew: bool) -> Result<Node, RunError> {
    let until = Instant::now() + PORTS_FREE_WITHIN;
    loop {
        match Node::start(config.clone()).await {
            Err(StartError::Listen { .. } | StartError::Admin { .. }) if anew && Instant::now() < until => {
                tokio::time::sleep(PORTS_FREE_WITHIN / 50).await;
            }
            started => return Ok(started?),
        }
    }
}

/// What the operating system says to end the node.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    async fn told(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "terminated (SIGTERM)",
            _ = self.interrupt.recv() => "interrupted (SIGINT)",
        }
    }
}

/// One life of the node, until it is told to stop, or was found to be outlived.
async fn live(node: Node, settings: &Settings, stop: &mut Stop) -> Result<Option<Outlived>, RunError> {
    // Children that wait for a node to live on do not keep this one from serving, or from being stopped.
    let booted = async {
        match start_boot(&node, &settings.boot, &settings.trees).await {
            Ok(()) => {
                node.booted();
                std::future::pending().await
            }
            Err(error) => error,
        }
    };
    let (why, ended) = tokio::select! {
        why = stop.told() => (why, Ok(None)),
        outlived = node.outlived() => ("it begins anew, with a larger incarnation", Ok(Some(outlived))),
        error = booted => ("it could not start what it was told to", Err(error)),
    };
    let mut begins_anew = matches!(ended, Ok(Some(_)));
    let stopping = node.shut_down(why);
    tokio::pin!(stopping);
    loop {
        tokio::select! {
            () = &mut stopping => break,
            told = stop.told(), if ended.is_ok() => {
                if !begins_anew {
                    tracing::warn!("told again to stop: stopping at once");
                    return Ok(None);
                }
                tracing::info!("{told}: it does not begin anew");
                begins_anew = false;
            }
        }
    }
    tracing::info!("node stopped");
    ended.map(|outlived| outlived.filter(|_| begins_anew))
}

/// Starts the stock behaviours under their own names and the trees of the file, supervised.
async fn start_boot(node: &Node, boot: &[String], trees: &[Tree]) -> Result<(), RunError> {
    if boot.is_empty() && trees.is_empty() {
        return Ok(());
    }
    let mut children = Vec::new();
    for name in boot {
        let bad = |error: &dyn std::fmt::Display| RunError::Boot(format!("{name}: {error}"));
        let behaviour = name.parse().map_err(|error| bad(&error))?;
        let start = Start::json(behaviour, "null").name(name.parse().map_err(|error| bad(&error))?);
        let id = ChildId::new(name).map_err(|error| bad(&error))?;
        children.push(ChildSpec::new(id, ChildStart::behaviour(start)));
    }
    for tree in trees.iter().filter(|tree| !tree.cluster) {
        let bad = |error: &dyn std::fmt::Display| RunError::Boot(format!("supervisor {}: {error}", tree.name));
        let name = tree.name.parse().map_err(|error| bad(&error))?;
        let id = ChildId::new(&tree.name).map_err(|error| bad(&error))?;
        let spec = SupervisorSpec::from(tree.data.clone()).name(name);
        children.push(ChildSpec::new(id, ChildStart::supervisor(spec)));
    }
    let name = "rookery:boot".parse().map_err(|error| RunError::Boot(format!("{error}")))?;
    let mut spec = SupervisorSpec::new(Strategy::OneForOne).name(name);
    spec.children = children;
    // Nobody would start it again.
    Supervisor::start_with(node, spec, SpawnOptions::new().vital())
        .await
        .map_err(|error| RunError::Boot(error.to_string()))?;
    for tree in trees.iter().filter(|tree| tree.cluster) {
        let bad = |error: &dyn std::fmt::Display| RunError::Boot(format!("supervisor {}: {error}", tree.name));
        let name = tree.name.parse().map_err(|error| bad(&error))?;
        ClusterSupervisor::start(node, name, tree.data.clone()).await.map_err(|error| bad(&error))?;
    }
    let trees: Vec<&str> = trees.iter().map(|tree| tree.name.as_str()).collect();
    tracing::info!(behaviours = boot.join(","), supervisors = trees.join(","), "started under their own names");
    Ok(())
}

/// What the node is started with. Reads the identity, and nothing else.
pub(crate) fn node_config(settings: Settings) -> Result<NodeConfig, RunError> {
    let identity = match &settings.identity {
        IdentitySource::Directory(dir) => Identity::from_dir(dir)?,
        IdentitySource::Files { ca, cert, key } => Identity::from_files(ca, cert, key)?,
    };
    let has = identity.own().cluster.as_str().to_owned();
    if let Some(wants) = &settings.cluster
        && *wants != has
    {
        return Err(RunError::Cluster { has, wants: wants.clone() });
    }
    let name = NodeName::new(&settings.name).map_err(|error| RunError::Name(error.to_string()))?;
    let listen = settings.listen;
    let peers = settings.peers.iter().map(|peer| {
        let text = match &peer.host {
            Host::Ip(ip) => std::net::SocketAddr::new(*ip, peer.port).to_string(),
            Host::Name(name) => format!("{name}:{}", peer.port),
        };
        text.parse().map_err(|error| RunError::Name(format!("{text}: {error}")))
    });
    let mut discovery = DiscoveryConfig::new(rookery_node::DEFAULT_PORT);
    discovery.peers = peers.collect::<Result<_, _>>()?;
    discovery.service = settings.service.clone();
    discovery.dns_servers.clone_from(&settings.dns_servers);
    discovery.poll_min = settings.poll_min;
    discovery.poll_max = settings.poll_max;
    let mut config = NodeConfig::new(name, identity);
    config.listen = listen;
    config.advertise = settings.advertise.iter().map(|address| address.with_default_port(listen.port())).collect();
    config.discovery = discovery;
    config.connections = ConnectionSettings {
        keep_alive: settings.keep_alive,
        idle_timeout: settings.idle_timeout,
        handshake_timeout: settings.handshake_timeout,
        max_message_bytes: settings.max_message_bytes as usize,
        lanes: settings.lanes,
        outbound_budget_bytes: settings.outbound_budget_bytes,
    };
    config.detector = DetectorSettings { suspect_after: settings.suspect_after, down_after: settings.down_after };
    config.labels = settings.labels.clone();
    config.behaviours = stock::behaviours();
    config.policies = settings.clients.iter().map(policy).collect();
    config.max_clients = settings.max_clients;
    config.drain_timeout = settings.drain_timeout;
    config.worker_threads = settings.worker_threads;
    config.admin = settings.admin.map(|admin| AdminConfig {
        listen: admin.address,
        required: admin.is_given,
        waits_for_boot: true,
    });
    let cluster = config.identity.own().cluster.as_str();
    config.traces = settings.otlp_endpoint.clone().map(|endpoint| TraceConfig {
        endpoint,
        ratio: settings.trace_ratio,
        service: cluster.to_owned(),
        instance: settings.name.clone(),
    });
    let token = settings.dashboard_token.as_deref().map(token).transpose()?;
    config.dashboard = DashboardConfig { reach: settings.dashboard, token };
    Ok(config)
}

fn token(file: &Path) -> Result<Token, RunError> {
    let bad = |why: &dyn std::fmt::Display| RunError::Token { file: file.to_owned(), why: why.to_string() };
    let text = std::fs::read_to_string(file).map_err(|error| bad(&error))?;
    text.trim().parse().map_err(|error| bad(&error))
}

fn policy(policy: &ClientPolicy) -> Policy {
    let patterns = |globs: &[Glob]| globs.iter().map(|glob| Pattern::new(glob.as_str())).collect();
    Policy {
        clients: Pattern::new(policy.name.as_str()),
        send: patterns(&policy.send),
        spawn: patterns(&policy.spawn),
        register: patterns(&policy.register),
        join: patterns(&policy.join),
        monitor: policy.monitor,
        link: policy.link,
        exit: policy.exit,
    }
}
