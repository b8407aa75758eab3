//! Cases of a client, with behaviours that every node has: those of a node of the bench, or of a cluster that runs.

use std::time::{Duration, Instant};

use rookery_client::{Client, ClientConfig, Server};
use rookery_node::{
    Address, Context, ExitReason, NodeId, Pid, Runtime, Start,
    ask::Ask,
    json::Json,
    stock::{Counter, Echo},
};
use tokio::sync::oneshot;

use super::{
    BenchError, Plan,
    remote::{Callers, each, enough, repeated},
    report::Samples,
    stage::Stage,
    workers::Stop,
};

/// What echoes answer; as JSON it has its quotes.
const SIXTEEN_BYTES: &str = "fourteen bytes";

/// Longer than what waits in buffers takes to be counted.
const PATIENCE: Duration = Duration::from_secs(120);

/// A client, and whose client it is.
struct Connected {
    client: Client,
    runtime: Runtime,
    /// Of the bench's own; `None` for a cluster that runs, whose CPU seconds are not known.
    stage: Option<Stage>,
}

impl Connected {
    async fn start(plan: &Plan) -> Result<Self, BenchError> {
        let (config, stage) = match &plan.cluster {
            Some(config) => (config.clone(), None),
            None => {
                let stage = Stage::start(1).await?;
                let node = Server::from(stage.children[0].address);
                (ClientConfig::new(stage.client("bench-client")?, [node]), Some(stage))
            }
        };
        let client = Client::connect(config).await?;
        Ok(Self { runtime: client.runtime(), client, stage })
    }

    /// Starts `count` processes of a stock behaviour on a node. They end with what comes back beside their pids: they are
    /// linked with a process of the client, so that not even a client that is killed leaves some behind.
    async fn processes(
        &self,
        node: &NodeId,
        behaviour: &str,
        count: usize,
    ) -> Result<(Vec<Pid>, Address<Stop>), BenchError> {
        let (tell, told) = oneshot::channel();
        let (node, start) = (node.clone(), Start::json(behaviour.parse()?, "null").link());
        let keeper = self.runtime.spawn(async move |mut context: Context<Stop>| {
            let mut pids = Vec::new();
            for _ in 0..count {
                match context.runtime().start_on(&node, start.clone()).await {
                    Ok(started) => pids.push(started.pid),
                    Err(error) => {
                        drop(tell.send(Err(error)));
                        return ExitReason::Shutdown;
                    }
                }
            }
            drop(tell.send(Ok(pids)));
            context.message().await;
            ExitReason::Shutdown
        })?;
        match told.await {
            Ok(Ok(pids)) => Ok((pids, keeper)),
            Ok(Err(error)) => Err(BenchError::from(format!("no `{behaviour}` could be started: {error}"))),
            Err(_) => Err(BenchError::from("the connection was lost")),
        }
    }

    /// Calls of 16 bytes to echoes on a node, each caller to its own.
    async fn echoes(
        &self,
        plan: &Plan,
        samples: &mut Samples,
        node: &NodeId,
        (rate, latency, called): (&str, &str, &str),
    ) -> Result<(), BenchError> {
        for count in [1, 64] {
            let (to, keeper) = self.processes(node, "echo", count).await?;
            let callers = Callers { runtime: &self.runtime, count, called, to: &to, stage: self.stage.as_ref() };
            let call = |runtime: Runtime, pid: Pid| async move {
                let echo: Address<Echo> = runtime.address(pid);
                echo.call(|reply| Echo::Echo(Ask::new(Json::from(SIXTEEN_BYTES), reply))).await.ok().map(drop)
            };
            repeated((plan, samples), (rate, latency), callers, call).await?;
            drop(keeper.send(Stop).await);
        }
        Ok(())
    }
}

/// Round trips to the node that the client is connected to.
pub(super) async fn rtt(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    let connected = Connected::start(plan).await?;
    let node = connected.runtime.node().clone();
    connected.echoes(plan, samples, &node, ("round_trips", "rtt", "pair")).await?;
    connected.client.close().await;
    Ok(())
}

/// Calls to another node than the one that the client is connected to, if there is one.
pub(super) async fn remote_call(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    let connected = Connected::start(plan).await?;
    let own = connected.runtime.node();
    let node = connected.runtime.nodes().into_iter().find(|node| node != own).unwrap_or_else(|| own.clone());
    connected.echoes(plan, samples, &node, ("calls", "call", "caller")).await?;
    connected.client.close().await;
    Ok(())
}

/// Messages one way, each sender to a counter of its own, until all are counted.
pub(super) async fn throughput(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    let connected = Connected::start(plan).await?;
    let cpu_seconds = || connected.stage.as_ref().map(Stage::cpu_seconds);
    for pairs in [1, 64] {
        let variant = format!("{pairs}to{pairs}");
        plan.say(&variant);
        let (to, keeper) = connected.processes(connected.runtime.node(), "counter", pairs).await?;
        let send = async |each_sends| count_all(&connected.runtime, &to, each_sends).await;
        let each_sends = enough(plan, 1_000 / pairs as u64, send).await?;
        for _ in 0..plan.runs {
            let (since, cpu) = (Instant::now(), cpu_seconds());
            send(each_sends).await?;
            let (took, cpu) = (since.elapsed().as_secs_f64(), cpu_seconds().zip(cpu).map(|(now, then)| now - then));
            let sent = (each_sends * pairs as u64) as f64;
            samples.add(format!("msg_per_s.{variant}"), "msg/s", sent / took);
            if let Some(cpu) = cpu {
                samples.add(format!("cpu_s_per_million.{variant}"), "s", cpu * 1e6 / sent);
            }
        }
        drop(keeper.send(Stop).await);
    }
    connected.client.close().await;
    Ok(())
}

/// Sends to each counter, and waits until all has been counted.
async fn count_all(runtime: &Runtime, counters: &[Pid], each_sends: u64) -> Result<(), BenchError> {
    let counts = each::<Stop, _, _, _>(runtime, counters, move |context, pid| async move {
        let counter: Address<Counter> = context.runtime().address(pid);
        drop(counter.send(Counter::Reset).await);
        for _ in 0..each_sends {
            drop(counter.send(Counter::Add(1)).await);
        }
        counter.call_within(PATIENCE, Counter::Get).await
    });
    for counted in counts.await? {
        let counted = counted?;
        if u64::try_from(counted) != Ok(each_sends) {
            return Err(BenchError::from(format!("{counted} of {each_sends} messages arrived")));
        }
    }
    Ok(())
}
