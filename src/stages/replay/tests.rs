//! A replay against what was found live, by seeds.

use std::path::Path;

use super::*;
use crate::config::{DEFAULT_PIPELINE, read_pipeline};
use crate::model::{Batch, Labels, SeriesDef};
use crate::stages::Pipelines;
use crate::store::StoreSpec;
use crate::world::{Chance, SimClock, SimDisk, World};

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;

/// A store on a simulated disk.
struct Bed {
    store: Arc<Store>,
    clock: Arc<SimClock>,
    _catalog: tempfile::TempDir,
}

impl Bed {
    fn new() -> Bed {
        Bed::with(StoreSpec::default())
    }

    fn with(spec: StoreSpec) -> Bed {
        let catalog = tempfile::tempdir().unwrap();
        let clock = Arc::new(SimClock::at(at(0)));
        let kept = clock.clone();
        let world = World::simulated(clock, Arc::new(SimDisk::new()), 7);
        let store = Store::open_with_catalog(world, Path::new("/data"), catalog.path(), spec);
        Bed { store: Arc::new(store.unwrap()), clock: kept, _catalog: catalog }
    }
}

fn at(minutes: i64) -> Timestamp {
    Timestamp::parse("2026-03-01").unwrap().plus(minutes * MINUTE)
}

fn text(series: u32) -> SeriesDef {
    let metric = ["load", "requests_total", "busy"][series as usize % 3];
    SeriesDef::new(metric, Labels::new([("n", series.to_string())]))
}

/// Some hours of six series, two of which move together, one of which stops for a while: series, time and value, in the
/// order of time.
fn samples(chance: &Chance) -> Vec<(u32, Timestamp, f64)> {
    let (mut all, mut sums) = (Vec::new(), [0.0; 6]);
    let mut common = 0.0;
    for step in 0..2000 {
        common = chance.below(100) as f64;
        for series in 0..6_u32 {
            let noise = chance.below(20) as f64;
            let value = match series {
                0 | 3 => common + noise / 10.0,
                1 | 4 => {
                    sums[series as usize] += noise;
                    sums[series as usize]
                }
                _ => noise + if (900..905).contains(&step) { 500.0 } else { 0.0 },
            };
            let silent = series == 5 && (700..1100).contains(&step) || chance.below(50) == 0;
            if !silent {
                let time = at(0).plus(step * 20 * SECOND + i64::from(series) * SECOND);
                all.push((series, time, value));
            }
        }
    }
    assert!(common >= 0.0);
    all
}

/// Stores samples, the series numbered in an order of their own.
fn fill(store: &Arc<Store>, samples: &[(u32, Timestamp, f64)], numbers: &[u32], chance: &Chance) {
    numbers.iter().for_each(|&series| {
        store.registry().intern(text(series));
    });
    let mut rest = samples;
    while !rest.is_empty() {
        let (some, others) = rest.split_at((1 + chance.below(2000) as usize).min(rest.len()));
        let mut batch = Batch { source: "live".into(), ..Batch::default() };
        batch.arrived = some[some.len() - 1].1;
        some.iter().for_each(|&(series, time, value)| batch.push(store.registry().intern(text(series)), time, value));
        store.append(batch).unwrap();
        if chance.below(4) == 0 {
            store.flush().unwrap();
        }
        rest = others;
    }
}

fn pipeline(shards: usize) -> PipelineSpec {
    let text = DEFAULT_PIPELINE.replace("[[stages]]\nname = \"hourly\"", "[[stages]]\nname = \"pauses\"\napply.window = { session = \"5m\" }\n[[stages]]\nname = \"smooth\"\napply.window = { every = \"10m\", length = \"30m\" }\n[[stages]]\nname = \"hourly\"");
    PipelineSpec { shards, ..read_pipeline("default", &text).unwrap() }
}

fn spec(from: i64, to: i64) -> ReplaySpec {
    ReplaySpec::new(Span::new(at(from), at(to)))
}

fn replayed(store: &Arc<Store>, pipeline: &PipelineSpec, spec: &ReplaySpec) -> Replayed {
    replay(store, pipeline, spec, &Edges::default(), &mut |_| ()).unwrap()
}

