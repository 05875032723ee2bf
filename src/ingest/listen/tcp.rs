//! Accepts connections and reads whole lines of them; while the queue is full they are not read, so that senders wait.

use std::sync::atomic::Ordering;
use std::time::Duration;

use memchr::{memchr, memrchr};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::meters::{Transport, TransportMeters};
use super::queue::{Chunk, Queue};
use crate::ingest::Faults;

/// Bytes of one read.
const READ_BYTES: usize = 16 << 10;
/// A longer line is refused.
const LINE_MAX: usize = 64 << 10;
/// Reads of a connection after the word to stop: 16 MiB, more than the kernel holds.
const LAST: usize = 1024;
/// How long they take at most, and how long nothing must come for the end.
const LAST_TIME: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_millis(50);
/// How long a connection is silent before the kernel asks whether the other end is there, and how often it asks then.
const IDLE: Duration = Duration::from_secs(60);
const PROBE: Duration = Duration::from_secs(10);
/// After an accept that failed, as it does while there are too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes up to `most` connections at a time until told to stop. Then each is read for what has come, and all that was read
/// is handed on.
pub(super) async fn accept(listener: TcpListener, queue: Queue, most: usize, mut stop: watch::Receiver<bool>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            Some(_) = open.join_next() => {}
            accepted = listener.accept(), if open.len() < most => match accepted {
                Ok((stream, _)) => {
                    keep_alive(&stream);
                    drop(open.spawn(connection(stream, queue.clone(), stop.clone())));
                }
                Err(error) => {
                    tracing::warn!(%error, listener = queue.meters.listener, "a connection could not be accepted");
                    sleep(PAUSE).await;
                }
            },
        }
        queue.meters.tcp.connections.store(open.len() as u64, Ordering::Relaxed);
    }
    // Those that wait to be accepted may have sent already.
    while let Ok(Ok((stream, _))) = timeout(Duration::ZERO, listener.accept()).await
        && open.len() < most
    {
        open.spawn(connection(stream, queue.clone(), stop.clone()));
    }
    while open.join_next().await.is_some() {}
    queue.meters.tcp.connections.store(0, Ordering::Relaxed);
}

/// Lets the kernel find out who is gone: senders that end without a word would take up all connections there may be.
fn keep_alive(stream: &TcpStream) {
    let probes = TcpKeepalive::new().with_time(IDLE).with_interval(PROBE);
    if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&probes) {
        tracing::debug!(%error, "a connection is not kept alive");
    }
}

async fn connection(stream: TcpStream, queue: Queue, mut stop: watch::Receiver<bool>) {
    let mut lines = Lines::default();
    loop {
        tokio::select! {
            ready = stream.readable() => if ready.is_err() {
                break;
            },
            _ = stop.wait_for(|stop| *stop) => break,
        }
        if read(&stream, &mut lines, &queue).await == Come::End {
            return;
        }
    }
    read_last(&stream, &mut lines, &queue).await;
}

/// Reads what has come, and hands it on.
async fn read_last(stream: &TcpStream, lines: &mut Lines, queue: &Queue) {
    let mut end = std::pin::pin!(sleep(LAST_TIME));
    for _ in 0..LAST {
        tokio::select! {
            () = &mut end => break,
            ready = timeout(SILENCE, stream.readable()) => if !matches!(ready, Ok(Ok(()))) {
                break;
            },
        }
        if read(stream, lines, queue).await == Come::End {
            break;
        }
    }
    hand_on(lines.rest(), queue).await;
}

/// What may come yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Come {
    More,
    /// The sender is done, or gone.
    End,
}

/// Reads once and hands on the lines that are whole.
async fn read(stream: &TcpStream, lines: &mut Lines, queue: &Queue) -> Come {
    let (chunk, is_end) = match lines.read(|room| stream.try_read(room)) {
        Ok(read) => read,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Come::More,
        Err(_) => (lines.rest(), true),
    };
    if std::mem::take(&mut lines.has_refused) {
        let mut faults = Faults::default();
        faults.add(0, format_args!("a line is over {LINE_MAX} bytes: end lines with a line feed"));
        queue.meters.tcp.refuse(&faults);
        TransportMeters::add(&queue.meters.tcp.lines, 1);
    }
    hand_on(chunk, queue).await;
    if is_end { Come::End } else { Come::More }
}

async fn hand_on(chunk: Option<Vec<u8>>, queue: &Queue) {
    if let Some(text) = chunk {
        TransportMeters::add(&queue.meters.tcp.packets, 1);
        TransportMeters::add(&queue.meters.tcp.bytes, text.len() as u64);
        queue.send(Chunk { transport: Transport::Tcp, text }).await;
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

    #[tokio::test]
    async fn connections_are_kept_alive() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(!SockRef::from(&stream).keepalive().unwrap());
        keep_alive(&stream);
        assert!(SockRef::from(&stream).keepalive().unwrap());
    }

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
