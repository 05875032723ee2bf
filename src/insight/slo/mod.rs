//! Service level objectives: how much of what was asked went well, how much may go wrong, how fast that is used up, and when
//! that wakes somebody.
//!
//! [`SloSpec`] is what people write, [`Slo`] what it means; its [`sql`](Slo::sql) asks for good and total by buckets of time,
//! and [`History`] tells of these rows the state as of any moment. Terms and numbers are those of "The Site Reliability
//! Workbook" (Beyer and others 2018), chapter 5, and of OpenSLO.
//!
//! ```
//! use plimsoll::insight::slo::{Count, History, Severity, Slo, SloSpec};
//! use plimsoll::model::Timestamp;
//!
//! #[derive(serde::Deserialize)]
//! struct File {
//!     slo: Vec<SloSpec>,
//! }
//! let text = r#"
//!     [[slo]]
//!     name = "checkout"
//!     objective = 99.9
//!     availability = { errors = "failures_total", total = "requests_total" }
//! "#;
//! let file: File = toml::from_str(text).unwrap();
//! let slos = Slo::from_specs(&file.slo).unwrap();
//! const MINUTE: i64 = 60_000_000_000;
//! // A day of a request a second, and none answered in the last ten minutes.
//! let rows = (0..1440).map(|at| Count {
//!     time: Timestamp::from_nanos(at * MINUTE),
//!     good: if at < 1430 { 60.0 } else { 0.0 },
//!     total: 60.0,
//! });
//! let history = History::new(&slos[0], rows.collect());
//! assert_eq!(history.at(Timestamp::from_nanos(1440 * MINUTE)).alert, Some(Severity::Page));
//! assert_eq!(history.at(Timestamp::from_nanos(1430 * MINUTE)).alert, None);
//! ```

mod check;
mod counts;
mod episodes;
mod history;
mod indicator;
mod judge;
mod known;
mod query;
mod rules;
mod spec;
mod status;
mod table;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod written_tests;

pub use check::{Fault, Slo};
pub use counts::Count;
pub use episodes::{Episode, episodes};
pub use history::History;
pub use judge::{AskSql, Judged, Moments, judge};
pub use known::{Known, Missing, Shape, Statement, columns_sql, known};
pub use rules::{Rule, Severity};
pub use spec::{AlertSpec, AvailabilitySpec, Bound, LatencySpec, SloSpec, ThresholdSpec, ThroughputSpec};
pub use status::{BURN_WINDOWS, Burn, Status};
pub use table::{SloRow, by_group, slo_rows, slo_schema};

/// The objectives that come with the program, as TOML.
pub const DEFAULT_SLOS: &str = include_str!("slos.toml");
