//! The thread that reads: both sockets, into the queue.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tokio::sync::watch;

use super::meters::{Meters, Transport};
use super::{tcp, udp};

/// Chunks that may wait to be parsed.
pub(super) const QUEUE: usize = 64;

/// Whole lines on their way to the parser.
pub(super) struct Chunk {
    pub transport: Transport,
    pub text: Vec<u8>,
}

/// A sender into the queue that keeps count of what waits there.
#[derive(Clone)]
pub(super) struct Queue {
    pub chunks: mpsc::Sender<Chunk>,
    pub meters: Arc<Meters>,
}

impl Queue {
    fn note(&self) {
        let waiting = self.chunks.max_capacity() - self.chunks.capacity();
        self.meters.queued.store(waiting as u64, Ordering::Relaxed);
    }

    /// Hands a chunk on, where there is room.
    pub fn try_send(&self, chunk: Chunk) -> Result<(), Chunk> {
        let sent = self.chunks.try_send(chunk).map_err(mpsc::error::TrySendError::into_inner);
        self.note();
        sent
    }

    /// Waits for room. Where the parser has ended there is none: the chunk is gone.
    pub async fn send(&self, chunk: Chunk) {
        let _ = self.chunks.send(chunk).await;
        self.note();
    }
}

/// Two sockets of one port.
pub(super) struct Sockets {
    pub udp: std::net::UdpSocket,
    pub tcp: std::net::TcpListener,
}

/// Reads both until told to stop. Ends with what the kernel holds of UDP; connections are cut.
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
