//! What others look at to do less: the zone as it is, in a handle that costs an atomic load to ask.

use std::sync::atomic::{AtomicU8, Ordering};

use super::machine::GovernorSpec;
use super::zone::{Compression, Effects, Pace, Zone};
use crate::model::Priority;

/// The zone and what it asks for. Stages ask it for [`Pressure::compression`] and whether heavy work waits, collectors for
/// the pace of their sources.
#[derive(Debug)]
pub struct Pressure {
    level: AtomicU8,
    slowdown: f64,
    pause: bool,
}

impl Pressure {
    /// Green until somebody says otherwise.
    pub fn new(spec: &GovernorSpec) -> Self {
        Pressure { level: AtomicU8::new(0), slowdown: spec.slowdown, pause: spec.pause }
    }

    pub fn zone(&self) -> Zone {
        Zone::of_level(self.level.load(Ordering::Relaxed).into())
    }

    /// Says which zone it is; the governor does.
    pub fn set(&self, zone: Zone) {
        self.level.store(zone as u8, Ordering::Relaxed);
    }

    pub fn effects(&self) -> Effects {
        Effects::of(self.zone())
    }

    pub fn compression(&self) -> Compression {
        self.effects().compression
    }

    /// Whether work that takes much and can be done later should wait.
    pub fn defers_heavy_work(&self) -> bool {
        self.effects().defers_heavy_work
    }

    /// Times its interval at which a source of this priority is asked; `None` while it is paused.
    pub fn pace(&self, priority: Priority) -> Option<f64> {
        match self.effects().pace(priority) {
            Pace::Usual => Some(1.0),
            Pace::Paused if self.pause => None,
            Pace::Slowed | Pace::Paused => Some(self.slowdown),
        }
    }
}

impl Default for Pressure {
    fn default() -> Self {
        Pressure::new(&GovernorSpec::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handle_says_what_the_zone_asks_for() {
        let pressure = Pressure::new(&GovernorSpec { slowdown: 3.0, ..GovernorSpec::default() });
        let paces = || Priority::ALL.map(|priority| pressure.pace(priority));
        assert_eq!(paces(), [Some(1.0); 4]);
        pressure.set(Zone::Orange);
        assert_eq!(paces(), [Some(1.0), Some(3.0), None, None]);
        assert_eq!((pressure.compression(), pressure.defers_heavy_work()), (Compression::Aggressive, false));
        pressure.set(Zone::Critical);
        assert_eq!(paces(), [Some(3.0), None, None, None]);
        assert!(pressure.defers_heavy_work());
    }

    #[test]
    fn who_wants_none_paused_has_them_slowed() {
        let pressure = Pressure::new(&GovernorSpec { pause: false, ..GovernorSpec::default() });
        pressure.set(Zone::Red);
        assert_eq!(Priority::ALL.map(|priority| pressure.pace(priority)), [Some(1.0), Some(2.0), Some(2.0), Some(2.0)]);
    }
}
