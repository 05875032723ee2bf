//! The Parquet schema of a segment of samples.

use std::sync::Arc;

use parquet::basic::{
    Compression, Encoding, LogicalType, Repetition, TimeUnit as ParquetTimeUnit, Type as Physical, ZstdLevel,
};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::{ColumnPath, Type};

use super::TimeUnit;

pub(super) const TIME: usize = 2;
pub(super) const VALUE: usize = 3;
pub(super) const UNSCALED: usize = 4;

/// Rows a data page holds: what reading one sample costs at most, against the weight of page headers.
const PAGE_ROWS: usize = 32_768;
const ZSTD_LEVEL: i32 = 3;

pub(super) fn schema(unit: TimeUnit) -> Result<Arc<Type>, ParquetError> {
    let column = |name: &str, physical: Physical, repetition: Repetition, logical: Option<LogicalType>| {
        Type::primitive_type_builder(name, physical)
            .with_repetition(repetition)
            .with_logical_type(logical)
            .build()
            .map(Arc::new)
    };
    let unit = match unit {
        TimeUnit::Millis => ParquetTimeUnit::MILLIS,
        TimeUnit::Micros => ParquetTimeUnit::MICROS,
        TimeUnit::Nanos => ParquetTimeUnit::NANOS,
    };
    let unsigned = LogicalType::integer(32, false);
    let utc = LogicalType::timestamp(true, unit);
    let fields = vec![
        column("metric", Physical::BYTE_ARRAY, Repetition::REQUIRED, Some(LogicalType::String))?,
        column("series", Physical::INT32, Repetition::REQUIRED, Some(unsigned))?,
        column("time", Physical::INT64, Repetition::REQUIRED, Some(utc))?,
        column("value", Physical::DOUBLE, Repetition::OPTIONAL, None)?,
        column("unscaled", Physical::INT64, Repetition::OPTIONAL, None)?,
        column("scale", Physical::INT32, Repetition::REQUIRED, None)?,
    ];
    Type::group_type_builder("samples").with_fields(fields).build().map(Arc::new)
}

pub(super) fn properties() -> Result<WriterProperties, ParquetError> {
    let path = |name: &str| ColumnPath::from(name);
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("plimsoll ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_dictionary_enabled(false)
        .set_column_dictionary_enabled(path("metric"), true)
        .set_statistics_enabled(EnabledStatistics::None);
    for delta in ["series", "time", "unscaled", "scale"] {
        builder = builder.set_column_encoding(path(delta), Encoding::DELTA_BINARY_PACKED);
    }
    for known in ["metric", "series", "time"] {
        builder = builder.set_column_statistics_enabled(path(known), EnabledStatistics::Chunk);
    }
    Ok(builder.set_column_encoding(path("value"), Encoding::BYTE_STREAM_SPLIT).build())
}
