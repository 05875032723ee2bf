//! Rows as text or bytes, in the formats that the command line and HTTP share.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;

use crate::store::{ParquetOutput, StoreError};

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OutputFormat {
    #[default]
    Table,
    Markdown,
    Csv,
    Json,
    Ndjson,
    Arrow,
    Parquet,
}

impl OutputFormat {
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "table" => OutputFormat::Table,
            "markdown" => OutputFormat::Markdown,
            "csv" => OutputFormat::Csv,
            "json" => OutputFormat::Json,
            "ndjson" | "jsonl" => OutputFormat::Ndjson,
            "arrow" => OutputFormat::Arrow,
            "parquet" => OutputFormat::Parquet,
            _ => return None,
        })
    }

    pub const fn content_type(self) -> &'static str {
        match self {
            OutputFormat::Table | OutputFormat::Markdown => "text/plain; charset=utf-8",
            OutputFormat::Csv => "text/csv; charset=utf-8",
            OutputFormat::Json => "application/json",
            OutputFormat::Ndjson => "application/x-ndjson",
            OutputFormat::Arrow => "application/vnd.apache.arrow.stream",
            OutputFormat::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// Writes rows as they come. Tables for eyes need to see all rows before the first is written; the other formats hold
/// none.
pub struct RowWriter<W: Write + Send> {
    schema: SchemaRef,
    rows: u64,
    form: Form<W>,
}

enum Form<W: Write + Send> {
    /// Whether as Markdown.
    Table(W, Vec<RecordBatch>, bool),
    Csv(Box<arrow::csv::Writer<W>>),
    Json(arrow::json::ArrayWriter<W>),
    Ndjson(arrow::json::LineDelimitedWriter<W>),
    Arrow(arrow::ipc::writer::StreamWriter<W>),
    Parquet(Box<ParquetOutput<W>>),
}

impl<W: Write + Send> RowWriter<W> {
    pub fn new(format: OutputFormat, schema: SchemaRef, out: W) -> Result<Self, ArrowError> {
        let form = match format {
            OutputFormat::Table => Form::Table(out, Vec::new(), false),
            OutputFormat::Markdown => Form::Table(out, Vec::new(), true),
            OutputFormat::Csv => Form::Csv(Box::new(arrow::csv::WriterBuilder::new().with_header(true).build(out))),
            OutputFormat::Json => Form::Json(arrow::json::ArrayWriter::new(out)),
            OutputFormat::Ndjson => Form::Ndjson(arrow::json::LineDelimitedWriter::new(out)),
            OutputFormat::Arrow => Form::Arrow(arrow::ipc::writer::StreamWriter::try_new(out, &schema)?),
            OutputFormat::Parquet => {
                Form::Parquet(Box::new(ParquetOutput::new(out, schema.clone()).map_err(of_store)?))
            }
        };
        Ok(RowWriter { schema, rows: 0, form })
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.rows += batch.num_rows() as u64;
        match &mut self.form {
            Form::Table(_, batches, _) => batches.push(batch.clone()),
            Form::Csv(writer) => writer.write(batch)?,
            Form::Json(writer) => writer.write(batch)?,
            Form::Ndjson(writer) => writer.write(batch)?,
            Form::Arrow(writer) => writer.write(batch)?,
            Form::Parquet(writer) => writer.write(batch).map_err(of_store)?,
        }
        Ok(())
    }

    /// How many were written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes what is left, and gives back where it was written to.
    pub fn finish(self) -> Result<W, ArrowError> {
        Ok(match self.form {
            Form::Table(mut out, batches, is_markdown) => {
                let table = table(&self.schema, &batches)?;
                out.write_all(if is_markdown { markdown(&table) } else { table + "\n" }.as_bytes())?;
                out
            }
            Form::Csv(mut writer) => {
                if self.rows == 0 {
                    writer.write(&RecordBatch::new_empty(self.schema))?;
                }
                writer.into_inner()
            }
            Form::Json(mut writer) => {
                writer.finish()?;
                let mut out = writer.into_inner();
                out.write_all(b"\n")?;
                out
            }
            Form::Ndjson(mut writer) => {
                writer.finish()?;
                writer.into_inner()
            }
            Form::Arrow(writer) => writer.into_inner()?,
            Form::Parquet(writer) => writer.finish().map_err(of_store)?,
        })
    }
}

fn of_store(error: StoreError) -> ArrowError {
    ArrowError::ExternalError(Box::new(error))
}

/// All rows in one go.
pub fn render(format: OutputFormat, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, ArrowError> {
    let mut writer = RowWriter::new(format, schema.clone(), Vec::new())?;
    batches.iter().try_for_each(|batch| writer.write(batch))?;
    writer.finish()
}

fn table(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<String, ArrowError> {
    let options = FormatOptions::new().with_null("").with_display_error(true);
    let rounded = batches.iter().map(readable).collect::<Result<Vec<_>, _>>()?;
    let rounded = if rounded.is_empty() { vec![RecordBatch::new_empty(schema.clone())] } else { rounded };
    Ok(pretty_format_batches_with_options(&rounded, &options)?.to_string())
}

/// Floats with no more than six digits that matter, for eyes; the other formats keep every bit.
fn readable(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    use arrow::array::{ArrayRef, AsArray, StringArray};
    use arrow::datatypes::{Field, Float64Type, Schema};
    use std::sync::Arc;
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if *field.data_type() == DataType::Float64 {
            let numbers = column.as_primitive::<Float64Type>();
            let told: StringArray = numbers.iter().map(|number| number.map(short)).collect();
            fields.push(Field::new(field.name(), DataType::Utf8, true));
            columns.push(Arc::new(told));
        } else {
            fields.push(field.as_ref().clone());
            columns.push(column.clone());
        }
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

fn short(number: f64) -> String {
    let size = number.abs();
    if number == number.trunc() && size < 1e15 {
        return format!("{number}");
    }
    if !(1e-4..1e15).contains(&size) {
        return format!("{number:.4e}");
    }
    let digits = (5 - size.log10().floor() as i32).clamp(0, 9) as usize;
    let told = format!("{number:.digits$}");
    if told.contains('.') { told.trim_end_matches('0').trim_end_matches('.').to_owned() } else { told }
}

fn markdown(table: &str) -> String {
    let inner = table.lines().filter(|line| !line.starts_with('+'));
    let mut lines: Vec<String> = inner.map(str::to_owned).collect();
    if let Some(head) = lines.first() {
        let rule: String = head.chars().map(|letter| if letter == '|' { '|' } else { '-' }).collect();
        lines.insert(1, rule);
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rows_are_still_an_answer() {
        let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new(
            "n",
            DataType::Int64,
            false,
        )]));
        let told = |format| String::from_utf8(render(format, &schema, &[]).unwrap()).unwrap();
        assert_eq!(told(OutputFormat::Json), "[]\n");
        assert_eq!(told(OutputFormat::Csv), "n\n");
        assert_eq!(told(OutputFormat::Ndjson), "");
        assert!(told(OutputFormat::Table).contains("| n |"));
        let parquet = render(OutputFormat::Parquet, &schema, &[]).unwrap();
        assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    }

    #[test]
    fn numbers_for_eyes_are_short() {
        let cases = [(1.0, "1"), (0.1 + 0.2, "0.3"), (1234.5678, "1234.57"), (1e-9, "1.0000e-9"), (-0.015, "-0.015")];
        for (number, told) in cases {
            assert_eq!(short(number), told);
        }
    }
}
