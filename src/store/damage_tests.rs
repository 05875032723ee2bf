//! What a start, verify, repair, snapshot make of damage, over the simulated disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::catalog::TableName;
use crate::model::{Batch, Labels, SeriesDef, SeriesId, Span, Timestamp};
use crate::world::{Disk, RealDisk, SimClock, SimDisk, World};

const START: i64 = 1_767_225_600_000_000_000;
const MINUTE: i64 = 60_000_000_000;

/// A disk and the real folder of its store's catalog.
struct Bed {
    folder: tempfile::TempDir,
    disk: SimDisk,
    dir: PathBuf,
}

type Rows = BTreeMap<(String, i64), f64>;

impl Bed {
    fn new() -> Self {
        Bed { folder: tempfile::tempdir().unwrap(), disk: SimDisk::new(), dir: "/data".into() }
    }

    fn world(&self) -> World {
        let clock = Arc::new(SimClock::at(Timestamp::parse("2026-03-01").unwrap()));
        World::simulated(clock, Arc::new(self.disk.clone()), 7)
    }

    fn catalog(&self) -> PathBuf {
        self.folder.path().join("catalog")
    }

    fn spec() -> StoreSpec {
        StoreSpec { sync: Sync::Always, ..StoreSpec::default() }
    }

    fn open(&self) -> Store {
        Store::open_with_catalog(self.world(), &self.dir, &self.catalog(), Self::spec()).unwrap()
    }

    fn verify(&self) -> Vec<Wrong> {
        let spec = Self::spec();
        Store::verify_closed_with_catalog(&self.world(), &self.dir, &self.catalog(), &spec).unwrap().wrong
    }

    /// Paths of what verify finds wrong.
    fn wrong(&self) -> Vec<String> {
        self.verify().into_iter().map(|wrong| wrong.path).collect()
    }

    fn files(&self, folder: &str) -> Vec<PathBuf> {
        self.disk.list(&self.dir.join(folder)).unwrap()
    }

    fn length(&self, path: &Path) -> usize {
        self.disk.open(path).unwrap().len() as usize
    }

    fn read(&self, path: &Path) -> Vec<u8> {
        self.disk.open(path).unwrap().read_all().unwrap()
    }

    fn forget_catalog(&self) {
        RealDisk.remove_folder(&self.catalog()).unwrap();
    }
}

fn put(store: &Store, samples: &[(u32, i64, f64)]) {
    let mut batch = Batch::default();
    for &(n, minute, value) in samples {
        let mut def = SeriesDef::new(format!("m{}_x", n % 3), Labels::new([("n", n.to_string())]));
        (def.measurement_len, def.unit, def.help) = (2, "s".into(), "what it is".into());
        let series = store.registry().intern(def);
        batch.push(series, Timestamp::from_nanos(START + minute * MINUTE), value);
    }
    store.append(batch).unwrap();
}

fn all(store: &Store) -> Rows {
    let snapshot = store.snapshot();
    let ids = (0..snapshot.series_count() as u32).map(SeriesId).collect();
    let mut rows = Rows::new();
    for run in snapshot.scan(ids, Span::ALL).map(|run| run.unwrap()) {
        let name = store.registry().def(run.series).to_string();
        rows.extend(run.samples.iter().map(|s| ((name.clone(), (s.time.nanos() - START) / MINUTE), s.value)));
    }
    rows
}

/// Three flushes over two months, the first two merged, and a log.
fn filled(bed: &Bed) -> Rows {
    let store = bed.open();
    put(&store, &[(0, 0, 1.0), (0, 1, 1.5), (1, 0, 7.0)]);
    store.flush().unwrap();
    put(&store, &[(0, 1, 2.5), (2, 5, 0.1)]);
    store.flush().unwrap();
    store.compact().unwrap();
    put(&store, &[(0, 50_000, 9.0), (3, 2, 4.0)]);
    store.flush().unwrap();
    put(&store, &[(4, 3, 5.0), (0, 2, 6.0)]);
    put(&store, &[(4, 4, 5.5)]);
    all(&store)
}

