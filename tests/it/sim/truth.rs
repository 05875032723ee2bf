//! What the store must hold: the last acknowledged value of each series and time, nothing else.

use std::collections::BTreeMap;
use std::fmt::Debug;

use plimsoll::model::{SeriesId, Span};
use plimsoll::store::{Snapshot, Store};

use super::bed::Oldest;
use super::load::{Point, series_of};

/// Bits of the value by series and time.
pub type Contents = BTreeMap<(u32, i64), u64>;

/// What was acknowledged, and what was sent and not answered.
#[derive(Clone, Default)]
pub struct Truth {
    pub kept: Contents,
    pub pending: Option<Vec<Point>>,
}

impl Truth {
    pub fn acknowledge(&mut self) {
        for (series, time, value) in self.pending.take().unwrap_or_default() {
            self.kept.insert((series, time), value.to_bits());
        }
    }

    /// What a query sees.
    pub fn seen(&self, oldest: Oldest) -> Contents {
        let is_seen = |(series, time): &(u32, i64)| *time >= oldest.of(*series);
        self.kept.iter().filter(|(key, _)| is_seen(key)).map(|(&key, &bits)| (key, bits)).collect()
    }

    /// Holds what was found against what must be there. An unanswered batch may be there whole or not at all: which of
    /// the two is known from now on.
    pub fn settle(&mut self, found: &Contents, oldest: Oldest) -> Result<(), String> {
        let mut with = self.clone();
        with.acknowledge();
        let without = Truth { kept: self.kept.clone(), pending: None };
        let was_pending = self.pending.is_some();
        *self = if was_pending && with.seen(oldest) == *found { with } else { without };
        let pending = if was_pending { " (the unanswered batch is not there whole)" } else { "" };
        same(found, &self.seen(oldest)).map_err(|told| format!("{told}{pending}"))
    }
}

/// Everything that a snapshot shows.
pub fn contents(store: &Store, snapshot: &Snapshot) -> Result<Contents, String> {
    let mut contents = Contents::new();
    let ids = (0..snapshot.series_count() as u32).map(SeriesId).collect();
    for run in snapshot.scan(ids, Span::ALL) {
        let run = run.map_err(|error| format!("a scan fails: {}", super::bed::told(&error)))?;
        let series = series_of(store, run.series);
        for sample in run.samples {
            let before = contents.insert((series, sample.time.nanos()), sample.value.to_bits());
            if before.is_some() {
                return Err(format!("series {series} has two samples at {}", sample.time));
            }
        }
    }
    Ok(contents)
}

/// What differs, in short.
pub fn same<K: Ord + Debug, V: PartialEq + Debug>(
    found: &BTreeMap<K, V>,
    wanted: &BTreeMap<K, V>,
) -> Result<(), String> {
    if found == wanted {
        return Ok(());
    }
    let told = |what: &str, keys: Vec<String>| match keys.len() {
        0 => String::new(),
        n => format!("{n} {what}: {}; ", keys[..n.min(4)].join(", ")),
    };
    let missing = wanted.keys().filter(|key| !found.contains_key(key)).map(|key| format!("{key:?}"));
    let extra = found.keys().filter(|key| !wanted.contains_key(key)).map(|key| format!("{key:?}"));
    let wrong = found.iter().filter_map(|(key, value)| {
        let wanted = wanted.get(key).filter(|wanted| *wanted != value)?;
        Some(format!("{key:?} is {value:?} and not {wanted:?}"))
    });
    let (missing, extra, wrong) = (missing.collect(), extra.collect(), wrong.collect());
    Err(told("missing", missing) + &told("too many", extra) + &told("wrong", wrong))
}
