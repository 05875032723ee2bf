//! Sinks whose couriers are a test's.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Mutex;

use super::*;
use crate::model::{Labels, SeriesDef};
use crate::stages::{Edges, PipelineSpec, Pipelines};
use crate::store::{Store, StoreSpec};
use crate::world::{SimClock, SimDisk, World};

/// Keeps what it is handed, in memory, and delivers it when it is asked to.
#[derive(Default)]
struct Fake {
    outboxes: Mutex<BTreeMap<String, Arc<Outbox>>>,
}

struct FakeCourier;

impl Courier for FakeCourier {}

impl Couriers for Fake {
    fn open(&self, sink: &str, _: &Delivery, _: Names, outbox: Arc<Outbox>) -> io::Result<Box<dyn Courier>> {
        self.outboxes.lock().unwrap().insert(sink.to_owned(), outbox);
        Ok(Box::new(FakeCourier))
    }
}

impl Fake {
    fn outbox(&self, sink: &str) -> Arc<Outbox> {
        self.outboxes.lock().unwrap()[sink].clone()
    }

    /// Samples and rows that wait for delivery.
    fn waiting(&self, sink: &str) -> (usize, Vec<Table>) {
        let (mut samples, mut tables) = (0, Vec::new());
        for parcel in self.outbox(sink).undelivered() {
            match &*parcel {
                Parcel::Samples(batch) => samples += batch.len(),
                Parcel::Rows(rows) => tables.push(rows.table),
            }
        }
        tables.dedup();
        (samples, tables)
    }
}

struct Bed {
    disk: SimDisk,
    catalog: tempfile::TempDir,
}

const HOUR: i64 = 3_600_000_000_000;

