//! What listeners did, as Prometheus text for `/metrics`.

use std::fmt::Write;

use crate::ingest::{ListenerStats, TransportStats};

type OfListener = fn(&ListenerStats) -> u64;
type OfTransport = fn(&TransportStats) -> u64;

const BY_LISTENER: [(&str, &str, &str, OfListener); 7] = [
    ("receive_buffer_bytes", "gauge", "What the kernel holds of UDP until it is read.", |of| of.receive_buffer),
    ("queued_chunks", "gauge", "Chunks that wait to be parsed, of 64.", |of| of.queued),
    ("samples_total", "counter", "Samples acknowledged.", |of| of.samples),
    ("refused_samples_total", "counter", "Samples beyond a budget, or of no value or time.", |of| of.refused_samples),
    ("lost_samples_total", "counter", "Samples that the store would not take any more.", |of| of.lost_samples),
    ("held_series", "gauge", "Series held between flushes.", |of| of.series),
    ("events_total", "counter", "Events of DogStatsD, which are not kept.", |of| of.events),
];

const BY_TRANSPORT: [(&str, &str, &str, OfTransport); 7] = [
    ("connections", "gauge", "Connections open.", |by| by.connections),
    ("packets_total", "counter", "Packets or reads.", |by| by.packets),
    ("bytes_total", "counter", "Bytes read.", |by| by.bytes),
    ("lines_total", "counter", "Lines read.", |by| by.lines),
    ("refused_lines_total", "counter", "Lines refused.", |by| by.refused_lines),
    ("kernel_dropped_packets_total", "counter", "Packets that came faster than they were read.", |by| {
        by.dropped_kernel
    }),
    ("queue_dropped_packets_total", "counter", "Packets read while the store was behind.", |by| by.dropped_queue),
];

/// Nothing where nobody listens.
pub(super) fn exposition(listeners: &[ListenerStats], text: &mut String) {
    if listeners.is_empty() {
        return;
    }
    let mut open = |name: &str, kind: &str, help: &str, rows: &mut dyn Iterator<Item = (String, u64)>| {
        let name = format!("plimsoll_listener_{name}");
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in rows {
            let _ = writeln!(text, "{name}{{{labels}}} {value}");
        }
    };
    for (name, kind, help, of) in BY_TRANSPORT {
        let row = |listener: &ListenerStats, by: &TransportStats| {
            (format!("listener=\"{}\",transport=\"{}\"", listener.listener, by.transport), of(by))
        };
        let mut rows =
            listeners.iter().flat_map(|listener| listener.transports.iter().map(move |by| row(listener, by)));
        open(name, kind, help, &mut rows);
    }
    for (name, kind, help, of) in BY_LISTENER {
        let mut rows = listeners.iter().map(|listener| (format!("listener=\"{}\"", listener.listener), of(listener)));
        open(name, kind, help, &mut rows);
    }
}
