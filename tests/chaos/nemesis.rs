//! The nemesis: what is done to the nodes, one fault after the other. Which nodes it hits is chance with a seed.
//!
//! A fault is set, lasts, and is taken back. `Plan` says beforehand who is cut off from whom and who is killed or stopped: the checker
//! judges by it. What shows that it really happened (`evidence.rs`) goes into the history.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use rookery_node::NodeId;

use crate::{
    chance::Chance,
    cluster::Cluster,
    cpu::Limit,
    evidence::{self, Evidence},
    history::What,
    network,
    recorder::Recorder,
};

/// What part of all datagrams is lost.
const LOSS: f64 = 0.1;

/// A clock that jumps ahead does so by an hour, and back by less than certificates are made valid before they are issued.
const AHEAD_S: i64 = 3_600;
const BEHIND_S: i64 = -240;

/// By how much the start of a node may be off: it takes its time.
const NEAR_S: i64 = 60;

/// What a node logs that was older than its last life.
const BEGINS_ANEW: &str = "begins anew, with a larger incarnation";

/// A fault within another one begins after this part of that, and that goes on for as long when it is over.
const ALONE_PART: f64 = 0.3;

/// What of the time of a fault one takes that happens within it.
const INNER_PART: f64 = 0.5;

/// Faults that others happen in: of the network, of which each node has rules that are taken back together.
const OUTER: [Kind; 4] = [Kind::Halves, Kind::OneWay, Kind::Bridge, Kind::Loss];

/// Faults that happen in them.
const INNER: [Kind; 4] = [Kind::Kill, Kind::Pause, Kind::Dns, Kind::Disk];

/// By how much longer faults last in which nodes that cannot hear each other hear of each other by others: they are not
/// given up for some time.
const KEPT: Duration = Duration::from_secs(10);

/// A node that was killed is started again after this part of the fault.
const DEAD_PART: f64 = 0.4;

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Two parts that do not hear each other.
    Halves,
    /// One node does not hear some others, which hear it.
    OneWay,
    /// Two parts that do not hear each other, and a node that hears and is heard by both.
    Bridge,
    /// A node gets SIGKILL, and is started again.
    Kill,
    /// A node gets SIGSTOP, and goes on.
    Pause,
    /// A tenth of all datagrams is lost on their way to each node.
    Loss,
    /// What leaves one node goes over a slow link.
    Slow,
    /// DNS says nothing; meanwhile a node is killed and started again.
    Dns,
    /// No node can write a byte; meanwhile one is killed and started again.
    Disk,
    /// A node gets a tenth of a core.
    Cpu,
    /// A node's clock is an hour ahead, jumps back, and is four minutes behind when the node is started again.
    Clock,
    /// A fault of the network, and in it a kill, a pause, a silent DNS or a full disk.
    Two,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Halves => "halves",
            Self::OneWay => "one-way",
            Self::Bridge => "bridge",
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Loss => "loss",
            Self::Slow => "slow",
            Self::Dns => "dns",
            Self::Disk => "disk",
            Self::Cpu => "cpu",
            Self::Clock => "clock",
            Self::Two => "two",
        })
    }
}

/// A fault that is to come.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    /// All nodes, in an order of chance: what is done to how many of them depends on the kind.
    nodes: Vec<usize>,
    /// How many are in the first part, where there are parts.
    first: usize,
    lasts: Duration,
    /// Of two, the one that stands around the other.
    outer: Option<Kind>,
    /// And the one that happens in it.
    inner: Option<Box<Plan>>,
}

/// A fault that is on.
#[derive(Default)]
pub(crate) struct Standing {
    pub(crate) limit: Option<Limit>,
}

impl Plan {
    pub(crate) fn new(kind: Kind, count: usize, lasts: Duration, chance: &mut Chance) -> Self {
        let mut nodes: Vec<usize> = (0..count).collect();
        chance.shuffle(&mut nodes);
        let outer = if kind == Kind::Two { chance.one_of(&OUTER).copied() } else { None };
        let inner = if kind == Kind::Two { chance.one_of(&INNER).copied() } else { None };
        let inner = inner.map(|inner| Box::new(Self::new(inner, count, lasts.mul_f64(INNER_PART), chance)));
        let first = match outer.unwrap_or(kind) {
            Kind::OneWay => usize::try_from(chance.between((1, count as u64 - 1))).unwrap_or(1),
            Kind::Bridge => (count - 1) / 2,
            _ => count / 2,
        };
        let kept = matches!(outer.unwrap_or(kind), Kind::OneWay | Kind::Bridge);
        Self { kind, nodes, first, lasts: if kept { lasts + KEPT } else { lasts }, outer, inner }
    }

    /// Its kind; of two that of the outer one.
    pub(crate) fn first_kind(&self) -> Kind {
        self.outer.unwrap_or(self.kind)
    }

    /// All nodes.
    pub(crate) fn nodes(&self) -> std::ops::Range<usize> {
        0..self.nodes.len()
    }

