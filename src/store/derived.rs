//! Tables that stages write, and the dimension `series`: rows in memory, Parquet files at rest, the last word wins.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, MapBuilder, MapFieldNames, RecordBatch, StringBuilder, StringDictionaryBuilder, UInt32Array,
    new_null_array,
};
use arrow::compute::{cast, concat_batches, interleave_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimeUnit, TimestampNanosecondType, UInt32Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use bytes::Bytes;
use hashbrown::HashMap;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::StoreError;
use super::error::DiskContext;
use super::file::{FileSink, read_tail_of};
use super::label::NewFile;
use super::segment::SegmentStats;
use crate::catalog::{Registry, SegmentRecord, TableName};
use crate::model::{Kind, Labels, SeriesDef, Table};
use crate::world::Disk;

/// Rows a batch has that is made of rows that count.
const CHUNK_ROWS: usize = 65_536;

/// The rows that count of batches that were written one after another, in the order of the table's key.
///
/// # Errors
/// Batches that are not of the table.
pub fn latest_rows(table: Table, batches: &[RecordBatch]) -> Result<RecordBatch, StoreError> {
    Latest::of(table, batches)?.whole()
}

/// The rows that count, by their places in the batches they came in: eight bytes a row and no copy of it.
pub(super) struct Latest {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    /// Batch and row, in the order of the table's key.
    order: Vec<(u32, u32)>,
}

impl Latest {
    /// Of a group that was written several times the last batch's rows, of rows with one key the last.
    pub fn of(table: Table, batches: &[RecordBatch]) -> Result<Latest, StoreError> {
        let schema = batches.first().map_or_else(|| table.schema(), RecordBatch::schema);
        if table.group_columns() != table.key_columns() {
            let batches = vec![latest_groups(table, &concat_batches(&schema, batches)?, batches)?];
            let order = (0..batches[0].num_rows() as u32).map(|row| (0, row)).collect();
            return Ok(Latest { schema, batches, order });
        }
        let keys = batches.iter().map(|batch| rows(batch, table.key_columns())).collect::<Result<Vec<_>, _>>()?;
        let key = |&(batch, row): &(u32, u32)| keys[batch as usize].row(row as usize);
        let all = batches.iter().enumerate();
        let mut order: Vec<(u32, u32)> =
            all.flat_map(|(at, batch)| (0..batch.num_rows() as u32).map(move |row| (at as u32, row))).collect();
        // Stable: of one key the last comes last.
        order.sort_by(|a, b| key(a).cmp(&key(b)));
        // Of neighbours with one key the first goes.
        order.reverse();
        order.dedup_by(|earlier, later| key(earlier) == key(later));
        order.reverse();
        Ok(Latest { schema, batches: batches.to_vec(), order })
    }

    /// The rows, some at a time.
    pub fn chunks(&self) -> impl Iterator<Item = Result<RecordBatch, ArrowError>> {
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        self.order.chunks(CHUNK_ROWS).map(move |order| {
            let places: Vec<(usize, usize)> =
                order.iter().map(|&(batch, row)| (batch as usize, row as usize)).collect();
            interleave_record_batch(&batches, &places)
        })
    }

    /// All of them.
    pub fn whole(&self) -> Result<RecordBatch, StoreError> {
        let chunks = self.chunks().collect::<Result<Vec<_>, _>>()?;
        Ok(concat_batches(&self.schema, &chunks)?)
    }
}

/// The same of a table whose groups have several rows, over all rows in one batch.
fn latest_groups(table: Table, all: &RecordBatch, batches: &[RecordBatch]) -> Result<RecordBatch, StoreError> {
    let write_of = |row: usize, starts: &[usize]| starts.partition_point(|&start| start <= row) - 1;
    let starts: Vec<usize> =
        batches.iter().scan(0, |next, batch| Some(std::mem::replace(next, *next + batch.num_rows()))).collect();

    let groups = rows(all, table.group_columns())?;
    let mut last_write: HashMap<&[u8], usize> = HashMap::with_capacity(all.num_rows());
    for row in 0..all.num_rows() {
        last_write.insert(groups.row(row).data(), write_of(row, &starts));
    }
    let keys = rows(all, table.key_columns())?;
    let mut last_row: HashMap<&[u8], u32> = HashMap::with_capacity(all.num_rows());
    for row in 0..all.num_rows() {
        if last_write.get(groups.row(row).data()) == Some(&write_of(row, &starts)) {
            last_row.insert(keys.row(row).data(), row as u32);
        }
    }
    let mut kept: Vec<(&[u8], u32)> = last_row.into_iter().collect();
    kept.sort_unstable();
    let kept = UInt32Array::from_iter_values(kept.into_iter().map(|(_, row)| row));
    Ok(take_record_batch(all, &kept)?)
}

fn rows(batch: &RecordBatch, columns: usize) -> Result<arrow::row::Rows, StoreError> {
    let leading = &batch.columns()[..columns];
    let fields = leading.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    Ok(RowConverter::new(fields)?.convert_columns(leading)?)
}

/// Writes rows as one Parquet file. Times are kept in the coarsest unit that loses nothing.
pub(super) fn write_rows(new: NewFile, rows: &Latest) -> Result<SegmentStats, StoreError> {
    let chunks = rows.chunks().map(|chunk| Ok(chunk?));
    write_chunks(new, &rows.schema, coarsest_unit(&rows.batches), chunks)
}

/// The same of rows in one batch.
pub(super) fn write_batch(new: NewFile, batch: &RecordBatch) -> Result<SegmentStats, StoreError> {
    let unit = coarsest_unit(std::slice::from_ref(batch));
    write_chunks(new, &batch.schema(), unit, std::iter::once(Ok(batch.clone())))
}

/// Writes rows that come some at a time, their times in `unit`, which must lose nothing.
pub(super) fn write_chunks(
    new: NewFile,
    schema: &SchemaRef,
    unit: TimeUnit,
    chunks: impl Iterator<Item = Result<RecordBatch, StoreError>>,
) -> Result<SegmentStats, StoreError> {
    let schema = with_times_in(&RecordBatch::new_empty(schema.clone()), unit)?.schema();
    let mut writer = ArrowWriter::try_new(FileSink::new(new.file), schema.clone(), Some(properties(&schema)?))?;
    let (mut rows, mut range) = (0, None);
    for chunk in chunks {
        let chunk = chunk?;
        rows += chunk.num_rows() as u64;
        range = time_range(&chunk).into_iter().chain(range).reduce(|a: (i64, i64), b| (a.0.min(b.0), a.1.max(b.1)));
        writer.write(&with_times_in(&chunk, unit)?)?;
    }
    let (first, last) = range.unwrap_or((0, 0));
    writer.flush()?;
    writer.sync().map_err(ParquetError::from)?;
    let body = writer.inner_mut().end_body().map_err(ParquetError::from)?;
    writer.append_key_value_metadata(new.label.entry((first, last), body));
    writer.finish()?;
    let written = writer.inner_mut().finish().map_err(ParquetError::from)?;
    Ok(SegmentStats { rows, first, last, written })
}

fn properties(schema: &Schema) -> Result<WriterProperties, StoreError> {
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("plimsoll ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(9)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true);
    for field in schema.fields() {
        let path = ColumnPath::from(field.name().as_str());
        if field.data_type().is_integer() || matches!(field.data_type(), DataType::Timestamp(..)) {
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
    }
    Ok(properties.build())
}

/// The finest of some units of time.
pub(super) fn finest_unit(units: impl IntoIterator<Item = TimeUnit>) -> TimeUnit {
    let fineness = |unit: &TimeUnit| match unit {
        TimeUnit::Second | TimeUnit::Millisecond => 0,
        TimeUnit::Microsecond => 1,
        TimeUnit::Nanosecond => 2,
    };
    units.into_iter().max_by_key(fineness).unwrap_or(TimeUnit::Millisecond)
}

fn coarsest_unit(batches: &[RecordBatch]) -> TimeUnit {
    let columns = batches.iter().flat_map(RecordBatch::columns);
    let times = columns.filter_map(|column| column.as_primitive_opt::<TimestampNanosecondType>());
    let whole = |nanos: i64| times.clone().all(|column| column.values().iter().all(|time| time % nanos == 0));
    if whole(1_000_000) {
        TimeUnit::Millisecond
    } else if whole(1_000) {
        TimeUnit::Microsecond
    } else {
        TimeUnit::Nanosecond
    }
}

/// The batch with all its times cast to `unit`.
fn with_times_in(batch: &RecordBatch, unit: TimeUnit) -> Result<RecordBatch, StoreError> {
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        match field.data_type() {
            DataType::Timestamp(_, zone) => {
                let wanted = DataType::Timestamp(unit, zone.clone());
                columns.push(cast(column, &wanted)?);
                fields.push(field.as_ref().clone().with_data_type(wanted));
            }
            _ => {
                columns.push(column.clone());
                fields.push(field.as_ref().clone());
            }
        }
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn time_range(batch: &RecordBatch) -> Option<(i64, i64)> {
    use arrow::compute::kernels::aggregate::{max, min};
    let times = batch.column_by_name("time")?.as_primitive_opt::<TimestampNanosecondType>()?;
    Some((min(times)?, max(times)?))
}

/// Whether a table's file is there, as long as it was, and has the footer it was given.
pub(super) fn check_file(disk: &dyn Disk, dir: &Path, record: &SegmentRecord) -> Result<(), StoreError> {
    let path = dir.join(&record.path);
    let file = disk.open(&path).at("open", &path)?;
    if file.len() != record.bytes {
        let reason = format!("it has {} bytes, the catalog says {}", file.len(), record.bytes);
        return Err(StoreError::Damaged { path, reason });
    }
    if read_tail_of(&*file, record).at("read", &path)?.is_none() {
        return Err(StoreError::Damaged { path, reason: "its footer is not what was written".into() });
    }
    Ok(())
}

/// Reads a table's file whole.
pub(super) fn read_rows(disk: &dyn Disk, dir: &Path, record: &SegmentRecord) -> Result<Vec<RecordBatch>, StoreError> {
    let (_, reader) = checked(disk, dir, record)?;
    let schema = if let TableName::Derived(table) = record.table { Some(table.schema()) } else { None };
    let rows = reader.build()?.map(|batch| {
        let batch = with_times_in(&batch?, TimeUnit::Nanosecond)?;
        schema.as_ref().map_or_else(|| Ok(batch.clone()), |schema| of_today(&batch, schema))
    });
    rows.collect()
}

/// Rows with the columns that their table has by now: one that it had not when they were written is NULL.
fn of_today(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, StoreError> {
    let column = |field: &Arc<Field>| match batch.column_by_name(field.name()) {
        Some(column) => column.clone(),
        None => new_null_array(field.data_type(), batch.num_rows()),
    };
    Ok(RecordBatch::try_new(schema.clone(), schema.fields().iter().map(column).collect())?)
}

/// A file that has the checksum it was given, and its path.
fn checked(
    disk: &dyn Disk,
    dir: &Path,
    record: &SegmentRecord,
) -> Result<(PathBuf, ParquetRecordBatchReaderBuilder<Bytes>), StoreError> {
    let path = dir.join(&record.path);
    let bytes = disk.open(&path).and_then(|file| file.read_all()).at("read", &path)?;
    if crc32c::crc32c(&bytes) != record.digest {
        return Err(StoreError::Damaged { path, reason: "its checksum is wrong".into() });
    }
    Ok((path, ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?))
}

/// Rows of a file that are read at once.
const READ_ROWS: usize = 8192;

/// Rows of a file as they are read; the file itself is in memory, packed.
pub(super) struct FileRows {
    path: PathBuf,
    schema: SchemaRef,
    reader: ParquetRecordBatchReader,
    /// Of its times.
    pub unit: TimeUnit,
}

impl FileRows {
    /// The error of a file that is not sorted.
    pub fn out_of_order(&self) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), reason: "its rows are not in the order of its key".into() }
    }
}

impl Iterator for FileRows {
    type Item = Result<RecordBatch, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = |batch: Result<RecordBatch, ArrowError>| {
            of_today(&with_times_in(&batch?, TimeUnit::Nanosecond)?, &self.schema)
        };
        self.reader.next().map(read)
    }
}

/// The rows of a table's file, some at a time.
pub(super) fn open_rows(
    disk: &dyn Disk,
    dir: &Path,
    record: &SegmentRecord,
    schema: &SchemaRef,
) -> Result<FileRows, StoreError> {
    let (path, reader) = checked(disk, dir, record)?;
    let unit = finest_unit(reader.schema().fields().iter().filter_map(|field| match field.data_type() {
        DataType::Timestamp(unit, _) => Some(*unit),
        _ => None,
    }));
    let reader = reader.with_batch_size(READ_ROWS).build()?;
    Ok(FileRows { path, schema: schema.clone(), reader, unit })
}

/// `series` UInt32, `metric`, `labels` Map<Utf8, Utf8>, `kind`, `unit`, `help`, `measurement` (empty where the source had
/// none): what readers outside join on, and all there is to a definition.
pub(super) fn series_schema() -> SchemaRef {
    let keyword = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let entries = DataType::Struct(
        vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)].into(),
    );
    let labels = DataType::Map(Arc::new(Field::new("entries", entries, false)), false);
    Arc::new(Schema::new(vec![
        Field::new("series", DataType::UInt32, false),
        Field::new("metric", keyword.clone(), false),
        Field::new("labels", labels, false),
        Field::new("kind", keyword.clone(), false),
        Field::new("unit", keyword.clone(), false),
        Field::new("help", keyword.clone(), false),
        Field::new("measurement", keyword, false),
    ]))
}

