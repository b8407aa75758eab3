//! The metrics that a node gives: the one list of them, by which they are written, and which `deploy/METRICS.md` shows. Names and
//! units are by Prometheus' conventions. Labels are bounded: by the nodes of the cluster, by a list in the code, or by a limit.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows, from the node's start or a connection's.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in classes.
    Histogram,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

/// A row is `CONSTANT name kind [labels] help`.
macro_rules! metrics {
    ($($constant:ident $name:literal $kind:ident [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $constant: Metric =
            Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*

        /// Every metric, in the order of `/metrics`.
        #[cfg(test)]
        pub(super) const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    NODE_INFO "rookery_node_info" Gauge ["node", "cluster", "version"]
        "1, with what the node is";
    DRAINING "rookery_draining" Gauge []
        "1 while the node is leaving and takes no new processes, else 0";
    PROCESSES "rookery_processes" Gauge []
        "Processes that live on the node";
    PROCESSES_MAX "rookery_processes_max" Gauge []
        "Processes that may live on the node";
    MAILBOX_MESSAGES "rookery_mailbox_messages" Gauge []
        "Messages and events that wait in all mailboxes of the node together";
    MAILBOX_LONGEST "rookery_mailbox_longest_messages" Gauge []
        "Messages and events that wait in the longest mailbox";
    MAILBOX_HIGH_WATER "rookery_mailbox_high_water_messages" Gauge []
        "The most that has waited in one mailbox since the node's start, as its receiver found it, or as it was seen when the metrics were asked for";
    MAILBOX_OVER "rookery_mailbox_processes_over" Gauge ["messages"]
        "Processes in whose mailbox more than so many messages wait";
    MESSAGES "rookery_messages_total" Counter ["kind", "route"]
        "Messages and other signals: between processes of the node (local), to other nodes and clients (sent), from these (received)";
    DEAD_LETTERS "rookery_dead_letters_total" Counter []
        "Messages that found no receiver, or one that did not understand them";
    CALL_DURATION "rookery_call_duration_seconds" Histogram ["route"]
        "How long processes of the node waited for the outcome of a call; within the node one call of sixteen is timed";
    CALL_FAILURES "rookery_call_failures_total" Counter ["reason"]
        "Calls of processes of the node that had no answer";
    NAMES "rookery_names" Gauge []
        "Names that processes have on the node";
    CLUSTER_NAMES "rookery_cluster_names" Gauge []
        "Names in the cluster, as the node knows them";
    GROUPS "rookery_groups" Gauge []
        "Groups in the cluster, as the node knows them";
    SUPERVISOR_RESTARTS "rookery_supervisor_restarts_total" Counter ["supervisor"]
        "Children that supervisors of the node have started again, by the supervisor's name";
    WORKERS "rookery_workers" Gauge []
        "Threads that run processes";
    WORKER_BUSY "rookery_worker_busy_seconds_total" Counter []
        "Time for which these threads have run something, all together";
    RUN_QUEUE "rookery_run_queue_processes" Gauge []
        "Processes that could run and wait for a thread";
    RUNTIME_LAG "rookery_runtime_lag_seconds" Histogram ["thread"]
        "How long a call to a process (processes), or a task on the I/O thread (io), takes; tried once a second";
    PEERS "rookery_peers" Gauge []
        "Nodes that the node is connected with";
    CLIENTS "rookery_clients" Gauge []
        "Clients that are connected to the node";
    REFUSED_TO_CLIENTS "rookery_refused_to_clients_total" Counter []
        "What clients asked for and their policy, or the process, refused";
    PEER_CONNECTED "rookery_peer_connected_seconds" Gauge ["peer"]
        "For how long the connection with the peer has stood";
    PEER_RTT "rookery_peer_rtt_seconds" Gauge ["peer"]
        "The round trip to the peer, as QUIC measures it";
    PEER_WINDOW "rookery_peer_congestion_window_bytes" Gauge ["peer"]
        "Bytes that QUIC has under way to the peer at most";
    LANE_QUEUED "rookery_lane_queued_bytes" Gauge ["peer"]
        "Bytes that wait to be sent to the peer, on all lanes and beside them";
    PEER_SENT_BYTES "rookery_peer_sent_bytes_total" Counter ["peer"]
        "Bytes of signals sent to the peer on the lanes of this connection, before encryption";
    PEER_RECEIVED_BYTES "rookery_peer_received_bytes_total" Counter ["peer"]
        "Bytes of signals received from the peer on the lanes of this connection";
    PEER_SENT_PACKETS "rookery_peer_sent_packets_total" Counter ["peer"]
        "QUIC packets sent to the peer on this connection";
    PEER_LOST_PACKETS "rookery_peer_lost_packets_total" Counter ["peer"]
        "QUIC packets to the peer that were lost on this connection; what was in them was sent again";
    HANDSHAKES "rookery_handshakes_total" Counter ["role", "direction"]
        "Handshakes that came to a connection, by the other end's role and who began";
    HANDSHAKE_REFUSALS "rookery_handshake_refusals_total" Counter ["reason", "by"]
        "Handshakes in which one end refused the other; `duplicate` is no trouble, but two nodes that dialled at once";
    HANDSHAKE_FAILURES "rookery_handshake_failures_total" Counter ["reason"]
        "Dials and handshakes that came to nothing in another way";
    CERTIFICATE_EXPIRY "rookery_certificate_expiry_timestamp_seconds" Gauge ["role"]
        "When the node's certificate, and the last of the CAs that it trusts, expire, in seconds since 1970";
    IDENTITY_REFUSED "rookery_identity_refused" Gauge []
        "1 while the identity's files hold something that the node cannot use, so that it goes on with what it has, else 0";
    TRACE_SPANS "rookery_trace_spans_total" Counter ["outcome"]
        "Parts of traces: exported, dropped since the collector is not there or too slow, or refused by it";
    CPU "process_cpu_seconds_total" Counter []
        "CPU time of the program, user and system";
    RESIDENT_MEMORY "process_resident_memory_bytes" Gauge []
        "Resident memory of the program";
    VIRTUAL_MEMORY "process_virtual_memory_bytes" Gauge []
        "Virtual memory of the program";
    OPEN_FDS "process_open_fds" Gauge []
        "File descriptors that the program has open";
    MAX_FDS "process_max_fds" Gauge []
        "File descriptors that the program may have open";
    START_TIME "process_start_time_seconds" Gauge []
        "When the program was started, in seconds since 1970";
}
