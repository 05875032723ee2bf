//! Parquet files that are not the store's: read to be imported, written as exports.

use std::io::Write;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::StoreError;
use super::error::DiskContext;
use super::file::Source;
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

/// A Parquet file that is written batch by batch, to a file or to memory.
pub struct ParquetOutput<W: Write + Send>(ArrowWriter<W>);

impl<W: Write + Send> ParquetOutput<W> {
    pub fn new(out: W, schema: SchemaRef) -> Result<Self, StoreError> {
        Ok(ParquetOutput(ArrowWriter::try_new(out, schema, Some(properties()?))?))
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), StoreError> {
        Ok(self.0.write(batch)?)
    }

    /// Writes the footer. Without it there is no Parquet file.
    pub fn finish(self) -> Result<W, StoreError> {
        Ok(self.0.into_inner()?)
    }
}
