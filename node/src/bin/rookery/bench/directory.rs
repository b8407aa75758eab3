//! Cases of names and groups, which every node knows.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rookery_node::{Address, Context, ExitReason, Group, GroupAddress, Pid, ProcessName, ReplyTo, Runtime};
use tokio::task::JoinSet;

use super::{
    BenchError, Plan,
    host::{self, Heard, Host, Shout, idler},
    remote::{counted, each, stop_after},
    report::Samples,
    stage::Stage,
    workers::Stop,
};

/// Longer than it takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// So many times as many processes as have had a name in the run before are started for the next.
const ENOUGH: f64 = 1.5;

/// Members of the group.
const MEMBERS: usize = 10_000;

/// A host on each node, this one first.
async fn hosts(stage: &Stage) -> Result<Vec<Address<Host>>, BenchError> {
    let mut hosts = vec![host::start(&stage.node, stage.node.node()).await?];
    for child in &stage.children {
        hosts.push(host::start(&stage.node, &child.id).await?);
    }
    Ok(hosts)
}

/// Asks all hosts at once, and waits for all answers.
async fn ask_all(
    hosts: &[Address<Host>],
    ask: impl Fn(ReplyTo<()>) -> Host + Clone + Send + 'static,
) -> Result<(), BenchError> {
    let mut asked = JoinSet::new();
    for host in hosts {
        let (host, ask) = (host.clone(), ask.clone());
        asked.spawn(async move { host.call_within(PATIENCE, ask).await });
    }
    asked.join_all().await.into_iter().collect::<Result<(), _>>()?;
    Ok(())
}

/// Takes names in the cluster until told to stop, each for a process of its own: one of `holders`, and a new one when there are no more.
/// Gives who has one, and how long that took.
async fn take_names(
    runtime: Runtime,
    prefix: String,
    holders: Arc<Mutex<Vec<Pid>>>,
    stop: Arc<AtomicBool>,
) -> Result<Vec<(Pid, u64)>, BenchError> {
    let running = || holders.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut taken, mut ready) = (Vec::new(), std::mem::take(&mut *running()));
    while !stop.load(Ordering::Relaxed) {
        let name: ProcessName = format!("{prefix}-{}", taken.len()).parse()?;
        let Some(pid) = ready.pop().or_else(|| idler(&runtime).ok()?.pid()) else { continue };
        let since = Instant::now();
        runtime.register_in_cluster(&name, &pid).await?;
        taken.push((pid, since.elapsed().as_nanos() as u64));
    }
    running().append(&mut ready);
    Ok(taken)
}

/// Names that are taken in a cluster of five, until all nodes know them.
pub(super) async fn names(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    let stage = Stage::start(4).await?;
    let hosts = hosts(&stage).await?;
    for callers in [1, 64] {
        let variant = counted(callers, "caller");
        plan.say(&variant);
        // One caller's time is not to be that of starting processes; those of many are started as they go.
        let starts_before = callers == 1;
        let callers: Vec<usize> = (0..callers).collect();
        let mut per_s = 0.0;
        for run in 0..=plan.runs {
            let seconds = if run == 0 { plan.warm_up() } else { plan.seconds };
            let enough = if starts_before { (per_s * seconds * ENOUGH) as usize } else { 0 };
            let holders = (0..enough).map(|_| idler(&stage.node)).collect::<Result<Vec<_>, _>>()?;
            let holders: Vec<Pid> = holders.iter().filter_map(Address::pid).collect();
            let holders = Arc::new(Mutex::new(holders));
            let stop = stop_after(seconds);
            let (since, cpu) = (Instant::now(), stage.cpu_seconds());
            let running = holders.clone();
            let taken = each::<Stop, _, _, _>(&stage.node, &callers, move |context, caller| {
                take_names(context.runtime().clone(), format!("bench-{caller}"), running.clone(), stop.clone())
            });
            let taken = taken.await?.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
            let count = taken.len();
            ask_all(&hosts, move |reply| Host::Knows { names: count, groups: 0, reply }).await?;
            let (took, cpu) = (since.elapsed().as_secs_f64(), stage.cpu_seconds() - cpu);
            per_s = count as f64 / took;
            let (named, mut nanos): (Vec<Pid>, Vec<u64>) = taken.into_iter().unzip();
            if run > 0 {
                samples.add(format!("names_per_s.{variant}"), "/s", count as f64 / took);
                samples.add(format!("cpu_s_per_million.{variant}"), "s", cpu * 1e6 / count.max(1) as f64);
                samples.latencies("register", &variant, &mut nanos);
            }
            let unnamed = std::mem::take(&mut *holders.lock().unwrap_or_else(PoisonError::into_inner));
            for holder in named.iter().chain(&unnamed) {
                stage.node.exit(holder, ExitReason::Kill);
            }
            ask_all(&hosts, |reply| Host::Knows { names: 0, groups: 0, reply }).await?;
        }
    }
    Ok(())
}

