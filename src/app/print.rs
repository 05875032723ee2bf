//! Rows to stdout.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::query::{OutputFormat, render};

/// Writes rows to stdout in the format asked for.
pub(super) struct Printer {
    pub format: OutputFormat,
}

impl Printer {
    pub fn new(format: OutputFormat) -> Self {
        Printer { format }
    }

    pub fn rows(&mut self, schema: &SchemaRef, batches: &[RecordBatch]) -> anyhow::Result<()> {
        let bytes = render(self.format, schema, batches)?;
        std::io::stdout().lock().write_all(&bytes)?;
        Ok(())
    }

    /// A heading, where the format has room for one.
    pub fn title(&mut self, title: &str) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        match self.format {
            OutputFormat::Table => writeln!(out, "\n{title}")?,
            OutputFormat::Markdown => writeln!(out, "\n## {title}\n")?,
            _ => {}
        }
        Ok(())
    }
}
