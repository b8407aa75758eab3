//! `/metrics`: what Prometheus is told. All of it is counted, or known, anyway, and put together when it is asked for: nothing on
//! the way of a message waits for it.
//!
//! ```text
//! Runtime::tally, census, load ─┐
//! Peers, Handshakes ────────────┼─▶ write ─▶ table's names, kinds, help ─▶ text
//! lag, /proc, certificates ─────┘
//! ```
//! The walk over all mailboxes is the one part that costs: it takes a tenth of a core at most, however often it is asked for.

mod lag;
mod program;
mod table;
mod text;

#[cfg(test)]
mod documented;

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use rookery_runtime::{
    CALL_BOUNDS, Census, Durations, QUEUE_STEPS, Runtime, Tally,
    trace::{TraceCounts, Tracer},
};

use super::{Watched, locked, pulse::Outcome};
use crate::{
    PeerInfo,
    mesh::counts::{Counts, Failed, With},
};
use lag::Lag;
use program::Program;
use table as metric;
pub(super) use text::Format;
use text::{Classes, Value, Writer};

/// The least time from one walk over all mailboxes to the next.
const CENSUS_EVERY: Duration = Duration::from_secs(1);

/// And so many times what the last one took.
const CENSUS_REST: u32 = 9;

/// What is kept from one question to the next.
#[derive(Default)]
pub(super) struct Metrics {
    lag: Mutex<Lag>,
    /// Held while the mailboxes are looked at, so that this is done once at a time.
    census: tokio::sync::Mutex<LastCensus>,
}

#[derive(Default)]
struct LastCensus {
    /// When the next one may be, and what the last one found.
    last: Option<(Instant, Census)>,
    high_water: u64,
}

impl Metrics {
    /// Notes what a beat took.
    pub(super) fn observe(&self, beat: &Outcome) {
        locked(&self.lag).observe(beat);
    }

    /// What waits in the mailboxes, and the most that was seen to wait in one: as it was looked at last, or now, if that is long ago.
    pub(super) async fn census(&self, runtime: &Runtime) -> (Census, u64) {
        let mut state = self.census.lock().await;
        if let Some((next, census)) = &state.last
            && Instant::now() < *next
        {
            return (*census, state.high_water);
        }
        let began = Instant::now();
        let census = runtime.census().await;
        let ended = Instant::now();
        state.last = Some((ended + CENSUS_EVERY.max((ended - began) * CENSUS_REST), census));
        state.high_water = state.high_water.max(census.longest);
        (census, state.high_water)
    }

    /// All metrics as text.
    pub(super) async fn write(&self, watched: &Watched, format: Format) -> String {
        let mut writer = Writer::new(format);
        let (census, high_water) = self.census(&watched.runtime).await;
        self.write_node(&mut writer, watched);
        let tally = watched.runtime.tally();
        write_mailboxes(&mut writer, &census, high_water.max(tally.deepest_mailbox));
        write_tally(&mut writer, &tally, &watched.runtime);
        self.write_threads(&mut writer, &watched.runtime);
        write_peers(&mut writer, watched);
        write_handshakes(&mut writer, &watched.handshakes.so_far());
        write_identity(&mut writer, watched);
        write_traces(&mut writer, &watched.runtime);
        write_program(&mut writer, &watched.runtime);
        writer.finish()
    }

    fn write_node(&self, writer: &mut Writer, watched: &Watched) {
        let runtime = &watched.runtime;
        let info = [runtime.node().name().as_str(), watched.cluster.as_str(), env!("CARGO_PKG_VERSION")];
        writer.many(&metric::NODE_INFO, [(info, true)]);
        writer.one(&metric::DRAINING, runtime.is_draining());
        writer.one(&metric::PROCESSES, runtime.process_count());
        writer.one(&metric::PROCESSES_MAX, runtime.max_processes());
    }

    fn write_threads(&self, writer: &mut Writer, runtime: &Runtime) {
        let load = runtime.load();
        writer.one(&metric::WORKERS, u64::from(load.workers));
        writer.one(&metric::WORKER_BUSY, Duration::from_micros(load.busy_us).as_secs_f64());
        writer.one(&metric::RUN_QUEUE, load.queued);
        writer.histograms(&metric::RUNTIME_LAG, locked(&self.lag).classes());
    }
}

fn write_mailboxes(writer: &mut Writer, census: &Census, high_water: u64) {
    writer.one(&metric::MAILBOX_MESSAGES, census.queued);
    writer.one(&metric::MAILBOX_LONGEST, census.longest);
    writer.one(&metric::MAILBOX_HIGH_WATER, high_water);
    let steps: Vec<String> = QUEUE_STEPS.iter().map(ToString::to_string).collect();
    writer.many(&metric::MAILBOX_OVER, steps.iter().zip(census.over).map(|(step, over)| ([step.as_str()], over)));
}