#[test]
fn the_hash_depends_on_the_samples_alone() {
    for seed in 0..3 {
        let chance = Chance::seeded(seed);
        let samples = samples(&chance);
        let mut hashes: Vec<(String, String)> = Vec::new();
        for numbers in [[0, 1, 2, 3, 4, 5], [5, 3, 1, 4, 0, 2]] {
            let bed = Bed::new();
            fill(&bed.store, &samples, &numbers, &chance);
            for shards in 1..=4 {
                let spec = ReplaySpec {
                    stretch_samples: 1 + chance.below(20_000) as usize,
                    batch_samples: 1 + chance.below(3000) as usize,
                    ..spec(60, 480)
                };
                let found = replayed(&bed.store, &pipeline(shards), &spec);
                assert!(found.tables().iter().all(|&table| found.rows(table).unwrap().num_rows() > 0));
                hashes.push((found.hash().unwrap(), format!("{shards} shards, {numbers:?}, {spec:?}")));
            }
        }
        let (first, others) = hashes.split_first().unwrap();
        others.iter().for_each(|other| assert_eq!(other.0, first.0, "seed {seed}: {} and {}", other.1, first.1));
        // Another sample, another hash.
        let bed = Bed::new();
        let mut changed = samples.clone();
        changed[3000].2 += 1e-9;
        fill(&bed.store, &changed, &[], &chance);
        assert_ne!(replayed(&bed.store, &pipeline(1), &spec(60, 480)).hash().unwrap(), first.0, "seed {seed}");
    }
}

#[test]
fn what_ran_live_is_found_again_whatever_part_is_asked_for() {
    for seed in 10..13 {
        let chance = Chance::seeded(seed);
        let bed = Bed::new();
        let live = Pipelines::attach(&bed.store, vec![pipeline(1 + chance.below(3) as usize)]).unwrap();
        fill(&bed.store, &samples(&chance), &[], &chance);
        live.end();
        bed.store.flush().unwrap();
        live.stop();
        for _ in 0..4 {
            let from = chance.below(400) as i64;
            // Detectors learn from the beginning on.
            let warm_up = Duration::from_secs(86_400);
            let spec = ReplaySpec { warm_up, ..spec(from, from + 1 + chance.below(300) as i64) };
            let found = replayed(&bed.store, &pipeline(2), &spec);
            for table in found.tables() {
                assert_same(&found, table, seed);
            }
        }
    }
}

/// The tables whose rows say what the samples say, however late these came.
const ANEW: [Table; 4] = [Table::Rollups, Table::Sliding, Table::Sessions, Table::Correlations];

/// Samples that came late, some of them twice.
fn disordered(samples: &[(u32, Timestamp, f64)], chance: &Chance) -> Vec<(u32, Timestamp, f64)> {
    let mut keyed: Vec<(i64, (u32, Timestamp, f64))> = Vec::new();
    for &sample in samples {
        let late = match chance.below(200) {
            0 => chance.below(7200),
            1..20 => chance.below(55),
            _ => 0,
        };
        keyed.push((sample.1.nanos() + late as i64 * SECOND, sample));
        if chance.below(500) == 0 {
            let again = (sample.0, sample.1, sample.2 + 1.0);
            keyed.push((sample.1.nanos() + (1 + chance.below(600)) as i64 * SECOND, again));
        }
    }
    keyed.sort_by_key(|(came, _)| *came);
    keyed.into_iter().map(|(_, sample)| sample).collect()
}

#[test]
fn what_came_late_live_is_found_again() {
    for seed in 30..33 {
        let chance = Chance::seeded(seed);
        let bed = Bed::new();
        let live = Pipelines::attach(&bed.store, vec![pipeline(1 + chance.below(3) as usize)]).unwrap();
        fill(&bed.store, &disordered(&samples(&chance), &chance), &[], &chance);
        live.end();
        if !bed.store.flush().unwrap() {
            live.settle();
        }
        live.stop();
        let found = replayed(&bed.store, &pipeline(2), &spec(0, 720));
        for table in ANEW {
            assert_same(&found, table, seed);
        }
    }
}

