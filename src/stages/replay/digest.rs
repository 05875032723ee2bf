//! A hash of rows that says whether two runs found the same, bit for bit.
//!
//! Series go in as text, rows sorted by their key, and a pair of series in the order of their texts: so neither the
//! numbers that series have in a store nor the order in which rows came show in it.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampNanosecondType, UInt32Type, UInt64Type};
use hashbrown::HashMap;
use sha2::{Digest, Sha256};

use crate::model::{SeriesId, Table};
use crate::store::Store;

/// Ends a text: in no UTF-8.
const END: u8 = 0xFF;

/// Of the rows of several tables: 64 hexadecimal digits.
pub fn digest(store: &Store, tables: &[(Table, RecordBatch)]) -> String {
    let mut texts = Texts::new(store);
    let mut sorted: Vec<&(Table, RecordBatch)> = tables.iter().filter(|(_, rows)| rows.num_rows() > 0).collect();
    sorted.sort_by_key(|(table, _)| *table);
    let mut hash = Sha256::new();
    for (table, rows) in sorted {
        hash.update(table.name().as_bytes());
        hash.update([END]);
        hash.update((rows.num_rows() as u64).to_be_bytes());
        let mut encoded: Vec<Encoded> =
            (0..rows.num_rows()).map(|row| Encoded::of(*table, rows, row, &mut texts)).collect();
        encoded.sort_unstable();
        for row in &encoded {
            hash.update((row.bytes.len() as u64).to_be_bytes());
            hash.update(&row.bytes);
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Texts of series, each made once.
pub(super) struct Texts<'s> {
    store: &'s Store,
    known: HashMap<u32, String>,
}

impl<'s> Texts<'s> {
    pub fn new(store: &'s Store) -> Self {
        Texts { store, known: HashMap::new() }
    }

    fn of(&mut self, series: u32) -> &str {
        let store = self.store;
        self.known.entry(series).or_insert_with(|| {
            let is_known = (series as usize) < store.registry().len();
            if is_known { store.registry().def(SeriesId(series)).to_string() } else { String::new() }
        })
    }
}

/// A row as bytes that sort as its key does.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Encoded {
    pub bytes: Vec<u8>,
    /// How many of them are the key's.
    pub key: usize,
}

impl Encoded {
    pub fn of(table: Table, rows: &RecordBatch, row: usize, texts: &mut Texts<'_>) -> Encoded {
        let (mut bytes, mut key) = (Vec::new(), 0);
        let mut pair: Vec<String> = Vec::new();
        for (at, column) in rows.columns().iter().enumerate() {
            match column.data_type() {
                DataType::UInt32 => pair.push(texts.of(column.as_primitive::<UInt32Type>().value(row)).to_owned()),
                _ => encode(column, row, &mut bytes),
            }
            let next_is_series = rows.columns().get(at + 1).is_some_and(|next| *next.data_type() == DataType::UInt32);
            if !next_is_series {
                pair.sort_unstable();
                for text in pair.drain(..) {
                    bytes.extend_from_slice(text.as_bytes());
                    bytes.push(END);
                }
            }
            if at + 1 == table.key_columns() {
                key = bytes.len();
            }
        }
        Encoded { bytes, key }
    }

    pub fn key(&self) -> &[u8] {
        &self.bytes[..self.key]
    }
}

/// Appends a cell: numbers by their exact bits, times and lengths so that they sort.
fn encode(column: &dyn Array, row: usize, out: &mut Vec<u8>) {
    let signed = |value: i64| (value.cast_unsigned() ^ (1 << 63)).to_be_bytes();
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            out.extend(signed(column.as_primitive::<TimestampNanosecondType>().value(row)));
        }
        DataType::Int64 => out.extend(signed(column.as_primitive::<Int64Type>().value(row))),
        DataType::UInt64 => out.extend(column.as_primitive::<UInt64Type>().value(row).to_be_bytes()),
        DataType::Float64 => out.extend(column.as_primitive::<Float64Type>().value(row).to_bits().to_be_bytes()),
        DataType::Utf8 => {
            out.extend(column.as_string::<i32>().value(row).as_bytes());
            out.push(END);
        }
        DataType::Binary => {
            let value = column.as_binary::<i32>().value(row);
            out.extend((value.len() as u64).to_be_bytes());
            out.extend(value);
        }
        other => unreachable!("no table has a column of {other}"),
    }
}
