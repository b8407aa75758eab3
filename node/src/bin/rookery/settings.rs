//! The settings of `rookery start`: flags over environment over a TOML file over defaults, judged as a whole.
//!
//! `load` takes the flags (`SettingsArgs`) and the machine's part (`Surroundings`), and gives either typed, checked
//! `Settings` together with where each came from, or every problem at once. It reads the file that `--config` names
//! and nothing else: no socket, no DNS, no certificate is touched. `start` turns `Settings` into the node's own
//! configuration; `config check` prints them.

mod address;
mod args;
mod clients;
mod layers;
mod options;
mod problem;
mod reader;
mod supervisors;
mod value;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rookery_node::{admin::dashboard::Reach, status::Labels, trace::config::Endpoint};

pub(crate) use args::SettingsArgs;
pub(crate) use layers::Surroundings;
pub(crate) use problem::SettingsError;
pub(crate) use reader::Row;
pub(crate) use {
    address::{AdvertisedAddress, Host, PeerAddress},
    clients::{ClientPolicy, Glob},
    supervisors::Tree,
};

use layers::Layers;
use reader::{Checked, Reader};

/// Behaviours that the stock daemon has, and may start under their own names.
pub(crate) const STOCK_BEHAVIOURS: [&str; 4] = ["echo", "counter", "kv", "topic"];

/// Keep-alives that must fit into the idle timeout: two may be lost before a connection is.
const KEEP_ALIVES_PER_IDLE_TIMEOUT: u32 = 3;

/// Others must have time to say whether they hear a suspect before it is down.
const SUSPICIONS_PER_DOWN: u32 = 2;

/// Everything that `rookery start` can be told, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// Name of this node: a DNS name in lower case.
    pub(crate) name: String,
    /// Cluster that the certificate must name; none takes what it says.
    pub(crate) cluster: Option<String>,
    /// UDP address to listen on; port 0 for a free one.
    pub(crate) listen: SocketAddr,
    /// Addresses at which others reach this node; empty for what each peer sees.
    pub(crate) advertise: Vec<AdvertisedAddress>,
    /// The admin port; none for no such port.
    pub(crate) admin: Option<AdminSetting>,
    /// To whom that shows the dashboard.
    pub(crate) dashboard: Reach,
    /// File with what they have to know for it; none for nothing.
    pub(crate) dashboard_token: Option<PathBuf>,
    /// Stock behaviours to start under their own names; each is one of [`STOCK_BEHAVIOURS`], none twice.
    pub(crate) boot: Vec<String>,
    /// What this node is, for placements by label.
    pub(crate) labels: Labels,
    /// Threads that run processes; at least 1.
    pub(crate) worker_threads: usize,
    /// Longest time that a stopping node takes to finish its work.
    pub(crate) drain_timeout: Duration,
    /// DNS name of the headless Service, lower case, without a dot at its end; none for no discovery by DNS.
    pub(crate) service: Option<String>,
    /// DNS servers to ask; empty for the system's.
    pub(crate) dns_servers: Vec<SocketAddr>,
    /// Nodes to dial besides those that DNS gives.
    pub(crate) peers: Vec<PeerAddress>,
    /// Shortest time between two DNS look-ups; no more than `poll_max`.
    pub(crate) poll_min: Duration,
    /// Longest time between two DNS look-ups.
    pub(crate) poll_max: Duration,
    /// Where this node's certificate and key are.
    pub(crate) identity: IdentitySource,
    /// Time between two keep-alives on a silent connection.
    pub(crate) keep_alive: Duration,
    /// Silence after which a connection is lost; at least three times `keep_alive`.
    pub(crate) idle_timeout: Duration,
    /// Silence after which a node is suspected to be lost.
    pub(crate) suspect_after: Duration,
    /// Silence after which a suspect is down; at least twice `suspect_after`, and below `idle_timeout`.
    pub(crate) down_after: Duration,
    /// Longest time that setting up a connection may take.
    pub(crate) handshake_timeout: Duration,
    /// Largest message in bytes.
    pub(crate) max_message_bytes: u32,
    /// Ordered streams to each peer.
    pub(crate) lanes: u8,
    /// Bytes that may wait for one peer before its senders are slowed.
    pub(crate) outbound_budget_bytes: usize,
    /// Client connections taken at the same time.
    pub(crate) max_clients: usize,
    /// How the node logs.
    pub(crate) log: LogSettings,
    /// The collector that traces go to; none: none are recorded.
    pub(crate) otlp_endpoint: Option<Endpoint>,
    /// The part of all calls that begin a trace, from 0 to 1.
    pub(crate) trace_ratio: f64,
    /// What clients may do, in the order of the file; the first whose pattern fits counts.
    pub(crate) clients: Vec<ClientPolicy>,
    /// Supervision trees to start, in the order of the file.
    pub(crate) trees: Vec<Tree>,
}

