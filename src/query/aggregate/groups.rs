//! Groups by labels and buckets of time: reads what is asked field by field, and tells a row for each bucket of each group.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch};
use arrow::array::{TimestampNanosecondArray, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use hashbrown::HashMap;

use super::shape::{Asked, Bucket, Function, Key, Shape};
use super::{Partial, batch_of};
use crate::model::{SeriesId, Span, Summary, Timestamp};
use crate::query::dimension::TextColumn;
use crate::query::stream::{Reader, of_store};
use crate::query::tracks::{Track, Tracks};
use crate::store::{Columns, Scan};

/// Cells that are held at once.
const CELLS: usize = 1 << 21;

/// Groups whose cells fit into memory.
pub(super) struct Groups {
    shape: Shape,
    /// Fields that something is asked of.
    fields: Vec<usize>,
    /// The first bucket, and how many.
    first: i64,
    buckets: usize,
    /// Whether summaries of files are used where they say the same.
    summaries: bool,
}

impl Groups {
    /// `None` where there would be too many cells.
    pub fn of(shape: Shape, tracks: &Tracks, summaries: bool) -> Option<Groups> {
        let mut fields: Vec<usize> = shape.asked.iter().map(|asked| asked.field).collect();
        fields.sort_unstable();
        fields.dedup();
        let all = tracks.parts.iter().flat_map(|part| part.iter());
        let range = tracks.range_of(all.flat_map(Track::all));
        let (first, buckets) = match (shape.bucket, range) {
            (Some(bucket), Some((first, last))) => {
                let (first, last) = (bucket.number(first), bucket.number(last));
                (first, usize::try_from(last.checked_sub(first)?).ok()?.checked_add(1)?)
            }
            _ => (0, 1),
        };
        let bucket = shape.bucket.map(|bucket| (bucket.width, bucket.origin));
        let summaries = summaries && tracks.snapshot.has_summaries(tracks.span, bucket);
        let groups = Groups { shape, fields, first, buckets, summaries };
        (groups.cells(1) <= CELLS).then_some(groups)
    }

    /// Whether they do.
    pub fn has_summaries(&self) -> bool {
        self.summaries
    }

    fn cells(&self, groups: usize) -> usize {
        groups.saturating_mul(self.buckets).saturating_mul(self.fields.len().max(1))
    }

    /// Groups of a partition, by the texts of their keys.
    fn named(&self, tracks: &Tracks, part: &[Track]) -> Named {
        let series: Vec<SeriesId> = part.iter().map(Track::any).collect();
        let texts: Vec<TextColumn> = self
            .shape
            .keys
            .iter()
            .filter_map(|key| match key {
                Key::Text(name) => Some(tracks.dimension.text(name, &series)),
                Key::Bucket => None,
            })
            .collect();
        let (mut known, mut of_track, mut firsts) = (HashMap::new(), Vec::new(), Vec::new());
        for at in 0..part.len() {
            let keys: Vec<Option<i32>> = texts.iter().map(|text| text.keys[at]).collect();
            let group = *known.entry(keys).or_insert_with(|| {
                firsts.push(at);
                firsts.len() - 1
            });
            of_track.push(group);
        }
        Named { texts, of_track, firsts }
    }

    fn bucket_of(&self, time: i64) -> usize {
        self.shape.bucket.map_or(0, |bucket| (bucket.number(time) - self.first) as usize)
    }

    /// Where the bucket ends that a time lies in; all of time without buckets.
    fn end_of(&self, time: i64) -> i64 {
        self.shape.bucket.map_or(i64::MAX, |bucket: Bucket| bucket.start(bucket.number(time).saturating_add(1)))
    }

    /// Calls `take` with each stretch of times that lie in one bucket: its number, from where and to where.
    fn stretches(&self, times: &[i64], mut take: impl FnMut(usize, usize, usize)) {
        let mut from = 0;
        while let Some(&time) = times.get(from) {
            let end = self.end_of(time);
            let is_last = times[times.len() - 1] < end || end == i64::MAX;
            let to = if is_last { times.len() } else { from + times[from..].partition_point(|&time| time < end) };
            take(self.bucket_of(time), from, to);
            from = to;
        }
    }
}

/// Groups of a partition.
struct Named {
    texts: Vec<TextColumn>,
    /// By track.
    of_track: Vec<usize>,
    /// A track of each group.
    firsts: Vec<usize>,
}

/// What is known of the groups from one on.
struct Held<'g> {
    groups: &'g Groups,
    named: &'g Named,
    from: usize,
    count: usize,
    /// By field, group and bucket.
    cells: Vec<Summary>,
    /// By group and bucket: whether any field has a sample.
    there: Vec<bool>,
}

