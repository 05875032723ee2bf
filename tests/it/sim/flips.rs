//! One byte of a file at rest is not what was written: the store answers rightly, or says that something is damaged.
//! Never a panic, a wrong number, or a sample that is silently gone.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use plimsoll::model::{Retention, SeriesId, Span};
use plimsoll::world::{Chance, Clock, SimClock, SimDisk};

use super::bed::{Bed, CatalogImage, DATA, told};
use super::crash::threads;
use super::images::panic_text;
use super::truth::{Truth, same};
use super::workload::{Run, Step, settings, start};

/// Flips of each kind of file, where `PLIMSOLL_FLIPS` says no other number.
const FLIPS: u64 = 300;
const MASKS: [u8; 3] = [0x01, 0x80, 0xFF];

/// A store at rest, with something in every kind of file.
struct Whole {
    disk: SimDisk,
    catalog: CatalogImage,
    run: Run,
    truth: Truth,
}

/// One byte changed.
#[derive(Clone, Debug)]
struct Flip {
    /// In sled's folder, or on the disk.
    is_catalog: bool,
    path: PathBuf,
    offset: usize,
    mask: u8,
}

/// What came of one.
enum Outcome {
    Right,
    Told,
    Bad(String),
}

#[derive(Default)]
struct Counts {
    right: u64,
    told: u64,
    bad: Vec<String>,
}

impl Whole {
    fn new(seed: u64) -> Result<Whole, String> {
        let mut settings = settings(seed);
        settings.store.retention = Retention::default();
        let mut run = Run::new(Bed::new(settings, start()), Truth::default(), seed);
        run.open()?;
        // Into the middle of an hour: the stage's state holds a window that is open.
        run.bed.clock.advance(Duration::from_secs(2400));
        for _ in 0..2 {
            (0..4).try_for_each(|_| run.write_new(10))?;
            run.write_on()?;
            run.step(Step::Flush)?;
        }
        (0..4).try_for_each(|_| run.write_on())?;
        let (disk, catalog) = (run.bed.disk.after_kill(), CatalogImage::of(run.bed.catalog.path()));
        let truth = run.truth.lock().unwrap().clone();
        Ok(Whole { disk, catalog, run, truth })
    }

    /// Kinds of files by folder, with all flips there are of each.
    fn kinds(&self) -> BTreeMap<String, Vec<Flip>> {
        let on_disk = self.disk.files().into_iter().map(|(path, len)| (false, path, len));
        let in_catalog = self.catalog.files().map(|(path, bytes)| (true, path.clone(), bytes.len()));
        let mut kinds: BTreeMap<String, Vec<Flip>> = BTreeMap::new();
        for (is_catalog, path, len) in on_disk.chain(in_catalog) {
            let below = path.strip_prefix(DATA).unwrap_or(&path);
            let first = below.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
            let kind = if is_catalog { format!("catalog/{}", first.split('.').next().unwrap()) } else { first };
            let flips = (0..len).flat_map(|offset| MASKS.map(|mask| (offset, mask)));
            let flips = flips.map(|(offset, mask)| Flip { is_catalog, path: path.clone(), offset, mask });
            kinds.entry(kind).or_default().extend(flips);
        }
        kinds
    }

    fn outcome(&self, flip: &Flip) -> Outcome {
        let caught = catch_unwind(AssertUnwindSafe(|| self.try_out(flip)));
        match caught {
            Ok(outcome) => outcome,
            Err(panic) => Outcome::Bad(panic_text(&*panic)),
        }
    }

    fn try_out(&self, flip: &Flip) -> Outcome {
        let disk = self.disk.after_kill();
        let catalog = self.catalog.lay();
        if flip.is_catalog {
            let path = catalog.path().join(&flip.path);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[flip.offset] ^= flip.mask;
            std::fs::write(path, bytes).unwrap();
        } else {
            disk.corrupt(&flip.path, flip.offset, flip.mask);
        }
        let clock = std::sync::Arc::new(SimClock::at(self.run.bed.clock.now()));
        let bed = Bed { disk, clock, catalog, settings: self.run.bed.settings.clone() };
        let mut run = Run::new(bed, self.truth.clone(), 1);
        if run.open_damaged().is_err() {
            return Outcome::Told;
        }
        let before = look(&run);
        if matches!(before, Outcome::Bad(_)) {
            return before;
        }
        // What is made of it from here on must be right, too.
        let went_on = run.write_on().and_then(|()| run.store().flush().map_err(|error| told(&error)));
        match (before, went_on) {
            (Outcome::Right, Ok(_)) if is_degraded(&run) => look(&run),
            (Outcome::Right, Ok(_)) => match run.check_flushed() {
                Ok(()) => Outcome::Right,
                Err(told) if told.contains("fails") || told.contains("do not read") => Outcome::Told,
                Err(told) => Outcome::Bad(format!("later, {told}")),
            },
            (_, Err(_)) => Outcome::Told,
            (_, Ok(_)) => look(&run),
        }
    }
}

