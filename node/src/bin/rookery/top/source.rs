//! Where `rookery top` has its snapshots from: the node that is connected to names the others, and each tells of itself.
//! The client comes back by itself when its node is lost, so every look uses the session that there is then.

use std::time::{Duration, Instant};

use rookery_client::Client;
use rookery_node::{
    NodeId,
    ask::Ask,
    system::{ProcessQuery, System},
};

use super::{
    super::connect::{CommandError, Session},
    rows::{Column, Snapshot},
};

/// What is wanted of the processes.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) sort: Column,
    pub(crate) reverse: bool,
    pub(crate) filter: String,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Source {
    client: Client,
    timeout: Duration,
    /// Only this node.
    node: Option<String>,
    /// How many processes of each node.
    limit: u32,
}

impl Source {
    pub(crate) fn new(session: &Session, node: Option<String>, limit: u32) -> Self {
        Self { client: session.client.clone(), timeout: session.timeout, node, limit }
    }

    /// The session that there is now.
    pub(crate) fn session(&self) -> Session {
        let runtime = self.client.runtime();
        Session { client: self.client.clone(), runtime, timeout: self.timeout, json: false }
    }

    /// Looks at the nodes and their processes.
    ///
    /// # Errors
    /// Why the node that is connected to does not answer, or that the wanted one is not up.
    pub(crate) async fn look(&self, wanted: &Wanted) -> Result<Snapshot, String> {
        self.try_look(wanted).await.map_err(|error| error.to_string())
    }

    async fn try_look(&self, wanted: &Wanted) -> Result<Snapshot, CommandError> {
        let session = self.session();
        let nodes: Vec<NodeId> = match &self.node {
            Some(name) => vec![session.node(Some(name)).await?],
            None => session.nodes().await?,
        };
        let query = ProcessQuery {
            sort: wanted.sort.sort_by(),
            reverse: wanted.reverse,
            offset: 0,
            limit: self.limit,
            filter: wanted.filter.clone(),
        };
        let at = Instant::now();
        let (infos, lists) = tokio::join!(
            session.ask_each(&nodes, System::Info),
            session.ask_each(&nodes, move |reply| System::Processes(Ask::new(query.clone(), reply))),
        );
        let (infos, lists) = (infos?, lists?);
        let mut silent = infos.silent;
        silent.extend(lists.silent);
        silent.dedup();
        Ok(Snapshot {
            at,
            here: session.runtime.node().name().to_string(),
            nodes: infos.answered.into_iter().map(|(_, info)| info).collect(),
            matching: lists.answered.iter().map(|(_, list)| list.matching).sum(),
            processes: lists.answered.into_iter().flat_map(|(_, list)| list.processes).collect(),
            silent,
        })
    }
}
