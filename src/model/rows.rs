//! Rows of derived tables: what stages find and what sources say besides numbers, as Arrow columns with a schema each.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Float64Array, RecordBatch, TimestampNanosecondArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::{SeriesId, Timestamp};

/// A table that stages write, or sources beside their samples.
///
/// Its first [`Table::key_columns`] columns sort it. Rows that agree in the first [`Table::group_columns`] of them are
/// one group, and a group written again replaces the former one whole: so a stage may say again what it found, better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Table {
    /// Windowed aggregates of a series.
    Rollups,
    /// The same of windows that begin oftener than they are long.
    Sliding,
    /// The same of stretches in which a series had no gap of some length.
    Sessions,
    /// Episodes in which a series left its usual range.
    Anomalies,
    /// Pairs of series that moved together in a window.
    Correlations,
    /// Series thinned within a stated error.
    Compressed,
    /// Where series ended: a source that had them before has them no more.
    Staleness,
    /// Distributions that came as one sample, as native and exponential histograms do.
    Histograms,
    /// How loaded the program itself was, each time that its zone changed.
    Zones,
    /// Forecasts that were issued, a row a step.
    Forecasts,
}

/// Rows of one table, of its schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    pub table: Table,
    pub batch: RecordBatch,
}

fn time(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), false)
}

fn number(name: &str) -> Field {
    Field::new(name, DataType::Float64, false)
}

fn count(name: &str) -> Field {
    Field::new(name, DataType::UInt64, false)
}

fn series(name: &str) -> Field {
    Field::new(name, DataType::UInt32, false)
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

/// A length of time in nanoseconds.
fn length(name: &str) -> Field {
    Field::new(name, DataType::Int64, false)
}

/// A number that rows of older files have not.
fn maybe(name: &str) -> Field {
    Field::new(name, DataType::Float64, true)
}

fn sketch() -> Field {
    Field::new("sketch", DataType::Binary, false)
}

/// What a window says of its samples, behind the columns that name it.
fn aggregates(window: impl IntoIterator<Item = Field>) -> Vec<Field> {
    let numbers = ["sum", "min", "max", "first", "last"].map(number);
    window.into_iter().chain([count("count")]).chain(numbers).chain([sketch()]).collect()
}

impl Table {
    pub const ALL: [Table; 10] = [
        Table::Rollups,
        Table::Sliding,
        Table::Sessions,
        Table::Anomalies,
        Table::Correlations,
        Table::Compressed,
        Table::Staleness,
        Table::Histograms,
        Table::Zones,
        Table::Forecasts,
    ];

    /// Its name in SQL and of its folder.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Rollups => "rollups",
            Table::Sliding => "sliding",
            Table::Sessions => "sessions",
            Table::Anomalies => "anomalies",
            Table::Correlations => "correlations",
            Table::Compressed => "compressed",
            Table::Staleness => "staleness",
            Table::Histograms => "histograms",
            Table::Zones => "zones",
            Table::Forecasts => "forecasts",
        }
    }

    pub fn of_name(name: &str) -> Option<Table> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// Whether its rows come from sources, or the program itself, and are in the log, rather than from stages that the log
    /// gives them again.
    pub const fn is_logged(self) -> bool {
        matches!(self, Table::Staleness | Table::Histograms | Table::Zones | Table::Forecasts)
    }

    /// The column that counts what a row was made of, where there may be rows made of nothing: such a one says that there
    /// is nothing, or nothing any more, at its key or in its group. It is kept as the others are, and shown to nobody.
    pub const fn count_column(self) -> Option<&'static str> {
        match self {
            Table::Rollups | Table::Sliding | Table::Sessions => Some("count"),
            Table::Correlations => Some("points"),
            Table::Compressed => Some("samples"),
            Table::Anomalies | Table::Staleness | Table::Histograms | Table::Zones | Table::Forecasts => None,
        }
    }

    /// Whether pipelines are told of its rows, as of samples.
    pub const fn steers_pipelines(self) -> bool {
        matches!(self, Table::Zones)
    }

    /// How many leading columns sort the table.
    pub const fn key_columns(self) -> usize {
        match self {
            Table::Sliding | Table::Correlations | Table::Forecasts => 4,
            Table::Rollups | Table::Sessions | Table::Anomalies => 3,
            Table::Compressed | Table::Staleness | Table::Histograms => 2,
            Table::Zones => 1,
        }
    }

    /// How many leading columns name a group, which is replaced whole when it is written again.
    pub const fn group_columns(self) -> usize {
        match self {
            Table::Sliding => 4,
            Table::Rollups | Table::Sessions | Table::Anomalies | Table::Forecasts => 3,
            Table::Correlations | Table::Compressed | Table::Staleness | Table::Histograms => 2,
            Table::Zones => 1,
        }
    }

    pub fn schema(self) -> SchemaRef {
        let fields = match self {
            Table::Rollups => aggregates([series("series"), length("every"), time("time")]),
            Table::Sliding => aggregates([series("series"), length("length"), length("every"), time("time")]),
            Table::Sessions => aggregates([series("series"), length("gap"), time("time"), time("end")]),
            Table::Anomalies => vec![
                series("series"),
                text("method"),
                time("time"),
                time("end"),
                time("peak"),
                number("value"),
                number("expected"),
                number("score"),
                count("samples"),
                // Within which it should have been.
                maybe("lower"),
                maybe("upper"),
                // The stage that said so, and a print of how it was written: `watch@9f3c2a01`.
                Field::new("pipeline", DataType::Utf8, true),
            ],
            Table::Correlations => {
                let pair =
                    [time("time"), time("end"), series("series_a"), series("series_b"), number("r"), count("points")];
                // Of ranks; seconds by which b follows a; how likely by chance, of all pairs of the window.
                pair.into_iter().chain(["spearman", "lag", "p_value"].map(maybe)).collect()
            }
            Table::Compressed => vec![
                series("series"),
                time("time"),
                number("value"),
                number("error"),
                // That the point stands for, itself among them.
                count("samples"),
                // Why it was kept.
                text("kept"),
            ],
            Table::Staleness => vec![series("series"), time("time")],
            Table::Histograms => vec![series("series"), time("time"), number("count"), number("sum"), sketch()],
            Table::Zones => vec![
                time("time"),
                text("zone"),
                text("before"),
                // Shares from 0 to 1.
                number("cpu"),
                number("memory"),
                number("queue"),
                text("cause"),
            ],
            Table::Forecasts => vec![
                series("series"),
                time("issued"),
                text("job"),
                time("time"),
                number("mean"),
                number("lo"),
                number("hi"),
                // Share that is to lie between, 0 to 1.
                number("level"),
                text("model"),
                length("step"),
                time("trained_from"),
                time("trained_to"),
                number("share_imputed"),
                // What MASE is a multiple of, where that is known.
                maybe("scale"),
            ],
        };
        Arc::new(Schema::new(fields))
    }
}

