//! The nouns every room shares: time, series and their labels, batches of samples, rows of derived tables, what is
//! kept how long, how much depends on a source.

mod batch;
mod forecasts;
mod priority;
pub mod relabel;
mod retention;
mod rows;
mod series;
mod summary;
mod time;
mod zones;

pub use batch::{Batch, Run, Sample};
pub use forecasts::{Foretold, Issued, forecast_rows, forecasts_of};
pub use priority::Priority;
pub use retention::{Keep, MetricRule, Pattern, Retention};
pub use rows::{Ends, Histograms, Rows, Table};
pub use series::{Description, Kind, LABELS_MAX, Labels, Oversize, SERIES_BYTES_MAX, SeriesDef, SeriesId};
pub use summary::{Sum, Summary};
pub use time::{Span, Timestamp, TimestampError};
pub use zones::Zones;