#[test]
fn a_catalog_that_is_gone_is_made_anew_from_the_files() {
    let bed = Bed::new();
    let before = filled(&bed);
    let defs = |store: &Store| store.registry().defs(0..store.registry().len());
    let (known, records) = {
        let store = bed.open();
        (defs(&store), store.snapshot().records())
    };
    bed.forget_catalog();
    let store = bed.open();
    assert!(store.degraded()[0].contains("made anew"), "{:?}", store.degraded());
    assert_eq!(all(&store), before);
    assert_eq!(defs(&store), known);
    let mut found = store.snapshot().records();
    found.sort_by_key(|record| record.number);
    let mut wanted = records;
    wanted.sort_by_key(|record| record.number);
    assert_eq!(found, wanted);
    assert_eq!(store.losses(), []);
    drop(store);
    assert!(bed.open().degraded().is_empty());
    assert_eq!(bed.wrong(), Vec::<String>::new());
}

#[test]
fn a_catalog_that_fell_back_costs_no_segment() {
    let bed = Bed::new();
    let store = bed.open();
    put(&store, &[(0, 0, 1.0)]);
    store.flush().unwrap();
    drop(store);
    let before = bed.folder.path().join("before");
    RealDisk.copy_folder(&bed.catalog(), &before).unwrap();
    let rows = filled(&bed);
    bed.forget_catalog();
    RealDisk.copy_folder(&before, &bed.catalog()).unwrap();
    let store = bed.open();
    assert!(store.degraded()[0].contains("fell back"), "{:?}", store.degraded());
    assert_eq!(all(&store), rows);
}

#[test]
fn files_that_nobody_knows_are_set_aside_and_left_overs_removed() {
    let bed = Bed::new();
    let rows = filled(&bed);
    let merged = bed.files("samples/2026-01")[0].clone();
    let bytes = bed.read(&merged);
    let write = |name: &str, bytes: &[u8]| {
        bed.disk.create_dir_all(bed.dir.join(name).parent().unwrap()).unwrap();
        bed.disk.create(&bed.dir.join(name)).unwrap().append(bytes).unwrap();
    };
    // A write that did not end; a whole file of another store with numbers of its own.
    write("samples/2026-01/0000000090.parquet", &bytes[..bytes.len() / 2]);
    write("samples/2025-12/0000000001.parquet", &bytes);
    assert_eq!(bed.wrong(), ["samples/2025-12/0000000001.parquet"]);
    let store = bed.open();
    assert!(store.degraded()[0].contains("2025-12"), "{:?}", store.degraded());
    assert_eq!(all(&store), rows);
    assert!(bed.files("samples/2025-12").is_empty());
    assert_eq!(bed.files("set-aside").len(), 1);
    drop(store);
    assert_eq!(bed.wrong(), Vec::<String>::new());
}

#[test]
fn every_flipped_byte_of_every_file_is_found() {
    let bed = Bed::new();
    filled(&bed);
    assert_eq!(bed.wrong(), Vec::<String>::new());
    let folders = ["samples/2026-01", "samples/2026-02", "series", "wal", ""];
    let files = folders.iter().flat_map(|folder| bed.files(folder)).filter(|path| bed.disk.open(path).is_ok());
    let mut flips = 0;
    for path in files {
        let name = path.strip_prefix(&bed.dir).unwrap().to_str().unwrap().to_owned();
        let len = bed.length(&path);
        for at in (0..len).step_by(len.div_ceil(40).max(1)) {
            bed.disk.corrupt(&path, at, 0x04);
            assert!(bed.wrong().contains(&name), "{name} at {at}");
            bed.disk.corrupt(&path, at, 0x04);
            flips += 1;
        }
    }
    assert!(flips > 100, "{flips}");
    assert_eq!(bed.wrong(), Vec::<String>::new());
}

