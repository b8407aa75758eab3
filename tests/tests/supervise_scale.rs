//! Many children on one node: 100,000 under 64 supervisors, of which 10,000 are killed at once. In release that heals within
//! two seconds on two cores; here the bound is one for a debug build on a busy machine.

#![allow(clippy::unwrap_used, missing_docs)] // A test may stop where it fails.
#![allow(clippy::print_stdout)] // It prints how long it took.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rookery_node::{
    Node,
    supervise::{
        ChildId, ChildInfo, ChildSpec, ChildStart, ChildStatus, Strategy, Supervisor, SupervisorMessage, SupervisorSpec,
    },
};
use rookery_runtime::{Address, Context, ExitReason};
use rookery_tests::{cluster::node_config, placement};

const SUPERVISORS: usize = 64;
const CHILDREN: usize = 100_000;
const KILLED: usize = 10_000;

/// Far above what it takes, far below what anything quadratic would.
const BOUND: Duration = Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 2 });

/// The share of the supervisor of this number.
fn share(whole: usize, number: usize) -> usize {
    whole * (number + 1) / SUPERVISORS - whole * number / SUPERVISORS
}

async fn reached(count: &AtomicUsize, wanted: usize, begin: Instant) {
    while count.load(Ordering::Relaxed) < wanted {
        assert!(begin.elapsed() < BOUND, "{} of {wanted} after {BOUND:?}", count.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn children(supervisor: &Address<SupervisorMessage>) -> Vec<ChildInfo> {
    supervisor.call_within(BOUND, SupervisorMessage::Children).await.unwrap()
}

#[test]
fn a_hundred_thousand_children_heal_from_the_loss_of_ten_thousand() {
    placement::run(async {
        let node = Node::start(node_config("large", &[])).await.unwrap();
        let started = Arc::new(AtomicUsize::new(0));
        let begin = Instant::now();
        let starting: Vec<_> = (0..SUPERVISORS)
            .map(|number| {
                let count = started.clone();
                let idle = ChildStart::process(move |mut context: Context<()>| {
                    count.fetch_add(1, Ordering::Relaxed);
                    async move { drop(context.receive().await) }
                });
                let spec = SupervisorSpec::new(Strategy::OneForOne).intensity(u32::MAX, Duration::from_secs(60));
                let spec = (0..share(CHILDREN, number)).fold(spec, |spec, child| {
                    spec.child(ChildSpec::new(ChildId::new(child.to_string()).unwrap(), idle.clone()))
                });
                let runtime = node.runtime().clone();
                tokio::spawn(async move { Supervisor::start(&runtime, spec).await.unwrap() })
            })
            .collect();
        let mut supervisors = Vec::new();
        for starting in starting {
            supervisors.push(starting.await.unwrap());
        }
        reached(&started, CHILDREN, begin).await;
        println!("{CHILDREN} children under {SUPERVISORS} supervisors started in {:?}", begin.elapsed());

        let mut killed = Vec::new();
        for (number, supervisor) in supervisors.iter().enumerate() {
            let pids = children(supervisor).await.into_iter().filter_map(|child| child.pid);
            killed.extend(pids.take(share(KILLED, number)));
        }
        assert_eq!(killed.len(), KILLED);
        let begin = Instant::now();
        killed.iter().for_each(|pid| node.exit(pid, ExitReason::Kill));
        reached(&started, CHILDREN + KILLED, begin).await;
        for (number, supervisor) in supervisors.iter().enumerate() {
            while supervisor.call_within(BOUND, SupervisorMessage::Count).await.unwrap().active
                < share(CHILDREN, number) as u64
            {
                assert!(begin.elapsed() < BOUND, "not all run after {BOUND:?}");
            }
        }
        println!("{KILLED} of them killed, and started again, in {:?}", begin.elapsed());

        let mut restarts = 0;
        for supervisor in &supervisors {
            for child in children(supervisor).await {
                assert_eq!(child.status, ChildStatus::Running);
                restarts += child.restarts;
            }
        }
        assert_eq!(restarts, KILLED as u64, "each once, and nobody else");
    });
}
