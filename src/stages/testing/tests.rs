//! Tests of the tests that pipeline files hold.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::config::{PIPELINES, read_pipeline};
use crate::store::{Store, StoreSpec};
use crate::world::{Chance, SimClock, SimDisk, World};

struct Simulated {
    disk: SimDisk,
    catalog: tempfile::TempDir,
}

impl Scratch for Simulated {
    fn open(&self) -> Result<Store, Box<dyn std::error::Error>> {
        let clock = Arc::new(SimClock::at(Timestamp::parse("2026-03-01").unwrap()));
        let world = World::simulated(clock, Arc::new(self.disk.clone()), 7);
        Ok(Store::open_with_catalog(world, Path::new("/data"), self.catalog.path(), StoreSpec::default())?)
    }
}

fn scratch() -> std::io::Result<Box<dyn Scratch>> {
    Ok(Box::new(Simulated { disk: SimDisk::new(), catalog: tempfile::tempdir()? }))
}

fn failures(file: &str, text: &str, seed: u64) -> Vec<String> {
    let pipeline = read_pipeline(file, text).unwrap_or_else(|faults| panic!("{faults}"));
    let chance = Chance::seeded(seed);
    let run = |test: &TestSpec| run_test(&pipeline, test, &|bound| chance.below(bound), &scratch);
    pipeline.tests.iter().map(run).flat_map(|run| run.failures).collect()
}

#[test]
fn the_pipelines_that_come_with_the_program_do_as_they_say() {
    for seed in 0..3 {
        for (file, text) in PIPELINES {
            let told = failures(file, text, seed);
            assert!(told.is_empty(), "seed {seed}, {file}:\n{}", told.join("\n"));
        }
    }
}

#[test]
fn every_file_of_pipelines_comes_with_the_program() {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "pipelines"].iter().collect();
    let mut files: Vec<String> = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        files.push(format!("pipelines/{}", file.unwrap().file_name().to_string_lossy()));
    }
    let mut known: Vec<&str> = PIPELINES.iter().map(|(file, _)| *file).collect();
    known.sort_unstable();
    files.sort_unstable();
    assert_eq!(files, known);
}

#[test]
fn what_is_not_as_expected_is_told() {
    let (_, smooth) = PIPELINES[3];
    let told = failures("smooth", &smooth.replace("count = 8, max = 60", "count = 8, max = 61"), 1);
    assert_eq!(told.len(), 2 * 5, "{told:#?}");
    assert_eq!(told[0], "in one go:");
    assert!(told[1].starts_with("sliding: ") && told[1].ends_with("of which 1 expected ones are none"), "{told:#?}");
    let wanted = "- { avg = 7.5, count = 8, max = 61, time = \"2025-12-31T23:59:00Z\" }";
    assert!(told.iter().any(|line| line == wanted), "{told:#?}");
    let found = "+ { avg = 7.5, count = 8, every = \"1m\", length = \"5m\", max = 60, series = 'queue', time = \"2025-12-31T23:59:00Z\" }";
    assert!(told.iter().any(|line| line == found), "{told:#?}");
}
