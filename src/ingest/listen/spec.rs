//! What is listened to, as it is written in the settings: `[listen]`.

use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use crate::model::Retention;

/// `[listen]`. Nothing listens unless it has an address here or on the command line.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenSpec {
    /// Address and port of StatsD and DogStatsD, UDP and TCP, as in `127.0.0.1:8125`.
    pub statsd: Option<String>,
    /// Address and port of Graphite's plaintext protocol, UDP and TCP, as in `127.0.0.1:2003`.
    pub graphite: Option<String>,
    /// Address and port of OTLP over gRPC, as in `127.0.0.1:4317`.
    pub otlp_grpc: Option<String>,
    /// Address and port of PostgreSQL's protocol, as in `127.0.0.1:5433`.
    pub pg: Option<String>,
    /// Address and port of Arrow Flight SQL, as in `127.0.0.1:9466`.
    pub flight: Option<String>,
    /// How often what StatsD brought becomes samples.
    #[serde(with = "humantime_serde")]
    pub statsd_flush: Duration,
    /// A series of StatsD to which nothing came for so long ends.
    #[serde(with = "humantime_serde")]
    pub statsd_expire: Duration,
    /// Series of StatsD that are held between flushes; lines of further ones are refused.
    pub statsd_series: usize,
    /// What the kernel holds of UDP until it is read; `net.core.rmem_max` may make it less.
    pub udp_buffer: ByteSize,
    /// Connections of one listener at once; further ones wait to be accepted.
    pub connections: usize,
}

impl Default for ListenSpec {
    fn default() -> Self {
        ListenSpec {
            statsd: None,
            graphite: None,
            otlp_grpc: None,
            pg: None,
            flight: None,
            statsd_flush: Duration::from_secs(10),
            statsd_expire: Duration::from_secs(300),
            statsd_series: 100_000,
            udp_buffer: ByteSize::mib(8),
            connections: 256,
        }
    }
}

impl ListenSpec {
    /// All that is wrong with it: the key, and what to write.
    pub fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let checks = [
            (self.statsd_flush >= Duration::from_millis(100), "statsd_flush", "write at least 100ms, as in \"10s\""),
            (self.statsd_expire >= self.statsd_flush, "statsd_expire", "write no less than statsd_flush, as in \"5m\""),
            (self.statsd_series >= 1, "statsd_series", "write at least 1, as in 100000"),
            (self.udp_buffer >= ByteSize::kb(4), "udp_buffer", "write at least 4KB, as in \"8MB\""),
            (self.connections >= 1, "connections", "write at least 1, as in 256"),
        ];
        checks.into_iter().filter(|(ok, ..)| !ok).map(|(_, key, remedy)| (key, remedy)).collect()
    }
}

/// What is taken of what comes.
#[derive(Debug, Clone)]
pub struct Taken {
    /// How far ahead of the clock a sample may be.
    pub future: Duration,
    /// How far behind it: as long as it would be kept.
    pub retention: Arc<Retention>,
}
