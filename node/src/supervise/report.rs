//! What a supervisor tells the operator: one line an event, with the child, the reason and the node.

use crate::supervise::{
    effect::{Cause, Report},
    placement::LastPlace,
    policy::ChildId,
};

/// Which child a report is about.
pub(super) fn child_of(report: &Report) -> &ChildId {
    match report {
        Report::Started { child, .. }
        | Report::Restarting { child, .. }
        | Report::Ended { child, .. }
        | Report::NoPlace { child, .. }
        | Report::Moving { child, .. }
        | Report::Moved { child, .. }
        | Report::NotMoved { child, .. }
        | Report::AutoShutdown(child)
        | Report::TooSlow(child)
        | Report::StartFailed { child, .. }
        | Report::IntensityReached { child, .. } => child,
    }
}

/// Logs a report; `place` is where the child is, or was last.
pub(super) fn log(supervisor: &str, report: &Report, place: Option<&LastPlace>) {
    let node = place.map_or("-", |place| place.node.as_str());
    let child = child_of(report);
    match report {
        Report::Started { pid, .. } => tracing::debug!(supervisor, %child, node, %pid, "child started"),
        Report::Restarting { cause: Cause::Exit { pid, reason }, restarts, delay, .. } => {
            tracing::warn!(supervisor, %child, %pid, node, %reason, restarts, ?delay, "child ended and is restarted");
        }
        Report::Restarting { cause: Cause::Lost { pid }, restarts, delay, .. } => {
            tracing::warn!(supervisor, %child, %pid, node, restarts, ?delay, "child's node is lost; it is started elsewhere");
        }
        Report::Restarting { cause: Cause::Start(failure), restarts, delay, .. } => {
            tracing::warn!(supervisor, %child, node, reason = %failure, restarts, ?delay, "child was not restarted; trying again");
        }
        Report::Ended { reason, .. } => tracing::info!(supervisor, %child, node, %reason, "child ended"),
        Report::NoPlace { detail, delay, .. } => {
            tracing::warn!(supervisor, %child, last_node = node, detail, ?delay, "child waits for a node");
        }
        Report::Moving { pid, .. } => tracing::info!(supervisor, %child, %pid, node, "child moves to another node"),
        Report::Moved { pid, .. } => tracing::info!(supervisor, %child, %pid, node, "child has moved"),
        Report::NotMoved { failure, .. } => {
            tracing::warn!(supervisor, %child, reason = %failure, "child was not handed over, and stays for now");
        }
        Report::AutoShutdown(_) => {
            tracing::info!(supervisor, %child, node, "a significant child has ended; the supervisor shuts down");
        }
        Report::TooSlow(_) => {
            tracing::warn!(supervisor, %child, node, "child did not shut down within its limit and is killed");
        }
        Report::StartFailed { cause, .. } => {
            tracing::error!(supervisor, %child, node, reason = %cause, "child was not started; the supervisor ends");
        }
        Report::IntensityReached { cause, .. } => {
            tracing::error!(supervisor, %child, node, reason = %cause, "too many restarts within the period; the supervisor ends");
        }
    }
}