    /// The node that it happens to, where it happens to one.
    pub(crate) fn victim(&self) -> usize {
        self.nodes.first().copied().unwrap_or_default()
    }

    /// Pairs of which at least one does not hear the other.
    pub(crate) fn cut(&self) -> Vec<(usize, usize)> {
        let (one, other): (&[usize], &[usize]) = match self.first_kind() {
            Kind::Halves => self.nodes.split_at(self.first.min(self.nodes.len())),
            Kind::OneWay => {
                let (victim, others) = self.nodes.split_at(1.min(self.nodes.len()));
                (victim, others.get(..self.first).unwrap_or(others))
            }
            Kind::Bridge => {
                let rest = self.nodes.get(1..).unwrap_or_default();
                rest.split_at(self.first.min(rest.len()))
            }
            _ => return Vec::new(),
        };
        one.iter().flat_map(|one| other.iter().map(|other| (*one, *other))).collect()
    }

    /// Nodes that are killed, or stopped.
    pub(crate) fn touched(&self) -> Vec<usize> {
        match self.kind {
            Kind::Kill | Kind::Pause | Kind::Dns | Kind::Disk | Kind::Clock => vec![self.victim()],
            Kind::Two => self.inner.as_ref().map(|inner| inner.touched()).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// Whether what is touched loses its processes.
    pub(crate) fn kills(&self) -> bool {
        match self.kind {
            Kind::Two => self.inner.as_ref().is_some_and(|inner| inner.kills()),
            kind => matches!(kind, Kind::Kill | Kind::Dns | Kind::Disk | Kind::Clock),
        }
    }

    /// What it does to whom, for people.
    pub(crate) fn in_words(&self) -> String {
        let names = |nodes: &[usize]| nodes.iter().map(|node| format!("node-{node}")).collect::<Vec<_>>().join(", ");
        let (first, rest) = self.nodes.split_at(self.first.min(self.nodes.len()));
        let victim = names(&[self.victim()]);
        let inner = self.inner.as_ref().map(|inner| format!("; in it {}", inner.in_words())).unwrap_or_default();
        let own = match self.first_kind() {
            Kind::Halves => format!("{} | {}", names(first), names(rest)),
            Kind::OneWay => {
                let deaf: Vec<usize> = self.cut().into_iter().map(|(_, other)| other).collect();
                format!("{victim} does not hear {}", names(&deaf))
            }
            Kind::Bridge => {
                let rest = self.nodes.get(1..).unwrap_or_default();
                let (one, other) = rest.split_at(self.first.min(rest.len()));
                format!("{} | {}, and {victim} between them", names(one), names(other))
            }
            Kind::Kill => format!("SIGKILL to {victim}"),
            Kind::Pause => format!("SIGSTOP to {victim}"),
            Kind::Loss => format!("{:.0} % of all datagrams", LOSS * 100.0),
            Kind::Slow => format!("1 Mbit/s from {victim}"),
            Kind::Dns => format!("DNS is silent, SIGKILL to {victim}"),
            Kind::Disk => format!("all disks are full, SIGKILL to {victim}"),
            Kind::Cpu => format!("a tenth of a core for {victim}"),
            Kind::Clock => {
                format!("{victim} starts {AHEAD_S} s ahead, and again {} s behind", -BEHIND_S)
            }
            Kind::Two => "two at once".to_owned(),
        };
        own + &inner
    }

    /// Sets it, has it last, and takes it back. What shows that it happened is entered meanwhile.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn run(&self, cluster: &mut Cluster, recorder: &Recorder, number: u64) -> Result<(), String> {
        let fault = self.kind.to_string();
        let show = |(shown, how)| recorder.note(What::Shown { fault: fault.clone(), shown, how });
        self.run_shown(cluster, recorder, &show, number).await
    }

    async fn run_shown(
        &self,
        cluster: &mut Cluster,
        recorder: &Recorder,
        show: &(dyn Fn(Evidence) + Sync),
        number: u64,
    ) -> Result<(), String> {
        let standing = self.set(cluster, number).await?;
        match self.kind {
            Kind::Two => {
                tokio::time::sleep(self.lasts.mul_f64(ALONE_PART)).await;
                if let Some(inner) = &self.inner {
                    Box::pin(inner.run_shown(cluster, recorder, show, number)).await?;
                }
                tokio::time::sleep(self.lasts.mul_f64(ALONE_PART)).await;
            }
            Kind::Clock => self.clocks(cluster, recorder, show).await?,
            Kind::Kill | Kind::Dns | Kind::Disk => {
                show(self.kill(cluster)?);
                tokio::time::sleep(self.lasts.mul_f64(DEAD_PART)).await;
                cluster.start_node(self.victim(), None)?;
                // One that was killed runs again: that was all of it.
                if self.kind != Kind::Kill {
                    tokio::time::sleep(self.lasts.mul_f64(1.0 - DEAD_PART)).await;
                }
            }
            _ => tokio::time::sleep(self.lasts).await,
        }
        evidence::of(self, cluster, &standing).await?.into_iter().for_each(show);
        self.undo(cluster, standing).await
    }

    /// SIGKILL. Gives what shows it.
    fn kill(&self, cluster: &mut Cluster) -> Result<Evidence, String> {
        let victim = self.victim();
        let pid = cluster.os_pid(victim).ok_or("it does not run")?;
        cluster.kill(victim);
        let gone = Cluster::state_of(pid).is_none();
        Ok((gone, format!("process {pid} of node-{victim} is gone: {gone}")))
    }

    /// Begins what stands until it is taken back.
    async fn set(&self, cluster: &mut Cluster, number: u64) -> Result<Standing, String> {
        let (mut standing, victim) = (Standing::default(), self.victim());
        let nodes = 0..self.nodes.len();
        match self.first_kind() {
            Kind::Halves | Kind::Bridge => {
                for (one, other) in self.cut() {
                    network::deafen(one, &[other])?;
                    network::deafen(other, &[one])?;
                }
            }
            Kind::OneWay => self.cut().into_iter().try_for_each(|(one, other)| network::deafen(one, &[other]))?,
            Kind::Kill | Kind::Clock | Kind::Two => {}
            Kind::Pause => cluster.signal(victim, "STOP"),
            Kind::Loss => nodes.clone().try_for_each(|node| network::lose(node, LOSS))?,
            Kind::Slow => network::slow(victim)?,
            Kind::Dns => {
                // Or silence would show nothing.
                if !cluster.dns_answers().await.map_err(|error| error.to_string())? {
                    return Err("DNS gives no answer before it is silenced".to_owned());
                }
                cluster.silence_dns(true);
            }
            Kind::Disk => nodes.clone().try_for_each(|node| cluster.fill_disk(node))?,
            Kind::Cpu => {
                let pid = cluster.os_pid(victim).ok_or("it does not run")?;
                let signal = move |signal: &str| {
                    drop(std::process::Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status());
                };
                standing.limit = Some(Limit::set(pid, number, signal));
            }
        }
        Ok(standing)
    }

    /// The node lives with a clock that is ahead, which then jumps back; and is started again with one that is behind all that. What
    /// it begins with then is refused by the others, so it begins anew by itself.
    async fn clocks(
        &self,
        cluster: &mut Cluster,
        recorder: &Recorder,
        show: &(dyn Fn(Evidence) + Sync),
    ) -> Result<(), String> {
        let victim = self.victim();
        let clock = cluster.clock(victim).ok_or("libfaketime is missing (Debian: libfaketime)")?;
        clock.set(AHEAD_S)?;
        show(self.kill(cluster)?);
        cluster.start_node(victim, Some(&clock))?;
        let first = cluster.begun(victim).await?;
        let ahead = seconds_ahead(&first)?;
        show((ahead > AHEAD_S - NEAR_S, format!("node-{victim} has begun with a clock that is {ahead} s ahead")));
        tokio::time::sleep(self.lasts / 2).await;
        clock.set(0)?;
        tokio::time::sleep(self.lasts / 2).await;

        clock.set(BEHIND_S)?;
        recorder.note(What::Killed { node: first.to_string() });
        show(self.kill(cluster)?);
        cluster.start_node(victim, Some(&clock))?;
        let second = cluster.begun(victim).await?;
        // It ends itself soon.
        recorder.note(What::Killed { node: second.to_string() });
        let ahead = seconds_ahead(&second)?;
        show((
            ahead < BEHIND_S + NEAR_S,
            format!("node-{victim} has begun again with a clock that is {} s behind", -ahead),
        ));
        let anew = cluster.line(victim, BEGINS_ANEW).await;
        show((anew.is_ok(), format!("node-{victim} begins anew, as it is older than its last life: {}", anew.is_ok())));
        clock.set(0)
    }

    /// Takes it back.
    async fn undo(&self, cluster: &mut Cluster, standing: Standing) -> Result<(), String> {
        let nodes = 0..self.nodes.len();
        match self.first_kind() {
            Kind::Halves | Kind::Bridge | Kind::OneWay | Kind::Loss => nodes.clone().try_for_each(network::hear)?,
            Kind::Slow => network::quicken(self.victim())?,
            Kind::Pause => cluster.signal(self.victim(), "CONT"),
            Kind::Dns => cluster.silence_dns(false),
            Kind::Disk => nodes.clone().try_for_each(|node| cluster.empty_disk(node))?,
            Kind::Kill | Kind::Cpu | Kind::Clock | Kind::Two => {}
        }
        if let Some(limit) = standing.limit {
            limit.lift().await;
        }
        Ok(())
    }
}

/// By how much the clock was ahead by which a node has begun just now.
fn seconds_ahead(node: &NodeId) -> Result<i64, String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(|error| error.to_string())?;
    let seconds = |seconds: u64| i64::try_from(seconds).map_err(|error| error.to_string());
    Ok(seconds(node.incarnation().0 / 1_000_000)? - seconds(now.as_secs())?)
}
