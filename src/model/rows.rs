//! Rows of derived tables: what stages find, as Arrow columns with a schema each.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// A table that stages write.
///
/// Its first [`Table::key_columns`] columns sort it. Rows that agree in the first [`Table::group_columns`] of them are
/// one group, and a group written again replaces the former one whole: so a stage may say again what it found, better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Table {
    /// Windowed aggregates of a series.
    Rollups,
    /// Episodes in which a series left its usual range.
    Anomalies,
    /// Pairs of series that moved together in a window.
    Correlations,
    /// Series thinned within a stated error.
    Compressed,
}

/// Rows of one table, of its schema.
#[derive(Clone, Debug)]
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

impl Table {
    pub const ALL: [Table; 4] = [Table::Rollups, Table::Anomalies, Table::Correlations, Table::Compressed];

    /// Its name in SQL and of its folder.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Rollups => "rollups",
            Table::Anomalies => "anomalies",
            Table::Correlations => "correlations",
            Table::Compressed => "compressed",
        }
    }

    pub fn of_name(name: &str) -> Option<Table> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// How many leading columns sort the table.
    pub const fn key_columns(self) -> usize {
        match self {
            Table::Rollups | Table::Anomalies => 3,
            Table::Correlations => 4,
            Table::Compressed => 2,
        }
    }

    /// How many leading columns name a group, which is replaced whole when it is written again.
    pub const fn group_columns(self) -> usize {
        match self {
            Table::Rollups | Table::Anomalies => 3,
            Table::Correlations | Table::Compressed => 2,
        }
    }

    pub fn schema(self) -> SchemaRef {
        let fields = match self {
            Table::Rollups => vec![
                series("series"),
                // Length of the window in nanoseconds.
                Field::new("every", DataType::Int64, false),
                time("time"),
                count("count"),
                number("sum"),
                number("min"),
                number("max"),
                number("first"),
                number("last"),
                Field::new("sketch", DataType::Binary, false),
            ],
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
            ],
            Table::Correlations => {
                vec![time("time"), time("end"), series("series_a"), series("series_b"), number("r"), count("points")]
            }
            Table::Compressed => vec![series("series"), time("time"), number("value"), number("error")],
        };
        Arc::new(Schema::new(fields))
    }
}
