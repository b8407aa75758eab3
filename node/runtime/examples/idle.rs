//! What a process costs: the memory of one that idles, and the rates of spawning, sending, calling and playing ping-pong
//! within one node. Prints a line for each; `cargo run --release -p rookery-runtime --example idle -- 1000000`.
//!
//! Memory is the growth of the resident set, from `/proc/self/statm`, divided by the number of processes; rates are from
//! the monotonic clock. They are the machine's at that moment, with the allocator of the `rookery` binary.

// The figures are what it is for.
#![allow(clippy::print_stdout)]

use std::{
    error::Error,
    fs,
    time::{Duration, Instant},
};

use rookery_runtime::{Address, CallError, Context, ExitReason, Received, ReplyTo, Runtime, RuntimeConfig};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// As the `rookery` binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Processes unless told.
const PROCESSES: usize = 100_000;

/// Messages, calls and rounds of ping-pong that are timed.
const ROUNDS: u64 = 200_000;

/// As Linux has it on every machine that Rookery's images run on.
const PAGE_BYTES: usize = 4096;

#[derive(Serialize, Deserialize)]
enum Note {
    Number(u64),
    Ask(ReplyTo<u64>),
    Ping(Address<Note>, u64),
    Done,
}

type Outcome = Result<(), Box<dyn Error>>;

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Outcome {
    let processes = std::env::args().nth(1).map_or(Ok(PROCESSES), |count| count.parse())?;
    let runtime = Runtime::new(RuntimeConfig::new("idle.1".parse()?))?;
    // One of each first, so that what is allocated once is not counted.
    idle(&runtime, 1)?;
    send(&runtime, 1).await?;
    idle_cost(&runtime, processes).await?;
    send(&runtime, ROUNDS).await?;
    call(&runtime, ROUNDS).await?;
    ping_pong(&runtime, ROUNDS).await?;
    runtime.shut_down(ExitReason::Shutdown, Duration::from_secs(60)).await;
    println!("{} processes are left", runtime.process_count());
    Ok(())
}

/// Bytes that are resident.
fn resident() -> Result<usize, Box<dyn Error>> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages: usize = statm.split(' ').nth(1).ok_or("statm has no second field")?.parse()?;
    Ok(pages * PAGE_BYTES)
}

fn rate(what: &str, count: u64, took: Duration) {
    let nanoseconds = took.as_secs_f64() * 1e9 / count as f64;
    println!("{what:<10} {:>12.0} /s {nanoseconds:>10.0} ns each", 1e9 / nanoseconds);
}

fn idle(runtime: &Runtime, count: usize) -> Outcome {
    for _ in 0..count {
        runtime
            .spawn(async |mut context: Context<Note>| while let Received::Message(_) = context.receive().await {})?;
    }
    Ok(())
}

async fn idle_cost(runtime: &Runtime, count: usize) -> Outcome {
    let (before, start) = (resident()?, Instant::now());
    idle(runtime, count)?;
    let took = start.elapsed();
    // Spawned is not yet idle: each has taken its first step once its mailbox has been waited for.
    let mut last = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = resident()?;
        if now == last {
            break;
        }
        last = now;
    }
    println!("idle       {:>12} bytes each, of {count}", last.saturating_sub(before) / count.max(1));
    rate("spawn", count as u64, took);
    Ok(())
}

async fn send(runtime: &Runtime, count: u64) -> Outcome {
    let (done, is_done) = oneshot::channel();
    let counter = runtime.spawn(async move |mut context: Context<Note>| {
        let mut received = 0;
        while received < count {
            if let Received::Message(Note::Number(_)) = context.receive().await {
                received += 1;
            }
        }
        done.send(()).ok();
    })?;
    let start = Instant::now();
    for number in 0..count {
        counter.try_send(Note::Number(number))?;
    }
    let sent = start.elapsed();
    is_done.await?;
    if count > 1 {
        rate("send", count, sent);
        rate("receive", count, start.elapsed());
    }
    Ok(())
}

async fn call(runtime: &Runtime, count: u64) -> Outcome {
    let answerer = runtime.spawn(async |mut context: Context<Note>| {
        while let Received::Message(Note::Ask(reply)) = context.receive().await {
            drop(reply.send(1));
        }
    })?;
    let (done, is_done) = oneshot::channel();
    let start = Instant::now();
    runtime.spawn(async move |_: Context<Note>| {
        for _ in 0..count {
            answerer.call(Note::Ask).await?;
        }
        done.send(()).ok();
        Ok::<(), CallError>(())
    })?;
    is_done.await?;
    rate("call", count, start.elapsed());
    Ok(())
}

async fn ping_pong(runtime: &Runtime, rounds: u64) -> Outcome {
    let (done, is_done) = oneshot::channel();
    let player = async |mut context: Context<Note>| {
        let own = context.address();
        while let Received::Message(Note::Ping(other, left)) = context.receive().await {
            let next = if left == 0 { Note::Done } else { Note::Ping(own.clone(), left - 1) };
            drop(other.try_send(next));
        }
    };
    let first = runtime.spawn(player)?;
    let start = Instant::now();
    runtime.spawn(async move |mut context: Context<Note>| {
        let own = context.address();
        drop(first.try_send(Note::Ping(own.clone(), rounds)));
        while let Received::Message(Note::Ping(other, left)) = context.receive().await {
            if left == 0 {
                break;
            }
            drop(other.try_send(Note::Ping(own.clone(), left - 1)));
        }
        done.send(()).ok();
    })?;
    is_done.await?;
    rate("ping-pong", rounds / 2, start.elapsed());
    Ok(())
}
