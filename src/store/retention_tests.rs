//! What is kept by rule, over the simulated disk and clock: in queries at once, on the disk in time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array, RecordBatch};
use arrow::array::{TimestampNanosecondArray, UInt32Array, UInt64Array};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};

use super::*;
use crate::model::{Batch, Keep, Labels, MetricRule, Retention, Rows, SeriesDef, SeriesId, Span, Table, Timestamp};
use crate::world::{Disk, SimClock, SimDisk, World};

const HOUR: i64 = 3_600_000_000_000;
const MINUTE: i64 = HOUR / 60;

struct Bed {
    catalog: tempfile::TempDir,
    disk: SimDisk,
    clock: Arc<SimClock>,
    retention: Retention,
}

fn start() -> i64 {
    Timestamp::parse("2026-03-02").unwrap().nanos()
}

fn keep(text: &str) -> Keep {
    text.parse().unwrap()
}

/// `debug_*` for a week, `audit` for ever, all else for three months.
fn by_metric() -> Retention {
    let rule = |metric: &str, text| MetricRule { metric: metric.parse().unwrap(), keep: keep(text) };
    Retention { metrics: vec![rule("debug_*", "7d"), rule("audit", "forever")], ..Retention::of_all(keep("90d")) }
}

/// Rollups over minutes for a week, those over hours for ever, other rows for three months.
fn by_window() -> Retention {
    let rollups = BTreeMap::from([(MINUTE, keep("7d")), (HOUR, Keep::Forever)]);
    Retention { rollups, ..Retention::of_all(keep("90d")) }
}

impl Bed {
    fn new(retention: Retention) -> Self {
        let clock = Arc::new(SimClock::at(Timestamp::from_nanos(start())));
        Bed { catalog: tempfile::tempdir().unwrap(), disk: SimDisk::new(), clock, retention }
    }

    fn open(&self) -> Store {
        let world = World::simulated(self.clock.clone(), Arc::new(self.disk.clone()), 7);
        let spec = StoreSpec { sync: Sync::Always, retention: self.retention.clone(), ..StoreSpec::default() };
        Store::open_with_catalog(world, Path::new("/data"), self.catalog.path(), spec).unwrap()
    }

    fn days(&self, days: u64) {
        self.clock.advance(Duration::from_secs(days * 86_400));
    }

    fn files(&self, folder: &str) -> Vec<PathBuf> {
        self.disk.list(&Path::new("/data").join(folder)).unwrap()
    }
}

/// A sample an hour from `from` on, of a series each of so many.
fn put(store: &Store, metric: &str, series: u32, from: i64, hours: i64) {
    let mut batch = Batch::default();
    for n in 0..series {
        let id = store.registry().intern(SeriesDef::new(metric, Labels::new([("n", n.to_string())])));
        (0..hours).for_each(|hour| batch.push(id, Timestamp::from_nanos(from + hour * HOUR), f64::from(n)));
    }
    store.append(batch).unwrap();
}

/// Samples by metric, as a scan gives them; held against what is counted and told without reading.
fn seen(store: &Store) -> BTreeMap<String, usize> {
    let snapshot = store.snapshot();
    let mut seen = BTreeMap::new();
    for id in (0..snapshot.series_count() as u32).map(SeriesId) {
        let run = snapshot.scan(vec![id], Span::ALL).next().unwrap().unwrap();
        let samples = run.samples.len();
        assert!(snapshot.count(id).is_none_or(|count| count == samples as u64), "{id:?}");
        let range = snapshot.time_range(id);
        assert_eq!(range.map(|range| range.1), run.samples.last().map(|sample| sample.time));
        assert!(range.is_none_or(|range| range.0 <= run.samples[0].time && range.0 >= snapshot.oldest(id)));
        *seen.entry(store.registry().metric(id)).or_default() += samples;
    }
    seen.retain(|_, samples| *samples > 0);
    seen
}

fn of(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    counts.iter().map(|&(metric, count)| (metric.to_owned(), count)).collect()
}

fn rows_at_rest(store: &Store, table: &str) -> u64 {
    store.stats().tables.get(table).map_or(0, |table| table.rows)
}

#[test]
fn samples_are_seen_for_as_long_as_the_rule_for_their_metric_says() {
    for is_flushed in [false, true] {
        let bed = Bed::new(by_metric());
        let store = bed.open();
        for metric in ["debug_a", "cpu", "audit"] {
            put(&store, metric, 2, start(), 24);
        }
        if is_flushed {
            store.flush().unwrap();
        }
        assert_eq!(seen(&store), of(&[("audit", 48), ("cpu", 48), ("debug_a", 48)]));
        let held = store.snapshot();
        bed.days(7);
        bed.clock.advance(Duration::from_secs(6 * 3600));
        assert_eq!(seen(&store), of(&[("audit", 48), ("cpu", 48), ("debug_a", 36)]));
        bed.days(1);
        assert_eq!(seen(&store), of(&[("audit", 48), ("cpu", 48)]));
        bed.days(90);
        assert_eq!(seen(&store), of(&[("audit", 48)]));
        let run = held.scan(vec![SeriesId(0)], Span::ALL).next().unwrap().unwrap();
        assert_eq!(run.samples.len(), 24, "a snapshot shows what it showed");
    }
}