/// Holds the samples against the truth: what is missing must have been told, what is there must be right.
fn look(run: &Run) -> Outcome {
    let snapshot = run.store().snapshot();
    let ids: Vec<SeriesId> = (0..snapshot.series_count() as u32).map(SeriesId).collect();
    let mut found = BTreeMap::new();
    let mut is_told = is_degraded(run);
    for id in ids {
        // One series after another: those that do not read are told, and the others must be right.
        let run_of = snapshot.scan(vec![id], Span::ALL).next().expect("a run");
        let Ok(samples) = run_of else {
            is_told = true;
            continue;
        };
        let def = run.store().registry().def(id);
        let number = def.labels.get("n").and_then(|n| n.parse().ok()).filter(|&n| def == super::load::def(n));
        match number {
            Some(series) => found
                .extend(samples.samples.iter().map(|sample| ((series, sample.time.nanos()), sample.value.to_bits()))),
            None if is_told => {}
            None => return Outcome::Bad(format!("a series that nobody wrote: {def}")),
        }
    }
    let kept = run.truth.lock().unwrap().kept.clone();
    let wrong: Vec<_> = found.iter().filter(|(key, bits)| kept.get(key) != Some(bits)).collect();
    if !wrong.is_empty() {
        return Outcome::Bad(format!("{} samples that nobody wrote, as {:?}", wrong.len(), wrong[0]));
    }
    match same(&found, &kept) {
        Ok(()) if is_told => Outcome::Told,
        Ok(()) => Outcome::Right,
        Err(_) if is_told => Outcome::Told,
        Err(told) => Outcome::Bad(format!("silently {told}")),
    }
}

/// Whether the store says that something of it is damaged.
fn is_degraded(run: &Run) -> bool {
    let stats = serde_json::to_value(run.store().stats()).unwrap();
    stats["degraded"].as_array().is_some_and(|told| !told.is_empty())
}

/// At most `most` of them, spread evenly, from a place by chance.
fn spread(flips: &[Flip], most: u64, chance: &Chance) -> Vec<Flip> {
    let count = (flips.len() as u64).min(most);
    let first = chance.below(flips.len() as u64);
    let at = |n: u64| (first + n * flips.len() as u64 / count) % flips.len() as u64;
    (0..count).map(|n| flips[at(n) as usize].clone()).collect()
}

fn try_all(whole: &Whole, flips: &[Flip]) -> Counts {
    let (counts, next) = (Mutex::new(Counts::default()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                while let Some(flip) = flips.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = whole.outcome(flip);
                    let mut counts = counts.lock().unwrap();
                    match outcome {
                        Outcome::Right => counts.right += 1,
                        Outcome::Told => counts.told += 1,
                        Outcome::Bad(told) => counts.bad.push(format!(
                            "{} byte {} ^ {:#04x}: {told}",
                            flip.path.display(),
                            flip.offset,
                            flip.mask
                        )),
                    }
                }
            });
        }
    });
    counts.into_inner().unwrap()
}

#[test]
fn a_flipped_byte_is_told_or_does_no_harm() {
    let (began, seed) = (Instant::now(), super::seed());
    let most = super::number("PLIMSOLL_FLIPS").unwrap_or(FLIPS);
    let whole = Whole::new(seed).unwrap_or_else(|told| panic!("{told}"));
    let mut bad = Vec::new();
    for (kind, flips) in whole.kinds() {
        let some = spread(&flips, most, &Chance::seeded(seed));
        let counts = try_all(&whole, &some);
        eprintln!(
            "flips: {kind}: {} of {}: right {}, told {}, bad {}",
            some.len(),
            flips.len(),
            counts.right,
            counts.told,
            counts.bad.len()
        );
        bad.extend(counts.bad.iter().take(6).map(|told| format!("{kind}: {told}")));
    }
    eprintln!("flips: PLIMSOLL_SEED={seed}: {:.1?}", began.elapsed());
    assert!(bad.is_empty(), "PLIMSOLL_SEED={seed}:\n{}", bad.join("\n"));
}
