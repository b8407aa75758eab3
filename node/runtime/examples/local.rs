//! How fast processes of one node are: sending, calling, ping-pong, a ring, spawning. Prints a line for each case, the
//! best of some rounds; `cargo run --release -p rookery-runtime --example local -- [CASE…]`.
//!
//! Each case is done by processes, as an Erlang benchmark does it: no thread outside takes part but to start it and to
//! wait for its end. Rates are from the monotonic clock, and the machine's at that moment.

// The figures are what it is for.
#![allow(clippy::print_stdout)]

use std::{
    error::Error,
    time::{Duration, Instant},
};

use rookery_runtime::{Address, CallError, Context, ExitReason, Received, ReplyTo, Runtime, RuntimeConfig};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// As the `rookery` binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often each case is played.
const ROUNDS: usize = 5;

/// Messages in one round of sending.
const MESSAGES: u64 = 2_000_000;

/// Calls, round trips, hops and processes in one round.
const STEPS: u64 = 500_000;

/// Processes in the ring.
const RING: u64 = 1_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let runtime = Runtime::new(RuntimeConfig::new("local.1".parse()?))?;
    let cases: Vec<String> = std::env::args().skip(1).collect();
    let all = ["send", "send8", "call", "call8", "pingpong", "ring", "spawn", "spawn2"];
    for case in all {
        if !cases.is_empty() && !cases.iter().any(|wanted| wanted == case) {
            continue;
        }
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            let (count, took) = match case {
                "send" => (MESSAGES, send(&runtime, 1).await?),
                "send8" => (MESSAGES, send(&runtime, 8).await?),
                "call" => (STEPS, call(&runtime, 1).await?),
                "call8" => (STEPS, call(&runtime, 8).await?),
                "pingpong" => (STEPS, ping_pong(&runtime).await?),
                "ring" => (STEPS, ring(&runtime).await?),
                "spawn" => (STEPS, spawn(&runtime, 1).await?),
                _ => (STEPS, spawn(&runtime, 2).await?),
            };
            rates.push(count as f64 / took.as_secs_f64() / 1e6);
        }
        rates.sort_by(f64::total_cmp);
        let (median, best) = (rates[ROUNDS / 2], rates[ROUNDS - 1]);
        println!("{case:<10} {best:>8.2} M/s at best {median:>8.2} M/s median {:>8.0} ns each at best", 1e3 / best);
    }
    runtime.shut_down(ExitReason::Shutdown, Duration::from_secs(60)).await;
    Ok(())
}

#[derive(Serialize, Deserialize)]
struct Number(u64);

/// `senders` processes send to one.
async fn send(runtime: &Runtime, senders: u64) -> Outcome<Duration> {
    let (done, is_done) = oneshot::channel();
    let total = MESSAGES / senders * senders;
    let sink = runtime.spawn(async move |mut context: Context<Number>| {
        let mut sum = 0;
        for _ in 0..total {
            if let Received::Message(Number(number)) = context.receive().await {
                sum += number;
            }
        }
        done.send(sum).ok();
    })?;
    let start = Instant::now();
    for _ in 0..senders {
        let sink = sink.clone();
        runtime.spawn(async move |_: Context<Number>| {
            for number in 0..total / senders {
                sink.send(Number(number)).await.ok();
            }
        })?;
    }
    is_done.await?;
    Ok(start.elapsed())
}

#[derive(Serialize, Deserialize)]
struct Ask(ReplyTo<u64>);

/// `callers` processes call one.
async fn call(runtime: &Runtime, callers: u64) -> Outcome<Duration> {
    let answerer = runtime.spawn(async |mut context: Context<Ask>| {
        while let Received::Message(Ask(reply)) = context.receive().await {
            reply.answer(1);
        }
    })?;
    let (done, mut are_done) = tokio::sync::mpsc::channel(8);
    let start = Instant::now();
    for _ in 0..callers {
        let (answerer, done) = (answerer.clone(), done.clone());
        runtime.spawn(async move |_: Context<Number>| {
            for _ in 0..STEPS / callers {
                answerer.call(Ask).await?;
            }
            done.send(()).await.ok();
            Ok::<(), CallError>(())
        })?;
    }
    for _ in 0..callers {
        are_done.recv().await.ok_or("a caller failed")?;
    }
    let took = start.elapsed();
    runtime.exit(&answerer.pid().ok_or("no pid")?, ExitReason::Kill);
    Ok(took)
}

#[derive(Serialize, Deserialize)]
struct Ping(Address<Number>);

/// A process pings one that answers to the address in the ping.
async fn ping_pong(runtime: &Runtime) -> Outcome<Duration> {
    let echo = runtime.spawn(async |mut context: Context<Ping>| {
        while let Received::Message(Ping(from)) = context.receive().await {
            from.send(Number(1)).await.ok();
        }
    })?;
    let (done, is_done) = oneshot::channel();
    let start = Instant::now();
    let echo_pid = echo.pid().ok_or("no pid")?;
    runtime.spawn(async move |mut context: Context<Number>| {
        for _ in 0..STEPS {
            echo.send(Ping(context.address())).await.ok();
            context.receive().await;
        }
        done.send(()).ok();
    })?;
    is_done.await?;
    let took = start.elapsed();
    runtime.exit(&echo_pid, ExitReason::Kill);
    Ok(took)
}

#[derive(Serialize, Deserialize)]
enum Hop {
    /// Who is the next in the ring.
    Next(Address<Hop>),
    /// So many hops are left.
    Token(u64),
}

/// A token goes around.
async fn ring(runtime: &Runtime) -> Outcome<Duration> {
    let (done, is_done) = oneshot::channel();
    let mut done = Some(done);
    let first = runtime.spawn(async move |mut context: Context<Hop>| {
        let Received::Message(Hop::Next(next)) = context.receive().await else { return };
        while let Received::Message(Hop::Token(left)) = context.receive().await {
            if left == 0 {
                done.take().map(|done| done.send(()));
            }
            next.send(Hop::Token(left.saturating_sub(1))).await.ok();
        }
    })?;
    let mut next = first.clone();
    let mut pids = vec![first.pid()];
    for _ in 1..RING {
        let to = next.clone();
        next = runtime.spawn(async move |mut context: Context<Hop>| {
            while let Received::Message(Hop::Token(left)) = context.receive().await {
                to.send(Hop::Token(left.saturating_sub(1))).await.ok();
            }
        })?;
        pids.push(next.pid());
    }
    first.send(Hop::Next(next)).await?;
    let start = Instant::now();
    first.send(Hop::Token(STEPS)).await?;
    is_done.await?;
    let took = start.elapsed();
    pids.iter().flatten().for_each(|pid| runtime.exit(pid, ExitReason::Kill));
    Ok(took)
}

/// `spawners` processes start ones that end at once; over when all have ended.
async fn spawn(runtime: &Runtime, spawners: u64) -> Outcome<Duration> {
    all_ended(runtime).await;
    let start = Instant::now();
    for _ in 0..spawners {
        runtime.spawn(async move |context: Context<Number>| {
            for _ in 0..STEPS / spawners {
                context.runtime().spawn(async |_: Context<Number>| {}).map(drop)?;
            }
            Ok::<(), rookery_runtime::SpawnError>(())
        })?;
    }
    all_ended(runtime).await;
    Ok(start.elapsed())
}

async fn all_ended(runtime: &Runtime) {
    while runtime.process_count() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
