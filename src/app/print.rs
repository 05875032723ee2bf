//! Rows to stdout.

use std::io::{BufWriter, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::source::RowStream;
use crate::query::{OutputFormat, RowWriter};

/// Writes rows to stdout in the format asked for.
pub(super) struct Printer {
    pub format: OutputFormat,
}

impl Printer {
    pub fn new(format: OutputFormat) -> Self {
        Printer { format }
    }

    pub fn rows(&mut self, schema: &SchemaRef, batches: &[RecordBatch]) -> anyhow::Result<()> {
        let batches = Box::new(batches.iter().map(|batch| Ok(batch.clone())));
        self.stream(RowStream { schema: schema.clone(), batches })
    }

    /// Writes rows as they come.
    pub fn stream(&mut self, rows: RowStream<'_>) -> anyhow::Result<()> {
        let mut writer = RowWriter::new(self.format, rows.schema, BufWriter::new(std::io::stdout()))?;
        for batch in rows.batches {
            writer.write(&batch?)?;
        }
        writer.finish()?.flush()?;
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
