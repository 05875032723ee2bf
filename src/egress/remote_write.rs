//! Prometheus remote write 1.0, as a sender makes it: a protobuf message in snappy.

use std::sync::Arc;

use prost::Message;

use crate::model::SeriesDef;

/// Samples of one series, by milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    pub def: Arc<SeriesDef>,
    pub samples: Vec<(i64, f64)>,
}

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// Headers of a request.
pub(super) const HEADERS: [(&str, &str); 3] = [
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "0.1.0"),
];

/// The body of a request.
pub(super) fn encode(series: &[Series]) -> Result<Vec<u8>, snap::Error> {
    let request = WriteRequest { timeseries: series.iter().map(time_series).collect() };
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec())
}

fn time_series(series: &Series) -> TimeSeries {
    let label = |(name, value): (&str, &str)| Label { name: name.to_owned(), value: value.to_owned() };
    let name = std::iter::once(("__name__", &*series.def.metric));
    let mut labels: Vec<Label> = name.chain(series.def.labels.iter()).map(label).collect();
    // Receivers want them so.
    labels.sort_by(|a, b| a.name.cmp(&b.name));
    let samples = series.samples.iter().map(|&(timestamp, value)| Sample { value, timestamp });
    TimeSeries { labels, samples: samples.collect() }
}