#[test]
fn counts_need_no_reading_where_nothing_of_a_series_is_expired() {
    let bed = Bed::new(by_metric());
    let store = bed.open();
    put(&store, "debug_a", 1, start(), 24);
    put(&store, "cpu", 1, start(), 24);
    store.flush().unwrap();
    let counts = |store: &Store| [0, 1].map(|id| store.snapshot().count(SeriesId(id)));
    assert_eq!(counts(&store), [Some(24), Some(24)]);
    bed.days(7);
    bed.clock.advance(Duration::from_secs(1));
    assert_eq!(counts(&store), [None, Some(24)]);
}

#[test]
fn a_merge_leaves_out_what_is_expired() {
    let bed = Bed::new(by_metric());
    let store = bed.open();
    for hour in [0, 24] {
        put(&store, "debug_a", 1, start() + hour * HOUR, 24);
        put(&store, "cpu", 2, start() + hour * HOUR, 24);
        store.flush().unwrap();
    }
    bed.days(8);
    assert_eq!(rows_at_rest(&store, "samples"), 144);
    assert_eq!(store.compact().unwrap(), 1);
    assert_eq!(rows_at_rest(&store, "samples"), 120);
    assert_eq!(seen(&store), of(&[("cpu", 96), ("debug_a", 24)]));
    drop(store);
    assert_eq!(seen(&bed.open()), of(&[("cpu", 96), ("debug_a", 24)]));
}

#[test]
fn a_merge_of_nothing_that_is_kept_leaves_no_file() {
    let bed = Bed::new(by_metric());
    let store = bed.open();
    for hour in [0, 24] {
        put(&store, "debug_a", 1, start() + hour * HOUR, 24);
        store.flush().unwrap();
    }
    bed.days(30);
    store.compact().unwrap();
    assert_eq!(rows_at_rest(&store, "samples"), 0);
    assert_eq!(bed.files("samples/2026-03"), Vec::<PathBuf>::new());
    drop(store);
    assert!(bed.open().degraded().is_empty());
}

#[test]
fn a_segment_that_is_mostly_expired_is_written_anew_without_it() {
    for (debug, shrinks) in [(2, false), (3, true)] {
        let bed = Bed::new(by_metric());
        let store = bed.open();
        put(&store, "debug_a", debug, start(), 48);
        put(&store, "cpu", 2, start(), 48);
        store.flush().unwrap();
        assert_eq!(store.drop_expired().unwrap(), 0, "nothing is expired");
        bed.days(9);
        let before = store.snapshot().records();
        assert_eq!(store.drop_expired().unwrap(), usize::from(shrinks));
        assert_eq!(store.drop_expired().unwrap(), 0, "once is enough");
        let after = store.snapshot().records();
        let bytes = |records: &[crate::catalog::SegmentRecord]| records[0].bytes;
        assert_eq!(bytes(&after) < bytes(&before), shrinks);
        let expired = if shrinks { 0 } else { u64::from(debug) * 48 };
        assert_eq!(rows_at_rest(&store, "samples"), 96 + expired);
        assert_eq!(bed.files("samples/2026-03").len(), 1);
        assert_eq!(seen(&store), of(&[("cpu", 96)]));
        drop(store);
        let store = bed.open();
        assert_eq!((seen(&store), store.degraded()), (of(&[("cpu", 96)]), Vec::new()));
    }
}

#[test]
fn a_segment_goes_when_all_of_it_is_expired_by_the_rules_for_it() {
    let mut bed = Bed::new(by_metric());
    let store = bed.open();
    put(&store, "debug_a", 1, start(), 24);
    store.flush().unwrap();
    put(&store, "debug_a", 1, start() + 24 * HOUR, 24);
    put(&store, "audit", 1, start(), 1);
    store.flush().unwrap();
    bed.days(8);
    let held = store.snapshot();
    assert_eq!(store.drop_expired().unwrap(), 1);
    assert_eq!(rows_at_rest(&store, "samples"), 25);
    assert_eq!(bed.files("samples/2026-03").len(), 2, "the snapshot needs it");
    // The process ends before the file does.
    drop(store);
    bed.disk = bed.disk.after_kill();
    drop(held);
    let store = bed.open();
    assert_eq!(bed.files("samples/2026-03").len(), 1);
    assert_eq!(store.degraded(), Vec::<String>::new());
    assert_eq!(seen(&store), of(&[("audit", 1), ("debug_a", 24)]));
}

