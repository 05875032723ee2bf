//! Pages and column chunks of a segment, as Parquet has them: a header (Thrift, compact protocol), then the payload,
//! compressed with zstd. Each page carries Parquet's CRC32 of its payload for readers outside, and the series index
//! the CRC32C of header and payload.

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;
use zstd::bulk::Compressor;

use crate::store::varint::{put, put_signed};

/// Level 1 finds no long matches, and where delta packing left none is the smaller of the two; where a pattern comes
/// again, as in counters of few steps, level 6 is.
const ZSTD_LEVELS: [i32; 2] = [1, 6];
/// A payload that the first level leaves nearly as long is no pattern, and the second not tried.
const WORTH_PERCENT: usize = 85;

/// Where a page of data lies, and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageRef {
    pub offset: u64,
    /// Bytes of the header, and of header and payload.
    pub header: u32,
    pub len: u32,
    /// Bytes of the payload before compression.
    pub plain: u32,
    /// Values in it, nulls not counted.
    pub values: u32,
    /// CRC32C of header and payload.
    pub crc: u32,
}

/// Compresses payloads; keeps its tables from page to page.
pub(super) struct PageCompressor {
    zstd: [Compressor<'static>; 2],
    packed: [Vec<u8>; 2],
}

impl PageCompressor {
    pub fn new() -> ParquetResult<Self> {
        let [fast, thorough] = ZSTD_LEVELS;
        Ok(PageCompressor { zstd: [Compressor::new(fast)?, Compressor::new(thorough)?], packed: Default::default() })
    }

    pub fn compress(&mut self, plain: &[u8]) -> ParquetResult<&[u8]> {
        self.packed.iter_mut().for_each(Vec::clear);
        for (zstd, packed) in self.zstd.iter_mut().zip(&mut self.packed) {
            packed.reserve(zstd::zstd_safe::compress_bound(plain.len()));
            zstd.compress_to_buffer(plain, packed)?;
            if packed.len() * 100 > plain.len() * WORTH_PERCENT {
                break;
            }
        }
        let [fast, thorough] = &self.packed;
        Ok(if (1..fast.len()).contains(&thorough.len()) { thorough } else { fast })
    }
}

/// A column's pages of one row group.
pub(super) struct Chunk {
    bytes: Vec<u8>,
    encoding: Encoding,
    dictionary: bool,
    plain_bytes: usize,
    /// Offsets count from the chunk's start.
    pub pages: Vec<PageRef>,
}

impl Chunk {
    pub fn new(encoding: Encoding) -> Self {
        Chunk { bytes: Vec::new(), encoding, dictionary: false, plain_bytes: 0, pages: Vec::new() }
    }

    /// Adds the dictionary: `values` in plain encoding. It comes before all data.
    pub fn add_dictionary(&mut self, zstd: &mut PageCompressor, values: usize, plain: &[u8]) -> ParquetResult<()> {
        self.dictionary = true;
        let header = PageHeader { kind: PageKind::Dictionary, values, encoding: Encoding::PLAIN };
        self.add_page(zstd, header, plain).map(|_| ())
    }

    /// Adds a page of `rows` rows, of which `values` are not null.
    pub fn add_data(
        &mut self,
        zstd: &mut PageCompressor,
        rows: usize,
        values: usize,
        plain: &[u8],
    ) -> ParquetResult<()> {
        let header = PageHeader { kind: PageKind::Data, values: rows, encoding: self.encoding };
        let mut page = self.add_page(zstd, header, plain)?;
        page.values = values as u32;
        self.pages.push(page);
        Ok(())
    }

    fn add_page(&mut self, zstd: &mut PageCompressor, header: PageHeader, plain: &[u8]) -> ParquetResult<PageRef> {
        let start = self.bytes.len();
        let packed = zstd.compress(plain)?;
        header.write(plain.len(), packed, &mut self.bytes);
        let header = self.bytes.len() - start;
        self.bytes.extend_from_slice(packed);
        self.plain_bytes += header + plain.len();
        let crc = crc32c::crc32c(&self.bytes[start..]);
        let len = (self.bytes.len() - start) as u32;
        Ok(PageRef { offset: start as u64, header: header as u32, len, plain: plain.len() as u32, values: 0, crc })
    }

