//! `check`: settings, pipelines and queries, every fault at once; and the tests that pipelines hold.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::ask::Asker;
use super::edges::Files;
use super::global::Global;
use super::report::{REPORTS, sections};
use crate::config::{
    ConfigFault, ConfigFaults, PIPELINES, Settings, file_faults, line_in_stage, read_pipeline, read_pipelines,
};
use crate::model::Timestamp;
use crate::stages::{Apply, PipelineSpec, Scratch, run_test};
use crate::store::{Store, StoreSpec};
use crate::world::{Chance, SimClock, SimDisk, World};

/// Exit code where a test failed.
const FAILED: u8 = 1;

#[derive(Args)]
pub(super) struct CheckArgs {
    /// Files: .sql is a report, .toml a pipeline or settings; without any, those that --config names and those that
    /// come with the program
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Run the tests of the pipelines, too; exit code 1 where one fails
    #[arg(long)]
    tests: bool,
    /// What chance goes by in the tests: the same seed, the same stops and batches
    #[arg(long, value_name = "N", requires = "tests")]
    seed: Option<u64>,
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
        faults.extend(PIPELINES.iter().flat_map(|(file, text)| check_text(file, text)));
        for (name, text) in REPORTS {
            faults.extend(check_text(&format!("queries/{name}.sql"), text));
        }
        faults.extend(Settings::read("defaults", "", std::env::vars()).err().unwrap_or_default().0);
        checked = REPORTS.len() + PIPELINES.len() + 1;
    }
    if faults.is_empty() {
        eprintln!("{checked} checked, no fault");
        return if args.tests { test(&files, args.seed) } else { Ok(ExitCode::SUCCESS) };
    }
    eprintln!("{}", ConfigFaults(faults.clone()));
    eprintln!("{checked} checked, {} at fault", faults.len());
    Ok(ExitCode::from(2))
}