#[track_caller]
fn assert_same(found: &Replayed, table: Table, seed: u64) {
    let differences = found.differences(table).unwrap();
    let told = arrow::util::pretty::pretty_format_batches(&[differences.rows]).unwrap();
    assert!(differences.how.is_empty(), "seed {seed}, {}, {:?}:\n{told}", table.name(), differences.how);
}

#[test]
fn rows_that_are_not_found_again_are_taken_back_and_others_stay() {
    let chance = Chance::seeded(21);
    let bed = Bed::new();
    fill(&bed.store, &samples(&chance), &[], &chance);
    let write = |spec: &ReplaySpec| {
        let found = replayed(&bed.store, &pipeline(1), spec);
        let (rows, stay) = found.to_write().unwrap();
        rows.into_iter().for_each(|rows| bed.store.add_rows(rows));
        bed.store.flush().unwrap();
        stay
    };
    assert_eq!(write(&spec(0, 600)), 0);
    let before = replayed(&bed.store, &pipeline(1), &spec(0, 600));
    assert!(before.tables().iter().all(|&table| before.differences(table).unwrap().how.is_empty()));
    // Rows of windows, sessions and pairs that are none, in the span and out of it.
    let stray = |table: Table, minutes: i64| {
        let rows = before.stored(table).unwrap();
        let mut columns = rows.slice(0, 1).columns().to_vec();
        let at_time = rows.schema().index_of("time").unwrap();
        let time = |time: Timestamp| -> arrow::array::ArrayRef {
            Arc::new(arrow::array::TimestampNanosecondArray::from(vec![time.nanos()]).with_timezone("UTC"))
        };
        columns[at_time] = time(at(minutes));
        if table == Table::Correlations {
            columns[at_time + 1] = time(at(minutes + 60));
        }
        bed.store.add_rows(Rows { table, batch: RecordBatch::try_new(rows.schema(), columns).unwrap() });
    };
    for table in ANEW {
        stray(table, 301);
        stray(table, 501);
    }
    let of = |spec: &ReplaySpec, table: Table| replayed(&bed.store, &pipeline(1), spec).differences(table).unwrap().how;
    ANEW.iter().for_each(|&table| assert_eq!(of(&spec(0, 600), table), [Difference::Stored; 2], "{}", table.name()));
    assert_eq!(write(&spec(240, 420)), 0);
    ANEW.iter().for_each(|&table| assert_eq!(of(&spec(0, 600), table), [Difference::Stored], "{}", table.name()));
    bed.store.compact().unwrap();
    ANEW.iter().for_each(|&table| assert_eq!(of(&spec(0, 500), table), [], "{}", table.name()));
}

#[test]
fn rows_of_samples_that_are_no_longer_kept_stay() {
    let chance = Chance::seeded(22);
    let day = crate::model::Keep::For(Duration::from_secs(86_400));
    let rule = crate::model::MetricRule { metric: "load".parse().unwrap(), keep: day };
    let retention = crate::model::Retention { metrics: vec![rule], ..Default::default() };
    let bed = Bed::with(StoreSpec { retention, ..StoreSpec::default() });
    fill(&bed.store, &samples(&chance), &[], &chance);
    let write = || {
        let found = replayed(&bed.store, &pipeline(1), &spec(0, 720));
        found.to_write().unwrap().0.into_iter().for_each(|rows| bed.store.add_rows(rows));
        bed.store.flush().unwrap();
    };
    let count = |table: Table| replayed(&bed.store, &pipeline(1), &spec(0, 720)).stored(table).unwrap().num_rows();
    let all = |table: Table| bed.store.snapshot().rows(table).unwrap();
    let all_samples = replayed(&bed.store, &pipeline(1), &spec(0, 720)).samples;
    write();
    let before = ANEW.map(all);
    let comparable = ANEW.map(count);
    // Of one metric the first five hours are gone.
    bed.clock.advance(Duration::from_secs(29 * 3600));
    assert!(replayed(&bed.store, &pipeline(1), &spec(0, 720)).samples < all_samples);
    write();
    assert_eq!(ANEW.map(all), before);
    assert!(ANEW.map(count).iter().zip(comparable).all(|(now, before)| *now < before), "{comparable:?}");
}
