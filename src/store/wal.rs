//! The write-ahead log: what was acknowledged and is not in segments yet.
//!
//! ```text
//! file    NNNNNNNNNN.wal   "PLWAL\0\0\x01"  frame*
//! frame   payload length u32 le, CRC32C of the payload u32 le, payload
//! payload number of the first definition varint, count varint, definitions (SeriesDef::encode)
//!         count of samples varint,
//!         series: difference to the one before, zigzag varint, each
//!         times in ns: difference to the one before, zigzag varint, each
//!         values: an integer n as varint of zigzag(n) * 2; any other as 0x01 and its 8 bytes little-endian, each
//! ```
//!
//! A frame that is cut or whose checksum is wrong ends the file: what lies behind it was never acknowledged.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::varint;
use crate::model::{Batch, SeriesDef};
use crate::world::{Disk, FileAppend};

const MAGIC: &[u8; 8] = b"PLWAL\0\0\x01";
const FRAME_HEAD: usize = 8;
const FLOAT: u8 = 1;
/// Integers up to here are exact as f64, and their varint is no longer than the float.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// A log file being written.
pub(super) struct WalWriter {
    file: Arc<dyn FileAppend>,
    number: u64,
    len: u64,
}

/// Definitions that a frame carries along: those from `first` on.
pub(super) struct NewSeries<'a> {
    pub first: usize,
    pub defs: &'a [SeriesDef],
}

/// What one frame said.
#[derive(Debug, PartialEq)]
pub(super) struct Frame {
    pub first_def: usize,
    pub defs: Vec<SeriesDef>,
    pub batch: Batch,
}

pub(super) fn wal_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.wal"))
}

/// The log files in `dir`, by number.
pub(super) fn wal_files(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_suffix(".wal")?.parse::<u64>().ok();
    let paths = disk.list(dir)?;
    Ok(paths.into_iter().filter_map(|path| Some((number(&path)?, path))).collect())
}

impl WalWriter {
    pub fn create(disk: &dyn Disk, dir: &Path, number: u64) -> io::Result<Self> {
        let file = disk.create(&wal_path(dir, number))?;
        file.append(MAGIC)?;
        file.sync()?;
        disk.sync_dir(dir)?;
        Ok(WalWriter { file, number, len: MAGIC.len() as u64 })
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn file(&self) -> &Arc<dyn FileAppend> {
        &self.file
    }

    /// Appends one frame: the new definitions and an encoded batch.
    pub fn append(&mut self, new: &NewSeries<'_>, samples: &[u8]) -> io::Result<()> {
        let mut frame = Vec::with_capacity(FRAME_HEAD + 16 + samples.len() + new.defs.len() * 256);
        frame.resize(FRAME_HEAD, 0);
        varint::put(&mut frame, new.first as u64);
        varint::put(&mut frame, new.defs.len() as u64);
        new.defs.iter().for_each(|def| def.encode(&mut frame));
        frame.extend_from_slice(samples);
        let len = u32::try_from(frame.len() - FRAME_HEAD).map_err(io::Error::other)?;
        let crc = crc32c::crc32c(&frame[FRAME_HEAD..]);
        frame[..4].copy_from_slice(&len.to_le_bytes());
        frame[4..FRAME_HEAD].copy_from_slice(&crc.to_le_bytes());
        self.file.append(&frame)?;
        self.len += frame.len() as u64;
        Ok(())
    }
}

/// The samples part of a frame's payload.
pub(super) fn encode_samples(batch: &Batch) -> Vec<u8> {
    let mut out = Vec::with_capacity(10 + batch.len() * 6);
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
    out
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

/// Why a log file ended before its last byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tear {
    pub offset: u64,
    pub reason: &'static str,
}

/// Reads a log file frame by frame, holding one frame at a time.
pub(super) struct WalReader {
    file: Arc<dyn crate::world::FileRead>,
    offset: u64,
    /// Whole frames read so far.
    pub frames: u64,
    pub tear: Option<Tear>,
}

impl WalReader {
    pub fn open(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let file = disk.open(path)?;
        let mut reader = WalReader { file, offset: 0, frames: 0, tear: None };
        match reader.bytes(MAGIC.len()) {
            Some(magic) if magic == MAGIC => {}
            _ => reader.tear = Some(Tear { offset: 0, reason: "no log file's head" }),
        }
        Ok(reader)
    }

