//! Parquet files that are not the store's: read to be imported, written as exports.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::StoreError;
use super::error::DiskContext;
use super::file::{FileSink, Source};
use crate::world::Disk;

/// Batches of a Parquet file, one at a time.
pub struct ParquetInput {
    reader: ParquetRecordBatchReader,
    pub schema: SchemaRef,
    pub rows: u64,
}

impl ParquetInput {
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, StoreError> {
        let file = disk.open(path).at("open", path)?;
        Self::of(Source::new(file))
    }

    /// The same over a file in memory.
    pub fn of_bytes(bytes: &'static [u8]) -> Result<Self, StoreError> {
        Self::of(bytes::Bytes::from_static(bytes))
    }

    fn of(source: impl parquet::file::reader::ChunkReader + 'static) -> Result<Self, StoreError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(source)?;
        let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        let schema = builder.schema().clone();
        Ok(ParquetInput { reader: builder.with_batch_size(65_536).build()?, schema, rows })
    }
}

impl Iterator for ParquetInput {
    type Item = Result<RecordBatch, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.reader.next().map(|batch| batch.map_err(StoreError::from))
    }
}

fn properties() -> Result<WriterProperties, StoreError> {
    let builder = WriterProperties::builder()
        .set_created_by(concat!("plimsoll ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(6)?));
    Ok(builder.build())
}

/// Batches as a Parquet file in memory.
pub fn parquet_bytes(schema: SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, StoreError> {
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties()?))?;
    batches.iter().try_for_each(|batch| writer.write(batch))?;
    Ok(writer.into_inner()?)
}

/// Writes batches as a Parquet file under a name of its own, then renames it: it is there whole or not at all.
pub fn write_parquet(
    disk: &dyn Disk,
    path: &Path,
    schema: SchemaRef,
    batches: impl IntoIterator<Item = RecordBatch>,
) -> Result<u64, StoreError> {
    let unfinished = path.with_extension("unfinished");
    let file = disk.create(&unfinished).at("create", &unfinished)?;
    let mut writer = ArrowWriter::try_new(FileSink::new(Arc::clone(&file)), schema, Some(properties()?))?;
    let mut rows = 0;
    for batch in batches {
        rows += batch.num_rows() as u64;
        writer.write(&batch)?;
    }
    writer.finish()?;
    writer.inner_mut().finish().map_err(parquet::errors::ParquetError::from)?;
    disk.rename(&unfinished, path).at("rename", &unfinished)?;
    Ok(rows)
}
