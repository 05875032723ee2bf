//! Rows as text or bytes, in the formats that the command line and HTTP share.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;

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

/// All rows in one go.
pub fn render(format: OutputFormat, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, ArrowError> {
    let mut out = Vec::new();
    match format {
        OutputFormat::Table => {
            out.extend(table(schema, batches)?.into_bytes());
            out.push(b'\n');
        }
        OutputFormat::Markdown => out.extend(markdown(&table(schema, batches)?).into_bytes()),
        OutputFormat::Csv => {
            let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(&mut out);
            if batches.is_empty() {
                writer.write(&RecordBatch::new_empty(schema.clone()))?;
            }
            batches.iter().try_for_each(|batch| writer.write(batch))?;
        }
        OutputFormat::Json => {
            let mut writer = arrow::json::ArrayWriter::new(&mut out);
            batches.iter().try_for_each(|batch| writer.write(batch))?;
            writer.finish()?;
            if batches.iter().all(|batch| batch.num_rows() == 0) {
                out = b"[]".to_vec();
            }
            out.push(b'\n');
        }
        OutputFormat::Ndjson => {
            let mut writer = arrow::json::LineDelimitedWriter::new(&mut out);
            batches.iter().try_for_each(|batch| writer.write(batch))?;
            writer.finish()?;
        }
        OutputFormat::Arrow => {
            let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut out, schema)?;
            batches.iter().try_for_each(|batch| writer.write(batch))?;
            writer.finish()?;
        }
        OutputFormat::Parquet => {
            out = crate::store::parquet_bytes(schema.clone(), batches)
                .map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
        }
    }
    Ok(out)
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
    fn numbers_for_eyes_are_short() {
        let cases = [(1.0, "1"), (0.1 + 0.2, "0.3"), (1234.5678, "1234.57"), (1e-9, "1.0000e-9"), (-0.015, "-0.015")];
        for (number, told) in cases {
            assert_eq!(short(number), told);
        }
    }
}
