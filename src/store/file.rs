//! Files as the parquet crate writes and reads them.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};

use crate::catalog::SegmentRecord;
use crate::world::{FileAppend, FileRead};

const WRITE_BYTES: usize = 1 << 18;

/// Buffers writes and sums up what went by.
pub(super) struct FileSink {
    file: Arc<dyn FileAppend>,
    buffer: Vec<u8>,
    bytes: u64,
    digest: u32,
    tail: (u64, u32),
}

/// What went into a file.
#[derive(Debug)]
pub(super) struct Written {
    pub bytes: u64,
    /// CRC32C of all of it.
    pub digest: u32,
    /// Where the tail begins, and its CRC32C.
    pub tail: (u64, u32),
}

impl FileSink {
    pub fn new(file: Arc<dyn FileAppend>) -> Self {
        FileSink { file, buffer: Vec::with_capacity(WRITE_BYTES), bytes: 0, digest: 0, tail: (0, 0) }
    }

    /// Ends the body: what comes is the tail. Bytes of the body and their CRC32C.
    pub fn end_body(&mut self) -> io::Result<(u64, u32)> {
        self.flush()?;
        self.tail = (self.bytes, 0);
        Ok((self.bytes, self.digest))
    }

    /// Makes the file durable.
    pub fn finish(&mut self) -> io::Result<Written> {
        self.flush()?;
        self.file.sync()?;
        Ok(Written { bytes: self.bytes, digest: self.digest, tail: self.tail })
    }
}

impl Write for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.digest = crc32c::crc32c_append(self.digest, &self.buffer);
        self.tail.1 = crc32c::crc32c_append(self.tail.1, &self.buffer);
        self.bytes += self.buffer.len() as u64;
        self.file.append(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// A file's end, by which it is opened; `None` where it is not what was written. The file's length must be right.
pub(super) fn read_tail_of(file: &dyn FileRead, record: &SegmentRecord) -> io::Result<Option<Vec<u8>>> {
    let (from, digest) = record.tail;
    let len = usize::try_from(record.bytes.saturating_sub(from)).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(from, &mut bytes)?;
    Ok((crc32c::crc32c(&bytes) == digest).then_some(bytes))
}

/// A file as the parquet crate reads it.
#[derive(Clone)]
pub(super) struct Source(Arc<dyn FileRead>);

impl Source {
    pub fn new(file: Arc<dyn FileRead>) -> Self {
        Source(file)
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for Source {
    type T = SourceRead;

    fn get_read(&self, start: u64) -> ParquetResult<SourceRead> {
        Ok(SourceRead { file: self.0.clone(), offset: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let mut bytes = vec![0; length];
        self.0.read_exact_at(start, &mut bytes).map_err(ParquetError::from)?;
        Ok(bytes.into())
    }
}

pub(super) struct SourceRead {
    file: Arc<dyn FileRead>,
    offset: u64,
}

impl Read for SourceRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.file.len().saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let taken = left.min(buffer.len());
        self.file.read_exact_at(self.offset, &mut buffer[..taken])?;
        self.offset += taken as u64;
        Ok(taken)
    }
}
