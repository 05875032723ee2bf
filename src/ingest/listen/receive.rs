//! The thread that reads: both sockets, into the queue.

use tokio::sync::watch;

use super::queue::Queue;
use super::{tcp, udp};

/// Two sockets of one port.
pub(super) struct Sockets {
    pub udp: std::net::UdpSocket,
    pub tcp: std::net::TcpListener,
}

/// Reads both until told to stop. Ends with what the kernel holds of both.
pub(super) async fn receive(
    sockets: Sockets,
    queue: Queue,
    connections: usize,
    stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let udp = tokio::net::UdpSocket::from_std(sockets.udp)?;
    let tcp = tokio::net::TcpListener::from_std(sockets.tcp)?;
    tokio::join!(udp::receive(udp, queue.clone(), stop.clone()), tcp::accept(tcp, queue, connections, stop));
    Ok(())
}
