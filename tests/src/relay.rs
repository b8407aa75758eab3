//! A relay between nodes: forwards datagrams, until it is cut. So a test parts two nodes that both live on, and lets a
//! node be dialled at an address that is known before the node starts.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{net::UdpSocket, task::JoinSet};

/// Larger than any datagram on the loopback.
const DATAGRAM_BYTES: usize = 65_536;

/// A relay; dropped, it is gone.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    target: Arc<Mutex<Option<SocketAddr>>>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Starts one that leads nowhere yet.
    ///
    /// # Panics
    /// When there is no socket to be had.
    pub async fn start() -> Self {
        let front = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        let address = front.local_addr().unwrap();
        let target = Arc::new(Mutex::new(None));
        let mut tasks = JoinSet::new();
        tasks.spawn(forward(front, target.clone()));
        Self { address, target, _tasks: tasks }
    }

    /// Where to dial it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads there from now on.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = Some(target);
    }

    /// Swallows everything from now on, in both directions.
    pub fn cut(&self) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

async fn forward(front: Arc<UdpSocket>, target: Arc<Mutex<Option<SocketAddr>>>) {
    let leads_to = move || *target.lock().unwrap_or_else(PoisonError::into_inner);
    // One socket for each who dials, so that answers find their way back.
    let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut datagram = vec![0; DATAGRAM_BYTES];
    loop {
        let Ok((length, from)) = front.recv_from(&mut datagram).await else { continue };
        let Some(to) = leads_to() else { continue };
        let back = match backs.entry(from) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let back = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
                tasks.spawn(answers(back.clone(), front.clone(), from, leads_to.clone()));
                new.insert(back)
            }
        };
        back.send_to(&datagram[..length], to).await.ok();
    }
}

/// The way back.
async fn answers(
    back: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    to: SocketAddr,
    leads_to: impl Fn() -> Option<SocketAddr>,
) {
    let mut datagram = vec![0; DATAGRAM_BYTES];
    loop {
        let Ok((length, _)) = back.recv_from(&mut datagram).await else { continue };
        if leads_to().is_some() {
            front.send_to(&datagram[..length], to).await.ok();
        }
    }
}