/// Where the node's certificate authority, certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IdentitySource {
    /// A directory with files of the usual names.
    Directory(PathBuf),
    /// Three files.
    Files {
        /// Certificate authority.
        ca: PathBuf,
        /// This node's certificate chain.
        cert: PathBuf,
        /// This node's private key.
        key: PathBuf,
    },
}

/// Where the admin port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AdminSetting {
    /// The address; port 0 for a free one.
    pub(crate) address: SocketAddr,
    /// Whether somebody has asked for it. The default's port may be another node's of this machine, and is no reason not to
    /// start.
    pub(crate) is_given: bool,
}

/// How the node logs; `log.rs` acts on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogSettings {
    /// Filter in the syntax of tracing's `EnvFilter`, known to be valid.
    pub(crate) filter: String,
    /// Look of a line.
    pub(crate) format: LogFormat,
    /// Whether text is coloured.
    pub(crate) color: LogColor,
}

/// Look of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// JSON in a pod whose output is no terminal, text elsewhere.
    Auto,
    /// One readable line.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    const CHOICES: [(&'static str, Self); 3] = [("auto", Self::Auto), ("text", Self::Text), ("json", Self::Json)];
}

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogColor {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Yes.
    Always,
    /// No.
    Never,
}

impl LogColor {
    const CHOICES: [(&'static str, Self); 3] = [("auto", Self::Auto), ("always", Self::Always), ("never", Self::Never)];
}

/// Settings, and what an operator may want to know of how they came about.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The settings.
    pub(crate) settings: Settings,
    /// Each option with its value and origin, in the order of the table of options.
    pub(crate) rows: Vec<Row>,
    /// What is worth a warning, such as a variable that looks misspelt.
    pub(crate) warnings: Vec<String>,
}

/// Puts the layers together and checks everything.
///
/// # Errors
/// All problems at once, each with option, value, origin and what is accepted.
pub(crate) fn load(args: &SettingsArgs, surroundings: &Surroundings) -> Result<Loaded, SettingsError> {
    let layers = Layers::gather(args, surroundings);
    let warnings = layers.warnings.clone();
    let mut reader = Reader::new(layers, surroundings);
    let settings = read_settings(&mut reader);
    let Checked { rows, problems } = reader.finish();
    match settings {
        Some(settings) if problems.is_empty() => Ok(Loaded { settings, rows, warnings }),
        _ => Err(SettingsError { problems }),
    }
}

/// Reads every option before it gives up, so that no problem hides another.
fn read_settings(reader: &mut Reader<'_>) -> Option<Settings> {
    const HOUR: Duration = Duration::from_secs(3_600);
    const MINUTE: Duration = Duration::from_secs(60);
    let ms = Duration::from_millis;

    let name = reader.name();
    let cluster = reader.cluster();
    let listen = reader.one("listen", |v| address::listen_address(&value::text(v)?), ToString::to_string);
    let advertise = reader.list("advertise", AdvertisedAddress::parse);
    let admin = reader.admin();
    let dashboard = reader.dashboard();
    let dashboard_token = reader.file("dashboard_token");
    let boot = reader.boot();
    let labels = reader.labels();
    let worker_threads = reader.worker_threads();
    let drain_timeout = reader.time("drain_timeout_ms", Duration::ZERO, HOUR);

    let service = reader.service();
    let dns_servers = reader.list("dns_server", address::dns_server);
    let peers = reader.list("peers", PeerAddress::parse);
    let poll_min = reader.time("poll_min_ms", ms(100), HOUR);
    let poll_max = reader.time("poll_max_ms", ms(100), HOUR);
    if let (Some(least), Some(most)) = (poll_min, poll_max)
        && most < least
    {
        reader.wrong("poll_max_ms", &format!("is below poll_min_ms, {} ms", least.as_millis()));
    }

    let identity = reader.identity();

    let keep_alive = reader.time("keep_alive_ms", ms(50), MINUTE);
    let idle_timeout = reader.time("idle_timeout_ms", ms(150), 10 * MINUTE);
    if let (Some(each), Some(whole)) = (keep_alive, idle_timeout)
        && whole < each * KEEP_ALIVES_PER_IDLE_TIMEOUT
    {
        let least = (each * KEEP_ALIVES_PER_IDLE_TIMEOUT).as_millis();
        reader.wrong(
            "idle_timeout_ms",
            &format!("is below {KEEP_ALIVES_PER_IDLE_TIMEOUT} times keep_alive_ms, {least} ms"),
        );
    }
    let suspect_after = reader.time("suspect_after_ms", ms(300), MINUTE);
    let down_after = reader.time("down_after_ms", ms(600), 10 * MINUTE);
    if let (Some(suspected), Some(down)) = (suspect_after, down_after)
        && down < suspected * SUSPICIONS_PER_DOWN
    {
        let least = (suspected * SUSPICIONS_PER_DOWN).as_millis();
        reader.wrong("down_after_ms", &format!("is below {SUSPICIONS_PER_DOWN} times suspect_after_ms, {least} ms"));
    }
    if let (Some(down), Some(idle)) = (down_after, idle_timeout)
        && down >= idle
    {
        let idle = idle.as_millis();
        reader
            .wrong("down_after_ms", &format!("is not below idle_timeout_ms, {idle} ms, by which all connections end"));
    }
    let handshake_timeout = reader.time("handshake_timeout_ms", ms(100), MINUTE);
    let max_message_bytes = reader.size("max_message_bytes", 1 << 10, 256 << 20);
    let lanes = reader.whole("lanes", 1, 64);
    let outbound_budget_bytes = reader.size("outbound_budget_bytes", 64 << 10, 1 << 30);
    let max_clients = reader.whole("max_clients", 0, 1_000_000);

    let log = reader.log();
    let otlp_endpoint = reader.otlp_endpoint();
    let trace_ratio = reader.one("trace_ratio", value::part, ToString::to_string);
    let clients = reader.clients();
    let trees = reader.trees();

    Some(Settings {
        name: name?,
        cluster: cluster?,
        listen: listen?,
        advertise: advertise?,
        admin: admin?,
        dashboard: dashboard?,
        dashboard_token: dashboard_token?,
        boot: boot?,
        labels: labels?,
        worker_threads: usize::try_from(worker_threads?).ok()?,
        drain_timeout: drain_timeout?,
        service: service?,
        dns_servers: dns_servers?,
        peers: peers?,
        poll_min: poll_min?,
        poll_max: poll_max?,
        identity: identity?,
        keep_alive: keep_alive?,
        idle_timeout: idle_timeout?,
        suspect_after: suspect_after?,
        down_after: down_after?,
        handshake_timeout: handshake_timeout?,
        max_message_bytes: u32::try_from(max_message_bytes?).ok()?,
        lanes: u8::try_from(lanes?).ok()?,
        outbound_budget_bytes: usize::try_from(outbound_budget_bytes?).ok()?,
        max_clients: usize::try_from(max_clients?).ok()?,
        log: log?,
        otlp_endpoint: otlp_endpoint?,
        trace_ratio: trace_ratio?,
        clients,
        trees,
    })
}
