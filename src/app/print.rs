//! Rows to stdout.

use std::io::{BufWriter, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::source::RowStream;
use crate::query::{OutputFormat, RowWriter};

fn write(format: OutputFormat, rows: RowStream<'_>, out: impl Write + Send) -> anyhow::Result<()> {
    let mut writer = RowWriter::new(format, rows.schema, out)?;
    for batch in rows.batches {
        writer.write(&batch?)?;
    }
    writer.finish()?.flush()?;
    Ok(())
}

/// Notes when its reader has left.
#[derive(Default)]
struct Stdout {
    has_left: Arc<AtomicBool>,
}

impl Stdout {
    fn note<T>(&self, done: std::io::Result<T>) -> std::io::Result<T> {
        done.inspect_err(|error| {
            if error.kind() == ErrorKind::BrokenPipe {
                self.has_left.store(true, Ordering::Relaxed);
            }
        })
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.note(std::io::stdout().write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.note(std::io::stdout().flush())
    }
}

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
        let out = Stdout::default();
        let has_left = out.has_left.clone();
        write(self.format, rows, BufWriter::new(out)).map_err(|error| {
            // Writers of formats tell it in words only.
            if has_left.load(Ordering::Relaxed) { std::io::Error::from(ErrorKind::BrokenPipe).into() } else { error }
        })
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
