//! Stored samples and rows told as a source.

use std::path::Path;

use super::*;
use crate::flow::NoReaders;
use crate::model::{Labels, Rows};
use crate::stages::{PipelineSpec, Pipelines};
use crate::store::StoreSpec;
use crate::world::{SimClock, SimDisk, World};

const HOUR: i64 = 3_600_000_000_000;

struct Bed {
    store: Arc<Store>,
    _catalog: tempfile::TempDir,
}

fn start() -> Timestamp {
    Timestamp::parse("2026-02-01").unwrap()
}

/// Two series of an hour each, over 100 days and the half of them.
fn bed() -> Bed {
    let catalog = tempfile::tempdir().unwrap();
    let clock = Arc::new(SimClock::at(Timestamp::parse("2026-08-01").unwrap()));
    let world = World::simulated(clock, Arc::new(SimDisk::new()), 7);
    let store = Store::open_with_catalog(world, Path::new("/data"), catalog.path(), StoreSpec::default()).unwrap();
    let series = |name: &str| store.registry().intern(SeriesDef::new(name, Labels::default()));
    let (whole, half) = (series("whole"), series("half"));
    for hour in 0..2400 {
        let mut batch = Batch { source: "a".into(), ..Batch::default() };
        batch.push(whole, start().plus(hour * HOUR), hour as f64);
        if hour % 2 == 0 {
            batch.push(half, start().plus(hour * HOUR), -1.0);
        }
        store.append(batch).unwrap();
    }
    Bed { store: Arc::new(store), _catalog: catalog }
}

fn all(batches: Batches) -> Vec<(u32, i64, f64)> {
    let mut all = Vec::new();
    for batch in batches {
        let batch = batch.unwrap();
        assert_eq!(&*batch.source, "s");
        all.extend(batch.iter().map(|(id, sample)| (id.0, sample.time.nanos(), sample.value)));
    }
    assert!(all.windows(2).all(|pair| (pair[0].1, pair[0].0) < (pair[1].1, pair[1].0)), "by time, then series");
    all
}

#[test]
fn samples_come_by_time_over_all_series_of_the_span() {
    let bed = bed();
    let store = Arc::downgrade(&bed.store);
    assert_eq!(all(samples(&store, &"s".into(), None, Span::ALL)).len(), 3600);
    let span = Span::new(start().plus(24 * HOUR), start().plus(48 * HOUR));
    let wanted: Wanted = Arc::new(|series| series == SeriesId(0));
    let told = all(samples(&store, &"s".into(), Some(wanted), span));
    assert_eq!(told.iter().map(|told| told.2).collect::<Vec<_>>(), (24..48).map(f64::from).collect::<Vec<_>>());
}

#[test]
fn no_more_samples_are_held_than_may_be() {
    let bed = bed();
    let store = Arc::downgrade(&bed.store);
    let day = Span::new(start().plus(24 * HOUR), start().plus(48 * HOUR));
    for (most, span) in [(1, day), (7, Span::ALL), (100, Span::ALL)] {
        let whole = all(samples(&store, &"s".into(), None, span));
        let mut told = Vec::new();
        for batch in stretches(&store, &"s".into(), None, span, most) {
            let batch = batch.unwrap();
            // Of one time all are told together.
            assert!(batch.len() <= most.max(2), "{} of {most}", batch.len());
            told.extend(batch.iter().map(|(id, sample)| (id.0, sample.time.nanos(), sample.value)));
        }
        assert_eq!(told, whole, "{most}");
    }
}

#[test]
fn columns_of_a_table_are_samples_of_its_series() {
    let bed = bed();
    let spec = "name = \"p\"\n[[sources]]\nname = \"old\"\nread.table = { table = \"samples\" }\n\
                [[stages]]\nname = \"daily\"\napply.window = { every = \"1d\" }\n";
    let spec: PipelineSpec = toml::from_str(spec).unwrap();
    assert_eq!(spec.faults(), []);
    let pipelines = Pipelines::attach(&bed.store, vec![spec]).unwrap();
    pipelines.end();
    bed.store.flush().unwrap();
    pipelines.stop();
    let store = Arc::downgrade(&bed.store);
    let column = |name: &str, every: Option<u64>| {
        let column = Column::of(Table::Rollups, name).unwrap();
        let every = every.map(Duration::from_secs);
        all(derived(&store, &"s".into(), None, (Table::Rollups, column), every, Span::ALL))
    };
    let averages = column("avg", Some(86_400));
    assert_eq!(averages.len(), 200);
    assert_eq!(averages[0], (0, start().nanos(), 11.5));
    assert_eq!(averages[1], (1, start().nanos(), -1.0));
    assert_eq!(column("max", None)[0].2, 23.0);
    assert!((column("p50", None)[0].2 / 11.5 - 1.0).abs() < 0.1);
    assert!(column("avg", Some(3600)).is_empty());
}

/// Gives two samples out of order, or fails.
struct Fake(Result<(), String>);

impl Readers for Fake {
    fn read(&self, _: &ReadFileSpec, intake: &dyn Intake) -> Result<(), String> {
        let id = intake.intern(&SeriesDef::new("of_file", Labels::default())).map_err(|error| error.to_string())?;
        let mut batch = Batch::default();
        batch.push(id, start().plus(1), 2.0);
        batch.push(id, start(), 1.0);
        batch.push(id, start().plus(1), 3.0);
        intake.accept(batch).map_err(|error| error.to_string())?;
        self.0.clone()
    }

    fn check(&self, file: &ReadFileSpec) -> Result<(), String> {
        NoReaders.check(file)
    }

    fn is_there(&self, path: &Path) -> bool {
        NoReaders.is_there(path)
    }
}

#[test]
fn samples_of_a_file_are_sorted_and_not_stored() {
    let bed = bed();
    let spec: ReadFileSpec = toml::from_str("path = \"a.csv\"").unwrap();
    let store = Arc::downgrade(&bed.store);
    let told = all(file(&store, &"s".into(), &spec, &Fake(Ok(()))));
    assert_eq!(told, [(2, start().nanos(), 1.0), (2, start().nanos() + 1, 3.0)]);
    assert_eq!(bed.store.snapshot().time_range(SeriesId(2)), None);
    let mut failed = file(&store, &"s".into(), &spec, &Fake(Err("torn".to_owned())));
    assert!(failed.next().unwrap().unwrap_err().contains("torn"));
}

#[test]
fn a_table_is_told_once() {
    let bed = bed();
    let spec = "name = \"p\"\n[[sources]]\nname = \"old\"\nread.table = { table = \"samples\", metrics = [\"half\"] }\n\
                [[stages]]\nname = \"daily\"\napply.window = { every = \"1d\" }\n";
    let spec: PipelineSpec = toml::from_str(spec).unwrap();
    let pipelines = Pipelines::attach(&bed.store, vec![spec]).unwrap();
    bed.store.flush().unwrap();
    let told = |pipelines: &Pipelines| pipelines.stats().iter().map(|stage| stage.samples).collect::<Vec<_>>();
    assert_eq!(told(&pipelines), [1200, 1200]);
    let rows: Rows = Rows { table: Table::Rollups, batch: bed.store.snapshot().rows(Table::Rollups).unwrap() };
    assert_eq!(rows.batch.num_rows(), 100);
    pipelines.stop();
}
