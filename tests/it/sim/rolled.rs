//! Rollups: what the store says of each window, and what its samples say.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type, TimestampNanosecondType, UInt32Type, UInt64Type};
use plimsoll::model::{Keep, Retention, SeriesId, Span, Table};
use plimsoll::stats::Sketch;
use plimsoll::store::{Snapshot, Store, StoreSpec, Sync};

use super::bed::{Bed, EVERY, Oldest, Settings, told};
use super::load::{batch, series_of};
use super::truth::{Contents, same};
use super::workload::start;

/// One window: count, bits of min, max, first, last; the sketch; the sum.
#[derive(Clone, Debug)]
pub struct Rolled {
    count: u64,
    bits: [u64; 4],
    sketch: Vec<u8>,
    sum: f64,
}

/// Sums may differ by their order; nothing else may.
impl PartialEq for Rolled {
    fn eq(&self, other: &Rolled) -> bool {
        let near = (self.sum - other.sum).abs() <= 1e-9 * self.sum.abs().max(1.0);
        near && (self.count, self.bits, &self.sketch) == (other.count, other.bits, &other.sketch)
    }
}

pub type Windows = BTreeMap<(u32, i64), Rolled>;

/// The rows of `rollups`.
pub fn rollups(store: &Store, snapshot: &Snapshot) -> Result<Windows, String> {
    let rows = snapshot.rows(Table::Rollups).map_err(|error| format!("rollups do not read: {}", told(&error)))?;
    let number = |name: &str, row: usize| rows[name].as_primitive::<Float64Type>().value(row);
    let mut windows = Windows::new();
    for row in 0..rows.num_rows() {
        let series = rows["series"].as_primitive::<UInt32Type>().value(row);
        let start = rows["time"].as_primitive::<TimestampNanosecondType>().value(row);
        let every = rows["every"].as_primitive::<Int64Type>().value(row);
        let rolled = Rolled {
            count: rows["count"].as_primitive::<UInt64Type>().value(row),
            bits: ["min", "max", "first", "last"].map(|name| number(name, row).to_bits()),
            sketch: rows["sketch"].as_binary::<i32>().value(row).to_vec(),
            sum: number("sum", row),
        };
        let key = (series_of(store, SeriesId(series)), start);
        if every != EVERY || windows.insert(key, rolled).is_some() {
            return Err(format!("window {key:?} of {every} ns is there twice or of no stage"));
        }
    }
    Ok(windows)
}

/// What the rows must be.
fn recomputed(samples: &Contents) -> Windows {
    let mut groups: BTreeMap<(u32, i64), Vec<f64>> = BTreeMap::new();
    for (&(series, time), &bits) in samples {
        groups.entry((series, time.div_euclid(EVERY) * EVERY)).or_default().push(f64::from_bits(bits));
    }
    groups.into_iter().map(|(key, values)| (key, roll(&values))).collect()
}

fn roll(values: &[f64]) -> Rolled {
    let (mut sketch, mut bytes) = (Sketch::new(), Vec::new());
    values.iter().for_each(|&value| sketch.add(value));
    sketch.encode(&mut bytes);
    let least = values.iter().copied().reduce(f64::min).unwrap();
    let most = values.iter().copied().reduce(f64::max).unwrap();
    let ends = [least, most, values[0], values[values.len() - 1]];
    Rolled { count: values.len() as u64, bits: ends.map(f64::to_bits), sketch: bytes, sum: values.iter().sum() }
}

/// Holds the rows against the samples of the same snapshot. Of windows that begin before the oldest sample that is kept
/// some samples may have gone since: nothing is said of them, but that they are not kept longer than they may be.
pub fn check(store: &Store, snapshot: &Snapshot, samples: &Contents, oldest: Oldest) -> Result<Windows, String> {
    let found = rollups(store, snapshot)?;
    if let Some((key, _)) = found.iter().find(|((_, start), _)| *start < oldest.rollups) {
        return Err(format!("rollups: window {key:?} is older than what is kept"));
    }
    let is_whole = |(series, start): &(u32, i64)| *start >= oldest.of(*series).max(oldest.rollups);
    let kept = |windows: Windows| windows.into_iter().filter(|(key, _)| is_whole(key)).collect::<Windows>();
    let (found, wanted) = (kept(found), kept(recomputed(samples)));
    same(&found, &wanted).map_err(|told| format!("rollups: {told}"))?;
    Ok(found)
}

#[test]
fn a_window_whose_samples_are_gone_in_part_stays_as_it_was_rolled_up() {
    const MINUTE: i64 = EVERY / 60;
    let keep = Keep::For(Duration::from_secs(10 * 3600));
    let retention = Retention { samples: keep, ..Retention::default() };
    let store = StoreSpec { sync: Sync::Always, retention, ..StoreSpec::default() };
    let bed = Bed::new(Settings { store, shards: 1 }, start());
    let node = bed.open().unwrap();
    let put = |minutes: &[i64]| {
        let points: Vec<_> = minutes.iter().map(|minute| (0, start().nanos() + minute * MINUTE, 1.0)).collect();
        node.store.append(batch(&node.store, &points)).unwrap();
        node.store.flush().unwrap();
    };
    let counts = || {
        let windows = rollups(&node.store, &node.store.snapshot()).unwrap();
        windows.into_values().map(|window| window.count).collect::<Vec<_>>()
    };
    put(&[10, 20, 50, 70, 80, 130]);
    put(&[25]);
    assert_eq!(counts(), [4, 2, 1]);
    bed.clock.advance(Duration::from_secs(10 * 3600 + 1800));
    put(&[40, 75]);
    assert_eq!(node.store.snapshot().scan(vec![SeriesId(0)], Span::ALL).next().unwrap().unwrap().samples.len(), 6);
    assert_eq!(counts(), [4, 3, 1]);
}
