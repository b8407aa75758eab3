//! What shows that a fault really happened to the nodes: counters of the kernel, and looks from outside. It is gathered before the fault is
//! taken back, and the checker asks for it.

use crate::{
    cluster::Cluster,
    nemesis::{Kind, Plan, Standing},
    network,
};

/// Whether something shows the fault, and what it is.
pub(crate) type Evidence = (bool, String);

/// What shows a fault that stands. Of a kill or a wrong clock it is gathered as it happens.
///
/// # Errors
/// It cannot be looked for; in words.
pub(crate) async fn of(plan: &Plan, cluster: &Cluster, standing: &Standing) -> Result<Vec<Evidence>, String> {
    let victim = plan.victim();
    let mut found = Vec::new();
    match plan.first_kind() {
        kind @ (Kind::Halves | Kind::Bridge | Kind::OneWay) => {
            for (one, other) in plan.cut() {
                found.push(deaf(one, other)?);
                if kind != Kind::OneWay {
                    found.push(deaf(other, one)?);
                }
            }
        }
        Kind::Loss => {
            for node in plan.nodes() {
                let lost: u64 = network::dropped(node)?.into_iter().map(|(_, count)| count).sum();
                found.push((lost > 0, format!("node-{node} has lost {lost} datagrams by chance")));
            }
        }
        Kind::Slow => {
            let held = network::held_up(victim)?;
            found.push((held > 0, format!("the slow link of node-{victim} has held something up {held} times")));
        }
        Kind::Pause => {
            let pid = cluster.os_pid(victim).ok_or("it does not run")?;
            let state = Cluster::state_of(pid);
            found.push((
                state == Some('T'),
                format!("process {pid} of node-{victim} is in state {state:?}, and T is stopped"),
            ));
        }
        Kind::Dns => {
            let answers = cluster.dns_answers().await.map_err(|error| error.to_string())?;
            found.push((!answers, format!("DNS gives an answer: {answers}")));
        }
        Kind::Disk => {
            for node in plan.nodes() {
                let full = cluster.disk_is_full(node).map_err(|error| format!("the disk of node-{node}: {error}"))?;
                found.push((full, format!("the disk of node-{node} has no room for a byte: {full}")));
            }
        }
        Kind::Cpu => {
            let waits = standing.limit.as_ref().map_or(Ok(0), |limit| limit.waits())?;
            found.push((waits > 0, format!("node-{victim} had to wait for its tenth of a core {waits} times")));
        }
        Kind::Kill | Kind::Clock | Kind::Two => {}
    }
    Ok(found)
}

fn deaf(node: usize, to: usize) -> Result<Evidence, String> {
    let count = network::dropped_of(node, to)?;
    Ok((count > 0, format!("node-{node} has dropped {count} datagrams of node-{to}")))
}