/// Processes of one node that join a group, until all of three nodes know all members.
pub(super) async fn groups(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    let stage = Stage::start(2).await?;
    let hosts = hosts(&stage).await?;
    let joins = plan.count(MEMBERS);
    plan.say(&format!("{joins} joins"));
    for run in 0..=plan.runs {
        let group: Group = format!("bench#run-{run}").parse()?;
        let members = (0..joins).map(|_| idler(&stage.node)).collect::<Result<Vec<_>, _>>()?;
        let members: Vec<Pid> = members.iter().filter_map(Address::pid).collect();
        let (since, cpu) = (Instant::now(), stage.cpu_seconds());
        for member in &members {
            stage.node.join(&group, member).await?;
        }
        ask_all(&hosts, move |reply| Host::Grown(group.clone(), joins, reply)).await?;
        if run > 0 {
            samples.add("ms.1group", "ms", since.elapsed().as_secs_f64() * 1e3);
            samples.add("cpu_s_per_million", "s", (stage.cpu_seconds() - cpu) * 1e6 / joins as f64);
        }
        for member in &members {
            stage.node.exit(member, ExitReason::Kill);
        }
        ask_all(&hosts, |reply| Host::Knows { names: 0, groups: 0, reply }).await?;
    }
    Ok(())
}

/// One message to a group on three nodes, until all members have it.
pub(super) async fn fanout(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    let stage = Stage::start(2).await?;
    let hosts = hosts(&stage).await?;
    let group: Group = "bench#fanout".parse()?;
    let on_each = plan.count(MEMBERS).div_ceil(hosts.len());
    let members = on_each * hosts.len();
    plan.say(&format!("{members} members"));
    let joined = group.clone();
    ask_all(&hosts, move |reply| Host::Members(joined.clone(), on_each, reply)).await?;
    hosts[0].call_within(PATIENCE, |reply| Host::Grown(group.clone(), members, reply)).await?;
    let rounds = plan.count(40);
    let address: GroupAddress<Shout> = stage.node.group(group);
    let shout = move |mut context: Context<Heard>, (group, nodes): (GroupAddress<Shout>, usize)| async move {
        let mut nanos = Vec::new();
        for _ in 0..rounds {
            let since = Instant::now();
            drop(group.send(Shout(context.pid().clone())).await);
            for _ in 0..nodes {
                context.message().await;
            }
            nanos.push(since.elapsed().as_nanos() as u64);
        }
        nanos
    };
    for run in 0..=plan.runs {
        let cpu = stage.cpu_seconds();
        let nanos = each::<Heard, _, _, _>(&stage.node, &[(address.clone(), hosts.len())], shout).await?.concat();
        if run > 0 {
            let took = nanos.iter().sum::<u64>() as f64 / 1e9;
            let deliveries = (members * rounds) as f64;
            samples.add("ms.1message", "ms", took * 1e3 / rounds as f64);
            samples.add("deliveries_per_s", "/s", deliveries / took);
            samples.add("cpu_s_per_million", "s", (stage.cpu_seconds() - cpu) * 1e6 / deliveries);
        }
    }
    Ok(())
}
