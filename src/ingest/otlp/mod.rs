//! OpenTelemetry's metrics (OTLP 1): requests in protobuf and JSON become samples and distributions.
//!
//! ```text
//! body → answer/json: the message → reader: points → name, labels: the series → Gather
//!                                     ↑ contexts: short keys for what is known    ↑ deltas, totals: sums of deltas
//! ```
//!
//! | point | becomes |
//! |---|---|
//! | gauge | a sample |
//! | sum, cumulative | a sample; a counter where it only grows, else a gauge |
//! | sum, delta | the sum so far, as `deltas.rs` says |
//! | histogram, exponential histogram | bucket series, `_count`, `_sum`, a row of `histograms`; `_min` and `_max` as gauges |
//! | summary | `{quantile="…"}`, `_count`, `_sum` |
//! | any, flagged "no recorded value" | the end of its series |

mod answer;
mod contexts;
mod deltas;
mod json;
mod labels;
mod name;
mod reader;
#[cfg(test)]
mod tests;
mod totals;
mod weight;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;

pub use self::answer::{OtlpEncoding, retry_info};
use self::contexts::Contexts;
use self::deltas::Deltas;
use self::reader::Reader;
use super::gather::Gather;
use super::known::Known;
use crate::flow::Refusal;
use crate::model::Timestamp;

/// What requests of OTLP share.
pub struct Otlp {
    known: Arc<Known>,
    contexts: Mutex<Contexts>,
    deltas: Mutex<Deltas>,
}

/// What came of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Data points in it.
    pub points: u64,
    /// Those that were refused, in whole or in part.
    pub refused: u64,
    /// Exemplars, which are not stored.
    pub exemplars: u64,
    /// The first reasons; empty where nothing was refused.
    pub told: String,
}

/// Why nothing, or not all, of a request was taken.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The body is no request.
    #[error("{0}")]
    Body(String),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Otlp {
    /// One that finds series in `known`, and adds deltas up within so many bytes of memory.
    pub fn new(known: Arc<Known>, bytes: usize) -> Self {
        Otlp { known, contexts: Mutex::default(), deltas: Mutex::new(Deltas::within(bytes)) }
    }

    /// Takes a request and hands its samples on. After an error it may be sent again whole, and counts once.
    ///
    /// # Errors
    /// See [`OtlpError`].
    pub fn take(
        &self,
        body: &[u8],
        encoding: OtlpEncoding,
        now: Timestamp,
        gather: &mut Gather<'_>,
    ) -> Result<Report, OtlpError> {
        let (request, exemplars) = encoding.decode(body).map_err(OtlpError::Body)?;
        let mut report = self.take_request(&request, now, gather)?;
        report.exemplars += exemplars;
        Ok(report)
    }

    fn take_request(
        &self,
        request: &ExportMetricsServiceRequest,
        now: Timestamp,
        gather: &mut Gather<'_>,
    ) -> Result<Report, Refusal> {
        self.known.age(now);
        self.deltas().age(now);
        self.contexts().age(now);
        let mut reader = Reader::new(self, now, gather);
        let read = reader.request(request).and_then(|()| reader.flush());
        let (report, added) = reader.finish();
        if read.is_err() {
            self.deltas().undo(added);
        }
        read.map(|()| report)
    }

    /// Bytes of memory that the sums of deltas take.
    pub fn delta_bytes(&self) -> usize {
        self.deltas().bytes()
    }

    fn deltas(&self) -> MutexGuard<'_, Deltas> {
        self.deltas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn contexts(&self) -> MutexGuard<'_, Contexts> {
        self.contexts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
