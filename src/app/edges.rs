//! What is outside of store and pipelines: where sinks send to, and how files are read for sources.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;

use super::input;
use crate::egress::Egress;
use crate::flow::{Intake, ReadFileSpec, Readers};
use crate::ingest::line_protocol::{LineCache, LineOptions, Precision, read_line_protocol};
use crate::ingest::{
    Columns, CsvMapping, Format, Gather, ReadError, TimeBounds, read_csv, read_ndjson, read_prometheus,
};
use crate::stages::Edges;
use crate::store::ParquetInput;
use crate::world::{RealDisk, World};

/// Those of a node that writes.
pub(super) fn edges(world: &World, future: Duration) -> Edges {
    let print = |lines: &[u8]| {
        let mut out = std::io::stdout().lock();
        out.write_all(lines)?;
        out.flush()
    };
    let mut edges = Edges::default();
    edges.couriers = Arc::new(Egress::new(world.clone(), Arc::new(print)));
    edges.readers = Arc::new(Files { world: world.clone(), future });
    edges
}

/// Reads files as `import` does.
pub(super) struct Files {
    world: World,
    future: Duration,
}

impl Files {
    /// One that only looks whether they can be read.
    pub fn to_check() -> Self {
        Files { world: World::real(), future: Duration::ZERO }
    }
}

impl Readers for Files {
    fn read(&self, file: &ReadFileSpec, intake: &dyn Intake) -> Result<(), String> {
        let now = self.world.clock.now();
        let mut gather = Gather::new(intake, TimeBounds::new(now, self.future, None));
        let read = self.read_into(file, &mut gather);
        for fault in &gather.faults.first {
            let (file, line, error) = (file.path.display(), fault.line, &fault.error);
            tracing::warn!(%file, line, error, "a line of a pipeline's file is left out");
        }
        read.map_err(|error| format!("{error:#}"))
    }

    fn check(&self, file: &ReadFileSpec) -> Result<(), String> {
        let format = format(file)?;
        let is_mapped = file.metric.is_some() || file.time.is_some() || file.value.is_some() || !file.labels.is_empty();
        if is_mapped && !matches!(format, Format::Csv | Format::Parquet) {
            return Err(format!(
                "time, value, metric and labels map the columns of CSV and Parquet: leave them out, the file is {format}"
            ));
        }
        Ok(())
    }

    fn is_there(&self, path: &Path) -> bool {
        path.is_file()
    }
}

impl Files {
    fn read_into(&self, file: &ReadFileSpec, gather: &mut Gather<'_>) -> anyhow::Result<()> {
        let mapping = CsvMapping {
            time: file.time.clone(),
            value: file.value.clone(),
            metric: file.metric.clone(),
            labels: file.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        };
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.split('.').next().unwrap_or_default();
        let format = format(file).map_err(anyhow::Error::msg)?;
        if format == Format::Parquet {
            let input = ParquetInput::open(&RealDisk, &file.path)?;
            let mut columns = Columns::new(&input.schema, &mapping, stem)?;
            for batch in input {
                columns.read(&batch?, gather)?;
            }
        } else {
            self.read_text(file, format, &mapping, stem, gather)?;
        }
        gather.flush()?;
        Ok(())
    }

    fn read_text(
        &self,
        file: &ReadFileSpec,
        format: Format,
        mapping: &CsvMapping,
        stem: &str,
        gather: &mut Gather<'_>,
    ) -> Result<(), ReadError> {
        let mut text = input::open(&file.path.to_string_lossy(), &ProgressBar::hidden())?;
        let now = self.world.clock.now();
        match format {
            Format::Csv => read_csv(&mut *text, mapping, stem, gather)?,
            Format::Ndjson => read_ndjson(&mut *text, gather)?,
            Format::Prometheus => read_prometheus(&mut *text, now, gather)?,
            _ => {
                let options = LineOptions { precision: Precision::Nanos, now };
                read_line_protocol(&mut *text, options, &LineCache::default(), gather)?.lines
            }
        };
        Ok(())
    }
}

/// The format that is written, or that the name tells.
fn format(file: &ReadFileSpec) -> Result<Format, String> {
    if let Some(name) = &file.format {
        return Format::of_name(name).map_err(|error| error.to_string());
    }
    let path = file.path.to_string_lossy();
    let format = Format::of_path(&path).map(|(format, _)| format);
    format.ok_or_else(|| format!("the name of {path} does not tell its format: write format = \"csv\" or another"))
}
