//! Measures this machine and this process: CPU, memory, load, pressure, network, disks, file systems, cgroup limits.
//!
//! Reads `/proc` and `/sys`, which only a kernel fills, so it does so itself and not through `world`. What needs a
//! system call (free space of file systems), and everything on a platform without `/proc`, comes from `sysinfo`.
//!
//! Each submodule has one topic: a pure `parse_…` of a file's text, and a `collect` that names the metrics.

mod cgroup;
mod cpu;
mod disk;
mod fallback;
mod files;
mod filesystem;
mod kernel;
mod load;
mod memory;
mod network;
mod process;
mod sockets;

use std::path::PathBuf;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::task::JoinHandle;

use crate::ingest::gather::About;
use crate::ingest::source::{Readings, Source, SourceError};
use crate::model::Timestamp;

use self::cpu::Cpu;
use self::fallback::Fallback;
use self::files::Files;
use self::filesystem::Filesystems;
pub use self::load::{Load, LoadMeter};
use self::process::Own;
pub(super) use self::sockets::udp_drops;

/// Collects `system_…` and `process_…` metrics, one [`SystemCollector::collect`] at a time.
///
/// A file that cannot be read or parsed leaves its metrics out of that pass and counts in
/// `system_collector_errors_total`. What a kernel may lack (pressure, cgroup controllers) is no error.
pub struct SystemCollector {
    host: Host,
    filesystems: Filesystems,
}

/// Where the numbers come from.
enum Host {
    Linux(Box<Linux>),
    Other(Box<Fallback>),
}

impl SystemCollector {
    /// Of this machine.
    pub fn new() -> Self {
        Self::with_root("/proc", "/sys")
    }

    /// Of the machine whose kernel fills the folders `proc` and `sys`. Without a `stat` in `proc` everything comes
    /// from `sysinfo`; file systems do in any case, and are those this process sees.
    pub fn with_root(proc: impl Into<PathBuf>, sys: impl Into<PathBuf>) -> Self {
        let proc = proc.into();
        let host = if proc.join("stat").exists() {
            Host::Linux(Box::new(Linux::new(Files::new(proc, sys.into()))))
        } else {
            Host::Other(Box::new(Fallback::new()))
        };
        SystemCollector { host, filesystems: Filesystems::new() }
    }

    /// One pass. Percentages of CPU time are since the pass before, so the first pass has none.
    pub fn collect(&mut self) -> Readings {
        let mut pass = Pass::default();
        let errors = match &mut self.host {
            Host::Linux(linux) => linux.collect(&mut pass),
            Host::Other(other) => other.collect(&mut pass),
        };
        self.filesystems.collect(&mut pass);
        pass.put("system_collector_errors_total", errors as f64);
        pass.readings
    }
}

impl Default for SystemCollector {
    fn default() -> Self {
        Self::new()
    }
}

/// `from.system = {}`: it has no keys yet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SystemSpec {}

/// This machine as a source.
pub struct SystemSource {
    /// Not here while a pass is under way.
    collector: Option<SystemCollector>,
    under_way: Option<JoinHandle<Collected>>,
}

/// A collector that is done, and what it collected.
type Collected = (SystemCollector, Readings);

impl SystemSource {
    pub fn new() -> Self {
        SystemSource { collector: Some(SystemCollector::new()), under_way: None }
    }

    /// Waits for what is under way. Where the pass ends before, it is still under way in the next.
    async fn wait(&mut self) -> Result<Option<Collected>, SourceError> {
        let Some(pass) = &mut self.under_way else { return Ok(None) };
        let done = pass.await;
        self.under_way = None;
        done.map(Some).map_err(|error| SourceError::new(format!("the system collector failed: {error}")))
    }
}

impl Default for SystemSource {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Source for SystemSource {
    async fn read(&mut self, _now: Timestamp) -> Result<Readings, SourceError> {
        // A pass that took too long, as with a file system that hangs, holds a thread: there is never a second. What it
        // tells is old by then.
        if let Some((collector, _)) = self.wait().await? {
            self.collector = Some(collector);
        }
        let mut collector = self.collector.take().unwrap_or_default();
        self.under_way = Some(tokio::task::spawn_blocking(move || {
            let readings = collector.collect();
            (collector, readings)
        }));
        let Some((collector, readings)) = self.wait().await? else { return Ok(Readings::default()) };
        self.collector = Some(collector);
        Ok(readings)
    }
}

/// A kernel that fills `/proc`.
struct Linux {
    files: Files,
    cpu: Cpu,
    own: Own,
}

impl Linux {
    fn new(files: Files) -> Self {
        Linux { files, cpu: Cpu::default(), own: Own::default() }
    }

    /// Files that could not be read or parsed so far.
    fn collect(&mut self, pass: &mut Pass) -> u64 {
        let files = &mut self.files;
        let host_ticks = self.cpu.collect(files, pass);
        self.own.collect(files, pass, host_ticks);
        memory::collect(files, pass);
        kernel::collect(files, pass);
        network::collect(files, pass);
        disk::collect(files, pass);
        cgroup::collect(files, pass);
        files.errors()
    }
}

/// The samples of one pass.
#[derive(Default)]
struct Pass {
    readings: Readings,
}

impl Pass {
    fn put(&mut self, metric: &str, value: f64) {
        self.put_of(metric, &[], value);
    }

    fn put_of(&mut self, metric: &str, labels: &[(&str, &str)], value: f64) {
        let about = About { unit: unit(metric), ..About::default() };
        self.readings.put(metric, labels, about, value);
    }

    fn put_all(&mut self, readings: Option<files::Readings>) {
        readings.into_iter().flatten().for_each(|(metric, value)| self.put(metric, value));
    }
}

/// The unit a metric's name ends in; none of what is only counted.
fn unit(metric: &str) -> &'static str {
    let name = metric.strip_suffix("_total").unwrap_or(metric);
    ["seconds", "bytes", "percent"].into_iter().find(|unit| name.ends_with(unit)).unwrap_or_default()
}

/// `part` of `whole` in percent; 0 of an empty whole.
fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (100.0 * part / whole).clamp(0.0, 100.0) } else { 0.0 }
}

#[cfg(test)]
mod tests;