fn check_text(file: &str, text: &str) -> Vec<ConfigFault> {
    if file.ends_with(".sql") {
        return check_report(file, text);
    }
    if is_pipeline(text) {
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

/// Queries of stages that can never be answered, or whose answer is no samples.
fn sql_faults(file: &str, text: &str, spec: &PipelineSpec) -> Vec<ConfigFault> {
    let stages = spec.stages.iter().enumerate();
    let queries = stages.filter_map(|(place, stage)| match &stage.apply {
        Apply::Sql(sql) => Some((place, &stage.name, sql)),
        _ => None,
    });
    let mut queries = queries.peekable();
    if queries.peek().is_none() {
        return Vec::new();
    }
    let fault = |line: usize, error: String| ConfigFault { file: file.to_owned(), line, error };
    let asker = match Asker::new() {
        Ok(asker) => asker,
        Err(error) => return vec![fault(0, format!("queries cannot be tried: {error}"))],
    };
    let tried = queries.filter_map(|(place, name, sql)| {
        let error = asker.fault(sql)?;
        Some(fault(line_in_stage(text, place, "query"), format!("stage `{name}`: query: {error}")))
    });
    tried.collect()
}

fn is_pipeline(text: &str) -> bool {
    let first_key = |line: &str| line.split(['=', ' ']).next().is_some_and(|key| ["name", "stages"].contains(&key));
    let opens = |line: &str| line.starts_with("[[stages]]") || line.starts_with("[[sinks]]");
    text.lines().any(|line| opens(line) || first_key(line))
}

/// A store on a disk that is only in memory.
struct Simulated {
    disk: SimDisk,
    /// Of its catalog, which needs a real one.
    folder: tempfile::TempDir,
}

impl Scratch for Simulated {
    fn open(&self) -> Result<Store, Box<dyn std::error::Error>> {
        let clock = Arc::new(SimClock::at(Timestamp::default()));
        let world = World::simulated(clock, Arc::new(self.disk.clone()), 0);
        Ok(Store::open_with_catalog(world, Path::new("/data"), self.folder.path(), StoreSpec::default())?)
    }
}

/// Runs the tests of pipelines that have no fault, a line each.
fn test(files: &[PathBuf], seed: Option<u64>) -> anyhow::Result<ExitCode> {
    let seed = seed.unwrap_or_else(|| Chance::real().next_u64());
    let chance = Chance::seeded(seed);
    let scratch = || -> std::io::Result<Box<dyn Scratch>> {
        Ok(Box::new(Simulated { disk: SimDisk::new(), folder: tempfile::tempdir()? }))
    };
    let (mut run, mut failed) = (0, 0);
    for (file, pipeline) in pipelines(files)? {
        for test in &pipeline.tests {
            let told = run_test(&pipeline, test, &|bound| chance.below(bound), &scratch);
            run += 1;
            if told.failures.is_empty() {
                println!("{file}: {}: ok", told.name);
                continue;
            }
            failed += 1;
            println!("{file}: {}: FAILED", told.name);
            told.failures.iter().for_each(|line| println!("    {line}"));
        }
    }
    if failed > 0 {
        eprintln!("{run} tests, {failed} failed: --seed {seed} repeats them");
        return Ok(ExitCode::from(FAILED));
    }
    eprintln!("{run} tests, all ok");
    Ok(ExitCode::SUCCESS)
}

/// The pipelines of files and of the settings among these; without any file those that come with the program.
fn pipelines(files: &[PathBuf]) -> anyhow::Result<Vec<(String, PipelineSpec)>> {
    let mut all = Vec::new();
    if files.is_empty() {
        for (file, text) in PIPELINES {
            all.push((file.to_owned(), read_pipeline(file, text)?));
        }
    }
    for path in files.iter().filter(|path| path.extension().is_some_and(|ending| ending == "toml")) {
        let (file, text) = (path.display().to_string(), std::fs::read_to_string(path)?);
        if is_pipeline(&text) {
            all.push((file.clone(), read_pipeline(&file, &text)?));
        } else {
            let settings = Settings::read(&file, &text, std::iter::empty())?;
            let named = read_pipelines(&settings.pipelines, |path| std::fs::read_to_string(path))?;
            all.extend(named.into_iter().map(|pipeline| (file.clone(), pipeline)));
        }
    }
    Ok(all)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_tried_on_a_table_without_rows() {
        let faults = |query: &str| -> Vec<String> {
            let text = format!(
                "name = \"p\"\n[[stages]]\nname = \"a\"\napply.throttle = {{ samples_per_second = 1 }}\n\
                 [[stages]]\nname = \"b\"\napply.sql = {{ every = \"1m\", query = \"{query}\" }}\n"
            );
            check_pipeline("p.toml", &text).iter().map(ToString::to_string).collect()
        };
        for query in [
            "SELECT host, max(value) AS value FROM input GROUP BY host",
            "SELECT metric || '_max' AS metric, max(time) AS time, max(value) AS value FROM input GROUP BY metric",
            "SELECT count(*) AS value FROM (SELECT DISTINCT series FROM input)",
        ] {
            assert_eq!(faults(query), [] as [&str; 0], "{query}");
        }
        for (query, told) in [
            ("SELECT max(value) AS value FROM metrics", "metrics"),
            ("SELECT max(valeu) AS value FROM input", "`value` is a text: take it of the column `value`"),
            ("SELECT max(value) FROM input", "the answer has no column `value`: name one so"),
            ("SELECT avg(host) AS value FROM input", "ask the table `input`, which has metric, series, time, value"),
            ("SELEC 1", "SELEC"),
            ("DROP TABLE input", "ask the table `input`"),
        ] {
            let faults = faults(query);
            assert!(faults.len() == 1 && faults[0].contains(told), "{query}: {faults:?}");
            assert!(faults[0].starts_with("p.toml:7: stage `b`: query: "), "{faults:?}");
        }
    }
}
