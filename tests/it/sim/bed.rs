//! A store on a simulated disk, with its pipeline, and sled's folder beside it in memory where the machine has that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use plimsoll::model::{Keep, Timestamp};
use plimsoll::stages::{PipelineSpec, Pipelines};
use plimsoll::store::{Store, StoreSpec};
use plimsoll::world::{Clock, SimClock, SimDisk, World};
use tempfile::TempDir;

/// Length of the windows that the pipeline rolls up.
pub const EVERY: i64 = 3_600_000_000_000;

pub const DATA: &str = "/data";

/// What a store lives in. Survives the store.
pub struct Bed {
    pub disk: SimDisk,
    pub clock: Arc<SimClock>,
    pub catalog: TempDir,
    pub settings: Settings,
}

/// What differs from seed to seed.
#[derive(Clone)]
pub struct Settings {
    pub store: StoreSpec,
    pub shards: usize,
}

/// An open store with its pipeline. Dropped, it leaves what is in memory to the log.
pub struct Node {
    pub store: Arc<Store>,
    pipelines: Arc<Pipelines>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.pipelines.stop();
    }
}

impl Bed {
    pub fn new(settings: Settings, now: Timestamp) -> Self {
        Bed { disk: SimDisk::new(), clock: Arc::new(SimClock::at(now)), catalog: folder(), settings }
    }

    pub fn open(&self) -> Result<Node, String> {
        let world = World::simulated(self.clock.clone(), Arc::new(self.disk.clone()), 7);
        let spec = self.settings.store.clone();
        let store = Store::open_with_catalog(world, Path::new(DATA), &self.catalog.path().join("sled"), spec);
        let store = Arc::new(store.map_err(|error| format!("the store does not open: {}", told(&error)))?);
        let pipelines = Pipelines::attach(&store, vec![pipeline(self.settings.shards)], None);
        let pipelines = pipelines.map_err(|error| format!("the pipeline does not start: {}", told(&error)))?;
        Ok(Node { store, pipelines })
    }

    /// The oldest times that a query sees now.
    pub fn oldest(&self) -> Oldest {
        let retention = &self.settings.store.retention;
        let now = self.clock.now().nanos();
        let of = |keep: Keep| keep.length().map_or(i64::MIN, |kept| now - i64::try_from(kept.as_nanos()).unwrap());
        Oldest {
            ruled: of(retention.metrics.first().map_or(retention.samples, |rule| rule.keep)),
            others: of(retention.samples),
            rollups: of(retention.rollups.get(&EVERY).copied().unwrap_or(retention.rows)),
        }
    }
}

/// The metric that a rule of its own may be for, as a pattern; and whether a series of the test is of it.
pub const RULED: &str = "*1";

fn is_ruled(series: u32) -> bool {
    series % 3 == 1
}

/// The oldest times that are kept.
#[derive(Clone, Copy)]
pub struct Oldest {
    ruled: i64,
    others: i64,
    pub rollups: i64,
}

impl Oldest {
    /// Of the samples of a series of the test.
    pub fn of(&self, series: u32) -> i64 {
        if is_ruled(series) { self.ruled } else { self.others }
    }
}

fn pipeline(shards: usize) -> PipelineSpec {
    let text = format!(
        "name = 'sim'\nshards = {shards}\n[[stages]]\nname = 'hourly'\napply.window = {{ every = '{}s' }}\n",
        EVERY / 1_000_000_000
    );
    toml::from_str(&text).unwrap()
}

/// An error and its causes.
pub fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"))
}

/// A folder for sled.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.unwrap()
}

/// What sled had in its folder at some moment.
#[derive(Clone)]
pub struct CatalogImage(Arc<Vec<(PathBuf, Vec<u8>)>>);

impl CatalogImage {
    pub fn of(folder: &Path) -> Self {
        let mut files = Vec::new();
        read_into(folder, Path::new(""), &mut files);
        CatalogImage(Arc::new(files))
    }

    pub fn files(&self) -> impl Iterator<Item = &(PathBuf, Vec<u8>)> {
        self.0.iter()
    }

    /// A new folder with the same in it.
    pub fn lay(&self) -> TempDir {
        let laid = folder();
        for (path, bytes) in &*self.0 {
            let path = laid.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        laid
    }
}

fn read_into(folder: &Path, below: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            read_into(folder, &path, files);
        } else {
            // sled drops files of its own in the meantime.
            files.extend(std::fs::read(entry.path()).ok().map(|bytes| (path, bytes)));
        }
    }
}
