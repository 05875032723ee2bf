//! Sources: protocols, file formats and collectors, one file each. All end in a [`Gather`].

mod csv;
mod csv_records;
mod csv_time;
mod distribution;
mod format;
mod gather;
mod known;
pub mod line_protocol;
mod ndjson;
pub mod otlp;
mod performance_json;
mod prometheus_text;
mod source;
mod system;

pub use csv::{CsvMapping, read_csv};
pub use distribution::{Bucket, Distribution, Exponential};
pub use format::{Compression, Format, ReadError, UnknownFormat};
pub use gather::{About, Fault, Faults, Gather, TimeBounds};
pub use known::Known;
pub use ndjson::read_ndjson;
pub use performance_json::read_performance;
pub use prometheus_text::read_prometheus;
pub use source::{
    CollectorStats, Collectors, From, Health, Planned, Priority, Readings, Source, SourceError, SourceSpec,
    WrittenSource,
};
pub use system::{SystemCollector, SystemSource, SystemSpec};
