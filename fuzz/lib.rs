//! What the targets share: an intake that holds what it is given against what parsers promise.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plimsoll::flow::{Intake, Refusal};
use plimsoll::ingest::{Gather, Known, TimeBounds};
use plimsoll::model::{Batch, Description, SeriesDef, SeriesId, Timestamp};

/// 2026-01-01T00:00:00Z.
pub const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// Numbers series, and panics where a batch has what no parser may hand on.
#[derive(Default)]
pub struct Judge {
    series: Mutex<HashMap<Vec<u8>, u32>>,
    samples: Mutex<u64>,
}

fn bounds() -> TimeBounds {
    TimeBounds::new(NOW, Duration::from_secs(86_400), None)
}

impl Judge {
    /// Runs a parser over what was made of the input. What it accepts must be what arrives.
    pub fn watch(&self, known: &Arc<Known>, parse: impl FnOnce(&mut Gather<'_>)) {
        let before = *self.samples.lock().unwrap();
        let mut gather = Gather::sharing(self, bounds(), known.clone());
        parse(&mut gather);
        gather.flush().expect("this intake takes everything");
        assert_eq!(gather.accepted(), *self.samples.lock().unwrap() - before);
        assert!(gather.faults.first.len() as u64 <= gather.faults.count);
    }
}

impl Intake for Judge {
    fn intern(&self, def: &SeriesDef) -> Result<SeriesId, Refusal> {
        assert!(!def.metric.is_empty(), "a series without a metric");
        assert!(usize::from(def.measurement_len) <= def.metric.len());
        let names: Vec<&str> = def.labels.iter().map(|(name, _)| name).collect();
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "labels out of order: {names:?}");
        let mut bytes = Vec::new();
        def.encode(&mut bytes);
        assert_eq!(SeriesDef::decode(&mut &bytes[..]).as_ref(), Some(def), "a definition the log would not give again");
        let mut series = self.series.lock().unwrap();
        let next = series.len() as u32;
        Ok(SeriesId(*series.entry(def.identity()).or_insert(next)))
    }

    fn find(&self, def: &SeriesDef) -> Option<SeriesId> {
        self.series.lock().unwrap().get(&def.identity()).copied().map(SeriesId)
    }

    fn describe(&self, _metric: &str, _about: &Description) {}

    fn accept(&self, batch: Batch) -> Result<(), Refusal> {
        let known = self.series.lock().unwrap().len() as u32;
        let (bounds, samples) = (bounds(), batch.len());
        assert!(batch.times.len() == samples && batch.values.len() == samples);
        for (series, sample) in batch.iter() {
            assert!(series.0 < known, "a series that was never named");
            assert_eq!(bounds.refuse(sample.time, sample.value), None, "a sample that is not taken");
        }
        assert!(batch.rows.iter().all(|rows| rows.table.is_logged() && rows.batch.num_rows() > 0));
        *self.samples.lock().unwrap() += samples as u64;
        Ok(())
    }
}

/// Splits the first byte off as a choice; the rest is the input.
pub fn choice(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(&first, rest)| (first, rest))
}
