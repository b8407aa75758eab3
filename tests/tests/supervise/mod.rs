//! What the tests of rows V stand on: a supervisor in one runtime, its children in another, and a journal of what the
//! children did. The children are workers that nodes start by name; all nodes of a test are in its process, so each
//! writes into the test's own journal, in the order in which it happens.

mod asked;
mod clustered;
mod dynamic;
mod placed;

use std::time::Duration;

use rookery_client::Client;
use rookery_node::{
    Node, NodeConfig,
    supervise::{
        ChildId, ChildInfo, ChildSpec, ChildStart, ChildStatus, Placement, Strategy, Supervisor, SupervisorMessage,
        SupervisorSpec,
    },
};
use rookery_runtime::{
    Address, Behaviours, Context, Event, ExitReason, Pid, Received, ReplyTo, Runtime, Start, Starting,
};
use rookery_tests::{
    DEADLINE,
    cluster::{client_config, mesh},
    eventually, placement, within,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

/// Long enough that nothing takes so long by chance.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// What a worker is told to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Work {
    End(ExitReason),
    Panic,
    Add(i64),
    Get(ReplyTo<i64>),
}

/// How a worker takes an exit signal.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Manner {
    /// Does not trap it.
    Plain,
    /// Traps it, and ends.
    Orderly,
    /// Traps it, and goes on.
    Stubborn,
}

#[derive(Debug, Serialize, Deserialize)]
struct WorkerArguments {
    name: String,
    manner: Manner,
}

/// What workers did: `start c`, `told c: shutdown`, `end c`; and `wait c` where the gate holds up a start.
pub(crate) struct Journal {
    write: mpsc::UnboundedSender<String>,
    read: mpsc::UnboundedReceiver<String>,
    /// While it is not open, workers wait in their start.
    pub(crate) gate: watch::Sender<bool>,
}

impl Journal {
    pub(crate) fn new() -> Self {
        let (write, read) = mpsc::unbounded_channel();
        Self { write, read, gate: watch::Sender::new(true) }
    }

    /// The behaviour `worker`, whose processes write here.
    pub(crate) fn behaviours(&self) -> Behaviours {
        let (write, gate) = (self.write.clone(), self.gate.clone());
        let worker =
            move |arguments, context, starting| work(arguments, context, starting, write.clone(), gate.subscribe());
        Behaviours::new().process("worker", |options| options, worker).unwrap()
    }

    pub(crate) fn of_node(&self, config: &mut NodeConfig) {
        config.behaviours = self.behaviours();
    }

    pub(crate) async fn next(&mut self) -> String {
        within("a worker to do something", self.read.recv()).await.unwrap()
    }

    pub(crate) async fn expect(&mut self, expected: &[&str]) {
        for (at, expected) in expected.iter().enumerate() {
            assert_eq!(self.next().await, *expected, "line {at}");
        }
    }

    /// What has been written and not been read.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.read.try_recv().ok()).collect()
    }
}

/// Writes that a worker has ended, however it did; dropped before anybody is told of the end.
struct Ends(mpsc::UnboundedSender<String>, String);

impl Drop for Ends {
    fn drop(&mut self) {
        drop(self.0.send(format!("end {}", self.1)));
    }
}

async fn work(
    WorkerArguments { name, manner }: WorkerArguments,
    mut context: Context<Work>,
    starting: Starting,
    write: mpsc::UnboundedSender<String>,
    mut gate: watch::Receiver<bool>,
) -> ExitReason {
    let _ends = Ends(write.clone(), name.clone());
    let note = |line: String| drop(write.send(line));
    if !*gate.borrow() {
        note(format!("wait {name}"));
        gate.wait_for(|open| *open).await.unwrap();
    }
    context.trap_exits(!matches!(manner, Manner::Plain));
    note(format!("start {name}"));
    starting.ready(&context);
    let mut sum = 0;
    loop {
        match context.receive().await {
            Received::Message(Work::End(reason)) => return reason,
            Received::Message(Work::Panic) => panic!("{name} was told to"),
            Received::Message(Work::Add(number)) => sum += number,
            Received::Message(Work::Get(reply)) => drop(reply.send(sum)),
            Received::Event(Event::Exit { reason, .. }) => {
                note(format!("told {name}: {reason}"));
                if matches!(manner, Manner::Orderly) {
                    return reason;
                }
            }
            Received::Event(_) => {}
        }
    }
}

pub(crate) fn id(name: &str) -> ChildId {
    ChildId::new(name).unwrap()
}

pub(crate) fn error(text: &str) -> ExitReason {
    ExitReason::Error(text.to_owned())
}

/// A supervisor that any number of restarts does not end.
pub(crate) fn patient(strategy: Strategy) -> SupervisorSpec {
    SupervisorSpec::new(strategy).intensity(1_000, LONG)
}

pub(crate) fn worker(name: &str, manner: Manner, placement: Placement) -> ChildSpec {
    let arguments = WorkerArguments { name: name.to_owned(), manner };
    let start = Start::new("worker".parse().unwrap(), &arguments).unwrap();
    ChildSpec::new(id(name), ChildStart::placed(start, placement))
}

/// Where the supervisor is, and where its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Where {
    SameNode,
    TwoNodes,
    /// The supervisor is in a client, the children on the client's node.
    ClientToItsNode,
    /// The supervisor is in a client of another node than that of the children.
    ClientToOtherNode,
    /// All are in one client. No supervisor elsewhere can start children in a client, since it is no node.
    InAClient,
}

