//! A client as whoever serves its connections knows it (`rookery_runtime::net::legs`).

use std::{sync::Arc, time::Duration};

use quinn::{Connection, RecvStream};
use rookery_protocol::{
    ControlFrame, WireError,
    handshake::{Agreement, Features},
};
use rookery_runtime::net::{
    control::ConnectionError,
    lanes::{Incoming, read},
    legs::{Served, Work},
    outbound::Outbound,
};

use super::{driver::ClientInbox, silence::silent};
use crate::mesh::{
    credentials::Version,
    driver::{Mesh, told},
    peers::Client,
};

/// See the module.
pub(super) struct ServedClient {
    mesh: Arc<Mesh>,
    /// By its first connection.
    client: Arc<Client>,
    inbox: Arc<ClientInbox>,
}

impl ServedClient {
    pub(super) fn new(mesh: &Arc<Mesh>, client: Arc<Client>) -> Self {
        let inbox = Arc::new(ClientInbox::new(mesh, &client));
        Self { mesh: mesh.clone(), client, inbox }
    }

    pub(super) fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }
}

impl Served for ServedClient {
    /// The identity that this node showed.
    type Note = Version;

    fn outbound(&self) -> &Arc<Outbound> {
        &self.client.outbound
    }

    fn reading(&self, connection: &Connection, agreement: &Agreement, first: Option<RecvStream>) -> Work {
        let incoming = Incoming {
            own: self.mesh.own().clone(),
            peer: self.mesh.own().clone(),
            // Whatever it says: each lane has tables and a message under way, and its signals have one order.
            lanes: agreement.peer.lanes.min(1),
            max_message_bytes: self.mesh.settings.max_message_bytes,
            bulk: agreement.features.has(Features::BULK),
        };
        let (connection, inbox) = (connection.clone(), self.inbox.clone());
        Box::pin(async move { read(&connection, incoming, inbox, first).await })
    }

    fn watching(&self, connection: &Connection, agreement: &Agreement) -> Work {
        let ours = self.mesh.settings.idle_timeout;
        let limit = agreement.peer.idle_timeout.unwrap_or(ours).min(ours);
        let connection = connection.clone();
        Box::pin(async move { Err(ConnectionError::NoAnswer(silent(&connection, limit).await)) })
    }

    fn frame(&self, frame: ControlFrame) -> Result<(), ConnectionError> {
        match frame {
            ControlFrame::Goodbye(goodbye) => Err(ConnectionError::Goodbye(goodbye.reason)),
            ControlFrame::Leaving(_) => {
                self.client.departure.found_another();
                // For the processes that take their places in its next session.
                self.mesh.runtime.leave_names_of(self.client.session);
                Ok(())
            }
            _ => Err(WireError::Unexpected { kind: "handshake", detail: "the handshake is over" }.into()),
        }
    }

    fn lanes_ended(&self) -> ConnectionError {
        ConnectionError::Goodbye("disconnected".to_owned())
    }

    fn is_renewal_expected(&self) -> Option<Duration> {
        self.client.renewal.is_expected().then_some(self.mesh.settings.handshake_timeout)
    }

    fn stays(&self) {
        self.client.renewal.done();
    }

    fn has_gone_over(&self, connection: &Connection, made_with: Version) -> bool {
        let client = Arc::new(self.client.renewed(connection.clone(), made_with));
        if !self.mesh.peers.renew_client(client.clone()) {
            return false;
        }
        client.renewal.done();
        let (name, session, address) = (&client.name, client.session.get(), connection.remote_address());
        tracing::info!(client = name, session, %address, "client's connection renewed with the present certificates");
        true
    }

    async fn leaves(&self) -> String {
        told(&mut self.mesh.leaving.subscribe()).await
    }
}