impl Partial for Groups {
    fn rows(&self, tracks: &Tracks, part: usize, schema: &SchemaRef, out: &mut dyn Reader) -> Result<()> {
        let part = &tracks.parts[part];
        let named = self.named(tracks, part);
        if self.shape.keys.is_empty() && part.is_empty() {
            let held = Held::new(self, &named, 0, 1);
            out.take(held.batch(schema)?);
            return Ok(());
        }
        let mut scan = tracks.snapshot.scan(Vec::new(), tracks.span);
        let together = (CELLS / self.cells(1)).max(1);
        for from in (0..named.firsts.len()).step_by(together) {
            let mut held = Held::new(self, &named, from, together.min(named.firsts.len() - from));
            held.read(tracks, part, &mut scan, &*out)?;
            if out.is_gone() {
                break;
            }
            let batch = held.batch(schema)?;
            if batch.num_rows() > 0 && !out.take(batch) {
                break;
            }
        }
        Ok(())
    }
}

impl<'g> Held<'g> {
    fn new(groups: &'g Groups, named: &'g Named, from: usize, count: usize) -> Self {
        let cells = vec![Summary::EMPTY; groups.cells(count)];
        Held { groups, named, from, count, cells, there: vec![false; count * groups.buckets] }
    }

    /// The place of a track's group among these.
    fn group_of(&self, track: usize) -> Option<usize> {
        self.named.of_track[track].checked_sub(self.from).filter(|group| *group < self.count)
    }

    /// Gives up where nobody waits for it any more.
    fn read(&mut self, tracks: &Tracks, part: &[Track], scan: &mut Scan, out: &dyn Reader) -> Result<()> {
        let groups = self.groups;
        for (place, &field) in groups.fields.iter().enumerate() {
            for (at, track) in part.iter().enumerate() {
                let (Some(group), Some(series)) = (self.group_of(at), track.series[field]) else { continue };
                let left = self.known(tracks, place, group, series, scan)?;
                let pieces = if left.is_empty() { Vec::new() } else { tracks.pieces(&[series]) };
                for piece in pieces {
                    for piece in left.iter().map(|left| piece.intersect(*left)).filter(|piece| piece.start < piece.end)
                    {
                        if out.is_gone() {
                            return Ok(());
                        }
                        let columns = scan.columns(series, piece).map_err(of_store)?;
                        self.add(place, group, &columns);
                    }
                }
            }
        }
        for (at, track) in part.iter().enumerate() {
            let Some(group) = self.group_of(at) else { continue };
            for (_, series) in
                track.series.iter().enumerate().filter(|(field, _)| groups.fields.binary_search(field).is_err())
            {
                let Some(series) = *series else { continue };
                let Some(span) = self.unknown(group, tracks.range(series)) else { continue };
                for piece in tracks.pieces(&[series]) {
                    if out.is_gone() {
                        return Ok(());
                    }
                    let times = scan.times(series, piece.intersect(span)).map_err(of_store)?.times;
                    groups.stretches(&times, |bucket, _, _| self.there[group * groups.buckets + bucket] = true);
                }
            }
        }
        Ok(())
    }

    /// Adds what files know of whole stretches of a series; gives what is left to be read.
    fn known(
        &mut self,
        tracks: &Tracks,
        place: usize,
        group: usize,
        series: SeriesId,
        scan: &mut Scan,
    ) -> Result<Vec<Span>> {
        let groups = self.groups;
        if !groups.summaries {
            return Ok(vec![tracks.span]);
        }
        let bucket = groups.shape.bucket.map(|bucket| (bucket.width, bucket.origin));
        let first = (place * self.count + group) * groups.buckets;
        let (cells, there) = (&mut self.cells, &mut self.there);
        let left = scan.summaries(series, bucket, |begins, summary| {
            // A stretch may begin before the first sample of all.
            let bucket = groups.bucket_of(begins);
            cells[first + bucket].put(summary);
            there[group * groups.buckets + bucket] = true;
        });
        left.map_err(of_store)
    }

