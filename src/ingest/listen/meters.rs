//! What listeners count, and what is told of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::ingest::Faults;
use crate::ingest::system::udp_drops;

/// How lines come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    pub const ALL: [Transport; 2] = [Transport::Udp, Transport::Tcp];

    pub const fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        }
    }
}

/// Counts of one transport since the start.
#[derive(Debug, Default)]
pub(super) struct TransportMeters {
    pub packets: AtomicU64,
    pub bytes: AtomicU64,
    pub dropped_queue: AtomicU64,
    /// The last that the kernel said.
    dropped_kernel: AtomicU64,
    pub connections: AtomicU64,
    pub lines: AtomicU64,
    pub refused_lines: AtomicU64,
    last_refused: Mutex<Option<String>>,
}

impl TransportMeters {
    pub fn add(meter: &AtomicU64, by: u64) {
        meter.fetch_add(by, Ordering::Relaxed);
    }

    /// Counts lines that were refused.
    pub fn refuse(&self, faults: &Faults) {
        Self::add(&self.refused_lines, faults.count);
        if let Some(fault) = faults.first.last() {
            *self.last_refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault.error.clone());
        }
    }
}

/// Counts of a listener.
#[derive(Debug)]
pub(super) struct Meters {
    pub listener: &'static str,
    /// Of UDP and TCP alike.
    pub address: SocketAddr,
    /// Bytes that the kernel holds of UDP.
    pub receive_buffer: u64,
    pub udp: TransportMeters,
    pub tcp: TransportMeters,
    /// Chunks that wait to be parsed.
    pub queued: AtomicU64,
    pub samples: AtomicU64,
    pub refused_samples: AtomicU64,
    pub lost_samples: AtomicU64,
    pub series: AtomicU64,
    pub events: AtomicU64,
}

impl Meters {
    pub fn new(listener: &'static str, address: SocketAddr, receive_buffer: u64) -> Self {
        Meters {
            listener,
            address,
            receive_buffer,
            udp: TransportMeters::default(),
            tcp: TransportMeters::default(),
            queued: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            refused_samples: AtomicU64::new(0),
            lost_samples: AtomicU64::new(0),
            series: AtomicU64::new(0),
            events: AtomicU64::new(0),
        }
    }

    pub fn of(&self, transport: Transport) -> &TransportMeters {
        match transport {
            Transport::Udp => &self.udp,
            Transport::Tcp => &self.tcp,
        }
    }

    /// Asks the kernel what it dropped.
    pub fn look(&self) {
        if let Some(drops) = udp_drops(self.address) {
            self.udp.dropped_kernel.fetch_max(drops, Ordering::Relaxed);
        }
    }

    pub fn stats(&self) -> ListenerStats {
        self.look();
        let get = |meter: &AtomicU64| meter.load(Ordering::Relaxed);
        let of = |transport: Transport| {
            let meters = self.of(transport);
            TransportStats {
                transport: transport.name(),
                connections: get(&meters.connections),
                packets: get(&meters.packets),
                bytes: get(&meters.bytes),
                lines: get(&meters.lines),
                refused_lines: get(&meters.refused_lines),
                dropped_kernel: get(&meters.dropped_kernel),
                dropped_queue: get(&meters.dropped_queue),
                last_refused: meters.last_refused.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            }
        };
        ListenerStats {
            listener: self.listener,
            address: self.address,
            transports: Transport::ALL.map(of),
            receive_buffer: self.receive_buffer,
            queued: get(&self.queued),
            samples: get(&self.samples),
            refused_samples: get(&self.refused_samples),
            lost_samples: get(&self.lost_samples),
            series: get(&self.series),
            events: get(&self.events),
        }
    }
}

/// What came by one transport of a listener since the start.
#[derive(Debug, Clone)]
pub struct TransportStats {
    pub transport: &'static str,
    /// Open now; of UDP none.
    pub connections: u64,
    /// Packets of UDP that were read, dropped ones among them; reads of TCP.
    pub packets: u64,
    pub bytes: u64,
    /// Lines read, refused ones among them.
    pub lines: u64,
    pub refused_lines: u64,
    /// Packets that the kernel dropped: they came faster than they were read.
    pub dropped_kernel: u64,
    /// Packets that were read and found no room in the queue: the store was behind.
    pub dropped_queue: u64,
    pub last_refused: Option<String>,
}

/// What a listener did since the start.
#[derive(Debug, Clone)]
pub struct ListenerStats {
    pub listener: &'static str,
    pub address: SocketAddr,
    pub transports: [TransportStats; 2],
    /// Bytes that the kernel holds of UDP, its own included.
    pub receive_buffer: u64,
    /// Chunks that wait to be parsed.
    pub queued: u64,
    /// Samples acknowledged.
    pub samples: u64,
    /// Samples refused: beyond a budget, or of values or times that are not taken.
    pub refused_samples: u64,
    /// Samples that the store would not take any more.
    pub lost_samples: u64,
    /// Series held between flushes.
    pub series: u64,
    /// DogStatsD's events, which are counted and not kept.
    pub events: u64,
}
