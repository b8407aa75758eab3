//! Placements: where the two processes of a test live. Every test of the contract is one function of two runtimes, `a`
//! and `b`; the process that is tested lives in `b`, its counterpart in `a`. [`contract!`](crate::contract) makes a test
//! of it for each placement.

use std::time::Duration;

use rookery_node::Node;
use rookery_runtime::{Incarnation, NodeId, NodeName, Runtime, RuntimeConfig};

use crate::{behaviours::behaviours, cluster::mesh};

/// No test may take longer, whatever it waits for.
const TEST_LIMIT: Duration = Duration::from_secs(90);

/// Where `a` and `b` are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// `a` and `b` are the same node.
    SameNode,
    /// `a` and `b` are two nodes.
    TwoNodes,
}

/// Two runtimes, and what they stand on.
struct Stage {
    a: Runtime,
    b: Runtime,
    /// Live as long as the test.
    _nodes: Vec<Node>,
}

impl Placement {
    async fn set_up(self) -> Stage {
        match self {
            Self::SameNode => {
                let nodes = mesh(1, |_| ()).await;
                Stage { a: nodes[0].runtime().clone(), b: nodes[0].runtime().clone(), _nodes: nodes }
            }
            Self::TwoNodes => {
                let nodes = mesh(2, |_| ()).await;
                Stage { a: nodes[0].runtime().clone(), b: nodes[1].runtime().clone(), _nodes: nodes }
            }
        }
    }
}

/// A runtime without connections, with the behaviours of the tests.
///
/// # Panics
/// Outside a tokio runtime, or when `name` is no name of a node.
#[must_use]
pub fn lone_runtime(name: &str, incarnation: u64) -> Runtime {
    let node = NodeId::new(NodeName::new(name).unwrap(), Incarnation(incarnation));
    Runtime::new(RuntimeConfig { behaviours: behaviours(), ..RuntimeConfig::new(node) }).unwrap()
}

/// Runs `body` in a placement, on a tokio runtime of its own.
///
/// # Panics
/// When the test fails, or takes too long.
pub fn check(placement: Placement, body: impl AsyncFnOnce(&Runtime, &Runtime)) {
    run(async {
        let stage = placement.set_up().await;
        body(&stage.a, &stage.b).await;
    });
}

/// Runs a test that brings its own runtimes.
///
/// # Panics
/// When the test fails, or takes too long.
pub fn run(test: impl Future<Output = ()>) {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let in_time = tokio.block_on(async { tokio::time::timeout(TEST_LIMIT, test).await });
    tokio.shutdown_background();
    assert!(in_time.is_ok(), "the test took longer than {TEST_LIMIT:?}");
}

/// Makes a test of each function for each placement: `everywhere`; only where `a` and `b` are `together`; or only where
/// they are `apart`.
///
/// A test's name is the function's, which begins with the row's id, and the placement: `p5_…::same_node`.
#[macro_export]
macro_rules! contract {
    ($($where:ident { $($name:ident),* $(,)? })*) => {
        $($($crate::contract!(@$where $name);)*)*
    };
    (@everywhere $name:ident) => {
        $crate::contract!(@in $name same_node SameNode, two_nodes TwoNodes);
    };
    (@together $name:ident) => {
        $crate::contract!(@in $name same_node SameNode);
    };
    (@apart $name:ident) => {
        $crate::contract!(@in $name two_nodes TwoNodes);
    };
    (@in $name:ident $($test:ident $placement:ident),*) => {
        mod $name {
            $(
                #[test]
                fn $test() {
                    $crate::check($crate::Placement::$placement, super::$name);
                }
            )*
        }
    };
}
