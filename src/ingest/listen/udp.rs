//! Reads packets and joins them into chunks; what finds no room in the queue is dropped and counted.

use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::meters::{Transport, TransportMeters};
use super::queue::{Chunk, Queue};

/// Bytes a chunk holds before it must go.
const CHUNK_BYTES: usize = 32 << 10;
/// Largest packet there can be.
const PACKET_BYTES: usize = 64 << 10;
/// Packets read before others have their turn.
const TURN: usize = 512;
/// Packets read after the word to stop.
const LAST: usize = 65_536;

/// Packets that wait to become a chunk.
struct Joined {
    text: Vec<u8>,
    packets: u64,
    scratch: Vec<u8>,
}

pub(super) async fn receive(socket: UdpSocket, queue: Queue, mut stop: watch::Receiver<bool>) {
    let mut joined = Joined { text: Vec::new(), packets: 0, scratch: vec![0; PACKET_BYTES] };
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            room = queue.chunks.reserve(), if joined.packets > 0 => match room {
                Ok(room) => room.send(joined.take()),
                Err(_) => break,
            },
            ready = socket.readable() => {
                if ready.is_ok() {
                    joined.read(&socket, &queue, TURN);
                }
            }
        }
    }
    joined.read(&socket, &queue, LAST);
    if joined.packets > 0 {
        queue.send(joined.take()).await;
    }
    // While the socket is there.
    queue.meters.look();
}

impl Joined {
    /// Reads what there is, at most `most` packets, and hands it on where there is room.
    fn read(&mut self, socket: &UdpSocket, queue: &Queue, most: usize) {
        let meters = &queue.meters.udp;
        for _ in 0..most {
            // An error other than that there is nothing is of an earlier packet, or of the network: the next one tells.
            let length = match socket.try_recv(&mut self.scratch) {
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => continue,
            };
            TransportMeters::add(&meters.packets, 1);
            TransportMeters::add(&meters.bytes, length as u64);
            if self.text.len() + length > CHUNK_BYTES {
                self.hand_on(queue, true);
            }
            self.text.extend_from_slice(&self.scratch[..length]);
            self.text.push(b'\n');
            self.packets += 1;
        }
        self.hand_on(queue, false);
    }

    /// Hands the chunk on; without room it is dropped where it `must_go`, else it waits.
    fn hand_on(&mut self, queue: &Queue, must_go: bool) {
        let packets = self.packets;
        if packets == 0 {
            return;
        }
        let Err(back) = queue.try_send(self.take()) else { return };
        self.text = back.text;
        if must_go {
            TransportMeters::add(&queue.meters.udp.dropped_queue, packets);
            self.text.clear();
        } else {
            self.packets = packets;
        }
    }

    fn take(&mut self) -> Chunk {
        self.packets = 0;
        Chunk { transport: Transport::Udp, text: std::mem::take(&mut self.text) }
    }
}