    /// Bytes of it that are whole.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn bytes(&mut self, len: usize) -> Option<Vec<u8>> {
        if self.file.len().saturating_sub(self.offset) < len as u64 {
            return None;
        }
        let mut bytes = vec![0; len];
        self.file.read_exact_at(self.offset, &mut bytes).ok()?;
        self.offset += len as u64;
        Some(bytes)
    }

    fn torn(&mut self, offset: u64, reason: &'static str) -> Option<Frame> {
        self.offset = offset;
        self.tear = Some(Tear { offset, reason });
        None
    }
}

impl Iterator for WalReader {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let start = self.offset;
        if self.tear.is_some() || start == self.file.len() {
            return None;
        }
        let Some(head) = self.bytes(FRAME_HEAD) else { return self.torn(start, "cut within a frame's head") };
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let Some(payload) = self.bytes(word(0) as usize) else { return self.torn(start, "cut within a frame") };
        if crc32c::crc32c(&payload) != word(4) {
            return self.torn(start, "checksum is wrong");
        }
        match decode(&payload) {
            Some(frame) => {
                self.frames += 1;
                Some(frame)
            }
            None => self.torn(start, "a frame that does not decode"),
        }
    }
}

fn decode(mut payload: &[u8]) -> Option<Frame> {
    let bytes = &mut payload;
    let first_def = usize::try_from(varint::take(bytes)?).ok()?;
    let count = varint::take(bytes)?;
    let defs = (0..count).map(|_| SeriesDef::decode(bytes)).collect::<Option<Vec<_>>>()?;
    let count = usize::try_from(varint::take(bytes)?).ok().filter(|&count| count <= bytes.len())?;
    let mut batch = Batch::with_capacity(count);
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
    bytes.is_empty().then_some(Frame { first_def, defs, batch })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Labels, SeriesId, Timestamp};
    use crate::world::SimDisk;

    fn batch(values: &[f64]) -> Batch {
        let mut batch = Batch::default();
        for (at, &value) in values.iter().enumerate() {
            batch.push(SeriesId(at as u32 * 7 % 5), Timestamp::from_nanos(i64::MAX - at as i64 * 3), value);
        }
        batch
    }

    fn written(batches: &[Batch]) -> SimDisk {
        let disk = SimDisk::new();
        let mut wal = WalWriter::create(&disk, Path::new("/wal"), 3).unwrap();
        let def = [SeriesDef::new("m", Labels::new([("a", "b")]))];
        for batch in batches {
            wal.append(&NewSeries { first: 5, defs: &def }, &encode_samples(batch)).unwrap();
        }
        disk
    }

    const VALUES: [f64; 10] =
        [0.0, -0.0, 1.0, -1.0, 1.5, f64::MAX, 9_007_199_254_740_991.0, 9_007_199_254_740_993.0, -64.0, 1e300];

    #[test]
    fn frames_read_back_bit_for_bit() {
        let disk = written(&[batch(&VALUES), batch(&[2.0])]);
        let frames: Vec<Frame> = WalReader::open(&disk, &wal_path(Path::new("/wal"), 3)).unwrap().collect();
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[0].batch.times, batch(&VALUES).times);
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&frames[0].batch.values), bits(&VALUES));
        assert_eq!((frames[1].first_def, &*frames[1].defs[0].metric), (5, "m"));
    }

    #[test]
    fn every_cut_and_every_flipped_byte_keeps_the_frames_before_it() {
        let path = wal_path(Path::new("/wal"), 3);
        let whole = written(&[batch(&VALUES), batch(&[2.0])]).open(&path).unwrap().read_all().unwrap();
        for at in 0..whole.len() {
            let disk = written(&[batch(&VALUES), batch(&[2.0])]);
            disk.truncate(&path, at as u64).unwrap();
            let mut reader = WalReader::open(&disk, &path).unwrap();
            let frames = reader.by_ref().count();
            assert!(frames < 2 && reader.offset() <= at as u64, "cut at {at}");

            let disk = written(&[batch(&VALUES), batch(&[2.0])]);
            disk.corrupt(&path, at, 0x10);
            let mut reader = WalReader::open(&disk, &path).unwrap();
            assert!(reader.by_ref().count() < 2, "flipped at {at}");
            assert!(reader.tear.is_some(), "flipped at {at}");
        }
    }
}
