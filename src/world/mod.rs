//! The only door to clock, disk and chance, and its simulated twin.
//!
//! Whatever lies below the edges takes a [`World`] as an argument, so that a test can stop the clock, fill the disk or
//! cut the power, and replay it all from a seed. sled's own directory is the one exception: sled opens it by itself.

mod bell;
mod chance;
mod clock;
mod disk;
mod process;
mod real_disk;
mod sim_disk;

use std::sync::Arc;

pub use bell::Bell;
pub use chance::Chance;
pub use clock::{Clock, SimClock, SystemClock};
pub use disk::{Disk, DiskLock, FileAppend, FileRead};
pub use process::{free_bytes, resident_bytes};
pub use real_disk::RealDisk;
pub use sim_disk::{Loss, SimDisk};

/// Clock, disk and chance, cheap to clone.
#[derive(Clone)]
pub struct World {
    pub clock: Arc<dyn Clock>,
    pub disk: Arc<dyn Disk>,
    pub chance: Arc<Chance>,
}

impl World {
    /// The machine's own.
    pub fn real() -> Self {
        World { clock: Arc::new(SystemClock::new()), disk: Arc::new(RealDisk), chance: Arc::new(Chance::real()) }
    }

    /// One that does only what it is told: the clock stands at `clock`, files live in `disk`, chance comes from `seed`.
    pub fn simulated(clock: Arc<SimClock>, disk: Arc<SimDisk>, seed: u64) -> Self {
        World { clock, disk, chance: Arc::new(Chance::seeded(seed)) }
    }
}
