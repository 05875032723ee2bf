//! Reads a log file frame by frame: over damaged stretches, up to where a write did not end.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::frame::FrameHead;
use super::payload::decode;
use super::{Frame, MAGIC};
use crate::world::{Disk, FileRead};

/// Bytes read at once.
const WINDOW: usize = 1 << 20;

/// What of a log file is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Fault {
    pub offset: u64,
    pub len: u64,
    pub harm: Harm,
}

/// What a fault costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Harm {
    /// The end of a write that was never acknowledged: nothing.
    Torn,
    /// Only bytes that the others tell: nothing.
    Mended,
    /// Frames are lost; how many, where the numbers around them tell.
    Lost { frames: Option<u64> },
}

/// Reads a log file frame by frame, holding little more than one at a time.
pub(in crate::store) struct WalReader {
    file: Arc<dyn FileRead>,
    window: Vec<u8>,
    window_at: u64,
    offset: u64,
    /// Number that the next frame should have.
    pub sequence: Option<u64>,
    /// Whole frames read so far.
    pub frames: u64,
    pub faults: Vec<Fault>,
}

impl WalReader {
    /// `sequence` is the number that its first frame should have, where that is known.
    pub fn open(disk: &dyn Disk, path: &Path, sequence: Option<u64>) -> io::Result<Self> {
        let file = disk.open(path)?;
        let (window, faults) = (Vec::new(), Vec::new());
        let mut reader = WalReader { file, window, window_at: 0, offset: 0, sequence, frames: 0, faults };
        reader.file_head()?;
        Ok(reader)
    }

    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        self.file.len()
    }

    fn file_head(&mut self) -> io::Result<()> {
        let len = MAGIC.len() as u64;
        let is_cut = self.file.len() < len;
        if is_cut || self.bytes(0, MAGIC.len())? != MAGIC {
            let harm = if is_cut { Harm::Torn } else { Harm::Mended };
            self.faults.push(Fault { offset: 0, len: len.min(self.file.len()), harm });
        }
        self.offset = len.min(self.file.len());
        Ok(())
    }

    /// `len` bytes from `offset` on, or as many as there are.
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.file.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = len.min(left);
        let is_within = offset >= self.window_at && offset + len as u64 <= self.window_at + self.window.len() as u64;
        if !is_within {
            self.window.resize(len.max(WINDOW).min(left), 0);
            self.window_at = offset;
            self.file.read_exact_at(offset, &mut self.window)?;
        }
        let at = (offset - self.window_at) as usize;
        Ok(&self.window[at..at + len])
    }

    /// The next frame that is whole; notes what lies before it.
    fn read(&mut self) -> io::Result<Option<Frame>> {
        while self.offset < self.file.len() {
            let start = self.offset;
            let Some(head) = FrameHead::read(self.bytes(start, FrameHead::LEN)?) else {
                if let Some(frame) = self.pass_stretch()? {
                    return Ok(Some(frame));
                }
                continue;
            };
            let len = FrameHead::LEN as u64 + u64::from(head.length);
            if self.file.len() - start < len {
                self.fault(self.file.len(), Harm::Torn);
                break;
            }
            let payload = &self.bytes(start, len as usize)?[FrameHead::LEN..];
            let frame = (crc32c::crc32c(payload) == head.payload_crc).then(|| decode(payload)).flatten();
            match frame {
                Some(frame) => {
                    let frame = self.count(head.sequence, frame);
                    self.offset = start + len;
                    return Ok(Some(frame));
                }
                None => {
                    self.missing(head.sequence);
                    self.fault(start + len, Harm::Lost { frames: Some(1) });
                    self.sequence = Some(head.sequence + 1);
                }
            }
        }
        Ok(None)
    }

    /// Goes on to the next whole head. What lies before it is one frame with a head to mend, or lost.
    fn pass_stretch(&mut self) -> io::Result<Option<Frame>> {
        let (start, expected) = (self.offset, self.sequence);
        let rest = self.bytes(start, usize::MAX)?;
        let next = FrameHead::find(rest, 1);
        let follows = next.and_then(|at| FrameHead::read(&rest[at..])).map(|head| head.sequence);
        let stretch = &rest[..next.unwrap_or(rest.len())];
        let end = start + stretch.len() as u64;
        let is_torn = next.is_none() && !FrameHead::is_meant(stretch);
        let mended = FrameHead::mend(stretch, expected);
        let mended = mended.and_then(|head| Some((head.sequence, decode(&stretch[FrameHead::LEN..])?)));
        if let Some((sequence, frame)) = mended {
            let frame = self.count(sequence, frame);
            self.fault(end, Harm::Mended);
            return Ok(Some(frame));
        }
        if is_torn {
            self.fault(end, Harm::Torn);
            return Ok(None);
        }
        let frames = match (expected, follows) {
            (Some(expected), Some(follows)) => follows.checked_sub(expected),
            // The last frame of the file.
            (_, None) => Some(1),
            (None, Some(_)) => None,
        };
        self.fault(end, Harm::Lost { frames });
        self.sequence = follows.or(expected.map(|expected| expected + 1));
        Ok(None)
    }

    fn count(&mut self, sequence: u64, frame: Frame) -> Frame {
        self.missing(sequence);
        self.sequence = Some(sequence + 1);
        self.frames += 1;
        frame
    }

    /// Notes frames between the last one and `sequence`, of which there is no byte.
    fn missing(&mut self, sequence: u64) {
        let missing = self.sequence.map_or(0, |expected| sequence.saturating_sub(expected));
        if missing > 0 {
            self.faults.push(Fault { offset: self.offset, len: 0, harm: Harm::Lost { frames: Some(missing) } });
        }
    }

    fn fault(&mut self, end: u64, harm: Harm) {
        self.faults.push(Fault { offset: self.offset, len: end - self.offset, harm });
        self.offset = end;
    }
}

impl Iterator for WalReader {
    type Item = io::Result<Frame>;

    fn next(&mut self) -> Option<io::Result<Frame>> {
        self.read().transpose()
    }
}
