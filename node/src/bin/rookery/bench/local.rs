//! Cases within one node: the same protocols as the Erlang figures that they are compared with.

use std::time::{Duration, Instant};

use rookery_node::{
    Address, CallError, Context, ExitReason, Pid, ReplyTo, Server, SpawnOptions,
    supervise::{ChildId, ChildSpec, ChildStart, Strategy, Supervisor, SupervisorSpec},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{
    BenchError, Plan,
    remote::{counted, each},
    report::Samples,
    stage::Stage,
    workers::Stop,
};

/// Processes of the ring.
const RING: usize = 1_000;

/// Does `what` so many times in each run; tells rate and CPU. `what` tells how long it took.
async fn rate(
    (plan, samples, stage): (&Plan, &mut Samples, &Stage),
    (quantity, unit): (&str, &'static str),
    variant: &str,
    count: usize,
    what: impl AsyncFn(usize) -> Result<Duration, BenchError>,
) -> Result<(), BenchError> {
    plan.say(variant);
    let count = plan.count(count);
    what(count / 10 + 1).await?;
    for _ in 0..plan.runs {
        let cpu = stage.cpu_seconds();
        let took = what(count).await?.as_secs_f64();
        let cpu = stage.cpu_seconds() - cpu;
        samples.add(format!("{quantity}.{variant}"), unit, count as f64 / took);
        samples.add(format!("cpu_s_per_million.{variant}"), "s", cpu * 1e6 / count as f64);
    }
    Ok(())
}

/// One way, as fast as `send` lets them, into one mailbox.
pub(super) async fn send(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    let stage = Stage::start(0).await?;
    for senders in [1, 8] {
        let variant = format!("{senders}to1");
        rate((plan, samples, &stage), ("msg_per_s", "msg/s"), &variant, 4_000_000, async |count| {
            let each_sends = (count / senders) as u64;
            let (done, mut is_done) = mpsc::channel(1);
            let sink = stage.node.spawn(async move |mut context: Context<u64>| {
                for _ in 0..each_sends * senders as u64 {
                    context.message().await;
                }
                done.send(Instant::now()).await.ok();
            })?;
            let since = Instant::now();
            each::<Stop, _, _, _>(&stage.node, &vec![sink; senders], move |_, sink| async move {
                for number in 0..each_sends {
                    drop(sink.send(number).await);
                }
            })
            .await?;
            is_done.recv().await.map(|done| done - since).ok_or_else(|| BenchError::from("the receiver ended early"))
        })
        .await?;
    }
    Ok(())
}

/// Answers at once.
struct Pong;

#[derive(Serialize, Deserialize)]
struct Question(ReplyTo<()>);

impl Server for Pong {
    type Message = Question;
    type Arguments = ();

    async fn init((): (), _: &mut Context<Question>) -> Result<Self, ExitReason> {
        Ok(Self)
    }

    async fn handle(&mut self, Question(reply): Question, _: &mut Context<Question>) -> Result<(), ExitReason> {
        reply.answer(());
        Ok(())
    }
}

/// Calls of a server.
pub(super) async fn call(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    let stage = Stage::start(0).await?;
    let pong = stage.node.start_server::<Pong>((), SpawnOptions::new()).await?;
    for callers in [1, 8] {
        let variant = counted(callers, "caller");
        rate((plan, samples, &stage), ("calls_per_s", "/s"), &variant, 500_000, async |count| {
            let since = Instant::now();
            let answered =
                each::<Stop, _, _, _>(&stage.node, &vec![pong.clone(); callers], move |_, pong| async move {
                    for _ in 0..count / callers {
                        pong.call(Question).await?;
                    }
                    Ok::<_, CallError>(())
                })
                .await?;
            answered.into_iter().collect::<Result<Vec<()>, _>>()?;
            Ok(since.elapsed())
        })
        .await?;
    }
    Ok(())
}

/// Where the ball is to go next.
#[derive(Serialize, Deserialize)]
struct Ball(Address<Ball>);

/// Messages to and fro between two processes.
pub(super) async fn pingpong(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    let stage = Stage::start(0).await?;
    let wall = stage.node.spawn(async |mut context: Context<Ball>| {
        let own = context.address();
        while let Some(Ball(player)) = context.message().await {
            drop(player.send(Ball(own.clone())).await);
        }
    })?;
    rate((plan, samples, &stage), ("round_trips_per_s", "/s"), "1pair", 1_000_000, async |count| {
        let since = Instant::now();
        each::<Ball, _, _, _>(&stage.node, std::slice::from_ref(&wall), move |mut context, wall| async move {
            let own = context.address();
            for _ in 0..count {
                drop(wall.send(Ball(own.clone())).await);
                context.message().await;
            }
        })
        .await?;
        Ok(since.elapsed())
    })
    .await
}

/// What goes round; whoever has passed on the last one ends.
#[derive(Serialize, Deserialize)]
struct Token {
    last: bool,
}

/// One message that goes round and round through a thousand processes.
pub(super) async fn ring(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    let stage = Stage::start(0).await?;
    let variant = format!("{RING}procs");
    rate((plan, samples, &stage), ("msg_per_s", "msg/s"), &variant, 1_000 * RING, async |count| {
        let took = each::<Token, _, _, _>(&stage.node, &[()], move |mut context, ()| async move {
            let mut next = context.address();
            for _ in 1..RING {
                let to = next;
                next = context.runtime().spawn(async move |mut context: Context<Token>| {
                    while let Some(Token { last }) = context.message().await {
                        drop(to.send(Token { last }).await);
                        if last {
                            return;
                        }
                    }
                })?;
            }
            let since = Instant::now();
            for lap in 0..count.div_ceil(RING) {
                drop(next.send(Token { last: (lap + 1) * RING >= count }).await);
                context.message().await;
            }
            Ok::<_, BenchError>(since.elapsed())
        })
        .await?;
        took.into_iter().next().unwrap_or_else(|| Err(BenchError::from("the ring ended early")))
    })
    .await
}

/// Processes that end at once, until all have ended.
pub(super) async fn spawn(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    let stage = Stage::start(0).await?;
    for spawners in [1, 2] {
        let variant = counted(spawners, "spawner");
        rate((plan, samples, &stage), ("spawns_per_s", "/s"), &variant, 1_000_000, async |count| {
            let before = stage.node.process_count();
            let since = Instant::now();
            let spawned = each::<Stop, _, _, _>(&stage.node, &vec![(); spawners], move |context, ()| async move {
                (0..count / spawners).try_for_each(|_| context.runtime().spawn(async |_: Context<Stop>| {}).map(drop))
            })
            .await?;
            spawned.into_iter().collect::<Result<Vec<()>, _>>()?;
            while stage.node.process_count() > before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(since.elapsed())
        })
        .await?;
    }
    Ok(())
}

/// From the kill of a supervised child until the next one runs.
pub(super) async fn restart(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    let stage = Stage::start(0).await?;
    let (start, mut started) = mpsc::unbounded_channel::<(Pid, Instant)>();
    let child = ChildStart::process(move |mut context: Context<Stop>| {
        drop(start.send((context.pid().clone(), Instant::now())));
        async move { while context.message().await.is_some() {} }
    });
    let spec = SupervisorSpec::new(Strategy::OneForOne).intensity(u32::MAX, Duration::from_secs(1));
    Supervisor::start(&stage.node, spec.child(ChildSpec::new(ChildId::new("child")?, child))).await?;
    plan.say("a killed child");
    let (runs, kills) = (plan.runs, plan.count(5_000));
    let (tell, mut told) = mpsc::channel(1);
    stage.node.spawn(async move |context: Context<Stop>| {
        let mut child = started.recv().await;
        for run in 0..=runs {
            let mut nanos = Vec::new();
            for _ in 0..if run == 0 { 200 } else { kills } {
                let Some((pid, _)) = &child else { return };
                let since = Instant::now();
                context.exit(pid, ExitReason::Kill);
                child = started.recv().await;
                nanos.extend(child.iter().map(|(_, at)| (*at - since).as_nanos() as u64));
            }
            drop(tell.send(nanos).await);
        }
    })?;
    told.recv().await;
    for _ in 0..plan.runs {
        let mut nanos = told.recv().await.ok_or_else(|| BenchError::from("the supervisor gave up"))?;
        samples.latencies("restart", "", &mut nanos);
    }
    Ok(())
}
