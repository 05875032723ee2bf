//! The store itself: what it is made of, and how a batch gets in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use arrow::array::RecordBatch;
use serde::Serialize;

use super::head::Head;
use super::losses::Suspects;
use super::retention::Rules;
use super::segment::{Segment, SummaryCache};
use super::table_file::TableFile;
use super::tap::{Behind, Tap};
use super::wal::{NewSeries, WalWriter, encode_batch};
use super::{Snapshot, StoreError, StoreSpec, Sync};
use crate::catalog::{Catalog, Registry, Runs, SegmentRecord, TableName};
use crate::model::{Batch, Rows, Table};
use crate::world::{DiskLock, World};

/// Heads of this many times their usual size are not added to.
pub const HEAD_FULL: usize = 3;
/// Rows of derived tables that take as much as a head are not added to; they are flushed at this part of it.
const ROWS_FLUSH: usize = 2;
/// A head is not flushed for its size before it takes so many times what its empty columns do.
const COLUMNS_WORTH: usize = 2;

/// The store. Shared between threads behind an [`Arc`].
pub struct Store {
    pub(super) world: World,
    pub(super) dir: PathBuf,
    pub(super) spec: StoreSpec,
    pub(super) catalog: Catalog,
    pub(super) writer: Mutex<Writer>,
    pub(super) view: RwLock<View>,
    pub(super) tap: OnceLock<Arc<dyn Tap>>,
    /// One flush, merge or removal at a time.
    pub(super) upkeep: Mutex<()>,
    pub(super) next_number: AtomicU64,
    /// What this start found, in sentences.
    pub(super) notes: Mutex<Vec<String>>,
    pub(super) suspects: Arc<Suspects>,
    /// Of segments, those that were asked for lately.
    summaries: Arc<SummaryCache>,
    pub(super) rules: Arc<Rules>,
    pub(super) synced: Mutex<u64>,
    crowded: AtomicBool,
    /// Bytes of rows of derived tables that no file holds yet.
    pub(super) rows_bytes: AtomicUsize,
    _lock: DiskLock,
}

/// The end of the log. Whoever holds it writes; the order of writes is the order of everything.
pub(super) struct Writer {
    pub wal: WalWriter,
    /// Bytes written to all logs since the store was opened.
    pub written: u64,
    /// Series that the log or the catalog knows.
    pub logged: usize,
    /// Why no more is written.
    pub closed: Option<String>,
}

/// What queries see.
#[derive(Clone, Default)]
pub(super) struct View {
    /// Segments of samples in the order of their flushes.
    pub segments: Arc<Vec<Arc<Segment>>>,
    /// Heads being written to segments, older first.
    pub frozen: Vec<Arc<RwLock<Head>>>,
    pub head: Arc<RwLock<Head>>,
    /// Samples of series that stages made, since the last flush.
    pub made: Arc<RwLock<Head>>,
    /// Files of the derived tables and of `series`, in the order of their flushes.
    pub files: Arc<Vec<Arc<TableFile>>>,
    /// Rows of derived tables being written, and since.
    pub frozen_rows: BTreeMap<Table, Vec<RecordBatch>>,
    pub rows: BTreeMap<Table, Vec<RecordBatch>>,
}

/// Part of what samples in memory may take that summaries of segments may, beside them.
const SHARE_OF_SUMMARIES: usize = 4;

/// A table's share of the store.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TableStats {
    pub rows: u64,
    pub files: u64,
    pub bytes: u64,
}

