//! The zones of how much is in use, and what each of them changes.

use crate::model::Priority;

/// How much of the machine, of the memory and of the pipelines' queues is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Zone {
    #[default]
    Green,
    Yellow,
    Orange,
    Red,
    Critical,
}

/// How often sources of a priority are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// At their interval.
    Usual,
    /// At [`super::GovernorSpec::slowdown`] times their interval.
    Slowed,
    /// Not at all.
    Paused,
}

/// How hard stages that can say the same in fewer samples should try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compression {
    /// As their pipeline says.
    Usual,
    /// A little harder than that.
    Mild,
    /// So that 30 to 50 % less is left.
    Aggressive,
    /// So that as little is left as still tells what is going on.
    Emergency,
}

impl Compression {
    pub const fn name(self) -> &'static str {
        match self {
            Compression::Usual => "usual",
            Compression::Mild => "mild",
            Compression::Aggressive => "aggressive",
            Compression::Emergency => "emergency",
        }
    }
}

impl Zone {
    pub const ALL: [Zone; 5] = [Zone::Green, Zone::Yellow, Zone::Orange, Zone::Red, Zone::Critical];

    pub const fn name(self) -> &'static str {
        match self {
            Zone::Green => "green",
            Zone::Yellow => "yellow",
            Zone::Orange => "orange",
            Zone::Red => "red",
            Zone::Critical => "critical",
        }
    }

    /// From 0 for green to 4 for critical.
    pub const fn level(self) -> usize {
        self as usize
    }

    /// The zone of a level; critical of all beyond.
    pub(super) fn of_level(level: usize) -> Zone {
        Zone::ALL.get(level).copied().unwrap_or(Zone::Critical)
    }
}

/// What a zone changes. Rules that set things right by themselves do not exist: in no zone is anything but this done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effects {
    /// By [`Priority`], in the order of [`Priority::ALL`].
    paces: [Pace; 4],
    pub compression: Compression,
    /// Whether work that takes much and can be done later, as correlation, waits.
    pub defers_heavy_work: bool,
    /// What people are told.
    pub warning: Option<&'static str>,
}

impl Effects {
    pub const fn of(zone: Zone) -> Effects {
        use Pace::{Paused, Slowed, Usual};
        match zone {
            Zone::Green => {
                Effects { paces: [Usual; 4], compression: Compression::Usual, defers_heavy_work: false, warning: None }
            }
            Zone::Yellow => Effects {
                paces: [Usual, Usual, Usual, Slowed],
                compression: Compression::Mild,
                defers_heavy_work: false,
                warning: None,
            },
            Zone::Orange => Effects {
                paces: [Usual, Slowed, Paused, Paused],
                compression: Compression::Aggressive,
                defers_heavy_work: false,
                warning: Some("a limit is near: sources of priority medium and low step back"),
            },
            Zone::Red => Effects {
                paces: [Usual, Paused, Paused, Paused],
                compression: Compression::Emergency,
                defers_heavy_work: true,
                warning: Some("a limit is very near: all but critical sources step back, heavy work waits"),
            },
            Zone::Critical => Effects {
                paces: [Slowed, Paused, Paused, Paused],
                compression: Compression::Emergency,
                defers_heavy_work: true,
                warning: Some("at the limit: all sources step back, heavy work waits"),
            },
        }
    }

    pub const fn pace(&self, priority: Priority) -> Pace {
        self.paces[priority as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paces of critical, high, medium and low: `1`, `s` slowed, `-` paused.
    fn paces(zone: Zone) -> String {
        let letter = |priority| match Effects::of(zone).pace(priority) {
            Pace::Usual => '1',
            Pace::Slowed => 's',
            Pace::Paused => '-',
        };
        Priority::ALL.into_iter().map(letter).collect()
    }

    #[test]
    fn each_zone_has_its_effects() {
        assert_eq!(Zone::ALL.map(paces), ["1111", "111s", "1s--", "1---", "s---"]);
        let compression = Zone::ALL.map(|zone| Effects::of(zone).compression.name());
        assert_eq!(compression, ["usual", "mild", "aggressive", "emergency", "emergency"]);
        assert_eq!(Zone::ALL.map(|zone| Effects::of(zone).defers_heavy_work), [false, false, false, true, true]);
        assert_eq!(Zone::ALL.map(|zone| Effects::of(zone).warning.is_some()), [false, false, true, true, true]);
    }

    #[test]
    fn a_zone_that_is_worse_never_asks_more() {
        let asked = |zone: Zone, priority| match Effects::of(zone).pace(priority) {
            Pace::Usual => 2,
            Pace::Slowed => 1,
            Pace::Paused => 0,
        };
        for pair in Zone::ALL.windows(2) {
            assert!(Effects::of(pair[0]).compression <= Effects::of(pair[1]).compression);
            assert!(Priority::ALL.into_iter().all(|priority| asked(pair[0], priority) >= asked(pair[1], priority)));
        }
        assert_eq!(Zone::ALL.map(|zone| Zone::of_level(zone.level())), Zone::ALL);
    }
}
