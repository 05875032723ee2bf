//! How much of CPU and memory is in use, for the governor: the same files as for the metrics, but only what it needs.

use sysinfo::{CpuRefreshKind, System};

use super::cpu::{Spent, parse_spent};
use super::files::{Files, Wanted, keyed};
use super::process::parse_own_ticks;
use crate::world::resident_bytes;

/// What the file calls kB.
const KIB: f64 = 1024.0;

/// Memory that is the process' own comes before what is resident at all: pages of files, as those of the program itself,
/// go when somebody needs the room.
const STATUS: [Wanted; 2] = [("RssAnon", "anonymous", KIB), ("VmRSS", "resident", KIB)];

/// Measures load, one [`LoadMeter::read`] at a time.
pub struct LoadMeter {
    files: Files,
    /// Cores that this process may use, by its affinity and control group.
    cores: f64,
    before: Option<(Spent, u64)>,
    /// Where there is no `/proc`.
    fallback: Option<System>,
}

/// How much is in use.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// Since the read before: of the host's cores all that ran, or of those that this process may use what it ran,
    /// whichever is more. 0 to 1.
    pub cpu: f64,
    /// Memory that is this process' own.
    pub bytes: f64,
}

impl LoadMeter {
    /// Of this machine and this process.
    pub fn new() -> Self {
        let files = Files::new("/proc".into(), "/sys".into());
        let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
        LoadMeter { files, cores, before: None, fallback: None }
    }

    pub fn read(&mut self) -> Load {
        match self.files.proc_if_present("stat", parse_spent) {
            Some(spent) => Load { cpu: self.cpu(spent), bytes: self.bytes() },
            None => self.fall_back(),
        }
    }

    fn cpu(&mut self, spent: Spent) -> f64 {
        let own = self.files.proc_if_present("self/stat", parse_own_ticks).unwrap_or_default();
        let before = self.before.replace((spent, own));
        before
            .map_or(0.0, |(before, own_before)| spent.share_since(&before, own.saturating_sub(own_before), self.cores))
    }

    fn bytes(&mut self) -> f64 {
        let status = self.files.proc_if_present("self/status", |text| keyed(text, &STATUS)).unwrap_or_default();
        let of = |wanted| status.iter().find(|(name, _)| *name == wanted).map(|&(_, bytes)| bytes);
        of("anonymous").or_else(|| of("resident")).unwrap_or_default()
    }

    fn fall_back(&mut self) -> Load {
        let bytes = resident_bytes().unwrap_or_default() as f64;
        if self.fallback.is_none() {
            self.fallback = System::new().ok();
        }
        let Some(system) = &mut self.fallback else { return Load { cpu: 0.0, bytes } };
        system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_usage());
        Load { cpu: f64::from(system.global_cpu_usage()) / 100.0, bytes }
    }
}

impl Default for LoadMeter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_and_this_process_have_a_load() {
        let mut meter = LoadMeter::new();
        assert_eq!(meter.read().cpu, 0.0, "nothing to compare with");
        let load = meter.read();
        assert!((0.0..=1.0).contains(&load.cpu) && load.bytes > 100_000.0, "{load:?}");
    }
}
