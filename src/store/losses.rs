//! What cannot be read any more: set aside, told as a loss, and the rest served on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::aside::set_aside;
use super::core::unpoisoned;
use super::derived::series_rows;
use super::described::digest;
use super::error::told_with_causes;
use super::flush::Origin;
use super::points::Points;
use super::recovery::Broken;
use super::segment::{Cursor, IndexEntry, Segment, SegmentWriter};
use super::table_file::TableFile;
use super::{Store, StoreError};
use crate::catalog::{Commit, Loss, SegmentRecord, TableName};
use crate::model::Span;
use crate::world::FileRead;

/// Files in which a reader met damage: numbers and reasons.
#[derive(Default)]
pub(super) struct Suspects(Mutex<BTreeMap<u64, String>>);

impl Suspects {
    pub fn name(&self, number: u64, error: &StoreError) {
        if error.is_damage() {
            unpoisoned(self.0.lock()).insert(number, told_with_causes(error));
        }
    }

    fn take(&self) -> BTreeMap<u64, String> {
        std::mem::take(&mut *unpoisoned(self.0.lock()))
    }
}

impl Store {
    /// Rows that are lost, in the order they were missed.
    pub fn losses(&self) -> Vec<Loss> {
        self.catalog.losses()
    }

    /// Why not all that was acknowledged is served, or was it for certain; empty where all is well.
    pub fn degraded(&self) -> Vec<String> {
        let mut told = unpoisoned(self.notes.lock()).clone();
        let open = self.catalog.losses_open();
        if open > 0 {
            told.push(format!("{open} losses in system.losses: `plimsoll repair` lists them and takes note of them"));
        }
        told
    }

    /// Takes note of all losses: they stay in the table, and degrade the store no longer.
    pub fn acknowledge_losses(&self) -> Result<(), StoreError> {
        unpoisoned(self.notes.lock()).clear();
        Ok(self.catalog.commit(&Commit { acknowledge: true, ..Commit::default() })?)
    }

    /// Sets aside files in which readers met damage, saving what of them reads; how many.
    pub fn heal(&self) -> Result<usize, StoreError> {
        let suspects = self.suspects.take();
        let found = suspects.len();
        for (number, reason) in suspects {
            self.set_right(number, &reason)?;
        }
        Ok(found)
    }

    /// Saves what reads of a file that is not as it was written, sets it aside and tells the rest as lost.
    pub(super) fn set_right(&self, number: u64, reason: &str) -> Result<(), StoreError> {
        let _upkeep = unpoisoned(self.upkeep.lock());
        let view = self.view().clone();
        if let Some(segment) = view.segments.iter().find(|segment| segment.record.number == number) {
            return if self.is_whole(&segment.record) { Ok(()) } else { self.salvage(segment, reason) };
        }
        match view.files.iter().map(|file| &file.record).find(|record| record.number == number) {
            Some(record) if !self.is_whole(record) => self.give_up(vec![(record.clone(), reason.to_owned())]),
            _ => Ok(()),
        }
    }

    /// Whether every byte of a file is as it was written.
    fn is_whole(&self, record: &SegmentRecord) -> bool {
        let file = self.world.disk.open(&self.dir.join(&record.path));
        let is_as_written = |file: Arc<dyn FileRead>| {
            file.len() == record.bytes && digest(&*file, 0..record.bytes).is_ok_and(|found| found == record.digest)
        };
        file.is_ok_and(is_as_written)
    }

    /// Sets files aside whole.
    pub(super) fn give_up(&self, broken: Vec<Broken>) -> Result<(), StoreError> {
        let (series, others): (Vec<_>, Vec<_>) =
            broken.into_iter().partition(|(record, _)| record.table == TableName::Series);
        if !series.is_empty() {
            self.rewrite_series(series)?;
        }
        if others.is_empty() {
            return Ok(());
        }
        let losses = others.iter().map(|(record, reason)| self.loss_of(record, reason)).collect();
        let remove: Vec<u64> = others.iter().map(|(record, _)| record.number).collect();
        self.catalog.commit(&Commit { remove: remove.clone(), losses, ..Commit::default() })?;
        self.hide(&remove, None, None);
        others.iter().for_each(|(record, _)| self.move_aside(record));
        Ok(())
    }

    /// The stages' state does not read: they start afresh, and what they write of the time before is of too few samples.
    pub(super) fn tell_lost_state(&self, name: &str) -> Result<(), StoreError> {
        let reason = "the stages' state does not read: rows of windows that were open then are of later samples alone";
        tracing::warn!(name, "{reason}");
        let last = self.view().segments.iter().map(|segment| segment.record.last).max();
        let loss = Loss {
            table: "checkpoints".into(),
            path: format!("checkpoints/{name}"),
            last,
            reason: reason.into(),
            found: self.world.clock.now().nanos(),
            ..Loss::default()
        };
        Ok(self.catalog.commit(&Commit { losses: vec![loss], ..Commit::default() })?)
    }

    fn loss_of(&self, record: &SegmentRecord, reason: &str) -> Loss {
        Loss {
            table: record.table.to_string(),
            path: record.path.clone(),
            first: Some(record.first),
            last: Some(record.last),
            rows: Some(record.rows),
            reason: reason.to_owned(),
            found: self.world.clock.now().nanos(),
            ..Loss::default()
        }
    }

