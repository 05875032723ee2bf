//! Sources: protocols, file formats and collectors, one file each. All end in a [`Gather`].

#[doc(hidden)]
pub mod answers;
mod collectd;
mod columns;
mod csv;
mod csv_records;
mod csv_time;
mod distribution;
mod exec;
mod format;
mod frame;
mod gather;
mod graphite;
pub mod http_client;
mod json;
mod json_array;
mod known;
mod labelled;
pub mod line_protocol;
mod listen;
mod names;
mod ndjson;
pub mod otlp;
mod own;
mod performance_json;
mod postgres;
mod probe;
mod prometheus_text;
mod redis;
mod remote_write;
mod scrape;
mod small_json;
mod source;
mod statsd;
mod system;
mod trust;

pub use collectd::read_collectd;
pub use columns::Columns;
pub use csv::{CsvMapping, read_csv};
pub use distribution::{Bucket, Distribution, Exponential};
pub use exec::{ExecFormat, ExecSource, ExecSpec};
#[cfg(feature = "program")]
pub(crate) use format::Brief;
pub use format::{Compression, Format, ReadError, UnknownFormat};
pub use frame::{Frame, FrameRow, Moment};
pub use gather::{About, Fault, Faults, Gather, TimeBounds};
pub use graphite::read_graphite_line;
pub use json::{JsonMetric, JsonRules, JsonSource, JsonSpec, LabelPlace, Place};
pub use known::{Known, KnownRoom};
pub use labelled::{Labelled, Nowhere};
pub use listen::{ListenError, ListenSpec, ListenerStats, Listeners, Taken, TransportStats};
pub use ndjson::read_ndjson;
pub use own::{OwnMetric, OwnRow, OwnSource, TellOwn, own_text};
pub use performance_json::read_performance;
pub use postgres::{PostgresSource, PostgresSpec};
pub use probe::{Expression, HttpSource, HttpSpec, StatusRange};
pub use prometheus_text::read_prometheus;
pub use redis::{RedisSource, RedisSpec};
pub use remote_write::{RemoteWrite, Written};
pub use scrape::{Action, PrometheusSpec, RelabelSpec, Scheme};
pub use source::{
    CollectorStats, Collectors, From, Health, Living, Planned, Priority, Readings, Source, SourceError, SourceSpec,
    WrittenSource,
};
pub use statsd::{Aggregate, AggregateLimits};
pub use system::{Load, LoadMeter, SystemCollector, SystemSource, SystemSpec};
