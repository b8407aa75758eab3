//! UDP sockets for QUIC.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

use quinn::{Endpoint, EndpointConfig, ServerConfig, default_runtime};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// What the system may keep of datagrams that wait to be read, or sent: the I/O thread may be late by some milliseconds,
/// in which a fast path brings megabytes. The system gives no more than its own limits (`net.core.rmem_max`, `wmem_max`),
/// and takes memory only for what is there.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// A socket at that address, with room for bursts.
///
/// # Errors
/// The system's.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind(&address.into())?;
    enlarge(&SockRef::from(&socket));
    Ok(socket.into())
}

/// Less room is no reason not to start.
fn enlarge(socket: &SockRef<'_>) {
    for result in [socket.set_recv_buffer_size(BUFFER_BYTES), socket.set_send_buffer_size(BUFFER_BYTES)] {
        if let Err(error) = result {
            tracing::debug!(%error, "the socket keeps the system's buffers");
        }
    }
}

/// An endpoint there; one without a `server` dials only.
///
/// # Errors
/// The system's.
pub fn endpoint(address: SocketAddr, config: EndpointConfig, server: Option<ServerConfig>) -> io::Result<Endpoint> {
    let runtime = default_runtime().ok_or_else(|| io::Error::other("outside of a tokio runtime"))?;
    Endpoint::new(config, server, bind(address)?, runtime)
}
