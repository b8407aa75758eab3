//! The demo's machines: a CA, a DNS server, and nodes as processes of the operating system. Everything lies in one
//! directory that goes with the demo; every process ends with it.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rookery_node::{
    devdns::DevDns,
    tls::{Authority, ClusterName, Identity, Overwrite},
};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::Unexpected;

/// The name that the nodes look for: all that they know.
pub(super) const SERVICE: &str = "rookery.demo.svc.cluster.local";

/// The name in the demo client's certificate.
pub(super) const CLIENT: &str = "demo";

/// How long certificates of the demo are valid.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a node has to stop by itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// How often the nodes of a kept cluster are looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The cluster's supervisor, and the group that its children are in.
pub(super) const TREE: &str = "shop";
pub(super) const GROUP: &str = "desks";

/// How many of its children there are for each node.
pub(super) const DESKS_PER_NODE: usize = 2;

/// The store of the rolling restart, by its name in the cluster.
pub(super) const STORE: &str = "prices";

/// A tree of the cluster: a store, and counters on all nodes.
fn rolling_config(nodes: u8) -> String {
    let mut config = format!(
        r#"[[client]]
name = "{CLIENT}"

[[supervisor]]
name = "{TREE}"
cluster = true

[[supervisor.children]]
id = "store"
behaviour = "kv"
cluster_name = "{STORE}"
groups = ["{GROUP}"]
placement = "spread"
"#
    );
    for number in 1..usize::from(nodes) * DESKS_PER_NODE {
        config += &format!(
            r#"
[[supervisor.children]]
id = "counter-{number}"
behaviour = "counter"
groups = ["{GROUP}"]
placement = "spread"
"#
        );
    }
    config
}

/// What the demo's client may do, all that the story and the commands to try need; and a tree that the cluster runs.
fn config(nodes: u8) -> String {
    let mut config = format!(
        r#"[[client]]
name = "{CLIENT}"
spawn = ["*"]
register = ["*"]
join = ["*"]
link = true
exit = true

[[supervisor]]
name = "{TREE}"
cluster = true
"#
    );
    for desk in 1..=usize::from(nodes) * DESKS_PER_NODE {
        config += &format!(
            r#"
[[supervisor.children]]
id = "desk-{desk}"
behaviour = "echo"
groups = ["{GROUP}"]
placement = "spread"
"#
        );
    }
    config
}

/// One node's process.
pub(super) struct NodeProcess {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    child: Option<Child>,
    /// How much its log had when it was last started.
    logged: usize,
}

impl NodeProcess {
    /// The number that the operating system gave it.
    pub(super) fn os_pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }
}

/// See the module.
pub(crate) struct Cluster {
    dir: Option<TempDir>,
    root: PathBuf,
    dns: DevDns,
    pub(super) nodes: Vec<NodeProcess>,
}

impl Cluster {
    /// Makes the CA, the identities and the DNS server. No node runs yet.
    pub(super) async fn prepare(nodes: u8) -> Result<Self, Unexpected> {
        Self::prepare_with(nodes, config(nodes)).await
    }

    /// As [`prepare`](Self::prepare), for the rolling restart.
    pub(super) async fn prepare_rolling(nodes: u8) -> Result<Self, Unexpected> {
        Self::prepare_with(nodes, rolling_config(nodes)).await
    }

    async fn prepare_with(nodes: u8, config: String) -> Result<Self, Unexpected> {
        let dir = tempfile::Builder::new().prefix("rookery-demo-").tempdir()?;
        let root = dir.path().to_owned();
        let made = |error: &dyn std::fmt::Display| Unexpected::new(format!("cannot make identities: {error}"));
        let cluster = ClusterName::try_from("demo").map_err(|error| made(&error))?;
        let authority = Authority::create(&cluster).map_err(|error| made(&error))?;
        let names: Vec<String> = (1..=nodes).map(|number| format!("node-{number}")).collect();
        for name in &names {
            let issued = authority.issue_node(name, &[], DAY).map_err(|error| made(&error))?;
            issued.write_to(&root.join(name), Overwrite::Refuse).map_err(|error| made(&error))?;
        }
        let issued = authority.issue_client(CLIENT, DAY).map_err(|error| made(&error))?;
        issued.write_to(&root.join("client"), Overwrite::Refuse).map_err(|error| made(&error))?;
        std::fs::write(root.join("rookery.toml"), config)?;
        let dns = DevDns::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let addresses = free_addresses(names.len())?;
        let pods = names.iter().cloned().zip(addresses.iter().copied()).collect();
        dns.set(SERVICE, pods)?;
        let nodes = names
            .into_iter()
            .zip(addresses)
            .map(|(name, address)| NodeProcess { name, address, child: None, logged: 0 })
            .collect();
        Ok(Self { dir: Some(dir), root, dns, nodes })
    }

    pub(super) fn dns_address(&self) -> SocketAddr {
        self.dns.addr()
    }

    /// The identity of the demo's client.
    pub(super) fn client_identity(&self) -> Result<Identity, Unexpected> {
        Identity::from_dir(&self.client_dir()).map_err(|error| Unexpected::new(error.to_string()))
    }

    pub(super) fn client_dir(&self) -> PathBuf {
        self.root.join("client")
    }

