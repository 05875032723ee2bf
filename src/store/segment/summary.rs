//! Summaries of a segment: of each series what is known of each stretch of time of one width, so that who asks for no more
//! reads a part of the bytes. Their bytes are drawn in [`format`](crate::store::format#the-file-and-the-series-index-in-it).

use std::io;
use std::sync::Arc;

use moka::sync::Cache;

use super::page::{PageCompressor, PageRef};
use crate::model::{Sum, Summary};
use crate::store::points::{Points, Values};
use crate::store::scale::rescale;
use crate::store::varint::{put, put_signed, take, take_signed};

const SECOND: i64 = 1_000_000_000;
/// Widths of stretches, nanoseconds; each divides the next.
const WIDTHS: [i64; 6] = [60 * SECOND, 300 * SECOND, 900 * SECOND, 3600 * SECOND, 21_600 * SECOND, 86_400 * SECOND];
/// Samples that a stretch has to stand for, at the least.
const WORTH: i64 = 60;
/// Samples of a series for which summaries are made.
const SAMPLES_MIN: usize = 120;
/// Summaries that a page holds.
const PAGE: usize = 1024;

/// The summaries of one series in a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Summarised {
    /// The first of them, counted over those of the segment.
    pub first: u32,
    pub count: u32,
    /// Place in the list of widths.
    width: u8,
}

impl Summarised {
    /// Nanoseconds of a stretch; they count from 1970.
    pub fn width(self) -> i64 {
        WIDTHS[usize::from(self.width).min(WIDTHS.len() - 1)]
    }
}

/// A stretch: the how manieth of its width, and what is known of it.
pub(super) type Stretch = (i64, Summary);

/// Pages of summaries that were read lately, of all segments: by the segment's number and the page's place in it.
pub(in crate::store) struct SummaryCache(Cache<(u64, u32), Arc<[Stretch]>>);

impl SummaryCache {
    /// At most so many bytes.
    pub fn new(bytes: usize) -> SummaryCache {
        let weight = |_: &(u64, u32), page: &Arc<[Stretch]>| size_of_val(&**page) as u32;
        SummaryCache(Cache::builder().max_capacity(bytes as u64).weigher(weight).build())
    }

    pub(super) fn get(&self, segment: u64, page: usize) -> Option<Arc<[Stretch]>> {
        self.0.get(&(segment, page as u32))
    }

    pub(super) fn put(&self, segment: u64, page: usize, stretches: &Arc<[Stretch]>) {
        self.0.insert((segment, page as u32), stretches.clone());
    }

    /// Bytes that are held, roughly.
    pub fn bytes(&self) -> u64 {
        self.0.weighted_size()
    }
}

/// Where the summaries of a segment lie.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Summaries {
    pub pages: Vec<PageRef>,
    /// By series, in the file's order; none where the segment has no summaries.
    pub of: Vec<Summarised>,
}

impl Summaries {
    pub fn encode(&self, out: &mut Vec<u8>) {
        for of in &self.of {
            put(out, u64::from(of.count));
            if of.count > 0 {
                out.push(of.width);
            }
        }
    }

    /// Of so many series.
    pub fn decode(pages: Vec<PageRef>, series: usize, rest: &mut &[u8]) -> Option<Summaries> {
        let mut of = Vec::with_capacity(series);
        let mut first = 0_u32;
        for _ in 0..series {
            let count = u32::try_from(take(rest)?).ok()?;
            let mut width = 0;
            if count > 0 {
                let (&known, after) = rest.split_first().filter(|(width, _)| usize::from(**width) < WIDTHS.len())?;
                (width, *rest) = (known, after);
            }
            of.push(Summarised { first, count, width });
            first = first.checked_add(count)?;
        }
        let held: u64 = pages.iter().map(|page| u64::from(page.values)).sum();
        (held == u64::from(first)).then_some(Summaries { pages, of })
    }
}

/// Makes the summaries of a segment as its series come.
#[derive(Default)]
pub(super) struct Summariser {
    of: Vec<Summarised>,
    /// Those of the page to be written.
    page: Vec<Stretch>,
    /// The stretch that is not over.
    open: Option<Stretch>,
    pages: Vec<PageRef>,
    /// Pages, one after the other.
    bytes: Vec<u8>,
    /// Summaries so far.
    count: u32,
    floats: Vec<f64>,
}

impl Summariser {
    /// Begins a series with its first points, which are not added yet.
    pub fn begin(&mut self, points: &Points) {
        self.close();
        let (first, count) = (self.count, 0);
        // One whose samples are few has none: a width beyond all.
        let width = width_for(points).unwrap_or(WIDTHS.len()) as u8;
        self.of.push(Summarised { first, count, width });
    }

