//! The Parquet schema of a segment of samples.

use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, TimeUnit as ParquetTimeUnit, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::Type;

use crate::store::scale::TimeUnit;

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

/// What the file's footer says of it; pages are made in `page.rs`.
pub(super) fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_created_by(concat!("plimsoll ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .build()
}