/// Places where series ended, as they are gathered.
#[derive(Debug, Default)]
pub struct Ends {
    series: Vec<u32>,
    times: Vec<i64>,
}

/// Distributions, as they are gathered.
#[derive(Debug, Default)]
pub struct Histograms {
    series: Vec<u32>,
    times: Vec<i64>,
    counts: Vec<f64>,
    sums: Vec<f64>,
    sketches: Vec<Vec<u8>>,
}

impl Ends {
    pub fn push(&mut self, series: SeriesId, time: Timestamp) {
        self.series.push(series.0);
        self.times.push(time.nanos());
    }

    pub fn len(&self) -> usize {
        self.series.len()
    }

    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Takes what was gathered; `None` where nothing was.
    pub fn take(&mut self) -> Option<Rows> {
        let Ends { series, times } = std::mem::take(self);
        rows(Table::Staleness, vec![series_column(series), time_column(times)])
    }
}

impl Histograms {
    /// `sketch` holds the bins of a percentile sketch, `count` and `sum` are of what was observed: since the source
    /// started, or in the interval before `time`, as the source counts.
    pub fn push(&mut self, series: SeriesId, time: Timestamp, count: f64, sum: f64, sketch: Vec<u8>) {
        self.series.push(series.0);
        self.times.push(time.nanos());
        self.counts.push(count);
        self.sums.push(sum);
        self.sketches.push(sketch);
    }

    pub fn len(&self) -> usize {
        self.series.len()
    }

    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Takes what was gathered; `None` where nothing was.
    pub fn take(&mut self) -> Option<Rows> {
        let Histograms { series, times, counts, sums, sketches } = std::mem::take(self);
        let columns: Vec<ArrayRef> = vec![
            series_column(series),
            time_column(times),
            Arc::new(Float64Array::from(counts)),
            Arc::new(Float64Array::from(sums)),
            Arc::new(BinaryArray::from_iter_values(sketches)),
        ];
        rows(Table::Histograms, columns)
    }
}

fn series_column(series: Vec<u32>) -> ArrayRef {
    Arc::new(UInt32Array::from(series))
}

fn time_column(times: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"))
}

fn rows(table: Table, columns: Vec<ArrayRef>) -> Option<Rows> {
    let batch = RecordBatch::try_new(table.schema(), columns).expect("columns are of the table's schema");
    (batch.num_rows() > 0).then_some(Rows { table, batch })
}
