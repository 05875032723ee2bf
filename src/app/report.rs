//! `report`: the files of `queries/`. Each holds statements, with a title each and parameters with defaults:
//!
//! ```sql
//! -- param limit = 10
//! -- title: The strongest anomalies
//! SELECT … LIMIT $limit;
//! ```

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap::Args;

use super::global::{Global, WrongUsage};
use super::print::Printer;
use super::source::Source;
use super::sql::statements;

/// The reports that come with the program, by name.
pub(super) const REPORTS: [(&str, &str); 4] = [
    ("health-overview", include_str!("../../queries/health-overview.sql")),
    ("top-anomalies", include_str!("../../queries/top-anomalies.sql")),
    ("correlated-pairs", include_str!("../../queries/correlated-pairs.sql")),
    ("capacity-outlook", include_str!("../../queries/capacity-outlook.sql")),
];

#[derive(Args)]
pub(super) struct ReportArgs {
    /// Name of a report, or a file of statements
    name: Option<String>,
    /// A parameter of the report
    #[arg(short, long = "param", value_name = "KEY=VALUE")]
    params: Vec<String>,
}

pub(super) fn report(global: &Global, args: &ReportArgs, printer: &mut Printer) -> anyhow::Result<()> {
    let Some(name) = &args.name else {
        for (name, text) in REPORTS {
            let about = text.lines().next().unwrap_or_default().trim_start_matches("-- ");
            writeln!(std::io::stdout(), "{name:<20}{about}")?;
        }
        return Ok(());
    };
    let text = text_of(name)?;
    let pair = |pair: &String| match pair.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(WrongUsage(format!("-p {pair} is not key=value"))),
    };
    let params = args.params.iter().map(pair).collect::<Result<BTreeMap<_, _>, _>>()?;
    let sections = sections(&text, &params)?;
    run(&Source::open(global)?, &sections, printer)
}

pub(super) fn text_of(name: &str) -> anyhow::Result<String> {
    if let Some((_, text)) = REPORTS.iter().find(|(known, _)| *known == name) {
        return Ok((*text).to_owned());
    }
    if Path::new(name).exists() {
        return std::fs::read_to_string(name).with_context(|| format!("cannot read {name}"));
    }
    let known: Vec<&str> = REPORTS.iter().map(|(name, _)| *name).collect();
    Err(WrongUsage(format!("there is no report `{name}`: there are {}, or name a file", known.join(", "))).into())
}

/// A title and a statement.
pub(super) struct Section {
    title: Option<String>,
    statement: String,
}

impl Section {
    pub fn title(&self) -> Option<&str> {
        self.title.as_deref()
    }

    pub fn statement(&self) -> &str {
        &self.statement
    }
}

/// The statements of a report, parameters put in.
pub(super) fn sections(text: &str, given: &BTreeMap<String, String>) -> Result<Vec<Section>, WrongUsage> {
    let mut params = BTreeMap::new();
    for line in text.lines() {
        if let Some((key, value)) = line.strip_prefix("-- param ").and_then(|line| line.split_once('=')) {
            params.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    for (key, value) in given {
        if !params.contains_key(key) {
            let known: Vec<&str> = params.keys().map(String::as_str).collect();
            let told = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
            return Err(WrongUsage(format!("the report has no parameter `{key}`: {told}")));
        }
        params.insert(key.clone(), value.clone());
    }
    let section = |statement: String| {
        let title = statement.lines().find_map(|line| line.strip_prefix("-- title: ")).map(str::to_owned);
        Section { title, statement: fill(&statement, &params) }
    };
    Ok(statements(text).into_iter().map(section).collect())
}

/// `$name` becomes the parameter: a number as it is, a text in quotes.
fn fill(statement: &str, params: &BTreeMap<String, String>) -> String {
    let mut filled = statement.to_owned();
    // Longer names first: $limit must not be taken for $lim.
    for (key, value) in params.iter().rev() {
        let literal = match value.parse::<f64>() {
            Ok(number) if number.is_finite() => value.clone(),
            _ => format!("'{}'", value.trim_matches('\'').replace('\'', "''")),
        };
        filled = filled.replace(&format!("${key}"), &literal);
    }
    filled
}

pub(super) fn run(source: &Source, sections: &[Section], printer: &mut Printer) -> anyhow::Result<()> {
    for section in sections {
        let (schema, batches) = source.sql(&section.statement)?;
        if let Some(title) = &section.title {
            printer.title(title)?;
        }
        printer.rows(&schema, &batches)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_put_in_quoted_as_needed() {
        let text = "-- param limit = 10\n-- param like = cpu%\n-- title: T\nSELECT $limit, $like";
        let given = BTreeMap::from([("like".to_owned(), "it's".to_owned())]);
        let sections = sections(text, &given).unwrap();
        assert_eq!(sections[0].title.as_deref(), Some("T"));
        assert!(sections[0].statement.ends_with("SELECT 10, 'it''s'"));
        assert!(super::sections(text, &BTreeMap::from([("x".to_owned(), String::new())])).is_err());
    }
}
