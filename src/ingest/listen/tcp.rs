//! Accepts connections and reads whole lines of them; while the queue is full they are not read, so that senders wait.

use std::sync::atomic::Ordering;
use std::time::Duration;

use memchr::{memchr, memrchr};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::meters::{Transport, TransportMeters};
use super::queue::{Chunk, Queue};
use crate::ingest::Faults;

/// Bytes of one read.
const READ_BYTES: usize = 16 << 10;
/// A longer line is refused.
const LINE_MAX: usize = 64 << 10;
/// After an accept that failed, as it does while there are too many open files.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn accept(listener: TcpListener, queue: Queue, most: usize, mut stop: watch::Receiver<bool>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            Some(_) = open.join_next() => {}
            accepted = listener.accept(), if open.len() < most => match accepted {
                Ok((stream, _)) => drop(open.spawn(connection(stream, queue.clone()))),
                Err(error) => {
                    tracing::warn!(%error, listener = queue.meters.listener, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
        queue.meters.tcp.connections.store(open.len() as u64, Ordering::Relaxed);
    }
    open.shutdown().await;
    queue.meters.tcp.connections.store(0, Ordering::Relaxed);
}

async fn connection(stream: TcpStream, queue: Queue) {
    let mut lines = Lines::default();
    while stream.readable().await.is_ok() {
        let (chunk, is_end) = match lines.read(|room| stream.try_read(room)) {
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => (lines.rest(), true),
        };
        if std::mem::take(&mut lines.has_refused) {
            let mut faults = Faults::default();
            faults.add(0, format_args!("a line is over {LINE_MAX} bytes: end lines with a line feed"));
            queue.meters.tcp.refuse(&faults);
            TransportMeters::add(&queue.meters.tcp.lines, 1);
        }
        if let Some(text) = chunk {
            TransportMeters::add(&queue.meters.tcp.packets, 1);
            TransportMeters::add(&queue.meters.tcp.bytes, text.len() as u64);
            queue.send(Chunk { transport: Transport::Tcp, text }).await;
        }
        if is_end {
            return;
        }
    }
}

/// Cuts what is read at the last end of a line, and keeps what follows for the next read.
#[derive(Default)]
struct Lines {
    tail: Vec<u8>,
    /// In a line that is too long.
    skipping: bool,
    /// Whether a line was found too long.
    has_refused: bool,
}

impl Lines {
    /// Whole lines, if there are any, and whether it was the last read.
    fn read(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> std::io::Result<usize>,
    ) -> std::io::Result<(Option<Vec<u8>>, bool)> {
        let held = self.tail.len();
        self.tail.resize(held + READ_BYTES, 0);
        let length = read(&mut self.tail[held..]);
        self.tail.truncate(held + *length.as_ref().unwrap_or(&0));
        if length? == 0 {
            return Ok((self.rest(), true));
        }
        if self.skipping {
            let end = memchr(b'\n', &self.tail);
            self.tail.drain(..end.map_or(self.tail.len(), |end| end + 1));
            self.skipping = end.is_none();
        }
        let chunk = memrchr(b'\n', &self.tail).map(|end| {
            let tail = self.tail.split_off(end + 1);
            std::mem::replace(&mut self.tail, tail)
        });
        if self.tail.len() > LINE_MAX {
            (self.skipping, self.has_refused) = (true, true);
            self.tail.clear();
        }
        Ok((chunk, false))
    }

    /// What came after the last end of a line.
    fn rest(&mut self) -> Option<Vec<u8>> {
        let rest = std::mem::take(&mut self.tail);
        (!rest.is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let long = [vec![b'x'; LINE_MAX + READ_BYTES], b"\n".to_vec()].concat();
        let cases = [1, 2, 3, 7, 999].map(|step| (step, &[][..], 0));
        for (step, long, wanted) in cases.into_iter().chain([999, READ_BYTES].map(|step| (step, &long[..], 1))) {
            let text = [b"a 1\nbb 2\n".as_slice(), long, b"c 3\n\nd 4"].concat();
            let (mut lines, mut told, mut refused, mut rest) = (Lines::default(), Vec::new(), 0, text.as_slice());
            loop {
                let (chunk, is_end) = lines
                    .read(|room| {
                        let length = step.min(rest.len()).min(room.len());
                        room[..length].copy_from_slice(&rest[..length]);
                        rest = &rest[length..];
                        Ok(length)
                    })
                    .unwrap();
                told.extend(chunk.unwrap_or_default());
                refused += u32::from(std::mem::take(&mut lines.has_refused));
                if is_end {
                    break;
                }
            }
            assert_eq!(
                (String::from_utf8(told).unwrap().as_str(), refused),
                ("a 1\nbb 2\nc 3\n\nd 4", wanted),
                "{step}"
            );
        }
    }
}
