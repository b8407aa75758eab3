//! How the commands that are clients connect: where to, as whom, how long they wait.
//!
//! Options come from flags and environment, the identity from files. What comes out is a [`Session`], or an error that
//! says what was tried and what to do about it.

use std::{fmt, path::PathBuf, time::Duration};

use clap::Args;
use rookery_client::{Client, ClientConfig, ConnectError, Server};
use rookery_node::{
    CallError, Destination, Message, NodeId, ReplyTo, Runtime, ask,
    system::{NodeInfo, SYSTEM_NAME, System},
    tls::{Identity, LoadError},
};
use thiserror::Error;

use super::out;

/// Options of every command that connects to a node.
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// Node to connect to: host, host:port, ip:port, or the DNS name of the headless Service; several by commas.
    #[arg(
        long,
        global = true,
        value_name = "SERVER",
        env = "ROOKERY_CONNECT",
        hide_env_values = true,
        default_value = "127.0.0.1:4370",
        value_delimiter = ',',
        help_heading = "Connection"
    )]
    pub(crate) connect: Vec<Server>,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
    /// How long to wait for a node, and for each answer, in milliseconds.
    #[arg(long, global = true, value_name = "MS", env = "ROOKERY_TIMEOUT_MS", hide_env_values = true, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=3_600_000), help_heading = "Connection")]
    pub(crate) timeout_ms: u64,
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// As whom a command connects.
#[derive(Debug, Args)]
pub(crate) struct IdentityArgs {
    /// Directory with the client's ca.pem, cert.pem and key.pem, as `rookery certs issue client` writes it.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "ROOKERY_IDENTITY",
        hide_env_values = true,
        help_heading = "Connection"
    )]
    pub(crate) identity: Option<PathBuf>,
    /// Certificate authority, instead of --identity.
    #[arg(long, global = true, value_name = "FILE", env = "ROOKERY_CA", hide_env_values = true, requires_all = ["cert", "key"], help_heading = "Connection")]
    pub(crate) ca: Option<PathBuf>,
    /// Client's certificate, instead of --identity.
    #[arg(long, global = true, value_name = "FILE", env = "ROOKERY_CERT", hide_env_values = true, requires_all = ["ca", "key"], help_heading = "Connection")]
    pub(crate) cert: Option<PathBuf>,
    /// Client's private key, instead of --identity.
    #[arg(long, global = true, value_name = "FILE", env = "ROOKERY_KEY", hide_env_values = true, requires_all = ["ca", "cert"], help_heading = "Connection")]
    pub(crate) key: Option<PathBuf>,
}

/// Why a command did not do what was asked.
#[derive(Debug, Error)]
pub(crate) enum CommandError {
    /// There is no identity.
    #[error(
        "no identity is given: set --identity DIR (or ROOKERY_IDENTITY) to a directory made by \
         `rookery certs issue client NAME`, or --ca, --cert and --key"
    )]
    NoIdentity,
    /// The identity cannot be loaded.
    #[error(transparent)]
    Identity(#[from] LoadError),
    /// No node could be reached.
    #[error("cannot connect to {servers}: {error}")]
    Connect {
        /// Where it was tried.
        servers: String,
        /// What came of it.
        error: ConnectError,
    },
    /// A call had no answer.
    #[error("{what}: {error}")]
    Call {
        /// What was called.
        what: String,
        /// Why there is no answer.
        error: CallError,
    },
    /// What was asked did not happen.
    #[error("{0}")]
    NotDone(String),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
}

impl CommandError {
    pub(crate) fn call(what: impl fmt::Display, error: CallError) -> Self {
        Self::Call { what: what.to_string(), error }
    }
}

/// A connected command.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) runtime: Runtime,
    pub(crate) timeout: Duration,
    pub(crate) json: bool,
}

impl IdentityArgs {
    /// Reads it.
    ///
    /// # Errors
    /// None is given, or it cannot be loaded.
    pub(crate) fn load(&self) -> Result<Identity, CommandError> {
        match (&self.identity, &self.ca, &self.cert, &self.key) {
            (_, Some(ca), Some(cert), Some(key)) => Ok(Identity::from_files(ca, cert, key)?),
            (Some(dir), ..) => Ok(Identity::from_dir(dir)?),
            _ => Err(CommandError::NoIdentity),
        }
    }
}

