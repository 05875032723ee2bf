//! Whether a release is slower than the one before: results read, kept as a baseline, compared metric by metric, told in words.
//!
//! ```text
//! files → read → Results ─┬─ Baseline (JSON) … later … ─┐
//!                         └─ Results of now ────────────┴→ Report: a row a metric, a verdict, a sentence
//! ```

mod baseline;
mod read;
mod report;
mod results;
#[cfg(test)]
mod tests;
mod trends;
mod words;

pub use baseline::{BASELINE_VERSION, Baseline};
pub use read::{ReadError, is_criterion_file, read_results};
pub use report::{RegressOptions, Report, Row, report};
pub use results::{Measured, Results};
pub use trends::{Drift, DriftOptions, drifts};