    fn add(&mut self, place: usize, group: usize, columns: &Columns) {
        let groups = self.groups;
        let first = (place * self.count + group) * groups.buckets;
        groups.stretches(&columns.times, |bucket, from, to| {
            self.cells[first + bucket].add(&columns.values[from..to]);
            self.there[group * groups.buckets + bucket] = true;
        });
    }

    /// Of a range the part from the first bucket to the last of which it is not known yet that it is there.
    fn unknown(&self, group: usize, range: Option<(i64, i64)>) -> Option<Span> {
        let groups = self.groups;
        let (first, last) = range?;
        let buckets = groups.bucket_of(first)..groups.bucket_of(last) + 1;
        let there = &self.there[group * groups.buckets..][buckets.clone()];
        let from = buckets.start + there.iter().position(|there| !there)?;
        let to = buckets.start + there.iter().rposition(|there| !there)? + 1;
        let Some(bucket) = groups.shape.bucket else { return Some(Span::ALL) };
        let start = |number: usize| Timestamp::from_nanos(bucket.start(groups.first + number as i64));
        Some(Span::new(start(from), start(to)))
    }

    /// A row for each bucket of each group that has rows; without keys one in any case.
    fn batch(&self, schema: &SchemaRef) -> Result<RecordBatch> {
        let buckets = self.groups.buckets;
        let is_one = self.groups.shape.keys.is_empty();
        let rows: Vec<usize> = (0..self.there.len()).filter(|&at| self.there[at] || is_one).collect();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
        let mut texts = self.named.texts.iter();
        for key in &self.groups.shape.keys {
            arrays.push(match key {
                Key::Text(_) => {
                    let Some(text) = texts.next() else { continue };
                    let first = |group: usize| self.named.firsts[self.from + group];
                    let keys: Int32Array = rows.iter().map(|&at| text.keys[first(at / buckets)]).collect();
                    text.of_keys(keys)?
                }
                Key::Bucket => {
                    let Some(bucket) = self.groups.shape.bucket else { continue };
                    let start = |&at: &usize| bucket.start(self.groups.first + (at % buckets) as i64);
                    Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(start)))
                }
            });
        }
        for asked in &self.groups.shape.asked {
            self.add_states(*asked, &rows, &mut arrays);
        }
        batch_of(schema, arrays, rows.len())
    }

    /// What the engine's function keeps of each group between its two halves.
    fn add_states(&self, asked: Asked, rows: &[usize], arrays: &mut Vec<ArrayRef>) {
        let place = self.groups.fields.binary_search(&asked.field).unwrap_or_default();
        let first = place * self.count * self.groups.buckets;
        let cells = rows.iter().map(|&at| &self.cells[first + at]);
        let nulls = NullBuffer::from_iter(cells.clone().map(|cell| cell.count > 0));
        let floats = |of: fn(&Summary) -> f64| -> ArrayRef {
            let values: Vec<f64> = cells.clone().map(of).collect();
            Arc::new(Float64Array::new(values.into(), Some(nulls.clone())))
        };
        match asked.function {
            Function::Count => {
                arrays.push(Arc::new(Int64Array::from_iter_values(cells.map(|cell| cell.count.cast_signed()))));
            }
            Function::Sum => arrays.push(floats(|cell| cell.sum.value())),
            Function::Min => arrays.push(floats(Summary::min)),
            Function::Max => arrays.push(floats(|cell| cell.max)),
            Function::Avg => {
                let counts: Vec<u64> = cells.clone().map(|cell| cell.count).collect();
                arrays.push(Arc::new(UInt64Array::new(counts.into(), Some(nulls.clone()))));
                arrays.push(floats(|cell| cell.sum.value()));
            }
        }
    }
}