/// The two runtimes, and what they stand on.
pub(crate) struct Stage {
    /// The supervisor's.
    pub(crate) a: Runtime,
    /// The children's.
    pub(crate) b: Runtime,
    pub(crate) journal: Journal,
    pub(crate) there: Placement,
    _clients: Vec<Client>,
    _nodes: Vec<Node>,
}

impl Stage {
    async fn set_up(place: Where) -> Self {
        let journal = Journal::new();
        let count = if matches!(place, Where::TwoNodes | Where::ClientToOtherNode) { 2 } else { 1 };
        let nodes = mesh(count, |config| journal.of_node(config)).await;
        let last = nodes.last().unwrap().runtime().clone();
        let (mut a, mut b) = (nodes[0].runtime().clone(), last);
        let mut there = Placement::Node(b.node().name().clone());
        let mut clients = Vec::new();
        if !matches!(place, Where::SameNode | Where::TwoNodes) {
            let client = client(&journal, &nodes).await;
            a = client.runtime();
            clients.push(client);
        }
        if place == Where::InAClient {
            (b, there) = (a.clone(), Placement::Here);
        }
        Self { a, b, journal, there, _clients: clients, _nodes: nodes }
    }

    /// A child in the children's runtime.
    pub(crate) fn child(&self, name: &str, manner: Manner) -> ChildSpec {
        worker(name, manner, self.there.clone())
    }

    pub(crate) async fn supervisor(&self, spec: SupervisorSpec) -> Family {
        Family::start(&self.a, spec).await
    }
}

/// A client of the first of these nodes that knows them all, and can start workers.
pub(crate) async fn client(journal: &Journal, nodes: &[Node]) -> Client {
    let mut config = client_config("client", &[&nodes[0]]);
    config.behaviours = journal.behaviours();
    let client = Client::connect(config).await.unwrap();
    let runtime = client.runtime();
    eventually("the client knows the nodes", || runtime.nodes().len() == nodes.len()).await;
    client
}

/// A supervisor that runs, as seen from its own runtime.
pub(crate) struct Family {
    pub(crate) pid: Pid,
    runtime: Runtime,
    pub(crate) address: Address<SupervisorMessage>,
}

impl Family {
    pub(crate) async fn start(runtime: &Runtime, spec: SupervisorSpec) -> Self {
        let address = within("a supervisor to start", Supervisor::start(runtime, spec)).await.unwrap();
        Self { pid: address.pid().unwrap(), runtime: runtime.clone(), address }
    }

    pub(crate) async fn children(&self) -> Vec<ChildInfo> {
        self.address.call(SupervisorMessage::Children).await.unwrap()
    }

    pub(crate) async fn statuses(&self) -> Vec<ChildStatus> {
        self.children().await.iter().map(|child| child.status).collect()
    }

    pub(crate) async fn child(&self, name: &str) -> Option<ChildInfo> {
        self.children().await.into_iter().find(|child| child.id.as_str() == name)
    }

    /// The child's process, which runs.
    pub(crate) async fn pid_of(&self, name: &str) -> Pid {
        self.child(name).await.unwrap().pid.unwrap()
    }

    /// Waits until the supervisor is done with the end of `old`: runs another, keeps the spec alone, or not even that.
    pub(crate) async fn settled(&self, name: &str, old: &Pid) -> Option<ChildInfo> {
        let settled = async {
            loop {
                let child = self.child(name).await;
                let settled = child.as_ref().is_none_or(|child| match child.status {
                    ChildStatus::Running => child.pid.as_ref() != Some(old),
                    status => status == ChildStatus::Stopped,
                });
                if settled {
                    return child;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        match tokio::time::timeout(DEADLINE, settled).await {
            Ok(child) => child,
            Err(_) => panic!("`{name}` is {:?} after {DEADLINE:?}", self.child(name).await),
        }
    }

    /// Waits until another process than `old` runs, and gives it.
    pub(crate) async fn successor(&self, name: &str, old: &Pid) -> Pid {
        self.settled(name, old).await.and_then(|child| child.pid).unwrap()
    }

    pub(crate) fn of(&self, pid: &Pid) -> Address<Work> {
        self.runtime.address(pid)
    }

    pub(crate) async fn tell(&self, pid: &Pid, work: Work) {
        self.of(pid).send(work).await.unwrap();
    }

    /// Asks the supervisor to shut down.
    pub(crate) fn shut_down(&self) {
        self.runtime.exit(&self.pid, ExitReason::Shutdown);
    }
}

/// Runs `body` in a placement.
pub(crate) fn check(place: Where, body: impl AsyncFnOnce(&mut Stage)) {
    placement::run(async {
        let mut stage = Stage::set_up(place).await;
        body(&mut stage).await;
    });
}

/// Makes a test of each function for each placement that the row can have.
#[macro_export]
macro_rules! supervised {
    ($($name:ident),* $(,)?) => {
        $(
            mod $name {
                use $crate::supervise::{Where, check};

                #[test]
                fn same_node() {
                    check(Where::SameNode, super::$name);
                }
                #[test]
                fn two_nodes() {
                    check(Where::TwoNodes, super::$name);
                }
                #[test]
                fn client_to_its_node() {
                    check(Where::ClientToItsNode, super::$name);
                }
                #[test]
                fn client_to_other_node() {
                    check(Where::ClientToOtherNode, super::$name);
                }
                #[test]
                fn in_a_client() {
                    check(Where::InAClient, super::$name);
                }
            }
        )*
    };
}