/// Rollups of one series over windows of `every`, so many from `start` on.
fn rollups(store: &Store, every: i64, windows: i64) {
    put(store, "cpu", 1, start(), 1);
    let rows = windows as usize;
    let times = TimestampNanosecondArray::from_iter_values((0..windows).map(|window| start() + window * every));
    let numbers = || -> ArrayRef { Arc::new(Float64Array::from(vec![1.0; rows])) };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from(vec![0; rows])),
        Arc::new(Int64Array::from(vec![every; rows])),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(UInt64Array::from(vec![1; rows])),
        numbers(),
        numbers(),
        numbers(),
        numbers(),
        numbers(),
        Arc::new(BinaryArray::from_iter_values(vec![b"sketch"; rows])),
    ];
    let batch = RecordBatch::try_new(Table::Rollups.schema(), columns).unwrap();
    store.add_rows(Rows { table: Table::Rollups, batch });
}

/// Rows of rollups by length of window, and their first times.
fn windows(store: &Store) -> BTreeMap<i64, (usize, i64)> {
    let rows = store.snapshot().rows(Table::Rollups).unwrap();
    let times = rows["time"].as_primitive::<TimestampNanosecondType>().values();
    let mut windows = BTreeMap::new();
    for (every, &time) in rows["every"].as_primitive::<Int64Type>().values().iter().zip(times) {
        let tier = windows.entry(*every).or_insert((0, time));
        *tier = (tier.0 + 1, tier.1.min(time));
    }
    windows
}

#[test]
fn rollups_are_kept_by_the_length_of_their_windows() {
    for is_flushed in [false, true] {
        let bed = Bed::new(by_window());
        let store = bed.open();
        [(MINUTE, 120), (HOUR, 48), (15 * MINUTE, 8)].into_iter().for_each(|(every, n)| rollups(&store, every, n));
        if is_flushed {
            store.flush().unwrap();
        }
        bed.days(7);
        let all = [(MINUTE, (120, start())), (15 * MINUTE, (8, start())), (HOUR, (48, start()))];
        assert_eq!(windows(&store), BTreeMap::from(all));
        bed.clock.advance(Duration::from_secs(3600));
        assert_eq!(windows(&store)[&MINUTE], (60, start() + HOUR));
        bed.days(1);
        assert_eq!(windows(&store), BTreeMap::from([all[1], all[2]]));
        bed.days(90);
        assert_eq!(windows(&store), BTreeMap::from([all[2]]));
    }
}

#[test]
fn files_of_rollups_shrink_and_go_by_the_length_of_their_windows() {
    let bed = Bed::new(by_window());
    let store = bed.open();
    rollups(&store, MINUTE, 120);
    rollups(&store, HOUR, 48);
    store.flush().unwrap();
    rollups(&store, MINUTE, 60);
    store.flush().unwrap();
    bed.days(7);
    assert_eq!(store.drop_expired().unwrap(), 0);
    bed.days(1);
    assert_eq!(rows_at_rest(&store, "rollups"), 228);
    let seen = windows(&store);
    assert_eq!(store.drop_expired().unwrap(), 2, "one shrinks, one goes");
    assert_eq!((rows_at_rest(&store, "rollups"), windows(&store)), (48, seen.clone()));
    assert_eq!(bed.files("rollups").len(), 1);
    drop(store);
    let store = bed.open();
    assert_eq!((windows(&store), store.degraded()), (seen, Vec::new()));
}

#[test]
fn a_merge_of_rollups_leaves_out_what_is_expired() {
    let bed = Bed::new(by_window());
    let store = bed.open();
    for (minutes, hours) in [(10, 20), (20, 48)] {
        rollups(&store, MINUTE, minutes);
        rollups(&store, HOUR, hours);
        store.flush().unwrap();
    }
    bed.days(8);
    assert_eq!(store.drop_expired().unwrap(), 0, "too little of any file is expired");
    assert!(store.compact().unwrap() > 0);
    assert_eq!(rows_at_rest(&store, "rollups"), 48);
    assert_eq!(windows(&store), BTreeMap::from([(HOUR, (48, start()))]));
}

#[test]
fn a_file_of_rollups_that_was_dropped_is_swept_and_not_set_aside() {
    let mut bed = Bed::new(by_window());
    let store = bed.open();
    rollups(&store, MINUTE, 60);
    store.flush().unwrap();
    bed.days(8);
    let held = store.snapshot();
    assert_eq!(store.drop_expired().unwrap(), 1);
    drop(store);
    bed.disk = bed.disk.after_kill();
    drop(held);
    let store = bed.open();
    assert_eq!((bed.files("rollups").len(), store.degraded()), (0, Vec::new()));
}
