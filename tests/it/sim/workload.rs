//! A run of a store through all it does: writes, flushes, merges, retention, a snapshot held over them, reopening.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use plimsoll::model::{Keep, MetricRule, Retention, Timestamp};
use plimsoll::store::{Snapshot, Store, StoreSpec, Sync};
use plimsoll::world::{Chance, Clock, Loss};

use super::bed::{Bed, CatalogImage, EVERY, Node, RULED, Settings, told};
use super::load::{Load, Point, batch};
use super::rolled::{self, Windows};
use super::truth::{Contents, Truth, contents, same};

/// One thing that is done to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A batch of up to so many samples.
    Write(u64),
    Flush,
    /// One usual merge.
    Merge,
    /// Merges until nothing is left to merge.
    MergeAll,
    /// So many hours go by.
    Hours(u64),
    /// Drops what retention no longer keeps.
    Expire,
    /// Takes a snapshot to hold.
    Hold,
    /// Reads what was held, and lets go of it.
    Look,
    Reopen,
}

/// The steps of a seed: `rounds` of some writes and then something else, each kind in its turn or by chance.
pub fn steps(seed: u64, rounds: u64) -> Vec<Step> {
    let chance = Chance::seeded(seed);
    let mut steps = Vec::new();
    let turns = [Step::Flush, Step::Hold, Step::Flush, Step::Flush, Step::Flush, Step::Merge, Step::Flush];
    let others = [Step::MergeAll, Step::Look, Step::Reopen, Step::Hours(1500), Step::Flush, Step::Expire, Step::Flush];
    for round in 0..rounds {
        for _ in 0..1 + chance.below(3) {
            steps.push(Step::Write(3 + chance.below(14)));
            steps.push(Step::Hours(chance.below(30)));
        }
        let turn = turns.iter().chain(&others).nth(round as usize % (turns.len() + others.len()));
        let by_chance = [Step::Flush, Step::Merge, Step::MergeAll, Step::Reopen, Step::Hold, Step::Look, Step::Expire];
        steps.extend(turn.copied());
        steps.push(by_chance[chance.below(by_chance.len() as u64) as usize]);
    }
    steps.push(Step::Look);
    steps
}

/// Half of the seeds have a retention, half one of its own for a metric, half one for rollups; some merge only up to
/// small files, some have two shards.
pub fn settings(seed: u64) -> Settings {
    let chance = Chance::seeded(!seed);
    let days = |days: u64| Keep::For(Duration::from_secs(days * 86_400));
    let retention = if chance.below(2) == 0 { days(20 + chance.below(80)) } else { Keep::Forever };
    let segment_bytes = if chance.below(4) == 0 { 8 << 10 } else { 512 << 20 };
    let shards = 1 + chance.below(2) as usize;
    let rule = (chance.below(2) == 0).then(|| {
        let keep = if chance.below(4) == 0 { Keep::Forever } else { days(2 + chance.below(60)) };
        MetricRule { metric: RULED.parse().expect("a pattern"), keep }
    });
    let rollups = (chance.below(2) == 0).then(|| (EVERY, days(10 + chance.below(120))));
    let (metrics, rollups) = (rule.into_iter().collect(), rollups.into_iter().collect());
    let retention = Retention { metrics, rollups, ..Retention::of_all(retention) };
    Settings { store: StoreSpec { sync: Sync::Always, retention, segment_bytes, ..StoreSpec::default() }, shards }
}

/// A store that lives, and what it must hold.
pub struct Run {
    pub bed: Bed,
    node: Option<Node>,
    pub truth: Arc<Mutex<Truth>>,
    pub load: Load,
    held: Option<Held>,
}

struct Held {
    snapshot: Snapshot,
    contents: Contents,
    windows: Windows,
}

/// When every run begins.
pub fn start() -> Timestamp {
    Timestamp::parse("2026-02-27").unwrap()
}

impl Run {
    pub fn new(bed: Bed, truth: Truth, seed: u64) -> Run {
        Run { bed, node: None, truth: Arc::new(Mutex::new(truth)), load: Load::new(seed), held: None }
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.node.as_ref().expect("the store is open").store
    }

    fn seen(&self) -> Contents {
        self.truth.lock().unwrap().seen(self.bed.oldest())
    }