/// Definitions made anew at once.
const DEFS_AT_ONCE: usize = 4096;

/// The rows of the dimension for the series with the numbers `ids`.
pub(super) fn series_rows(registry: &Registry, ids: Range<usize>) -> Result<RecordBatch, StoreError> {
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut labels = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    let mut texts: [StringDictionaryBuilder<Int32Type>; 5] = std::array::from_fn(|_| StringDictionaryBuilder::new());
    let stretches = ids.clone().step_by(DEFS_AT_ONCE).map(|first| first..ids.end.min(first + DEFS_AT_ONCE));
    for def in stretches.flat_map(|stretch| registry.defs(stretch)) {
        for (name, value) in def.labels.iter() {
            labels.keys().append_value(name);
            labels.values().append_value(value);
        }
        labels.append(true)?;
        let of_def = [&*def.metric, def.kind.name(), &def.unit, &def.help, def.measurement()];
        of_def.into_iter().zip(&mut texts).for_each(|(text, builder)| builder.append_value(text));
    }
    let [mut metric, mut kind, mut unit, mut help, mut measurement] = texts;
    let numbers = UInt32Array::from_iter_values(ids.start as u32..ids.end as u32);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(numbers),
        Arc::new(metric.finish()),
        Arc::new(labels.finish()),
        Arc::new(kind.finish()),
        Arc::new(unit.finish()),
        Arc::new(help.finish()),
        Arc::new(measurement.finish()),
    ];
    Ok(RecordBatch::try_new(series_schema(), columns)?)
}

