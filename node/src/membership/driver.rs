//! Does what the detector decides: on the thread that drives the I/O, as all that happens to peers.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rookery_protocol::{ControlFrame, NodeId, control::Heard};
use rookery_runtime::net::control::close_code;
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    DetectorSettings,
    detector::{Detector, Effect},
    limits::{ANSWER_AFTER, TICK},
};
use crate::mesh::{arbiter::ConnectionNumber, driver::Mesh, peers::Peer};

/// What peers say that the detector wants to know.
pub(crate) enum News {
    /// It asks whether we hear this node.
    Asked(ConnectionNumber, NodeId),
    /// It has heard this node so long ago.
    Answered(ConnectionNumber, Heard),
}

/// How much of it may wait; what does not fit is asked, or told, again.
pub(crate) const MAX_NEWS: usize = 256;

/// Looks after the peers until the node leaves, or is dropped.
pub(crate) async fn run(mesh: Arc<Mesh>, times: DetectorSettings, seed: u64, mut news: mpsc::Receiver<News>) {
    let mut detector = Detector::new(Instant::now().into_std(), mesh.settings.idle_timeout, seed).with(times);
    let mut probes: JoinSet<(ConnectionNumber, bool)> = JoinSet::new();
    let mut leaving = mesh.leaving.subscribe();
    let mut ticks = interval(TICK);
    // What was missed is told by its lateness.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let effects = tokio::select! {
            _ = ticks.tick() => {
                let mut peers = mesh.peers.all();
                // One of an older release takes no pings: QUIC's idle timeout has to do.
                peers.retain(|peer| peer.connection.max_datagram_size().is_some());
                let look = |peer: &Arc<Peer>| {
                    let stats = peer.connection.stats();
                    (peer.number, peer.node.clone(), stats.udp_rx.datagrams, stats.path.rtt)
                };
                let connections: Vec<_> = peers.iter().map(look).collect();
                detector.tick(Instant::now().into_std(), &connections)
            }
            told = news.recv() => match told {
                Some(News::Asked(from, suspect)) => detector.asked(from, suspect, Instant::now().into_std()),
                Some(News::Answered(from, heard)) => {
                    let ago = heard.ms_ago.map(|ms| Duration::from_millis(ms.into()));
                    detector.answered(from, &heard.node, ago, Instant::now().into_std());
                    Vec::new()
                }
                None => return,
            },
            Some(probed) = probes.join_next(), if !probes.is_empty() => {
                if let Ok((number, true)) = probed {
                    detector.refused(number);
                }
                Vec::new()
            }
            _ = leaving.wait_for(Option::is_some) => return,
        };
        for effect in effects {
            carry_out(&mesh, effect, &mut probes);
        }
    }
}

fn carry_out(mesh: &Arc<Mesh>, effect: Effect, probes: &mut JoinSet<(ConnectionNumber, bool)>) {
    let peer = |number: ConnectionNumber| mesh.peers.all().into_iter().find(|peer| peer.number == number);
    match effect {
        Effect::Ping(number) => {
            if let Some(peer) = peer(number) {
                drop(peer.connection.send_datagram(bytes::Bytes::from_static(b"?")));
            }
        }
        Effect::Probe(number) => {
            if let Some(peer) = peer(number) {
                let address = peer.connection.remote_address();
                probes.spawn(async move { (number, is_closed(address).await) });
            }
        }
        Effect::Ask { peer: number, suspect } => tell(peer(number), ControlFrame::HaveYouHeard(suspect)),
        Effect::Answer { peer: number, suspect, ago } => {
            let ms_ago = ago.map(|ago| u32::try_from(ago.as_millis()).unwrap_or(u32::MAX));
            tell(peer(number), ControlFrame::Heard(Heard { node: suspect, ms_ago }));
        }
        Effect::Suspected { node, silent } => {
            tracing::info!(%node, silent_ms = silent.as_millis(), "node suspected");
            if let Some(peer) = mesh.peers.all().into_iter().find(|peer| peer.node == node) {
                peer.silence.begin(silent);
            }
        }
        Effect::Heard { node } => {
            tracing::info!(%node, "node heard again");
            if let Some(peer) = mesh.peers.all().into_iter().find(|peer| peer.node == node) {
                peer.silence.end();
            }
        }
        Effect::Down { number, reason } => {
            if let Some(peer) = peer(number) {
                mesh.lost(&peer, &reason);
                peer.connection.close(close_code::TOO_SLOW, reason.as_bytes());
            }
        }
    }
}

/// Sends on the peer's control stream, if it understands it and there is room.
fn tell(peer: Option<Arc<Peer>>, frame: ControlFrame) {
    if let Some(control) = peer.as_ref().and_then(|peer| peer.control.as_ref()) {
        drop(control.try_send(frame));
    }
}

/// A packet of a version of QUIC that nobody speaks (RFC 9000, 15: versions 0x?a?a?a?a are for this), as large as one has to
/// be that is answered by a list of versions. Nothing comes of it where somebody listens.
fn stray_packet() -> [u8; 1200] {
    let mut packet = [0; 1200];
    packet[..6].copy_from_slice(&[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8]);
    packet
}

/// Whether the system there says that nobody listens at that port (ICMP "port unreachable"). QUIC's own sockets are not
/// connected, and hear nothing of that.
async fn is_closed(address: SocketAddr) -> bool {
    let asked = async {
        let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 16], 0).into() };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        socket.send(&stray_packet()).await?;
        socket.recv(&mut [0; 64]).await
    };
    matches!(timeout(ANSWER_AFTER, asked).await, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
}