impl Bed {
    fn new() -> Bed {
        Bed { disk: SimDisk::new(), catalog: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> Arc<Store> {
        let clock = Arc::new(SimClock::at(Timestamp::parse("2026-03-01").unwrap()));
        let world = World::simulated(clock, Arc::new(self.disk.clone()), 7);
        let spec = StoreSpec::default();
        Arc::new(Store::open_with_catalog(world, Path::new("/data"), self.catalog.path(), spec).unwrap())
    }
}

fn pipeline(sinks: &str) -> PipelineSpec {
    let text = format!(
        "name = \"p\"\nlateness = \"0s\"\n[[stages]]\nname = \"hourly\"\napply.window = {{ every = \"1h\" }}\n\
         [[stages]]\nname = \"daily\"\napply.window = {{ every = \"1d\" }}\n{sinks}"
    );
    let spec: PipelineSpec = toml::from_str(&text).unwrap();
    assert_eq!(spec.faults(), []);
    spec
}

fn attach(store: &Arc<Store>, sinks: &str) -> (Arc<Pipelines>, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    let edges = Edges { couriers: fake.clone(), ..Edges::default() };
    (Pipelines::attach_to(store, vec![pipeline(sinks)], edges).unwrap(), fake)
}

/// Samples of an hour each.
fn append(store: &Store, hours: std::ops::Range<i64>) {
    let id = store.registry().intern(SeriesDef::new("m", Labels::default()));
    let start = Timestamp::parse("2026-02-01").unwrap();
    for hour in hours {
        let mut batch = Batch { source: "a".into(), ..Batch::default() };
        batch.push(id, start.plus(hour * HOUR), hour as f64);
        store.append(batch).unwrap();
    }
}

const OUT: &str = "[[sinks]]\nname = \"out\"\ninputs = [\"hourly\"]\nwrite.stdout = {}\n";

#[test]
fn without_sinks_all_rows_are_stored_and_with_some_what_a_store_names() {
    let store_daily = format!("{OUT}[[sinks]]\nname = \"kept\"\ninputs = [\"daily\"]\nwrite.store = {{}}\n");
    for (sinks, lengths) in [("", vec![HOUR, 24 * HOUR]), (OUT, vec![]), (&store_daily, vec![24 * HOUR])] {
        let bed = Bed::new();
        let store = bed.store();
        let (pipelines, _) = attach(&store, sinks);
        append(&store, 0..50);
        pipelines.end();
        store.flush().unwrap();
        let rows = store.snapshot().rows(Table::Rollups).unwrap();
        let every = rows.column_by_name("every").unwrap();
        let every = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(every);
        let mut told: Vec<i64> = every.values().to_vec();
        told.sort_unstable();
        told.dedup();
        assert_eq!(told, lengths, "{sinks}");
        pipelines.stop();
    }
}

#[test]
fn what_is_not_delivered_is_in_the_state_and_what_came_after_it_in_the_log() {
    let bed = Bed::new();
    let store = bed.store();
    let (pipelines, fake) = attach(&store, OUT);
    append(&store, 0..10);
    store.flush().unwrap();
    let before = fake.waiting("out");
    assert!(before.0 >= 9 && before.1 == [Table::Rollups], "{before:?}");
    let taken = fake.outbox("out").take(usize::MAX);
    append(&store, 10..20);
    taken.iter().for_each(|(number, _)| fake.outbox("out").done(*number));
    // A crash: what was delivered since the flush is not known to have been.
    pipelines.stop();
    drop((pipelines, store));
    let store = bed.store();
    let (pipelines, fake) = attach(&store, OUT);
    append(&store, 20..30);
    store.flush().unwrap();
    let (samples, tables) = fake.waiting("out");
    assert!(samples >= 29 && tables == [Table::Rollups], "{samples} {tables:?}");
    pipelines.stop();
}

#[test]
fn a_sink_that_is_full_makes_the_door_refuse_but_no_flush_wait() {
    let sinks = "[[sinks]]\nname = \"out\"\ninputs = [\"live\"]\nqueue = \"1kB\"\nwrite.stdout = {}\n";
    let bed = Bed::new();
    let store = bed.store();
    let (pipelines, fake) = attach(&store, sinks);
    let mut hour = 0;
    while store.ready().is_ok() {
        append(&store, hour..hour + 1);
        hour += 1;
    }
    store.flush().unwrap();
    assert!(fake.waiting("out").0 as i64 >= hour - 1);
    for (number, _) in fake.outbox("out").take(usize::MAX) {
        fake.outbox("out").done(number);
    }
    while store.ready().is_err() {
        std::thread::yield_now();
    }
    append(&store, hour..hour + 1);
    pipelines.end();
    store.flush().unwrap();
    pipelines.stop();
}

#[test]
fn what_has_no_room_is_counted_where_it_may_be_dropped() {
    let sinks =
        "[[sinks]]\nname = \"out\"\ninputs = [\"live\"]\nqueue = \"1kB\"\noverflow = \"drop\"\nwrite.stdout = {}\n";
    let bed = Bed::new();
    let store = bed.store();
    let (pipelines, _) = attach(&store, sinks);
    let dropped = || pipelines.stats().iter().map(|stage| stage.dropped.get("full").copied().unwrap_or(0)).sum::<u64>();
    let mut hour = 0;
    while dropped() == 0 {
        append(&store, hour..hour + 1);
        hour += 1;
    }
    let stats = pipelines.stats();
    let sink = stats.iter().find(|stage| stage.stage == "out").unwrap();
    assert_eq!((sink.kind, &*sink.inputs), ("stdout", &["live".to_owned()][..]));
    pipelines.stop();
}

#[test]
fn parcels_decode_to_what_was_encoded() {
    let mut batch = Batch { source: "a".into(), arrived: Timestamp::from_nanos(9), ..Batch::default() };
    batch.push(SeriesId(3), Timestamp::from_nanos(5), 0.5);
    let mut ends = crate::model::Ends::default();
    ends.push(SeriesId(1), Timestamp::from_nanos(7));
    let parcels = [Parcel::Samples(Arc::new(batch.clone())), Parcel::Rows(ends.take().unwrap())].map(Arc::new);
    let state = encode(&parcels);
    let decoded = decode(&state).unwrap();
    assert!(matches!(&decoded[0], Parcel::Samples(decoded) if **decoded == batch));
    assert!(matches!((&decoded[1], &*parcels[1]), (Parcel::Rows(one), Parcel::Rows(other)) if one == other));
    assert!((1..state.len()).all(|cut| decode(&state[..cut]).is_none_or(|decoded| decoded.len() < 2)));
}
