//! Pipeline files: parsed and checked.

use std::ops::Range;

use super::faults::{ConfigFault, ConfigFaults, line_around, line_of, parse};
use super::settings::PipelineSettings;
use crate::flow::Readers;
use crate::stages::{List, PipelineSpec};

/// The pipeline that runs where the settings name none.
pub const DEFAULT_PIPELINE: &str = include_str!("../../pipelines/default.toml");

/// Reads a pipeline file's text.
///
/// # Errors
/// Every fault at once, with its line.
pub fn read_pipeline(file: &str, text: &str) -> Result<PipelineSpec, ConfigFaults> {
    // What does not read of a list is left out whole, and so are faults that only its absence makes.
    let (spec, mut faults) = parse::<PipelineSpec>(file, text, |text, at| {
        let found = parts(text).into_iter().find(|part| part.lines.contains(&at));
        found.map_or_else(|| line_around(text, at), |part| part.lines)
    });
    let Some(spec) = spec else { return Err(ConfigFaults(faults)) };
    let unread: Vec<usize> = faults.iter().map(|fault| fault.line).collect();
    let is_read = |part: &Part| {
        let lines = line_at(text, part.lines.start)..=line_at(text, part.lines.end);
        !unread.iter().any(|line| lines.contains(line))
    };
    let read: Vec<Part> = parts(text).into_iter().filter(is_read).collect();
    let start_of = |(list, at): (List, usize)| start_of(&read, list, at);
    for fault in spec.faults().into_iter().filter(|fault| unread.is_empty() || !fault.of_absence) {
        let from = fault.of.and_then(start_of).unwrap_or(0);
        faults.push(ConfigFault { file: file.to_owned(), line: line_of(text, from, &fault.at), error: fault.error });
    }
    faults.sort_by_key(|fault| fault.line);
    if faults.is_empty() { Ok(spec) } else { Err(ConfigFaults(faults)) }
}

fn start_of(parts: &[Part], list: List, at: usize) -> Option<usize> {
    parts.iter().filter(|part| part.list == list.name()).map(|part| part.lines.start).nth(at)
}

/// What is wrong with the files that a pipeline without faults is to read.
pub fn file_faults(file: &str, text: &str, spec: &PipelineSpec, readers: &dyn Readers) -> Vec<ConfigFault> {
    let parts = parts(text);
    let mut faults = Vec::new();
    for (place, read) in spec.files() {
        let from = start_of(&parts, List::Sources, place).unwrap_or(0);
        let mut fault = |error: String| {
            let line = line_of(text, from, "path");
            faults.push(ConfigFault { file: file.to_owned(), line, error });
        };
        if let Err(error) = readers.check(read) {
            fault(error);
        }
        if !readers.is_there(&read.path) {
            fault(format!(
                "there is no file {}: correct the path, as seen from where plimsoll runs",
                read.path.display()
            ));
        }
    }
    faults
}

fn line_at(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// One of a list, as `[[stages]]` opens it.
struct Part<'t> {
    list: &'t str,
    lines: Range<usize>,
}

/// What lies between one opening of a list and the next.
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut starts: Vec<(usize, &str)> = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let opened = line.trim_start().strip_prefix("[[").and_then(|rest| rest.split_once("]]"));
        starts.extend(opened.map(|(list, _)| (at, list.trim())));
        at += line.len();
    }
    let ends: Vec<usize> = starts.iter().skip(1).map(|(at, _)| *at).chain([text.len()]).collect();
    let lines = |start: usize, end: usize| start..text[..end].trim_end().len().max(start);
    starts.into_iter().zip(ends).map(|((start, list), end)| Part { list, lines: lines(start, end) }).collect()
}

/// All pipelines that the settings ask for; `read` gives a file's text.
pub fn read_pipelines(
    settings: &PipelineSettings,
    read: impl Fn(&str) -> std::io::Result<String>,
) -> Result<Vec<PipelineSpec>, ConfigFaults> {
    if settings.off {
        return Ok(Vec::new());
    }
    if settings.files.is_empty() {
        return Ok(vec![read_pipeline("pipelines/default.toml", DEFAULT_PIPELINE)?]);
    }
    let (mut specs, mut faults): (Vec<PipelineSpec>, Vec<ConfigFault>) = (Vec::new(), Vec::new());
    for file in &settings.files {
        match read(file) {
            Err(error) => faults.push(ConfigFault {
                file: file.clone(),
                line: 0,
                error: format!("cannot be read ({error}): check `files` under [pipelines]"),
            }),
            Ok(text) => match read_pipeline(file, &text) {
                Err(of_file) => faults.extend(of_file.0),
                Ok(spec) if specs.iter().any(|other| other.name == spec.name) => faults.push(ConfigFault {
                    file: file.clone(),
                    line: line_of(&text, 0, &spec.name),
                    error: format!("another pipeline is named `{}`: rename one", spec.name),
                }),
                Ok(spec) => specs.push(spec),
            },
        }
    }
    if faults.is_empty() { Ok(specs) } else { Err(ConfigFaults(faults)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_pipeline_has_no_fault() {
        assert_eq!(read_pipeline("default", DEFAULT_PIPELINE).unwrap().stages.len(), 5);
    }

    #[test]
    fn faults_name_stage_line_and_remedy() {
        let cases = [
            ("name = \"p\"\nstages = []\n", "p.toml:2: there is no stage"),
            (
                "name = \"p\"\n[[stages]]\nname = \"a\"\ninputs = [\"gone\"]\napply.window = { every = \"1h\" }\n",
                "p.toml:4: stage `a` takes `gone`, which is no source or stage before it: write one of live",
            ),
            (
                "name = \"p\"\n[[stages]]\nname = \"a\"\napply.window = { evry = \"1h\" }\n",
                "p.toml:4: unknown field `evry`, expected one of `every`, `tiers`",
            ),
            (
                "name = \"p\"\n[[stages]]\nname = \"a\"\napply.windw = { every = \"1h\" }\n",
                "p.toml:4: unknown variant `windw`, expected one of `compress`, `window`, `anomaly`, `correlate`",
            ),
            (
                "name = \"p\"\nshards = 2\n[[stages]]\nname = \"a\"\napply.correlate = { threshold = 2.0 }\n",
                "p.toml:5: stage `a`: threshold = 2 cannot be",
            ),
        ];
        let two = "name = \"p\"\n[[stages]]\nname = \"a\"\napply.window = { evry = \"1h\" }\n\
                   [[stages]]\nname = \"b\"\ninputs = [\"a\"]\napply.anomaly = { threshold = -1.0 }\n";
        let told: Vec<String> = read_pipeline("p.toml", two).unwrap_err().0.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("p.toml:4: unknown field"), "{told:?}");
        assert!(told[1].starts_with("p.toml:8: stage `b`: threshold"), "{told:?}");
        for (text, told) in cases {
            let faults = read_pipeline("p.toml", text).unwrap_err().to_string();
            assert!(faults.contains(told), "{faults}");
        }
    }
}