/// What the store holds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StoreStats {
    pub series: u64,
    /// Samples in segments (before a merge, those that a later one replaces among them).
    pub samples_at_rest: u64,
    pub samples_in_memory: u64,
    /// Memory of samples that no segment holds yet.
    pub head_bytes: u64,
    /// Memory of rows of derived tables that no file holds yet.
    pub rows_bytes: u64,
    /// Memory of the segments' indexes.
    pub index_bytes: u64,
    /// Memory of the summaries of segments that were asked for lately.
    pub summary_bytes: u64,
    /// Memory of the series: what they are named, and the lists that find them.
    pub series_bytes: u64,
    pub wal_bytes: u64,
    pub tables: BTreeMap<String, TableStats>,
    /// Rows of `system.losses`.
    pub losses: u64,
    /// Why not all that was acknowledged is served; empty where all is well.
    pub degraded: Vec<String>,
}

impl View {
    /// Every segment and file.
    pub fn records(&self) -> impl Iterator<Item = &SegmentRecord> {
        let samples = self.segments.iter().map(|segment| &segment.record);
        samples.chain(self.files.iter().map(|file| &file.record))
    }

    /// Every head, older first.
    pub fn heads(&self) -> impl Iterator<Item = &Arc<RwLock<Head>>> {
        self.frozen.iter().chain([&self.head, &self.made])
    }

    fn rows_bytes(&self) -> usize {
        let batches = self.frozen_rows.values().chain(self.rows.values()).flatten();
        batches.map(RecordBatch::get_array_memory_size).sum()
    }

    fn index_bytes(&self) -> usize {
        self.segments.iter().map(|segment| segment.index_bytes()).sum()
    }
}

