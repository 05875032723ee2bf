//! Ways in that stand before another: one adds labels, one takes nothing.

use std::sync::Arc;

use crate::flow::{Intake, Refusal};
use crate::model::{Batch, Description, Labels, SeriesDef, SeriesId};

/// Gives each series labels on top of its own, whose values they replace. A [`super::Gather`] over it must share no names
/// with one over another.
pub struct Labelled {
    pub inner: Arc<dyn Intake>,
    pub labels: Vec<(String, String)>,
}

impl Labelled {
    fn labelled(&self, def: &SeriesDef) -> SeriesDef {
        let added = self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let labels = Labels::new(def.labels.iter().chain(added));
        SeriesDef { labels, ..def.clone() }
    }
}

impl Intake for Labelled {
    fn intern(&self, def: &SeriesDef) -> Result<SeriesId, Refusal> {
        self.inner.intern(&self.labelled(def))
    }

    fn find(&self, def: &SeriesDef) -> Option<SeriesId> {
        self.inner.find(&self.labelled(def))
    }

    fn describe(&self, metric: &str, about: &Description) {
        self.inner.describe(metric, about);
    }

    fn accept(&self, batch: Batch) -> Result<(), Refusal> {
        self.inner.accept(batch)
    }
}

/// Takes everything and keeps nothing: to see whether an input is good before any of it is taken.
pub struct Nowhere;

impl Intake for Nowhere {
    fn intern(&self, def: &SeriesDef) -> Result<SeriesId, Refusal> {
        def.check_size()?;
        Ok(SeriesId(0))
    }

    fn describe(&self, _: &str, _: &Description) {}

    fn accept(&self, _: Batch) -> Result<(), Refusal> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Gather;
    use crate::ingest::gather::testing::{Recorder, all_times};
    use crate::model::Timestamp;

    #[test]
    fn added_labels_replace_those_that_came() {
        let recorder = Arc::new(Recorder { is_new: true, ..Recorder::default() });
        let labels = vec![("job".to_owned(), "batch".to_owned()), ("gone".to_owned(), String::new())];
        let labelled = Labelled { inner: recorder.clone(), labels };
        let mut gather = Gather::new(&labelled, all_times());
        let own = [("job", "x"), ("gone", "x"), ("code", "200")];
        gather.sample(1, "up", &own, None, Timestamp::from_nanos(7), 1.0).unwrap();
        gather.flush().unwrap();
        gather.end("up", &own, Timestamp::from_nanos(8)).unwrap();
        gather.flush().unwrap();
        assert_eq!(recorder.samples(), [(r#"up{code="200",job="batch"}"#.to_owned(), 7, 1.0)]);
        assert_eq!(recorder.batches.lock().unwrap()[1].rows.len(), 1);
        let found = labelled.find(&SeriesDef::new("up", Labels::new(own)));
        assert_eq!((found, recorder.find(&SeriesDef::new("up", Labels::new(own)))), (Some(SeriesId(0)), None));
    }
}
