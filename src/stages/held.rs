//! How far all sources are, for stages that hold samples back until none can come before them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::flow::codec::{Reader, Writer};
use crate::flow::{Out, Watermark};
use crate::model::{Batch, Timestamp};

/// Before all times that samples have, with room to reckon.
pub(super) const BEFORE_ALL: i64 = i64::MIN / 4;

/// Watermarks of all sources, and what a stage that holds back is told by as a source itself.
pub(super) struct Sources {
    /// The stage's own name as a source.
    pub name: Arc<str>,
    marks: BTreeMap<Arc<str>, i64>,
    /// When the last of what came in came.
    pub arrived: Timestamp,
    is_announced: bool,
}

impl Sources {
    pub fn new(name: Arc<str>) -> Self {
        Sources { name, marks: BTreeMap::new(), arrived: Timestamp::default(), is_announced: false }
    }

    /// Notes where a batch is from.
    pub fn brought(&mut self, batch: &Batch, out: &mut Out<'_>) {
        self.announce(out);
        self.arrived = self.arrived.max(batch.arrived);
        if !self.marks.contains_key(&batch.source) {
            self.marks.insert(batch.source.clone(), BEFORE_ALL);
        }
    }

    /// Takes a watermark: how far all are now that have brought something; [`i64::MAX`] where all are idle. One that brings
    /// nothing here, as what is new beside a history that is sent, is nobody to wait for.
    pub fn reached(&mut self, watermark: &Watermark, out: &mut Out<'_>) -> i64 {
        self.announce(out);
        if let Some(mark) = self.marks.get_mut(&watermark.source) {
            *mark = watermark.time.nanos();
        }
        self.marks.values().copied().min().unwrap_or(BEFORE_ALL)
    }

    /// Tells those behind, before anything else, that there is one who may be behind the others.
    fn announce(&mut self, out: &mut Out<'_>) {
        if !std::mem::replace(&mut self.is_announced, true) {
            self.tell(BEFORE_ALL, out);
        }
    }

    /// Tells those behind that all up to `time` was handed on.
    pub fn tell(&self, time: i64, out: &mut Out<'_>) {
        out.watermark(Watermark { source: self.name.clone(), time: Timestamp::from_nanos(time) });
    }

    /// An empty batch that comes from the stage.
    pub fn batch(&self) -> Batch {
        Batch { source: self.name.clone(), arrived: self.arrived, ..Batch::default() }
    }

    pub fn write(&self, out: &mut Writer) {
        out.i64(self.arrived.nanos());
        out.u32(self.marks.len() as u32);
        for (name, &time) in &self.marks {
            out.bytes(name.as_bytes());
            out.i64(time);
        }
    }

    pub fn read(&mut self, from: &mut Reader<'_>) -> Option<()> {
        self.arrived = Timestamp::from_nanos(from.i64()?);
        for _ in 0..from.u32()? {
            let name: Arc<str> = std::str::from_utf8(from.bytes()?).ok()?.into();
            self.marks.insert(name, from.i64()?);
        }
        // Those behind know of it from their own states.
        self.is_announced = !self.marks.is_empty();
        Some(())
    }
}
