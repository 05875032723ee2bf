//! Heads of frames: written, read, looked for, mended.

use std::io;

/// Starts a frame. Its first and last byte are in no UTF-8 text.
const MARKER: [u8; 4] = [0xF5, b'P', b'L', 0xF6];

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub length: u32,
    pub sequence: u64,
    pub payload_crc: u32,
}

/// A frame as bytes.
pub(super) fn framed(sequence: u64, payload: impl FnOnce(&mut Vec<u8>)) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; FrameHead::LEN];
    payload(&mut frame);
    let length = u32::try_from(frame.len() - FrameHead::LEN).map_err(io::Error::other)?;
    let head = FrameHead { length, sequence, payload_crc: crc32c::crc32c(&frame[FrameHead::LEN..]) };
    frame[..FrameHead::LEN].copy_from_slice(&head.bytes());
    Ok(frame)
}

impl FrameHead {
    pub const LEN: usize = 24;

    fn bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&MARKER);
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..20]);
        bytes[20..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The fields, whether or not they are right.
    fn fields(bytes: &[u8]) -> Option<FrameHead> {
        let at = |range: std::ops::Range<usize>| bytes.get(range)?.try_into().ok();
        Some(FrameHead {
            length: u32::from_le_bytes(at(4..8)?),
            sequence: u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?),
            payload_crc: u32::from_le_bytes(at(16..20)?),
        })
    }

    /// The head that `bytes` begin with; `None` where a bit of it is wrong.
    pub fn read(bytes: &[u8]) -> Option<FrameHead> {
        let head = Self::fields(bytes)?;
        (bytes.get(..Self::LEN)? == head.bytes()).then_some(head)
    }

    /// Where in `bytes` the next whole head is, not before `from`.
    pub fn find(bytes: &[u8], from: usize) -> Option<usize> {
        let found = memchr::memmem::find_iter(bytes.get(from..)?, &MARKER).map(|at| from + at);
        found.into_iter().find(|&at| Self::read(&bytes[at..]).is_some())
    }

    /// Whether `bytes` begin with what was meant as a head and have the payload it speaks of.
    pub fn is_meant(bytes: &[u8]) -> bool {
        let has_payload = |head: FrameHead| bytes.len() - Self::LEN >= head.length as usize;
        bytes.starts_with(&MARKER) && bytes.len() >= Self::LEN && Self::fields(bytes).is_some_and(has_payload)
    }

    /// The head of a frame whose payload is whole and of whose head a field is wrong. `bytes` are the frame and nothing
    /// else; `sequence` is the number it should have, where that is known.
    pub fn mend(bytes: &[u8], sequence: Option<u64>) -> Option<FrameHead> {
        let payload = bytes.get(Self::LEN..)?;
        let told = Self::fields(bytes)?;
        let head = FrameHead {
            length: u32::try_from(payload.len()).ok()?,
            sequence: sequence.unwrap_or(told.sequence),
            payload_crc: crc32c::crc32c(payload),
        };
        let same_head_crc = head.bytes()[20..] == bytes[20..Self::LEN];
        (head.payload_crc == told.payload_crc || same_head_crc).then_some(head)
    }
}