#[test]
fn a_file_that_is_missing_or_does_not_open_is_told_and_the_rest_served() {
    let bed = Bed::new();
    let rows = filled(&bed);
    let (missing, cut) = (bed.files("samples/2026-02")[0].clone(), bed.files("samples/2026-01")[1].clone());
    bed.disk.remove(&missing).unwrap();
    bed.disk.truncate(&cut, 100).unwrap();
    assert_eq!(bed.wrong().len(), 2);
    let store = bed.open();
    let losses = store.losses();
    assert_eq!(losses.iter().map(|loss| loss.rows).collect::<Vec<_>>(), [Some(1), Some(1)]);
    assert!(losses.iter().all(|loss| loss.table == TableName::Samples.name() && loss.first.is_some()));
    let lost = [("m0_x{n=\"0\"}".to_owned(), 50_000), ("m0_x{n=\"3\"}".to_owned(), 2)];
    let kept: Rows = rows.into_iter().filter(|(key, _)| !lost.contains(key)).collect();
    assert_eq!(all(&store), kept);
    assert!(store.degraded()[0].contains("2 losses"), "{:?}", store.degraded());
    drop(store);
    // Told once, and until somebody takes note.
    let store = bed.open();
    assert_eq!((store.losses(), store.degraded().len()), (losses, 1));
    store.acknowledge_losses().unwrap();
    assert!(store.degraded().is_empty());
}

#[test]
fn a_damaged_file_of_series_is_written_anew() {
    let bed = Bed::new();
    let rows = filled(&bed);
    let file = bed.files("series")[0].clone();
    bed.disk.truncate(&file, bed.length(&file) as u64 - 5).unwrap();
    let store = bed.open();
    assert_eq!((all(&store), store.losses()), (rows.clone(), vec![]));
    drop(store);
    assert_eq!(bed.wrong(), Vec::<String>::new());
    bed.forget_catalog();
    assert_eq!(all(&bed.open()), rows);
}

#[test]
fn damage_in_the_log_costs_its_frame_and_is_told() {
    let bed = Bed::new();
    let rows = filled(&bed);
    let log = bed.files("wal").into_iter().max_by_key(|path| bed.length(path)).unwrap();
    // In the payload of the first frame, which defines series 4.
    bed.disk.corrupt(&log, 8 + 24 + 3, 0x55);
    let name = log.strip_prefix(&bed.dir).unwrap().to_str().unwrap().to_owned();
    assert_eq!(bed.wrong(), std::slice::from_ref(&name));
    let store = bed.open();
    let losses = store.losses();
    assert_eq!((losses.len(), &losses[0].path, &*losses[0].table), (1, &name, "wal"));
    let lost = [("m1_x{n=\"4\"}".to_owned(), 3), ("m1_x{n=\"4\"}".to_owned(), 4), ("m0_x{n=\"0\"}".to_owned(), 2)];
    let mut kept: Rows = rows.into_iter().filter(|(key, _)| !lost.contains(key)).collect();
    // Its definition is lost, its later sample is not.
    kept.insert(("lost_series{number=\"4\"}".to_owned(), 4), 5.5);
    assert_eq!(all(&store), kept);
    assert_eq!(bed.files("set-aside").len(), 1);
    drop(store);
    assert_eq!(bed.open().losses(), losses);
    let store = bed.open();
    store.repair().unwrap();
    drop(store);
    assert_eq!(bed.wrong(), Vec::<String>::new());
    assert_eq!(all(&bed.open()), kept);
}

