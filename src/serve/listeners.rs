//! What listeners did, as part of what the program says of itself.

use crate::ingest::{ListenerStats, OwnMetric, TransportStats};

type OfListener = fn(&ListenerStats) -> u64;
type OfTransport = fn(&TransportStats) -> u64;

const BY_LISTENER: [(&str, &str, OfListener); 7] = [
    ("listener_receive_buffer_bytes", "What the kernel holds of UDP until it is read.", |of| of.receive_buffer),
    ("listener_queued_chunks", "Chunks that wait to be parsed, of 64.", |of| of.queued),
    ("listener_samples_total", "Samples acknowledged.", |of| of.samples),
    ("listener_refused_samples_total", "Samples beyond a budget, or of no value or time.", |of| of.refused_samples),
    ("listener_lost_samples_total", "Samples that the store would not take any more.", |of| of.lost_samples),
    ("listener_held_series", "Series held between flushes.", |of| of.series),
    ("listener_events_total", "Events of DogStatsD, which are not kept.", |of| of.events),
];

const BY_TRANSPORT: [(&str, &str, OfTransport); 7] = [
    ("listener_connections", "Connections open.", |by| by.connections),
    ("listener_packets_total", "Packets or reads.", |by| by.packets),
    ("listener_bytes_total", "Bytes read.", |by| by.bytes),
    ("listener_lines_total", "Lines read.", |by| by.lines),
    ("listener_refused_lines_total", "Lines refused.", |by| by.refused_lines),
    ("listener_kernel_dropped_packets_total", "Packets that came faster than they were read.", |by| by.dropped_kernel),
    ("listener_queue_dropped_packets_total", "Packets read while the store was behind.", |by| by.dropped_queue),
];

/// Nothing where nobody listens.
pub(super) fn of_listeners(listeners: &[ListenerStats]) -> Vec<OwnMetric> {
    if listeners.is_empty() {
        return Vec::new();
    }
    let name = |listener: &ListenerStats| ("listener", listener.listener.to_owned());
    let transports = || listeners.iter().flat_map(|of| of.transports.iter().map(move |by| (of, by)));
    let by_transport = BY_TRANSPORT.into_iter().map(|(metric, help, value)| {
        OwnMetric::each(metric, help, transports(), |(listener, by)| {
            (vec![name(listener), ("transport", by.transport.to_owned())], value(by) as f64)
        })
    });
    let by_listener = BY_LISTENER
        .into_iter()
        .map(|(metric, help, value)| OwnMetric::each(metric, help, listeners, |of| (vec![name(of)], value(of) as f64)));
    by_transport.chain(by_listener).collect()
}