impl ConnectArgs {
    /// Connects, does `what`, and disconnects in good order, whatever came of it.
    pub(crate) async fn with(
        &self,
        what: impl AsyncFnOnce(&Session) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let session = self.session().await?;
        let done = what(&session).await;
        session.client.close().await;
        done
    }

    async fn session(&self) -> Result<Session, CommandError> {
        let identity = self.identity.load()?;
        let timeout = Duration::from_millis(self.timeout_ms);
        let mut config = ClientConfig::new(identity, self.connect.clone());
        config.connect_timeout = timeout;
        let client = Client::connect(config).await.map_err(|error| {
            let servers = self.connect.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            CommandError::Connect { servers, error }
        })?;
        let runtime = client.runtime();
        Ok(Session { client, runtime, timeout, json: self.json })
    }
}

impl Session {
    /// What `node` tells of itself.
    pub(crate) async fn info(&self, node: &NodeId) -> Result<NodeInfo, CommandError> {
        let system = self.runtime.address::<System>(system_of(node)?);
        let info = system.call_within(self.timeout, System::Info).await;
        info.map_err(|error| CommandError::call(node.name(), error))
    }

    /// Asks each node the same at the same time, so that one that is silent costs one wait. What they answered, in the
    /// order of `nodes`, and what came of those that did not.
    pub(crate) async fn ask_each<T: Message>(
        &self,
        nodes: &[NodeId],
        ask: impl Fn(ReplyTo<T>) -> System + Clone + Send + 'static,
    ) -> Result<Answers<T>, CommandError> {
        let ask::Answers { answered, silent } = ask::each(&self.runtime, nodes, self.timeout, ask).await;
        Ok(Answers { answered, silent })
    }

    /// The nodes of the cluster, as the connected one knows them.
    pub(crate) async fn nodes(&self) -> Result<Vec<NodeId>, CommandError> {
        let here = self.info(self.runtime.node()).await?;
        let mut nodes: Vec<NodeId> = here.peers.into_iter().map(|peer| peer.node).chain([here.node]).collect();
        nodes.sort();
        Ok(nodes)
    }

    /// The node of that name, or the connected one.
    pub(crate) async fn node(&self, name: Option<&str>) -> Result<NodeId, CommandError> {
        let Some(name) = name else { return Ok(self.runtime.node().clone()) };
        let nodes = self.nodes().await?;
        let known = nodes.iter().map(|node| node.name().to_string()).collect::<Vec<_>>().join(", ");
        let node = nodes.into_iter().find(|node| node.name().as_str() == name);
        node.ok_or_else(|| CommandError::NotDone(format!("no node `{name}` is up; up are: {known}")))
    }

    /// Prints a value as one line of JSON.
    pub(crate) fn print_json(&self, value: &impl serde::Serialize) -> Result<(), CommandError> {
        let text = serde_json::to_string(value).map_err(std::io::Error::from)?;
        Ok(out::line(&text)?)
    }
}

/// What several nodes answered.
pub(crate) struct Answers<T> {
    pub(crate) answered: Vec<(NodeId, T)>,
    /// Those that did not, with why.
    pub(crate) silent: Vec<String>,
}

impl<T> Answers<T> {
    /// What is left to be said when all that was answered is printed.
    ///
    /// # Errors
    /// A node did not answer.
    pub(crate) fn all(self) -> Result<(), CommandError> {
        match self.silent.is_empty() {
            true => Ok(()),
            false => Err(CommandError::NotDone(format!("did not answer: {}", self.silent.join("; ")))),
        }
    }
}

/// The node itself, as a process.
pub(crate) fn system_of(node: &NodeId) -> Result<Destination, CommandError> {
    let name = SYSTEM_NAME.parse().map_err(|error| CommandError::NotDone(format!("{error}")))?;
    Ok(Destination::name(node.clone(), name))
}
