//! A tenth of a core for one node: by a control group where that can be had (version 1 or 2), else by stopping and continuing the
//! process, a tenth of the time each. In the group the node has company that takes all that it gets, or a node with little to do
//! would not come to its limit.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::complain;

/// The kernel's own period, of which the node gets a tenth.
const PERIOD_US: u64 = 100_000;

/// Where version 1 has its controller, and version 2 all.
const V1: &str = "/sys/fs/cgroup/cpu";
const V2: &str = "/sys/fs/cgroup";

/// What the groups of a run are called before its number.
const PREFIX: &str = "rookery-chaos-";

/// A limit. It is taken back when it goes.
pub(crate) enum Limit {
    Group { group: PathBuf, pid: u32, company: Option<Child> },
    Duty { stop: tokio::sync::oneshot::Sender<()>, task: tokio::task::JoinHandle<()>, stops: Arc<AtomicU64> },
}

impl Limit {
    /// Limits the process; in a group called by this number, if there are groups here.
    pub(crate) fn set(pid: u32, number: u64, signal: impl Fn(&str) + Send + 'static) -> Self {
        match group(pid, number) {
            Ok(group) => {
                let company = Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn();
                let company = company.and_then(|mut company| {
                    let joined = fs::write(group.join("cgroup.procs"), company.id().to_string());
                    // Outside it would take a whole core.
                    joined.or_else(|error| company.kill().and(Err(error)))?;
                    Ok(company)
                });
                Self::Group { group, pid, company: company.ok() }
            }
            Err(error) => {
                complain(&format!("no control group limits the CPU here ({error}): SIGSTOP and SIGCONT do"));
                let (stop, mut stopped) = tokio::sync::oneshot::channel();
                let stops = Arc::new(AtomicU64::new(0));
                let count = stops.clone();
                let task = tokio::spawn(async move {
                    loop {
                        signal("STOP");
                        count.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_micros(PERIOD_US * 9 / 10)).await;
                        signal("CONT");
                        let on = tokio::time::sleep(Duration::from_micros(PERIOD_US / 10));
                        tokio::select! {
                            () = on => {}
                            _ = &mut stopped => return,
                        }
                    }
                });
                Self::Duty { stop, task, stops }
            }
        }
    }

    /// How often it has made the node wait so far.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn waits(&self) -> Result<u64, String> {
        match self {
            Self::Group { group, pid, .. } => {
                // Its company comes to the limit by itself.
                let members = fs::read_to_string(group.join("cgroup.procs")).map_err(|error| error.to_string())?;
                if !members.lines().any(|member| member == pid.to_string()) {
                    return Err(format!("process {pid} is not in the group {}", group.display()));
                }
                let file = group.join("cpu.stat");
                let told = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
                let throttled = told.lines().find_map(|line| line.strip_prefix("nr_throttled "));
                Ok(throttled.and_then(|count| count.trim().parse().ok()).unwrap_or_default())
            }
            Self::Duty { stops, .. } => Ok(stops.load(Ordering::Relaxed)),
        }
    }

    /// Takes it back.
    pub(crate) async fn lift(mut self) {
        if let Self::Duty { stop, task, .. } = &mut self {
            let (none, _) = tokio::sync::oneshot::channel();
            // A task that has ended has left it running.
            std::mem::replace(stop, none).send(()).ok();
            // It is left running: the task ends behind its `CONT`.
            drop(task.await);
        }
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if let Self::Group { group, company, .. } = self {
            if let Some(company) = company {
                drop(company.kill());
                drop(company.wait());
            }
            drop(dissolve(group));
        }
    }
}

fn group(pid: u32, number: u64) -> io::Result<PathBuf> {
    let first = Path::new(V1).join("cpu.cfs_quota_us").exists();
    let root = Path::new(if first { V1 } else { V2 });
    // Of runs that were killed.
    for stale in fs::read_dir(root)?.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        drop(fs::remove_dir(stale.path()));
    }
    let group = root.join(format!("{PREFIX}{number}"));
    fs::create_dir(&group)?;
    let limited = if first {
        fs::write(group.join("cpu.cfs_period_us"), PERIOD_US.to_string())
            .and_then(|()| fs::write(group.join("cpu.cfs_quota_us"), (PERIOD_US / 10).to_string()))
    } else {
        fs::write(group.join("cpu.max"), format!("{} {PERIOD_US}", PERIOD_US / 10))
    };
    let joined = limited.and_then(|()| fs::write(group.join("cgroup.procs"), pid.to_string()));
    if joined.is_err() {
        drop(dissolve(&group));
    }
    joined.map(|()| group)
}

/// Its processes go back to where they came from.
fn dissolve(group: &Path) -> io::Result<()> {
    let root = group.parent().unwrap_or(group).join("cgroup.procs");
    for pid in fs::read_to_string(group.join("cgroup.procs"))?.lines() {
        drop(fs::write(&root, pid));
    }
    fs::remove_dir(group)
}
