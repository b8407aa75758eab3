//! Placements: where the two processes of a test live. Every test of the contract is one function of two runtimes, `a`
//! and `b`; the process that is tested lives in `b`, its counterpart in `a`. [`contract!`](crate::contract) makes a test
//! of it for each placement.

use std::time::Duration;

use rookery_client::Client;
use rookery_node::Node;
use rookery_runtime::{Incarnation, NodeId, NodeName, ProcessName, Runtime, RuntimeConfig};

use crate::{
    behaviours::behaviours,
    cluster::{client, mesh},
    patience::eventually,
};

/// No test may take longer, whatever it waits for.
const TEST_LIMIT: Duration = Duration::from_secs(90);

/// Where `a` and `b` are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// `a` and `b` are the same node.
    SameNode,
    /// `a` and `b` are two nodes.
    TwoNodes,
    /// `a` is a client of node `b`.
    ClientToItsNode,
    /// `b` is a client of node `a`.
    NodeToItsClient,
    /// `a` is a client of another node than `b`.
    ClientToOtherNode,
    /// `b` is a client of another node than `a`.
    NodeToOtherClient,
    /// `a` and `b` are two clients of one node.
    ClientsOfOneNode,
    /// `a` and `b` are clients of two nodes.
    ClientsOfTwoNodes,
}

/// Two runtimes, and what they stand on.
struct Stage {
    a: Runtime,
    b: Runtime,
    /// Clients and nodes live as long as the test.
    _clients: Vec<Client>,
    _nodes: Vec<Node>,
}

/// One of the two: a node, or a client of a node, by its number.
#[derive(Clone, Copy)]
enum Place {
    Node(usize),
    ClientOf(usize),
}

impl Placement {
    /// How many nodes there are, and where on them `a` and `b` are.
    fn places(self) -> (usize, Place, Place) {
        use Place::{ClientOf, Node};
        match self {
            Self::SameNode => (1, Node(0), Node(0)),
            Self::TwoNodes => (2, Node(0), Node(1)),
            Self::ClientToItsNode => (1, ClientOf(0), Node(0)),
            Self::NodeToItsClient => (1, Node(0), ClientOf(0)),
            Self::ClientToOtherNode => (2, ClientOf(0), Node(1)),
            Self::NodeToOtherClient => (2, Node(0), ClientOf(1)),
            Self::ClientsOfOneNode => (1, ClientOf(0), ClientOf(0)),
            Self::ClientsOfTwoNodes => (2, ClientOf(0), ClientOf(1)),
        }
    }

    async fn set_up(self) -> Stage {
        let (count, a, b) = self.places();
        let nodes = mesh(count, |_| ()).await;
        let mut clients = Vec::new();
        let (a, b) = (place(a, &nodes, &mut clients).await, place(b, &nodes, &mut clients).await);
        Stage { a, b, _clients: clients, _nodes: nodes }
    }
}

async fn place(place: Place, nodes: &[Node], clients: &mut Vec<Client>) -> Runtime {
    match place {
        Place::Node(number) => nodes[number].runtime().clone(),
        Place::ClientOf(number) => {
            let client = client("client", &[&nodes[number]]).await;
            let runtime = client.runtime();
            // Its session is open at its node, too, so that its pids can be told about; and it knows the cluster.
            let nobody = ProcessName::new("nobody").unwrap();
            assert_eq!(runtime.whereis(&nobody).await.unwrap(), None);
            eventually("the client knows the nodes", || runtime.nodes().len() == nodes.len()).await;
            clients.push(client);
            runtime
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
        $crate::contract!(@in $name
            same_node SameNode,
            two_nodes TwoNodes,
            client_to_its_node ClientToItsNode,
            node_to_its_client NodeToItsClient,
            client_to_other_node ClientToOtherNode,
            node_to_other_client NodeToOtherClient,
            clients_of_one_node ClientsOfOneNode,
            clients_of_two_nodes ClientsOfTwoNodes
        );
    };
    (@together $name:ident) => {
        $crate::contract!(@in $name same_node SameNode);
    };
    (@apart $name:ident) => {
        $crate::contract!(@in $name
            two_nodes TwoNodes,
            client_to_its_node ClientToItsNode,
            node_to_its_client NodeToItsClient,
            client_to_other_node ClientToOtherNode,
            node_to_other_client NodeToOtherClient,
            clients_of_one_node ClientsOfOneNode,
            clients_of_two_nodes ClientsOfTwoNodes
        );
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
