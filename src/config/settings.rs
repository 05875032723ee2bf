//! The settings file. These structs are its documentation: every key, its unit and its default.

use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use super::faults::{ConfigFault, ConfigFaults, line_around, line_of, parse};
use super::memory::MemoryPlan;
use crate::stages::BudgetSpec;
use crate::store::{StoreSpec, Sync};

/// All settings. A key can be set in the file, as `PLIMSOLL__SECTION__KEY` in the environment, or by a flag; the later
/// wins.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What everything together may take; [`MemoryPlan`] divides it. At its limit a share is written to disk, makes
    /// senders wait, or refuses.
    pub memory: ByteSize,
    pub store: StoreSettings,
    pub ingest: IngestSettings,
    pub collect: CollectSettings,
    pub query: QuerySettings,
    pub pipelines: PipelineSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            memory: ByteSize::mib(512),
            store: StoreSettings::default(),
            ingest: IngestSettings::default(),
            collect: CollectSettings::default(),
            query: QuerySettings::default(),
            pipelines: PipelineSettings::default(),
        }
    }
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSettings {
    /// `always`, `interval` (1 s) or `never`: when an acknowledged sample is on the disk itself.
    pub sync: Sync,
    /// Samples in memory, in bytes, at which they are written to a segment; a sixteenth of `memory` without it.
    pub head: Option<ByteSize>,
    /// Age at which they are, however few.
    #[serde(with = "humantime_serde")]
    pub head_age: Duration,
    /// Segments of this size are not merged further.
    pub segment: ByteSize,
    /// How long samples are kept, as in `90d`; for ever without it.
    #[serde(with = "humantime_serde")]
    pub retention: Option<Duration>,
}

impl Default for StoreSettings {
    fn default() -> Self {
        let spec = StoreSpec::default();
        StoreSettings {
            sync: spec.sync,
            head: None,
            head_age: spec.head_age,
            segment: ByteSize::b(spec.segment_bytes),
            retention: spec.retention,
        }
    }
}

/// `[ingest]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestSettings {
    /// Samples further ahead of the clock are refused.
    #[serde(with = "humantime_serde")]
    pub future_max: Duration,
    /// Largest body of a request, after decompression.
    pub body_max: ByteSize,
    /// New series that one source (the header `X-Plimsoll-Source`, else a client's address; `import`; `system`) may
    /// bring in 24 hours. Samples of further ones are refused; known series go on.
    pub series_per_source: u64,
    /// Series the store may hold, of all sources and all time. Each takes some 50 to 150 bytes of memory.
    pub series_max: u64,
}

impl Default for IngestSettings {
    fn default() -> Self {
        let budget = BudgetSpec::default();
        IngestSettings {
            future_max: Duration::from_secs(86_400),
            body_max: ByteSize::mib(64),
            series_per_source: budget.series_per_source,
            series_max: budget.series_max,
        }
    }
}

/// `[collect]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectSettings {
    /// Whether this machine's own metrics are collected.
    pub system: bool,
    /// How often.
    #[serde(with = "humantime_serde")]
    pub system_interval: Duration,
}

impl Default for CollectSettings {
    fn default() -> Self {
        CollectSettings { system: true, system_interval: Duration::from_secs(30) }
    }
}

/// `[query]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuerySettings {
    /// What all queries may hold together, a quarter of `memory` without it: beyond it sorts, joins and aggregates
    /// spill to disk, and an answer that is larger is refused.
    pub memory: Option<ByteSize>,
}

/// `[pipelines]`
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PipelineSettings {
    /// Whether any pipeline runs.
    pub off: bool,
    /// Pipeline files; without any, the one that comes with the program.
    pub files: Vec<String>,
}

impl Settings {
    /// Reads a settings file's text, then lays the environment over it (`PLIMSOLL__STORE__SYNC=always`).
    ///
    /// # Errors
    /// Every unknown key, wrong type and value that cannot be, at once.
    pub fn read(
        file: &str,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Settings, ConfigFaults> {
        let (settings, mut faults) = parse::<Settings>(file, text, line_around);
        let Some(mut settings) = settings else { return Err(ConfigFaults(faults)) };
        let mut table: toml::Table = text.parse().unwrap_or_default();
        for (name, value) in environment {
            let Some(key) = name.strip_prefix("PLIMSOLL__") else { continue };
            if let Err(error) = settings.lay_over(&mut table, key, &value) {
                faults.push(ConfigFault { file: format!("environment variable {name}"), line: 0, error });
            }
        }
        faults.extend(settings.faults(file, text));
        faults.sort_by_key(|fault| fault.line);
        if faults.is_empty() { Ok(settings) } else { Err(ConfigFaults(faults)) }
    }

    /// Sets one key of `table`, which keeps what was laid over before.
    fn lay_over(&mut self, table: &mut toml::Table, key: &str, value: &str) -> Result<(), String> {
        let mut changed = table.clone();
        let plain = toml::Value::String(value.to_owned());
        let typed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("v"));
        let value = typed.unwrap_or(plain);
        let (section, key) = match key.split_once("__") {
            Some((section, key)) => {
                let section = changed.entry(section.to_lowercase());
                let section = section.or_insert_with(|| toml::Value::Table(toml::Table::new()));
                (section.as_table_mut().ok_or("the section is a value in the file")?, key)
            }
            None if key.eq_ignore_ascii_case("memory") => (&mut changed, key),
            None => return Err("write PLIMSOLL__SECTION__KEY, as in PLIMSOLL__STORE__SYNC".into()),
        };
        section.insert(key.to_lowercase(), value);
        *self = changed.clone().try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
        *table = changed;
        Ok(())
    }

