//! `check`: settings, pipelines and queries, every fault at once.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::edges::Files;
use super::global::Global;
use super::report::{REPORTS, sections};
use crate::config::{
    ConfigFault, ConfigFaults, DEFAULT_PIPELINE, Settings, file_faults, read_pipeline, read_pipelines,
};
use crate::stages::{Apply, PipelineSpec, StageSpec};

#[derive(Args)]
pub(super) struct CheckArgs {
    /// Files: .sql is a report, .toml a pipeline or settings; without any, those that --config names and those that
    /// come with the program
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(super) fn check(global: &Global, args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let mut files = args.files.clone();
    files.extend(global.config.clone());
    let mut faults = Vec::new();
    let mut checked = files.len();
    for path in &files {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => faults.extend(check_text(&file, &text)),
            Err(error) => faults.push(ConfigFault { file, line: 0, error: format!("cannot be read: {error}") }),
        }
    }
    if files.is_empty() {
        faults.extend(check_text("pipelines/default.toml", DEFAULT_PIPELINE));
        for (name, text) in REPORTS {
            faults.extend(check_text(&format!("queries/{name}.sql"), text));
        }
        faults.extend(Settings::read("defaults", "", std::env::vars()).err().unwrap_or_default().0);
        checked = REPORTS.len() + 2;
    }
    if faults.is_empty() {
        eprintln!("{checked} checked, no fault");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{}", ConfigFaults(faults.clone()));
    eprintln!("{checked} checked, {} at fault", faults.len());
    Ok(ExitCode::from(2))
}

fn check_text(file: &str, text: &str) -> Vec<ConfigFault> {
    if file.ends_with(".sql") {
        return check_report(file, text);
    }
    let first_key = |line: &str| line.split(['=', ' ']).next().is_some_and(|key| ["name", "stages"].contains(&key));
    let opens = |line: &str| line.starts_with("[[stages]]") || line.starts_with("[[sinks]]");
    if text.lines().any(|line| opens(line) || first_key(line)) {
        return check_pipeline(file, text);
    }
    match Settings::read(file, text, std::iter::empty()) {
        Err(faults) => faults.0,
        Ok(settings) => match read_pipelines(&settings.pipelines, |path| std::fs::read_to_string(path)) {
            Err(faults) => faults.0,
            Ok(_) => settings.pipelines.files.iter().flat_map(|file| check_file(file)).collect(),
        },
    }
}

/// A pipeline, and the files that it reads.
fn check_pipeline(file: &str, text: &str) -> Vec<ConfigFault> {
    match read_pipeline(file, text) {
        Err(faults) => faults.0,
        Ok(spec) => {
            let mut faults = file_faults(file, text, &spec, &Files::to_check());
            faults.extend(sql_faults(file, text, &spec));
            faults
        }
    }
}

fn check_file(file: &str) -> Vec<ConfigFault> {
    std::fs::read_to_string(file).map_or(Vec::new(), |text| check_pipeline(file, &text))
}

/// Queries of stages that are no SQL. Whether they fit their columns only their samples can tell.
fn sql_faults(file: &str, text: &str, spec: &PipelineSpec) -> Vec<ConfigFault> {
    let fault = |stage: &StageSpec| {
        let Apply::Sql(sql) = &stage.apply else { return None };
        let error = crate::query::parse(&sql.query).err()?;
        let is_name = |line: &str| line.trim_start().starts_with("name") && line.contains(&stage.name);
        let line = text.lines().position(is_name).map_or(0, |at| at + 1);
        Some(ConfigFault { file: file.to_owned(), line, error: format!("stage `{}`: query: {error}", stage.name) })
    };
    spec.stages.iter().filter_map(fault).collect()
}

/// Parses each statement. Whether the tables are there only a store can tell.
fn check_report(file: &str, text: &str) -> Vec<ConfigFault> {
    let fault = |error: String| ConfigFault { file: file.to_owned(), line: 0, error };
    match sections(text, &std::collections::BTreeMap::new()) {
        Err(error) => vec![fault(error.to_string())],
        Ok(sections) => sections
            .iter()
            .filter_map(|section| crate::query::parse(section.statement()).err())
            .map(|error| fault(error.to_string()))
            .collect(),
    }
}
