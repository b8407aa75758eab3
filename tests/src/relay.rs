//! A relay between nodes: forwards datagrams, until it is cut. So a test parts two nodes that both live on, and lets a
//! node be dialled at an address that is known before the node starts. It can be a long or a narrow path.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Larger than any datagram on the loopback.
const DATAGRAM_BYTES: usize = 65_536;

/// What waits before a narrow place; what comes beyond it is lost, as in a router.
const BUFFER: Duration = Duration::from_millis(100);

/// What a path is like, each way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Path {
    /// How long a datagram takes.
    pub delay: Duration,
    /// How much fits through; unlimited without.
    pub bytes_per_s: Option<u64>,
}

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
        Self::along(Path::default()).await
    }

    /// As [`start`](Self::start), with a path of that kind behind it.
    ///
    /// # Panics
    /// As there.
    pub async fn along(path: Path) -> Self {
        let front = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        let address = front.local_addr().unwrap();
        let target = Arc::new(Mutex::new(None));
        let mut tasks = JoinSet::new();
        tasks.spawn(forward(front, target.clone(), path));
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

async fn forward(front: Arc<UdpSocket>, target: Arc<Mutex<Option<SocketAddr>>>, path: Path) {
    let leads_to = move || *target.lock().unwrap_or_else(PoisonError::into_inner);
    // One socket for each who dials, so that answers find their way back.
    let mut backs: HashMap<SocketAddr, Way> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut datagram = vec![0; DATAGRAM_BYTES];
    loop {
        let Ok((length, from)) = front.recv_from(&mut datagram).await else { continue };
        let Some(to) = leads_to() else { continue };
        let way = match backs.entry(from) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let back = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
                let answers = Way::new(front.clone(), path, &mut tasks);
                tasks.spawn(answer(back.clone(), answers, from, leads_to.clone()));
                new.insert(Way::new(back, path, &mut tasks))
            }
        };
        way.send(&datagram[..length], to).await;
    }
}

/// The way back.
async fn answer(back: Arc<UdpSocket>, mut way: Way, to: SocketAddr, leads_to: impl Fn() -> Option<SocketAddr>) {
    let mut datagram = vec![0; DATAGRAM_BYTES];
    loop {
        let Ok((length, _)) = back.recv_from(&mut datagram).await else { continue };
        if leads_to().is_some() {
            way.send(&datagram[..length], to).await;
        }
    }
}

type Delayed = (Instant, Vec<u8>, SocketAddr);

/// One direction of a path, out through a socket.
struct Way {
    socket: Arc<UdpSocket>,
    path: Path,
    /// When the narrow place is free again.
    free: Instant,
    delayed: mpsc::UnboundedSender<Delayed>,
}

impl Way {
    fn new(socket: Arc<UdpSocket>, path: Path, tasks: &mut JoinSet<()>) -> Self {
        let (delayed, mut due) = mpsc::unbounded_channel::<Delayed>();
        let out = socket.clone();
        tasks.spawn(async move {
            while let Some((at, datagram, to)) = due.recv().await {
                sleep_until(at).await;
                out.send_to(&datagram, to).await.ok();
            }
        });
        Self { socket, path, free: Instant::now(), delayed }
    }

    async fn send(&mut self, datagram: &[u8], to: SocketAddr) {
        if self.path.delay.is_zero() && self.path.bytes_per_s.is_none() {
            self.socket.send_to(datagram, to).await.ok();
            return;
        }
        let now = Instant::now();
        if let Some(bytes_per_s) = self.path.bytes_per_s {
            let free = self.free.max(now);
            if free - now > BUFFER {
                return;
            }
            self.free = free + Duration::from_nanos(datagram.len() as u64 * 1_000_000_000 / bytes_per_s.max(1));
        }
        let at = self.free.max(now) + self.path.delay;
        drop(self.delayed.send((at, datagram.to_vec(), to)));
    }
}
