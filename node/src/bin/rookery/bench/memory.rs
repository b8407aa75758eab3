//! What a node takes of memory, and what an idle process takes: resident bytes of a process of the operating system that
//! has done nothing else.

use std::time::Duration;

use super::{
    BenchError, Plan, host,
    host::Host,
    report::Samples,
    stage::{ChildNode, Stage, When},
};

/// Processes that idle.
const PROCESSES: usize = 1_000_000;

/// They are to have been started within this.
const PATIENCE: Duration = Duration::from_secs(120);

/// Memory is read when it has not changed for so long.
const SETTLED: Duration = Duration::from_millis(300);

/// Bytes that are resident once that does not change any more.
async fn settled(node: &ChildNode) -> f64 {
    let mut bytes = node.resident_bytes();
    // A node that goes on growing is read in the end as well.
    for _ in 0..20 {
        tokio::time::sleep(SETTLED).await;
        let now = node.resident_bytes();
        if now == bytes {
            break;
        }
        bytes = now;
    }
    bytes as f64
}

/// A node alone, one that is connected, and a million processes on it.
pub(super) async fn idle(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    const MIB: f64 = 1024.0 * 1024.0;
    let processes = plan.count(PROCESSES);
    plan.say(&format!("{processes} processes"));
    for _ in 0..plan.runs {
        let mut alone = Stage::start(0).await?;
        alone.issue(1)?;
        alone.spawn(1, &[], 1, When::AtOnce)?;
        alone.children[0].ready().await?;
        samples.add("rss_mib.idle_node", "MiB", settled(&alone.children[0]).await / MIB);
        drop(alone);

        let stage = Stage::start(1).await?;
        let host = host::start(&stage.node, stage.peer()?).await?;
        host.call_within(PATIENCE, |reply| Host::Idlers(1, reply)).await?;
        let before = settled(&stage.children[0]).await;
        samples.add("rss_mib.connected_node", "MiB", before / MIB);
        host.call_within(PATIENCE, |reply| Host::Idlers(processes, reply)).await?;
        let grown = settled(&stage.children[0]).await - before;
        samples.add("bytes.idle_process", "B", grown / processes as f64);
    }
    Ok(())
}
