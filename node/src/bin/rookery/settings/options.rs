//! The table of options of `rookery start`: one row each, and the only place that lists them.
//!
//! The flags, the environment variables, the keys of the TOML file, the help text, the defaults, the order of
//! `rookery config check` and the suggestions for a misspelt key are all made from this table, so they cannot
//! disagree. What a value must look like is in `settings.rs`, which reads each option by the key given here.

/// One option of `rookery start`.
#[derive(Debug)]
pub(crate) struct OptionSpec {
    /// Key in the TOML file; also how errors and `config check` call the option.
    pub(crate) key: &'static str,
    /// Long flag without its dashes: the key with `_` written `-`.
    pub(crate) flag: &'static str,
    /// Environment variable: `ROOKERY_` and the key in capitals.
    pub(crate) variable: &'static str,
    /// What the help text shows in place of the value.
    pub(crate) value_name: &'static str,
    /// The value used when nobody gives one, or why there is none.
    pub(crate) default: DefaultValue,
    /// A list: the flag may be repeated, and commas separate values.
    pub(crate) list: bool,
    /// Heading under which the help text lists the option.
    pub(crate) heading: &'static str,
    /// What the option is for, in one sentence.
    pub(crate) help: &'static str,
    /// What is accepted; the end of every error about a value of this option.
    pub(crate) accepts: &'static str,
}

/// What an option is when no flag, variable or file sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DefaultValue {
    /// This text, read as if it had been given.
    Text(&'static str),
    /// Found out at start; the text says from where.
    Computed(&'static str),
    /// Nothing; the text says what then happens.
    Unset(&'static str),
}

impl DefaultValue {
    /// The default as the help text shows it.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Text(text) | Self::Computed(text) | Self::Unset(text) => text,
        }
    }
}

use DefaultValue::{Computed, Text, Unset};

const NODE: &str = "Node";
const DISCOVERY: &str = "Discovery";
const IDENTITY: &str = "Identity";
const MESH: &str = "Mesh";
const LOGGING: &str = "Logging";
const TRACES: &str = "Traces";

/// Short writing of one row: `key, flag, variable` share a line, so that a slip is seen at once.
macro_rules! options {
    ($( $key:literal $flag:literal $variable:literal $value_name:literal $list:ident $heading:ident $default:expr;
        $help:literal; $accepts:literal )*) => {
        &[$(OptionSpec {
            key: $key, flag: $flag, variable: $variable, value_name: $value_name, default: $default,
            list: options!(@$list), heading: $heading, help: $help, accepts: $accepts,
        }),*]
    };
    (@one) => { false };
    (@list) => { true };
}

