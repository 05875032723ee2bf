//! Pipeline files: parsed and checked.

use std::ops::Range;

use super::faults::{ConfigFault, ConfigFaults, line_around, line_of, parse};
use super::settings::PipelineSettings;
use crate::flow::Readers;
use crate::stages::{List, PipelineSpec};

/// The pipeline that runs where the settings name none.
pub const DEFAULT_PIPELINE: &str = include_str!("../../pipelines/default.toml");

/// The pipelines that come with the program: the names of their files, and what these say.
pub const PIPELINES: [(&str, &str); 6] = [
    ("pipelines/default.toml", DEFAULT_PIPELINE),
    ("pipelines/tiers.toml", include_str!("../../pipelines/tiers.toml")),
    ("pipelines/sessions.toml", include_str!("../../pipelines/sessions.toml")),
    ("pipelines/smooth.toml", include_str!("../../pipelines/smooth.toml")),
    ("pipelines/rates.toml", include_str!("../../pipelines/rates.toml")),
    ("pipelines/slim.toml", include_str!("../../pipelines/slim.toml")),
];

/// Reads a pipeline file's text.
///
/// # Errors
/// Every fault at once, with its line.
pub fn read_pipeline(file: &str, text: &str) -> Result<PipelineSpec, ConfigFaults> {
    // What does not read of a list is left out whole, and so are faults that only its absence makes.
    let (spec, mut faults) = parse::<PipelineSpec>(file, text, |text, at| {
        let found = parts(text).into_iter().find(|part| part.lines.contains(&at));
        found.map_or_else(|| line_around(text, at), |part| part.whole)
    });
    let Some(spec) = spec else { return Err(ConfigFaults(faults)) };
    let unread: Vec<usize> = faults.iter().map(|fault| fault.line).collect();
    let is_read = |part: &Part| {
        let lines = line_at(text, part.lines.start)..=line_at(text, part.lines.end);
        let of = part.of.as_ref().map(|of| line_at(text, of.start)..=line_at(text, of.end));
        !unread.iter().any(|line| lines.contains(line) || of.as_ref().is_some_and(|of| of.contains(line)))
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

/// The line of a stage's key.
pub fn line_in_stage(text: &str, place: usize, key: &str) -> usize {
    line_of(text, start_of(&parts(text), List::Stages, place).unwrap_or(0), key)
}

fn line_at(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// One of a list, as `[[stages]]` opens it.
struct Part<'t> {
    list: &'t str,
    lines: Range<usize>,
    /// With the lists in it, as `[[tests.expect]]` is in `[[tests]]`.
    whole: Range<usize>,
    /// The lines of that which it is in.
    of: Option<Range<usize>>,
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
    let lines = |start: usize, end: usize| start..text[..end].trim_end().len().max(start);
    let end_of = |place: usize, ends: &dyn Fn(&str) -> bool| {
        let behind = starts[place + 1..].iter().find(|(_, list)| ends(list));
        behind.map_or(text.len(), |(start, _)| *start)
    };
    let is_in = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
    let part = |place: usize| {
        let (start, list) = starts[place];
        let outer = (0..place).rev().find(|&at| is_in(list, starts[at].1));
        Part {
            list,
            lines: lines(start, end_of(place, &|_| true)),
            whole: lines(start, end_of(place, &|other| !is_in(other, list))),
            of: outer.map(|at| lines(starts[at].0, end_of(at, &|_| true))),
        }
    };
    (0..starts.len()).map(part).collect()
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
    fn faults_of_tests_name_line_and_remedy() {
        let text = |from: &str, to: &str| {
            let text = "name = \"p\"\n[[stages]]\nname = \"a\"\napply.window = { every = \"1h\" }\n\n\
                [[tests]]\nname = \"one\"\ninputs = [\n  { series = 'up{a=\"b\"}', values = \"1 2x3\", late = [1] },\n]\n\
                [[tests.expect]]\ntable = \"rollups\"\nrows = [\n  { series = 'up{a=\"b\"}', time = \"+1h\", every = \"1h\", count = 3 },\n]\n\
                [[tests]]\nname = \"two\"\ninputs = [{ series = \"m\", values = \"1\" }]\n\
                [[tests.expect]]\ntable = \"rollups\"\nwhere = { count = 1 }\ncount = 1\n";
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        };
        assert!(read_pipeline("p.toml", &text("up", "up")).is_ok());
        let cases = [
            ("1 2x3", "1 2y3", "p.toml:9: test `one`: `2y3` is no value"),
            ("[1]", "[5]", "p.toml:9: test `one`: late = 5 cannot be: there are 5 values"),
            ("'up{a=\"b\"}', values", "'up{a=b}', values", "p.toml:9: test `one`: `up{a=b}` is no series"),
            (
                "\"rollups\"",
                "\"rolups\"",
                "p.toml:12: test `one`: pipelines make no table `rolups`: write one of rollups",
            ),
            ("time = \"+1h\"", "time = \"+1 our\"", "p.toml:14: test `one`: `+1 our` is no time"),
            (
                "count = 3",
                "cont = 3",
                "p.toml:14: test `one`: rollups has no column `cont`: it has series, every, time",
            ),
            ("count = 3", "count = \"3\"", "p.toml:14: test `one`: \"3\" is no number"),
            ("where = { count", "where = { gap", "p.toml:21: test `two`: rollups has no column `gap`"),
            ("where = { count", "were = { count", "p.toml:21: unknown field `were`"),
            ("name = \"two\"", "name = \"one\"", "p.toml:17: two tests are named `one`"),
            ("values = \"1\"", "value = \"1\"", "p.toml:18: unknown field `value`"),
            ("where = { count = 1 }\ncount = 1\n", "", "p.toml:20: test `two`: no rows are expected"),
        ];
        for (from, to, told) in cases {
            let faults = read_pipeline("p.toml", &text(from, to)).unwrap_err();
            assert_eq!(faults.0.len(), 1, "{faults}");
            assert!(faults.to_string().starts_with(told), "{faults}");
        }
        // What does not read takes nothing else with it.
        let two = text("values = \"1 2x3\"", "value = \"1\"").replace("count = 1 }", "cont = 1 }");
        let faults = read_pipeline("p.toml", &two).unwrap_err().to_string();
        let told: Vec<&str> = faults.lines().collect();
        assert!(
            told.len() == 2 && told[0].starts_with("p.toml:9: unknown") && told[1].starts_with("p.toml:21"),
            "{told:?}"
        );
    }

    #[test]
    fn faults_name_stage_line_and_remedy() {
        let cases = [
            ("name = \"p\"\nstages = []\n", "p.toml:2: there is no stage"),
            (
                "name = \"p\"\nidle = \"0s\"\n[[stages]]\nname = \"a\"\napply.window = { every = \"1h\" }\n",
                "p.toml:2: idle = \"0s\" is shorter than lateness = \"10s\"",
            ),
            (
                "name = \"p\"\nidle = \"5m\"\nlateness = \"1h\"\n[[stages]]\nname = \"a\"\napply.window = { every = \"1h\" }\n",
                "write idle = \"1h\" or longer",
            ),
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
