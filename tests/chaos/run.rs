//! One run: the nodes are started, the clients begin, and one fault after the other is set, taken back, and waited for until all
//! is whole; then all comes to an end, and the history is judged.

use std::{
    error::Error,
    io::Write,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    ChaosArgs,
    chance::Chance,
    checker::{self, HEAL_LIMIT_MS},
    cluster::{Cluster, index_of},
    complain,
    history::What,
    load::{Load, Phase, Shared},
    nemesis::{Kind, Plan},
    probe,
    recorder::Recorder,
    report::Report,
};

use clap::ValueEnum;
use rookery_tests::stalls::Stalls;

/// How often it is looked whether all is whole, and what the nodes have logged.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Between two faults, without any.
const CALM: Duration = Duration::from_secs(4);

/// A cluster that is not whole after that is given up.
const GIVE_UP: Duration = Duration::from_secs(90);

/// For so long what is under way at the end may still arrive.
const LINGER: Duration = Duration::from_secs(3);

/// A machine that stands still for longer cannot be judged by its times.
const STOOD: Duration = Duration::from_millis(1_000);

struct Run {
    cluster: Cluster,
    load: Load,
    recorder: Recorder,
    stalls: Stalls,
    rounds: u64,
    /// Faults that were set so far.
    faults: u64,
}

/// Whether no promise was broken.
pub(crate) async fn run(args: &ChaosArgs, seed: u64) -> Result<bool, Box<dyn Error>> {
    std::fs::create_dir_all(&args.keep)?;
    let nodes = usize::from(args.nodes);
    let stalls = Stalls::watch()?;
    let recorder = Recorder::create(&args.keep.join("history.jsonl"))?;
    let all = if args.faults.is_empty() { Kind::value_variants().to_vec() } else { args.faults.clone() };
    complain(&format!("seed {seed}; the history goes to {}", args.keep.join("history.jsonl").display()));
    let mut cluster = Cluster::start(nodes).await?;
    let load = match Load::start(&cluster, Shared::new(recorder.clone(), seed), nodes, args.clients.into()).await {
        Ok(load) => load,
        Err(error) => {
            cluster.keep_logs(&args.keep)?;
            return Err(cluster.ended().unwrap_or(error).into());
        }
    };
    let mut run = Run { cluster, load, recorder, stalls, rounds: 0, faults: 0 };
    let mut skipped = Vec::new();
    let mut went = run.faults(args, &all, seed, &mut skipped).await;
    if went.is_ok() {
        went = run.finish().await;
    }
    run.cluster.keep_logs(&args.keep)?;
    let Run { load, recorder, .. } = run;
    // First: what nobody has answered by now is entered as it is dropped, with the time that it has waited.
    load.end().await;
    let history = recorder.history();
    recorder.flush()?;
    let violations = checker::check(&history);
    let mut report = Report::new(seed, nodes, &history, &violations);
    report.skipped = skipped;
    report.gave_up = went.err().map(|error| error.to_string());
    let told = if args.json { serde_json::to_string(&report)? } else { report.table() };
    writeln!(std::io::stdout(), "{told}")?;
    Ok(violations.is_empty() && report.gave_up.is_none() && report.all.ok > 0)
}

impl Run {
    async fn faults(
        &mut self,
        args: &ChaosArgs,
        kinds: &[Kind],
        seed: u64,
        skipped: &mut Vec<String>,
    ) -> Result<(), Box<dyn Error>> {
        let (since, mut chance) = (Instant::now(), Chance::new(seed));
        let (formed, _) = self.whole(GIVE_UP).await?;
        complain(&format!("all is whole after {:.1} s", formed.as_secs_f64()));
        let whole = Duration::from_secs_f64(args.minutes.clamp(0.0, 10_000.0) * 60.0);
        let lasts = Duration::from_secs_f64(args.seconds.clamp(1.0, 600.0));
        let mut kinds: Vec<Kind> = kinds.to_vec();
        while !kinds.is_empty() && since.elapsed() < whole {
            for kind in kinds.clone() {
                if since.elapsed() >= whole {
                    break;
                }
                self.calm().await?;
                let plan = Plan::new(kind, usize::from(args.nodes), lasts, &mut chance);
                if kind == Kind::Clock && self.cluster.clock(0).is_none() {
                    skipped.push("clock: libfaketime is missing (Debian: libfaketime)".to_owned());
                    complain("SKIPPED: clock: libfaketime is missing (Debian: libfaketime)");
                    kinds.retain(|other| *other != kind);
                    continue;
                }
                self.fault(&plan).await?;
            }
        }
        Ok(())
    }

