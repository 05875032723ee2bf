//! Samples that stages make: seen at once, flushed with what they were made of, and made again after a crash.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};

use super::tap::{Behind, Tap};
use super::{Store, StoreSpec, Sync};
use crate::model::{Batch, Labels, SeriesDef, SeriesId, Span, Timestamp};
use crate::world::{Chance, Loss, SimClock, SimDisk, World};

const MINUTE: i64 = 60_000_000_000;
const START: i64 = 1_767_225_600_000_000_000;

/// Makes of each series one of its sums so far.
struct Summing {
    store: Weak<Store>,
    sums: Mutex<BTreeMap<u32, f64>>,
    /// The sums as of the last cut.
    cut: Mutex<Vec<u8>>,
}

impl Summing {
    fn state(&self) -> Vec<u8> {
        let sums = self.sums.lock().unwrap();
        sums.iter().flat_map(|(id, sum)| [&id.to_le_bytes()[..], &sum.to_le_bytes()].concat()).collect()
    }
}

impl Tap for Summing {
    fn ready(&self) -> Result<(), Behind> {
        Ok(())
    }

    fn pass(&self, batch: Arc<Batch>) {
        let Some(store) = self.store.upgrade() else { return };
        let mut made = batch.part(batch.len());
        for (series, sample) in batch.iter() {
            let def = store.registry().def(series);
            let id = store.registry().intern(SeriesDef::new(format!("{}:sum", def.metric), def.labels));
            let mut sums = self.sums.lock().unwrap();
            let sum = sums.entry(series.0).or_default();
            *sum += sample.value;
            made.push(id, sample.time, *sum);
        }
        store.add_samples(&made);
    }

    fn cut(&self, _cut: u64, _last: bool) {
        *self.cut.lock().unwrap() = self.state();
    }

    fn state_at(&self, _cut: u64) -> Vec<u8> {
        self.cut.lock().unwrap().clone()
    }

    fn start(&self, state: Option<&[u8]>) {
        let state = state.unwrap_or_default();
        let (sums, _) = state.as_chunks::<12>();
        let sum = |bytes: &[u8; 12]| {
            let (id, sum) = bytes.split_at(4);
            (u32::from_le_bytes(id.try_into().unwrap()), f64::from_le_bytes(sum.try_into().unwrap()))
        };
        *self.sums.lock().unwrap() = sums.iter().map(sum).collect();
    }
}

fn open(disk: &SimDisk, catalog: &Path) -> Arc<Store> {
    let clock = Arc::new(SimClock::at(Timestamp::from_nanos(START)));
    let world = World::simulated(clock, Arc::new(disk.clone()), 7);
    let spec = StoreSpec { sync: Sync::Always, ..StoreSpec::default() };
    let store = Arc::new(Store::open_with_catalog(world, Path::new("/data"), catalog, spec).unwrap());
    let summing = Summing { store: Arc::downgrade(&store), sums: Mutex::default(), cut: Mutex::default() };
    store.attach(Arc::new(summing)).unwrap();
    store
}

/// All samples by series' text and minute.
fn all(store: &Store) -> BTreeMap<String, Vec<(i64, f64)>> {
    let snapshot = store.snapshot();
    let ids = (0..snapshot.series_count() as u32).map(SeriesId).collect();
    let runs = snapshot.scan(ids, Span::ALL).map(|run| run.unwrap());
    let minute = |time: Timestamp| (time.nanos() - START) / MINUTE;
    let told = |run: super::SeriesRun| {
        let samples = run.samples.iter().map(|sample| (minute(sample.time), sample.value)).collect();
        (store.registry().def(run.series).to_string(), samples)
    };
    runs.map(told).collect()
}

/// What must be there, by what came in.
fn assert_sums(store: &Store, told: &str) -> usize {
    let all = all(store);
    let came: Vec<_> = all.iter().filter(|(name, _)| !name.contains(":sum")).collect();
    for (name, samples) in &came {
        let mut sum = 0.0;
        let wanted: Vec<(i64, f64)> = samples
            .iter()
            .map(|&(minute, value)| {
                (minute, {
                    sum += value;
                    sum
                })
            })
            .collect();
        let made = name.replacen('{', ":sum{", 1);
        assert_eq!(all.get(&made), Some(&wanted), "{told}: {made}");
    }
    assert_eq!(all.len(), 2 * came.len(), "{told}");
    came.iter().map(|(_, samples)| samples.len()).sum()
}

fn put(store: &Store, n: u32, minute: i64, value: f64) -> bool {
    let def = SeriesDef::new(format!("m{}", n % 2), Labels::new([("n", n.to_string())]));
    let mut batch = Batch::default();
    batch.push(store.registry().intern(def), Timestamp::from_nanos(START + minute * MINUTE), value);
    store.append(batch).is_ok()
}

#[test]
fn what_is_made_is_seen_at_once_and_flushed() {
    let (disk, catalog) = (SimDisk::new(), tempfile::tempdir().unwrap());
    let store = open(&disk, catalog.path());
    (0..50).for_each(|minute: u32| assert!(put(&store, minute % 3, i64::from(minute) * 1000, 1.5)));
    assert_eq!(assert_sums(&store, "in memory"), 50);
    assert_eq!(store.stats().samples_in_memory, 100);
    assert!(store.flush().unwrap());
    assert_eq!(store.stats().samples_in_memory, 0);
    assert_eq!(assert_sums(&store, "at rest"), 50);
    // One file a month, whoever made its samples.
    let mut months: Vec<String> = disk
        .files()
        .iter()
        .map(|(path, _)| path.display().to_string())
        .filter(|path| path.contains("/samples/"))
        .collect();
    let files = months.len();
    months.iter_mut().for_each(|path| *path = path.rsplit_once('/').unwrap().0.to_owned());
    months.dedup();
    assert_eq!(months.len(), files);
    assert!(!store.flush().unwrap());
    let made = store.registry().intern(SeriesDef::new("alone", Labels::default()));
    let mut batch = Batch::default();
    batch.push(made, Timestamp::from_nanos(START), 1.0);
    store.add_samples(&batch);
    assert!(store.flush().unwrap(), "made samples alone are flushed, too");
    assert!(all(&store).contains_key("alone"));
}

#[test]
fn a_crash_at_any_change_of_the_disk_loses_nothing_that_is_made() {
    let mut ended = false;
    let mut stop = 0;
    while !ended {
        stop += 1;
        let chance = Chance::seeded(stop);
        let (disk, catalog) = (SimDisk::new(), tempfile::tempdir().unwrap());
        let store = open(&disk, catalog.path());
        disk.stop_at(disk.operations() + stop);
        let mut acknowledged = 0;
        ended = (0..40).all(|minute| {
            let is_taken = put(&store, chance.below(4) as u32, minute, chance.below(100) as f64);
            acknowledged += usize::from(is_taken);
            is_taken && (minute % 15 != 14 || store.flush().is_ok())
        });
        drop(store);
        let loss = Loss::ALL[chance.below(Loss::ALL.len() as u64) as usize];
        let told = format!("stopped at change {stop}, {loss:?}");
        let disk = disk.after_power_loss(loss);
        let store = open(&disk, catalog.path());
        let found = assert_sums(&store, &told);
        assert!((acknowledged..=acknowledged + 1).contains(&found), "{told}: {found} of {acknowledged}");
        put(&store, 0, 1000, 1.0);
        store.flush().unwrap();
        drop(store);
        assert_sums(&open(&disk, catalog.path()), &told);
    }
    eprintln!("{stop} moments");
    assert!(stop > 50);
}