pub(super) fn unpoisoned<T>(guard: Result<T, PoisonError<T>>) -> T {
    guard.unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Puts the parts together; `recovery` opens them.
    #[expect(clippy::too_many_arguments, reason = "the one place where all parts meet")]
    pub(super) fn assemble(
        world: World,
        dir: PathBuf,
        spec: StoreSpec,
        catalog: Catalog,
        wal: WalWriter,
        view: View,
        notes: Vec<String>,
        lock: DiskLock,
    ) -> Store {
        let (logged, rows_bytes) = (catalog.registry().len(), view.rows_bytes());
        Store {
            writer: Mutex::new(Writer { written: wal.len(), wal, logged, closed: None }),
            view: RwLock::new(view),
            tap: OnceLock::new(),
            upkeep: Mutex::new(()),
            next_number: AtomicU64::new(catalog.next_number()),
            notes: Mutex::new(notes),
            suspects: Arc::default(),
            summaries: Arc::new(SummaryCache::new(spec.head_bytes / SHARE_OF_SUMMARIES)),
            rules: Rules::new(spec.retention.clone(), catalog.registry().clone()),
            synced: Mutex::new(0),
            crowded: AtomicBool::new(false),
            rows_bytes: AtomicUsize::new(rows_bytes),
            _lock: lock,
            world,
            dir,
            spec,
            catalog,
        }
    }

    pub fn registry(&self) -> &Arc<Registry> {
        self.catalog.registry()
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    /// The runs of jobs, which are kept in the catalog.
    ///
    /// # Errors
    /// They cannot be opened.
    pub fn runs(&self) -> Result<Runs, StoreError> {
        Ok(self.catalog.runs()?)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn spec(&self) -> &StoreSpec {
        &self.spec
    }

    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        unpoisoned(self.writer.lock())
    }

    pub(super) fn view(&self) -> RwLockReadGuard<'_, View> {
        unpoisoned(self.view.read())
    }

    pub(super) fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        unpoisoned(self.view.write())
    }

    pub(super) fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Logs the batch, makes it visible to queries and passes it to the pipelines. On return it is as durable as
    /// [`Sync`] promises. Its series must come from [`Store::registry`].
    pub fn append(&self, mut batch: Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let encoded = encode_batch(&batch);
        let rows = std::mem::take(&mut batch.rows);
        let position = {
            let mut writer = self.writer();
            writer.log(self.registry(), &encoded)?;
            let head = self.view().head.clone();
            unpoisoned(head.write()).append(&batch);
            for rows in rows {
                batch.rows.extend(rows.table.steers_pipelines().then(|| rows.clone()));
                self.add_rows(rows);
            }
            if let Some(tap) = self.tap.get().filter(|_| !batch.is_empty()) {
                tap.pass(Arc::new(batch));
            }
            writer.written
        };
        if self.spec.sync == Sync::Always { self.sync_to(position) } else { Ok(()) }
    }

    /// Whether a batch would be taken without a long wait.
    pub fn ready(&self) -> Result<(), Behind> {
        if self.head_bytes() > self.head_full().saturating_mul(HEAD_FULL) {
            return Err(Behind { what: "the flush to segments".into(), retry_after: Duration::from_secs(1) });
        }
        if self.rows_bytes.load(Ordering::Relaxed) > self.spec.head_bytes {
            return Err(Behind { what: "the flush of rows".into(), retry_after: Duration::from_secs(1) });
        }
        self.tap.get().map_or(Ok(()), |tap| tap.ready())
    }

    /// Keeps rows of a derived table. They are durable with the next flush; before that, the log (and the stages'
    /// state) gives them again.
    pub fn add_rows(&self, rows: Rows) {
        if rows.batch.num_rows() > 0 {
            self.rows_bytes.fetch_add(rows.batch.get_array_memory_size(), Ordering::Relaxed);
            self.view_mut().rows.entry(rows.table).or_default().push(rows.batch);
        }
    }

    /// Keeps samples of series that stages made. They are seen at once and durable with the next flush; before that, the
    /// log and the stages' state give them again, as with [`Store::add_rows`]. The series must come from
    /// [`Store::registry`].
    pub fn add_samples(&self, batch: &Batch) {
        // The view is held while they are put in, so that a flush that takes the head has them whole or not at all.
        let view = self.view();
        unpoisoned(view.made.write()).append(batch);
    }

    /// Makes everything logged so far durable.
    pub fn sync(&self) -> Result<(), StoreError> {
        let position = self.writer().written;
        self.sync_to(position)
    }

    /// Whoever comes first syncs for all who wait.
    fn sync_to(&self, position: u64) -> Result<(), StoreError> {
        let mut synced = unpoisoned(self.synced.lock());
        if *synced >= position {
            return Ok(());
        }
        let (file, written) = {
            let writer = self.writer();
            writer.check()?;
            (writer.wal.file().clone(), writer.written)
        };
        file.sync().map_err(|error| self.close(format!("the log cannot be synced: {error}")))?;
        *synced = written;
        Ok(())
    }

    /// Takes no more writes; queries go on.
    pub(super) fn close(&self, reason: String) -> StoreError {
        tracing::error!(reason, "the store takes no more writes");
        self.writer().closed.get_or_insert(reason.clone());
        StoreError::Closed { reason }
    }

    /// Why no more writes are taken, if so.
    pub fn closed(&self) -> Option<String> {
        self.writer().closed.clone()
    }

    /// Bytes of samples in memory that no segment holds yet.
    pub fn head_bytes(&self) -> usize {
        let view = self.view();
        view.heads().map(|head| unpoisoned(head.read()).bytes()).sum()
    }

    /// Whether what is in memory is to be flushed: its samples, or the rows that the pipelines made of them.
    pub(super) fn is_full(&self) -> bool {
        let rows = self.rows_bytes.load(Ordering::Relaxed);
        self.head_bytes() > self.head_full() || rows > self.spec.head_bytes / ROWS_FLUSH
    }

    /// Bytes of samples at which they are flushed. Of very many series a head takes more before it holds any samples to
    /// speak of: flushing it then would be no end of work for nothing.
    fn head_full(&self) -> usize {
        let view = self.view();
        let of_columns = |head: &RwLock<Head>| unpoisoned(head.read()).bytes_of_columns();
        let of_columns = of_columns(&view.head) + of_columns(&view.made);
        self.spec.head_bytes.max(COLUMNS_WORTH * of_columns)
    }

    /// Whether series take all the memory they may, so that no new ones fit. As of the keeper's last look.
    pub fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed)
    }

    /// Looks how much memory series take.
    pub(super) fn look_at_series(&self) {
        self.crowded.store(self.registry().bytes() > self.spec.series_bytes, Ordering::Relaxed);
    }

    /// Everything as of now, unchanged by what comes.
    pub fn snapshot(&self) -> Snapshot {
        // Under the writer's lock no batch is half in.
        let _writer = self.writer();
        self.history()
    }

    /// As [`Store::snapshot`], but a batch that is coming in at the moment may be seen in part. For stages: they must
    /// not wait for the writer, who may be waiting for them.
    pub fn history(&self) -> Snapshot {
        let view = self.view().clone();
        let kept = self.kept();
        let (registry, suspects) = (self.registry().clone(), self.suspects.clone());
        Snapshot::new(view, registry, self.world.disk.clone(), self.dir.clone(), kept, suspects, self.summaries.clone())
    }

    pub fn stats(&self) -> StoreStats {
        let view = self.view().clone();
        let mut stats = StoreStats { series: self.registry().len() as u64, ..StoreStats::default() };
        let records = view.records();
        for record in records {
            let table = stats.tables.entry(record.table.to_string()).or_default();
            table.rows += record.rows;
            table.files += 1;
            table.bytes += record.bytes;
            if record.table == TableName::Samples {
                stats.samples_at_rest += record.rows;
            }
        }
        for head in view.heads() {
            let head = unpoisoned(head.read());
            stats.samples_in_memory += head.samples() as u64;
            stats.head_bytes += head.bytes() as u64;
        }
        stats.rows_bytes = self.rows_bytes.load(Ordering::Relaxed) as u64;
        stats.index_bytes = view.index_bytes() as u64;
        stats.summary_bytes = self.summaries.bytes();
        stats.series_bytes = self.registry().bytes() as u64;
        stats.wal_bytes = self.writer().wal.len();
        stats.losses = self.losses().len() as u64;
        stats.degraded = self.degraded();
        stats
    }
}