    async fn fault(&mut self, plan: &Plan) -> Result<(), Box<dyn Error>> {
        let fault = plan.kind.to_string();
        let before = self.recorder.counts();
        let since = Instant::now();
        self.look();
        self.recorder.note(What::Fault { fault: fault.clone(), cut: plan.cut(), touched: plan.touched() });
        if plan.kills() {
            let nodes = self.load.shared.nodes();
            for node in nodes.into_iter().filter(|node| plan.touched().contains(&index_of(node))) {
                self.recorder.note(What::Killed { node: node.to_string() });
            }
        }
        self.faults += 1;
        // Unlike any of another run beside this one: all have the same number in their own table of processes.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let number = u64::try_from(now.as_micros())? + self.faults;
        plan.run(&mut self.cluster, &self.recorder, number).await?;
        let how = plan.in_words();
        self.recorder.note(What::Over { fault: fault.clone() });
        let (took, late) = self.whole(GIVE_UP).await?;
        if let Some(why) = late {
            self.recorder.note(What::Unhealed { fault: fault.clone(), why });
        }
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.recorder.note(What::Healed { fault: fault.clone(), took_ms });
        let [ok, failed, unknown] = self.recorder.counts();
        complain(&format!(
            "{:6.1} s  {fault:8} {:5.1} s  ok {}  failed {}  unknown {}  whole after {:.1} s  ({how})",
            self.recorder.now() as f64 / 1_000.0,
            since.elapsed().as_secs_f64(),
            ok - before[0],
            failed - before[1],
            unknown - before[2],
            took.as_secs_f64(),
        ));
        Ok(())
    }

    /// Waits until all is whole, while nobody changes names and groups. Gives how long it took, and what was not whole when the
    /// stated time was over, if it took longer.
    async fn whole(&mut self, patience: Duration) -> Result<(Duration, Option<String>), Box<dyn Error>> {
        let (since, shared) = (Instant::now(), self.load.shared.clone());
        shared.set_phase(Phase::Still);
        let mut late = None;
        loop {
            self.look();
            if let Some(ended) = self.cluster.ended() {
                return Err(ended.into());
            }
            self.rounds += 1;
            match probe::look(&shared, self.rounds).await {
                Ok(seen) => {
                    seen.into_iter().for_each(|what| self.recorder.note(what));
                    shared.set_phase(Phase::Work);
                    return Ok((since.elapsed(), late));
                }
                Err(why) if since.elapsed() > patience => {
                    return Err(format!("not whole after {patience:?}: {why}").into());
                }
                Err(why) if since.elapsed().as_millis() > u128::from(HEAL_LIMIT_MS) => drop(late.get_or_insert(why)),
                Err(_) => {}
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Some time without a fault.
    async fn calm(&mut self) -> Result<(), Box<dyn Error>> {
        let since = Instant::now();
        while since.elapsed() < CALM {
            tokio::time::sleep(LOOK_AGAIN).await;
            self.look();
            if let Some(ended) = self.cluster.ended() {
                return Err(ended.into());
            }
        }
        Ok(())
    }

    /// Enters what the nodes have said of each other, and whether the machine stood still.
    fn look(&mut self) {
        for loss in self.cluster.losses() {
            self.recorder.note(What::DeclaredDown { by: loss.by, of: loss.of, reason: loss.reason });
        }
        let longest = self.stalls.take();
        if longest > STOOD {
            let still_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
            self.recorder.note(What::Stood { still_ms });
        }
    }

    /// Has everything come to its end.
    async fn finish(&mut self) -> Result<(), Box<dyn Error>> {
        self.calm().await?;
        let (since, shared) = (Instant::now(), self.load.shared.clone());
        shared.set_phase(Phase::Finish);
        while since.elapsed() < GIVE_UP && (shared.known().watching > 0 || since.elapsed() < LINGER) {
            tokio::time::sleep(LOOK_AGAIN).await;
            self.look();
        }
        tokio::time::sleep(LINGER).await;
        self.recorder.note(What::Settled);
        Ok(())
    }
}
