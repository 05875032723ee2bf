//! What listeners did, as rows of `system.listeners`: one a listener and transport.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};

use crate::ingest::{ListenerStats, TransportStats};

pub(super) fn listener_rows(listeners: &[ListenerStats]) -> RecordBatch {
    let rows: Vec<(&ListenerStats, &TransportStats)> =
        listeners.iter().flat_map(|listener| listener.transports.iter().map(move |by| (listener, by))).collect();
    let text = |of: fn(&ListenerStats, &TransportStats) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(listener, by)| of(listener, by))))
    };
    let number = |of: fn(&TransportStats) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|(_, by)| of(by))))
    };
    let last: ArrayRef = Arc::new(rows.iter().map(|(_, by)| by.last_refused.as_deref()).collect::<StringArray>());
    RecordBatch::try_from_iter_with_nullable([
        ("listener", text(|listener, _| listener.listener.to_owned()), false),
        ("transport", text(|_, by| by.transport.to_owned()), false),
        ("address", text(|listener, _| listener.address.to_string()), false),
        ("connections", number(|by| by.connections), false),
        ("packets", number(|by| by.packets), false),
        ("bytes", number(|by| by.bytes), false),
        ("lines", number(|by| by.lines), false),
        ("refused_lines", number(|by| by.refused_lines), false),
        ("dropped_kernel", number(|by| by.dropped_kernel), false),
        ("dropped_queue", number(|by| by.dropped_queue), false),
        ("last_refused", last, true),
    ])
    .expect("columns of one length")
}
