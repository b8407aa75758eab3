//! Cases between two nodes, each a process of the operating system.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rookery_node::{Address, Blob, Context, Event, Message, Node, Pid, Received, Runtime, Start};

use super::{
    BenchError, Plan,
    report::Samples,
    stage::Stage,
    workers::{Ask, Back, Sink, Stop, Wall},
};

/// Starts `count` processes of a behaviour on the other node.
async fn start(stage: &Stage, behaviour: &str, count: usize) -> Result<Vec<Pid>, BenchError> {
    let mut pids = Vec::new();
    for _ in 0..count {
        let start = Start::new(behaviour.parse()?, &()).map_err(BenchError::from)?;
        pids.push(stage.node.start_on(stage.peer()?, start).await?.pid);
    }
    Ok(pids)
}

/// Runs `work` as a process of its own for each of `to`; gives what all of them gave.
pub(super) async fn each<M, T, R, Fut>(
    runtime: &Runtime,
    to: &[T],
    work: impl Fn(Context<M>, T) -> Fut + Clone + Send + Sync + 'static,
) -> Result<Vec<R>, BenchError>
where
    M: Message,
    T: Clone + Send + 'static,
    R: Send + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    let mut waiting = Vec::new();
    for to in to {
        let (tell, told) = tokio::sync::oneshot::channel();
        let (work, to) = (work.clone(), to.clone());
        runtime.spawn(async move |context: Context<M>| {
            drop(tell.send(work(context, to).await));
        })?;
        waiting.push(told);
    }
    let mut results = Vec::new();
    for told in waiting {
        results.push(told.await.map_err(|_| BenchError::from("a process of the bench ended early"))?);
    }
    Ok(results)
}

/// One way: each sender to a receiver of its own, as fast as `send` lets it.
pub(super) async fn throughput(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    let stage = Stage::start(1).await?;
    for bytes in [16, 128, 1024] {
        for pairs in [1, 64] {
            let sinks = start(&stage, "bench.sink", pairs).await?;
            let variant = format!("{pairs}to{pairs}.{bytes}B");
            plan.say(&variant);
            let first = 2_000 / pairs as u64 + 1;
            let each_sends = enough(plan, first, async |each_sends| {
                send_all(&stage.node, &sinks, bytes, each_sends).await.map(drop)
            })
            .await?;
            for _ in 0..plan.runs {
                let (since, cpu) = (Instant::now(), stage.cpu_seconds());
                let sent = send_all(&stage.node, &sinks, bytes, each_sends).await?;
                let (took, cpu) = (since.elapsed().as_secs_f64(), stage.cpu_seconds() - cpu);
                samples.add(format!("msg_per_s.{variant}"), "msg/s", sent as f64 / took);
                samples.add(format!("cpu_s_per_million.{variant}"), "s", cpu * 1e6 / sent as f64);
            }
        }
    }
    Ok(())
}

/// How many of what `run` does make a run that is long enough to be measured: more and more, beginning with `count`. That
/// warms up as well.
pub(super) async fn enough(
    plan: &Plan,
    mut count: u64,
    run: impl AsyncFn(u64) -> Result<(), BenchError>,
) -> Result<u64, BenchError> {
    loop {
        let since = Instant::now();
        run(count).await?;
        let took = since.elapsed().as_secs_f64();
        if took > plan.seconds / 2.0 {
            return Ok(count);
        }
        count = (count as f64 * (plan.seconds / took).min(20.0)) as u64;
    }
}

/// Sends, and waits until all has been received.
async fn send_all(node: &Node, sinks: &[Pid], bytes: usize, each_sends: u64) -> Result<u64, BenchError> {
    let counts = each::<Sink, _, _, _>(node, sinks, move |context, pid| async move {
        let sink: Address<Sink> = context.runtime().address(pid);
        let blob = Blob::from(vec![7; bytes]);
        for _ in 0..each_sends {
            sink.send(Sink::Blob(blob.clone())).await.ok()?;
        }
        sink.call_within(Duration::from_secs(120), Sink::Count).await.ok()
    })
    .await?;
    let received: u64 = counts.into_iter().flatten().sum();
    let sent = each_sends * sinks.len() as u64;
    if received != sent {
        return Err(BenchError::from(format!("{received} of {sent} messages arrived")));
    }
    Ok(sent)
}

/// Plays ping-pong with each of `walls` until told to stop; gives the nanoseconds of each round.
async fn play(
    runtime: &Runtime,
    walls: &[Pid],
    bytes: usize,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<Vec<u64>>, BenchError> {
    let stop = stop.clone();
    each::<Back, _, _, _>(runtime, walls, move |mut context, pid| {
        let stop = stop.clone();
        async move {
            let wall: Address<Wall> = context.runtime().address(pid);
            let mut rounds = Vec::new();
            if wall.send(Wall::Player(context.pid().clone())).await.is_err() {
                return rounds;
            }
            while !stop.load(Ordering::Relaxed) {
                let since = Instant::now();
                if wall.send(Wall::Ball(Blob::from(vec![7; bytes]))).await.is_err() {
                    return rounds;
                }
                let Some(Back(_)) = context.message().await else { return rounds };
                rounds.push(since.elapsed().as_nanos() as u64);
            }
            rounds
        }
    })
    .await
}

/// As `1pair`, `64pairs`.
pub(super) fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1{what}") } else { format!("{count}{what}s") }
}