    /// Starts the node with this index as a process.
    pub(super) fn start(&mut self, index: usize) -> Result<(), Unexpected> {
        let dns = self.dns.addr().to_string();
        let node = &mut self.nodes[index];
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.root.join(format!("{}.log", node.name)))?;
        node.logged = usize::try_from(log.metadata()?.len()).unwrap_or(usize::MAX);
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("start")
            .args(["--name", &node.name, "--listen", &node.address.to_string()])
            .args(["--service", SERVICE, "--dns-server", &dns])
            .arg("--identity")
            .arg(self.root.join(&node.name))
            .arg("--config")
            .arg(self.root.join("rookery.toml"))
            .args([
                "--worker-threads",
                "2",
                "--boot",
                "echo",
                "--admin",
                "none",
                "--log-format",
                "text",
                "--log-color",
                "never",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Not those of the terminal: Ctrl-C is the demo's to handle.
            .process_group(0)
            .kill_on_drop(true);
        // What the person has set for nodes of their own does not count here.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ROOKERY_") {
                command.env_remove(name);
            }
        }
        node.child = Some(command.spawn()?);
        Ok(())
    }

    /// Whether the node with this index says, in the log of this run, that it is there to be dialled.
    pub(super) fn says_started(&self, index: usize) -> bool {
        let log = self.root.join(format!("{}.log", self.nodes[index].name));
        std::fs::read_to_string(log).is_ok_and(|log| log.contains("node started"))
    }

    /// Whether the node with this index has said that all others are up, since it was last started.
    pub(super) fn says_meshed(&self, index: usize) -> bool {
        let log = self.root.join(format!("{}.log", self.nodes[index].name));
        let log = std::fs::read_to_string(log).unwrap_or_default();
        let of_this_life = log.get(self.nodes[index].logged..).unwrap_or_default();
        of_this_life.matches("node up").count() + 1 >= self.nodes.len()
    }

    /// SIGTERM: the node hands over, and leaves.
    pub(super) fn terminate(&mut self, index: usize) -> Result<(), Unexpected> {
        let pid = self.nodes[index].os_pid().ok_or_else(|| Unexpected::new("the node does not run"))?;
        Command::new("kill").args(["-TERM", &pid.to_string()]).spawn()?;
        Ok(())
    }

    /// Whether the node with this index has ended, as it was told to.
    pub(super) fn has_ended(&mut self, index: usize) -> Result<bool, Unexpected> {
        let node = &mut self.nodes[index];
        let Some(child) = &mut node.child else { return Ok(true) };
        match child.try_wait()? {
            None => Ok(false),
            Some(status) if status.success() => {
                node.child = None;
                Ok(true)
            }
            Some(status) => Err(Unexpected::new(died(&self.root, &node.name, status))),
        }
    }

    /// SIGKILL: the process gets no chance to say anything.
    pub(super) async fn kill(&mut self, index: usize) -> Result<(), Unexpected> {
        match &mut self.nodes[index].child {
            Some(child) => Ok(child.kill().await?),
            None => Err(Unexpected::new("the node to be killed does not run")),
        }
    }

    /// An error if one of the nodes, `except` apart, has ended by itself.
    pub(super) fn check_alive(&mut self, except: Option<usize>) -> Result<(), Unexpected> {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if Some(index) != except
                && let Some(child) = &mut node.child
                && let Some(status) = child.try_wait()?
            {
                return Err(Unexpected::new(died(&self.root, &node.name, status)));
            }
        }
        Ok(())
    }

    /// Waits until one more of the nodes has ended, as one does that a person kills, and says which and how. It is not
    /// started again, so that what the others make of it can be looked at.
    pub(super) async fn next_end(&mut self) -> String {
        loop {
            for node in &mut self.nodes {
                if let Some(child) = &mut node.child
                    && let Ok(Some(status)) = child.try_wait()
                {
                    node.child = None;
                    return format!("{} has ended ({status}); the others run on", node.name);
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Whether a node is left.
    pub(super) fn runs(&self) -> bool {
        self.nodes.iter().any(|node| node.child.is_some())
    }

    /// Leaves the directory where it is, for somebody to look at.
    pub(super) fn keep_logs(&mut self) -> &Path {
        if let Some(dir) = self.dir.take() {
            drop(dir.keep());
        }
        &self.root
    }

    /// Stops all nodes in good order; those that do not stop are killed.
    pub(super) async fn stop(mut self) {
        for node in &mut self.nodes {
            if let Some(pid) = node.os_pid() {
                // A signal to our own child, which is not reaped yet; there is no safe call for it in the standard library.
                drop(Command::new("kill").args(["-TERM", &pid.to_string()]).stderr(Stdio::null()).status().await);
            }
        }
        for node in &mut self.nodes {
            if let Some(child) = &mut node.child
                && tokio::time::timeout(STOP_TIMEOUT, child.wait()).await.is_err()
            {
                drop(child.kill().await);
            }
        }
    }
}

/// Free UDP ports of loopback: taken and given back at once, for the nodes to take.
fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, Unexpected> {
    let sockets: Result<Vec<UdpSocket>, _> = (0..count).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).collect();
    Ok(sockets?.iter().map(UdpSocket::local_addr).collect::<Result<_, _>>()?)
}

fn died(root: &Path, name: &str, status: ExitStatus) -> String {
    let log = std::fs::read_to_string(root.join(format!("{name}.log"))).unwrap_or_default();
    let last = log.lines().last().unwrap_or("it logged nothing");
    format!("{name} ended by itself ({status}): {last}")
}
