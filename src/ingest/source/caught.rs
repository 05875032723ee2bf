//! Readings out of a format that is read into a [`Gather`]: what a command prints, what is in a file.

use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;

use super::Readings;
use super::readings::{TEXTS_MAX, too_long};
use crate::flow::{Intake, Refusal};
use crate::ingest::{About, Faults, Gather, TimeBounds};
use crate::model::{Batch, Description, SeriesDef, SeriesId, Timestamp};

/// Takes what a parser gathers and keeps it, up to [`TEXTS_MAX`] of texts.
#[derive(Default)]
struct Catch(Mutex<Caught>);

#[derive(Default)]
struct Caught {
    numbers: HashMap<Vec<u8>, u32>,
    defs: Vec<SeriesDef>,
    /// Bytes of their texts.
    weight: usize,
    batches: Vec<Batch>,
}

impl Intake for Catch {
    fn intern(&self, def: &SeriesDef) -> Result<SeriesId, Refusal> {
        let mut caught = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = caught.defs.len() as u32;
        let identity = def.identity();
        if let Some(&number) = caught.numbers.get(&identity) {
            return Ok(SeriesId(number));
        }
        caught.weight += identity.len() + def.unit.len() + def.help.len();
        if caught.weight > TEXTS_MAX {
            return Err(Refusal::Closed { reason: too_long().0 });
        }
        caught.numbers.insert(identity, next);
        caught.defs.push(def.clone());
        Ok(SeriesId(next))
    }

    /// What is said apart from samples is left: the samples bring it again.
    fn describe(&self, _metric: &str, _about: &Description) {}

    fn accept(&self, batch: Batch) -> Result<(), Refusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).batches.push(batch);
        Ok(())
    }
}

/// What `parse` gathers, as readings: each sample keeps its time. And what the parser refused.
///
/// # Errors
/// As `parse`.
pub(in crate::ingest) fn readings_of<E: From<Refusal>>(
    parse: impl FnOnce(&mut Gather<'_>) -> Result<(), E>,
) -> Result<(Readings, Faults), E> {
    let catch = Catch::default();
    // Whoever stores them has bounds of time.
    let all = TimeBounds { earliest: Timestamp::from_nanos(i64::MIN), latest: Timestamp::from_nanos(i64::MAX) };
    let mut gather = Gather::new(&catch, all);
    parse(&mut gather)?;
    gather.flush()?;
    let faults = std::mem::take(&mut gather.faults);
    let Caught { defs, batches, .. } = catch.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut readings = Readings::default();
    for (series, sample) in batches.iter().flat_map(Batch::iter) {
        let def = &defs[series.index()];
        let labels: Vec<(&str, &str)> = def.labels.iter().collect();
        let about = About { kind: Some(def.kind), unit: &def.unit, help: &def.help };
        readings.put_at(&def.metric, &labels, about, sample.time, sample.value);
    }
    Ok((readings, faults))
}
