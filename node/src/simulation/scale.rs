//! What a node costs in a large cluster: it forms, is left alone, and loses a node. `ROOKERY_NODES=n` says how many there are,
//! and `--nocapture` shows the figures, which `ARCHITECTURE.md` has for 100, 300 and 1,000.
//!
//! Datagrams are counted as the world sends them, one for each piece of a stream and each acknowledgement, so QUIC's own
//! would be fewer; handshakes of TLS are not among them. The CPU is the machines', the codec's and the world's own, in one
//! thread: without sockets and TLS.

use std::time::Duration;

use super::{
    contract::Checked,
    network::Network,
    schedule::Event,
    story::{Fault, Story},
    tally::Tally,
    world::World,
};

/// As many as an ordinary test run has time for.
const NODES: usize = 60;

/// For how long they are left alone.
const IDLE: Duration = Duration::from_secs(4);

/// One node starts after the other.
const START_EVERY: Duration = Duration::from_millis(5);

/// A mesh of so few has formed long before that.
const FORMED_WITHIN: Duration = Duration::from_secs(60);

/// What was spent so far.
struct Spent {
    tally: Tally,
    cpu: Duration,
}

fn spent(world: &World) -> Spent {
    Spent { tally: world.tally.clone(), cpu: cpu() }
}

/// The time that this thread has run.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or_default();
    Duration::from_nanos(nanoseconds)
}

/// What this program holds in memory, in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// Prints what one part of it took, for each node, and each second if it is one that lasts.
fn print(part: &str, world: &World, before: &Spent, nodes: usize, seconds: Option<f64>) {
    let now = spent(world);
    let per = nodes as f64 * seconds.unwrap_or(1.0);
    let each = |now: u64, before: u64| (now - before) as f64 / per;
    println!(
        "{part:>8}: {:.0} datagrams, {:.1} KB, {:.0} control frames, {:.1} pings, {:.1} keep-alives, {:.2} ms CPU for each node{}",
        each(now.tally.packets, before.tally.packets),
        each(now.tally.bytes, before.tally.bytes) / 1e3,
        each(now.tally.control, before.tally.control),
        each(now.tally.pings, before.tally.pings),
        each(now.tally.keep_alives, before.tally.keep_alives),
        (now.cpu - before.cpu).as_secs_f64() * 1e3 / per,
        if seconds.is_some() { " and second" } else { "" },
    );
}

fn form_idle_and_lose_one(nodes: usize) -> Checked {
    let held = resident();
    let mut story = Story::quiet();
    story.faults = (0..nodes).map(|host| (START_EVERY * host as u32, Fault::Start(host))).collect();
    story.faults.push((Duration::ZERO, Fault::Kill(0)));
    let mut world = World::new(1, nodes, Network::calm(), story)?;
    for host in 0..nodes {
        world.schedule.at(START_EVERY * host as u32, Event::Fault(host));
    }
    let before = spent(&world);
    while !world.all_connected() {
        let now = world.now;
        if now > FORMED_WITHIN {
            return Err(format!("{nodes} nodes have not formed a mesh after {now:?}"));
        }
        world.run_until(now + Duration::from_millis(250))?;
    }
    let formed = world.now.saturating_sub(START_EVERY * nodes as u32);
    println!("{nodes} nodes: a mesh {formed:?} after the last has started, {} dials", world.tally.dials);
    print("forming", &world, &before, nodes, None);
    let each = (resident().saturating_sub(held)) as f64 / nodes as f64;
    println!("  memory: {:.0} KB for each node, {:.0} B for each end", each / 1e3, each / (nodes - 1) as f64);

    world.run_until(world.now + Duration::from_millis(1_500))?;
    let before = spent(&world);
    world.run_until(world.now + IDLE)?;
    print("idle", &world, &before, nodes, Some(IDLE.as_secs_f64()));
    let pings = (world.tally.pings - before.tally.pings) as f64 / nodes as f64 / IDLE.as_secs_f64();
    if pings > 130.0 {
        return Err(format!("a node sends {pings} pings a second"));
    }

    // It has a port that says that it is closed. Whoever is left must notice in time, which the world checks.
    world.story.is_calm = false;
    let (before, killed) = (spent(&world), world.now);
    world.fault(nodes)?;
    let left = nodes - 1;
    while world.tally.downs - before.tally.downs < left as u64 {
        world.run_until(world.now + Duration::from_millis(10))?;
        if world.now > killed + Duration::from_secs(4) {
            return Err("not all have noticed a node that was killed".to_owned());
        }
    }
    println!("    kill: all know after {:?}", world.now - killed);
    print("kill", &world, &before, left, None);
    Ok(())
}

#[test]
fn d3_a_large_cluster_forms_and_costs_each_node_little() {
    let nodes = std::env::var("ROOKERY_NODES").ok().and_then(|text| text.parse().ok()).unwrap_or(NODES);
    form_idle_and_lose_one(nodes).unwrap();
}

/// D1: in a mesh of more nodes than anybody is told of at once, one address that all know is enough.
#[test]
fn d1_one_good_address_is_enough_in_a_large_cluster() {
    let nodes = 150;
    let mut story = Story::quiet();
    story.named = 1;
    let mut world = World::new(1, nodes, Network::calm(), story).unwrap();
    for host in 0..nodes {
        world.start(host);
    }
    while !world.all_connected() {
        assert!(world.now < Duration::from_secs(15), "not all are connected: {} downs", world.tally.downs);
        world.run_until(world.now + Duration::from_millis(250)).unwrap();
    }
    println!("{nodes} nodes that know one of them: a mesh after {:?}", world.now);
}