    fn faults(&self, file: &str, text: &str) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        let mut check = |ok: bool, key: &str, remedy: &str| {
            if !ok {
                let line = line_of(text, 0, key);
                faults.push(ConfigFault { file: file.to_owned(), line, error: format!("{key}: {remedy}") });
            }
        };
        check(self.memory >= MemoryPlan::LEAST, "memory", "write at least 64MB, as in memory = \"512MB\"");
        let head = self.store.head;
        check(head.is_none_or(|head| head >= ByteSize::mb(1)), "head", "write at least 1MB, as in head = \"32MB\"");
        check(self.store.segment >= ByteSize::mb(1), "segment", "write at least 1MB, as in segment = \"512MB\"");
        check(self.ingest.body_max >= ByteSize::kb(1), "body_max", "write at least 1KB, as in body_max = \"64MB\"");
        let told = "write at least 1, as in series_per_source = 2000000";
        check(self.ingest.series_per_source >= 1, "series_per_source", told);
        check(self.ingest.series_max >= 1, "series_max", "write at least 1, as in series_max = 10000000");
        let memory = self.query.memory;
        let told = "write at least 16MB, as in memory = \"256MB\"";
        check(memory.is_none_or(|memory| memory >= ByteSize::mb(16)), "memory", told);
        check(
            self.collect.system_interval >= Duration::from_millis(100),
            "system_interval",
            "write at least 100ms, as in system_interval = \"30s\"",
        );
        faults
    }

    pub fn budget_spec(&self) -> BudgetSpec {
        BudgetSpec { series_per_source: self.ingest.series_per_source, series_max: self.ingest.series_max }
    }

    pub fn memory_plan(&self) -> MemoryPlan {
        MemoryPlan { all: self.memory.as_u64() }
    }

    /// Bytes that queries may hold together.
    pub fn query_bytes(&self) -> usize {
        bytes(self.query.memory.map_or(self.memory_plan().queries(), |memory| memory.as_u64()))
    }

    pub fn store_spec(&self) -> StoreSpec {
        let plan = self.memory_plan();
        StoreSpec {
            sync: self.store.sync,
            head_bytes: bytes(self.store.head.map_or(plan.head(), |head| head.as_u64())),
            series_bytes: bytes(plan.series()),
            head_age: self.store.head_age,
            segment_bytes: self.store.segment.as_u64(),
            retention: self.store.retention,
        }
    }
}

fn bytes(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, environment: &[(&str, &str)]) -> String {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        match Settings::read("p.toml", text, environment) {
            Ok(settings) => format!("{:?} {:?}", settings.store.sync, settings.store.retention),
            Err(faults) => faults.to_string(),
        }
    }

    #[test]
    fn the_environment_lies_over_the_file() {
        let text = "[store]\nsync = \"never\"\nretention = \"2d\"\n";
        assert_eq!(told(text, &[]), "Never Some(172800s)");
        assert_eq!(told(text, &[("PLIMSOLL__STORE__SYNC", "always")]), "Always Some(172800s)");
        let both = [("PLIMSOLL__STORE__SYNC", "always"), ("PLIMSOLL__STORE__RETENTION", "1d")];
        assert_eq!(told(text, &both), "Always Some(86400s)", "each of them counts");
        let set = |value: &str| {
            let environment = [("PLIMSOLL__MEMORY".to_owned(), value.to_owned())];
            Settings::read("p.toml", "memory = \"1GB\"\n[query]\nmemory = \"20MB\"\n", environment)
        };
        let settings = set("160MB").unwrap();
        assert_eq!((settings.store_spec().head_bytes, settings.query_bytes()), (10_000_000, 20_000_000));
        assert!(set("1MB").unwrap_err().to_string().contains("write at least 64MB"));
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_line() {
        let told = told("[store]\nsink = 1\nsync = \"sometimes\"\n[query]\nmemory = \"1KB\"\nx = 2\n", &[]);
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[0].starts_with("p.toml:2: unknown field `sink`"), "{told}");
        assert!(lines[1].starts_with("p.toml:3: unknown variant `sometimes`"), "{told}");
        assert!(lines[2].starts_with("p.toml:5: memory: write at least 16MB"), "{told}");
        assert!(lines[3].starts_with("p.toml:6: unknown field `x`"), "{told}");
    }

    #[test]
    fn values_that_cannot_be_name_their_remedy() {
        let told = told("[store]\nhead = \"1KB\"\n[ingest]\nseries_max = 0\n", &[("PLIMSOLL__NOPE", "1")]);
        assert!(told.contains("p.toml:4: series_max: write at least 1"), "{told}");
        assert!(told.contains("PLIMSOLL__SECTION__KEY") && told.contains("p.toml:2: head: write at least"), "{told}");
    }
}