    /// The chunk as the parquet crate splices it in, and its pages.
    pub fn close(
        self,
        described: ColumnDescPtr,
        rows: usize,
        statistics: Option<Statistics>,
    ) -> ParquetResult<(Bytes, ColumnCloseResult, Vec<PageRef>)> {
        let mut encodings = vec![Encoding::RLE, self.encoding];
        let first_data = self.pages.first().map_or(0, |page| page.offset.cast_signed());
        if self.dictionary {
            encodings.push(Encoding::PLAIN);
        }
        let mut metadata = ColumnChunkMetaData::builder(described)
            .set_encodings(encodings)
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVELS[0])?))
            .set_num_values(rows as i64)
            .set_total_compressed_size(self.bytes.len() as i64)
            .set_total_uncompressed_size(self.plain_bytes as i64)
            .set_data_page_offset(first_data)
            .set_dictionary_page_offset(self.dictionary.then_some(0));
        if let Some(statistics) = statistics {
            metadata = metadata.set_statistics(statistics);
        }
        let close = ColumnCloseResult {
            bytes_written: self.bytes.len() as u64,
            rows_written: rows as u64,
            metadata: metadata.build()?,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        Ok((self.bytes.into(), close, self.pages))
    }
}

enum PageKind {
    Data,
    Dictionary,
}

struct PageHeader {
    kind: PageKind,
    values: usize,
    encoding: Encoding,
}

// Thrift's compact protocol: a field is its distance to the field before and its type in one byte, then its value;
// a structure ends with 0.
const I32: u8 = 5;
const STRUCT: u8 = 12;
const END: u8 = 0;

impl PageHeader {
    /// `PageHeader` of parquet.thrift: type, sizes before and after compression, CRC32, and the kind's own structure.
    fn write(&self, plain: usize, packed: &[u8], out: &mut Vec<u8>) {
        let (kind, field) = match self.kind {
            PageKind::Data => (0, 5),
            PageKind::Dictionary => (2, 7),
        };
        let crc = crc32fast::hash(packed).cast_signed();
        for number in [kind, plain as i64, packed.len() as i64, i64::from(crc)] {
            i32_field(1, number, out);
        }
        out.push((field - 4) << 4 | STRUCT);
        i32_field(1, self.values as i64, out);
        i32_field(1, encoding_number(self.encoding), out);
        if matches!(self.kind, PageKind::Data) {
            // Levels: both as runs.
            i32_field(1, encoding_number(Encoding::RLE), out);
            i32_field(1, encoding_number(Encoding::RLE), out);
        }
        out.extend([END, END]);
    }
}

fn i32_field(distance: u8, number: i64, out: &mut Vec<u8>) {
    out.push(distance << 4 | I32);
    put_signed(out, number);
}

/// Its number in parquet.thrift.
const fn encoding_number(encoding: Encoding) -> i64 {
    match encoding {
        Encoding::RLE => 3,
        Encoding::DELTA_BINARY_PACKED => 5,
        Encoding::RLE_DICTIONARY => 8,
        Encoding::BYTE_STREAM_SPLIT => 9,
        // No other is written here.
        _ => 0,
    }
}

/// Appends runs of one bit width in Parquet's run-length encoding.
pub(super) fn put_runs(runs: impl IntoIterator<Item = (u32, usize)>, bit_width: u8, out: &mut Vec<u8>) {
    let bytes = usize::from(bit_width.div_ceil(8));
    for (value, count) in runs {
        put(out, (count as u64) << 1);
        out.extend_from_slice(&value.to_le_bytes()[..bytes]);
    }
}

/// Appends definition levels, one bit a row: their length, then runs of rows that have a value and that have none.
pub(super) fn put_levels(runs: impl IntoIterator<Item = (bool, usize)>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend([0; 4]);
    put_runs(runs.into_iter().map(|(present, rows)| (u32::from(present), rows)), 1, out);
    let len = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}