/// The definitions that rows of the dimension hold, with their numbers.
pub(super) fn definitions(batches: &[RecordBatch]) -> Result<Vec<(u32, SeriesDef)>, StoreError> {
    let mut found = Vec::new();
    for batch in batches {
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(name.to_owned()));
        let text = |name: &str| cast(column(name)?, &DataType::Utf8);
        let texts = [text("metric")?, text("kind")?, text("unit")?, text("help")?, text("measurement")?];
        let numbers = column("series")?.as_primitive::<UInt32Type>();
        let labels = column("labels")?.as_map();
        for row in 0..batch.num_rows() {
            let [metric, kind, unit, help, measurement] =
                texts.each_ref().map(|text| text.as_string::<i32>().value(row));
            let pairs = labels.value(row);
            let pairs = pairs.columns().iter().map(|column| cast(column, &DataType::Utf8));
            let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
            let (names, values) = (pairs[0].as_string::<i32>(), pairs[1].as_string::<i32>());
            let labels = Labels::new(names.iter().flatten().zip(values.iter().flatten()));
            let mut def = SeriesDef::new(metric, labels);
            def.kind = Kind::ALL.into_iter().find(|known| known.name() == kind).unwrap_or(def.kind);
            (def.unit, def.help) = (unit.into(), help.into());
            def.measurement_len = measurement.len() as u16;
            found.push((numbers.value(row), def));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, StringArray, TimestampNanosecondArray, UInt64Array};
    use arrow::datatypes::Float64Type;

    fn pairs(window: i64, found: &[(u32, u32, f64)]) -> RecordBatch {
        let time = |t: i64| TimestampNanosecondArray::from(vec![t; found.len()]).with_timezone("UTC");
        let columns: Vec<ArrayRef> = vec![
            Arc::new(time(window)),
            Arc::new(time(window + 10)),
            Arc::new(UInt32Array::from_iter_values(found.iter().map(|pair| pair.0))),
            Arc::new(UInt32Array::from_iter_values(found.iter().map(|pair| pair.1))),
            Arc::new(Float64Array::from_iter_values(found.iter().map(|pair| pair.2))),
            Arc::new(UInt64Array::from(vec![60; found.len()])),
        ];
        // As files have them that are older than the other columns.
        let schema = Table::Correlations.schema().project(&[0, 1, 2, 3, 4, 5]).unwrap();
        let batch = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
        let today = of_today(&batch, &Table::Correlations.schema()).unwrap();
        assert_eq!(today.column_by_name("lag").unwrap().null_count(), found.len());
        today
    }

    #[test]
    fn a_group_written_again_replaces_the_former_whole() {
        let batches =
            [pairs(20, &[(1, 2, 0.9)]), pairs(0, &[(1, 2, 0.9), (3, 4, 0.8)]), pairs(0, &[(5, 6, 0.7), (1, 3, 0.6)])];
        let kept = Latest::of(Table::Correlations, &batches).unwrap().whole().unwrap();
        let r: Vec<f64> = kept.column(4).as_primitive::<Float64Type>().values().to_vec();
        assert_eq!(r, [0.6, 0.7, 0.9]);
    }

    #[test]
    fn of_one_key_the_last_row_counts() {
        let found = |rows: &[(u32, i64, f64)]| {
            let times = TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| row.1));
            let numbers = |of: fn(&(u32, i64, f64)) -> f64| -> ArrayRef {
                Arc::new(Float64Array::from_iter_values(rows.iter().map(of)))
            };
            let series = UInt32Array::from_iter_values(rows.iter().map(|row| row.0));
            let columns: Vec<ArrayRef> = vec![
                Arc::new(series),
                Arc::new(times.with_timezone("UTC")),
                numbers(|row| row.2),
                numbers(|_| 0.0),
                Arc::new(UInt64Array::from(vec![1; rows.len()])),
                Arc::new(StringArray::from(vec!["door"; rows.len()])),
            ];
            RecordBatch::try_new(Table::Compressed.schema(), columns).unwrap()
        };
        let batches = [found(&[(2, 5, 1.0), (1, 9, 2.0), (1, 9, 3.0)]), found(&[(1, 1, 4.0), (2, 5, 5.0)])];
        let kept = Latest::of(Table::Compressed, &batches).unwrap().whole().unwrap();
        let values: Vec<f64> = kept.column(2).as_primitive::<Float64Type>().values().to_vec();
        assert_eq!(values, [4.0, 3.0, 5.0]);
        assert_eq!(Latest::of(Table::Compressed, &[]).unwrap().whole().unwrap().num_rows(), 0);
    }
}