/// Every option, in the order of the help text and of `config check`.
pub(crate) const OPTIONS: &[OptionSpec] = options! {
    "name" "name" "ROOKERY_NAME" "NAME" one NODE Computed("the host name");
        "Name of this node, unique in the cluster";
        "a DNS name: letters, digits, `-` and `.`, at most 253 characters, such as orders-0"
    "cluster" "cluster" "ROOKERY_CLUSTER" "CLUSTER" one NODE Unset("what the certificate says");
        "Cluster to be part of; if given, the certificate must say the same";
        "letters, digits and `-`, at most 63 characters, such as orders"
    "listen" "listen" "ROOKERY_LISTEN" "ADDRESS" one NODE Text("[::]:4370");
        "UDP address to listen on; port 0 takes a free one";
        "an IP address and a port, such as [::]:4370 or 127.0.0.1:0"
    "advertise" "advertise" "ROOKERY_ADVERTISE" "ADDRESS" list NODE Unset("the address each peer sees");
        "Addresses at which others reach this node; without a port, the one listened on";
        "IP addresses, each with or without a port, separated by commas, such as 10.1.2.3 or [fd00::7]:4370"
    "admin" "admin" "ROOKERY_ADMIN" "ADDRESS" one NODE Text("127.0.0.1:9470");
        "TCP address of the admin port, for probes and metrics, without TLS; `none` for none";
        "an IP address and a port, such as 127.0.0.1:9470 or [::]:9470, or `none`"
    "dashboard" "dashboard" "ROOKERY_DASHBOARD" "WHOM" one NODE Text("local");
        "To whom the admin port shows the dashboard: to this machine (local), to whoever reaches the port (on), or to nobody (off)";
        "local, on or off"
    "dashboard_token" "dashboard-token" "ROOKERY_DASHBOARD_TOKEN" "FILE" one NODE Unset("none is asked for");
        "File with a token that the dashboard asks for, as the password of any user";
        "the path of a file with 16 or more visible characters"
    "boot" "boot" "ROOKERY_BOOT" "BEHAVIOUR" list NODE Text("echo,counter,kv,topic");
        "Stock behaviours to start under their own names; `none` for none";
        "names of stock behaviours separated by commas (echo, counter, kv, topic), or `none` alone"
    "label" "label" "ROOKERY_LABEL" "NAME=VALUE" list NODE Unset("none");
        "What this node is, for supervisors that place children by label";
        "NAME=VALUE separated by commas, each of 1 to 63 letters, digits, `-`, `_`, `.` or `/`, such as zone=a"
    "worker_threads" "worker-threads" "ROOKERY_WORKER_THREADS" "COUNT" one NODE Computed("the cores this node may use");
        "Threads that run processes";
        "a whole number from 1 to 1024"
    "drain_timeout_ms" "drain-timeout-ms" "ROOKERY_DRAIN_TIMEOUT_MS" "TIME" one NODE Text("10000");
        "Longest time a stopping node takes to finish its work; 0 stops at once";
        "milliseconds or a time such as 500ms, 2s or 1m, from 0 to 1h"

    "service" "service" "ROOKERY_SERVICE" "DNS-NAME" one DISCOVERY Unset("no discovery by DNS");
        "DNS name of the headless Service whose addresses are the cluster's nodes";
        "the Service's DNS name without `_rookery._udp.`, such as rookery.orders.svc.cluster.local"
    "dns_server" "dns-server" "ROOKERY_DNS_SERVER" "ADDRESS" list DISCOVERY Unset("the system's");
        "DNS servers to ask in place of the system's; without a port, 53";
        "IP addresses, each with or without a port, separated by commas, such as 10.96.0.10 or 127.0.0.1:5353"
    "peers" "peers" "ROOKERY_PEERS" "HOST" list DISCOVERY Unset("none");
        "Nodes to dial besides those found by DNS; without a port, 4370";
        "host names or IP addresses, each with or without a port, separated by commas, such as orders-0.orders:4370"
    "poll_min_ms" "poll-min-ms" "ROOKERY_POLL_MIN_MS" "TIME" one DISCOVERY Text("1000");
        "Shortest time between two DNS look-ups, however short the records' TTL";
        "milliseconds or a time such as 500ms or 2s, from 100ms to 1h"
    "poll_max_ms" "poll-max-ms" "ROOKERY_POLL_MAX_MS" "TIME" one DISCOVERY Text("5000");
        "Longest time between two DNS look-ups, however long the records' TTL";
        "milliseconds or a time such as 500ms or 2s, from 100ms to 1h, and no less than poll_min_ms"

    "identity" "identity" "ROOKERY_IDENTITY" "DIR" one IDENTITY Text("/etc/rookery/identity");
        "Directory with ca.crt, tls.crt and tls.key (as in a TLS Secret), or ca.pem, cert.pem and key.pem";
        "the path of a directory"
    "ca" "ca" "ROOKERY_CA" "FILE" one IDENTITY Unset("in the identity directory");
        "File of the certificate authority, in place of --identity, with --cert and --key";
        "the path of a PEM file"
    "cert" "cert" "ROOKERY_CERT" "FILE" one IDENTITY Unset("in the identity directory");
        "File of this node's certificate chain, in place of --identity, with --ca and --key";
        "the path of a PEM file"
    "key" "key" "ROOKERY_KEY" "FILE" one IDENTITY Unset("in the identity directory");
        "File of this node's private key, in place of --identity, with --ca and --cert";
        "the path of a PEM file"

    "keep_alive_ms" "keep-alive-ms" "ROOKERY_KEEP_ALIVE_MS" "TIME" one MESH Text("1000");
        "Time between two keep-alives on a connection that is otherwise silent";
        "milliseconds or a time such as 500ms or 2s, from 50ms to 1m"
    "idle_timeout_ms" "idle-timeout-ms" "ROOKERY_IDLE_TIMEOUT_MS" "TIME" one MESH Text("15000");
        "Silence after which a connection ends, though others hear the node; at least three times the keep-alive";
        "milliseconds or a time such as 500ms or 5s, from 150ms to 10m, and at least 3 times keep_alive_ms"
    "suspect_after_ms" "suspect-after-ms" "ROOKERY_SUSPECT_AFTER_MS" "TIME" one MESH Text("600");
        "Silence after which a node is suspected to be lost, and others are asked about it";
        "milliseconds or a time such as 500ms or 2s, from 300ms to 1m"
    "down_after_ms" "down-after-ms" "ROOKERY_DOWN_AFTER_MS" "TIME" one MESH Text("2000");
        "Silence after which a suspected node is down that nobody else hears either; less than the idle timeout";
        "milliseconds or a time such as 2s or 1m, from 600ms to 10m, at least 2 times suspect_after_ms and below idle_timeout_ms"
    "handshake_timeout_ms" "handshake-timeout-ms" "ROOKERY_HANDSHAKE_TIMEOUT_MS" "TIME" one MESH Text("5000");
        "Longest time that setting up a connection may take";
        "milliseconds or a time such as 500ms or 5s, from 100ms to 1m"
    "max_message_bytes" "max-message-bytes" "ROOKERY_MAX_MESSAGE_BYTES" "SIZE" one MESH Text("16MiB");
        "Largest message; a larger one is refused at its sender";
        "bytes or a size such as 65536, 16MiB or 8 MB, from 1 KiB to 256 MiB"
    "lanes" "lanes" "ROOKERY_LANES" "COUNT" one MESH Text("4");
        "Ordered streams to each peer; a sender always uses the same one";
        "a whole number from 1 to 64"
    "outbound_budget_bytes" "outbound-budget-bytes" "ROOKERY_OUTBOUND_BUDGET_BYTES" "SIZE" one MESH Text("8MiB");
        "Bytes that may wait for one peer before senders to it are slowed";
        "bytes or a size such as 65536, 8MiB or 8 MB, from 64 KiB to 1 GiB"
    "max_clients" "max-clients" "ROOKERY_MAX_CLIENTS" "COUNT" one MESH Text("10000");
        "Client connections that this node takes at the same time; 0 for none";
        "a whole number from 0 to 1000000"

    "log" "log" "ROOKERY_LOG" "FILTER" one LOGGING Text("info");
        "What is logged: a level, or levels by target (RUST_LOG counts when neither flag nor variable is given)";
        "a level (error, warn, info, debug, trace, off) or a filter such as info,rookery_node::mesh=debug"
    "log_format" "log-format" "ROOKERY_LOG_FORMAT" "FORMAT" one LOGGING Text("auto");
        "How lines look; auto is json in a pod whose output is no terminal, text elsewhere";
        "auto, text or json"
    "log_color" "log-color" "ROOKERY_LOG_COLOR" "WHEN" one LOGGING Text("auto");
        "Whether text is coloured; auto is on a terminal unless NO_COLOR is set";
        "auto, always or never"

    "otlp_endpoint" "otlp-endpoint" "ROOKERY_OTLP_ENDPOINT" "URL" one TRACES Unset("no traces are recorded");
        "OpenTelemetry collector that traces go to, by OTLP over HTTP";
        "http://HOST:PORT, such as http://127.0.0.1:4318; https is not spoken"
    "trace_ratio" "trace-ratio" "ROOKERY_TRACE_RATIO" "PART" one TRACES Text("0");
        "Part of all calls that begin a trace, if they belong to none; with 0 only what has begun elsewhere is recorded";
        "a number from 0 to 1, such as 0.01"
};

/// The row of `key`, if there is one.
pub(crate) fn option(key: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|spec| spec.key == key)
}
