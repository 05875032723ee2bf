//! Images: the store as a crash at some moment leaves it, and the examination of each.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use plimsoll::model::Timestamp;
use plimsoll::world::{Chance, Clock, Loss, SimClock, SimDisk};

use super::bed::{Bed, CatalogImage, Settings};
use super::truth::Truth;
use super::workload::{Run, Step};

/// What the next start finds, and what must come of it.
#[derive(Clone)]
pub struct Image {
    /// Seed, moment, way of loss.
    pub what: String,
    pub number: u64,
    disk: SimDisk,
    catalog: CatalogImage,
    now: Timestamp,
    truth: Truth,
    settings: Settings,
    /// Whether crashes during its own recovery are to be looked at.
    pub is_deep: bool,
}

/// How it ends.
#[derive(Clone, Copy)]
enum End {
    /// The process is killed, the machine stays up.
    Kill,
    Power(Loss),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Kill => f.write_str("a kill"),
            End::Power(loss) => write!(f, "a loss of power ({loss:?})"),
        }
    }
}

/// One in so many images is crashed again while it recovers.
const DEEP_EVERY: u64 = 300;
/// The same where the process alone ended with a batch unanswered: what the log holds of it is not durable then.
const DEEP_EVERY_KILL: u64 = 20;

/// Hands an image for each way of loss before every change of the disk that `run` makes, those left out that read like
/// another of the same moment.
pub fn watch(run: &Run, what: String, take: impl Fn(Image) + Send + Sync + 'static) {
    let (truth, settings, clock) = (run.truth.clone(), run.bed.settings.clone(), run.bed.clock.clone());
    let catalog = run.bed.catalog.path().to_owned();
    let number = Mutex::new(0);
    let chance = Chance::seeded(run.load.chance.next_u64());
    run.bed.disk.watch(move |disk, operation| {
        let catalog = CatalogImage::of(&catalog);
        for (end, disk) in crashed(disk) {
            let mut number = number.lock().unwrap();
            *number += 1;
            let truth = truth.lock().unwrap().clone();
            let is_unanswered = matches!(end, End::Kill) && truth.pending.is_some();
            let every = if is_unanswered { DEEP_EVERY_KILL } else { DEEP_EVERY };
            take(Image {
                what: format!("{what}, stopped at change {operation} of the disk by {end}"),
                number: *number,
                disk,
                catalog: catalog.clone(),
                now: clock.now(),
                truth,
                settings: settings.clone(),
                is_deep: chance.below(every) == 0,
            });
        }
    });
}

fn crashed(disk: &SimDisk) -> Vec<(End, SimDisk)> {
    let mut images = vec![(End::Kill, disk.after_kill())];
    for loss in Loss::ALL {
        let image = disk.after_power_loss(loss);
        if !images.iter().any(|(_, other)| other.reads_like(&image)) {
            images.push((End::Power(loss), image));
        }
    }
    images
}

/// What a panic says.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let told = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", told.unwrap_or("no text"))
}

impl Image {
    /// Opens the store with no other step, holds it against the truth, and goes on with it. The images of crashes
    /// during that, where asked for.
    pub fn examine(&self) -> Result<Vec<Image>, String> {
        let deeper = Arc::new(Mutex::new(Vec::new()));
        let caught = catch_unwind(AssertUnwindSafe(|| self.recover(&deeper)));
        let outcome = caught.unwrap_or_else(|panic| Err(panic_text(&*panic)));
        outcome.map_err(|error| format!("{}: {error}", self.what))?;
        Ok(std::mem::take(&mut deeper.lock().unwrap()))
    }

    fn recover(&self, deeper: &Arc<Mutex<Vec<Image>>>) -> Result<(), String> {
        let bed = Bed {
            disk: self.disk.after_kill(),
            clock: Arc::new(SimClock::at(self.now)),
            catalog: self.catalog.lay(),
            settings: self.settings.clone(),
        };
        let mut run = Run::new(bed, self.truth.clone(), self.number);
        if self.is_deep {
            let deeper = deeper.clone();
            watch(&run, self.what.clone(), move |image| {
                deeper.lock().unwrap().push(Image { is_deep: false, ..image });
            });
        }
        run.open().map_err(|error| format!("opened again: {error}"))?;
        run.write(8).map_err(|error| format!("written to again: {error}"))?;
        run.step(Step::Flush).map_err(|error| format!("flushed again: {error}"))?;
        let merge = if self.number.is_multiple_of(2) { Step::Merge } else { Step::MergeAll };
        run.step(merge).and_then(|()| run.check_flushed()).map_err(|error| format!("merged again: {error}"))?;
        if self.number.is_multiple_of(8) {
            run.step(Step::Reopen)
                .and_then(|()| run.check_flushed())
                .map_err(|error| format!("opened twice: {error}"))?;
        }
        Ok(())
    }
}
