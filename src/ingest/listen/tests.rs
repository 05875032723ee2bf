//! What becomes of senders while the store is behind.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{ListenSpec, ListenerStats, Listeners, Taken, TransportStats};
use crate::flow::{Intake, Refusal, SourceStats, Sources};
use crate::ingest::gather::testing::Recorder;
use crate::model::{Batch, Description, Retention, SeriesDef, SeriesId};
use crate::world::World;

/// A store that is behind until it is told that it is not.
#[derive(Default)]
struct Gate {
    is_open: AtomicBool,
    behind: Recorder,
}

impl Intake for Gate {
    fn intern(&self, def: &SeriesDef) -> Result<SeriesId, Refusal> {
        self.behind.intern(def)
    }

    fn describe(&self, _: &str, _: &Description) {}

    fn accept(&self, batch: Batch) -> Result<(), Refusal> {
        if self.is_open.load(Ordering::SeqCst) {
            return self.behind.accept(batch);
        }
        Err(Refusal::Behind { what: "the disk".into(), retry_after: Duration::ZERO })
    }
}

struct One(Arc<Gate>);

impl Sources for One {
    fn source(&self, name: &str) -> Arc<dyn Intake> {
        assert_eq!(name, "graphite");
        self.0.clone()
    }

    fn stats(&self) -> Vec<SourceStats> {
        Vec::new()
    }
}

fn start(gate: &Arc<Gate>) -> (Listeners, SocketAddr) {
    let mut listeners = Listeners::new();
    let spec = ListenSpec { graphite: Some("127.0.0.1:0".into()), ..ListenSpec::default() };
    let taken = Taken { future: Duration::from_secs(60), retention: Arc::new(Retention::default()) };
    listeners.start(&spec, &World::real(), &One(gate.clone()), &taken).unwrap();
    let address = listeners.addresses()[0].1;
    (listeners, address)
}

fn stats(listeners: &Listeners) -> (ListenerStats, TransportStats, TransportStats) {
    let stats = listeners.teller()().remove(0);
    let [udp, tcp] = stats.transports.clone();
    (stats, udp, tcp)
}

#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..6000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not within a minute: {what}");
}

#[test]
fn senders_over_tcp_wait_and_packets_that_find_no_room_are_counted() {
    let gate = Arc::new(Gate::default());
    let (mut listeners, address) = start(&gate);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let line = b"over.tcp 1 1700000000\n";
    let text = line.repeat(1000);
    // Until nothing more goes: what is between here and there is full.
    let mut sent = 0;
    while sent < 256 << 20 {
        match stream.write(&text[sent % line.len()..]) {
            Ok(length) => sent += length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent < 256 << 20, "the sender is not held up");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let packet = "over.udp 1 1700000000\n".repeat(40);
    (0..1000).for_each(|_| assert_eq!(socket.send_to(packet.as_bytes(), address).unwrap(), packet.len()));
    until("all packets to be read or dropped", || {
        let (_, udp, _) = stats(&listeners);
        udp.packets + udp.dropped_kernel == 1000 && udp.dropped_queue > 0
    });
    assert!(gate.behind.batches.lock().unwrap().is_empty());
    gate.is_open.store(true, Ordering::SeqCst);
    // The rest of the line that was cut.
    stream.write_all(&line[sent % line.len()..]).unwrap();
    drop(stream);
    let lines = (sent / line.len() + 1) as u64;
    until("every line that was sent over TCP", || stats(&listeners).2.lines == lines);
    let counted = |udp: &TransportStats| 40 * (udp.packets - udp.dropped_queue);
    until("every packet that was not dropped", || {
        let (_, udp, _) = stats(&listeners);
        udp.lines == counted(&udp)
    });
    listeners.stop();
    let (told, udp, tcp) = stats(&listeners);
    assert_eq!((told.samples, told.lost_samples), (lines + counted(&udp), 0));
    assert_eq!((udp.refused_lines, tcp.refused_lines, tcp.connections, told.queued), (0, 0, 0, 0));
    let stored: usize = gate.behind.batches.lock().unwrap().iter().map(Batch::len).sum();
    assert_eq!(stored as u64, told.samples);
}

#[test]
fn what_came_over_tcp_is_stored_at_a_stop() {
    let gate = Arc::new(Gate::default());
    let (mut listeners, address) = start(&gate);
    let mut streams: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    until("all connections to be there", || stats(&listeners).2.connections == 20);
    // The store is behind, so that chunks wait at every place on the way.
    let text = b"over.tcp 1 1700000000\n".repeat(5000);
    let end = b"at.the.end 1 1700000000";
    for stream in &mut streams {
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        stream.write_all(&text).unwrap();
        stream.write_all(end).unwrap();
    }
    gate.is_open.store(true, Ordering::SeqCst);
    let mut late = TcpStream::connect(address).unwrap();
    late.write_all(end).unwrap();
    listeners.stop();
    let (told, _, tcp) = stats(&listeners);
    assert_eq!((tcp.lines, told.samples, told.lost_samples, tcp.connections), (100_021, 100_021, 0, 0));
}

#[test]
fn an_address_that_is_taken_is_told() {
    let gate = Arc::new(Gate::default());
    let (_listeners, address) = start(&gate);
    let spec = ListenSpec { graphite: Some(address.to_string()), ..ListenSpec::default() };
    let taken = Taken { future: Duration::from_secs(60), retention: Arc::new(Retention::default()) };
    let error = Listeners::new().start(&spec, &World::real(), &One(gate), &taken).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot take graphite on {address}: choose another address and port"));
}