    /// Opens the store and finds out whether an unanswered batch is there.
    pub fn open(&mut self) -> Result<(), String> {
        self.node = Some(self.bed.open()?);
        let found = contents(self.store(), &self.store().snapshot())?;
        self.truth.lock().unwrap().settle(&found, self.bed.oldest())
    }

    pub fn is_open(&self) -> bool {
        self.node.is_some()
    }

    /// The power goes now, and the store is opened again.
    pub fn lose_power(&mut self, loss: Loss) -> Result<(), String> {
        let disk = self.bed.disk.after_power_loss(loss);
        let catalog = CatalogImage::of(self.bed.catalog.path());
        // What the process does on its way out reaches the old disk only.
        self.close();
        (self.bed.disk, self.bed.catalog) = (disk, catalog.lay());
        self.open()
    }

    fn close(&mut self) {
        self.held = None;
        self.node = None;
    }

    /// Opens the store and looks at nothing.
    pub fn open_damaged(&mut self) -> Result<(), String> {
        self.node = Some(self.bed.open()?);
        Ok(())
    }

    pub fn write(&mut self, most: u64) -> Result<(), String> {
        let points = self.load.points(self.bed.clock.now().nanos(), most);
        self.send(points)
    }

    /// Writes samples for times that have none yet.
    pub fn write_new(&mut self, most: u64) -> Result<(), String> {
        let mut points = self.load.points(self.bed.clock.now().nanos(), most);
        let mut taken = self.truth.lock().unwrap().kept.clone();
        points.retain(|&(series, time, _)| taken.insert((series, time), 0).is_none());
        self.send(points)
    }

    /// Writes the next sample of each series, in order.
    pub fn write_on(&mut self) -> Result<(), String> {
        self.bed.clock.advance(Duration::from_secs(1));
        let now = self.bed.clock.now().nanos();
        let points = (0..self.load.series.max(3)).map(|series| (series, now, 7.5)).collect();
        self.send(points)
    }

    fn send(&mut self, points: Vec<Point>) -> Result<(), String> {
        let batch = batch(self.store(), &points);
        self.truth.lock().unwrap().pending = Some(points);
        self.store().append(batch).map_err(|error| told(&error))?;
        self.truth.lock().unwrap().acknowledge();
        Ok(())
    }

    /// Samples as they must be; so are rollups, where everything is flushed.
    pub fn check(&self) -> Result<(Snapshot, Contents), String> {
        let snapshot = self.store().snapshot();
        let found = contents(self.store(), &snapshot)?;
        same(&found, &self.seen())?;
        Ok((snapshot, found))
    }

    pub fn check_flushed(&self) -> Result<(), String> {
        let (snapshot, found) = self.check()?;
        rolled::check(self.store(), &snapshot, &found, self.bed.oldest()).map(|_| ())
    }

    fn hold(&mut self) -> Result<(), String> {
        let (snapshot, contents) = self.check()?;
        let windows = rolled::rollups(self.store(), &snapshot)?;
        self.held = Some(Held { snapshot, contents, windows });
        Ok(())
    }

    fn look(&mut self) -> Result<(), String> {
        let Some(held) = self.held.take() else { return Ok(()) };
        let told = |told| format!("a snapshot held: {told}");
        same(&contents(self.store(), &held.snapshot)?, &held.contents).map_err(told)?;
        same(&rolled::rollups(self.store(), &held.snapshot).map_err(told)?, &held.windows).map_err(told)
    }

    pub fn step(&mut self, step: Step) -> Result<(), String> {
        let failed = |error: plimsoll::store::StoreError| told(&error);
        match step {
            Step::Write(most) => self.write(most),
            Step::Flush => {
                self.store().flush().map_err(failed)?;
                self.check_flushed()
            }
            Step::Merge => self.store().compact_step().map(|_| ()).map_err(failed),
            Step::MergeAll => self.store().compact().map(|_| ()).map_err(failed),
            Step::Hours(hours) => {
                self.bed.clock.advance(Duration::from_secs(hours * 3600));
                Ok(())
            }
            Step::Expire => self.store().drop_expired().map(|_| ()).map_err(failed),
            Step::Hold => self.hold(),
            Step::Look => self.look(),
            Step::Reopen => {
                self.close();
                self.open()
            }
        }
    }
}