    /// Adds points to the series that was begun last.
    pub fn add(&mut self, points: &Points, zstd: &mut PageCompressor) -> io::Result<()> {
        let Some(width) = self.of.last().and_then(|of| WIDTHS.get(usize::from(of.width)).copied()) else {
            return Ok(());
        };
        let mut floats = std::mem::take(&mut self.floats);
        let values = match &points.values {
            Values::Floats(floats) => &floats[..],
            Values::Scaled { scale, whole } => {
                floats.clear();
                rescale(whole, *scale, &mut floats);
                &floats[..]
            }
        };
        let mut from = 0;
        while let Some(&time) = points.times.get(from) {
            let number = time.div_euclid(width);
            let end = number.saturating_add(1).saturating_mul(width);
            let to = from + points.times[from..].partition_point(|&time| time < end).max(1);
            if self.open.is_none_or(|(open, _)| open != number) {
                self.close();
                self.open = Some((number, Summary::EMPTY));
            }
            if let Some((_, summary)) = &mut self.open {
                summary.add(&values[from..to]);
            }
            from = to;
        }
        self.floats = floats;
        if self.page.len() >= PAGE { self.write(zstd) } else { Ok(()) }
    }

    fn close(&mut self) {
        if let (Some(stretch), Some(of)) = (self.open.take(), self.of.last_mut()) {
            self.page.push(stretch);
            of.count += 1;
            self.count += 1;
        }
    }

    fn write(&mut self, zstd: &mut PageCompressor) -> io::Result<()> {
        for some in self.page.chunks(PAGE) {
            let plain = encode(some);
            let packed = zstd.compress(&plain).map_err(io::Error::other)?;
            self.pages.push(PageRef {
                offset: self.bytes.len() as u64,
                header: 0,
                len: packed.len() as u32,
                plain: plain.len() as u32,
                values: some.len() as u32,
                crc: crc32c::crc32c(packed),
            });
            self.bytes.extend_from_slice(packed);
        }
        self.page.clear();
        Ok(())
    }

    /// What is to be written at `offset`, and where in the file it then lies.
    pub fn finish(mut self, offset: u64, zstd: &mut PageCompressor) -> io::Result<(Vec<u8>, Summaries)> {
        self.close();
        self.write(zstd)?;
        self.pages.iter_mut().for_each(|page| page.offset += offset);
        Ok((self.bytes, Summaries { pages: self.pages, of: self.of }))
    }
}

/// The first width of which a stretch stands for enough samples.
fn width_for(points: &Points) -> Option<usize> {
    let (first, last) = (points.times.first()?, points.times.last()?);
    let steps = i64::try_from(points.len().checked_sub(1).filter(|_| points.len() >= SAMPLES_MIN)?).ok()?;
    let step = last.checked_sub(*first)? / steps;
    WIDTHS.iter().position(|&width| width / WORTH >= step)
}

/// Numbers of stretches, how many samples, then bytes of the sums, of what they lost, of the least and the greatest.
fn encode(stretches: &[Stretch]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(stretches.len() * 36);
    let mut before = 0;
    for (number, summary) in stretches {
        put_signed(&mut plain, number.wrapping_sub(before));
        put(&mut plain, summary.count);
        before = *number;
    }
    for of in COLUMNS {
        for byte in 0..8 {
            plain.extend(stretches.iter().map(|(_, summary)| (of(summary).to_bits() >> (8 * byte)) as u8));
        }
    }
    plain
}

const COLUMNS: [fn(&Summary) -> f64; 4] =
    [|summary| summary.sum.high, |summary| summary.sum.low, |summary| summary.min, |summary| summary.max];

/// So many stretches of a page's payload; `None` where it does not hold as many.
pub(super) fn decode(mut plain: &[u8], count: usize, out: &mut Vec<Stretch>) -> Option<()> {
    let rest = &mut plain;
    let mut before = 0_i64;
    for _ in 0..count {
        before = before.wrapping_add(take_signed(rest)?);
        out.push((before, Summary { count: take(rest)?, ..Summary::EMPTY }));
    }
    (rest.len() == count.checked_mul(32)?).then_some(())?;
    // Stream by stream: each is added to the bits of all values of its column.
    let column = |column: usize| {
        let mut bits = vec![0_u64; count];
        for (byte, stream) in rest[column * 8 * count..(column + 1) * 8 * count].chunks_exact(count.max(1)).enumerate()
        {
            bits.iter_mut().zip(stream).for_each(|(bits, &part)| *bits |= u64::from(part) << (8 * byte));
        }
        bits
    };
    let [high, low, min, max] = [0, 1, 2, 3].map(column);
    for (at, (_, summary)) in out.iter_mut().enumerate() {
        summary.sum = Sum { high: f64::from_bits(high[at]), low: f64::from_bits(low[at]) };
        (summary.min, summary.max) = (f64::from_bits(min[at]), f64::from_bits(max[at]));
    }
    Some(())
}
