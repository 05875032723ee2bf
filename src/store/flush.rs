//! Flush: the head becomes segments. Segments written and synced, then the catalog, then the log trimmed; never another
//! order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLock, RwLockReadGuard};

use arrow::array::RecordBatch;

use super::core::unpoisoned;
use super::derived::{Latest, series_rows, write_batch, write_rows};
use super::error::{DiskContext, told_with_causes};
use super::file::Written;
use super::head::Head;
use super::label::{Label, NewFile};
use super::points::{Points, merge};
use super::scale::TimeUnit;
use super::segment::{Segment, SegmentStats, SegmentWriter};
use super::table_file::TableFile;
use super::wal::{WalWriter, wal_files};
use super::{Store, StoreError};
use crate::catalog::{Commit, SegmentRecord, TableName};
use crate::model::{SeriesId, Span, Table, Timestamp};

/// A head taken out of the stream of writes, and the state of the stages at that place.
struct Cut {
    /// Number of the log that follows.
    next_wal: u64,
    head: Arc<RwLock<Head>>,
    /// What the stages made of what was told, and may be of what has been told since.
    made: Arc<RwLock<Head>>,
    rows: BTreeMap<Table, Vec<RecordBatch>>,
    state: Option<Vec<u8>>,
}

/// What a new file is made of.
pub(super) struct Origin {
    pub flushes: (u64, u64),
    /// Numbers of the files merged into it.
    pub inputs: Vec<u64>,
}

impl Origin {
    fn flush(flush: u64) -> Origin {
        Origin { flushes: (flush, flush), inputs: Vec::new() }
    }

    pub fn merge(inputs: &[SegmentRecord]) -> Origin {
        let first = inputs.iter().map(|record| record.flushes.0).min().unwrap_or(0);
        let last = inputs.iter().map(|record| record.flushes.1).max().unwrap_or(0);
        Origin { flushes: (first, last), inputs: inputs.iter().map(|record| record.number).collect() }
    }
}

impl Store {
    /// Writes what is in memory to segments and trims the log; stages do all that they put off before. `Ok(false)` where
    /// there was nothing.
    ///
    /// # Errors
    /// After any error the store takes no more writes until it is opened again; all that was acknowledged is in the log.
    pub fn flush(&self) -> Result<bool, StoreError> {
        self.flush_if_any(true)
    }

    /// The same in the midst of what comes in: stages go on to put off what would hold it up.
    pub(super) fn flush_in_passing(&self) -> Result<bool, StoreError> {
        self.flush_if_any(false)
    }

    fn flush_if_any(&self, last: bool) -> Result<bool, StoreError> {
        let _upkeep = unpoisoned(self.upkeep.lock());
        let empty = {
            let view = self.view();
            view.heads().all(|head| unpoisoned(head.read()).samples() == 0) && view.rows.is_empty()
        };
        if empty && self.registry().len() == self.registry().committed() {
            return Ok(false);
        }
        self.write_memory(last)?;
        Ok(true)
    }

    /// The same even where there is nothing, for the sake of the stages' state.
    pub(super) fn flush_now(&self) -> Result<(), StoreError> {
        let _upkeep = unpoisoned(self.upkeep.lock());
        self.write_memory(true)
    }

    /// Does something while no flush is under way.
    pub fn between_flushes<T>(&self, work: impl FnOnce() -> T) -> T {
        let _upkeep = unpoisoned(self.upkeep.lock());
        work()
    }

    /// As [`Store::flush`], even where there is nothing but the stages' state.
    pub fn flush_states(&self) -> Result<(), StoreError> {
        let _upkeep = unpoisoned(self.upkeep.lock());
        self.write_memory(false)
    }

    fn write_memory(&self, last: bool) -> Result<(), StoreError> {
        self.cut(last).and_then(|cut| self.write_cut(cut)).inspect_err(|error| {
            self.close(format!("a flush failed: {}", told_with_causes(error)));
        })
    }

    fn cut(&self, last: bool) -> Result<Cut, StoreError> {
        let wal_dir = self.dir.join("wal");
        let next_wal = self.writer().wal.number() + 1;
        let mut next = WalWriter::create(&*self.world.disk, &wal_dir, next_wal, 0).at("create a log in", &wal_dir)?;
        // Until the old log is on the disk nobody may sync the new one alone and take both for durable.
        let mut synced = unpoisoned(self.synced.lock());
        let (old, head, written) = {
            let mut writer = self.writer();
            writer.check()?;
            next.follow(&writer.wal);
            let written = writer.written;
            writer.written += next.len();
            let old = std::mem::replace(&mut writer.wal, next);
            let head = {
                let mut view = self.view_mut();
                let head = std::mem::take(&mut view.head);
                view.frozen.push(head.clone());
                head
            };
            // Only the writer is held here: stages that work off their links take the view.
            if let Some(tap) = self.tap.get() {
                tap.cut(next_wal, last);
            }
            (old, head, written)
        };
        old.file().sync().at("sync", &wal_dir)?;
        *synced = written.max(*synced);
        drop(synced);
        let state = self.tap.get().map(|tap| tap.state_at(next_wal));
        let (rows, made) = {
            let mut view = self.view_mut();
            let rows = std::mem::take(&mut view.rows);
            view.frozen_rows.clone_from(&rows);
            let made = std::mem::take(&mut view.made);
            view.frozen.push(made.clone());
            (rows, made)
        };
        Ok(Cut { next_wal, head, made, rows, state })
    }

