//! A rolling restart under load: one node after the other gets SIGTERM, hands over what it runs, leaves, and is started
//! again, while clients write to a store that lives on one of them. Told second by second, with a verdict.

use std::{
    io,
    time::{Duration, Instant},
};

use rookery_client::{Client, ProcessName, Runtime};

use super::{
    Unexpected,
    cluster::{Cluster, STORE},
    load::{Load, Second},
    narrator::Narrator,
    story::{DEADLINE, LOOK_AGAIN, connect, meshed},
};

/// How long the cluster runs before, between and after restarts, so that there is something to see.
const CALM: Duration = Duration::from_secs(2);

/// How long the client that looks may take to say where the store is.
const ASK_WITHIN: Duration = Duration::from_millis(100);

/// No call may take longer, the documented retry included.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Tells it.
pub(super) async fn tell(
    nodes: u8,
    calls_per_s: u32,
    narrator: &mut Narrator,
    kept: &mut Option<Cluster>,
) -> Result<(), Unexpected> {
    let count = usize::from(nodes);
    narrator.chapter(&format!("A mesh of {count} nodes, and a store that one of them runs"))?;
    let cluster = kept.insert(Cluster::prepare_rolling(nodes).await?);
    let started = Instant::now();
    for index in 0..count {
        cluster.start(index)?;
    }
    let client = connect(cluster, 0, started).await?;
    meshed(cluster, &client.runtime(), count, None).await?;
    narrator.measured("mesh formed", started.elapsed(), "mesh formed, from process start:")?;
    let store: ProcessName = STORE.parse().map_err(|error| Unexpected::new(format!("{error}")))?;
    let place = holder(&client.runtime(), &store).await?;
    narrator.done(&format!("`{STORE}`, a child of a supervisor that the cluster runs, lives on {place}"))?;
    client.close().await;

    narrator.chapter(&format!("Clients write, {calls_per_s} calls a second; each node is restarted in turn"))?;
    let mut load = Load::start(cluster, calls_per_s).await?;
    let watcher = load.client();
    calm(narrator, &mut load, &watcher, &store, CALM).await?;
    for index in 0..count {
        let name = cluster.nodes[index].name.clone();
        let told = Instant::now();
        narrator.says(&format!("{name} gets SIGTERM"))?;
        cluster.terminate(index)?;
        while !cluster.has_ended(index)? {
            cluster.check_alive(Some(index))?;
            if told.elapsed() > DEADLINE {
                return Err(Unexpected::new(format!("{name} has not ended {DEADLINE:?} after SIGTERM")));
            }
            tick(narrator, &mut load, &watcher, &store).await?;
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        narrator.measured("SIGTERM to end", told.elapsed(), &format!("{name} has handed over and left, after"))?;
        cluster.start(index)?;
        let back = Instant::now();
        while !cluster.says_meshed(index) {
            cluster.check_alive(None)?;
            if back.elapsed() > DEADLINE {
                return Err(Unexpected::new(format!("{name} is not back after {DEADLINE:?}")));
            }
            tick(narrator, &mut load, &watcher, &store).await?;
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        narrator.measured(
            "start to back in the mesh",
            back.elapsed(),
            &format!("{name} is back, from process start:"),
        )?;
        calm(narrator, &mut load, &watcher, &store, CALM).await?;
    }
    narrator.chapter("What came of it")?;
    let outcome = load.stop().await?;
    let client = connect(cluster, 0, Instant::now()).await?;
    let lost = outcome.lost(&client.runtime()).await?;
    client.close().await;
    narrator
        .says(&format!("{} calls were answered, {} of them at their second try", outcome.answered, outcome.retried))?;
    narrator.measured(
        "longest pause of one call",
        outcome.longest,
        "the longest pause of one call, retries included:",
    )?;
    let mut wrong = Vec::new();
    for (count, what) in [
        (outcome.failed, "calls failed"),
        (outcome.stale, "reads did not give what their writer had written"),
        (lost, "acknowledged writes are lost"),
    ] {
        match count {
            0 => narrator.done(&format!("0 {what}"))?,
            _ => wrong.push(format!("{count} {what}")),
        }
    }
    if outcome.longest > LONGEST_PAUSE {
        wrong.push(format!("a call took longer than {LONGEST_PAUSE:?}"));
    }
    match (wrong.is_empty(), outcome.first_failure) {
        (true, _) => Ok(()),
        (false, Some(failure)) => Err(Unexpected::new(format!("{}; the first failure: {failure}", wrong.join("; ")))),
        (false, None) => Err(Unexpected::new(wrong.join("; "))),
    }
}

/// Lets some time go by, and tells what happens.
async fn calm(
    narrator: &Narrator,
    load: &mut Load,
    watcher: &Client,
    store: &ProcessName,
    time: Duration,
) -> Result<(), Unexpected> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        tick(narrator, load, watcher, store).await?;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Tells of a second that is over.
async fn tick(narrator: &Narrator, load: &mut Load, watcher: &Client, store: &ProcessName) -> io::Result<()> {
    let Some(Second { answered, retried, failed, longest }) = load.second() else { return Ok(()) };
    let runtime = watcher.runtime();
    let asked = tokio::time::timeout(ASK_WITHIN, runtime.whereis_in_cluster(store)).await;
    let place =
        asked.ok().and_then(Result::ok).flatten().map_or_else(|| "?".to_owned(), |pid| pid.node().name().to_string());
    let longest = longest.as_secs_f64() * 1_000.0;
    narrator.says(&format!(
        "  {answered:>6} calls  {retried:>3} again  {failed:>3} failed  longest {longest:>6.1} ms  `{STORE}` on {place}"
    ))
}

async fn holder(runtime: &Runtime, store: &ProcessName) -> Result<String, Unexpected> {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        if let Ok(Some(pid)) = runtime.whereis_in_cluster(store).await {
            return Ok(pid.node().name().to_string());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(Unexpected::new(format!("nobody has the name `{store}` after {DEADLINE:?}")))
}
