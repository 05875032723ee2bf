//! What passed by a stage before: the samples of the store, as the stages above it would have handed them on.

use std::sync::{Arc, Weak};

use crate::flow::{History, Past};
use crate::model::{Sample, SeriesId, Span};
use crate::store::{Scan, Snapshot, Store};

/// All samples of the store, or those of some series.
pub(super) struct Stored {
    pub store: Weak<Store>,
    pub wanted: Option<Arc<dyn Fn(SeriesId) -> bool + Send + Sync>>,
}

struct StoredPast {
    snapshot: Option<Snapshot>,
    /// Of all times: what it read of the files serves the next series, too.
    scan: Option<Scan>,
    wanted: Option<Arc<dyn Fn(SeriesId) -> bool + Send + Sync>>,
}

impl History for Stored {
    fn open(&self) -> Box<dyn Past> {
        let snapshot = self.store.upgrade().map(|store| store.history());
        let scan = snapshot.as_ref().map(|snapshot| snapshot.scan(Vec::new(), Span::ALL));
        Box::new(StoredPast { snapshot, scan, wanted: self.wanted.clone() })
    }
}

impl StoredPast {
    fn is_wanted(&self, series: SeriesId) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted(series))
    }
}

impl Past for StoredPast {
    fn series(&self, span: Span) -> Vec<SeriesId> {
        let Some(snapshot) = &self.snapshot else { return Vec::new() };
        let all = (0..snapshot.series_count() as u32).map(SeriesId).filter(|&id| self.is_wanted(id));
        let touched = all.filter(|&id| snapshot.time_range(id).is_some_and(|(first, last)| span.touches(first, last)));
        snapshot.registry().file_order(touched).into_iter().map(|(_, id)| id).collect()
    }

    fn in_order(&self, series: Vec<SeriesId>) -> Vec<SeriesId> {
        let Some(snapshot) = &self.snapshot else { return series };
        snapshot.registry().file_order(series).into_iter().map(|(_, id)| id).collect()
    }

    fn read(&mut self, series: SeriesId, span: Span, take: &mut dyn FnMut(&[Sample])) -> bool {
        if !self.is_wanted(series) {
            return true;
        }
        let Some(scan) = &mut self.scan else { return false };
        scan.read_in_pieces(series, span, take)
            .inspect_err(|error| {
                tracing::warn!(%error, "a stage cannot read a series again: its windows stay as they are");
            })
            .is_ok()
    }

    fn oldest(&self, series: SeriesId) -> i64 {
        self.snapshot.as_ref().map_or(i64::MIN, |snapshot| snapshot.oldest(series).nanos())
    }

    fn begins(&self, series: SeriesId) -> Option<i64> {
        let snapshot = self.snapshot.as_ref().filter(|_| self.is_wanted(series))?;
        snapshot.time_range(series).map(|(first, _)| first.nanos())
    }
}

/// What several histories hold together; of two samples of a series for one time the later one's counts.
pub(super) struct Union(pub Vec<Arc<dyn History>>);

struct UnionPast(Vec<Box<dyn Past>>);

impl History for Union {
    fn open(&self) -> Box<dyn Past> {
        Box::new(UnionPast(self.0.iter().map(|history| history.open()).collect()))
    }
}

impl Past for UnionPast {
    fn series(&self, span: Span) -> Vec<SeriesId> {
        let mut all: Vec<SeriesId> = self.0.iter().flat_map(|past| past.series(span)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn read(&mut self, series: SeriesId, span: Span, take: &mut dyn FnMut(&[Sample])) -> bool {
        let mut all: Vec<Sample> = Vec::new();
        let is_read = self.0.iter_mut().all(|past| past.read(series, span, &mut |piece| all.extend_from_slice(piece)));
        // Stable: of one time the last comes last.
        all.sort_by_key(|sample| sample.time);
        all.reverse();
        all.dedup_by_key(|sample| sample.time);
        all.reverse();
        take(&all);
        is_read
    }

    fn oldest(&self, series: SeriesId) -> i64 {
        self.0.iter().map(|past| past.oldest(series)).max().unwrap_or(i64::MIN)
    }

    fn begins(&self, series: SeriesId) -> Option<i64> {
        self.0.iter().filter_map(|past| past.begins(series)).min()
    }
}