    fn write_cut(&self, cut: Cut) -> Result<(), StoreError> {
        let flush = cut.next_wal - 1;
        let heads: [RwLockReadGuard<'_, Head>; 2] = [&cut.head, &cut.made].map(|head| unpoisoned(head.read()));
        let mut added = self.write_heads(heads.each_ref().map(|head| &**head), flush)?;
        drop(heads);
        let series = self.registry().len();
        added.extend(self.write_series(series, flush)?);
        for (&table, batches) in &cut.rows {
            let (rows, name) = (Latest::of(table, batches)?, TableName::Derived(table));
            let written = self.write_file(name, name.name(), &Origin::flush(flush), |file| write_rows(file, &rows))?;
            added.push(written);
        }
        let checkpoint = cut.state.map(|state| self.write_checkpoint(cut.next_wal, &state)).transpose()?;
        self.catalog.commit(&Commit {
            add: added.clone(),
            wal_floor: Some(cut.next_wal),
            checkpoint: checkpoint.clone(),
            series,
            ..Commit::default()
        })?;
        self.show(added)?;
        self.trim(cut.next_wal, checkpoint.as_deref())
    }

    /// Swaps the frozen head for its segments, in one step for queries.
    fn show(&self, added: Vec<SegmentRecord>) -> Result<(), StoreError> {
        let (samples, files): (Vec<_>, Vec<_>) =
            added.into_iter().partition(|record| record.table == TableName::Samples);
        let opened = samples
            .into_iter()
            .map(|record| Ok(Arc::new(Segment::open(&self.world.disk, &self.dir, record)?)))
            .collect::<Result<Vec<_>, StoreError>>()?;
        let files = files.into_iter().map(|record| TableFile::new(&self.world.disk, &self.dir, record));
        let mut view = self.view_mut();
        view.segments = Arc::new(view.segments.iter().cloned().chain(opened).collect());
        view.files = Arc::new(view.files.iter().cloned().chain(files).collect());
        // There is one cut at a time.
        view.frozen.clear();
        let written = std::mem::take(&mut view.frozen_rows).into_values().flatten();
        let bytes: usize = written.map(|batch| batch.get_array_memory_size()).sum();
        self.rows_bytes.fetch_sub(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn trim(&self, floor: u64, checkpoint: Option<&str>) -> Result<(), StoreError> {
        let disk = &*self.world.disk;
        let wal_dir = self.dir.join("wal");
        for (number, path) in wal_files(disk, &wal_dir).at("list", &wal_dir)? {
            if number < floor {
                disk.remove(&path).at("remove", &path)?;
            }
        }
        let states = self.dir.join("checkpoints");
        let keep = checkpoint.map(|name| states.join(name));
        for path in disk.list(&states).at("list", &states)? {
            if keep.as_ref().is_some_and(|keep| *keep != path) {
                disk.remove(&path).at("remove", &path)?;
            }
        }
        Ok(())
    }

    /// One segment for each month that the heads touch. Of two samples of a series for one time that of the later head
    /// counts.
    fn write_heads(&self, heads: [&Head; 2], flush: u64) -> Result<Vec<SegmentRecord>, StoreError> {
        let ranges = heads.iter().filter_map(|head| head.time_range());
        let Some((first, last)) = ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else { return Ok(Vec::new()) };
        let only_made = heads[1].filled().filter(|id| heads[0].series_range(*id).is_none());
        let series = self.registry().file_order(heads[0].filled().chain(only_made));
        let unit = heads[0].unit().max(heads[1].unit());
        let points = |head: &Head, id: SeriesId, span: Span| {
            let touches = head.series_range(id).is_some_and(|(first, last)| span.touches(first, last));
            if touches { head.points(id, u32::MAX, span) } else { Points::default() }
        };
        let write = |(month, span): (String, Span)| {
            self.write_samples(&month, unit, flush, |writer| {
                series.iter().try_for_each(|(metric, id)| {
                    let parts = heads.iter().map(|head| points(head, *id, span)).collect();
                    writer.add(metric, *id, merge(parts))
                })
            })
        };
        let records = months(first, last).into_iter().map(write).collect::<Result<Vec<_>, _>>()?;
        let (written, empty): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| record.rows > 0);
        for record in empty {
            let path = self.dir.join(&record.path);
            self.world.disk.remove(&path).at("remove", &path)?;
        }
        Ok(written)
    }

    pub(super) fn write_samples(
        &self,
        month: &str,
        unit: TimeUnit,
        flush: u64,
        fill: impl FnOnce(&mut SegmentWriter) -> Result<(), StoreError>,
    ) -> Result<SegmentRecord, StoreError> {
        let folder = format!("samples/{month}");
        self.write_file(TableName::Samples, &folder, &Origin::flush(flush), |file| {
            let mut writer = SegmentWriter::new(file, unit)?;
            fill(&mut writer)?;
            writer.finish()
        })
    }

    /// The series below `to` that the catalog does not have yet, for readers outside.
    fn write_series(&self, to: usize, flush: u64) -> Result<Option<SegmentRecord>, StoreError> {
        let from = self.registry().committed();
        if from == to {
            return Ok(None);
        }
        let batch = series_rows(self.registry(), from..to)?;
        let table = TableName::Series;
        self.write_file(table, table.name(), &Origin::flush(flush), |file| write_batch(file, &batch)).map(Some)
    }

    /// Writes a new file and makes it and its name durable. One that cannot be finished is removed.
    pub(super) fn write_file(
        &self,
        table: TableName,
        folder: &str,
        origin: &Origin,
        write: impl FnOnce(NewFile) -> Result<SegmentStats, StoreError>,
    ) -> Result<SegmentRecord, StoreError> {
        let disk = &*self.world.disk;
        let number = self.number();
        let path = format!("{folder}/{number:010}.parquet");
        let (full, dir) = (self.dir.join(&path), self.dir.join(folder));
        disk.create_dir_all(&dir).at("create", &dir)?;
        let (flushes, inputs, floor) = (origin.flushes, origin.inputs.clone(), self.catalog.wal_floor());
        let label = Label { table, number, flushes, inputs, floor, first: 0, last: 0, body: (0, 0) };
        let file = disk.create(&full).at("create", &full)?;
        let stats = write(NewFile { file, label }).inspect_err(|_| {
            // Where this fails, too, the next start removes it.
            let _ = disk.remove(&full);
        })?;
        self.sync_folders(&dir)?;
        let SegmentStats { rows, first, last, written } = stats;
        let Written { bytes, digest, tail } = written;
        Ok(SegmentRecord { number, table, path, rows, bytes, first, last, flushes, digest, tail })
    }

    fn write_checkpoint(&self, cut: u64, state: &[u8]) -> Result<String, StoreError> {
        let disk = &*self.world.disk;
        let dir = self.dir.join("checkpoints");
        let name = format!("{cut:010}.state");
        let path: PathBuf = dir.join(&name);
        let packed = zstd::bulk::compress(state, 3).at("compress", &path)?;
        disk.create_dir_all(&dir).at("create", &dir)?;
        let file = disk.create(&path).at("create", &path)?;
        let mut bytes = crc32c::crc32c(&packed).to_le_bytes().to_vec();
        bytes.extend_from_slice(&packed);
        file.append(&bytes).and_then(|()| file.sync()).at("write", &path)?;
        self.sync_folders(&dir)?;
        Ok(name)
    }

    /// Syncs a folder and those above it, down from the data directory.
    fn sync_folders(&self, folder: &std::path::Path) -> Result<(), StoreError> {
        for dir in folder.ancestors().take_while(|dir| dir.starts_with(&self.dir)) {
            self.world.disk.sync_dir(dir).at("sync", dir)?;
        }
        Ok(())
    }
}

/// The months from that of `first` to that of `last`, each with its span. What is older than 1970 is in its January.
fn months(first: Timestamp, last: Timestamp) -> Vec<(String, Span)> {
    const DAY: i64 = 86_400_000_000_000;
    let mut months: Vec<(String, Span)> = Vec::new();
    let mut day = first.floor(DAY).max(Timestamp::from_nanos(0));
    while day <= last || months.is_empty() {
        let month = day.month();
        match months.last_mut() {
            Some((known, span)) if *known == month => span.end = day.plus(DAY),
            _ => months.push((month, Span::new(day, day.plus(DAY)))),
        }
        day = day.plus(DAY);
    }
    if let Some((_, span)) = months.first_mut() {
        span.start = Timestamp::MIN;
    }
    if let Some((_, span)) = months.last_mut() {
        span.end = Timestamp::MAX;
    }
    months
}
