//! The nemesis: what is done to the nodes, one fault after the other. Which nodes it hits is chance with a seed.
//!
//! A fault is set, lasts, and is taken back. `Plan` says beforehand who is cut off from whom and who is killed or stopped: the checker
//! judges by it.

use std::{fmt, time::Duration};

use crate::{
    chance::Chance,
    cluster::{Clock, Cluster},
    cpu::Limit,
    network,
};

/// What part of all datagrams is lost.
const LOSS: f64 = 0.1;

/// A clock that jumps ahead does so by an hour, and back by less than certificates are made valid before they are issued.
const AHEAD_S: i64 = 3_600;
const BEHIND_S: i64 = -240;

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
    /// A node's clock jumps an hour ahead, and then four minutes behind.
    Clock,
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
}

/// A fault that is on.
#[derive(Default)]
pub(crate) struct Standing {
    limit: Option<Limit>,
    clock: Option<Clock>,
}

impl Plan {
    pub(crate) fn new(kind: Kind, count: usize, lasts: Duration, chance: &mut Chance) -> Self {
        let mut nodes: Vec<usize> = (0..count).collect();
        chance.shuffle(&mut nodes);
        let first = match kind {
            Kind::OneWay => usize::try_from(chance.between((1, count as u64 - 1))).unwrap_or(1),
            Kind::Bridge => (count - 1) / 2,
            _ => count / 2,
        };
        let kept = matches!(kind, Kind::OneWay | Kind::Bridge);
        Self { kind, nodes, first, lasts: if kept { lasts + KEPT } else { lasts } }
    }

    /// The node that it happens to, where it happens to one.
    fn victim(&self) -> usize {
        self.nodes.first().copied().unwrap_or_default()
    }

    /// Pairs of which at least one does not hear the other.
    pub(crate) fn cut(&self) -> Vec<(usize, usize)> {
        let (one, other): (&[usize], &[usize]) = match self.kind {
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
            _ => Vec::new(),
        }
    }

    /// Whether what is touched loses its processes.
    pub(crate) fn kills(&self) -> bool {
        matches!(self.kind, Kind::Kill | Kind::Dns | Kind::Disk | Kind::Clock)
    }

    /// What it does to whom, for people.
    pub(crate) fn in_words(&self) -> String {
        let names = |nodes: &[usize]| nodes.iter().map(|node| format!("node-{node}")).collect::<Vec<_>>().join(", ");
        let (first, rest) = self.nodes.split_at(self.first.min(self.nodes.len()));
        let victim = names(&[self.victim()]);
        match self.kind {
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
                format!("{victim} starts again, and its clock jumps {AHEAD_S} s ahead and {} s behind", -BEHIND_S)
            }
        }
    }

    /// Sets it, and has it last.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn run(&self, cluster: &mut Cluster, number: u64) -> Result<Standing, String> {
        let (mut standing, victim) = (Standing::default(), self.victim());
        let nodes = 0..self.nodes.len();
        match self.kind {
            Kind::Halves | Kind::Bridge => {
                for (one, other) in self.cut() {
                    network::deafen(one, &[other])?;
                    network::deafen(other, &[one])?;
                }
            }
            Kind::OneWay => self.cut().into_iter().try_for_each(|(one, other)| network::deafen(one, &[other]))?,
            Kind::Kill | Kind::Clock => {}
            Kind::Pause => cluster.signal(victim, "STOP"),
            Kind::Loss => nodes.clone().try_for_each(|node| network::lose(node, LOSS))?,
            Kind::Slow => network::slow(victim)?,
            Kind::Dns => cluster.silence_dns(true),
            Kind::Disk => nodes.clone().try_for_each(|node| cluster.fill_disk(node))?,
            Kind::Cpu => {
                let pid = cluster.os_pid(victim).ok_or("it does not run")?;
                let signal = move |signal: &str| {
                    drop(std::process::Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status());
                };
                standing.limit = Some(Limit::set(pid, number, signal));
            }
        }
        if self.kind == Kind::Clock {
            standing.clock = cluster.clock(victim);
            let clock = standing.clock.as_ref().ok_or("libfaketime is missing (Debian: libfaketime)")?;
            clock.set(0)?;
            cluster.kill(victim);
            cluster.start_node(victim, Some(clock))?;
            // It is not started while its clock is behind: a life that began before the last one is refused, as is stated.
            for jump in [0, AHEAD_S, BEHIND_S] {
                clock.set(jump)?;
                tokio::time::sleep(self.lasts / 3).await;
            }
        } else if self.kills() {
            cluster.kill(victim);
            tokio::time::sleep(self.lasts.mul_f64(DEAD_PART)).await;
            cluster.start_node(victim, None)?;
            tokio::time::sleep(self.lasts.mul_f64(1.0 - DEAD_PART)).await;
        } else {
            tokio::time::sleep(self.lasts).await;
        }
        Ok(standing)
    }

    /// Takes it back.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn undo(&self, cluster: &mut Cluster, standing: Standing) -> Result<(), String> {
        let nodes = 0..self.nodes.len();
        match self.kind {
            Kind::Halves | Kind::Bridge | Kind::OneWay | Kind::Loss => nodes.clone().try_for_each(network::hear)?,
            Kind::Slow => network::quicken(self.victim())?,
            Kind::Pause => cluster.signal(self.victim(), "CONT"),
            Kind::Dns => cluster.silence_dns(false),
            Kind::Disk => nodes.clone().try_for_each(|node| cluster.empty_disk(node))?,
            Kind::Kill | Kind::Cpu | Kind::Clock => {}
        }
        if let Some(clock) = standing.clock {
            clock.set(0)?;
        }
        if let Some(limit) = standing.limit {
            limit.lift().await;
        }
        Ok(())
    }
}