/// Stops after so many seconds.
pub(super) fn stop_after(seconds: f64) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        told.store(true, Ordering::Relaxed);
    });
    stop
}

/// Round trips of 16 bytes, by messages both ways.
pub(super) async fn rtt(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    let stage = Stage::start(1).await?;
    for pairs in [1, 64] {
        let variant = counted(pairs, "pair");
        plan.say(&variant);
        let walls = start(&stage, "bench.wall", pairs).await?;
        play(&stage.node, &walls, 16, &stop_after(plan.warm_up())).await?;
        for _ in 0..plan.runs {
            let (since, cpu) = (Instant::now(), stage.cpu_seconds());
            let rounds = play(&stage.node, &walls, 16, &stop_after(plan.seconds)).await?;
            let took = since.elapsed().as_secs_f64();
            let mut all: Vec<u64> = rounds.into_iter().flatten().collect();
            let cpu = (stage.cpu_seconds() - cpu) * 1e6 / all.len().max(1) as f64;
            samples.add(format!("round_trips_per_s.{variant}"), "/s", all.len() as f64 / took);
            samples.add(format!("cpu_s_per_million.{variant}"), "s", cpu);
            samples.latencies("rtt", &variant, &mut all);
        }
    }
    Ok(())
}

/// Sends bodies to each of `sinks` until told to stop; gives how many bytes were received.
async fn pour(runtime: &Runtime, sinks: &[Pid], bytes: usize, stop: &Arc<AtomicBool>) -> Result<u64, BenchError> {
    let stop = stop.clone();
    let counts = each::<Sink, _, _, _>(runtime, sinks, move |context, pid| {
        let stop = stop.clone();
        async move {
            let sink: Address<Sink> = context.runtime().address(pid);
            let blob = Blob::from(vec![7; bytes]);
            while !stop.load(Ordering::Relaxed) {
                sink.send(Sink::Blob(blob.clone())).await.ok()?;
            }
            sink.call_within(Duration::from_secs(120), Sink::Count).await.ok()
        }
    })
    .await?;
    Ok(counts.into_iter().flatten().sum::<u64>() * bytes as u64)
}

/// Large messages, one way, from one sender.
pub(super) async fn bulk(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    let stage = Stage::start(1).await?;
    let sinks = start(&stage, "bench.sink", 1).await?;
    for (name, bytes) in [("64KiB", 64 * 1024), ("1MiB", 1024 * 1024)] {
        plan.say(name);
        pour(&stage.node, &sinks, bytes, &stop_after(plan.warm_up())).await?;
        for _ in 0..plan.runs {
            let (since, cpu) = (Instant::now(), stage.cpu_seconds());
            let poured = pour(&stage.node, &sinks, bytes, &stop_after(plan.seconds)).await?;
            let took = since.elapsed().as_secs_f64();
            samples.add(format!("mb_per_s.{name}"), "MB/s", poured as f64 / 1e6 / took);
            let cpu = (stage.cpu_seconds() - cpu) * 1e9 / poured.max(1) as f64;
            samples.add(format!("cpu_s_per_gb.{name}"), "s", cpu);
        }
    }
    Ok(())
}

/// What a bulk transfer does to a ping between other processes.
pub(super) async fn hol(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    const BODY: usize = 64 * 1024 * 1024;
    let stage = Stage::start(1).await?;
    let walls = start(&stage, "bench.wall", 1).await?;
    let sinks = start(&stage, "bench.sink", 4).await?;
    plan.say("idle");
    play(&stage.node, &walls, 16, &stop_after(plan.warm_up())).await?;
    for _ in 0..plan.runs {
        let rounds = play(&stage.node, &walls, 16, &stop_after(plan.seconds)).await?;
        samples.latencies("rtt", "idle", &mut rounds.concat());
    }
    for (variant, pourers) in [("bulk", 1), ("4bulk", 4)] {
        plan.say(variant);
        for _ in 0..plan.runs {
            let stop = stop_after(plan.seconds * 2.0);
            let since = Instant::now();
            let pouring = async {
                let poured = pour(&stage.node, &sinks[..pourers], BODY, &stop).await?;
                Ok::<_, BenchError>(poured as f64 / 1e6 / since.elapsed().as_secs_f64())
            };
            // The ping ends a little before the last body has arrived.
            let pinging = play(&stage.node, &walls, 16, &stop);
            let (mb_per_s, rounds) = tokio::try_join!(pouring, pinging)?;
            let mut rounds = rounds.concat();
            samples.latencies("rtt", variant, &mut rounds);
            samples.add(format!("rtt_max_us.{variant}"), "µs", rounds.last().copied().unwrap_or_default() as f64 / 1e3);
            let metric = if pourers == 1 { "bulk_mb_per_s".to_owned() } else { format!("bulk_mb_per_s.{variant}") };
            samples.add(metric, "MB/s", mb_per_s);
        }
    }
    Ok(())
}

