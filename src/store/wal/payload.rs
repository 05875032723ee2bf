//! Payloads of frames: definitions, samples and rows as bytes, and back.

use std::io::Cursor;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt32Type;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use super::NewSeries;
use crate::model::{Batch, Rows, SeriesDef, Table, Timestamp};
use crate::store::varint;

const FLOAT: u8 = 1;
/// Integers up to here are exact as f64, and their varint is no longer than the float.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// What one frame said.
#[derive(Debug, PartialEq)]
pub(in crate::store) struct Frame {
    pub first_def: usize,
    pub defs: Vec<SeriesDef>,
    pub batch: Batch,
}

pub(super) fn encode(new: &NewSeries<'_>, batch: &[u8], out: &mut Vec<u8>) {
    out.reserve(16 + batch.len() + new.defs.len() * 256);
    varint::put(out, new.first as u64);
    varint::put(out, new.defs.len() as u64);
    new.defs.iter().for_each(|def| def.encode(out));
    out.extend_from_slice(batch);
}

/// The part of a frame's payload that a batch makes: its source and when it came, samples, then rows.
pub(in crate::store) fn encode_batch(batch: &Batch) -> Vec<u8> {
    let mut out = Vec::with_capacity(20 + batch.source.len() + batch.len() * 6);
    put_part(&mut out, batch.source.as_bytes());
    varint::put_signed(&mut out, batch.arrived.nanos());
    varint::put(&mut out, batch.len() as u64);
    let mut before = 0;
    for &series in &batch.series {
        varint::put_signed(&mut out, i64::from(series) - before);
        before = i64::from(series);
    }
    let mut before = 0_i64;
    for &time in &batch.times {
        varint::put_signed(&mut out, time.wrapping_sub(before));
        before = time;
    }
    for &value in &batch.values {
        put_value(&mut out, value);
    }
    varint::put(&mut out, batch.rows.len() as u64);
    for rows in &batch.rows {
        let name = rows.table.name().as_bytes();
        let stream = stream(&rows.batch).expect("rows of numbers and bytes, in memory");
        [name, &stream].into_iter().for_each(|part| put_part(&mut out, part));
    }
    out
}

/// Counted bytes.
fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    varint::put(out, part.len() as u64);
    out.extend_from_slice(part);
}

fn stream(rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
    writer.write(rows)?;
    writer.into_inner()
}

fn rows(bytes: &mut &[u8]) -> Option<Rows> {
    let table = Table::of_name(std::str::from_utf8(part(bytes)?).ok()?)?;
    let mut batches = StreamReader::try_new(Cursor::new(part(bytes)?), None).ok()?;
    let batch = batches.next()?.ok()?;
    (batch.schema() == table.schema()).then_some(Rows { table, batch })
}

fn part<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let len = usize::try_from(varint::take(bytes)?).ok()?;
    let (part, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(part)
}

impl Frame {
    /// One more than the highest number of a series in it.
    pub fn series_end(&self) -> usize {
        let of_rows = self.batch.rows.iter().filter_map(|rows| {
            let series = rows.batch.column_by_name("series")?.as_primitive_opt::<UInt32Type>()?;
            series.iter().flatten().max()
        });
        let highest = self.batch.series.iter().copied().chain(of_rows).max();
        highest.map_or(0, |id| id as usize + 1)
    }
}

fn put_value(out: &mut Vec<u8>, value: f64) {
    let whole = value as i64;
    if (whole as f64).to_bits() == value.to_bits() && value.abs() < INTEGER_MAX {
        varint::put(out, varint::zigzag(whole) << 1);
    } else {
        out.push(FLOAT);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn value(bytes: &mut &[u8]) -> Option<f64> {
    if bytes.first() == Some(&FLOAT) {
        let (raw, rest) = bytes[1..].split_first_chunk::<8>()?;
        *bytes = rest;
        return Some(f64::from_le_bytes(*raw));
    }
    varint::take(bytes).map(|n| varint::unzigzag(n >> 1) as f64)
}

pub(super) fn decode(mut payload: &[u8]) -> Option<Frame> {
    let bytes = &mut payload;
    let first_def = usize::try_from(varint::take(bytes)?).ok()?;
    let count = varint::take(bytes)?;
    let defs = (0..count).map(|_| SeriesDef::decode(bytes)).collect::<Option<Vec<_>>>()?;
    let source = std::str::from_utf8(part(bytes)?).ok()?.into();
    let arrived = Timestamp::from_nanos(varint::take_signed(bytes)?);
    let count = usize::try_from(varint::take(bytes)?).ok().filter(|&count| count <= bytes.len())?;
    let mut batch = Batch { source, arrived, ..Batch::with_capacity(count) };
    let mut series = 0_i64;
    for _ in 0..count {
        series = series.checked_add(varint::take_signed(bytes)?)?;
        batch.series.push(u32::try_from(series).ok()?);
    }
    let mut time = 0_i64;
    for _ in 0..count {
        time = time.wrapping_add(varint::take_signed(bytes)?);
        batch.times.push(time);
    }
    for _ in 0..count {
        batch.values.push(value(bytes)?);
    }
    let count = varint::take(bytes)?;
    batch.rows = (0..count).map(|_| rows(bytes)).collect::<Option<_>>()?;
    bytes.is_empty().then_some(Frame { first_def, defs, batch })
}
