//! Stages that hand on a part of what comes and change nothing: by what a series is, and by each sample.

use std::sync::Arc;

use super::series::{Names, count};
use crate::flow::{Cut, Dropped, History, Out, Past, Shard, Stage, Told};
use crate::model::{Batch, Sample, SeriesDef, SeriesId, Span};

/// Says what is handed on. What it says of a sample depends on the sample and its series alone.
pub(super) trait Choose: Send + Sync {
    /// What is to be known of a series.
    fn series(&self, def: &SeriesDef) -> u64;

    /// Whether a sample of a series, of which `known` is known, goes on.
    ///
    /// # Errors
    /// Why not; empty where that is not worth counting.
    fn sample(&self, known: u64, sample: Sample) -> Result<(), &'static str>;

    /// Whether it may hand on some samples of a series and others not.
    fn parts_series(&self) -> bool {
        false
    }
}

/// The stage.
pub(super) struct Choosing {
    choose: Arc<dyn Choose>,
    names: Names,
    known: Vec<Option<u64>>,
    /// What is late for those behind is not what was late here, where samples of a series are left out between.
    told: Option<Told>,
    dropped: Dropped,
}

impl Choosing {
    pub fn new(choose: Arc<dyn Choose>, names: Names) -> Self {
        let told = choose.parts_series().then(Told::default);
        Choosing { choose, names, known: Vec::new(), told, dropped: Dropped::new() }
    }

    #[inline]
    fn verdict(&mut self, series: SeriesId, sample: Sample) -> Result<(), &'static str> {
        if series.index() >= self.known.len() {
            self.known.resize(series.index() + 1, None);
        }
        let known = match self.known[series.index()] {
            Some(known) => known,
            None => {
                let def = self.names.def(series).ok_or("the store is closed")?;
                *self.known[series.index()].insert(self.choose.series(&def))
            }
        };
        self.choose.sample(known, sample)
    }

    /// The part that goes on: the batch itself where that is all of it.
    fn chosen(&mut self, batch: &Arc<Batch>, counts: bool) -> Arc<Batch> {
        let mut chosen = batch.part(batch.len());
        for (series, sample) in batch.iter() {
            match self.verdict(series, sample) {
                Ok(()) => chosen.push(series, sample.time, sample.value),
                Err(reason) if counts && !reason.is_empty() => count(&mut self.dropped, reason, 1),
                Err(_) => {}
            }
        }
        if chosen.len() == batch.len() { batch.clone() } else { Arc::new(chosen) }
    }
}

impl Stage for Choosing {
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        let chosen = self.chosen(batch, true);
        if let Some(told) = &mut self.told {
            for (series, sample) in chosen.iter() {
                told.is_new(series, sample.time.nanos());
            }
        }
        out.batch(chosen);
    }

    fn late(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        let late = self.chosen(batch, true);
        let Some(told) = &mut self.told else { return out.late(late) };
        let (new, late) = told.divide(&late);
        out.batch(Arc::new(new));
        out.late(Arc::new(late));
    }

    fn ahead(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        out.ahead(self.chosen(batch, false));
    }

    fn checkpoint(&mut self, _cut: Cut, _out: &mut Out<'_>) -> Vec<u8> {
        self.told.as_ref().map_or_else(Vec::new, Told::state)
    }

    fn restore(&mut self, state: &[u8], shard: Shard) -> bool {
        self.told.as_mut().is_none_or(|told| told.restore(state, |series| shard.has(series)).is_some())
    }

    fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }
}

/// What such a stage would have handed on.
pub(super) struct Chosen {
    pub inner: Arc<dyn History>,
    pub choose: Arc<dyn Choose>,
    pub names: Names,
}

struct ChosenPast {
    inner: Box<dyn Past>,
    choose: Arc<dyn Choose>,
    names: Names,
}

impl History for Chosen {
    fn open(&self) -> Box<dyn Past> {
        Box::new(ChosenPast { inner: self.inner.open(), choose: self.choose.clone(), names: self.names.clone() })
    }
}

impl Past for ChosenPast {
    fn series(&self, span: Span) -> Vec<SeriesId> {
        self.inner.series(span)
    }

    fn read(&mut self, series: SeriesId, span: Span, take: &mut dyn FnMut(&[Sample])) -> bool {
        let Some(def) = self.names.def(series) else { return false };
        let (choose, known) = (&self.choose, self.choose.series(&def));
        let mut chosen = Vec::new();
        self.inner.read(series, span, &mut |piece| {
            chosen.clear();
            chosen.extend(piece.iter().filter(|sample| choose.sample(known, **sample).is_ok()));
            take(&chosen);
        })
    }

    fn oldest(&self, series: SeriesId) -> i64 {
        self.inner.oldest(series)
    }

    fn begins(&self, series: SeriesId) -> Option<i64> {
        self.inner.begins(series)
    }
}