fn write_tally(writer: &mut Writer, tally: &Tally, runtime: &Runtime) {
    let messages = tally.messages.iter().map(|(route, kind, count)| ([kind.name(), route.name()], *count));
    writer.many(&metric::MESSAGES, messages);
    writer.one(&metric::DEAD_LETTERS, runtime.dead_letters());
    let calls = [(["local"], classes(&tally.local_calls)), (["remote"], classes(&tally.remote_calls))];
    writer.histograms(&metric::CALL_DURATION, calls);
    writer.many(&metric::CALL_FAILURES, tally.call_failures.iter().map(|(why, count)| ([*why], *count)));
    writer.one(&metric::NAMES, runtime.name_count());
    writer.one(&metric::CLUSTER_NAMES, runtime.cluster_name_count());
    writer.one(&metric::GROUPS, runtime.group_count());
    let restarts = tally.restarts.iter().map(|(supervisor, count)| ([supervisor.as_str()], *count));
    writer.many(&metric::SUPERVISOR_RESTARTS, restarts);
}

fn classes(durations: &Durations) -> Classes<'_> {
    Classes { bounds: &CALL_BOUNDS, counts: &durations.counts, sum_seconds: durations.sum.as_secs_f64() }
}

fn write_peers(writer: &mut Writer, watched: &Watched) {
    let peers = watched.peers.infos();
    writer.one(&metric::PEERS, peers.len());
    writer.one(&metric::CLIENTS, watched.peers.client_count());
    writer.one(&metric::REFUSED_TO_CLIENTS, watched.runtime.refused_to_clients());
    let mut each = |metric, figure: fn(&PeerInfo) -> Value| {
        writer.many(metric, peers.iter().map(|peer| ([peer.node.name().as_str()], figure(peer))));
    };
    each(&metric::PEER_CONNECTED, |peer| Duration::from_millis(peer.connected_ms).as_secs_f64().into());
    each(&metric::PEER_RTT, |peer| Duration::from_micros(peer.rtt_us).as_secs_f64().into());
    each(&metric::PEER_WINDOW, |peer| peer.congestion_window_bytes.into());
    each(&metric::LANE_QUEUED, |peer| peer.queued_bytes.into());
    each(&metric::PEER_SENT_BYTES, |peer| peer.sent().bytes.into());
    each(&metric::PEER_RECEIVED_BYTES, |peer| peer.received.bytes.into());
    each(&metric::PEER_SENT_PACKETS, |peer| peer.sent_packets.into());
    each(&metric::PEER_LOST_PACKETS, |peer| peer.lost_packets.into());
}

fn write_handshakes(writer: &mut Writer, counts: &Counts) {
    let done = With::ALL.map(|with| (with.labels(), counts.done.get(&with).copied().unwrap_or_default()));
    writer.many(&metric::HANDSHAKES, done);
    let refused = counts.failed.iter().filter_map(|(how, count)| match how {
        Failed::Refused(reason, by) => Some(([*reason, *by], *count)),
        Failed::Broke(_) => None,
    });
    writer.many(&metric::HANDSHAKE_REFUSALS, refused);
    let broke = counts.failed.iter().filter_map(|(how, count)| match how {
        Failed::Broke(reason) => Some(([*reason], *count)),
        Failed::Refused(..) => None,
    });
    writer.many(&metric::HANDSHAKE_FAILURES, broke);
}

fn write_identity(writer: &mut Writer, watched: &Watched) {
    let identity = watched.credentials.identity();
    let (own, ca) = (identity.own().not_after.as_secs(), identity.authorities_not_after().as_secs());
    writer.many(&metric::CERTIFICATE_EXPIRY, [(["node"], own), (["ca"], ca)]);
    writer.one(&metric::IDENTITY_REFUSED, watched.credentials.is_refusing());
}

fn write_traces(writer: &mut Writer, runtime: &Runtime) {
    let counts = runtime.tracer().map(Tracer::counts).unwrap_or_default();
    let TraceCounts { exported, dropped, refused } = counts;
    let outcomes = [(["exported"], exported), (["dropped"], dropped), (["refused"], refused)];
    writer.many(&metric::TRACE_SPANS, outcomes);
}

fn write_program(writer: &mut Writer, runtime: &Runtime) {
    let (load, program) = (runtime.load(), Program::now());
    writer.if_known(&metric::CPU, load.cpu_ms.map(|ms| Duration::from_millis(ms).as_secs_f64()));
    writer.if_known(&metric::RESIDENT_MEMORY, load.memory_bytes);
    writer.if_known(&metric::VIRTUAL_MEMORY, program.virtual_bytes);
    writer.if_known(&metric::OPEN_FDS, program.open_fds);
    writer.if_known(&metric::MAX_FDS, program.max_fds);
    writer.if_known(&metric::START_TIME, program.started);
}