impl Writer {
    pub fn check(&self) -> Result<(), StoreError> {
        match &self.closed {
            Some(reason) => Err(StoreError::Closed { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn log(&mut self, registry: &Registry, encoded: &[u8]) -> Result<(), StoreError> {
        self.check()?;
        let known = registry.len();
        let defs = registry.defs(self.logged..known);
        let before = self.wal.len();
        if let Err(error) = self.wal.append(&NewSeries { first: self.logged, defs: &defs }, encoded) {
            let reason = format!("the log cannot be written: {error}");
            tracing::error!(reason, "the store takes no more writes");
            self.closed = Some(reason.clone());
            return Err(StoreError::Closed { reason });
        }
        self.logged = known;
        self.written += self.wal.len() - before;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{
        ArrayRef, Float64Array, StringArray, TimestampNanosecondArray, UInt32Array, UInt64Array, new_null_array,
    };

    use super::*;
    use crate::model::{Labels, SeriesDef, SeriesId, Span, Timestamp};
    use crate::world::{Chance, SimClock, SimDisk};

    const MINUTE: i64 = 60_000_000_000;

    struct Bed {
        catalog: tempfile::TempDir,
        disk: SimDisk,
        spec: StoreSpec,
    }

    impl Bed {
        fn new() -> Self {
            let catalog = tempfile::tempdir().unwrap();
            let spec = StoreSpec { sync: Sync::Always, ..StoreSpec::default() };
            Bed { catalog, disk: SimDisk::new(), spec }
        }

        fn open(&self) -> Result<Store, StoreError> {
            let clock = Arc::new(SimClock::at(Timestamp::parse("2026-03-01").unwrap()));
            let world = World::simulated(clock, Arc::new(self.disk.clone()), 7);
            Store::open_with_catalog(world, Path::new("/data"), self.catalog.path(), self.spec.clone())
        }
    }

    fn series(store: &Store, n: u32) -> SeriesId {
        store.registry().intern(SeriesDef::new(format!("m{}", n % 3), Labels::new([("n", n.to_string())])))
    }

    fn put(store: &Store, samples: &[(u32, i64, f64)]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for &(n, minute, value) in samples {
            batch.push(series(store, n), Timestamp::from_nanos(1_767_225_600_000_000_000 + minute * MINUTE), value);
        }
        store.append(batch)
    }

    /// Everything in the store by series' text and minute.
    fn all(store: &Store) -> BTreeMap<(String, i64), f64> {
        let snapshot = store.snapshot();
        let ids = (0..snapshot.series_count() as u32).map(SeriesId).collect();
        let runs = snapshot.scan(ids, Span::ALL).map(|run| run.unwrap());
        runs.flat_map(|run| {
            let name = store.registry().def(run.series).to_string();
            assert!(run.samples.windows(2).all(|pair| pair[0].time < pair[1].time));
            let minute = |time: Timestamp| (time.nanos() - 1_767_225_600_000_000_000) / MINUTE;
            run.samples.into_iter().map(move |s| ((name.clone(), minute(s.time)), s.value)).collect::<Vec<_>>()
        })
        .collect()
    }

    #[test]
    fn the_last_value_of_a_time_wins_in_memory_at_rest_and_merged() {
        let bed = Bed::new();
        let store = bed.open().unwrap();
        put(&store, &[(0, 0, 1.0), (0, 1, 1.5), (1, 0, 7.0)]).unwrap();
        assert!(store.flush().unwrap());
        put(&store, &[(0, 1, 2.5), (0, 50_000, 9.0)]).unwrap();
        let seen = all(&store);
        assert_eq!(seen.values().copied().collect::<Vec<_>>(), [1.0, 2.5, 9.0, 7.0]);
        store.flush().unwrap();
        assert_eq!(all(&store), seen);
        assert!(store.compact().unwrap() > 0);
        assert_eq!(all(&store), seen);
        drop(store);
        assert_eq!(all(&bed.open().unwrap()), seen);
    }

    #[test]
    fn a_second_opener_is_told_who_is_in_the_way() {
        let bed = Bed::new();
        let _store = bed.open().unwrap();
        let told = bed.open().err().unwrap().to_string();
        assert!(told.contains("in use by another process"), "{told}");
    }

    #[test]
    fn a_full_disk_refuses_writes_and_keeps_what_was_acknowledged() {
        let bed = Bed::new();
        let store = bed.open().unwrap();
        put(&store, &[(0, 0, 1.0)]).unwrap();
        bed.disk.set_capacity(Some(150));
        let mut acknowledged = BTreeMap::from([((r#"m0{n="0"}"#.to_owned(), 0), 1.0)]);
        let refused = (1..100).find_map(|minute| match put(&store, &[(0, minute, 0.1)]) {
            Ok(()) => {
                acknowledged.insert((r#"m0{n="0"}"#.to_owned(), minute), 0.1);
                None
            }
            Err(error) => Some(error.to_string()),
        });
        assert!(refused.unwrap().contains("takes no writes"));
        assert_eq!(all(&store), acknowledged);
        drop(store);
        bed.disk.set_capacity(None);
        let store = bed.open().unwrap();
        assert_eq!(all(&store), acknowledged);
        put(&store, &[(0, 1000, 3.0)]).unwrap();
    }

    /// Rows of `correlations` and `compressed` as stages may tell them: groups again and again, in any order.
    fn found(chance: &Chance) -> [Rows; 2] {
        let times = |times: Vec<i64>| -> ArrayRef {
            Arc::new(TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC"))
        };
        let numbers = |of: Vec<u32>| -> ArrayRef { Arc::new(UInt32Array::from(of)) };
        let values = |count: usize| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values((0..count).map(|_| chance.below(1000) as f64)))
        };
        let some = |below: u64, count: u64| (0..count).map(|_| chance.below(below) as u32).collect::<Vec<u32>>();
        let window = chance.below(6) as i64 * 3_600_000_000_000;
        let count = 1 + chance.below(20);
        let pairs = vec![
            times(vec![window; count as usize]),
            times(vec![window + 1; count as usize]),
            numbers(some(5, count)),
            numbers(some(5, count)),
            values(count as usize),
            Arc::new(UInt64Array::from(vec![60; count as usize])),
        ];
        let count = 1 + chance.below(3000);
        let at: Vec<i64> = some(5000, count).into_iter().map(i64::from).collect();
        let why = StringArray::from_iter_values((0..count).map(|_| ["door", "gap"][chance.below(2) as usize]));
        let points = vec![
            numbers(some(4, count)),
            times(at),
            values(count as usize),
            values(count as usize),
            Arc::new(UInt64Array::from_iter_values(0..count)),
            Arc::new(why),
        ];
        let rows = |table: Table, mut columns: Vec<ArrayRef>| {
            let (schema, length) = (table.schema(), columns[0].len());
            // Columns that rows of older files have not.
            let further = schema.fields().iter().skip(columns.len());
            let nulls: Vec<ArrayRef> = further.map(|field| new_null_array(field.data_type(), length)).collect();
            columns.extend(nulls);
            Rows { table, batch: RecordBatch::try_new(schema, columns).unwrap() }
        };
        [rows(Table::Correlations, pairs), rows(Table::Compressed, points)]
    }

    #[test]
    fn rows_merged_file_by_file_are_those_that_counted_before() {
        let bed = Bed::new();
        let store = bed.open().unwrap();
        let chance = Chance::seeded(31);
        for n in 0..4 {
            series(&store, n);
        }
        for _ in 0..40 {
            for _ in 0..1 + chance.below(3) {
                found(&chance).into_iter().for_each(|rows| store.add_rows(rows));
            }
            store.flush().unwrap();
        }
        let told = || [Table::Correlations, Table::Compressed].map(|table| store.snapshot().rows(table).unwrap());
        let before = told();
        assert!(before.iter().all(|rows| rows.num_rows() > 20), "{before:?}");
        assert!(store.compact().unwrap() > 1);
        assert!(store.snapshot().records().len() < 8);
        assert_eq!(told(), before);
    }

    #[test]
    fn a_series_longer_than_a_piece_is_merged_whole() {
        let bed = Bed::new();
        let store = bed.open().unwrap();
        let id = series(&store, 0);
        // Some 150,000 samples: in order, then every third one again and with decimals, then floats far behind.
        let stretches: [(i64, usize, f64); 4] = [(0, 1, 1.0), (70_000, 1, 2.0), (0, 3, 0.25), (200_000, 1, 1.0 / 3.0)];
        for (first, step, factor) in stretches {
            let mut batch = Batch::default();
            for at in (first..first + 80_000).step_by(step) {
                batch.push(id, Timestamp::from_millis(1_767_225_600_000 + at), (at % 97) as f64 * factor);
            }
            store.append(batch).unwrap();
            store.flush().unwrap();
        }
        let told = |store: &Store| {
            let run = store.snapshot().scan(vec![id], Span::ALL).next().unwrap().unwrap();
            let mut pieces = Vec::new();
            let read =
                store.snapshot().scan(vec![id], Span::ALL).next_in_pieces(|piece| pieces.extend_from_slice(piece));
            assert_eq!(read.unwrap().unwrap(), id);
            assert_eq!(pieces, run.samples);
            pieces
        };
        let before = told(&store);
        assert_eq!(before.len(), 230_000);
        assert!(store.compact().unwrap() > 0);
        assert_eq!(store.snapshot().records().iter().filter(|record| record.table == TableName::Samples).count(), 1);
        assert_eq!(told(&store), before);
        drop(store);
        assert_eq!(told(&bed.open().unwrap()), before);
    }
}