    /// The catalog knows every series: where a file for readers outside is damaged, all of them are written anew.
    fn rewrite_series(&self, broken: Vec<Broken>) -> Result<(), StoreError> {
        let of_series = |record: &SegmentRecord| record.table == TableName::Series;
        let mut all: Vec<SegmentRecord> = self.view().records().filter(|record| of_series(record)).cloned().collect();
        for (record, reason) in &broken {
            tracing::warn!(path = record.path, reason, "a file of the table `series` is damaged: written anew");
            if !all.contains(record) {
                all.push(record.clone());
            }
        }
        let rows = series_rows(self.registry(), 0..self.registry().committed())?;
        let table = TableName::Series;
        let added = self
            .write_file(table, table.name(), &Origin::merge(&all), |file| super::derived::write_batch(file, &rows))?;
        let remove: Vec<u64> = all.iter().map(|record| record.number).collect();
        self.catalog.commit(&Commit { add: vec![added.clone()], remove: remove.clone(), ..Commit::default() })?;
        self.hide(&remove, None, Some(added));
        all.iter().for_each(|record| self.move_aside(record));
        Ok(())
    }

    /// Writes the series of a segment that read to a new one.
    fn salvage(&self, segment: &Arc<Segment>, reason: &str) -> Result<(), StoreError> {
        // As the registry has it now: a stand-in's metric is another.
        let mut entries: Vec<IndexEntry> = segment.entries().to_vec();
        entries.sort_by_cached_key(|entry| (self.registry().metric(entry.series), entry.series));
        let (mut losses, mut whole) = (Vec::new(), Vec::new());
        let mut cursor = Cursor::new(segment.clone());
        for entry in entries {
            match read_whole(&mut cursor, &entry) {
                Ok(_) => whole.push(entry),
                Err(error) => losses.push(self.loss_of_series(&segment.record, &entry, &error)),
            }
        }
        tracing::warn!(
            path = segment.record.path,
            reason,
            lost = losses.len(),
            kept = whole.len(),
            "a segment is damaged"
        );
        let added = if whole.is_empty() { None } else { Some(self.write_salvaged(segment, &whole)?) };
        let remove = vec![segment.record.number];
        let add = added.iter().cloned().collect();
        self.catalog.commit(&Commit { add, remove: remove.clone(), losses, ..Commit::default() })?;
        let opened = added.map(|record| Segment::open(&self.world.disk, &self.dir, record)).transpose()?;
        self.hide(&remove, opened.map(Arc::new), None);
        self.move_aside(&segment.record);
        Ok(())
    }

    fn write_salvaged(&self, segment: &Arc<Segment>, whole: &[IndexEntry]) -> Result<SegmentRecord, StoreError> {
        let record = &segment.record;
        let folder = record.path.rsplit_once('/').map_or("samples", |(folder, _)| folder);
        self.write_file(TableName::Samples, folder, &Origin::merge(std::slice::from_ref(record)), |file| {
            let mut writer = SegmentWriter::new(file, segment.unit())?;
            let mut cursor = Cursor::new(segment.clone());
            for entry in whole {
                let metric = self.registry().metric(entry.series);
                writer.add(&metric, entry.series, read_whole(&mut cursor, entry)?)?;
            }
            writer.finish()
        })
    }

    fn loss_of_series(&self, record: &SegmentRecord, entry: &IndexEntry, error: &StoreError) -> Loss {
        let def = self.registry().def(entry.series);
        Loss {
            metric: Some(def.metric.to_string()),
            series: Some(def.to_string()),
            first: Some(entry.first),
            last: Some(entry.last),
            rows: Some(u64::from(entry.rows)),
            ..self.loss_of(record, &told_with_causes(error))
        }
    }

    /// Takes files out of what queries see, and others in.
    fn hide(&self, removed: &[u64], segment: Option<Arc<Segment>>, file: Option<SegmentRecord>) {
        let mut view = self.view_mut();
        let is_kept = |record: &SegmentRecord| !removed.contains(&record.number);
        let mut segments: Vec<_> = view.segments.iter().filter(|segment| is_kept(&segment.record)).cloned().collect();
        segments.extend(segment);
        segments.sort_by_key(|segment| segment.record.flushes);
        let mut files: Vec<_> = view.files.iter().filter(|file| is_kept(&file.record)).cloned().collect();
        files.extend(file.map(|record| TableFile::new(&self.world.disk, &self.dir, record)));
        files.sort_by_key(|file| file.record.flushes);
        (view.segments, view.files) = (Arc::new(segments), Arc::new(files));
    }

    /// The file is no longer named: where it cannot be moved, or is not there, nothing more is lost.
    fn move_aside(&self, record: &SegmentRecord) {
        match set_aside(&*self.world.disk, &self.dir, &record.path) {
            Ok(to) => tracing::warn!(path = record.path, to = %to.display(), "set aside"),
            Err(error) => tracing::warn!(path = record.path, %error, "cannot be set aside"),
        }
    }
}

/// The points of an entry, if they are as the index says. After an error the cursor starts anew.
pub(super) fn read_whole(cursor: &mut Cursor, entry: &IndexEntry) -> Result<Points, StoreError> {
    let segment = cursor.segment().clone();
    let damaged = |reason: &str| segment.damaged(format!("series {}: {reason}", entry.series.0));
    let points = match cursor.read(entry, Span::ALL) {
        Ok(points) => points,
        Err(error) => {
            *cursor = Cursor::new(segment);
            return Err(error);
        }
    };
    let ends = points.times.first().copied().zip(points.times.last().copied());
    let is_sorted = points.times.is_sorted_by(|a, b| a < b);
    if points.times.len() != entry.rows as usize || ends != Some((entry.first, entry.last)) || !is_sorted {
        return Err(damaged("its samples are not those of the index"));
    }
    Ok(points)
}
