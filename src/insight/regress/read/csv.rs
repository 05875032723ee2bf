//! CSV of two shapes, told by the first line: `metric` (or `name`), `value`, maybe `unit`; or a column a metric and a row a run.
//! Further columns of the first shape, and those of the second that say which run it was, are left out.

use super::{Measured, better_of};

const METRIC: [&str; 3] = ["metric", "name", "benchmark"];
const VALUE: &str = "value";
const UNIT: &str = "unit";
/// Columns of a row a run that say which, in small letters.
const RUNS: [&str; 8] = ["run", "row", "time", "timestamp", "date", "commit", "version", "host"];

pub(super) fn read(bytes: &[u8]) -> Result<Vec<(String, Measured)>, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("byte {} is no UTF-8: save it as UTF-8 text", error.valid_up_to()))?;
    let mut lines =
        text.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.trim().is_empty());
    let Some((_, header)) = lines.next() else { return Err("it is empty".to_owned()) };
    let header = cells(header);
    let column = |names: &[&str]| header.iter().position(|cell| names.contains(&cell.to_lowercase().as_str()));
    match (column(&METRIC), column(&[VALUE])) {
        (Some(metric), Some(value)) => lines
            .map(|(number, line)| long(&cells(line), metric, value, column(&[UNIT])).map_err(|what| at(number, &what)))
            .collect(),
        _ => wide(&header, lines),
    }
}

fn at(line: usize, what: &str) -> String {
    format!("line {line}: {what}")
}

fn long(cells: &[String], metric: usize, value: usize, unit: Option<usize>) -> Result<(String, Measured), String> {
    let cell = |at: usize| cells.get(at).map_or("", String::as_str);
    let name = cell(metric);
    if name.is_empty() {
        return Err("no name in it: each line has a metric and a value".to_owned());
    }
    let unit = unit.map_or("", cell).to_owned();
    let samples = vec![number(VALUE, cell(value))?];
    Ok((name.to_owned(), Measured { unit, better: better_of(name), samples, ..Measured::default() }))
}

fn wide<'t>(
    header: &[String],
    lines: impl Iterator<Item = (usize, &'t str)>,
) -> Result<Vec<(String, Measured)>, String> {
    let is_metric = |name: &String| !name.is_empty() && !RUNS.contains(&name.to_lowercase().as_str());
    let columns: Vec<usize> = (0..header.len()).filter(|at| is_metric(&header[*at])).collect();
    let mut metrics: Vec<Vec<f64>> = vec![Vec::new(); columns.len()];
    for (line, text) in lines {
        let cells = cells(text);
        for (column, samples) in columns.iter().zip(&mut metrics) {
            let cell = cells.get(*column).map_or("", String::as_str);
            if !cell.is_empty() {
                samples.push(number(&header[*column], cell).map_err(|what| at(line, &what))?);
            }
        }
    }
    let named = columns.iter().map(|column| header[*column].clone()).zip(metrics);
    let measured = |(name, samples): (String, Vec<f64>)| {
        let better = better_of(&name);
        (name, Measured { better, samples, ..Measured::default() })
    };
    Ok(named.filter(|(_, samples)| !samples.is_empty()).map(measured).collect())
}

fn number(column: &str, text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| {
        format!("`{column}` is `{text}`, which is no number: columns are metric,value[,unit] or one a metric")
    })
}

/// Cells without the blanks around them; in quotes a comma is none, and two quotes are one.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => cell.extend(letters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(std::mem::take(&mut cell).trim().to_owned()),
            _ => cell.push(letter),
        }
    }
    cells.push(cell.trim().to_owned());
    cells
}