#[test]
fn repair_saves_the_series_whose_pages_are_whole() {
    let bed = Bed::new();
    let store = bed.open();
    let many: Vec<_> = (0..2_000).map(|minute| (0, minute % 1_000, (minute as f64).sqrt())).collect();
    put(&store, &many);
    put(&store, &(0..600_000).map(|at| (1, at % 30_000, 2.0)).collect::<Vec<_>>());
    store.flush().unwrap();
    let rows = all(&store);
    let file = bed.files("samples/2026-01")[0].clone();
    drop(store);
    // The values of series 0 are full floats and most of the file.
    (200..4_000).for_each(|at| bed.disk.corrupt(&file, at, 0xFF));
    let store = bed.open();
    let wrong = store.verify().unwrap().wrong;
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert_eq!(store.heal().unwrap(), 1);
    let losses = store.losses();
    assert!(losses.iter().any(|loss| loss.series.is_some() && loss.rows > Some(0)), "{losses:?}");
    let named: Vec<String> = losses.iter().filter_map(|loss| loss.series.clone()).collect();
    let kept: Rows = rows.into_iter().filter(|((series, _), _)| !named.contains(series)).collect();
    assert_eq!(all(&store), kept);
    assert_eq!(store.verify().unwrap().wrong, []);
}

#[test]
fn a_query_that_meets_damage_says_so_and_the_file_is_set_right() {
    heals_after(|store| store.snapshot().scan(vec![SeriesId(0)], Span::ALL).collect::<Result<Vec<_>, _>>().is_err());
}

#[test]
fn a_stage_that_meets_damage_says_so_and_the_file_is_set_right() {
    let read = |store: &Store| store.snapshot().scan(vec![SeriesId(0)], Span::ALL).next_in_pieces(|_| {});
    heals_after(|store| read(store).is_some_and(|read| read.is_err()));
}

/// Damages a segment; `fails` reads it.
fn heals_after(fails: impl Fn(&Store) -> bool) {
    let bed = Bed::new();
    let store = bed.open();
    put(&store, &(0..5_000).map(|minute| (0, minute, (minute as f64).sqrt())).collect::<Vec<_>>());
    store.flush().unwrap();
    put(&store, &[(1, 1, 1.0)]);
    let file = bed.files("samples/2026-01")[0].clone();
    (100..bed.length(&file) - 2_000).for_each(|at| bed.disk.corrupt(&file, at, 0xFF));
    let store = {
        drop(store);
        bed.open()
    };
    let read = || store.snapshot().scan(vec![SeriesId(0)], Span::ALL).collect::<Result<Vec<_>, _>>();
    assert!(fails(&store));
    assert_eq!(store.heal().unwrap(), 1);
    assert!(read().unwrap()[0].samples.is_empty());
    assert_eq!(store.losses().len(), 1);
    assert_eq!(all(&store).len(), 1);
}

#[test]
fn a_snapshot_is_a_store_of_that_moment() {
    let bed = Bed::new();
    let rows = filled(&bed);
    let store = bed.open();
    put(&store, &[(5, 7, 70.0)]);
    let now = all(&store);
    assert!(now.len() == rows.len() + 1);
    let other = Bed { folder: tempfile::tempdir().unwrap(), disk: bed.disk.clone(), dir: "/copies/one".into() };
    let made = store.snapshot_with_catalog(&other.dir, &other.catalog()).unwrap();
    assert!(made.linked >= 4, "{made:?}");
    let again = store.snapshot_with_catalog(&other.dir, &other.catalog()).err().unwrap().to_string();
    assert!(again.contains("there already"), "{again}");
    put(&store, &[(5, 8, 80.0)]);
    store.flush().unwrap();
    store.compact().unwrap();
    assert_eq!(other.wrong(), Vec::<String>::new());
    let copy = other.open();
    assert_eq!(all(&copy), now);
    assert!(copy.degraded().is_empty());
    put(&copy, &[(5, 9, 90.0)]);
    copy.flush().unwrap();
    assert_eq!(all(&store).len(), now.len() + 1);
    drop(store);
    assert_eq!(bed.wrong(), Vec::<String>::new());
}
