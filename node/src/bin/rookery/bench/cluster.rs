//! Cases of a cluster: nodes that come and go.

use std::time::{Duration, Instant};

use rookery_node::{Context, Event, NodeId, Received};
use tokio::{sync::mpsc, time::timeout};

use super::{
    BenchError, Plan,
    report::Samples,
    stage::{Stage, When},
    workers::Stop,
};

/// Longer than any detector takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells of each node that is lost.
fn watch(stage: &Stage) -> Result<mpsc::Receiver<(NodeId, Instant)>, BenchError> {
    let (tell, told) = mpsc::channel(64);
    stage.node.spawn(async move |mut context: Context<Stop>| {
        context.monitor_nodes(true);
        loop {
            if let Received::Event(Event::NodeDown { node, .. }) = context.receive().await {
                drop(tell.try_send((node, Instant::now())));
            }
        }
    })?;
    Ok(told)
}

/// From the end of a node to its `NodeDown` here, in a mesh of three.
pub(super) async fn nodedown(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    for how in ["orderly", "sigkill", "sigstop"] {
        plan.say(how);
        for _ in 0..plan.runs {
            let mut stage = Stage::start(2).await?;
            let mut told = watch(&stage)?;
            // A connection that has just been made still learns the path.
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            let victim = stage.children[0].id.clone();
            let since = Instant::now();
            match how {
                "orderly" => stage.children[0].tell().await?,
                "sigkill" => stage.children[0].signal("KILL").await?,
                _ => stage.children[0].signal("STOP").await?,
            }
            let lost = timeout(PATIENCE, told.recv()).await.ok().flatten();
            let Some((node, at)) = lost.filter(|(node, _)| *node == victim) else {
                return Err(BenchError::from(format!("nobody noticed within {PATIENCE:?} that a node was gone")));
            };
            drop(node);
            samples.add(format!("ms.{how}"), "ms", (at - since).as_secs_f64() * 1e3);
        }
    }
    Ok(())
}

/// From the moment when processes that are there are told to start their nodes, until all nodes know all: as distributed Erlang
/// is measured, whose emulators run before.
pub(super) async fn mesh(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    for nodes in plan.meshes() {
        plan.say(&format!("{nodes} nodes"));
        for _ in 0..plan.runs {
            let mut stage = Stage::start(0).await?;
            stage.issue(nodes - 1)?;
            let peer = stage.node.listen_address().to_string();
            for number in 1..nodes {
                stage.spawn(number, std::slice::from_ref(&peer), nodes, When::Told)?;
            }
            stage.waiting().await?;
            let (since, cpu) = (Instant::now(), stage.cpu_seconds());
            for child in &mut stage.children {
                child.tell().await?;
            }
            stage.meshed().await?;
            samples.add(format!("ms.{nodes}nodes"), "ms", since.elapsed().as_secs_f64() * 1e3);
            samples.add(format!("cpu_s.{nodes}nodes"), "s", stage.cpu_seconds() - cpu);
        }
    }
    Ok(())
}
