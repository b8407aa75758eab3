//! What a process can ask about the node that it runs on. A handle that does not keep the node: once that is gone, there are no
//! peers and no clients.

use std::sync::Weak;

use rookery_protocol::Pid;
use rookery_runtime::Runtime;

use crate::{
    mesh::{PeerInfo, driver::Mesh},
    session::policy::policy_of,
    status::Labels,
};

/// What a process can ask about its node.
#[derive(Clone)]
pub struct Insight {
    pub(crate) runtime: Runtime,
    pub(crate) mesh: Weak<Mesh>,
    pub(crate) labels: Labels,
}

impl Insight {
    /// The node's processes.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The nodes that it is connected with.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.mesh.upgrade().map(|mesh| mesh.peers.infos()).unwrap_or_default()
    }

    /// The node's labels.
    #[must_use]
    pub fn labels(&self) -> Labels {
        self.labels.clone()
    }

    /// Whether `client`, a process of a client of this node, may end processes by its policy, and so do what is as bad. What
    /// it may not is counted as refused to a client.
    pub(crate) fn may_exit(&self, client: Option<&Pid>) -> Result<(), String> {
        let (Some(mesh), Some(client)) = (self.mesh.upgrade(), client) else {
            return Err("it is not known who asks: only members and clients that wait for the answer may".to_owned());
        };
        let session = client.serial().session().filter(|_| client.node() == self.runtime.node());
        let Some(client) = session.and_then(|session| mesh.peers.client(session)) else {
            return Err(format!(
                "{client} is not a client of this node: it has to ask the node that it is connected to"
            ));
        };
        if policy_of(&mesh.policies, &mesh.default_policy, &client.name).exit {
            return Ok(());
        }
        self.runtime.count_refused_to_client();
        Err(format!("the policy of client `{}` does not let it suspend or resume servers: it needs exit", client.name))
    }

    /// How many clients are connected.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.mesh.upgrade().map(|mesh| mesh.peers.client_count()).unwrap_or_default()
    }
}