/// Processes that each do something again and again.
pub(super) struct Callers<'a> {
    pub(super) runtime: &'a Runtime,
    /// How many.
    pub(super) count: usize,
    /// What they are called in the names of metrics, if there is one.
    pub(super) called: &'a str,
    /// Whom they have to do with, in turn.
    pub(super) to: &'a [Pid],
    /// Whose CPU seconds count; `None` if they cannot be known.
    pub(super) stage: Option<&'a Stage>,
}

impl<'a> Callers<'a> {
    /// On the node of this process.
    fn on(stage: &'a Stage, count: usize, to: &'a [Pid]) -> Self {
        Self { runtime: &stage.node, count, called: "caller", to, stage: Some(stage) }
    }
}

/// Does `what` from processes at once, again and again; tells rate and latencies.
pub(super) async fn repeated<Fut: Future<Output = Option<()>> + Send + 'static>(
    (plan, samples): (&Plan, &mut Samples),
    (rate, latency): (&str, &str),
    callers: Callers<'_>,
    what: impl Fn(Runtime, Pid) -> Fut + Clone + Send + Sync + 'static,
) -> Result<(), BenchError> {
    let variant = counted(callers.count, callers.called);
    plan.say(&variant);
    let targets: Vec<Pid> = callers.to.iter().cycle().take(callers.count).cloned().collect();
    let cpu_seconds = || callers.stage.map(Stage::cpu_seconds);
    for run in 0..=plan.runs {
        let stop = stop_after(if run == 0 { plan.warm_up() } else { plan.seconds });
        let (since, cpu) = (Instant::now(), cpu_seconds());
        let what = what.clone();
        let rounds = each::<Stop, _, _, _>(callers.runtime, &targets, move |context, pid| {
            let (stop, what) = (stop.clone(), what.clone());
            async move {
                let mut rounds = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let since = Instant::now();
                    if what(context.runtime().clone(), pid.clone()).await.is_none() {
                        return Err(());
                    }
                    rounds.push(since.elapsed().as_nanos() as u64);
                }
                Ok(rounds)
            }
        })
        .await?;
        let (took, cpu) = (since.elapsed().as_secs_f64(), cpu_seconds().zip(cpu).map(|(now, then)| now - then));
        let rounds: Result<Vec<Vec<u64>>, ()> = rounds.into_iter().collect();
        let mut all = rounds.map_err(|()| BenchError::from(format!("{rate} failed")))?.concat();
        if run > 0 {
            samples.add(format!("{rate}_per_s.{variant}"), "/s", all.len() as f64 / took);
            if let Some(cpu) = cpu {
                samples.add(format!("cpu_s_per_million.{variant}"), "s", cpu * 1e6 / all.len().max(1) as f64);
            }
            samples.latencies(latency, &variant, &mut all);
        }
    }
    Ok(())
}

/// Calls of 16 bytes.
pub(super) async fn remote_call(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    let stage = Stage::start(1).await?;
    for callers in [1, 64] {
        let answers = start(&stage, "bench.answer", callers).await?;
        let call = |runtime: Runtime, pid: Pid| async move {
            let to: Address<Ask> = runtime.address(pid);
            to.call(|reply| Ask(Blob::from(vec![7; 16]), reply)).await.ok().map(drop)
        };
        repeated((plan, samples), ("calls", "call"), Callers::on(&stage, callers, &answers), call).await?;
    }
    Ok(())
}

/// Processes started on the other node, each acknowledged when it is ready.
pub(super) async fn remote_spawn(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    let stage = Stage::start(1).await?;
    let answers = start(&stage, "bench.answer", 1).await?;
    for callers in [1, 64] {
        let spawn = |runtime: Runtime, pid: Pid| async move {
            let start = Start::new("bench.stopper".parse().ok()?, &()).ok()?;
            let started = runtime.start_on(pid.node(), start).await.ok()?;
            runtime.address::<Stop>(started.pid).send(Stop).await.ok()
        };
        repeated((plan, samples), ("spawns", "spawn"), Callers::on(&stage, callers, &answers), spawn).await?;
    }
    Ok(())
}

/// From telling a monitored process on the other node to stop, to the `Down`.
pub(super) async fn monitor_down(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    let stage = Stage::start(1).await?;
    for run in 0..=plan.runs {
        let pids = start(&stage, "bench.stopper", if run == 0 { 100 } else { plan.count(2_000) }).await?;
        let (tell, told) = tokio::sync::oneshot::channel();
        stage.node.spawn(async move |mut context: Context<Stop>| {
            let mut rounds = Vec::new();
            for pid in pids {
                context.monitor(&pid);
                let since = Instant::now();
                drop(context.runtime().address::<Stop>(pid).send(Stop).await);
                if let Received::Event(Event::Down(_)) = context.receive().await {
                    rounds.push(since.elapsed().as_nanos() as u64);
                }
            }
            drop(tell.send(rounds));
        })?;
        let mut rounds = told.await.map_err(|_| BenchError::from("the watcher ended early"))?;
        if run > 0 {
            samples.latencies("down", "", &mut rounds);
        }
    }
    Ok(())
}
